//! Counts the words of HTML pages and plain text.
//!
//! A document is read once and in bounded memory. Its bytes are hashed, decoded, stripped of markup
//! and split into words as they arrive; only the table of distinct words grows. The result depends
//! only on the bytes, the [`Hints`] and the [`Options`], not on the sizes of the chunks in which
//! the bytes arrive.
//!
//! `docs/counting.md` describes the rules for users. Tests of this crate check its examples.
//!
//! [`count`] reads a document, with hints about its type and charset. [`count_text`] counts text
//! in memory.
//!
//! ```
//! use wordmill_count::{Hints, Options, count};
//!
//! let page = "<title>Mills</title><p>The mill, the <b>m</b>iller.".as_bytes();
//! let hints = Hints { content_type: Some("text/html; charset=utf-8"), host_tld: None };
//! let counted = count(page, &hints, &Options::default(), &|_bytes_read| true)?;
//! assert_eq!(counted.totals.words, 4);
//! let words: Vec<(&str, u64)> = counted.histogram.iter().collect();
//! assert_eq!(words, [("the", 2), ("mill", 1), ("miller", 1)]);
//! assert_eq!(counted.totals_by_rule["whitespace"], 4);
//! # Ok::<(), wordmill_count::Error>(())
//! ```
//!
//! # Modules
//!
//! In the order in which they process a document:
//!
//! - `input` reads and hashes the bytes, `format` detects the format from the first ones, `charset`
//!   decides the charset, and `decode` decodes all bytes to text.
//! - For pages, `tokenizer` splits the text into tags and text. `extract` selects the visible text
//!   with the help of `tree`, which applies the rules by which browsers build a tree.
//! - `omission` adds up the content of a page that is not counted, for warnings.
//! - `counter` counts characters and words by all rules in one pass. ASCII takes a fast path
//!   (`ascii`). Other text is split into segments by UAX #29 (`segment`), and by dictionaries for
//!   scripts without spaces (`dictionary`, `cjk_segmenter`).
//! - `word_sink` selects the words to list, and `word_table` stores them with their counts.
//!
//! # Limits
//!
//! [`Options::unique_words_max`] and constants in these modules bound the memory for a document.
//! The time is linear in its size.

mod active_formatting;
mod ascii;
mod char_class;
mod charset;
mod cjk_segmenter;
mod counter;
mod decode;
mod dictionary;
mod element;
mod explain;
mod extract;
mod format;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod hostile;
mod input;
mod main_content;
mod normalize;
mod omission;
mod open_elements;
#[cfg(test)]
mod random;
mod rendering;
#[cfg(test)]
mod reported_pages;
mod rules;
mod segment;
mod stretch;
mod style_attribute;
mod tokenizer;
mod tree;
mod whitespace_rules;
mod word_sink;
mod word_table;

use std::collections::BTreeMap;
use std::io::{self, Read};

use encoding_rs::UTF_8;
use wordmill_common::explanation::Explanation;
use wordmill_common::histogram::{Histogram, Rule, Totals};
use wordmill_common::options;
use wordmill_common::warning::{WarningCode, Warnings};

pub use self::{
    charset::CharsetSource, decode::CHARSET_BYTES_MAX, format::Format, rules::UNICODE_VERSION,
    tokenizer::EntityError,
};

use self::{
    charset::CharsetContradiction,
    counter::Counter,
    decode::{DecodedSource, TextReader},
    extract::Extractor,
    input::Input,
    tokenizer::Syntax,
};

/// Default of [`Options::unique_words_max`].
pub const UNIQUE_WORDS_MAX: usize = 2_000_000;

/// Information about a document in addition to its bytes. All of it is optional.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hints<'a> {
    /// Value of the HTTP header `Content-Type`, including parameters. It selects the format and the
    /// charset. But a byte order mark takes precedence, and binary data is always refused. Without
    /// it, both are detected from the document.
    pub content_type: Option<&'a str>,
    /// Last label of the host name, for example `jp`. Used as a hint if the charset has to be
    /// guessed.
    pub host_tld: Option<&'a str>,
}

