//! HTML tokenizer: splits a page into text and tags (ADR 34).
//!
//! Implements the parts of the HTML standard's tokenizer that determine the visible text. Comments
//! and doctypes are skipped, and only the attributes in [`Attribute`] are stored. Chunks may have
//! any size. Memory is bounded by the limits for the name and the attribute values of one tag, and
//! every byte is read at most a constant number of times. Tests compare the output with html5gum, a
//! complete tokenizer.

mod attribute;
mod declaration;
mod doctype;
#[cfg(test)]
mod html5lib;
mod name;
#[cfg(test)]
mod oracle;
mod raw;
mod reference;
mod tag;

use memchr::{memchr, memchr2};

pub use self::doctype::EntityError;

pub(super) use self::{attribute::Attribute, reference::resolve_in_attribute, tag::Tag};

use self::{
    doctype::DoctypeReader,
    raw::Raw,
    reference::Reference,
    tag::{TagReader, VALUE_BYTES_MAX},
};

/// Syntax of a page, which determines the meaning of names and of `/>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Syntax {
    Html,
    Xml,
}

/// Maximum length of the name of an entity, in bytes.
const ENTITY_NAME_BYTES_MAX: usize = 256;

/// Receiver of the text and tags of a page.
pub(super) trait Sink {
    /// Receives text outside of tags, in parts, with its character references resolved.
    fn add_text(&mut self, text: &str);

    /// Receives a start tag. Returns the kind of content of the element.
    fn start_tag(&mut self, tag: &Tag) -> Content;

    /// Receives an end tag.
    fn end_tag(&mut self, tag: &Tag);

    /// Receives a document type declaration, without `<!` and `>`, up to [`DOCTYPE_BYTES_MAX`].
    fn doctype(&mut self, _text: &str) {}

    /// Returns whether `<![CDATA[` begins text here, as in XML, or a comment, as in HTML.
    fn has_cdata(&self) -> bool;
}

/// Kind of content of an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Text with tags and character references.
    Markup,
    /// Text without tags, up to the end tag of the element.
    Raw,
    /// Like [`Content::Raw`], except that `<!--` can hide an end tag.
    Script,
    /// Text without tags, up to the end of the page.
    PlainText,
}

/// State between two chunks, named as in the HTML standard if it has such a state.
#[derive(Clone, Copy, Debug)]
enum State {
    /// Outside of tags: the data state of the standard.
    Text,
    /// After `<`.
    TagOpen,
    /// After `</`.
    EndTagOpen,
    /// In a tag, from its name on.
    Tag,
    /// After `<!` and the given number of bytes of `--` or `[CDATA[`.
    Declaration(Declaration, usize),
    /// In text that is skipped up to the next `>`: `<?xml ...>` and invalid tags.
    Bogus,
    /// In a document type declaration, from the byte after `<!` on.
    Doctype,
    Comment(Comment),
    /// In a CDATA section, after the given number of closing brackets, two at most.
    Cdata(usize),
    /// In a character reference, after `&`.
    Reference,
    /// Like [`Self::Reference`], in a document that declares entities.
    EntityReference,
    /// In an element with [`Content::Raw`] or [`Content::Script`].
    Raw,
    /// In an element with [`Content::PlainText`].
    PlainText,
}

#[derive(Clone, Copy, Debug)]
enum Declaration {
    Unknown,
    Comment,
    Cdata,
}

/// Position in a comment. The standard's states after `<` are omitted, because they differ only in
/// the errors that they report.
#[derive(Clone, Copy, Debug)]
enum Comment {
    /// After `<!--`.
    Start,
    /// After `<!---`.
    StartDash,
    Inside,
    /// After `-`.
    Dash,
    /// After `--`.
    End,
    /// After `--!`.
    EndBang,
}

/// Tokenizer of one page.
pub(super) struct Tokenizer {
    state: State,
    doctype: DoctypeReader,
    /// Name of the current reference to an entity, in XML.
    entity_name: String,
    tag: TagReader,
    reference: Reference,
    raw: Raw,
}

impl Tokenizer {
    pub(super) fn new(syntax: Syntax) -> Self {
        Self::with_value_bytes_max(syntax, VALUE_BYTES_MAX)
    }

