//! The visible text of a page, as a stream.

use std::{
    cell::Cell,
    convert::Infallible,
    io::{self, Read},
};

use html5gum::{Emitter, IoReader, Reader, State, Tokenizer};

use super::{
    tally::Tally,
    visible::{Step, Syntax, Visibility},
};

/// Longer names of tags and attributes are no names that matter here.
const NAME_BYTES_MAX: usize = 32;

/// The tokenizer keeps a run of letters after `</` in a script until it knows that this is no end
/// tag; a longer run is broken, so that it cannot fill the memory.
const HELD_LETTERS_MAX: usize = 64 * 1024;

/// Adds the visible text of a page to `tally`; stops early when the tally is full.
pub(super) fn extract(page: impl Read, syntax: Syntax, tally: &mut Tally) -> io::Result<()> {
    let signals = Signals::default();
    let feed = Feed { reader: IoReader::new(page), signals: &signals, letters: 0 };
    let emitter = TextEmitter {
        signals: &signals,
        tally,
        visibility: Visibility::new(syntax),
        split: Vec::new(),
        tag: Tag::default(),
        raw_text_end: Vec::new(),
    };
    Tokenizer::new_with_emitter(feed, emitter).finish()
}

/// What the emitter tells the reader at the other end of the tokenizer.
#[derive(Default)]
struct Signals {
    is_raw_text: Cell<bool>,
    stop: Cell<bool>,
}

/// Hands the page to the tokenizer.
struct Feed<'s, R: Read> {
    reader: IoReader<R>,
    signals: &'s Signals,
    /// Letters read one by one, since the last other byte.
    letters: usize,
}

impl<R: Read> Reader for Feed<'_, R> {
    type Error = io::Error;

    fn read_byte(&mut self) -> io::Result<Option<u8>> {
        if self.letters >= HELD_LETTERS_MAX && self.signals.is_raw_text.get() {
            self.letters = 0;
            return Ok(Some(b' '));
        }
        let byte = self.reader.read_byte()?;
        if byte.is_some_and(|byte| byte.is_ascii_alphabetic()) {
            self.letters = self.letters.saturating_add(1);
        } else {
            self.letters = 0;
        }
        Ok(byte)
    }

    fn try_read_string(&mut self, text: &[u8], case_sensitive: bool) -> io::Result<bool> {
        self.letters = 0;
        self.reader.try_read_string(text, case_sensitive)
    }

    fn read_until<'b>(
        &'b mut self,
        needle: &[u8],
        char_buf: &'b mut [u8; 4],
    ) -> io::Result<Option<&'b [u8]>> {
        if self.signals.stop.get() {
            return Ok(None);
        }
        self.letters = 0;
        self.reader.read_until(needle, char_buf)
    }
}

/// The tag that is being read.
#[derive(Default)]
struct Tag {
    name: Vec<u8>,
    attribute: Vec<u8>,
    is_end: bool,
    is_hidden: bool,
    is_closed: bool,
}

impl Tag {
    fn restart(&mut self, is_end: bool) {
        self.name.clear();
        self.attribute.clear();
        self.is_end = is_end;
        self.is_hidden = false;
        self.is_closed = false;
    }

    fn finish_attribute(&mut self) {
        self.is_hidden |= self.attribute == b"hidden";
        self.attribute.clear();
    }
}

/// Takes tokens as they come; nothing is kept but the names in one tag.
struct TextEmitter<'a> {
    signals: &'a Signals,
    tally: &'a mut Tally,
    visibility: Visibility,
    /// The first bytes of a character whose last bytes have not come yet.
    split: Vec<u8>,
    tag: Tag,
    /// The name whose end tag ends the text without markup, if one is open.
    raw_text_end: Vec<u8>,
}

