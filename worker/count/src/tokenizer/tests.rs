//! Compares the tokenizer with html5gum: with samples and random pages, whole and in chunks.

use super::*;
use crate::{
    random::Random,
    tokenizer::{Syntax, oracle},
    tree::content_of,
};

/// Output of a tokenizer. Text is in bytes, because html5gum splits characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Text(Vec<u8>),
    Start { name: String, is_closed: bool, values: Vec<Option<String>> },
    End { name: String },
}

/// Selects the kind of content of elements by their names. SVG and `MathML` end with their end
/// tags.
pub(super) struct ContentSelector {
    syntax: Syntax,
    foreign_depth: usize,
}

impl ContentSelector {
    const fn new(syntax: Syntax) -> Self {
        Self { syntax, foreign_depth: 0 }
    }

    pub(super) fn start(&mut self, name: &str, is_closed: bool) -> Content {
        if matches!(name, "svg" | "math") && !is_closed {
            self.foreign_depth += 1;
        }
        if self.has_cdata() { Content::Markup } else { content_of(name) }
    }

    pub(super) fn end(&mut self, name: &str) {
        if matches!(name, "svg" | "math") {
            self.foreign_depth = self.foreign_depth.saturating_sub(1);
        }
    }

    pub(super) fn has_cdata(&self) -> bool {
        self.syntax == Syntax::Xml || self.foreign_depth > 0
    }
}

struct EventRecorder {
    events: Vec<Event>,
    content_selector: ContentSelector,
}

impl Sink for EventRecorder {
    fn add_text(&mut self, text: &str) {
        if let Some(Event::Text(last)) = self.events.last_mut() {
            last.extend_from_slice(text.as_bytes());
        } else if !text.is_empty() {
            self.events.push(Event::Text(text.as_bytes().to_vec()));
        }
    }

    fn start_tag(&mut self, tag: &Tag) -> Content {
        let values = Attribute::ALL.map(|attribute| tag.value(attribute).map(str::to_owned));
        let values = values.to_vec();
        let name = tag.name().to_owned();
        let is_closed = tag.is_closed();
        let content = self.content_selector.start(&name, is_closed);
        self.events.push(Event::Start { name, is_closed, values });
        content
    }

    fn end_tag(&mut self, tag: &Tag) {
        self.content_selector.end(tag.name());
        self.events.push(Event::End { name: tag.name().to_owned() });
    }

    fn has_cdata(&self) -> bool {
        self.content_selector.has_cdata()
    }
}

fn events(chunks: &[&str], syntax: Syntax) -> Vec<Event> {
    let mut recorder =
        EventRecorder { events: Vec::new(), content_selector: ContentSelector::new(syntax) };
    let mut tokenizer = Tokenizer::new(syntax);
    for chunk in chunks {
        tokenizer.push(chunk, &mut recorder);
    }
    tokenizer.end(&mut recorder);
    recorder.events
}

/// Removes allowed differences between the two tokenizers.
///
/// This tokenizer truncates names. It does not resolve character references where they are not
/// needed: in values, and in `title` and `textarea`, which are not counted.
fn comparable(mut events: Vec<Event>, page: &str) -> Vec<Event> {
    let has_references = page.contains('&');
    let mut is_in_raw_text = false;
    for event in &mut events {
        match event {
            Event::Text(text) if is_in_raw_text => text.clear(),
            Event::Text(_) => {}
            Event::Start { name, values, .. } => {
                is_in_raw_text = matches!(name.as_str(), "title" | "textarea");
                *name = truncate_name(name);
                for value in values.iter_mut().flatten() {
                    let end = value.find(['\r', '\n', '\0', '\u{fffd}']).unwrap_or(value.len());
                    value.truncate(if has_references { 0 } else { end });
                    // This tokenizer also truncates values.
                    value.truncate(value.floor_char_boundary(16_384));
                }
            }
            Event::End { name } => {
                is_in_raw_text = false;
                *name = truncate_name(name);
            }
        }
    }
    events
}

/// Returns the part of a name that both store. This tokenizer stores 256 bytes, and NUL unchanged.
fn truncate_name(name: &str) -> String {
    name.replace('\u{fffd}', "\0").chars().take(64).collect()
}

