//! The scanner against html5gum: on chosen pages, on random ones, and in pieces.

use super::*;
use crate::{
    element::Element,
    extract::content_of,
    random::Random,
    tokenizer::oracle,
    visibility::{Syntax, Visibility},
};

/// What a tokenizer says. Text is in bytes, because html5gum cuts characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Text(Vec<u8>),
    Start { name: String, is_closed: bool, values: [Option<String>; 7] },
    End { name: String },
}

/// Decides how content is read, as the extractor does.
pub(super) struct Follower {
    visibility: Visibility,
}

impl Follower {
    fn new(syntax: Syntax) -> Self {
        Self { visibility: Visibility::new(syntax) }
    }

    pub(super) fn start(&mut self, name: &str, is_hidden: bool, is_closed: bool) -> Content {
        self.visibility.start((name, Element::of(name)), is_hidden, is_closed);
        if self.visibility.is_xml() { Content::Markup } else { content_of(name) }
    }

    pub(super) fn end(&mut self, name: &str) {
        self.visibility.end((name, Element::of(name)));
    }

    pub(super) fn has_cdata(&self) -> bool {
        self.visibility.is_xml()
    }
}

struct Recorder {
    events: Vec<Event>,
    follower: Follower,
}

impl Sink for Recorder {
    fn text(&mut self, text: &str) {
        if let Some(Event::Text(last)) = self.events.last_mut() {
            last.extend_from_slice(text.as_bytes());
        } else if !text.is_empty() {
            self.events.push(Event::Text(text.as_bytes().to_vec()));
        }
    }

    fn start_tag(&mut self, tag: &Tag) -> Content {
        let values = Attribute::ALL.map(|attribute| tag.value(attribute).map(str::to_owned));
        let is_hidden = tag.value(Attribute::Hidden).is_some();
        let (name, is_closed) = (tag.name().to_owned(), tag.is_closed());
        let content = self.follower.start(&name, is_hidden, is_closed);
        self.events.push(Event::Start { name, is_closed, values });
        content
    }

    fn end_tag(&mut self, tag: &Tag) {
        self.follower.end(tag.name());
        self.events.push(Event::End { name: tag.name().to_owned() });
    }

    fn has_cdata(&self) -> bool {
        self.follower.has_cdata()
    }
}

fn events(pieces: &[&str], syntax: Syntax) -> Vec<Event> {
    let mut recorder = Recorder { events: Vec::new(), follower: Follower::new(syntax) };
    let mut scanner = Scanner::new();
    for piece in pieces {
        scanner.push(piece, &mut recorder);
    }
    scanner.end(&mut recorder);
    recorder.events
}

/// Takes away what the two are free to do differently.
///
/// The scanner cuts names that are too long to matter, and does not resolve character references
/// where nobody needs them: in values, and in `title` and `textarea`, which are not shown.
fn comparable(mut events: Vec<Event>, page: &str) -> Vec<Event> {
    let has_references = page.contains('&');
    let mut raw = false;
    for event in &mut events {
        match event {
            Event::Text(text) if raw => text.clear(),
            Event::Text(_) => {}
            Event::Start { name, values, .. } => {
                raw = matches!(name.as_str(), "title" | "textarea");
                *name = cut(name);
                for value in values.iter_mut().flatten() {
                    let kept = value.find(['\r', '\n', '\0', '\u{fffd}']).unwrap_or(value.len());
                    value.truncate(if has_references { 0 } else { kept });
                    // The scanner does so itself.
                    value.truncate(value.floor_char_boundary(1024));
                }
            }
            Event::End { name } => {
                raw = false;
                *name = cut(name);
            }
        }
    }
    events
}

/// Returns the part of a name that both keep: the scanner keeps 32 bytes, and NUL as it is.
fn cut(name: &str) -> String {
    name.replace('\u{fffd}', "\0").chars().take(8).collect()
}

/// Both say the same, and the scanner does in any pieces.
pub(crate) fn check(page: &str, syntax: Syntax, random: &mut Random) {
    let whole = events(&[page], syntax);
    // html5gum reads every line end as a line feed.
    let expected = oracle::events(page, Follower::new(syntax));
    let normal = page.replace("\r\n", "\n").replace('\r', "\n");
    let ours = events(&[&normal], syntax);
    same(&comparable(ours, page), &comparable(expected, page), page);

    let mut pieces = Vec::new();
    let mut rest = page;
    while !rest.is_empty() {
        let length = rest.floor_char_boundary(1 + random.below(5)).max(1);
        let length = (length..).find(|length| rest.is_char_boundary(*length)).unwrap();
        let (piece, tail) = rest.split_at(length);
        pieces.push(piece);
        rest = tail;
    }
    same(&events(&pieces, syntax), &whole, page);
}

/// Fails with the first event that differs.
fn same(ours: &[Event], others: &[Event], page: &str) {
    let lengths = ours.len().max(others.len());
    if let Some(first) = (0..lengths).find(|i| ours.get(*i) != others.get(*i)) {
        let (ours, others) = (ours.get(first).map(show), others.get(first).map(show));
        panic!("{page:?}, event {first}:\n  ours {ours:?}\n  other {others:?}");
    }
}

