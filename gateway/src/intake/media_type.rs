//! Metadata of an uploaded body: media type, content encoding and file name.

use axum::http::HeaderMap;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};

use crate::http::problem::{Code, Problem};

/// Maximum length of a stored file name, in bytes.
const FILE_NAME_BYTES_MAX: usize = 255;
/// Maximum length of a stored content type, in bytes.
pub(crate) const CONTENT_TYPE_BYTES_MAX: usize = 255;
/// Content type that clients send for a file of unknown type.
pub(crate) const UNKNOWN_TYPE: &str = "application/octet-stream";

/// Format of a submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SubmissionFormat {
    /// A JSON object that contains the URL or the text.
    Json,
    /// The document itself.
    Document,
    /// A `multipart/form-data` form with a file.
    Form,
}

/// Returns the format of a submission, by its content type.
///
/// # Errors
/// `unsupported_media_type` if the content type is missing, or if its documents cannot be counted.
pub(crate) fn submission_format(headers: &HeaderMap) -> Result<SubmissionFormat, Problem> {
    let Some(named) = headers.get(CONTENT_TYPE) else {
        let detail = "The Content-Type is missing. Send a job as application/json, or a document \
                      with its own content type, for example text/plain.";
        return Err(Problem::new(Code::UnsupportedMediaType, detail));
    };
    if crate::intake::json_body::is_json(headers) {
        return Ok(SubmissionFormat::Json);
    }
    let named = named.to_str().unwrap_or_default();
    match essence(named).as_str() {
        "multipart/form-data" => Ok(SubmissionFormat::Form),
        _ => check_countable(named).map(|()| SubmissionFormat::Document),
    }
}

fn essence(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Refuses content types whose documents cannot be counted. Texts and files of unknown type are
/// accepted here and inspected by the worker.
pub(crate) fn check_countable(content_type: &str) -> Result<(), Problem> {
    let essence = essence(content_type);
    let (top_level, _) = essence.split_once('/').unwrap_or_default();
    match essence.as_str() {
        "application/xhtml+xml" | "application/xml" | UNKNOWN_TYPE | "binary/octet-stream" => {
            return Ok(());
        }
        "text/rtf" => {}
        "application/x-www-form-urlencoded" => {
            let detail = "The content type application/x-www-form-urlencoded, which curl -d sends, \
                          is not supported. Send a job as application/json, or a document with its \
                          own content type, for example text/plain.";
            return Err(Problem::new(Code::UnsupportedMediaType, detail));
        }
        _ if top_level == "text" => return Ok(()),
        _ => {}
    }
    let named: String = essence.chars().filter(|c| !c.is_control()).take(80).collect();
    let detail = format!(
        "The content type {named:?} is not supported. Send text/plain, text/html, \
         application/xhtml+xml or another text type, or a job as application/json."
    );
    Err(Problem::new(Code::UnsupportedMediaType, detail))
}

/// Returns the content encoding; `None` if the document is not compressed.
pub(crate) fn parse_content_encoding(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let values = headers.get_all(CONTENT_ENCODING).iter();
    let names: Vec<String> = values
        // A value that is not ASCII must not be mistaken for a missing one.
        .flat_map(|value| value.to_str().unwrap_or("?").split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .filter(|name| !name.is_empty() && name != "identity")
        .collect();
    match names.as_slice() {
        [] => Ok(None),
        [one] if matches!(one.as_str(), "gzip" | "x-gzip" | "br" | "zstd" | "deflate") => {
            Ok(Some(one.clone()))
        }
        _ => {
            let detail = "A document may be compressed once, with gzip, br, zstd or deflate.";
            Err(Problem::new(Code::UnsupportedMediaType, detail))
        }
    }
}

/// Returns the content type that a form gives for its file. If the form gives none or the unknown
/// type, guesses the type from the extension of the file name.
pub(crate) fn guess_content_type(
    content_type: Option<&str>,
    file_name: Option<&str>,
) -> Option<String> {
    let content_type = content_type.filter(|named| essence(named) != UNKNOWN_TYPE);
    let suggested = || {
        let (_, extension) = file_name?.rsplit_once('.')?;
        Some(match extension.to_ascii_lowercase().as_str() {
            "html" | "htm" => "text/html",
            "xhtml" | "xht" => "application/xhtml+xml",
            "md" | "markdown" => "text/markdown",
            "txt" | "text" => "text/plain",
            _ => return None,
        })
    };
    content_type.or_else(suggested).map(str::to_owned)
}

/// Removes control characters from a file name, which could confuse a terminal, and shortens it to
/// [`FILE_NAME_BYTES_MAX`].
pub(crate) fn sanitize_file_name(name: &str) -> String {
    let mut plain: String = name.chars().filter(|c| !c.is_control()).collect();
    // The last character boundary within the limit.
    let end = (0..=FILE_NAME_BYTES_MAX).rev().find(|end| plain.is_char_boundary(*end));
    plain.truncate(end.unwrap_or_default());
    plain
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn format_of(content_type: &'static str) -> Result<SubmissionFormat, u16> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        submission_format(&headers).map_err(|problem| problem.status().as_u16())
    }

    #[test]
    fn the_content_type_selects_the_format() {
        for json in ["application/json", "application/json; charset=utf-8", "application/x+json"] {
            assert_eq!(format_of(json), Ok(SubmissionFormat::Json), "{json}");
        }
        for document in [
            "text/plain",
            "Text/HTML; charset=koi8-r",
            "text/markdown",
            "text/csv",
            "application/xhtml+xml",
            "application/octet-stream",
        ] {
            assert_eq!(format_of(document), Ok(SubmissionFormat::Document), "{document}");
        }
        assert_eq!(format_of("multipart/form-data; boundary=x"), Ok(SubmissionFormat::Form));
        for refused in [
            "",
            "image/png",
            "application/pdf",
            "application/zip",
            "application/x-www-form-urlencoded",
            "multipart/mixed; boundary=x",
            "text/rtf",
            "nonsense",
        ] {
            assert_eq!(format_of(refused), Err(415), "{refused}");
        }
        assert!(submission_format(&HeaderMap::new()).is_err());
    }

    #[test]
    fn the_file_name_suggests_a_type_if_the_form_has_none() {
        assert_eq!(guess_content_type(None, Some("a.MD")).as_deref(), Some("text/markdown"));
        assert_eq!(
            guess_content_type(Some(UNKNOWN_TYPE), Some("a.html")).as_deref(),
            Some("text/html")
        );
        assert_eq!(
            guess_content_type(Some("text/plain"), Some("a.html")).as_deref(),
            Some("text/plain")
        );
        assert_eq!(guess_content_type(None, Some("a.tar.gz")), None);
        assert_eq!(guess_content_type(None, None), None);
    }

    #[test]
    fn file_names_are_shortened_and_sanitized() {
        assert_eq!(sanitize_file_name("a\u{1b}[31m\n.txt"), "a[31m.txt");
        let long = sanitize_file_name(&"é".repeat(200));
        assert_eq!(long.len(), 254);
    }
}
