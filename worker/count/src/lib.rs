//! From the bytes of a document to its words.
//!
//! One pass and bounded memory: bytes are hashed, decoded, stripped of markup and cut into words as
//! they arrive, and only the table of different words grows. The result depends on the bytes and
//! the hints alone, never on how the bytes were cut on their way here.
//!
//! The rules are described for readers in `docs/counting.md`; tests here check that page.
//!
//! [`count`] takes anything that can be read and what is known about it; [`count_text`] takes a
//! text that is at hand:
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
//! The way of a byte: `input` reads, hashes and watches; `charset` and `format` decide from the
//! first bytes; `decode` makes text; for pages, `tokenizer` cuts it into tags and text, and `extract`
//! with `visibility`, `main_content` and `open_element` decides what of it is seen; `counter` counts
//! characters and white space for all rules at once and gives what is between boundaries to
//! `word_sink`, by a fast way for ASCII (`ascii`) or by UAX #29 (`segment`, with `dictionary` and
//! `cjk_segmenter` for scripts without spaces); `word_table` holds the words. Memory and
//! time for a document are bounded by [`Options::unique_words_max`] and constants beside the code
//! that they bound.

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
    /// What the client asked for.
    pub asked: options::Options,
    /// The most different words a document may have. More memory is not used for words than about
    /// 600 bytes for each, and usually below 200.
    pub unique_words_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { asked: options::Options::default(), unique_words_max: UNIQUE_WORDS_MAX }
    }
}

impl From<options::Options> for Options {
    fn from(asked: options::Options) -> Self {
        Self { asked, ..Self::default() }
    }
}

/// What was counted, and everything needed to count it again.
#[derive(Clone, Debug)]
pub struct DocumentCount {
    /// The sums, by the rule asked for and of the part asked for.
    pub totals: Totals,
    /// The words of that part by every rule, without regard to options that leave words out.
    pub totals_by_rule: BTreeMap<String, u64>,
    /// The words of the whole, `page`, and of the article, `main`, by the rule asked for.
    pub totals_by_scope: BTreeMap<String, u64>,
    /// Every word that is kept, with its count.
    pub histogram: Histogram,
    /// What the rules count differently, if the options ask for it.
    pub explanation: Option<Explanation>,
    /// The definition of a word that was used.
    pub rule: Rule,
    /// How the document was read.
    pub format: Format,
    /// The content type in effect, in lower case and without parameters.
    pub content_type: String,
    /// The charset in effect, in lower case, named as the Encoding Standard does.
    pub charset: String,
    /// What the charset was taken from.
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
    #[error("cannot count words in {found}")]
    UnsupportedFormat {
        /// A content type, or a few words, for what was found.
        found: String,
    },
    /// The document has more different words than [`Options::unique_words_max`].
    #[error("document has more than {limit} different words")]
    TooManyUniqueWords {
        /// The number that was exceeded.
        limit: usize,
    },
    /// The watch said stop.
    #[error("counting was interrupted")]
    Interrupted,
    /// The document could not be read to its end.
    #[error("cannot read document")]
    Read(#[source] io::Error),
}

/// Counts the words of one document.
///
/// Blocks while `reader` does: call it on a thread that may. `watch` is called after each read
/// with the bytes read so far, at least every 64 KiB; when it returns `false`, counting stops with
/// [`Error::Interrupted`].
pub fn count(
    reader: impl Read,
    hints: &Hints<'_>,
    options: &Options,
    watch: &impl Fn(u64) -> bool,
) -> Result<DocumentCount, Error> {
    let mut input = Input::new(reader, watch);
    let mut head = input.head()?;
    let (format, content_type) = format::find(&head, hints.content_type)?;
    let charset = charset::find(&head, input.has_ended(), format, hints);
    head.drain(..charset.bom_bytes.min(head.len()));

    let mut text = TextReader::new(input, head, charset.encoding);
    let mut tally = Counter::new(options);
    match format {
        Format::Html => count_page(&mut text, Syntax::Html, &mut tally)?,
        Format::Xhtml => count_page(&mut text, Syntax::Xml, &mut tally)?,
        Format::Text => count_plain(&mut text, &mut tally)?,
    }
    let limit = options.unique_words_max;
    let tallied = tally.finish().ok_or(Error::TooManyUniqueWords { limit })?;
    let (size_bytes, sha256) = text.into_input().finish();
    Ok(DocumentCount {
        totals: tallied.totals,
        totals_by_rule: tallied.totals_by_rule,
        totals_by_scope: tallied.totals_by_scope,
        histogram: tallied.histogram,
        explanation: tallied.explanation,
        rule: rules::describe(options.asked.rule),
        format,
        content_type,
        charset: charset.encoding.name().to_ascii_lowercase(),
        charset_from: charset.source,
        size_bytes,
        sha256,
    })
}

/// Counts the words of a plain text that is at hand: nothing is decoded, hashed or watched.
///
/// # Errors
/// [`Error::TooManyUniqueWords`].
pub fn count_text(text: &str, options: &Options) -> Result<TextCount, Error> {
    let mut tally = Counter::new(options);
    tally.add_plain(text);
    tally.finish().ok_or(Error::TooManyUniqueWords { limit: options.unique_words_max })
}

fn count_plain(text: &mut TextReader<'_, impl Read>, tally: &mut Counter) -> Result<(), Error> {
    while let Some(piece) = text.next()? {
        tally.add_plain(piece);
        if tally.is_full() {
            break;
        }
    }
    Ok(())
}

fn count_page(
    text: &mut TextReader<'_, impl Read>,
    syntax: Syntax,
    tally: &mut Counter,
) -> Result<(), Error> {
    let mut extractor = Extractor::new(syntax);
    while let Some(piece) = text.next()? {
        extractor.push(piece, tally);
        if tally.is_full() {
            break;
        }
    }
    extractor.end(tally);
    Ok(())
}

#[cfg(test)]
mod tests {
    use icu_properties::{CodePointMapData, props::GeneralCategory};
    use serde::Deserialize;

