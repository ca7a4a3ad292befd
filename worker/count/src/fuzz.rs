//! Fuzz tests, which count damaged documents for a given time: `make fuzz`.
//!
//! Each target prints its seed, which reproduces a finding. It changes sample documents and parts
//! of pages at random, and asserts properties that hold for any bytes. A finding gets a test in the
//! module with the error.

use std::{
    collections::BTreeMap,
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
    tree::{
        html5lib::reason,
        reference::{show, words_of, words_of_reference},
    },
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
fn fuzz(name: &str, mut target: impl FnMut(&[u8], &mut Random)) {
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

/// Tags that determine which text is visible.
const TREE_PARTS: &[&str] = &[
    "<p>",
    "</p>",
    "<p hidden>",
    "<div>",
    "</div>",
    "<div hidden>",
    "<div style='visibility:hidden'>",
    "<div style='visibility:visible'>",
    "<section style='display:none'>",
    "</section>",
    "<span hidden>",
    "</span>",
    "<b>",
    "</b>",
    "<b hidden>",
    "<i>",
    "</i>",
    "<a hidden>",
    "<a>",
    "</a>",
    "<font color=red>",
    "</font>",
    "<nobr hidden>",
    "</nobr>",
    "<x-y hidden>",
    "</x-y>",
    "<ul>",
    "<li hidden>",
    "<li>",
    "</ul>",
    "<dl><dt hidden>",
    "<dd>",
    "</dl>",
    "<h1 hidden>",
    "<h2>",
    "</h3>",
    "<table>",
    "<table hidden>",
    "<caption hidden>",
    "<colgroup hidden>",
    "<col>",
    "<tbody hidden>",
    "<thead>",
    "<tr>",
    "<tr hidden>",
    "<td>",
    "<td hidden>",
    "<th>",
    "</td>",
    "</tr>",
    "</tbody>",
    "</table>",
    "<form hidden>",
    "<form>",
    "</form>",
    "<button hidden>",
    "</button>",
    "<object hidden>",
    "</object>",
    "<select hidden>",
    "<select>",
    "<option hidden>",
    "<option>",
    "<optgroup>",
    "</select>",
    "<input>",
    "<input type=hidden>",
    "<hr>",
    "<br>",
    "</br>",
    "<ruby>",
    "<rt hidden>",
    "<rp>",
    "<rb>",
    "<rtc>",
    "</ruby>",
    "<canvas id=c />",
    "</canvas>",
    "<video>",
    "</video>",
    "<audio controls>",
    "<progress>",
    "<iframe>",
    "</iframe>",
    "<textarea>",
    "</textarea>",
    "<title>",
    "</title>",
    "<template>",
    "</template>",
    "<svg>",
    "</svg>",
    "<svg><desc>",
    "<svg><title>",
    "<foreignObject>",
    "<foreignObject hidden>",
    "<math>",
    "</math>",
    "<math><mi>",
    "<mtext>",
    "<semantics>",
    "<annotation-xml encoding='text/html'>",
    "<annotation-xml>",
    "<mphantom>",
    "<script>",
    "</script>",
    "<noscript>",
    "</noscript>",
    "<html>",
    "<head>",
    "</head>",
    "<body>",
    "</body>",
    "</html>",
    "<main>",
    "<pre>",
    "<center>",
    "<marquee>",
    "</marquee>",
    "<details>",
    "<summary hidden>",
    "<fieldset><legend hidden>",
    "<datalist>",
    " word ",
    "word",
    " ",
];

/// Returns real pages: those of the samples, and those in the folder `FUZZ_PAGES`.
#[expect(clippy::disallowed_methods, reason = "the folder is not a setting of the service")]
fn real_pages() -> Vec<String> {
    let samples = SAMPLES.iter().filter_map(|sample| str::from_utf8(sample).ok());
    let mut pages: Vec<_> =
        samples.filter(|sample| sample.contains("<html")).map(str::to_owned).collect();
    let folder = std::env::var("FUZZ_PAGES").unwrap_or_default();
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let files = files.map(|file| file.path());
    let mut files: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|name| name == "html")).collect();
    files.sort();
    pages.extend(files.iter().flat_map(std::fs::read_to_string));
    pages
}

/// Damages a part of a page: removes, copies, moves and inserts tags.
fn damage(page: &str, random: &mut Random) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in page.split_inclusive('>') {
        let (text, tag) = part.split_at(part.find('<').unwrap_or(part.len()));
        parts.extend([text, tag].into_iter().filter(|part| !part.is_empty()));
    }
    let start = random.below(parts.len());
    let length = 1 + random.below(400);
    let mut parts = parts.into_iter().skip(start).take(length).collect::<Vec<_>>();
    for _ in 0..random.below(40) {
        let index = random.below(parts.len() + 1);
        match random.below(4) {
            0 if index < parts.len() => {
                parts.remove(index);
            }
            1 if index < parts.len() => {
                let part = parts[index];
                parts.insert(random.below(parts.len() + 1), part);
            }
            _ => parts.insert(index, TREE_PARTS[random.below(TREE_PARTS.len())]),
        }
    }
    parts.concat()
}

/// Removes the parts of a page that are not needed for a difference without a reason.
fn reduce(page: &str) -> String {
    let differs = |page: &str| {
        let (expected, moves) = words_of_reference(page);
        words_of(page) != expected && reason(moves).is_none()
    };
    let mut parts: Vec<&str> = page.split_inclusive(['>', ' ']).collect();
    let mut length = parts.len();
    while length > 0 {
        let mut index = 0;
        while index < parts.len() {
            let end = (index + length).min(parts.len());
            let rest = [&parts[..index], &parts[end..]].concat();
            if differs(&rest.concat()) {
                parts = rest;
            } else {
                index += length;
            }
        }
        length /= 2;
    }
    parts.concat()
}

#[test]
#[ignore = "runs for a given time: make fuzz"]
#[expect(clippy::print_stdout, reason = "prints the number of differences")]
fn any_page_has_the_words_of_its_tree() {
    let pages = real_pages();
    let mut differences = BTreeMap::<&str, u64>::new();
    let mut compared = 0_u64;
    fuzz("tree", |_, random| {
        let start = if random.below(2) == 0 { "<!DOCTYPE html>" } else { "" };
        let page = damage(&pages[random.below(pages.len())], random);
        let page = format!("{start}{page}");
        let (expected, moves) = words_of_reference(&page);
        let ours = words_of(&page);
        compared += 1;
        if ours != expected {
            let reason = reason(moves);
            if reason.is_none() {
                let page = reduce(&page);
                let (ours, expected) = (words_of(&page), words_of_reference(&page).0);
                panic!("{page:?}\n  ours {}\n  tree {}", show(&ours), show(&expected));
            }
            *differences.entry(reason.unwrap_or_default()).or_default() += 1;
        }
    });
    println!("{} real pages; {compared} compared, different: {differences:?}", pages.len());
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
