//! Fuzz tests, which count damaged documents for a given time: `make fuzz`.
//!
//! Each target prints its seed, which reproduces a finding. It changes sample documents and parts
//! of pages at random, and asserts properties that hold for any bytes. A finding gets a test in the
//! module with the error.

use std::{
    io::{self, Read},
    time::{Duration, Instant, SystemTime},
};

use wordmill_common::options::{self, RuleName};

use super::{
    Error, Hints, Options,
    decode::TextReader,
    format::Format,
    input::Input,
    random::Random,
    tokenizer::{
        Syntax,
        tests::{PARTS, check},
    },
};

pub(super) const SAMPLES: &[&[u8]] = &[
    include_bytes!("../../../docs/samples/arabic.txt"),
    include_bytes!("../../../docs/samples/chinese.txt"),
    include_bytes!("../../../docs/samples/english.html"),
    include_bytes!("../../../docs/samples/german.html"),
    include_bytes!("../../../docs/samples/hebrew.html"),
    include_bytes!("../../../docs/samples/japanese.html"),
    include_bytes!("../../../docs/samples/russian-1251.html"),
    include_bytes!("../../../docs/samples/thai.txt"),
    include_bytes!("../../../docs/samples/turkish-utf16.txt"),
];

/// Special cases of decoders and boundary rules.
const BYTES: &[&[u8]] = &[
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\xfe\xff",
    b"\xff",
    b"\xc3",
    b"\xe2\x80",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xf0\x9f\x98\x80",
    b"\x1b$B",
    b"\x1b(B",
    b"<meta charset=koi8-r>",
    b"<meta http-equiv=content-type content='text/html; charset=euc-jp'>",
    b"<?xml version='1.0' encoding='shift_jis'?>",
    b"\x81\x30\x81\x30",
    b"\0",
    b"\x00\xd8",
    b"\xcc\x81",
    b"\xc2\xad",
    b"\xe2\x80\x8d",
    b"\xe2\x80\x99",
    b"\xd7\x90\"",
    b"\xe0\xb8\x81",
    b"\xe6\xb0\xb4",
    b"a",
    b"'",
    b".",
    b":",
    b",",
    b"1",
    b" ",
    b"\r\n",
];

const CHARSETS: &[&str] = &[
    "",
    "utf-8",
    "utf-16le",
    "utf-16be",
    "windows-1252",
    "koi8-r",
    "shift_jis",
    "euc-jp",
    "iso-2022-jp",
    "gb18030",
    "big5",
    "euc-kr",
    "x-user-defined",
    "replacement",
    "nonsense",
];

const CONTENT_TYPES: &[&str] =
    &["text/html", "application/xhtml+xml", "text/plain", "", "text/xml"];

/// Runs `target` on new documents for `FUZZ_SECONDS` from the environment, 10 by default.
#[expect(clippy::disallowed_methods, reason = "the duration is not a setting of the service")]
#[expect(clippy::print_stdout, reason = "the seed reproduces a finding")]
pub(super) fn fuzz(name: &str, mut target: impl FnMut(&[u8], &mut Random)) {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse().ok());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let seed = number("FUZZ_SEED").unwrap_or(now.as_secs());
    let limit = Duration::from_secs(number("FUZZ_SECONDS").unwrap_or(10));
    println!("{name}: FUZZ_SEED={seed}, {limit:?}");
    let mut random = Random::new(seed);
    let start = Instant::now();
    let mut documents = 0_u64;
    let mut bytes = 0;
    while start.elapsed() < limit {
        let document = random_document(&mut random);
        documents += 1;
        bytes += document.len();
        target(&document, &mut random);
    }
    println!("{name}: {documents} documents, {bytes} bytes");
}

fn random_document(random: &mut Random) -> Vec<u8> {
    let mut document = Vec::new();
    if random.below(3) > 0 {
        let sample = SAMPLES[random.below(SAMPLES.len())];
        let start = random.below(sample.len());
        let end = start + random.below(sample.len() - start);
        document.extend_from_slice(if random.below(2) == 0 { sample } else { &sample[start..end] });
    }
    for _ in 0..1 + random.below(24) {
        let index = random.below(document.len() + 1);
        match random.below(7) {
            0 | 1 => insert(&mut document, index, PARTS[random.below(PARTS.len())].as_bytes()),
            2 => insert(&mut document, index, BYTES[random.below(BYTES.len())]),
            3 => {
                let part = PARTS[random.below(PARTS.len())].repeat(1 + random.below(200));
                insert(&mut document, index, part.as_bytes());
            }
            4 => document.truncate(index.max(1)),
            5 if index < document.len() => {
                document[index] = u8::try_from(random.below(256)).unwrap();
            }
            _ => {
                let end = index + random.below(document.len() - index + 1);
                let copy = document[index..end].to_vec();
                let target = random.below(document.len() + 1);
                insert(&mut document, target, &copy);
            }
        }
    }
    document
}