/// Parameters of a count.
#[derive(Clone, Debug)]
pub struct Options {
    /// Options of the job, for example the rule and the scope.
    pub job_options: options::Options,
    /// Maximum number of distinct words in a document; more are refused with
    /// [`Error::TooManyUniqueWords`]. A word takes at most about 600 bytes of memory, and usually
    /// less than 200.
    pub unique_words_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { job_options: options::Options::default(), unique_words_max: UNIQUE_WORDS_MAX }
    }
}

impl From<options::Options> for Options {
    fn from(job_options: options::Options) -> Self {
        Self { job_options, ..Self::default() }
    }
}

/// Result of [`count`]: the words of a document, and the information that is needed to reproduce
/// the count.
#[derive(Clone, Debug)]
pub struct DocumentCount {
    /// Totals by the selected rule in the selected scope.
    pub totals: Totals,
    /// Number of words in the selected scope by each rule, with the name of the rule as the key.
    /// Includes words that the options omit from the histogram.
    pub totals_by_rule: BTreeMap<String, u64>,
    /// Number of words in each scope by the selected rule. The key `page` is the whole document,
    /// `main` its main content.
    pub totals_by_scope: BTreeMap<String, u64>,
    /// Listed words with their counts.
    pub histogram: Histogram,
    /// Examples that the rules count differently, if the options request them.
    pub explanation: Option<Explanation>,
    /// Reasons to check the count before relying on it. A document without words has at least one.
    pub warnings: Warnings,
    /// Rule of the totals and the histogram.
    pub rule: Rule,
    /// Detected format of the document.
    pub format: Format,
    /// Effective content type, in lower case and without parameters.
    pub content_type: String,
    /// Effective charset: its name in the Encoding Standard, in lower case.
    pub charset: String,
    /// Source of the charset.
    pub charset_from: CharsetSource,
    /// Size of the document before decoding, in bytes.
    pub size_bytes: u64,
    /// SHA-256 of the document before decoding, in hexadecimal.
    pub sha256: String,
}

/// Result of [`count_text`].
#[derive(Clone, Debug, PartialEq)]
pub struct TextCount {
    /// Totals by the selected rule in the selected scope.
    pub totals: Totals,
    /// Number of words in the selected scope by each rule, with the name of the rule as the key.
    /// Includes words that the options omit from the histogram.
    pub totals_by_rule: BTreeMap<String, u64>,
    /// Number of words in each scope by the selected rule. The key `page` is the whole text, `main`
    /// its main content.
    pub totals_by_scope: BTreeMap<String, u64>,
    /// Listed words with their counts.
    pub histogram: Histogram,
    /// Examples that the rules count differently, if the options request them.
    pub explanation: Option<Explanation>,
    /// Reasons to check the count before relying on it.
    pub warnings: Warnings,
}

/// Returns the name and version of a rule, with the version of the Unicode data.
#[must_use]
pub fn rule(name: options::RuleName) -> Rule {
    rules::describe(name)
}

