//! Decides the charset of a document.
//!
//! A byte order mark, the Content-Type and the start of the document decide at once. Otherwise the
//! decision waits until the document has a byte that is not ASCII: until then, every charset has
//! the same text. [`CharsetDecision`] receives the bytes and decides.

mod meta;
pub(super) mod utf_16;

use std::fmt;

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Encoding, GB18030, GBK, ISO_2022_JP, ISO_8859_8, ISO_8859_8_I, UTF_8};
use memchr::memchr;

use self::{
    meta::{
        MetaScanner, PRESCAN_BYTES_MAX, SCANNER_BYTES_MAX, replace_impossible_encoding, unquote,
    },
    utf_16::{detect_utf_16, find_declared_utf_16},
};
use super::{
    Hints,
    format::{Format, parameter},
};

/// Maximum memory for the decision, in bytes: the detector, the scanner of the page and that of
/// its start, and an XML declaration as text.
pub(super) const CHARSET_DECISION_BYTES_MAX: usize =
    size_of::<EncodingDetector>() + 2 * SCANNER_BYTES_MAX + 3 * PRESCAN_BYTES_MAX;

/// Starts ISO-2022-JP, which has no bytes above 0x7F.
const ESCAPE: u8 = 0x1b;

/// Source of the charset, in the order of precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CharsetSource {
    /// The byte order mark at the start of the document.
    Bom,
    /// The `charset` parameter of the Content-Type.
    Header,
    /// A `meta` element of a page in HTML, in its head or its first 64 KiB.
    Meta,
    /// The XML declaration at the start of a page.
    Xml,
    /// The bytes: the most likely charset of the 64 KiB from the first byte that is not ASCII.
    Detected,
    /// The default, UTF-8: all bytes are ASCII.
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

/// The charset in which a document is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Charset {
    pub(super) encoding: &'static Encoding,
    pub(super) source: CharsetSource,
}

impl Charset {
    /// Charset of a document that is ASCII throughout.
    pub(super) const DEFAULT: Self = Self::new(UTF_8, CharsetSource::Default);

    const fn new(encoding: &'static Encoding, source: CharsetSource) -> Self {
        Self { encoding, source }
    }

    /// Returns the name of the encoding in lower case.
    pub(super) fn name(self) -> String {
        self.encoding.name().to_ascii_lowercase()
    }
}

/// Declarations that name another charset than that of the document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CharsetContradiction {
    /// Encoding and source of the first declaration.
    pub(super) first: Charset,
    /// Number of declarations.
    pub(super) count: u64,
}

/// Decision about the charset of one document.
pub(super) struct CharsetDecision {
    format: Format,
    host_tld: Option<String>,
    /// The charset, once it is decided.
    charset: Option<Charset>,
    /// Charset that the start of a page declares, which a `meta` element can override.
    tentative: Option<Charset>,
    /// Encoding in the XML declaration of a page.
    xml: Option<&'static Encoding>,
    scanner: Option<MetaScanner>,
    /// Whether bytes after the head are scanned.
    is_scanning: bool,
    /// Last two bytes before the undecided ones: the detector judges letters by their context.
    context: Vec<u8>,
    can_be_iso_2022_jp: bool,
}

impl CharsetDecision {
    /// Starts the decision about a document that begins with `head`. `is_complete` means that
    /// `head` is the whole document.
    pub(super) fn new(head: &[u8], is_complete: bool, format: Format, hints: &Hints<'_>) -> Self {
        let mut decision = Self {
            format,
            host_tld: hints.host_tld.and_then(detector_tld),
            charset: None,
            tentative: None,
            xml: None,
            scanner: None,
            is_scanning: false,
            context: Vec::new(),
            can_be_iso_2022_jp: format == Format::Text,
        };
        let header = hints.content_type.and_then(|value| parameter(value, "charset"));
        let header = header.and_then(|label| encoding_for_label(&label));
        let bom = Encoding::for_bom(head);
        decision.charset = bom
            .map(|(encoding, _)| Charset::new(encoding, CharsetSource::Bom))
            .or_else(|| header.map(|encoding| Charset::new(encoding, CharsetSource::Header)))
            .or_else(|| find_utf_16(head, format));
        let page = head.get(bom.map_or(0, |(_, length)| length)..).unwrap_or_default();
        match format {
            Format::Html => decision.scan_page(page, is_complete),
            Format::Xhtml => {
                decision.xml = find_xml_charset(page);
                let xml = decision.xml.map(|xml| Charset::new(xml, CharsetSource::Xml));
                decision.charset = decision.charset.or(xml);
            }
            Format::Text => {}
        }
        decision
    }