/// Asserts that both tokenizers agree, and that the result does not depend on the chunks.
pub(crate) fn check(page: &str, syntax: Syntax, random: &mut Random) {
    // html5gum reads a document type declaration as HTML, which ends it inside quotes.
    let has_doctype = page.match_indices("<!").any(|(index, _)| {
        let rest = page.get(index..).unwrap();
        !rest.starts_with("<!--") && !rest.starts_with("<![CDATA[")
    });
    let syntax = if has_doctype { Syntax::Html } else { syntax };
    let whole = events(&[page], syntax);
    // html5gum reads every line end as a line feed.
    let expected = oracle::events(page, ContentSelector::new(syntax));
    let normal = page.replace("\r\n", "\n").replace('\r', "\n");
    let ours = events(&[&normal], syntax);
    assert_same(&comparable(ours, page), &comparable(expected, page), page);

    let mut chunks = Vec::new();
    let mut rest = page;
    while !rest.is_empty() {
        let length = rest.floor_char_boundary(1 + random.below(5)).max(1);
        let length = (length..).find(|length| rest.is_char_boundary(*length)).unwrap();
        let (chunk, tail) = rest.split_at(length);
        chunks.push(chunk);
        rest = tail;
    }
    assert_same(&events(&chunks, syntax), &whole, page);
}

/// Panics with the first event that differs.
fn assert_same(ours: &[Event], others: &[Event], page: &str) {
    let lengths = ours.len().max(others.len());
    if let Some(first) = (0..lengths).find(|i| ours.get(*i) != others.get(*i)) {
        let ours = ours.get(first).map(show);
        let others = others.get(first).map(show);
        panic!("{page:?}, event {first}:\n  ours {ours:?}\n  other {others:?}");
    }
}

fn show(event: &Event) -> String {
    match event {
        Event::Text(text) => format!("text {:?}", String::from_utf8_lossy(text)),
        other @ (Event::Start { .. } | Event::End { .. }) => format!("{other:?}"),
    }
}

/// Parts of pages, and bytes that break them.
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
    "<!DOCTYPE html [<!ENTITY a 'b c'>",
    "<!ENTITY % p SYSTEM \"x\">]>",
    "&a;",
    "&a.b",
    "<h:p xmlns:h='http://www.w3.org/1999/xhtml' hidden=''>",
    "</h:p>",
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
fn random_pages_match_html5gum() {
    let mut random = Random::new(5);
    for _ in 0..20_000 {
        let length = random.below(30);
        let page: String = (0..length).map(|_| PARTS[random.below(PARTS.len())]).collect();
        let syntax = if random.below(4) == 0 { Syntax::Xml } else { Syntax::Html };
        check(&page, syntax, &mut random);
    }
}

#[test]
fn every_pair_of_parts_matches_html5gum() {
    let mut random = Random::new(6);
    for first in PARTS {
        for second in PARTS {
            check(&format!("{first}{second}"), Syntax::Html, &mut random);
            check(&format!("x{first}{second}y</script></xmp>z"), Syntax::Html, &mut random);
        }
    }
}

#[test]
fn sample_pages_match_html5gum() {
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
fn values_are_stored_up_to_a_limit() {
    let long = "水".repeat(6000);
    let page = format!("<p role={long} style='{long}'>");
    let [Event::Start { values, .. }] = &events(&[&page], Syntax::Html)[..] else {
        panic!("no tag");
    };
    for attribute in [Attribute::Role, Attribute::Style] {
        assert_eq!(values[attribute as usize].as_deref(), Some(&*"水".repeat(5461)));
    }
}

#[test]
fn the_end_of_a_truncated_value_does_not_depend_on_chunks() {
    // Found by fuzzing: one byte is free. The letter fits into it, but not the accent before it.
    let before = format!("<p role='{}", "x".repeat(16_383));
    let after = "\u{301}a'>";
    let whole = events(&[&format!("{before}{after}")], Syntax::Html);
    let chunks: Vec<&str> =
        std::iter::once(&*before).chain(after.split_inclusive(|_| true)).collect();
    assert_same(&events(&chunks, Syntax::Html), &whole, "in chunks");
}