/// Reason why a document was not counted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The document is neither a page nor text.
    #[error("cannot count words in {kind}")]
    UnsupportedFormat {
        /// Content type, or a short description such as `binary data`.
        kind: String,
    },
    /// The document refers to an entity that is not supported, in XHTML.
    #[error(transparent)]
    Entity(#[from] EntityError),
    /// The document has more distinct words than [`Options::unique_words_max`].
    #[error("the document has more than {limit} unique words")]
    TooManyUniqueWords {
        /// Value of [`Options::unique_words_max`].
        limit: usize,
    },
    /// The callback `on_progress` of [`count`] returned `false`.
    #[error("counting was interrupted")]
    Interrupted,
    /// The reader failed.
    #[error("cannot read the document")]
    Read(#[source] io::Error),
}

/// Counts the words of one document.
///
/// Blocks while `reader` blocks, so call it on a blocking thread. `on_progress` is called after
/// each read, at least every 64 KiB, with the number of bytes read so far. If it returns `false`,
/// counting stops.
///
/// # Errors
///
/// - [`Error::UnsupportedFormat`] if the bytes are binary, or the content type is neither a page
///   nor text.
/// - [`Error::Entity`] if the page refers to an entity other than a declared text.
/// - [`Error::TooManyUniqueWords`] if there are more distinct words than
///   [`Options::unique_words_max`].
/// - [`Error::Interrupted`] if `on_progress` returns `false`.
/// - [`Error::Read`] if `reader` fails. Interrupted reads are retried.
pub fn count(
    reader: impl Read,
    hints: &Hints<'_>,
    options: &Options,
    on_progress: &impl Fn(u64) -> bool,
) -> Result<DocumentCount, Error> {
    let mut input = Input::new(reader, on_progress);
    let head = input.read_head()?;
    let (format, content_type) = format::detect_format(&head, hints.content_type)?;
    let mut text = TextReader::new(input, head, format, hints);
    let mut counter = Counter::new(options);
    match format {
        Format::Html => count_page(&mut text, Syntax::Html, None, &mut counter)?,
        Format::Xhtml => {
            let type_if_not_xhtml = format::type_if_not_xhtml(&content_type, hints.content_type);
            count_page(&mut text, Syntax::Xml, type_if_not_xhtml, &mut counter)?;
        }
        Format::Text => count_plain_text(&mut text, &mut counter)?,
    }
    let source = text.finish();
    warn_about_charset(&source, &mut counter);
    let limit = options.unique_words_max;
    let text_count = counter.finish().ok_or(Error::TooManyUniqueWords { limit })?;
    Ok(DocumentCount {
        totals: text_count.totals,
        totals_by_rule: text_count.totals_by_rule,
        totals_by_scope: text_count.totals_by_scope,
        histogram: text_count.histogram,
        explanation: text_count.explanation,
        warnings: text_count.warnings,
        rule: rules::describe(options.job_options.rule),
        format,
        content_type,
        charset: source.charset.name(),
        charset_from: source.charset.source,
        size_bytes: source.size_bytes,
        sha256: source.sha256,
    })
}

/// Warns of a guessed charset, and of bytes and declarations that contradict the charset.
fn warn_about_charset(source: &DecodedSource, counter: &mut Counter) {
    let name = source.charset.name();
    // Text in another charset is hardly ever valid UTF-8, so detected UTF-8 is reliable.
    if source.charset.source == CharsetSource::Detected && source.charset.encoding != UTF_8 {
        counter.warn(WarningCode::CharsetGuessed, 1, Some(&name));
    }
    let mut location = name;
    let mut count = 0_u64;
    if let Some(CharsetContradiction { first, count: declarations }) = source.contradiction {
        location.push_str(&format!("; {} {}", first.source, first.name()));
        count = declarations;
    }
    if source.invalid.count > 0 {
        let offset = source.invalid.first_offset;
        location.push_str(&format!("; invalid from byte {offset}"));
        count = count.saturating_add(source.invalid.count);
    }
    counter.warn(WarningCode::CharsetContradicted, count, Some(&location));
}

/// Counts the words of plain text in memory.
///
/// Unlike [`count`], it neither decodes nor hashes the text, and reports no progress.
///
/// ```
/// use wordmill_count::{Options, count_text};
///
/// let counted = count_text("The mill, the miller", &Options::default())?;
/// assert_eq!(counted.totals.words, 4);
/// assert_eq!(counted.totals.unique_words, 3);
/// # Ok::<(), wordmill_count::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::TooManyUniqueWords`] if there are more distinct words than
/// [`Options::unique_words_max`].
pub fn count_text(text: &str, options: &Options) -> Result<TextCount, Error> {
    let mut counter = Counter::new(options);
    counter.add_plain_text(text);
    counter.finish().ok_or(Error::TooManyUniqueWords { limit: options.unique_words_max })
}

fn count_plain_text(
    text: &mut TextReader<'_, impl Read>,
    counter: &mut Counter,
) -> Result<(), Error> {
    while let Some(chunk) = text.next()? {
        counter.add_plain_text(chunk);
        // `Counter::finish` reports the error. The rest of the document cannot change it.
        if counter.is_full() {
            break;
        }
    }
    Ok(())
}

/// Counts a page. With an `type_if_not_xhtml`, its root must be an element of XHTML.
fn count_page(
    text: &mut TextReader<'_, impl Read>,
    syntax: Syntax,
    type_if_not_xhtml: Option<String>,
    counter: &mut Counter,
) -> Result<(), Error> {
    let mut extractor = Extractor::new(syntax);
    while let Some(chunk) = text.next()? {
        extractor.push(chunk, counter);
        if let Some(kind) = &type_if_not_xhtml
            && extractor.has_xhtml_root() == Some(false)
        {
            return Err(Error::UnsupportedFormat { kind: kind.clone() });
        }
        if let Some(error) = extractor.error() {
            return Err(error.into());
        }
        if counter.is_full() {
            break;
        }
    }
    if let Some(kind) = type_if_not_xhtml
        && extractor.has_xhtml_root().is_none()
    {
        return Err(Error::UnsupportedFormat { kind });
    }
    extractor.end(counter);
    Ok(())
}

#[cfg(test)]
mod tests {
    use icu_properties::{CodePointMapData, props::GeneralCategory};
    use serde::Deserialize;

    use super::{random::Random, *};

    /// Reader that returns chunks of at most the given sizes, in turn.
    struct ChunkReader<'a> {
        bytes: &'a [u8],
        sizes: Vec<usize>,
        reads: usize,
    }

    impl Read for ChunkReader<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let size = self.sizes[self.reads % self.sizes.len()];
            self.reads += 1;
            let size = size.min(buffer.len());
            self.bytes.read(&mut buffer[..size])
        }
    }

    fn hints(content_type: &str) -> Hints<'_> {
        Hints { content_type: Some(content_type), host_tld: None }
    }

    fn count_bytes(bytes: &[u8], content_type: &str) -> DocumentCount {
        let options = Options::default();
        count(bytes, &hints(content_type), &options, &|_| true).unwrap()
    }

    fn summary(result: &DocumentCount) -> String {
        format!("{result:?}")
    }

    /// Decodes `\u{...}`, the notation of `docs/counting.md` for invisible characters.
    fn unescape(text: &str) -> String {
        let mut parts = text.split("\\u{");
        let mut plain = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (code, rest) = part.split_once('}').unwrap();
            plain.extend(char::from_u32(u32::from_str_radix(code, 16).unwrap()));
            plain.push_str(rest);
        }
        plain
    }

    /// Parses a cell of words, for example "`word` ×2 `other`".
    fn parse_words(cell: &str) -> Histogram {
        let parts: Vec<_> = cell.split('`').collect();
        let pairs = parts[1..].chunks_exact(2);
        let words = pairs.map(|pair| {
            let times = pair[1].trim().strip_prefix('×');
            (unescape(pair[0]), times.map_or(1, |n| n.parse().unwrap()))
        });
        words.collect()
    }

    /// Parses the rows of the table with the given header.
    fn parse_rows(header: &str) -> Vec<(&'static str, String, Histogram)> {
        let page = include_str!("../../../docs/counting.md");
        let (_, table) = page.split_once(header).unwrap();
        let lines = table.trim_start().lines().skip(1);
        let rows = lines.take_while(|line| line.starts_with('|')).map(|line| {
            let cells: Vec<_> = line.split('|').collect();
            assert_eq!(cells.len(), 5, "{line}");
            let text = cells[2].trim().trim_matches('`');
            (cells[1].trim(), unescape(text), parse_words(cells[3]))
        });
        rows.collect()
    }

    #[test]
    fn the_documented_words_are_found() {
        let rows = parse_rows("| case | text | words |");
        assert!(rows.len() >= 28);
        for (case, text, words) in rows {
            let result = count_bytes(text.as_bytes(), "text/plain; charset=utf-8");
            assert_eq!(result.histogram, words, "{case}");
            assert_eq!(result.totals.words, words.total(), "{case}");
        }
    }

    #[test]
    fn the_documented_totals_are_counted() {
        let page = include_str!("../../../docs/counting.md");
        let (_, table) = page.split_once("| case | text | unicode |").unwrap();
        let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
        let rows: Vec<Vec<_>> = rows.map(|row| row.split('|').map(str::trim).collect()).collect();
        assert!(rows.len() >= 15);
        for row in rows {
            let text = unescape(row[2].trim_matches('`'));
            let by_rule = count_bytes(text.as_bytes(), "text/plain; charset=utf-8").totals_by_rule;
            for (rule, words) in ["unicode", "whitespace", "office", "gmx"].iter().zip(&row[3..]) {
                assert_eq!(by_rule[*rule].to_string(), *words, "{} by {rule}", row[1]);
            }
        }
    }

    #[test]
    fn the_documented_visible_text_is_found() {
        let rows = parse_rows("| case | page | words |");
        assert!(rows.len() >= 28);
        for (case, page, words) in rows {
            let result = count_bytes(page.as_bytes(), "text/html; charset=utf-8");
            assert_eq!(result.histogram, words, "{case}");
        }
    }

    #[derive(Deserialize)]
    struct Expected {
        totals: Totals,
        charset: String,
        word_count: Histogram,
    }

    macro_rules! samples {
        ($($name:literal),*) => {
            [$((
                $name,
                include_bytes!(concat!("../../../docs/samples/", $name)).as_slice(),
                include_str!(concat!("../../../docs/samples/expected/", $name, ".json")),
            )),*]
        };
    }

    const SAMPLES: [(&str, &[u8], &str); 11] = samples![
        "arabic.txt",
        "chinese.txt",
        "english.html",
        "french.txt",
        "german.html",
        "greek.txt",
        "hebrew.html",
        "japanese.html",
        "russian-1251.html",
        "thai.txt",
        "turkish-utf16.txt"
    ];

    #[test]
    fn samples_have_the_expected_counts() {
        for (name, bytes, expected) in SAMPLES {
            let expected: Expected = serde_json::from_str(expected).unwrap();
            let result = count(bytes, &Hints::default(), &Options::default(), &|_| true).unwrap();
            assert_eq!(result.histogram, expected.word_count, "{name}");
            assert_eq!(result.totals, expected.totals, "{name}");
            assert_eq!(result.charset, expected.charset, "{name}");
            assert_eq!(result.size_bytes, u64::try_from(bytes.len()).unwrap(), "{name}");
        }
    }

    #[test]
    fn chunks_do_not_change_the_result() {
        let mut random = Random::new(7);
        let in_utf_8 = SAMPLES.iter().filter(|(name, ..)| !name.contains("utf16"));
        let long: Vec<_> = in_utf_8.map(|(_, bytes, _)| *bytes).collect();
        let long = long.concat().repeat(20);
        let mut documents: Vec<&[u8]> = SAMPLES.map(|(_, bytes, _)| bytes).to_vec();
        documents.push(&long);
        for bytes in documents {
            for content_type in ["text/html", "text/plain", "application/xhtml+xml"] {
                let content_type = format!("{content_type}; charset=utf-8");
                let whole = summary(&count_bytes(bytes, &content_type));
                let sizes: Vec<_> = (0..50).map(|_| 1 + random.below(5000)).collect();
                for sizes in [vec![1], vec![2, 3, 1], vec![16_384, 1, 4096], sizes] {
                    let reader = ChunkReader { bytes, sizes, reads: 0 };
                    let options = Options::default();
                    let chunked = count(reader, &hints(&content_type), &options, &|_| true);
                    assert_eq!(summary(&chunked.unwrap()), whole);
                }
            }
        }
    }

    #[test]
    fn random_pages_do_not_depend_on_chunks() {
        const PARTS: &[&str] = &[
            "<",
            ">",
            "/",
            "p",
            "li",
            "script",
            "</script>",
            "<!--",
            "-->",
            "<p hidden>",
            "</p>",
            "<svg>",
            "</svg>",
            "<![CDATA[",
            "]]>",
            "&",
            "&amp;",
            "&#x41",
            ";",
            "\"",
            "'",
            "=",
            " ",
            "\r\n",
            "é",
            "水",
            "ไทย",
            "\u{301}",
            "a",
            "don’t",
            "<ul>",
            "</ul>",
            "<li hidden>",
            "<textarea>",
            "</textarea",
            "<title/>",
            "<template>",
            "</template>",
            "\0",
            "1.5",
        ];
        let mut random = Random::new(11);
        for _ in 0..1500 {
            let length = random.below(40);
            let page: String = (0..length).map(|_| PARTS[random.below(PARTS.len())]).collect();
            for content_type in ["text/html;charset=utf-8", "application/xhtml+xml;charset=utf-8"] {
                let sizes = vec![1, 1, 3];
                let reader = ChunkReader { bytes: page.as_bytes(), sizes, reads: 0 };
                let options = Options::default();
                let Ok(chunked) = count(reader, &hints(content_type), &options, &|_| true) else {
                    continue;
                };
                let whole = count_bytes(page.as_bytes(), content_type);
                assert_eq!(summary(&chunked), summary(&whole), "{page:?}");
            }
        }
    }

    #[test]
    fn a_result_describes_its_source_and_charset() {
        let result = count_bytes(b"\xef\xbb\xbfa mill", "Text/HTML; charset=koi8-r");
        assert_eq!(result.content_type, "text/html");
        assert_eq!(result.charset, "utf-8");
        assert_eq!(result.charset_from, CharsetSource::Bom);
        assert_eq!(result.size_bytes, 9);
        assert_eq!(result.totals.characters, 6);
        assert_eq!(
            result.sha256,
            "fb860e341793fb2b5c44dce41739ab7677d1806ad013d972926b7d13dda6683b"
        );
    }

    #[test]
    fn an_empty_document_has_no_words() {
        let result = count(io::empty(), &Hints::default(), &Options::default(), &|_| true);
        let result = result.unwrap();
        assert_eq!(result.totals, Totals::default());
        assert_eq!(
            result.sha256,
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }

    #[test]
    fn invalid_bytes_end_words() {
        let result = count_bytes(b"mi\xffll \xc3", "text/plain; charset=utf-8");
        assert_eq!(result.histogram, [("mi", 1), ("ll", 1)].into_iter().collect());
        assert_eq!(result.totals.characters, 7);
    }

    #[test]
    fn too_many_distinct_words_are_refused() {
        let options = Options { unique_words_max: 3, ..Options::default() };
        for content_type in ["text/html", "text/plain"] {
            let hints = hints(content_type);
            assert!(count(b"a b c a".as_slice(), &hints, &options, &|_| true).is_ok());
            let result = count(b"a b c d".as_slice(), &hints, &options, &|_| true);
            assert!(matches!(result, Err(Error::TooManyUniqueWords { limit: 3 })));
        }
    }

    #[test]
    fn the_progress_callback_is_frequent_and_can_abort() {
        let calls = std::cell::RefCell::new(vec![0]);
        let on_progress = |bytes| {
            calls.borrow_mut().push(bytes);
            bytes < 300_000
        };
        for content_type in ["text/html", "text/plain"] {
            calls.replace(vec![0]);
            let endless = io::repeat(b'a');
            let result = count(endless, &hints(content_type), &Options::default(), &on_progress);
            assert!(matches!(result, Err(Error::Interrupted)));
            let calls = calls.borrow();
            assert!(calls.windows(2).all(|pair| pair[1] - pair[0] <= 65_536));
            assert!(*calls.last().unwrap() < 400_000);
        }
    }

    #[test]
    fn a_read_error_is_returned() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::from(io::ErrorKind::ConnectionReset))
            }
        }
        let text = b"<p>mill</p>".repeat(10_000);
        for content_type in ["text/html", "text/plain"] {
            let reader = text.chain(Broken);
            let result = count(reader, &hints(content_type), &Options::default(), &|_| true);
            let Err(Error::Read(error)) = result else {
                panic!("{content_type} was counted");
            };
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        }
    }

    #[test]
    fn the_unicode_version_matches_the_data() {
        // Both characters are unassigned in Unicode 17.
        let category = CodePointMapData::<GeneralCategory>::new();
        assert_eq!(category.get('\u{10ed9}'), GeneralCategory::OtherLetter);
        assert_eq!(category.get('\u{a7e2}'), GeneralCategory::UppercaseLetter);
        assert_eq!(UNICODE_VERSION, "18.0");
    }
}
