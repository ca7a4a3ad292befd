//! From the bytes of a document to its words.
//!
//! One pass and bounded memory: bytes are hashed, decoded, stripped of markup and cut into words as
//! they arrive, and only the table of distinct words grows. The result depends on the bytes and the
//! hints alone, never on the chunks in which the bytes arrive.
//!
//! The rules are described for readers in `docs/counting.md`; tests here check that page.
//!
//! [`count`] reads a document, with hints about its type; [`count_text`] counts a text in memory:
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
//! The modules in the order in which a byte passes them:
//!
//! - `input` reads, hashes and watches; `format` and `charset` decide from the first bytes, and
//!   `decode` makes text of the bytes.
//! - For pages, `tokenizer` cuts the text into tags and text, and `extract` selects the visible
//!   text with `visibility`, `main_content` and `open_element`.
//! - `counter` counts characters and white space for all rules at once. It finds words by a fast
//!   way for ASCII (`ascii`) or by UAX #29 (`segment`, with `dictionary` and `cjk_segmenter` for
//!   scripts without spaces).
//! - `word_sink` decides which words are listed, and `word_table` holds them.
//!
//! Memory and time for a document are bounded by [`Options::unique_words_max`] and by constants
//! beside the code that they bound.

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
mod open_element;
#[cfg(test)]
mod random;
mod rules;
mod segment;
mod stretch;
mod tokenizer;
mod visibility;
mod whitespace_rules;
mod word_sink;
mod word_table;

use std::collections::BTreeMap;
use std::io::{self, Read};

use wordmill_common::explanation::Explanation;
use wordmill_common::histogram::{Histogram, Rule, Totals};
use wordmill_common::options;

pub use self::{
    charset::CharsetSource, counter::TextCount, decode::CHARSET_BYTES_MAX, format::Format,
    rules::UNICODE_VERSION,
};

use self::{
    counter::Counter, decode::TextReader, extract::Extractor, input::Input, visibility::Syntax,
};

/// The default for [`Options::unique_words_max`].
pub const UNIQUE_WORDS_MAX: usize = 2_000_000;

/// What is known about a document besides its bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hints<'a> {
    /// The value of the HTTP header Content-Type, parameters included.
    pub content_type: Option<&'a str>,
    /// The last label of the host's name, such as `jp`: a hint at the charset.
    pub host_tld: Option<&'a str>,
}

/// How to count.
#[derive(Clone, Debug)]
pub struct Options {
    /// The options of the job.
    pub job_options: options::Options,
    /// The most distinct words that a document may have. Each takes at most about 600 bytes of
    /// memory, and usually less than 200.
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

/// The words of a document, and everything needed to count them again.
#[derive(Clone, Debug)]
pub struct DocumentCount {
    /// The sums, by the rule and of the scope of the options.
    pub totals: Totals,
    /// The words of that scope by every rule, including words that the options leave out.
    pub totals_by_rule: BTreeMap<String, u64>,
    /// The words of the whole, `page`, and of the main content, `main`, by the rule of the options.
    pub totals_by_scope: BTreeMap<String, u64>,
    /// Every listed word, with its count.
    pub histogram: Histogram,
    /// The examples that the rules count differently, if the options ask for them.
    pub explanation: Option<Explanation>,
    /// The definition of a word by which the totals and the histogram were made.
    pub rule: Rule,
    /// How the document was read.
    pub format: Format,
    /// The content type in effect, in lower case and without parameters.
    pub content_type: String,
    /// The charset in effect, in lower case, named as the Encoding Standard does.
    pub charset: String,
    /// The source of the charset.
    pub charset_from: CharsetSource,
    /// The size of the document as given, in bytes.
    pub size_bytes: u64,
    /// The SHA-256 of the document as given, in hexadecimal.
    pub sha256: String,
}

/// Returns a rule as results name it: its version, and that of the Unicode data.
#[must_use]
pub fn rule(name: options::RuleName) -> Rule {
    rules::describe(name)
}

/// Why a document was not counted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither a page nor text.
    #[error("cannot count words in {kind}")]
    UnsupportedFormat {
        /// A content type, or a short description such as `binary data`.
        kind: String,
    },
    /// The document has more distinct words than [`Options::unique_words_max`].
    #[error("document has more than {limit} different words")]
    TooManyUniqueWords {
        /// The number that was exceeded.
        limit: usize,
    },
    /// The `watch` of [`count`] returned `false`.
    #[error("counting was interrupted")]
    Interrupted,
    /// The document could not be read to its end.
    #[error("cannot read document")]
    Read(#[source] io::Error),
}

/// Counts the words of one document.
///
/// Blocks while `reader` does, so the caller needs a blocking thread. `watch` is called after each
/// read with the bytes read so far, at least every 64 KiB; if it returns `false`, counting stops
/// with [`Error::Interrupted`].
pub fn count(
    reader: impl Read,
    hints: &Hints<'_>,
    options: &Options,
    watch: &impl Fn(u64) -> bool,
) -> Result<DocumentCount, Error> {
    let mut input = Input::new(reader, watch);
    let mut head = input.read_head()?;
    let (format, content_type) = format::detect_format(&head, hints.content_type)?;
    let charset = charset::detect_charset(&head, input.has_ended(), format, hints);
    head.drain(..charset.bom_bytes.min(head.len()));

    let mut text = TextReader::new(input, head, charset.encoding);
    let mut counter = Counter::new(options);
    match format {
        Format::Html => count_page(&mut text, Syntax::Html, &mut counter)?,
        Format::Xhtml => count_page(&mut text, Syntax::Xml, &mut counter)?,
        Format::Text => count_plain(&mut text, &mut counter)?,
    }
    let limit = options.unique_words_max;
    let text_count = counter.finish().ok_or(Error::TooManyUniqueWords { limit })?;
    let (size_bytes, sha256) = text.into_input().finish();
    Ok(DocumentCount {
        totals: text_count.totals,
        totals_by_rule: text_count.totals_by_rule,
        totals_by_scope: text_count.totals_by_scope,
        histogram: text_count.histogram,
        explanation: text_count.explanation,
        rule: rules::describe(options.job_options.rule),
        format,
        content_type,
        charset: charset.encoding.name().to_ascii_lowercase(),
        charset_from: charset.source,
        size_bytes,
        sha256,
    })
}

/// Counts the words of a plain text in memory, without decoding, hash and watch.
///
/// # Errors
/// [`Error::TooManyUniqueWords`].
pub fn count_text(text: &str, options: &Options) -> Result<TextCount, Error> {
    let mut counter = Counter::new(options);
    counter.add_plain(text);
    counter.finish().ok_or(Error::TooManyUniqueWords { limit: options.unique_words_max })
}

fn count_plain(text: &mut TextReader<'_, impl Read>, counter: &mut Counter) -> Result<(), Error> {
    while let Some(chunk) = text.next()? {
        counter.add_plain(chunk);
        if counter.is_full() {
            break;
        }
    }
    Ok(())
}

fn count_page(
    text: &mut TextReader<'_, impl Read>,
    syntax: Syntax,
    counter: &mut Counter,
) -> Result<(), Error> {
    let mut extractor = Extractor::new(syntax);
    while let Some(chunk) = text.next()? {
        extractor.push(chunk, counter);
        if counter.is_full() {
            break;
        }
    }
    extractor.end(counter);
    Ok(())
}

#[cfg(test)]
mod tests {
    use icu_properties::{CodePointMapData, props::GeneralCategory};
    use serde::Deserialize;

