//! Finds charsets that a page declares in `meta` elements.

use std::borrow::Cow;

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252, X_USER_DEFINED};

use super::{
    super::{
        element::{Element, Name, TagTreatment},
        tokenizer::{Attribute, Content, Sink, Syntax, Tag, Tokenizer, resolve_in_attribute},
    },
    encoding_for_label,
};

/// Length of the start of a page in which every `meta` tag counts, even inside a script, in bytes:
/// the prescan of the HTML standard.
pub(super) const PRESCAN_BYTES_MAX: usize = 1024;

/// Maximum length of the stored part of an attribute value, in bytes.
const VALUE_BYTES_MAX: usize = 512;

/// Length of the pieces in which the end of the last tag is scanned, in bytes.
const PIECE_BYTES: usize = 64;

/// Maximum number of different charsets that one page can declare.
const ENCODINGS_MAX: usize = 64;

/// Maximum memory of [`MetaScanner`], in bytes: the values of the stored attributes (a growing
/// string: old + new <= 3 x length), several names, and the charsets with their counts.
pub(super) const SCANNER_BYTES_MAX: usize =
    (Attribute::COUNT + 4) * 3 * VALUE_BYTES_MAX + ENCODINGS_MAX * 3 * 16;

/// Scans a page for `meta` elements that declare a charset.
pub(super) struct MetaScanner {
    tokenizer: Tokenizer,
    finder: MetaFinder,
}

impl MetaScanner {
    /// Creates a scanner that finds the elements that browsers find when they build the tree: not
    /// those in comments, scripts and other raw text.
    pub(super) fn new() -> Self {
        Self::with(MetaFinder::new(ScanMode::TreeConstruction))
    }

    fn with(finder: MetaFinder) -> Self {
        Self { tokenizer: Tokenizer::with_value_bytes_max(Syntax::Html, VALUE_BYTES_MAX), finder }
    }

    /// Returns whether the head of the page has ended, by a tag or text of the body.
    pub(super) const fn is_in_body(&self) -> bool {
        self.finder.is_in_body
    }

    /// From now on, ignores elements in the body.
    pub(super) const fn ignore_body(&mut self) {
        self.finder.is_body_ignored = true;
    }

    /// Scans the start of the page, up to the end of its last declaration in `head`. Returns the
    /// length of the scanned part.
    pub(super) fn push_declarations(&mut self, head: &[u8]) -> usize {
        let mut end = declarations_end(head);
        self.push(head.get(..end).unwrap_or(head));
        // The rest of the tag. A tag whose attributes are longer is not recognized.
        let pieces = head.get(end..).unwrap_or_default().chunks(PIECE_BYTES);
        for piece in pieces.take(PRESCAN_BYTES_MAX / PIECE_BYTES) {
            if !self.tokenizer.is_in_tag() {
                break;
            }
            self.push(piece);
            end = end.saturating_add(piece.len());
        }
        end
    }

    /// Scans the next bytes of the page.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        // Faster than chunks for ASCII, and usually there is nothing else.
        if let Ok(text) = str::from_utf8(bytes) {
            self.tokenizer.push(text, &mut self.finder);
            return;
        }
        // All names and labels are ASCII, so the charset of other text does not matter.
        for chunk in bytes.utf8_chunks() {
            self.tokenizer.push(chunk.valid(), &mut self.finder);
            if !chunk.invalid().is_empty() {
                self.tokenizer.push("\u{fffd}", &mut self.finder);
            }
        }
    }

    /// Returns the declared charsets in their order, each with its number of declarations.
    pub(super) fn declared(&self) -> &[(&'static Encoding, u64)] {
        &self.finder.declared
    }
}

/// Returns the charset that the first [`PRESCAN_BYTES_MAX`] bytes of a page declare by the prescan
/// of the HTML standard, which also finds `meta` tags inside scripts and titles.
pub(super) fn prescan(head: &[u8]) -> Option<&'static Encoding> {
    let start = head.get(..PRESCAN_BYTES_MAX).unwrap_or(head);
    let mut scanner = MetaScanner::with(MetaFinder::new(ScanMode::Prescan));
    scanner.push(start);
    scanner.declared().first().map(|(encoding, _)| *encoding)
}

