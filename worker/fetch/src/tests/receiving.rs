//! Complete bodies are received in every encoding, and incomplete ones always fail.

use async_compression::Level;
use async_compression::brotli::EncoderParams;
use async_compression::tokio::write::{
    BrotliEncoder, DeflateEncoder, GzipEncoder, ZlibEncoder, ZstdEncoder,
};
use async_compression::zstd::CParameter;
use futures_util::FutureExt;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::server::{Script, Server, head, response};
use super::*;

/// Compresses for a Content-Encoding; `raw` is deflate without the zlib format.
pub(super) async fn encode(encoding: &str, data: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    let mut encoder: Box<dyn AsyncWrite + Send + Unpin + '_> = match encoding {
        "gzip" => Box::new(GzipEncoder::new(&mut packed)),
        "br" => Box::new(BrotliEncoder::with_quality(&mut packed, Level::Fastest)),
        "zstd" => Box::new(ZstdEncoder::new(&mut packed)),
        "deflate" => Box::new(ZlibEncoder::new(&mut packed)),
        "raw" => Box::new(DeflateEncoder::new(&mut packed)),
        other => panic!("no encoder for {other}"),
    };
    encoder.write_all(data).await.unwrap();
    encoder.shutdown().await.unwrap();
    drop(encoder);
    packed
}

/// Returns some hundred kilobytes of text that compresses like prose.
fn prose() -> Vec<u8> {
    let mut seed = 1_u32;
    let words = (0..60_000).map(|_| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        format!("word{} ", (seed >> 20) % 1000)
    });
    words.collect::<String>().into_bytes()
}

fn chunked(data: &[u8], size: usize) -> Vec<u8> {
    let mut body = Vec::new();
    for chunk in data.chunks(size) {
        body.extend_from_slice(format!("{:X};ignored=yes\r\n", chunk.len()).as_bytes());
        body.extend_from_slice(chunk);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"0\r\ntrailer: too\r\n\r\n");
    body
}

#[tokio::test]
async fn every_encoding_is_decoded_in_every_framing() {
    let prose = prose();
    for encoding in ["identity", "gzip", "br", "zstd", "deflate", "raw"] {
        let packed = match encoding {
            "identity" => prose.clone(),
            other => encode(other, &prose).await,
        };
        let name = if encoding == "raw" { "deflate" } else { encoding };
        let field = format!("content-encoding: {name}");
        let streamed = head("200 OK", &[&field, "transfer-encoding: chunked"]);
        for (reply, total) in [
            (response("200 OK", &[&field], &packed), u64::try_from(packed.len()).ok()),
            ([streamed.clone(), chunked(&packed, 7000)].concat(), None),
            ([streamed, chunked(&packed[..], 1 << 20)].concat(), None),
            ([head("200 OK", &[&field]), packed.clone()].concat(), None),
        ] {
            let server = Server::responding(reply).await;
            let mut page = get(&fetcher(short_limits()), server.url("/")).await.unwrap();
            assert_eq!(page.progress().total_bytes, total);
            assert!(read(&mut page).await.unwrap() == prose, "{encoding}");
            let progress = page.progress();
            assert_eq!(usize::try_from(progress.received_bytes), Ok(packed.len()), "{encoding}");
            assert_eq!(usize::try_from(progress.decoded_bytes), Ok(prose.len()), "{encoding}");
        }
    }
}

#[tokio::test]
async fn bodies_in_several_members_are_one_body() {
    for encoding in ["gzip", "zstd"] {
        let both = [encode(encoding, b"hello ").await, encode(encoding, b"world").await].concat();
        let field = format!("content-encoding: {encoding}");
        let server = Server::responding(response("200 OK", &[&field], &both)).await;
        let mut page = get(&fetcher(short_limits()), server.url("/")).await.unwrap();
        assert_eq!(read(&mut page).await.unwrap(), b"hello world", "{encoding}");
    }
}

