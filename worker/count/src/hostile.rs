//! Tests with documents that are designed to be slow, and with bytes that are not text.
//!
//! The time for a document grows linearly with its size. The tests compare two documents, the
//! second of which is 16 times as large. With quadratic time, it would take 256 times as long.

use rustix::time::{ClockId, clock_gettime};
use wordmill_common::{histogram::Histogram, options};

use super::*;

/// Size of the small document in bytes, and the factor to the size of the large one.
const SMALL_BYTES: usize = 50_000;
const SIZE_FACTOR: usize = 16;
/// Maximum ratio of the two times: the geometric mean of 16 (linear) and 256 (quadratic). Caches
/// and other virtual machines on the same host disturb single measurements.
const TIME_FACTOR_MAX: u64 = 64;
/// Maximum number of measurements. Noise affects some of them, quadratic time all.
const TRIES_MAX: usize = 5;

/// Returns the CPU time of this thread, in nanoseconds.
fn cpu_time() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    u64::try_from(time.tv_sec * 1_000_000_000 + time.tv_nsec).unwrap()
}

/// Asserts that `work` takes linear time for documents that repeat `part` after `start`.
fn assert_linear(name: &str, start: &[u8], part: &[u8], work: impl Fn(&[u8])) {
    let document = |bytes: usize| {
        let mut document = start.to_vec();
        document.extend(part.iter().cycle().take(bytes / part.len() * part.len()));
        document
    };
    let small = document(SMALL_BYTES);
    let large = document(SMALL_BYTES * SIZE_FACTOR);
    let time = |document: &[u8]| {
        let start = cpu_time();
        work(document);
        cpu_time() - start
    };
    // The first run also initializes tables.
    work(&small);
    let mut times = Vec::new();
    for _ in 0..TRIES_MAX {
        let small_time = time(&small);
        let large_time = time(&large);
        if large_time < small_time * TIME_FACTOR_MAX {
            return;
        }
        times.push((small_time, large_time));
    }
    panic!("{name}, in nanoseconds: {times:?}");
}

fn count_bytes(bytes: &[u8], content_type: &str, job_options: &options::Options) -> DocumentCount {
    let hints = Hints { content_type: Some(content_type), host_tld: None };
    count(bytes, &hints, &Options::from(job_options.clone()), &|_| true).unwrap()
}

/// The start of a page, and the part that is repeated after it.
const PAGES: &[(&str, &str)] = &[
    ("", "<div>"),
    ("", "<p hidden>"),
    ("", "<div hidden>"),
    ("", "<ul><li hidden>"),
    ("", "</p>"),
    ("", "<!--"),
    ("", "<!-->"),
    ("<!--", "-"),
    ("<!--", "--!"),
    ("", "<"),
    ("", "</"),
    ("", "<main>"),
    ("", "<nav><main>"),
    ("", "&"),
    ("", "&#"),
    ("&#", "1"),
    ("&", "a"),
    ("<a ", "a "),
    ("<a ", "a=1 "),
    ("<a ", "hidden "),
    ("<a b=\"", "&amp"),
    ("<a style=\"", "display:"),
    ("<", "a"),
    ("<script>", "<!--<script>"),
    ("<script></", "a"),
    ("<script><!--<", "s"),
    ("<title>", "</titl"),
    ("<svg>", "<![CDATA["),
    ("<svg>", "<svg>"),
    ("<svg><![CDATA[", "]"),
    ("", "<font size=1>"),
    ("", "<table><tr><td>"),
    ("", "\0<p>a mill by the river</p><p>a mill by the river</p>"),
    ("", "<select><option hidden>"),
    ("<!doctype ", "x "),
    ("<plaintext>", "<a>"),
    ("<x y=", "&lt"),
    ("", "<b><p>"),
    ("", "<b hidden><i><font><u></b></i>"),
    ("", "<a><div>"),
    ("", "<p><b><i></p>"),
    ("", "<object></p>"),
    ("", "<x-y></span>"),
    ("", "<table><td><b>"),
    ("<table>", "<b>x<tr>"),
    ("<table>", "<a><i>"),
    ("", "<form><div></form>"),
    ("", "<select><option><optgroup>"),
    ("", "<svg><desc><li>"),
    ("", "<math><mi><annotation-xml>"),
    ("", "<template>"),
    ("", "<ruby><rt><rp>"),
    ("", "</b>"),
    ("<!DOCTYPE html [", "<!ELEMENT a ANY>"),
    ("<!DOCTYPE html [<!ENTITY a 'b'>]>", "&a;&"),
    ("<a xmlns:b='c'>", "<b:d xmlns:b='e'>"),
    ("<a ", "xmlns:b='c' "),
    ("", "<meta charset=koi8-r>"),
    ("<meta content='", "charset"),
    ("<script>", "c...s.t "),
];