/// Returns the length of the start of `head` that has all of its declarations, except the end of
/// the last one.
///
/// Only this part has to be scanned. The search is several times as fast as the tokenizer, and
/// nearly all pages have `charset` near their start or not at all.
fn declarations_end(head: &[u8]) -> usize {
    const NAME: &[u8] = b"charset";
    const BLOCK_BYTES: usize = 256;
    let blocks = head.len().div_ceil(BLOCK_BYTES);
    for index in (0..blocks).rev() {
        let start = index.saturating_mul(BLOCK_BYTES);
        // A name may begin in this block and end in the next one.
        let end = start.saturating_add(BLOCK_BYTES + NAME.len());
        let block = head.get(start..end.min(head.len())).unwrap_or_default();
        if may_contain_charset(block)
            && block.windows(NAME.len()).any(|window| window.eq_ignore_ascii_case(NAME))
        {
            return end.min(head.len());
        }
    }
    0
}

/// Returns whether three letters of `charset`, in any case, are in the right places.
fn may_contain_charset(block: &[u8]) -> bool {
    let fifth = block.get(4..).unwrap_or_default();
    let seventh = block.get(6..).unwrap_or_default();
    // No branches, for vectorization (SIMD).
    let letters = block.iter().zip(fifth).zip(seventh);
    letters.fold(0_u8, |found, ((c, s), t)| {
        let is_match = (c | 0x20 == b'c') & (s | 0x20 == b's') & (t | 0x20 == b't');
        found | u8::from(is_match)
    }) != 0
}

/// How raw text, such as the content of a script, is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ScanMode {
    /// Tags in raw text count, and character references in attributes are not resolved.
    Prescan,
    /// Raw text has no tags, as in tree construction.
    TreeConstruction,
}

/// Receives the tags of a page.
struct MetaFinder {
    reading: ScanMode,
    /// Number of open `svg` and `math` elements, in which `<![CDATA[` begins text.
    foreign_depth: u64,
    is_in_raw_text: bool,
    is_in_body: bool,
    is_body_ignored: bool,
    declared: Vec<(&'static Encoding, u64)>,
}

impl MetaFinder {
    const fn new(reading: ScanMode) -> Self {
        Self {
            reading,
            foreign_depth: 0,
            is_in_raw_text: false,
            is_in_body: false,
            is_body_ignored: false,
            declared: Vec::new(),
        }
    }

    fn add(&mut self, encoding: &'static Encoding) {
        if let Some((_, count)) = self.declared.iter_mut().find(|(same, _)| *same == encoding) {
            *count = count.saturating_add(1);
        } else if self.declared.len() < ENCODINGS_MAX {
            self.declared.push((encoding, 1));
        }
    }

    /// Returns the charset that a `meta` tag declares.
    fn encoding_of(&self, tag: &Tag) -> Option<&'static Encoding> {
        let value = |attribute| {
            let value = tag.value(attribute)?;
            Some(match self.reading {
                ScanMode::Prescan => Cow::Borrowed(value),
                ScanMode::TreeConstruction => resolve_in_attribute(value),
            })
        };
        let from_content = || {
            let is_pragma =
                value(Attribute::HttpEquiv)?.trim().eq_ignore_ascii_case("content-type");
            let label = parse_charset(&value(Attribute::Content)?)?;
            is_pragma.then(|| encoding_for_label(&label)).flatten()
        };
        let from_charset = value(Attribute::Charset).map(|label| encoding_for_label(&label));
        let encoding = match (from_charset, self.reading) {
            (Some(encoding), ScanMode::Prescan) => encoding,
            (Some(Some(encoding)), ScanMode::TreeConstruction) => Some(encoding),
            (None | Some(None), _) => from_content(),
        };
        encoding.map(replace_impossible_encoding)
    }

    /// Returns the kind of content of an element.
    fn content_of(&self, tag: &Tag, treatment: TagTreatment) -> Content {
        let is_empty = self.foreign_depth > 0 && tag.is_closed();
        if self.reading == ScanMode::Prescan || is_empty {
            return Content::Markup;
        }
        if tag.name() == "script" {
            Content::Script
        } else if treatment == TagTreatment::PlainText {
            Content::PlainText
        } else if matches!(
            treatment,
            TagTreatment::HeadRaw | TagTreatment::Raw | TagTreatment::RawBlock
        ) {
            Content::Raw
        } else {
            Content::Markup
        }
    }
}

impl Sink for MetaFinder {
    fn add_text(&mut self, text: &str) {
        self.is_in_body |=
            !self.is_in_raw_text && text.bytes().any(|byte| !byte.is_ascii_whitespace());
    }

