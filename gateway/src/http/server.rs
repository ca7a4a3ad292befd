//! Configures the shared HTTP server: sets its limits, and replaces hyper's bare error responses
//! with problems.

use std::fmt::Write;
use std::time::Duration;

use tracing::debug;
use wordmill_common::trace_context::TraceId;
use wordmill_service::server::{self, CONNECTION_BYTES_MAX, Limits, Settings};

use crate::http::problem::{Code, Problem};
use crate::http::security_headers::{NOSNIFF_HEADER, SAME_ORIGIN_HEADER};
use crate::http::tls::Tls;

/// Memory limit for all connections without an authenticated request, in bytes: an eighth of the
/// 512 MiB of the shipped containers. Bodies are not read before a request is authenticated.
const UNAUTHENTICATED_BYTES_MAX: usize = 64 << 20;

/// Maximum size of a response that hyper generates itself, in bytes.
const BARE_BYTES_MAX: usize = 512;
/// The `Content-Length` field of a response without a body.
const EMPTY_BODY_FIELD: &str = "content-length: 0\r\n";
/// Present in every handler's response. Its absence identifies a response that hyper wrote.
const TRACERESPONSE_FIELD: &str = "traceresponse:";

/// Returns the settings of the HTTP server.
pub(crate) fn settings(
    connections_max: u32,
    client_timeout: Duration,
    tls: Option<Tls>,
) -> Settings {
    let limits = Limits {
        connections_max: server::raise_file_limit(connections_max),
        unauthenticated_max: UNAUTHENTICATED_BYTES_MAX / CONNECTION_BYTES_MAX,
        client_timeout,
    };
    Settings { limits, certificate: tls.map(|tls| tls.0), complete_response }
}

/// Returns the problem that replaces a response of hyper (`400` or `431` without a body); `None`
/// for all other bytes.
fn complete_response(written: &[u8]) -> Option<String> {
    if written.len() > BARE_BYTES_MAX || !written.starts_with(b"HTTP/1.") {
        return None;
    }
    let head = std::str::from_utf8(written).ok()?;
    if !head.ends_with("\r\n\r\n")
        || !head.contains(EMPTY_BODY_FIELD)
        || head.contains(TRACERESPONSE_FIELD)
    {
        return None;
    }
    let (code, detail) = match head.split(' ').nth(1)? {
        "400" => (Code::MalformedRequest, "The request line or a header field is not HTTP/1.1."),
        "431" => (
            Code::HeadTooLarge,
            "The head of the request is larger than 16 KiB, or has more than 100 fields.",
        ),
        _ => return None,
    };
    let trace_id = TraceId::random();
    debug!(%trace_id, code = code.name(), "request head refused");
    let body = Problem::new(code, detail).body(trace_id).to_string();
    let mut fields =
        format!("content-type: application/problem+json\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in [NOSNIFF_HEADER, SAME_ORIGIN_HEADER] {
        // Writing to a string cannot fail.
        let _ = write!(fields, "{name}: {}\r\n", value.to_str().unwrap_or_default());
    }
    Some(head.replacen(EMPTY_BODY_FIELD, &fields, 1) + &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bare_responses_are_replaced() {
        let bare = "HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\n\
                    content-length: 0\r\ndate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n";
        let response = complete_response(bare.as_bytes()).unwrap();
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{head}");
        assert!(head.contains("connection: close\r\n"), "{head}");
        assert!(body.contains("\"code\":\"head_too_large\""), "{body}");
        for other in [
            "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned(),
            bare.replace("date:", "traceresponse:"),
            bare.replace("content-length: 0", "content-length: 9"),
            format!("{bare}x"),
            "{\"text\":\"HTTP/1.1 431 \"}".to_owned(),
        ] {
            assert_eq!(complete_response(other.as_bytes()), None, "{other}");
        }
    }
}