/// The name and the repeated part of a text.
const TEXTS: &[(&str, &str)] = &[
    ("one word", "a"),
    ("one wide word", "я"),
    ("marks", "\u{301}"),
    ("a sign between letters", "a'"),
    ("signs", "'"),
    ("connectors", "_"),
    ("joiners", "\u{200d}"),
    ("pictographs", "❤\u{200d}"),
    ("flags", "🇩"),
    ("Han", "水"),
    ("Kana", "アー"),
    ("Kana signs", "あ゛"),
    ("half-width Kana", "ｶﾞ"),
    ("Thai", "ก"),
    ("unknown Thai", "ฌ"),
    ("Thai marks", "ก\u{e48}"),
    ("Khmer", "ក្"),
    ("Burmese", "မြ"),
    ("Lao", "ແທ"),
    ("Tai Le", "ᥖ"),
    ("jamo", "\u{1100}\u{1161}\u{11a8}"),
];

/// A charset, and bytes that are difficult for its decoder.
const CHARSETS: &[(&str, &[u8])] = &[
    ("utf-8", b"\xff"),
    ("utf-8", b"\xf0\x9f\x98"),
    ("utf-8", b"\xed\xa0\x80"),
    ("utf-16le", b"\x00\xd8"),
    ("utf-16be", b"\xdc\x00"),
    ("gb18030", b"\x81\x30\x81"),
    ("big5", b"\x81"),
    ("euc-jp", b"\x8f\xa1"),
    ("shift_jis", b"\x81\x3f"),
    ("iso-2022-jp", b"\x1b$B\x1b(B"),
    ("iso-2022-jp", b"\x1b"),
    ("euc-kr", b"\xa1"),
    ("windows-1252", b"\x81"),
    ("replacement", b"a"),
    ("", b"\xe4 "),
    ("", b"\x1b"),
    ("", b"a\0"),
    ("", b"\x34\x6c "),
];

#[test]
#[should_panic(expected = "in nanoseconds")]
fn quadratic_time_is_detected() {
    assert_linear("reads the whole document every 5,000 bytes", b"", b"a", |document| {
        for _ in document.chunks(5000) {
            std::hint::black_box(document.iter().filter(|byte| **byte == b'b').count());
        }
    });
}

#[test]
fn hostile_pages_take_linear_time() {
    for (start, part) in PAGES {
        for content_type in ["text/html; charset=utf-8", "application/xhtml+xml; charset=utf-8"] {
            let name = format!("{start}{part} as {content_type}");
            assert_linear(&name, start.as_bytes(), part.as_bytes(), |page| {
                count_bytes(page, content_type, &options::Options::default());
            });
        }
    }
}

#[test]
fn hostile_text_takes_linear_time() {
    for (name, part) in TEXTS {
        for content_type in ["text/plain; charset=utf-8", "text/html; charset=utf-8"] {
            for explain in [false, true] {
                let job_options = options::Options { explain, ..options::Options::default() };
                assert_linear(name, b"", part.as_bytes(), |text| {
                    count_bytes(text, content_type, &job_options);
                });
            }
        }
    }
}

#[test]
fn hostile_bytes_take_linear_time() {
    for (charset, part) in CHARSETS {
        let content_type = format!("text/plain; charset={charset}");
        let name = format!("{charset} {}", part.escape_ascii());
        assert_linear(&name, b"", part, |bytes| {
            count_bytes(bytes, &content_type, &options::Options::default());
        });
    }
}

