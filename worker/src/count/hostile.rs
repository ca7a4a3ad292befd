//! Documents made to be slow, and bytes that are no text.
//!
//! Whatever a document is made of, twice as much takes twice as long. The tests compare four times
//! as much with what would be sixteen times the time, were it quadratic.

use rustix::time::{ClockId, clock_gettime};
use wordmill_common::{histogram::Histogram, options};

use super::*;

/// Four times as much may take this many times as long.
const FACTOR_MAX: u64 = 10;
/// A measurement on a busy machine is made again, up to this often; what is quadratic always fails.
const TRIES_MAX: usize = 5;

/// Returns how long the processor has worked for this thread, in nanoseconds.
fn processor_time() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    u64::try_from(time.tv_sec * 1_000_000_000 + time.tv_nsec).unwrap()
}

/// Asserts that `work` on documents of `part` over and over takes linear time.
fn assert_linear(name: &str, start: &[u8], part: &[u8], work: impl Fn(&[u8])) {
    let document = |bytes: usize| {
        let mut document = start.to_vec();
        document.extend(part.iter().cycle().take(bytes / part.len() * part.len()));
        document
    };
    let (small, large) = (document(100_000), document(400_000));
    let fastest = |document: &[u8]| {
        let time = |_| {
            let begun = processor_time();
            work(document);
            processor_time() - begun
        };
        (0..3).map(time).min().unwrap()
    };
    let mut times = Vec::new();
    for _ in 0..TRIES_MAX {
        let (small, large) = (fastest(&small), fastest(&large));
        if large < small * FACTOR_MAX {
            return;
        }
        times.push((small, large));
    }
    panic!("{name}, in nanoseconds: {times:?}");
}

fn counted(bytes: &[u8], content_type: &str, asked: &options::Options) -> Counted {
    let hints = Hints { content_type: Some(content_type), host_tld: None };
    count(bytes, &hints, &Options::from(asked.clone()), &|_| true).unwrap()
}

/// What a page starts with, and what it goes on with.
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
];

/// What a text consists of.
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
    ("Thai", "ก"),
    ("Thai marks", "ก\u{e48}"),
    ("Khmer", "ក្"),
    ("Burmese", "မြ"),
    ("Lao", "ແທ"),
    ("jamo", "\u{1100}\u{1161}\u{11a8}"),
];

/// A charset, and bytes that are hard for its decoder.
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
];

#[test]
fn hostile_pages_take_linear_time() {
    for (start, part) in PAGES {
        for content_type in ["text/html; charset=utf-8", "application/xhtml+xml; charset=utf-8"] {
            let name = format!("{start}{part} as {content_type}");
            assert_linear(&name, start.as_bytes(), part.as_bytes(), |page| {
                counted(page, content_type, &options::Options::default());
            });
        }
    }
}

#[test]
fn hostile_text_takes_linear_time() {
    for (name, part) in TEXTS {
        for content_type in ["text/plain; charset=utf-8", "text/html; charset=utf-8"] {
            for explain in [false, true] {
                let asked = options::Options { explain, ..options::Options::default() };
                assert_linear(name, b"", part.as_bytes(), |text| {
                    counted(text, content_type, &asked);
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
            counted(bytes, &content_type, &options::Options::default());
        });
    }
}

#[test]
fn what_is_hostile_is_counted_all_the_same() {
    let html = "text/html; charset=utf-8";
    let deep = format!("{}a{}b", "<div><b>".repeat(100_000), "</b></div>".repeat(100_000));
    let attributes: String = (0..100_000).map(|i| format!("a{i}=1 ")).collect();
    let attributes = format!("<p {attributes} hidden>x</p>a<p {attributes}>b");
    let comment = format!("a<!--{}-->b", "-".repeat(1_000_000));
    for (page, words) in [
        (deep, [("a", 1), ("b", 1)].as_slice()),
        (attributes, &[("a", 1), ("b", 1)]),
        (comment, &[("ab", 1)]),
        // A reference without end names nothing, and a number without end no character.
        (format!("a &{};b", "b".repeat(1_000_000)), &[("a", 1), ("b", 1)]),
        (format!("a &#{};b", "1".repeat(1_000_000)), &[("a", 1), ("b", 1)]),
        // A tag without end is no text.
        (format!("a <b {}", "c ".repeat(500_000)), &[("a", 1)]),
    ] {
        let counted = counted(page.as_bytes(), html, &options::Options::default());
        let expected: Histogram = words.iter().copied().collect();
        let start: String = page.chars().take(40).collect();
        assert_eq!(counted.histogram, expected, "{start}");
    }
    let giant = "a".repeat(10_000_000);
    for content_type in ["text/plain; charset=utf-8", html] {
        let counted = counted(giant.as_bytes(), content_type, &options::Options::default());
        assert_eq!((counted.totals.words, counted.totals.overlong_words), (1, 1));
        assert_eq!(counted.totals.characters, 10_000_000);
        assert!(counted.histogram.is_empty());
    }
}

#[test]
fn bytes_that_are_no_text_end_words_in_every_charset() {
    let cases: &[(&str, &[u8], &[&str])] = &[
        // A surrogate, an overlong form, a character beyond the last, and one cut off.
        ("utf-8", b"a\xed\xa0\x80b a\xc0\x80b a\xf4\x90\x80\x80b c\xe2\x80", &["a", "b", "c"]),
        // A high surrogate without a low one, a low one without a high one, half a unit.
        ("utf-16le", b"a\0\x00\xd8b\0 \0a\0\x00\xdcb\0 \0c\0\x00", &["a", "b", "c"]),
        ("utf-16be", b"\0a\xd8\x00\0b\0 \0a\xdc\x00\0b\0 \0c\0", &["a", "b", "c"]),
        // A lead byte that nothing follows, or what cannot follow.
        ("gb18030", b"a\xff\xffb c\x81", &["a", "b", "c"]),
        ("gbk", b"a\xff\xffb c\x81", &["a", "b", "c"]),
        ("big5", b"a\xff\xffb c\xa4", &["a", "b", "c"]),
        ("euc-kr", b"a\xff\xffb c\xa1", &["a", "b", "c"]),
        ("euc-jp", b"a\xff\xffb c\x8f\xa1", &["a", "b", "c"]),
        ("shift_jis", b"a\xff\xffb c\x81", &["a", "b", "c"]),
        ("iso-2022-jp", b"a\x1b$B\xff\x1b(Bb c\x1b$B\x21", &["a", "b", "c"]),
        // A byte that the table has no character for.
        ("windows-1253", b"a\xaab c\xd2", &["a", "b", "c"]),
        ("iso-8859-7", b"a\xaeb c\xd2", &["a", "b", "c"]),
        ("windows-1255", b"a\xd9b c\xff", &["a", "b", "c"]),
    ];
    for (charset, bytes, words) in cases {
        let content_type = format!("text/plain; charset={charset}");
        let counted = counted(bytes, &content_type, &options::Options::default());
        let found: Vec<&str> = counted.histogram.iter().map(|(word, _)| word).collect();
        assert_eq!(found, *words, "{charset}");
        let sum: u64 = counted.histogram.total();
        assert_eq!(sum, counted.totals.words, "{charset}");
    }
}