    fn start_tag(&mut self, tag: &Tag) -> Content {
        let treatment = Element::of(Name::of(tag.name())).treatment;
        match tag.name() {
            "meta" if self.is_body_ignored && self.is_in_body => {}
            "meta" => {
                if let Some(encoding) = self.encoding_of(tag) {
                    self.add(encoding);
                }
            }
            "svg" | "math" if !tag.is_closed() => {
                self.foreign_depth = self.foreign_depth.saturating_add(1);
            }
            "html" | "head" | "noscript" | "template" => {}
            _ => {
                self.is_in_body |=
                    !matches!(treatment, TagTreatment::HeadVoid | TagTreatment::HeadRaw);
            }
        }
        let content = self.content_of(tag, treatment);
        self.is_in_raw_text = content != Content::Markup;
        content
    }

    fn end_tag(&mut self, tag: &Tag) {
        self.is_in_raw_text = false;
        match tag.name() {
            "svg" | "math" => self.foreign_depth = self.foreign_depth.saturating_sub(1),
            "head" => self.is_in_body = true,
            _ => {}
        }
    }

    fn has_cdata(&self) -> bool {
        self.reading == ScanMode::TreeConstruction && self.foreign_depth > 0
    }
}

/// Replaces UTF-16 with UTF-8, and `x-user-defined` with windows-1252. A page whose declaration was
/// read as ASCII cannot be in UTF-16.
///
/// Such a page cannot be in UTF-16, even if it declares UTF-16. The standard also replaces
/// `x-user-defined`, which pages declared for scripts that read binary data.
pub(super) fn replace_impossible_encoding(encoding: &'static Encoding) -> &'static Encoding {
    if encoding == UTF_16LE || encoding == UTF_16BE {
        UTF_8
    } else if encoding == X_USER_DEFINED {
        WINDOWS_1252
    } else {
        encoding
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

/// Returns the text inside the quotes, empty if the second one is missing. Without quotes, returns
/// the text up to white space or `;`.
pub(super) fn unquote(value: &str) -> &str {
    for quote in ['"', '\''] {
        if let Some(inner) = value.strip_prefix(quote) {
            return inner.split_once(quote).map_or("", |(label, _)| label);
        }
    }
    let end = |c: char| c.is_ascii_whitespace() || c == ';';
    value.split(end).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_declaration_is_found_at_any_place() {
        for position in (0..600).chain(65_000..65_100) {
            let mut head = vec![b'c'; position];
            head.extend_from_slice(b"ChArSeT");
            for bytes_after in [0, 1, 300] {
                head.resize(position + 7 + bytes_after, b'c');
                let end = declarations_end(&head);
                assert!(end >= position + 7, "{position} {bytes_after}");
            }
        }
    }

    #[test]
    fn a_declaration_is_scanned_to_the_end_of_its_tag() {
        for bytes in (0..600).chain([900, 1100]) {
            let page = format!("<p><meta a='charset{}' charset=koi8-r><p>", " ".repeat(bytes));
            let mut scanner = MetaScanner::new();
            scanner.push_declarations(page.as_bytes());
            let names: Vec<_> = scanner.declared().iter().map(|(name, _)| name.name()).collect();
            assert_eq!(names, ["KOI8-R"], "{bytes}");
        }
    }

    #[test]
    fn bytes_far_after_the_last_declaration_are_not_scanned() {
        let head = format!("<meta charset=utf-8>{}", "c h a r s e t ".repeat(4000));
        assert!(declarations_end(head.as_bytes()) < 2000);
        assert_eq!(declarations_end(&head.as_bytes()[20..]), 0);
    }

    #[test]
    fn elements_of_the_head_do_not_start_the_body() {
        let head = "<!doctype html><html lang=en><head><title>a</title><style>b</style>\
                    <link><base><script>c</script><noscript>d</noscript><!-- e --> <meta>";
        for (end, is_in_body) in
            [("", false), ("\n", false), ("</head>", true), ("<p>", true), ("a", true)]
        {
            let mut scanner = MetaScanner::new();
            scanner.push(head.as_bytes());
            scanner.push(end.as_bytes());
            assert_eq!(scanner.is_in_body(), is_in_body, "{end:?}");
        }
    }

    #[test]
    fn declarations_are_counted_by_charset() {
        let mut scanner = MetaScanner::new();
        for label in ["koi8-r", "gbk", "big5", "koi8-r", "KOI8", "nonsense"] {
            scanner.push(format!("<meta charset={label}>").repeat(1000).as_bytes());
        }
        let counts: Vec<_> = scanner.declared().iter().map(|(_, count)| *count).collect();
        assert_eq!(counts, [3000, 1000, 1000]);
    }
}
