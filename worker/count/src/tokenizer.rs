//! Text and tags of a page, as a stream.
//!
//! This is the tokenizer of the HTML standard, reduced to what decides which text is seen: comments
//! and doctypes are passed over, and of attributes only those in [`Attribute`] are kept. It takes
//! text in pieces of any size and remembers no more than the names and values of one tag. No byte
//! is looked at more than a constant number of times. Tests hold it against html5gum, a complete
//! tokenizer.

#[cfg(test)]
mod html5lib;
#[cfg(test)]
mod oracle;
mod raw;
mod reference;
mod tag;

use memchr::{memchr, memchr2};

pub(super) use self::tag::{Attribute, Tag};

use self::{raw::Raw, reference::Reference, tag::TagReader};

/// What a page is read for.
pub(super) trait Sink {
    /// Takes text outside of tags, in pieces, with its character references resolved.
    fn text(&mut self, text: &str);

    /// Takes a start tag, and says how to read what follows.
    fn start_tag(&mut self, tag: &Tag) -> Content;

    /// Takes an end tag.
    fn end_tag(&mut self, tag: &Tag);

    /// Returns whether `<![CDATA[` begins text at this place, as in XML, or a comment, as in HTML.
    fn has_cdata(&self) -> bool;
}

/// How the content of an element is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// With tags and character references.
    Markup,
    /// As text up to the element's own end tag.
    Raw,
    /// As [`Content::Raw`], except that `<!--` can hide an end tag.
    Script,
    /// As text up to the end of the page.
    Plain,
}

/// Where the scanner is between two pieces.
#[derive(Clone, Copy, Debug)]
enum State {
    Text,
    /// After `<`.
    Open,
    /// After `</`.
    EndOpen,
    Tag,
    /// After `<!` and so many bytes of the start of a comment or of CDATA.
    Declaration(Declaration, usize),
    /// In what ends at the next `>`.
    Bogus,
    Comment(Comment),
    /// In CDATA, after so many closing brackets, two at most.
    Cdata(usize),
    Reference,
    Raw,
    Plain,
}

#[derive(Clone, Copy, Debug)]
enum Declaration {
    Unknown,
    Comment,
    Cdata,
}

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

/// Reads one page.
pub(super) struct Scanner {
    state: State,
    tag: TagReader,
    reference: Reference,
    raw: Raw,
}

impl Scanner {
    pub(super) fn new() -> Self {
        Self {
            state: State::Text,
            tag: TagReader::default(),
            reference: Reference::default(),
            raw: Raw::default(),
        }
    }

    /// Takes the next piece of the page.
    pub(super) fn push(&mut self, piece: &str, sink: &mut impl Sink) {
        let mut rest = piece;
        // Each step uses up text or goes on to a state that does.
        while !rest.is_empty() {
            rest = self.step(rest, sink);
        }
    }

    /// Ends the page. What was begun and can be text is text; an unfinished tag is nothing.
    pub(super) fn end(&mut self, sink: &mut impl Sink) {
        match self.state {
            State::Open => sink.text("<"),
            State::EndOpen => sink.text("</"),
            State::Cdata(brackets) => sink.text("]]".get(..brackets).unwrap_or_default()),
            State::Reference => self.reference.end(sink),
            State::Raw => self.raw.end(sink),
            State::Text
            | State::Tag
            | State::Declaration(..)
            | State::Bogus
            | State::Comment(_)
            | State::Plain => {}
        }
        self.state = State::Text;
    }