    /// Finds the declarations at the start of a page in HTML.
    fn scan_page(&mut self, head: &[u8], is_complete: bool) {
        let mut scanner = MetaScanner::new();
        let end = scanner.push_declarations(head);
        let (declarations, rest) = head.split_at_checked(end).unwrap_or((head, &[]));
        self.xml = find_xml_charset(head);
        self.charset = self.charset.or_else(|| find_meta_charset(&scanner));
        if self.charset.is_none() {
            let in_raw_text = meta::prescan(declarations);
            self.tentative = in_raw_text
                .map(|encoding| Charset::new(encoding, CharsetSource::Meta))
                .or_else(|| self.xml.map(|encoding| Charset::new(encoding, CharsetSource::Xml)));
            // Later `meta` elements count only in the head, as in Chromium: a search in all of a
            // long body would be slow.
            let mut pieces = rest.chunks(PRESCAN_BYTES_MAX);
            while !is_complete
                && !scanner.is_in_body()
                && let Some(piece) = pieces.next()
            {
                scanner.push(piece);
            }
            scanner.ignore_body();
            self.is_scanning = !is_complete && !scanner.is_in_body();
        }
        self.scanner = Some(scanner);
    }

    /// Returns the charset, or `None` if it is not decided yet.
    pub(super) const fn charset(&self) -> Option<Charset> {
        self.charset
    }

    /// Scans the next bytes after the start of the document, before they are decoded.
    pub(super) fn scan(&mut self, bytes: &[u8]) {
        if let Some(scanner) = self.scanner.as_mut().filter(|_| self.is_scanning) {
            scanner.push(bytes);
            self.is_scanning = !scanner.is_in_body();
        }
    }

    /// Returns the length of the start of `bytes` that has the same text in every charset.
    ///
    /// NUL counts as ASCII: UTF-16 was recognized from the head, or is excluded.
    pub(super) fn ascii_length(&self, bytes: &[u8]) -> usize {
        let length = Encoding::ascii_valid_up_to(bytes);
        let plain = bytes.get(..length).unwrap_or_default();
        let escape = if self.can_be_iso_2022_jp { memchr(ESCAPE, plain) } else { None };
        escape.unwrap_or(length)
    }

    /// Receives text that is the same in every charset, and precedes the undecided bytes.
    pub(super) fn add_ascii(&mut self, plain: &[u8]) {
        self.context.extend_from_slice(plain.last_chunk::<2>().map_or(plain, |last| last));
        self.context.drain(..self.context.len().saturating_sub(2));
    }

    /// Decides by all declarations so far and by the `undecided` bytes, the first of which is not
    /// plain. `is_complete` means that the document ends after them.
    ///
    /// Decides nothing if the bytes are ASCII with escapes, but not ISO-2022-JP, as in the log of a
    /// terminal. From then on, escapes are plain.
    pub(super) fn decide(&mut self, undecided: &[u8], is_complete: bool) {
        let declared = self.scanner.as_ref().and_then(find_meta_charset).or(self.tentative);
        self.charset = declared.or_else(|| self.detect(undecided, is_complete));
        self.can_be_iso_2022_jp = false;
    }

    /// Decides at the end of a document that is plain throughout.
    pub(super) fn decide_at_end(&mut self) {
        self.decide(&[], true);
        self.charset = self.charset.or(Some(Charset::DEFAULT));
    }