    use super::{random::Random, *};

    /// Gives its bytes in pieces of at most the given sizes, over and over.
    struct Pieces<'a> {
        bytes: &'a [u8],
        sizes: Vec<usize>,
        turn: usize,
    }

    impl Read for Pieces<'_> {
        fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
            let size = self.sizes[self.turn % self.sizes.len()];
            self.turn += 1;
            let size = size.min(space.len());
            self.bytes.read(&mut space[..size])
        }
    }

    fn hints(content_type: &str) -> Hints<'_> {
        Hints { content_type: Some(content_type), host_tld: None }
    }

    fn counted(bytes: &[u8], content_type: &str) -> DocumentCount {
        let options = Options::default();
        count(bytes, &hints(content_type), &options, &|_| true).unwrap()
    }

    fn summary(counted: &DocumentCount) -> String {
        format!("{counted:?}")
    }

    /// Decodes `\u{...}`, which stands for characters that cannot be seen.
    fn unescaped(text: &str) -> String {
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
    fn listed(cell: &str) -> Histogram {
        let parts: Vec<_> = cell.split('`').collect();
        let pairs = parts[1..].chunks_exact(2);
        let words = pairs.map(|pair| {
            let times = pair[1].trim().strip_prefix('×');
            (unescaped(pair[0]), times.map_or(1, |n| n.parse().unwrap()))
        });
        words.collect()
    }

    /// Reads the rows of the table that follows `header`.
    fn rows(header: &str) -> Vec<(&'static str, String, Histogram)> {
        let page = include_str!("../../../docs/counting.md");
        let (_, table) = page.split_once(header).unwrap();
        let lines = table.trim_start().lines().skip(1);
        let rows = lines.take_while(|line| line.starts_with('|')).map(|line| {
            let cells: Vec<_> = line.split('|').collect();
            assert_eq!(cells.len(), 5, "{line}");
            let text = cells[2].trim().trim_matches('`');
            (cells[1].trim(), unescaped(text), listed(cells[3]))
        });
        rows.collect()
    }

    #[test]
    fn the_words_promised_to_readers_are_found() {
        let rows = rows("| case | text | words |");
        assert!(rows.len() >= 28);
        for (case, text, words) in rows {
            let counted = counted(text.as_bytes(), "text/plain; charset=utf-8");
            assert_eq!(counted.histogram, words, "{case}");
            assert_eq!(counted.totals.words, words.total(), "{case}");
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
            let text = unescaped(row[2].trim_matches('`'));
            let by_rule = counted(text.as_bytes(), "text/plain; charset=utf-8").totals_by_rule;
            for (rule, words) in ["unicode", "whitespace", "office", "gmx"].iter().zip(&row[3..]) {
                assert_eq!(by_rule[*rule].to_string(), *words, "{} by {rule}", row[1]);
            }
        }
    }

    #[test]
    fn the_visible_text_promised_to_readers_is_found() {
        let rows = rows("| case | page | words |");
        assert!(rows.len() >= 28);
        for (case, page, words) in rows {
            let counted = counted(page.as_bytes(), "text/html; charset=utf-8");
            assert_eq!(counted.histogram, words, "{case}");
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
    fn samples_give_what_a_reader_counts() {
        for (name, bytes, expected) in SAMPLES {
            let expected: Expected = serde_json::from_str(expected).unwrap();
            let counted = count(bytes, &Hints::default(), &Options::default(), &|_| true).unwrap();
            assert_eq!(counted.histogram, expected.word_count, "{name}");
            assert_eq!(counted.totals, expected.totals, "{name}");
            assert_eq!(counted.charset, expected.charset, "{name}");
            assert_eq!(counted.size_bytes, u64::try_from(bytes.len()).unwrap(), "{name}");
        }
    }

    #[test]
    fn pieces_do_not_change_the_result() {
        let mut random = Random::new(7);
        let in_utf_8 = SAMPLES.iter().filter(|(name, ..)| !name.contains("utf16"));
        let long: Vec<_> = in_utf_8.map(|(_, bytes, _)| *bytes).collect();
        let long = long.concat().repeat(20);
        let mut documents: Vec<&[u8]> = SAMPLES.map(|(_, bytes, _)| bytes).to_vec();
        documents.push(&long);
        for bytes in documents {
            for content_type in ["text/html", "text/plain", "application/xhtml+xml"] {
                let content_type = format!("{content_type}; charset=utf-8");
                let whole = summary(&counted(bytes, &content_type));
                let sizes: Vec<_> = (0..50).map(|_| 1 + random.below(5000)).collect();
                for sizes in [vec![1], vec![2, 3, 1], vec![16_384, 1, 4096], sizes] {
                    let pieces = Pieces { bytes, sizes, turn: 0 };
                    let options = Options::default();
                    let cut = count(pieces, &hints(&content_type), &options, &|_| true).unwrap();
                    assert_eq!(summary(&cut), whole);
                }
            }
        }
    }

    #[test]
    fn random_pages_do_not_depend_on_pieces() {
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
                let pieces = Pieces { bytes: page.as_bytes(), sizes: vec![1, 1, 3], turn: 0 };
                let options = Options::default();
                let Ok(cut) = count(pieces, &hints(content_type), &options, &|_| true) else {
                    continue;
                };
                let whole = counted(page.as_bytes(), content_type);
                assert_eq!(summary(&cut), summary(&whole), "{page:?}");
            }
        }
    }

    #[test]
    fn a_result_is_a_receipt() {
        let counted = counted(b"\xef\xbb\xbfa mill", "Text/HTML; charset=koi8-r");
        assert_eq!(counted.content_type, "text/html");
        assert_eq!(counted.charset, "utf-8");
        assert_eq!(counted.charset_from, CharsetSource::Bom);
        assert_eq!(counted.size_bytes, 9);
        assert_eq!(counted.totals.characters, 6);
        assert_eq!(
            counted.sha256,
            "fb860e341793fb2b5c44dce41739ab7677d1806ad013d972926b7d13dda6683b"
        );
    }

    #[test]
    fn nothing_has_no_words() {
        let counted = count(io::empty(), &Hints::default(), &Options::default(), &|_| true);
        let counted = counted.unwrap();
        assert_eq!(counted.totals, Totals::default());
        assert_eq!(
            counted.sha256,
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }

    #[test]
    fn invalid_bytes_break_words() {
        let counted = counted(b"mi\xffll \xc3", "text/plain; charset=utf-8");
        assert_eq!(counted.histogram, [("mi", 1), ("ll", 1)].into_iter().collect());
        assert_eq!(counted.totals.characters, 7);
    }

    #[test]
    fn too_many_different_words_are_refused() {
        let options = Options { unique_words_max: 3, ..Options::default() };
        for content_type in ["text/html", "text/plain"] {
            let hints = hints(content_type);
            assert!(count(b"a b c a".as_slice(), &hints, &options, &|_| true).is_ok());
            let refused = count(b"a b c d".as_slice(), &hints, &options, &|_| true);
            assert!(matches!(refused, Err(Error::TooManyUniqueWords { limit: 3 })));
        }
    }

    #[test]
    fn the_watch_is_called_often_and_obeyed() {
        let calls = std::cell::RefCell::new(vec![0]);
        let watch = |bytes| {
            calls.borrow_mut().push(bytes);
            bytes < 300_000
        };
        for content_type in ["text/html", "text/plain"] {
            calls.replace(vec![0]);
            let endless = io::repeat(b'a');
            let stopped = count(endless, &hints(content_type), &Options::default(), &watch);
            assert!(matches!(stopped, Err(Error::Interrupted)));
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
            let failed = count(reader, &hints(content_type), &Options::default(), &|_| true);
            let Err(Error::Read(error)) = failed else {
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