impl TextEmitter<'_> {
    fn add(&mut self, text: &str) {
        if self.visibility.shows_text() {
            self.tally.add_flowing(text);
            self.signals.stop.set(self.tally.is_full());
        }
    }

    fn add_bytes(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !self.split.is_empty()
            && let [first, tail @ ..] = rest
        {
            self.split.push(*first);
            self.add_split();
            rest = tail;
        }
        for chunk in rest.utf8_chunks() {
            self.add(chunk.valid());
            if !chunk.invalid().is_empty() {
                self.split.extend_from_slice(chunk.invalid());
                self.add_split();
            }
        }
    }

    /// Adds the split character if it is complete.
    fn add_split(&mut self) {
        let split = std::mem::take(&mut self.split);
        match std::str::from_utf8(&split) {
            Ok(text) => self.add(text),
            Err(error) if error.error_len().is_none() => self.split = split,
            Err(_) => self.add("\u{fffd}"),
        }
    }

    fn take_step(&mut self, step: Step) {
        if step == Step::Break {
            self.tally.boundary();
            self.signals.stop.set(self.tally.is_full());
        }
    }

    fn emit_start_tag(&mut self) -> Option<State> {
        let name = std::str::from_utf8(&self.tag.name).unwrap_or_default();
        let step = self.visibility.start(name, self.tag.is_hidden, self.tag.is_closed);
        let state = raw_text_state(name).filter(|_| !self.visibility.is_xml());
        self.take_step(step);
        if state.is_some() {
            self.raw_text_end.clone_from(&self.tag.name);
            self.signals.is_raw_text.set(true);
        }
        state
    }

    fn emit_end_tag(&mut self) {
        let name = std::str::from_utf8(&self.tag.name).unwrap_or_default();
        let step = self.visibility.end(name);
        self.take_step(step);
        self.raw_text_end.clear();
        self.signals.is_raw_text.set(false);
    }
}

/// Returns how to go on after elements in which tags are not tags.
fn raw_text_state(name: &str) -> Option<State> {
    match name {
        "textarea" | "title" => Some(State::RcData),
        "script" => Some(State::ScriptData),
        "iframe" | "noembed" | "noframes" | "noscript" | "style" | "xmp" => Some(State::RawText),
        "plaintext" => Some(State::PlainText),
        _ => None,
    }
}

fn push_name(name: &mut Vec<u8>, bytes: &[u8]) {
    let space = (NAME_BYTES_MAX + 1).saturating_sub(name.len());
    name.extend(bytes.iter().take(space));
}

