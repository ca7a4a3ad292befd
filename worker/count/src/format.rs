//! Detects the format of a document from its content type and its first bytes.

use std::fmt;

use encoding_rs::{Encoding, UTF_16BE, UTF_16LE};
use wordmill_common::source::Extractor;

use super::{
    Error,
    charset::utf_16::{detect_utf_16, find_declared_utf_16},
};

/// Length of the start of a document in which HTML tags are searched, in bytes.
const SNIFF_BYTES_MAX: usize = 1024;

const XHTML_TYPE: &str = "application/xhtml+xml";

/// Number of control characters that are allowed in a text of any length. In addition, 1 byte in 50
/// is allowed. Compressed or compiled data has far more.
const STRAY_CONTROLS_MAX: usize = 8;

/// Format of a document, which determines how its text is extracted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// HTML page, parsed as in browsers.
    Html,
    /// Page served as XML. CDATA sections are text, and `<script/>` is a complete element.
    Xhtml,
    /// Plain text, or another text format such as Markdown, which is counted unchanged.
    Text,
}

impl Format {
    /// Returns the name that is used in results and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Html => "html",
            Self::Xhtml => "xhtml",
            Self::Text => "text",
        }
    }

    /// Returns the name and version of the extractor for this format, as stored in results.
    #[must_use]
    pub fn extractor(self) -> Extractor {
        let version = match self {
            Self::Html | Self::Xhtml => 2,
            Self::Text => 1,
        };
        Extractor { name: self.as_str().to_owned(), version }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Detects the format of a document. Also returns the effective content type.
///
/// The content type selects the format. If it is missing or generic, for example
/// `application/octet-stream`, the bytes select it. Binary data is refused under any content type.
/// Any other XML is accepted here, because only its root shows whether it is XHTML
/// ([`type_if_not_xhtml`]).
pub(super) fn detect_format(
    head: &[u8],
    content_type: Option<&str>,
) -> Result<(Format, String), Error> {
    if let Some(kind) = detect_binary_kind(head) {
        return Err(unsupported_format(kind));
    }
    let media_type = content_type.map(essence).unwrap_or_default();
    let format = match media_type.as_str() {
        ""
        | "*/*"
        | "application/octet-stream"
        | "binary/octet-stream"
        | "application/x-unknown"
        | "application/unknown"
        | "unknown/unknown" => {
            let (format, name) = sniff(head)?;
            return require_text(head, content_type, format, name.to_owned());
        }
        "text/html" => Format::Html,
        XHTML_TYPE | "text/xml" | "application/xml" => Format::Xhtml,
        "text/rtf" => return Err(unsupported_format(&media_type)),
        text if text.starts_with("text/") => Format::Text,
        other => return Err(unsupported_format(other)),
    };
    require_text(head, content_type, format, media_type)
}

/// Returns the content type to report in the error if the root of the document is not an element of
/// XHTML. Returns `None` if the server declares XHTML: then the root is not checked.
pub(super) fn type_if_not_xhtml(
    effective_type: &str,
    content_type: Option<&str>,
) -> Option<String> {
    let declared = content_type.map(essence).unwrap_or_default();
    match effective_type {
        _ if declared == XHTML_TYPE => None,
        // The bytes selected the format.
        XHTML_TYPE => Some("text/xml".to_owned()),
        other => Some(other.to_owned()),
    }
}

/// Returns the value of a parameter of a Content-Type, without quotes.
pub(super) fn parameter(content_type: &str, name: &str) -> Option<String> {
    content_type.split(';').skip(1).find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        let value = value.trim().trim_matches(['"', '\'']);
        key.trim().eq_ignore_ascii_case(name).then(|| value.to_owned())
    })
}

/// Returns the media type without parameters, in lower case. Empty if the value contains none.
fn essence(content_type: &str) -> String {
    let media_type = content_type.split([';', ',']).next().unwrap_or_default();
    let media_type = media_type.trim().to_ascii_lowercase();
    if media_type.contains('/') { media_type } else { String::new() }
}

fn unsupported_format(kind: &str) -> Error {
    Error::UnsupportedFormat { kind: kind.to_owned() }
}

/// Refuses a document with too many control characters. UTF-16 contains zero bytes, so a document
/// in UTF-16 is exempt if it can be decoded.
fn require_text(
    head: &[u8],
    content_type: Option<&str>,
    format: Format,
    name: String,
) -> Result<(Format, String), Error> {
    let controls = count_controls(head);
    if controls <= STRAY_CONTROLS_MAX.saturating_add(head.len() / 50) {
        return Ok((format, name));
    }
    let label = content_type.and_then(|value| parameter(value, "charset"));
    let encoding = label.and_then(|label| Encoding::for_label(label.trim().as_bytes()));
    let is_readable = match encoding {
        _ if Encoding::for_bom(head).is_some() => true,
        Some(encoding) => encoding == UTF_16LE || encoding == UTF_16BE,
        None if find_declared_utf_16(head).is_some() => format != Format::Text,
        None => format == Format::Text && detect_utf_16(head).is_some(),
    };
    if is_readable { Ok((format, name)) } else { Err(unsupported_format(binary_kind(head))) }
}