    /// Guesses the charset from the bytes, with the top-level domain of the host as a hint.
    fn detect(&self, undecided: &[u8], is_complete: bool) -> Option<Charset> {
        // Like browsers, which prevent attacks with tags that are hidden by escapes.
        let in_iso_2022_jp = match self.format {
            Format::Text if self.can_be_iso_2022_jp => Iso2022JpDetection::Allow,
            Format::Text | Format::Html | Format::Xhtml => Iso2022JpDetection::Deny,
        };
        let mut detector = EncodingDetector::new(in_iso_2022_jp);
        detector.feed(&self.context, false);
        let has_charset_dependent_bytes = detector.feed(undecided, is_complete);
        let host_tld = self.host_tld.as_deref().map(str::as_bytes);
        let encoding = detector.guess(host_tld, Utf8Detection::Allow);
        let is_detected = has_charset_dependent_bytes || encoding == ISO_2022_JP;
        is_detected.then_some(Charset::new(encoding, CharsetSource::Detected))
    }

    /// Returns the declarations that name another charset than that of the document.
    pub(super) fn contradiction(&self) -> Option<CharsetContradiction> {
        let charset = self.charset?;
        let xml = self.xml.map(|encoding| (Charset::new(encoding, CharsetSource::Xml), 1));
        let meta = self.scanner.iter().flat_map(MetaScanner::declared);
        let meta =
            meta.map(|(encoding, count)| (Charset::new(encoding, CharsetSource::Meta), *count));
        let declared = xml.into_iter().chain(meta);
        let mut others = declared
            .filter(|(other, _)| !is_same_encoding(other.encoding, charset.encoding))
            .peekable();
        let (first, _) = *others.peek()?;
        let count = others.fold(0_u64, |sum, (_, count)| sum.saturating_add(count));
        Some(CharsetContradiction { first, count })
    }
}

/// Finds UTF-16 without a byte order mark.
fn find_utf_16(head: &[u8], format: Format) -> Option<Charset> {
    match format {
        Format::Html | Format::Xhtml => {
            find_declared_utf_16(head).map(|encoding| Charset::new(encoding, CharsetSource::Xml))
        }
        Format::Text => {
            detect_utf_16(head).map(|encoding| Charset::new(encoding, CharsetSource::Detected))
        }
    }
}

/// Returns the first charset in a `meta` element.
fn find_meta_charset(scanner: &MetaScanner) -> Option<Charset> {
    let (encoding, _) = scanner.declared().first()?;
    Some(Charset::new(encoding, CharsetSource::Meta))
}

/// Finds the encoding in `<?xml version="1.0" encoding="..."?>`.
fn find_xml_charset(head: &[u8]) -> Option<&'static Encoding> {
    let start = head.get(..PRESCAN_BYTES_MAX).unwrap_or(head);
    let declaration = start.strip_prefix(b"<?xml")?.split(|byte| *byte == b'>').next()?;
    let text = String::from_utf8_lossy(declaration);
    let (_, value) = text.split_once("encoding")?;
    let value = value.trim_start().strip_prefix('=')?;
    encoding_for_label(unquote(value.trim_start())).map(replace_impossible_encoding)
}

/// Returns the encoding with a label, or `None` if the label is unknown or decodes to nothing.
fn encoding_for_label(label: &str) -> Option<&'static Encoding> {
    Encoding::for_label_no_replacement(label.trim().as_bytes())
}

/// Returns the label of a top-level domain as the detector expects it: it panics on others.
fn detector_tld(tld: &str) -> Option<String> {
    let is_label = tld.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    is_label.then(|| tld.to_ascii_lowercase())
}

/// Returns whether two encodings decode all bytes to the same text.
fn is_same_encoding(one: &'static Encoding, other: &'static Encoding) -> bool {
    const SAME: [[&Encoding; 2]; 2] = [[GBK, GB18030], [ISO_8859_8, ISO_8859_8_I]];
    one == other || SAME.iter().any(|pair| pair.contains(&one) && pair.contains(&other))
}

#[cfg(test)]
mod tests;