    /// Creates a tokenizer that stores less of each attribute value.
    pub(super) fn with_value_bytes_max(syntax: Syntax, value_bytes_max: usize) -> Self {
        let is_xml = syntax == Syntax::Xml;
        Self {
            state: State::Text,
            doctype: DoctypeReader::new(is_xml),
            entity_name: String::new(),
            tag: TagReader::new(is_xml, value_bytes_max),
            reference: Reference::default(),
            raw: Raw::default(),
        }
    }

    /// Returns whether the page so far ends inside a tag.
    pub(super) const fn is_in_tag(&self) -> bool {
        matches!(self.state, State::Tag)
    }

    /// Reads the next chunk of the page.
    pub(super) fn push(&mut self, chunk: &str, sink: &mut impl Sink) {
        let mut rest = chunk;
        // Each step consumes text or enters a state that does, so the loop ends.
        while !rest.is_empty() {
            rest = self.step(rest, sink);
        }
    }

    /// Ends the page. An unfinished reference, for example `&am`, is added as text; an unfinished
    /// tag is discarded.
    pub(super) fn end(&mut self, sink: &mut impl Sink) {
        match self.state {
            State::TagOpen => sink.add_text("<"),
            State::EndTagOpen => sink.add_text("</"),
            State::Cdata(brackets) => sink.add_text("]]".get(..brackets).unwrap_or_default()),
            State::Reference => self.reference.end(sink),
            State::EntityReference => {
                sink.add_text("&");
                sink.add_text(&self.entity_name);
            }
            State::Raw => self.raw.end(sink),
            State::Text
            | State::Tag
            | State::Declaration(..)
            | State::Bogus
            | State::Doctype
            | State::Comment(_)
            | State::PlainText => {}
        }
        self.state = State::Text;
    }