impl Emitter for TextEmitter<'_> {
    type Token = Infallible;

    fn emit_string(&mut self, text: &[u8]) {
        self.add_bytes(text);
    }

    fn init_start_tag(&mut self) {
        self.tag.restart(false);
    }

    fn init_end_tag(&mut self) {
        self.tag.restart(true);
    }

    fn push_tag_name(&mut self, name: &[u8]) {
        push_name(&mut self.tag.name, name);
    }

    fn init_attribute(&mut self) {
        self.tag.finish_attribute();
    }

    fn push_attribute_name(&mut self, name: &[u8]) {
        push_name(&mut self.tag.attribute, name);
    }

    fn set_self_closing(&mut self) {
        self.tag.is_closed = true;
    }

    fn emit_current_tag(&mut self) -> Option<State> {
        self.tag.finish_attribute();
        if self.tag.is_end {
            self.emit_end_tag();
            None
        } else {
            self.emit_start_tag()
        }
    }

    fn current_is_appropriate_end_tag_token(&mut self) -> bool {
        self.tag.is_end && !self.raw_text_end.is_empty() && self.raw_text_end == self.tag.name
    }

    fn adjusted_current_node_present_but_not_in_html_namespace(&mut self) -> bool {
        self.visibility.is_xml()
    }

    fn should_emit_errors(&mut self) -> bool {
        false
    }

    fn pop_token(&mut self) -> Option<Infallible> {
        None
    }

    fn set_last_start_tag(&mut self, name: Option<&[u8]>) {
        self.raw_text_end = name.unwrap_or_default().to_vec();
    }

    fn emit_eof(&mut self) {}
    fn emit_error(&mut self, _: html5gum::Error) {}
    fn init_comment(&mut self) {}
    fn push_comment(&mut self, _: &[u8]) {}
    fn emit_current_comment(&mut self) {}
    fn init_doctype(&mut self) {}
    fn push_doctype_name(&mut self, _: &[u8]) {}
    fn set_doctype_public_identifier(&mut self, _: &[u8]) {}
    fn set_doctype_system_identifier(&mut self, _: &[u8]) {}
    fn push_doctype_public_identifier(&mut self, _: &[u8]) {}
    fn push_doctype_system_identifier(&mut self, _: &[u8]) {}
    fn set_force_quirks(&mut self) {}
    fn emit_current_doctype(&mut self) {}
    fn push_attribute_value(&mut self, _: &[u8]) {}
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use wordmill_common::histogram::Histogram;

    use super::*;
    use crate::count::Options;

    fn words_of(page: &[u8], syntax: Syntax) -> Histogram {
        let mut tally = Tally::new(&Options::default());
        extract(page, syntax, &mut tally).unwrap();
        tally.finish().unwrap().histogram
    }

    fn words(page: &str, syntax: Syntax) -> String {
        let histogram = words_of(page.as_bytes(), syntax);
        let words: Vec<_> = histogram.iter().map(|(word, _)| word).collect();
        words.join(" ")
    }

    #[test]
    fn xml_has_cdata_and_closed_elements() {
        let page = "<p>a <![CDATA[<b>]]></p><script/><title/>c<p hidden=''/>d<br/>e                    <script>x<![CDATA[</script>]]>y</script>";
        assert_eq!(words(page, Syntax::Xml), "a b c d e");
        assert_eq!(words("a<![CDATA[x]]>b<script/>y", Syntax::Html), "ab");
    }

    #[test]
    fn drawings_follow_xml_until_the_page_goes_on() {
        assert_eq!(
            words("<svg><text><![CDATA[a]]></text><style/><title/></svg>b", Syntax::Html),
            "a b"
        );
        assert_eq!(words("<svg><p>a<title>x</title>b<script/>y", Syntax::Html), "ab");
    }

    #[test]
    fn what_is_never_closed_ends_with_the_page() {
        for tail in [
            "<!-- x",
            "<script>x",
            "<script><!-- <script> x",
            "<style>x",
            "<textarea>x </text",
            "<title>x",
            "<template>x",
            "<video>x",
            "<a href=\"x",
            "<div hidden>x",
            "</x",
            "<x y",
            "<!doctype x",
            "<?x",
            "<![CDATA[x",
            "<iframe>x",
        ] {
            assert_eq!(words(&format!("a {tail}"), Syntax::Html), "a", "{tail}");
        }
        assert_eq!(words("a <plaintext>b</plaintext>", Syntax::Html), "a b plaintext");
        assert_eq!(words("<svg><![CDATA[a", Syntax::Html), "a");
    }

    #[test]
    fn raw_text_ends_only_at_its_own_end_tag() {
        assert_eq!(words("<script>x</scriptx></b></script>a", Syntax::Html), "a");
        assert_eq!(words("<title>x</titles></title >a", Syntax::Html), "a");
        assert_eq!(words("<noscript><p>x</p></NoScript>a", Syntax::Html), "a");
        let long_name = "x".repeat(100_000);
        let page = format!("<script></{long_name}>x</script>a</{long_name}>b<{long_name}>c");
        assert_eq!(words(&page, Syntax::Html), "a b c");
    }

    #[test]
    fn characters_split_by_the_tokenizer_stay_whole() {
        assert_eq!(words("<é a<水b &é &amp;é", Syntax::Html), "é a b 水");
        let long = format!("{}é{}", " ".repeat(16_383), "<b>水</b>".repeat(6000));
        assert_eq!(words_of(long.as_bytes(), Syntax::Html).total(), 6001);
    }

    #[test]
    fn hostile_pages_take_linear_time() {
        const PAGE_BYTES: usize = 1024 * 1024;
        let shapes: &[(&str, &str)] = &[
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
            ("", "&"),
            ("", "&#"),
            ("&#", "1"),
            ("&", "a"),
            ("<a ", "a "),
            ("<a ", "a=1 "),
            ("<a b=\"", "&amp"),
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
            ("", "\0"),
            ("a", "\u{301}"),
            ("", "a'"),
            ("", "水"),
            ("", "ไ"),
            ("", "<select><option hidden>"),
            ("<!doctype ", "x "),
            ("<plaintext>", "<a>"),
            ("<x y=", "&lt"),
        ];
        for (start, part) in shapes {
            let mut page = (*start).to_owned();
            while page.len() < PAGE_BYTES {
                page.push_str(part);
            }
            let begun = Instant::now();
            words_of(page.as_bytes(), Syntax::Html);
            let taken = begun.elapsed();
            // Linear time is far below one second; quadratic would be minutes.
            assert!(taken < Duration::from_secs(20), "{start}{part}: {taken:?}");
        }
    }

    #[test]
    fn a_hundred_thousand_attributes_are_read() {
        let attributes: String = (0..100_000).map(|i| format!("a{i}=1 ")).collect();
        let page = format!("<p {attributes} hidden>x</p>a<p {attributes}>b");
        assert_eq!(words(&page, Syntax::Html), "a b");
    }
}