/// Describes data with many control characters.
fn binary_kind(head: &[u8]) -> &'static str {
    match detect_utf_16(head) {
        Some(_) => "undeclared UTF-16 without a byte order mark",
        None => "binary data",
    }
}

/// Counts the bytes that do not occur in text of any 8-bit charset.
fn count_controls(head: &[u8]) -> usize {
    // Sums of one byte can be vectorized (SIMD). 255 bytes cannot overflow them.
    let parts = head.chunks(usize::from(u8::MAX));
    let count = |part: &[u8]| {
        part.iter().fold(0_u8, |count, byte| count.wrapping_add(u8::from(is_binary(*byte))))
    };
    parts.map(|part| usize::from(count(part))).sum()
}

/// Returns whether `byte` does not occur in text of any 8-bit charset.
const fn is_binary(byte: u8) -> bool {
    // No branches, for vectorization. Of the bytes below space, text contains only white space and
    // escape.
    (byte < b' ') & !((byte >= b'\t') & (byte <= b'\r')) & (byte != 0x1b)
}

/// Detects the format and the content type from the bytes alone.
fn sniff(head: &[u8]) -> Result<(Format, &'static str), Error> {
    const HTML_STARTS: &[&str] = &[
        "<!doctype html",
        "<html",
        "<head",
        "<body",
        "<title",
        "<script",
        "<style",
        "<meta",
        "<link",
        "<iframe",
        "<table",
        "<div",
        "<font",
        "<h1",
        "<p>",
        "<p ",
        "<a ",
        "<b>",
        "<br",
        "<!--",
    ];
    let start = lowercase_start(head);
    if start.starts_with("<?xml") {
        return Ok((Format::Xhtml, XHTML_TYPE));
    }
    if HTML_STARTS.iter().any(|tag| start.starts_with(tag)) {
        return Ok((Format::Html, "text/html"));
    }
    // Without a content type, a single control character is enough to refuse the document.
    let is_utf_16 = Encoding::for_bom(head).is_some() || detect_utf_16(head).is_some();
    if !is_utf_16 && head.iter().any(|&byte| is_binary(byte)) {
        return Err(unsupported_format("binary data"));
    }
    Ok((Format::Text, "text/plain"))
}

/// Returns the first [`SNIFF_BYTES_MAX`] bytes as text in lower case, without leading white space.
fn lowercase_start(head: &[u8]) -> String {
    let start = head.get(..SNIFF_BYTES_MAX).unwrap_or(head);
    let bom = Encoding::for_bom(start).map(|(encoding, _)| encoding);
    let text = match bom.or_else(|| detect_utf_16(start)) {
        Some(encoding) => encoding.decode(start).0,
        None => String::from_utf8_lossy(start),
    };
    text.trim_start().to_ascii_lowercase()
}

