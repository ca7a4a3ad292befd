//! Damaged documents, one after the other, for as long as wanted: `make fuzz`.
//!
//! Each target starts from a seed, which is printed, so that what it finds can be found again. It
//! changes our sample documents and parts of pages at random and states what has to hold for any
//! bytes. What it has found is a test of its own elsewhere.

use std::{
    io::{self, Read},
    time::{Duration, Instant, SystemTime},
};

use wordmill_common::options::{self, RuleName};

use super::{
    Error, Hints, Options, charset,
    decode::TextReader,
    format::Format,
    input::Input,
    random::Random,
    tokenizer::tests::{PARTS, check},
    visibility::Syntax,
};

const SAMPLES: &[&[u8]] = &[
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

/// Bytes that decoders and boundary rules take special care of.
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

const TYPES: &[&str] = &["text/html", "application/xhtml+xml", "text/plain", "", "text/xml"];

/// Runs `target` on new documents until the time is up: `FUZZ_SECONDS` from the environment.
#[expect(clippy::disallowed_methods, reason = "how long to look is no setting of the service")]
#[expect(clippy::print_stdout, reason = "the seed is what a finding is found again with")]
fn fuzz(name: &str, mut target: impl FnMut(&[u8], &mut Random)) {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse().ok());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let seed = number("FUZZ_SEED").unwrap_or(now.as_secs());
    let limit = Duration::from_secs(number("FUZZ_SECONDS").unwrap_or(10));
    println!("{name}: FUZZ_SEED={seed}, {limit:?}");
    let mut random = Random::new(seed);
    let (begun, mut documents, mut bytes) = (Instant::now(), 0_u64, 0);
    while begun.elapsed() < limit {
        let document = document(&mut random);
        documents += 1;
        bytes += document.len();
        target(&document, &mut random);
    }
    println!("{name}: {documents} documents, {bytes} bytes");
}

fn document(random: &mut Random) -> Vec<u8> {
    let mut document = Vec::new();
    if random.below(3) > 0 {
        let sample = SAMPLES[random.below(SAMPLES.len())];
        let start = random.below(sample.len());
        let end = start + random.below(sample.len() - start);
        document.extend_from_slice(if random.below(2) == 0 { sample } else { &sample[start..end] });
    }
    for _ in 0..1 + random.below(24) {
        let at = random.below(document.len() + 1);
        match random.below(7) {
            0 | 1 => insert(&mut document, at, PARTS[random.below(PARTS.len())].as_bytes()),
            2 => insert(&mut document, at, BYTES[random.below(BYTES.len())]),
            3 => {
                let part = PARTS[random.below(PARTS.len())].repeat(1 + random.below(200));
                insert(&mut document, at, part.as_bytes());
            }
            4 => document.truncate(at.max(1)),
            5 if at < document.len() => document[at] = u8::try_from(random.below(256)).unwrap(),
            _ => {
                let end = at + random.below(document.len() - at + 1);
                let piece = document[at..end].to_vec();
                let to = random.below(document.len() + 1);
                insert(&mut document, to, &piece);
            }
        }
    }
    document
}

fn insert(document: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    let tail = document.split_off(at);
    document.extend_from_slice(bytes);
    document.extend(tail);
}

fn seed(random: &mut Random) -> u64 {
    u64::try_from(random.below(1 << 30)).unwrap()
}

/// Gives its bytes in pieces of random sizes.
struct Pieces<'a> {
    bytes: &'a [u8],
    random: Random,
}

impl Read for Pieces<'_> {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        let size = (1 + self.random.below(40)).min(space.len());
        self.bytes.read(&mut space[..size])
    }
}

fn content_type(random: &mut Random) -> String {
    let (kind, charset) =
        (TYPES[random.below(TYPES.len())], CHARSETS[random.below(CHARSETS.len())]);
    if charset.is_empty() { kind.to_owned() } else { format!("{kind}; charset={charset}") }
}

/// Decodes as a whole and in pieces.
fn decoded(reader: impl Read, hints: &Hints<'_>) -> String {
    let mut input = Input::new(reader, &|_| true);
    let mut head = input.head().unwrap();
    let charset = charset::find(&head, input.has_ended(), Format::Html, hints);
    head.drain(..charset.bom_bytes);
    let mut decoded = TextReader::new(input, head, charset.encoding);
    let mut text = String::new();
    while let Some(piece) = decoded.next().unwrap() {
        assert!(!piece.is_empty());
        text.push_str(piece);
    }
    text
}

#[test]
#[ignore = "takes as long as it is given: make fuzz"]
fn any_bytes_decode_alike_in_any_pieces() {
    fuzz("decoder", |bytes, random| {
        let content_type = content_type(random);
        let hints = Hints { content_type: Some(&content_type), host_tld: Some("jp") };
        let whole = decoded(bytes, &hints);
        let pieces = Pieces { bytes, random: Random::new(seed(random)) };
        assert_eq!(decoded(pieces, &hints), whole, "{content_type} {}", bytes.escape_ascii());
        // No charset turns a byte into more than two characters.
        assert!(whole.len() <= bytes.len() * 6 + 6, "{content_type}");
    });
}

#[test]
#[ignore = "takes as long as it is given: make fuzz"]
fn any_page_is_read_as_by_html5gum() {
    fuzz("extractor", |bytes, random| {
        let page = String::from_utf8_lossy(bytes);
        let syntax = if random.below(4) == 0 { Syntax::Xml } else { Syntax::Html };
        check(&page, syntax, random);
    });
}

#[test]
#[ignore = "takes as long as it is given: make fuzz"]
fn any_document_is_counted_alike_in_any_pieces() {
    fuzz("fusion", |bytes, random| {
        let content_type = content_type(random);
        let hints = Hints { content_type: Some(&content_type), host_tld: None };
        let options = Options::default();
        let whole = super::count(bytes, &hints, &options, &|_| true);
        let pieces = Pieces { bytes, random: Random::new(seed(random)) };
        let cut = super::count(pieces, &hints, &options, &|_| true);
        assert_eq!(
            format!("{cut:?}"),
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
            Err(Error::UnsupportedFormat { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    });
}

#[test]
#[ignore = "takes as long as it is given: make fuzz"]
fn any_text_is_counted_alike_by_both_ways() {
    fuzz("counter", |bytes, random| {
        let text = String::from_utf8_lossy(bytes);
        let rule = RuleName::ALL[random.below(RuleName::ALL.len())];
        let options = |explain| {
            Options::from(options::Options { rule, explain, ..options::Options::default() })
        };
        let fast = super::count_text(&text, &options(false)).unwrap();
        // What is explained goes the careful way throughout.
        let mut careful = super::count_text(&text, &options(true)).unwrap();
        assert!(careful.explanation.take().is_some());
        assert_eq!(fast, careful, "{rule:?} {text:?}");
        assert_eq!(fast.totals.words, fast.totals_by_rule[rule.as_str()]);
    });
}