#[test]
fn hostile_documents_are_counted_correctly() {
    let html = "text/html; charset=utf-8";
    let deep = format!("{}a{}b", "<div><b>".repeat(100_000), "</b></div>".repeat(100_000));
    let attributes: String = (0..100_000).map(|i| format!("a{i}=1 ")).collect();
    let attributes = format!("<p {attributes} hidden>x</p>a<p {attributes}>b");
    let comment = format!("a<!--{}-->b", "-".repeat(1_000_000));
    for (page, words) in [
        (deep, [("a", 1), ("b", 1)].as_slice()),
        (attributes, &[("a", 1), ("b", 1)]),
        (comment, &[("ab", 1)]),
        // An overlong name is not a character reference, and an overlong number becomes U+FFFD.
        (format!("a &{};b", "b".repeat(1_000_000)), &[("a", 1), ("b", 1)]),
        (format!("a &#{};b", "1".repeat(1_000_000)), &[("a", 1), ("b", 1)]),
        // An unclosed tag is not text.
        (format!("a <b {}", "c ".repeat(500_000)), &[("a", 1)]),
    ] {
        let result = count_bytes(page.as_bytes(), html, &options::Options::default());
        let expected: Histogram = words.iter().copied().collect();
        let start: String = page.chars().take(40).collect();
        assert_eq!(result.histogram, expected, "{start}");
    }
    let giant = "a".repeat(10_000_000);
    for content_type in ["text/plain; charset=utf-8", html] {
        let result = count_bytes(giant.as_bytes(), content_type, &options::Options::default());
        assert_eq!(result.totals.words, 1);
        assert_eq!(result.totals.overlong_words, 1);
        assert_eq!(result.totals.characters, 10_000_000);
        assert!(result.histogram.is_empty());
    }
}

#[test]
fn invalid_bytes_end_words_in_every_charset() {
    let cases: &[(&str, &[u8], &[&str])] = &[
        // A surrogate, an overlong form, a value above U+10FFFF, and a truncated character.
        ("utf-8", b"a\xed\xa0\x80b a\xc0\x80b a\xf4\x90\x80\x80b c\xe2\x80", &["a", "b", "c"]),
        // A high surrogate without a low one, a low one without a high one, and half a unit.
        ("utf-16le", b"a\0\x00\xd8b\0 \0a\0\x00\xdcb\0 \0c\0\x00", &["a", "b", "c"]),
        ("utf-16be", b"\0a\xd8\x00\0b\0 \0a\xdc\x00\0b\0 \0c\0", &["a", "b", "c"]),
        // A lead byte at the end, or before an invalid byte.
        ("gb18030", b"a\xff\xffb c\x81", &["a", "b", "c"]),
        ("gbk", b"a\xff\xffb c\x81", &["a", "b", "c"]),
        ("big5", b"a\xff\xffb c\xa4", &["a", "b", "c"]),
        ("euc-kr", b"a\xff\xffb c\xa1", &["a", "b", "c"]),
        ("euc-jp", b"a\xff\xffb c\x8f\xa1", &["a", "b", "c"]),
        ("shift_jis", b"a\xff\xffb c\x81", &["a", "b", "c"]),
        ("iso-2022-jp", b"a\x1b$B\xff\x1b(Bb c\x1b$B\x21", &["a", "b", "c"]),
        // A byte to which the charset assigns no character.
        ("windows-1253", b"a\xaab c\xd2", &["a", "b", "c"]),
        ("iso-8859-7", b"a\xaeb c\xd2", &["a", "b", "c"]),
        ("windows-1255", b"a\xd9b c\xff", &["a", "b", "c"]),
    ];
    for (charset, bytes, words) in cases {
        let content_type = format!("text/plain; charset={charset}");
        let result = count_bytes(bytes, &content_type, &options::Options::default());
        let actual: Vec<&str> = result.histogram.iter().map(|(word, _)| word).collect();
        assert_eq!(actual, *words, "{charset}");
        let sum: u64 = result.histogram.total();
        assert_eq!(sum, result.totals.words, "{charset}");
    }
}