    /// Returns what is left of `rest`.
    fn step<'t>(&mut self, rest: &'t str, sink: &mut impl Sink) -> &'t str {
        match self.state {
            State::Text => self.text(rest, sink),
            State::Open => self.open(rest, sink),
            State::EndOpen => self.end_open(rest, sink),
            State::Tag => self.read_tag(rest, sink),
            State::Declaration(kind, matched) => self.declaration(rest, kind, matched, sink),
            State::Bogus => match memchr(b'>', rest.as_bytes()) {
                Some(end) => {
                    self.state = State::Text;
                    after(rest, end.saturating_add(1))
                }
                None => "",
            },
            State::Comment(comment) => self.comment(rest, comment),
            State::Cdata(brackets) => self.cdata(rest, brackets, sink),
            State::Reference => match self.reference.push(rest, sink) {
                Some(rest) => {
                    self.state = State::Text;
                    rest
                }
                None => "",
            },
            State::Raw => match self.raw.push(rest, sink) {
                Some(rest) => {
                    self.tag.start_raw_end(self.raw.name());
                    self.state = State::Tag;
                    rest
                }
                None => "",
            },
            State::Plain => {
                add_without_nul(rest, sink);
                ""
            }
        }
    }

    fn text<'t>(&mut self, rest: &'t str, sink: &mut impl Sink) -> &'t str {
        let Some(end) = memchr2(b'<', b'&', rest.as_bytes()) else {
            sink.text(rest);
            return "";
        };
        if end > 0 {
            sink.text(before(rest, end));
        }
        let is_tag = rest.as_bytes().get(end) == Some(&b'<');
        let rest = after(rest, end.saturating_add(1));
        if !is_tag {
            self.reference.start();
            self.state = State::Reference;
            return rest;
        }
        self.state = State::Open;
        // What follows is usually here already, and going on is faster than choosing the way anew.
        if rest.is_empty() { rest } else { self.open(rest, sink) }
    }

    fn open<'t>(&mut self, rest: &'t str, sink: &mut impl Sink) -> &'t str {
        match rest.as_bytes().first() {
            Some(b'!') => self.state = State::Declaration(Declaration::Unknown, 0),
            Some(b'/') => {
                self.state = State::EndOpen;
                let rest = after(rest, 1);
                return if rest.is_empty() { rest } else { self.end_open(rest, sink) };
            }
            Some(b'?') => self.state = State::Bogus,
            Some(byte) if byte.is_ascii_alphabetic() => {
                self.tag.start(false);
                return self.begin_tag(rest, sink);
            }
            _ => {
                sink.text("<");
                self.state = State::Text;
                return rest;
            }
        }
        after(rest, 1)
    }

    fn end_open<'t>(&mut self, rest: &'t str, sink: &mut impl Sink) -> &'t str {
        match rest.as_bytes().first() {
            Some(byte) if byte.is_ascii_alphabetic() => {
                self.tag.start(true);
                self.begin_tag(rest, sink)
            }
            // Ends at once if this is `</>`.
            _ => {
                self.state = State::Bogus;
                rest
            }
        }
    }

    fn begin_tag<'t>(&mut self, rest: &'t str, sink: &mut impl Sink) -> &'t str {
        if let Some(rest) = self.tag.push_whole(rest) {
            self.take_tag(sink);
            return rest;
        }
        self.state = State::Tag;
        self.read_tag(rest, sink)
    }

    fn read_tag<'t>(&mut self, rest: &'t str, sink: &mut impl Sink) -> &'t str {
        let Some(rest) = self.tag.push(rest) else { return "" };
        self.take_tag(sink);
        rest
    }

    fn take_tag(&mut self, sink: &mut impl Sink) {
        let tag = self.tag.tag();
        self.state = State::Text;
        if tag.is_end() {
            sink.end_tag(tag);
            return;
        }
        match sink.start_tag(tag) {
            Content::Markup => {}
            Content::Plain => self.state = State::Plain,
            content @ (Content::Raw | Content::Script) => {
                self.raw.start(tag.name(), content == Content::Script);
                self.state = State::Raw;
            }
        }
    }

    fn declaration<'t>(
        &mut self,
        rest: &'t str,
        kind: Declaration,
        matched: usize,
        sink: &impl Sink,
    ) -> &'t str {
        let byte = rest.as_bytes().first();
        let (kind, name) = match (kind, byte) {
            (Declaration::Comment, _) | (Declaration::Unknown, Some(b'-')) => {
                (Declaration::Comment, b"--".as_slice())
            }
            (Declaration::Cdata, _) | (Declaration::Unknown, Some(b'[')) => {
                (Declaration::Cdata, b"[CDATA[".as_slice())
            }
            // A doctype ends at the next `>`, too.
            (Declaration::Unknown, _) => {
                self.state = State::Bogus;
                return rest;
            }
        };
        if byte != name.get(matched) {
            self.state = State::Bogus;
            return rest;
        }
        let matched = matched.saturating_add(1);
        self.state = match kind {
            _ if matched < name.len() => State::Declaration(kind, matched),
            Declaration::Comment => State::Comment(Comment::Start),
            Declaration::Cdata if sink.has_cdata() => State::Cdata(0),
            Declaration::Cdata | Declaration::Unknown => State::Bogus,
        };
        after(rest, 1)
    }

    fn comment<'t>(&mut self, rest: &'t str, comment: Comment) -> &'t str {
        if matches!(comment, Comment::Inside) {
            let Some(dash) = memchr(b'-', rest.as_bytes()) else {
                return "";
            };
            self.state = State::Comment(Comment::Dash);
            return after(rest, dash.saturating_add(1));
        }
        let next = match (rest.as_bytes().first(), comment) {
            (Some(b'>'), Comment::Start | Comment::StartDash | Comment::End | Comment::EndBang) => {
                self.state = State::Text;
                return after(rest, 1);
            }
            (Some(b'-'), Comment::Start) => Comment::StartDash,
            (Some(b'-'), Comment::StartDash | Comment::Dash | Comment::End) => Comment::End,
            (Some(b'-'), Comment::EndBang) => Comment::Dash,
            (Some(b'!'), Comment::End) => Comment::EndBang,
            _ => {
                self.state = State::Comment(Comment::Inside);
                return rest;
            }
        };
        self.state = State::Comment(next);
        after(rest, 1)
    }

    fn cdata<'t>(&mut self, rest: &'t str, brackets: usize, sink: &mut impl Sink) -> &'t str {
        match (rest.as_bytes().first(), brackets) {
            (Some(b'>'), 2) => self.state = State::Text,
            (Some(b']'), 2) => sink.text("]"),
            (Some(b']'), _) => self.state = State::Cdata(brackets.saturating_add(1)),
            _ => {
                sink.text("]]".get(..brackets).unwrap_or_default());
                self.state = State::Cdata(0);
                let end = memchr(b']', rest.as_bytes()).unwrap_or(rest.len());
                sink.text(before(rest, end));
                return after(rest, end);
            }
        }
        after(rest, 1)
    }
}

/// Returns the start of `text` up to `end`, which is beside an ASCII character.
fn before(text: &str, end: usize) -> &str {
    text.get(..end).unwrap_or_default()
}

/// Returns the rest of `text` from `start`, which is beside an ASCII character.
fn after(text: &str, start: usize) -> &str {
    text.get(start..).unwrap_or_default()
}

/// Adds text in which NUL cannot be passed over.
fn add_without_nul(text: &str, sink: &mut impl Sink) {
    let mut parts = text.split('\0');
    sink.text(parts.next().unwrap_or_default());
    for part in parts {
        sink.text("\u{fffd}");
        sink.text(part);
    }
}

#[cfg(test)]
pub(super) mod tests;