    /// Runs the current state on `rest`. Returns the unread part.
    fn step<'t>(&mut self, rest: &'t str, sink: &mut impl Sink) -> &'t str {
        match self.state {
            State::Text => self.read_text(rest, sink),
            State::TagOpen => self.read_tag_open(rest, sink),
            State::EndTagOpen => self.read_end_tag_open(rest, sink),
            State::Tag => self.read_tag(rest, sink),
            State::Declaration(kind, matched_bytes) => {
                self.read_declaration(rest, kind, matched_bytes, sink)
            }
            State::Bogus => match memchr(b'>', rest.as_bytes()) {
                Some(end) => {
                    self.state = State::Text;
                    text_after(rest, end.saturating_add(1))
                }
                None => "",
            },
            State::Doctype => self.read_doctype(rest, sink),
            State::EntityReference => self.read_entity(rest, sink),
            State::Comment(comment) => self.read_comment(rest, comment),
            State::Cdata(brackets) => self.read_cdata(rest, brackets, sink),
            State::Reference => match self.reference.push(rest, sink) {
                Some(rest) => {
                    self.state = State::Text;
                    rest
                }
                None => "",
            },
            State::Raw => match self.raw.push(rest, sink) {
                Some(rest) => {
                    // `raw` has read `</title`. The tag reader reads the attributes and `>`.
                    self.tag.start_raw_end(self.raw.name());
                    self.state = State::Tag;
                    rest
                }
                None => "",
            },
            State::PlainText => {
                add_text_replacing_nul(rest, sink);
                ""
            }
        }
    }

    fn read_text<'t>(&mut self, rest: &'t str, sink: &mut impl Sink) -> &'t str {
        let Some(end) = memchr2(b'<', b'&', rest.as_bytes()) else {
            sink.add_text(rest);
            return "";
        };
        if end > 0 {
            sink.add_text(text_before(rest, end));
        }
        let is_tag = rest.as_bytes().get(end) == Some(&b'<');
        let rest = text_after(rest, end.saturating_add(1));
        if !is_tag {
            if !self.doctype.entities.is_empty() {
                self.entity_name.clear();
                self.state = State::EntityReference;
                return rest;
            }
            self.reference.start();
            self.state = State::Reference;
            return rest;
        }
        self.state = State::TagOpen;
        // The next byte is usually in the same chunk, and a direct call is faster than the `match`
        // in `step`.
        if rest.is_empty() { rest } else { self.read_tag_open(rest, sink) }
    }

    fn read_tag_open<'t>(&mut self, rest: &'t str, sink: &mut impl Sink) -> &'t str {
        match rest.as_bytes().first() {
            Some(b'!') => self.state = State::Declaration(Declaration::Unknown, 0),
            Some(b'/') => {
                self.state = State::EndTagOpen;
                let rest = text_after(rest, 1);
                return if rest.is_empty() { rest } else { self.read_end_tag_open(rest, sink) };
            }
            Some(b'?') => self.state = State::Bogus,
            Some(byte) if byte.is_ascii_alphabetic() => {
                self.tag.start(false);
                return self.begin_tag(rest, sink);
            }
            // The `<` is text, as in `1 < 2`.
            _ => {
                sink.add_text("<");
                self.state = State::Text;
                return rest;
            }
        }
        text_after(rest, 1)
    }

    fn read_end_tag_open<'t>(&mut self, rest: &'t str, sink: &mut impl Sink) -> &'t str {
        match rest.as_bytes().first() {
            Some(byte) if byte.is_ascii_alphabetic() => {
                self.tag.start(true);
                self.begin_tag(rest, sink)
            }
            // `</ x>` is a comment. `</>` is ignored: the state ends at its `>`.
            _ => {
                self.state = State::Bogus;
                rest
            }
        }
    }

    /// Reads a tag from its first letter.
    fn begin_tag<'t>(&mut self, rest: &'t str, sink: &mut impl Sink) -> &'t str {
        // Most tags are complete in this chunk, and are read without states.
        if let Some(rest) = self.tag.push_complete(rest) {
            self.emit_tag(sink);
            return rest;
        }
        self.state = State::Tag;
        self.read_tag(rest, sink)
    }

    fn read_tag<'t>(&mut self, rest: &'t str, sink: &mut impl Sink) -> &'t str {
        let Some(rest) = self.tag.push(rest) else { return "" };
        self.emit_tag(sink);
        rest
    }

    /// Passes the complete tag to the sink, and enters the state that reads the content after it.
    fn emit_tag(&mut self, sink: &mut impl Sink) {
        let tag = self.tag.tag();
        self.state = State::Text;
        if tag.is_end() {
            sink.end_tag(tag);
            return;
        }
        match sink.start_tag(tag) {
            Content::Markup => {}
            Content::PlainText => self.state = State::PlainText,
            content @ (Content::Raw | Content::Script) => {
                self.raw.start(tag.name(), content == Content::Script);
                self.state = State::Raw;
            }
        }
    }

    /// Returns why an entity of the document could not be expanded.
    pub(super) const fn error(&self) -> Option<EntityError> {
        self.doctype.error
    }

    fn read_cdata<'t>(&mut self, rest: &'t str, brackets: usize, sink: &mut impl Sink) -> &'t str {
        match (rest.as_bytes().first(), brackets) {
            (Some(b'>'), 2) => self.state = State::Text,
            // In `]]]>`, the first bracket is text.
            (Some(b']'), 2) => sink.add_text("]"),
            (Some(b']'), _) => self.state = State::Cdata(brackets.saturating_add(1)),
            _ => {
                // The brackets do not end the section, so they are text.
                sink.add_text("]]".get(..brackets).unwrap_or_default());
                self.state = State::Cdata(0);
                let end = memchr(b']', rest.as_bytes()).unwrap_or(rest.len());
                sink.add_text(text_before(rest, end));
                return text_after(rest, end);
            }
        }
        text_after(rest, 1)
    }
}

/// Returns the text before `end`, which must be a character boundary. Callers use positions next to
/// an ASCII character.
fn text_before(text: &str, end: usize) -> &str {
    text.get(..end).unwrap_or_default()
}

/// Returns the text from `start`, which must be a character boundary, as for [`text_before`].
fn text_after(text: &str, start: usize) -> &str {
    text.get(start..).unwrap_or_default()
}

/// Adds text of an element in which HTML replaces NUL with U+FFFD. Elsewhere, NUL is dropped.
fn add_text_replacing_nul(text: &str, sink: &mut impl Sink) {
    let mut parts = text.split('\0');
    sink.add_text(parts.next().unwrap_or_default());
    for part in parts {
        sink.add_text("\u{fffd}");
        sink.add_text(part);
    }
}

#[cfg(test)]
pub(super) mod tests;
