//! Detects the charset of a document.

use std::fmt;

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252, X_USER_DEFINED};

use super::{
    Hints,
    format::{Format, parameter},
    tokenizer::{Attribute, Content, Sink, Syntax, Tag, Tokenizer},
};

/// Length of the start of a page in which it may declare its charset, as in browsers, in bytes.
const DECLARATION_BYTES_MAX: usize = 1024;

/// Maximum memory for charset detection, in bytes: the detector, and the first 1024 bytes as text.
/// Decoding triples their size, and a growing string can hold three times that.
pub(super) const DETECTION_BYTES_MAX: usize =
    size_of::<EncodingDetector>() + 3 * 3 * DECLARATION_BYTES_MAX;

/// Source of the charset, in the order of precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CharsetSource {
    /// The byte order mark at the start of the document.
    Bom,
    /// The `charset` parameter of the Content-Type.
    Header,
    /// A `meta` element in the first 1024 bytes of a page.
    Meta,
    /// The XML declaration at the start of a page.
    Xml,
    /// The bytes: the most likely charset of the first 64 KiB.
    Detected,
    /// The default, UTF-8: the first 64 KiB are plain ASCII.
    Default,
}

impl CharsetSource {
    /// Returns the name that is used in results and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bom => "bom",
            Self::Header => "header",
            Self::Meta => "meta",
            Self::Xml => "xml",
            Self::Detected => "detected",
            Self::Default => "default",
        }
    }
}

impl fmt::Display for CharsetSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A detected charset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Charset {
    pub(super) encoding: &'static Encoding,
    pub(super) source: CharsetSource,
    /// Length of the byte order mark, which is not text, in bytes.
    pub(super) bom_bytes: usize,
}

/// Detects the charset of a document that starts with `head`. `is_complete` means that `head` is
/// the whole document.
pub(super) fn detect_charset(
    head: &[u8],
    is_complete: bool,
    format: Format,
    hints: &Hints<'_>,
) -> Charset {
    if let Some((encoding, bom_bytes)) = Encoding::for_bom(head) {
        return Charset { encoding, source: CharsetSource::Bom, bom_bytes };
    }
    let header = hints.content_type.and_then(|value| parameter(value, "charset"));
    let header = header.and_then(|label| encoding_for_label(&label));
    let declared = header
        .map(|encoding| (encoding, CharsetSource::Header))
        .or_else(|| (format != Format::Text).then(|| find_declared_charset(head)).flatten());
    let (encoding, source) =
        declared.unwrap_or_else(|| guess_charset(head, is_complete, hints.host_tld));
    Charset { encoding, source, bom_bytes: 0 }
}

/// Returns the encoding with a label, or `None` if the label is unknown or decodes to nothing.
fn encoding_for_label(label: &str) -> Option<&'static Encoding> {
    Encoding::for_label_no_replacement(label.trim().as_bytes())
}

/// Finds the charset that a page declares near its start.
fn find_declared_charset(head: &[u8]) -> Option<(&'static Encoding, CharsetSource)> {
    let start = head.get(..DECLARATION_BYTES_MAX).unwrap_or(head);
    let declared = find_meta_charset(start)
        .map(|encoding| (encoding, CharsetSource::Meta))
        .or_else(|| find_xml_charset(start).map(|encoding| (encoding, CharsetSource::Xml)));
    // A declaration that is readable as ASCII cannot be in UTF-16, even if it declares UTF-16.
    declared.map(|(encoding, source)| {
        if encoding == UTF_16LE || encoding == UTF_16BE {
            (UTF_8, source)
        } else if encoding == X_USER_DEFINED {
            (WINDOWS_1252, source)
        } else {
            (encoding, source)
        }
    })
}

/// Finds the first `meta` tag that names a known charset.
fn find_meta_charset(start: &[u8]) -> Option<&'static Encoding> {
    let mut finder = MetaFinder::default();
    Tokenizer::new(Syntax::Html).push(&String::from_utf8_lossy(start), &mut finder);
    finder.encoding
}

/// Finds `meta` tags, including those inside scripts and titles, as browsers do.
#[derive(Default)]
struct MetaFinder {
    encoding: Option<&'static Encoding>,
}

impl Sink for MetaFinder {
    fn add_text(&mut self, _: &str) {}

    fn start_tag(&mut self, tag: &Tag) -> Content {
        if tag.name() == "meta" && self.encoding.is_none() {
            let from_content = || {
                let names = tag.value(Attribute::HttpEquiv)?.trim();
                let content = tag.value(Attribute::Content)?;
                names.eq_ignore_ascii_case("content-type").then(|| parse_charset(content)).flatten()
            };
            let label = tag.value(Attribute::Charset).map(str::to_owned).or_else(from_content);
            self.encoding = label.and_then(|label| encoding_for_label(&label));
        }
        Content::Markup
    }

    fn end_tag(&mut self, _: &Tag) {}

    fn has_cdata(&self) -> bool {
        false
    }
}

/// Finds the label in the `content` of a `meta` tag: after `charset`, optional white space, and
/// `=`.
fn parse_charset(content: &str) -> Option<String> {
    let lower = content.to_ascii_lowercase();
    let mut rest = lower.as_str();
    loop {
        let (_, after) = rest.split_once("charset")?;
        rest = after;
        if let Some(value) = rest.trim_start().strip_prefix('=') {
            return Some(unquote(value.trim_start()).to_owned());
        }
    }
}