fn show(event: &Event) -> String {
    match event {
        Event::Text(text) => format!("text {:?}", String::from_utf8_lossy(text)),
        other @ (Event::Start { .. } | Event::End { .. }) => format!("{other:?}"),
    }
}

/// What pages are made of, and what breaks them.
pub(crate) const PARTS: &[&str] = &[
    "<",
    ">",
    "/",
    "!",
    "?",
    "-",
    "--",
    "]",
    "]]",
    "=",
    "\"",
    "'",
    "&",
    "#",
    "x",
    ";",
    " ",
    "\t",
    "\n",
    "\r",
    "\r\n",
    "\u{c}",
    "\0",
    "a",
    "b",
    "Z",
    "7",
    "é",
    "水",
    "\u{301}",
    "\u{1f600}",
    "</",
    "<a",
    "<a ",
    "<a b=",
    "<a b='",
    "<a b=\"",
    "/>",
    "</a>",
    "<p hidden>",
    "<p>",
    "</p>",
    "<p role=main>",
    "<p ROLE='x' role=y>",
    "<p style=\"display:none\">",
    "<!",
    "<!-",
    "<!--",
    "-->",
    "--!>",
    "<!-->",
    "<!--->",
    "<!doctype html>",
    "<!DOCTYPE",
    "<?xml",
    "?>",
    "<![CDATA[",
    "<![cdata[",
    "<![CDAT",
    "]]>",
    "<svg>",
    "<svg/>",
    "</svg>",
    "<math>",
    "</math>",
    "<script>",
    "<SCRIPT>",
    "</script>",
    "</script ",
    "</scrip",
    "<script",
    "</ScRiPt/x>",
    "<style>",
    "</style>",
    "<textarea>",
    "</textarea>",
    "<title>",
    "</title>",
    "<xmp>",
    "</xmp>",
    "</xm",
    "<noscript>",
    "</noscript>",
    "<plaintext>",
    "<iframe>",
    "</iframe>",
    "&amp;",
    "&amp",
    "&ampx",
    "&lt;",
    "&notit;",
    "&notin;",
    "&NotEqualTilde;",
    "&#65;",
    "&#65",
    "&#x41;",
    "&#X4",
    "&#x",
    "&#",
    "&#0;",
    "&#128;",
    "&#xd800;",
    "&#1114112;",
    "&#99999999999;",
    "&é",
    "&hellip",
    "&CounterClockwiseContourIntegral;",
    "&CounterClockwiseContourIntegralx",
    "&frac12",
    "&AMP",
    "<wbr>",
    "<br/>",
    "<table>",
    "<td>",
    "<b/><i",
    "<x-y-",
    "<\u{e9}>",
    "</\u{e9}>",
    "</>",
    "abcdefghijklmnopqrstuvwxyz",
    "<abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz ",
];

#[test]
fn random_pages_are_read_as_by_html5gum() {
    let mut random = Random::new(5);
    for _ in 0..20_000 {
        let length = random.below(30);
        let page: String = (0..length).map(|_| PARTS[random.below(PARTS.len())]).collect();
        let syntax = if random.below(4) == 0 { Syntax::Xml } else { Syntax::Html };
        check(&page, syntax, &mut random);
    }
}

#[test]
fn every_pair_of_parts_is_read_as_by_html5gum() {
    let mut random = Random::new(6);
    for first in PARTS {
        for second in PARTS {
            check(&format!("{first}{second}"), Syntax::Html, &mut random);
            check(&format!("x{first}{second}y</script></xmp>z"), Syntax::Html, &mut random);
        }
    }
}

#[test]
fn sample_pages_are_read_as_by_html5gum() {
    let mut random = Random::new(8);
    for page in [
        include_str!("../../../../docs/samples/english.html"),
        include_str!("../../../../docs/samples/german.html"),
        include_str!("../../../../docs/samples/hebrew.html"),
        include_str!("../../../../docs/samples/japanese.html"),
    ] {
        check(page, Syntax::Html, &mut random);
        check(page, Syntax::Xml, &mut random);
    }
}

#[test]
fn values_are_kept_up_to_a_limit() {
    let long = "水".repeat(1000);
    let page = format!("<p role={long} style='{long}'>");
    let [Event::Start { values, .. }] = &events(&[&page], Syntax::Html)[..] else {
        panic!("no tag");
    };
    for attribute in [Attribute::Role, Attribute::Style] {
        assert_eq!(values[attribute as usize].as_deref(), Some(&*"水".repeat(341)));
    }
}

#[test]
fn where_a_value_is_cut_does_not_depend_on_pieces() {
    // Found by fuzzing: one byte of space is left, which the accent does not fit, but the letter.
    let (before, after) = (format!("<p role='{}", "x".repeat(1023)), "\u{301}a'>");
    let whole = events(&[&format!("{before}{after}")], Syntax::Html);
    let pieces: Vec<&str> =
        std::iter::once(&*before).chain(after.split_inclusive(|_| true)).collect();
    same(&events(&pieces, Syntax::Html), &whole, "in pieces");
}