/// Adds ASCII before some of the documents: more than the bytes that decide the charset.
fn with_long_start(document: &[u8], random: &mut Random) -> Vec<u8> {
    const STARTS: &[&str] = &["a mill ", "<script>a</script>", "<p>", "\x1b[0m", "\0"];
    let mut long = Vec::new();
    if random.below(4) == 0 {
        let part = STARTS[random.below(STARTS.len())].as_bytes();
        long = part.repeat(random.below(100_000) / part.len());
    }
    long.extend_from_slice(document);
    long
}

fn insert(document: &mut Vec<u8>, index: usize, bytes: &[u8]) {
    let tail = document.split_off(index);
    document.extend_from_slice(bytes);
    document.extend(tail);
}

fn random_seed(random: &mut Random) -> u64 {
    u64::try_from(random.below(1 << 30)).unwrap()
}

/// Reader that returns chunks of random sizes.
struct ChunkReader<'a> {
    bytes: &'a [u8],
    random: Random,
}

impl Read for ChunkReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let size = (1 + self.random.below(40)).min(buffer.len());
        self.bytes.read(&mut buffer[..size])
    }
}

fn random_content_type(random: &mut Random) -> String {
    let media_type = CONTENT_TYPES[random.below(CONTENT_TYPES.len())];
    let charset = CHARSETS[random.below(CHARSETS.len())];
    if charset.is_empty() {
        media_type.to_owned()
    } else {
        format!("{media_type}; charset={charset}")
    }
}

/// Decodes all bytes of a reader. Returns the text, and how it was decoded.
fn decode(reader: impl Read, format: Format, hints: &Hints<'_>) -> (String, String) {
    let mut input = Input::new(reader, &|_| true);
    let head = input.read_head().unwrap();
    let mut text_reader = TextReader::new(input, head, format, hints);
    let mut text = String::new();
    while let Some(chunk) = text_reader.next().unwrap() {
        assert!(!chunk.is_empty());
        text.push_str(chunk);
    }
    let source = text_reader.finish();
    (text, format!("{:?} {:?} {:?}", source.charset, source.contradiction, source.invalid))
}

#[test]
#[ignore = "runs for a given time: make fuzz"]
fn decoding_does_not_depend_on_chunks() {
    fuzz("decoder", |bytes, random| {
        let bytes = with_long_start(bytes, random);
        let bytes = bytes.as_slice();
        let content_type = random_content_type(random);
        let hints = Hints { content_type: Some(&content_type), host_tld: Some("jp") };
        let format = [Format::Html, Format::Xhtml, Format::Text][random.below(3)];
        let whole = decode(bytes, format, &hints);
        let reader = ChunkReader { bytes, random: Random::new(random_seed(random)) };
        let chunked = decode(reader, format, &hints);
        assert_eq!(chunked, whole, "{content_type} {format} {}", bytes.escape_ascii());
        // No charset decodes a byte to more than two characters.
        assert!(whole.0.len() <= bytes.len() * 6 + 6, "{content_type}");
    });
}

#[test]
#[ignore = "runs for a given time: make fuzz"]
fn any_page_matches_html5gum() {
    fuzz("extractor", |bytes, random| {
        let page = String::from_utf8_lossy(bytes);
        let syntax = if random.below(4) == 0 { Syntax::Xml } else { Syntax::Html };
        check(&page, syntax, random);
    });
}

#[test]
#[ignore = "runs for a given time: make fuzz"]
fn counting_does_not_depend_on_chunks() {
    fuzz("document", |bytes, random| {
        let content_type = random_content_type(random);
        let hints = Hints { content_type: Some(&content_type), host_tld: None };
        let options = Options::default();
        let whole = super::count(bytes, &hints, &options, &|_| true);
        let reader = ChunkReader { bytes, random: Random::new(random_seed(random)) };
        let chunked = super::count(reader, &hints, &options, &|_| true);
        assert_eq!(
            format!("{chunked:?}"),
            format!("{whole:?}"),
            "{content_type} {}",
            bytes.escape_ascii()
        );
        match whole {
            Ok(counted) => {
                let listed = counted.histogram.total() + counted.totals.overlong_words;
                assert_eq!(listed, counted.totals.words);
                assert_eq!(counted.totals_by_scope["page"], counted.totals.words);
                assert!(counted.totals_by_scope["main"] <= counted.totals.words);
                assert!(counted.totals.characters_no_spaces <= counted.totals.characters);
            }
            Err(Error::UnsupportedFormat { .. } | Error::Entity(_)) => {}
            Err(error) => panic!("{error}"),
        }
    });
}

#[test]
#[ignore = "runs for a given time: make fuzz"]
fn fast_path_and_slow_path_agree_on_any_text() {
    fuzz("counter", |bytes, random| {
        let text = String::from_utf8_lossy(bytes);
        let rule = RuleName::ALL[random.below(RuleName::ALL.len())];
        let options = |explain| {
            Options::from(options::Options { rule, explain, ..options::Options::default() })
        };
        let fast = super::count_text(&text, &options(false)).unwrap();
        // An explained text takes the slow path throughout.
        let mut slow = super::count_text(&text, &options(true)).unwrap();
        assert!(slow.explanation.take().is_some());
        assert_eq!(fast, slow, "{rule:?} {text:?}");
        assert_eq!(fast.totals.words, fast.totals_by_rule[rule.as_str()]);
    });
}