/// Returns the text inside the quotes. Without quotes, returns the text up to white space or `;`.
fn unquote(value: &str) -> &str {
    for quote in ['"', '\''] {
        if let Some(inner) = value.strip_prefix(quote) {
            return inner.split(quote).next().unwrap_or_default();
        }
    }
    let end = |c: char| c.is_ascii_whitespace() || c == ';';
    value.split(end).next().unwrap_or_default()
}

/// Finds the encoding in `<?xml version="1.0" encoding="..."?>`.
fn find_xml_charset(start: &[u8]) -> Option<&'static Encoding> {
    let text = String::from_utf8_lossy(start);
    let declaration = text.strip_prefix("<?xml")?.split('>').next()?;
    let (_, value) = declaration.split_once("encoding")?;
    let value = value.trim_start().strip_prefix('=')?;
    encoding_for_label(unquote(value.trim_start()))
}

/// Guesses the charset from the bytes, with the top-level domain of the host as a hint.
fn guess_charset(
    head: &[u8],
    is_complete: bool,
    host_tld: Option<&str>,
) -> (&'static Encoding, CharsetSource) {
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Deny);
    if !detector.feed(head, is_complete) {
        return (UTF_8, CharsetSource::Default);
    }
    let tld = host_tld.map(str::to_ascii_lowercase);
    // The detector panics on other labels.
    let is_label = |label: &String| {
        let mut bytes = label.bytes();
        bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let tld = tld.filter(is_label);
    let encoding = detector.guess(tld.as_deref().map(str::as_bytes), Utf8Detection::Allow);
    (encoding, CharsetSource::Detected)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn charset_of(head: &[u8], content_type: &str) -> (&'static str, CharsetSource) {
        let hints = Hints { content_type: Some(content_type), host_tld: None };
        let format =
            if content_type.starts_with("text/html") { Format::Html } else { Format::Text };
        let charset = detect_charset(head, true, format, &hints);
        (charset.encoding.name(), charset.source)
    }

    #[test]
    fn sources_have_a_precedence() {
        let page = b"<?xml version='1.0' encoding='koi8-r'?><meta charset=windows-1251>\xcc\xfb";
        let with_bom = [b"\xef\xbb\xbf", page.as_slice()].concat();
        let header = "text/html; charset=\"ISO-8859-5\"";
        let xml_only = b"<?xml version='1.0' encoding='koi8-r'?><p>\xcc\xfb";
        assert_eq!(charset_of(&with_bom, header), ("UTF-8", CharsetSource::Bom));
        assert_eq!(charset_of(page, header), ("ISO-8859-5", CharsetSource::Header));
        assert_eq!(charset_of(page, "text/html"), ("windows-1251", CharsetSource::Meta));
        assert_eq!(charset_of(xml_only, "text/html"), ("KOI8-R", CharsetSource::Xml));
        let russian = encoding_rs::WINDOWS_1251.encode("Мельница стоит у реки").0;
        assert_eq!(charset_of(&russian, "text/html"), ("windows-1251", CharsetSource::Detected));
        assert_eq!(charset_of(b"mill", "text/html"), ("UTF-8", CharsetSource::Default));
    }

    #[test]
    fn every_form_of_meta_charset_is_recognized() {
        for page in [
            "<meta charset=\"windows-1251\">",
            "<META CharSet = windows-1251 />",
            "<meta http-equiv='Content-Type' content='text/html; charset=windows-1251'>",
            "<meta content='text/html;charset = \"windows-1251\"' http-equiv=content-type>",
            "<!-- <meta charset=utf-8> --><meta charset=nonsense><meta charset=cp1251>",
        ] {
            assert_eq!(
                charset_of(page.as_bytes(), "text/html"),
                ("windows-1251", CharsetSource::Meta),
                "{page}"
            );
        }
    }

    #[test]
    fn tags_without_a_charset_are_skipped() {
        for page in [
            "<meta name=description content='charset=windows-1251'>",
            "<meta charset=hz-gb-2312>",
            "<p title='<meta charset=windows-1251>'>",
            "<meta http-equiv=content-type content='charset'>",
            "<meta charset=windows-12",
        ] {
            assert_eq!(
                charset_of(page.as_bytes(), "text/html").1,
                CharsetSource::Default,
                "{page}"
            );
        }
        let far = format!("{}<meta charset=windows-1251>", " ".repeat(1024));
        assert_eq!(charset_of(far.as_bytes(), "text/html").1, CharsetSource::Default);
        let in_text = b"<meta charset=windows-1251>";
        assert_eq!(charset_of(in_text, "text/plain").1, CharsetSource::Default);
    }

    #[test]
    fn declarations_of_utf_16_are_ignored() {
        assert_eq!(
            charset_of(b"<meta charset=utf-16>", "text/html"),
            ("UTF-8", CharsetSource::Meta)
        );
    }

    #[test]
    fn unusual_top_level_domains_are_ignored() {
        let bytes = encoding_rs::WINDOWS_1251.encode("Мельница стоит у реки").0;
        for tld in ["ru", "RU", "рф", "co.uk", "", "::1"] {
            let (encoding, _) = guess_charset(&bytes, true, Some(tld));
            assert_eq!(encoding.name(), "windows-1251", "{tld}");
        }
    }
}