#[tokio::test]
async fn truncated_bodies_are_errors() {
    let packed = encode("gzip", &prose()).await;
    let half = &packed[..packed.len() / 2];
    let gzip = "content-encoding: gzip";
    let length = format!("content-length: {}", packed.len());
    for script in [
        Script::Send(Vec::new()),
        Script::Send(b"HTTP/1.1 200 OK\r\ncontent-".to_vec()),
        Script::Send([head("200 OK", &["content-length: 10"]), b"hello".to_vec()].concat()),
        Script::Send(
            [head("200 OK", &["transfer-encoding: chunked"]), b"5\r\nhello\r\n".to_vec()].concat(),
        ),
        Script::Send(
            [head("200 OK", &["transfer-encoding: chunked"]), b"5\r\nhe".to_vec()].concat(),
        ),
        Script::Send([head("200 OK", &[gzip]), half.to_vec()].concat()),
        Script::Send([head("200 OK", &[gzip, &length]), half.to_vec()].concat()),
        Script::SendAndReset([head("200 OK", &[]), vec![b'a'; 10]].concat()),
    ] {
        let server = Server::start([script]).await;
        let error = failure(&fetcher(short_limits()), server.url("/")).await;
        assert!(matches!(error, Error::Truncated { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn corrupt_bodies_are_errors() {
    let packed = encode("gzip", &prose()).await;
    let mut damaged = packed.clone();
    let last = damaged.len() - 6;
    damaged[last] ^= 0xff;
    for (encoding, body) in [
        ("gzip", b"this is not gzip at all".to_vec()),
        ("gzip", packed[..packed.len() / 2].to_vec()),
        ("gzip", damaged),
        ("gzip", [packed, b"garbage".to_vec()].concat()),
        ("br", b"\xff\xff\xff\xff\xff\xff".to_vec()),
        ("zstd", b"this is not zstd at all".to_vec()),
        ("deflate", b"\x78\x9cthis is not zlib".to_vec()),
        ("deflate", b"\xffthis is not deflate".to_vec()),
    ] {
        let field = format!("content-encoding: {encoding}");
        let server = Server::responding(response("200 OK", &[&field], &body)).await;
        let error = failure(&fetcher(short_limits()), server.url("/")).await;
        assert!(
            matches!(
                error,
                Error::Decode(DecodeFault::Corrupt { encoding: name, .. }) if name == encoding
            ),
            "{encoding}: {error:?}"
        );
    }
}

#[tokio::test]
async fn trailing_data_is_an_error() {
    for encoding in ["br", "deflate", "raw"] {
        let name = if encoding == "raw" { "deflate" } else { encoding };
        let body = [encode(encoding, b"hello").await, b"more".to_vec()].concat();
        let field = format!("content-encoding: {name}");
        let server = Server::responding(response("200 OK", &[&field], &body)).await;
        let error = failure(&fetcher(short_limits()), server.url("/")).await;
        assert!(
            matches!(error, Error::Decode(DecodeFault::Trailing { .. })),
            "{encoding}: {error:?}"
        );
    }
}

#[tokio::test]
async fn brotli_with_a_large_window_is_refused_by_its_first_byte() {
    // The decoder itself refuses the second one, because its highest bit is set.
    for first in [0x11, 0x91] {
        let body = [first, 28, 0, 0, 0, 0, 0, 0];
        let server = Server::responding(response("200 OK", &["content-encoding: br"], &body)).await;
        let error = failure(&fetcher(short_limits()), server.url("/")).await;
        assert!(matches!(error, Error::Decode(DecodeFault::LargeWindow { .. })), "{error:?}");
    }
}

#[tokio::test]
async fn every_standard_brotli_window_is_decoded() {
    let prose = prose();
    for window_log in 10..=24 {
        let params = EncoderParams::default().quality(Level::Fastest).window_size(window_log);
        let mut packed = Vec::new();
        let mut encoder = BrotliEncoder::with_params(&mut packed, params);
        encoder.write_all(&prose).await.unwrap();
        encoder.shutdown().await.unwrap();
        let server =
            Server::responding(response("200 OK", &["content-encoding: br"], &packed)).await;
        let mut page = get(&fetcher(short_limits()), server.url("/")).await.unwrap();
        assert_eq!(read(&mut page).await.unwrap(), prose, "{window_log}");
    }
}

#[tokio::test]
async fn zstd_windows_larger_than_the_standard_allows_are_refused() {
    let mut packed = Vec::new();
    let window = [CParameter::window_log(24)];
    let mut encoder = ZstdEncoder::with_quality_and_params(&mut packed, Level::Default, &window);
    encoder.write_all(&prose()).await.unwrap();
    encoder.shutdown().await.unwrap();
    let server = Server::responding(response("200 OK", &["content-encoding: zstd"], &packed)).await;
    let error = failure(&fetcher(short_limits()), server.url("/")).await;
    assert!(matches!(error, Error::Decode(DecodeFault::Corrupt { .. })), "{error:?}");
}

#[tokio::test]
async fn unsupported_encodings_are_refused() {
    for field in ["content-encoding: compress", "content-encoding: gzip, br"] {
        let server = Server::responding(response("200 OK", &[field], b"hello")).await;
        let error = failure(&fetcher(short_limits()), server.url("/")).await;
        assert!(matches!(error, Error::Decode(_)), "{error:?}");
    }
}

#[tokio::test]
async fn bytes_beyond_the_announced_length_are_not_part_of_the_page() {
    let reply = [head("200 OK", &["content-length: 5"]), b"hello and more".to_vec()].concat();
    let server = Server::responding(reply).await;
    let mut page = get(&fetcher(short_limits()), server.url("/")).await.unwrap();
    assert_eq!(read(&mut page).await.unwrap(), b"hello");
}

#[tokio::test]
async fn dropping_the_future_of_a_chunk_loses_nothing() {
    let prose = prose();
    let packed = encode("gzip", &prose).await;
    let server = Server::responding(response("200 OK", &["content-encoding: gzip"], &packed)).await;
    let mut page = get(&fetcher(short_limits()), server.url("/")).await.unwrap();
    let mut body = Vec::new();
    loop {
        // Poll the future once and drop it, then read.
        let ready_chunk = page.chunk().now_or_never();
        let chunk = match ready_chunk {
            Some(chunk) => chunk.unwrap(),
            None => page.chunk().await.unwrap(),
        };
        let Some(chunk) = chunk else { break };
        body.extend_from_slice(&chunk);
    }
    assert!(body == prose);
}

#[tokio::test]
async fn dropping_a_page_closes_its_connection() {
    let hold = Script::SendAndHold(head("200 OK", &["content-length: 5"]));
    let mut server = Server::start([hold]).await;
    let page = get(&fetcher(short_limits()), server.url("/")).await.unwrap();
    drop(page);
    server.wait_for_closed(1).await;
}

#[test]
fn fetches_are_send() {
    fn is_send<T: Send>(_: &T) {}
    let fetcher = fetcher(short_limits());
    let url = Url::parse("http://served.test/").unwrap();
    is_send(&fetcher.get(&url, &|_| ()));
    fn pages_are_send<T: Send>() {}
    pages_are_send::<Page>();
    pages_are_send::<Error>();
}