/// Recognizes well-known unsupported formats by their first bytes.
fn detect_binary_kind(head: &[u8]) -> Option<&'static str> {
    const KINDS: &[(&[u8], &str)] = &[
        (b"%PDF-", "application/pdf"),
        (b"{\\rtf", "text/rtf"),
        (b"PK\x03\x04", "application/zip"),
        (b"PK\x05\x06", "application/zip"),
        (b"\x1f\x8b", "application/gzip"),
        (b"BZh", "application/x-bzip2"),
        (b"\xfd7zXZ\0", "application/x-xz"),
        (b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
        (b"Rar!\x1a\x07", "application/vnd.rar"),
        (b"\x28\xb5\x2f\xfd", "application/zstd"),
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"\xff\xd8\xff", "image/jpeg"),
        (b"GIF87a", "image/gif"),
        (b"GIF89a", "image/gif"),
        (b"II*\0", "image/tiff"),
        (b"MM\0*", "image/tiff"),
        (b"ID3", "audio/mpeg"),
        (b"OggS\0", "application/ogg"),
        (b"fLaC\0", "audio/flac"),
        (b"\x1a\x45\xdf\xa3", "video/webm"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "application/x-ole-storage"),
        (b"\x7fELF", "application/x-executable"),
        (b"\0asm", "application/wasm"),
        (b"SQLite format 3\0", "application/vnd.sqlite3"),
        (b"wOFF", "font/woff"),
        (b"wOF2", "font/woff2"),
        (b"\xff\xfe\0\0", "text in UTF-32"),
        (b"\0\0\xfe\xff", "text in UTF-32"),
    ];
    let (magic, kind) = KINDS.iter().find(|(magic, _)| head.starts_with(magic))?;
    // A printable signature can also begin a text: `BZh` begins `BZhang`. A control character is
    // therefore required as further evidence, except for PDF and RTF.
    let is_printable = magic.iter().all(|byte| (0x20..0x7f).contains(byte));
    let is_certain = !is_printable || head.iter().any(|&byte| is_binary(byte));
    let is_document = matches!(*kind, "application/pdf" | "text/rtf");
    (is_certain || is_document).then_some(*kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn describe_format(head: &[u8], content_type: Option<&str>) -> String {
        match detect_format(head, content_type) {
            Ok((format, name)) => format!("{format} {name}"),
            Err(Error::UnsupportedFormat { kind }) => format!("refused {kind}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_content_type_selects_the_format() {
        for (content_type, name) in [
            ("text/html", "html text/html"),
            ("Text/HTML; charset=utf-8", "html text/html"),
            ("application/xhtml+xml", "xhtml application/xhtml+xml"),
            ("text/plain", "text text/plain"),
            ("text/markdown; variant=GFM", "text text/markdown"),
            ("text/csv", "text text/csv"),
            ("application/json", "refused application/json"),
            ("image/png", "refused image/png"),
            ("text/rtf", "refused text/rtf"),
            ("application/xml", "xhtml application/xml"),
            ("", "html text/html"),
            ("nonsense", "html text/html"),
            ("application/octet-stream", "html text/html"),
        ] {
            let page = b"<p>not the html word</p>";
            assert_eq!(describe_format(page, Some(content_type)), name, "{content_type}");
        }
    }

    #[test]
    fn the_bytes_select_the_format_without_a_content_type() {
        for (head, name) in [
            (b"  \n<!DOCTYPE HTML><p>".as_slice(), "html text/html"),
            (b"\xef\xbb\xbf<html lang=en>", "html text/html"),
            (b"\xff\xfe<\0h\0t\0m\0l\0>\0", "html text/html"),
            (b"<?xml version='1.0'?><html>", "xhtml application/xhtml+xml"),
            (b"<?xml version='1.0'?><feed>", "xhtml application/xhtml+xml"),
            (b"A mill by the river", "text text/plain"),
            (b"\xff\xfeA\0 \0", "text text/plain"),
            (b"", "text text/plain"),
            (b"a\0b and quite some text after it, more than fifty", "refused binary data"),
        ] {
            assert_eq!(describe_format(head, None), name, "{}", head.escape_ascii());
        }
    }

    #[test]
    fn binary_data_is_refused_with_any_content_type() {
        for (head, name) in [
            (b"%PDF-1.7\n%".as_slice(), "refused application/pdf"),
            (b"PK\x03\x04\x14\0", "refused application/zip"),
            (b"\x89PNG\r\n\x1a\n\0\0\0", "refused image/png"),
            (b"GIF89a\x01\0\x01\0", "refused image/gif"),
            (b"\xff\xfe\0\0A\0\0\0", "refused text in UTF-32"),
            (b"\x01\x02\x03\x04 some \x05\x06\x07\x08\x0e\x0f", "refused binary data"),
        ] {
            for label in [None, Some("text/html"), Some("text/plain")] {
                assert_eq!(describe_format(head, label), name, "{}", head.escape_ascii());
            }
        }
    }

    #[test]
    fn utf_16_is_text_if_its_charset_can_be_decided() {
        let text = b"A\0 \0m\0i\0l\0l\0 \0i\0s\0 \0\n\0";
        let page = b"<\0h\0t\0m\0l\0>\0A\0 \0m\0i\0l\0l\0";
        let undeclared = "refused undeclared UTF-16 without a byte order mark";
        for (head, content_type, name) in [
            (text.as_slice(), "text/plain; charset=UTF-16LE", "text text/plain"),
            (text, "text/plain", "text text/plain"),
            (text, "", "text text/plain"),
            (text, "text/plain; charset=nonsense", "text text/plain"),
            (text, "text/plain; charset=utf-8", undeclared),
            (page, "text/html; charset=utf-16", "html text/html"),
            (page, "text/html", undeclared),
            (page, "", undeclared),
        ] {
            assert_eq!(describe_format(head, Some(content_type)), name, "{content_type}");
        }
    }

    #[test]
    fn words_that_look_like_signatures_are_text() {
        for head in ["BZhang wrote this", "GIF89a is a format", "ID3 is a tag"] {
            assert_eq!(describe_format(head.as_bytes(), None), "text text/plain");
        }
        assert_eq!(describe_format(b"stray \0\x0b", Some("text/plain")), "text text/plain");
    }

    #[test]
    fn parameters_are_found() {
        let value = "text/html; a=b; Charset = \"utf-8\"";
        assert_eq!(parameter(value, "charset").as_deref(), Some("utf-8"));
        assert_eq!(parameter("text/html", "charset"), None);
        assert_eq!(parameter("charset=utf-8", "charset"), None);
    }
}