    use super::{random::Random, *};

    /// A reader that returns chunks of at most the given sizes, over and over.
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

    /// Decodes `\u{...}`, which stands for invisible characters.
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

    /// Reads "`word` ×2 `other`".
    fn parse_words(cell: &str) -> Histogram {
        let parts: Vec<_> = cell.split('`').collect();
        let pairs = parts[1..].chunks_exact(2);
        let words = pairs.map(|pair| {
            let times = pair[1].trim().strip_prefix('×');
            (unescape(pair[0]), times.map_or(1, |n| n.parse().unwrap()))
        });
        words.collect()
    }

    /// Reads the rows of the table that follows `header`.
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
    fn the_words_promised_to_readers_are_found() {
        let rows = parse_rows("| case | text | words |");
        assert!(rows.len() >= 28);
        for (case, text, words) in rows {
            let result = count_bytes(text.as_bytes(), "text/plain; charset=utf-8");
            assert_eq!(result.histogram, words, "{case}");
            assert_eq!(result.totals.words, words.total(), "{case}");
        }
    }

    #[test]
    fn the_totals_promised_to_readers_are_counted() {
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
    fn the_visible_text_promised_to_readers_is_found() {
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
    fn samples_give_the_counts_of_a_reader() {
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
    fn a_result_is_a_receipt() {
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
    fn nothing_has_no_words() {
        let result = count(io::empty(), &Hints::default(), &Options::default(), &|_| true);
        let result = result.unwrap();
        assert_eq!(result.totals, Totals::default());
        assert_eq!(
            result.sha256,
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }

    #[test]
    fn invalid_bytes_break_words() {
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
    fn the_watch_is_called_often_and_can_stop_a_count() {
        let calls = std::cell::RefCell::new(vec![0]);
        let watch = |bytes| {
            calls.borrow_mut().push(bytes);
            bytes < 300_000
        };
        for content_type in ["text/html", "text/plain"] {
            calls.replace(vec![0]);
            let endless = io::repeat(b'a');
            let result = count(endless, &hints(content_type), &Options::default(), &watch);
            assert!(matches!(result, Err(Error::Interrupted)));
            let calls = calls.borrow();
            assert!(calls.windows(2).all(|pair| pair[1] - pair[0] <= 65_536));
            assert!(*calls.last().unwrap() < 400_000);
        }
    }

    #[test]
    fn a_read_error_is_passed_on() {
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
    fn the_unicode_version_is_the_one_of_the_data() {
        // Both are unassigned in Unicode 17.
        let category = CodePointMapData::<GeneralCategory>::new();
        assert_eq!(category.get('\u{10ed9}'), GeneralCategory::OtherLetter);
        assert_eq!(category.get('\u{a7e2}'), GeneralCategory::UppercaseLetter);
        assert_eq!(UNICODE_VERSION, "18.0");
    }
}
