//! Elements whose content is text up to their own end tag, whatever it looks like.

use memchr::{memchr, memchr3};

use super::{
    Sink, add_without_nul, after, before,
    tag::{Name, is_space},
};

/// The name that, within a comment within a script, makes end tags count by pairs.
const SCRIPT: &[u8] = b"script";

/// How a script's end tags are hidden.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Escape {
    #[default]
    None,
    /// After `<!--`.
    Once,
    /// After `<!--` and `<script`: the next `</script` is no end tag.
    Twice,
}

#[derive(Clone, Copy, Debug, Default)]
enum At {
    #[default]
    Text,
    /// After `<`.
    Open,
    /// After `</`.
    EndOpen,
    /// In what may be the name of the end tag.
    EndName,
    /// After `<!` and so many dashes.
    Bang(u8),
    /// After so many letters of `script`, or in another name if there is no number.
    Word(Option<usize>),
}

/// Reads raw text.
#[derive(Default)]
pub(super) struct Raw {
    at: At,
    /// The name whose end tag is looked for.
    name: Name,
    /// The letters after `</`, as written: fewer than `name` has, or as many.
    held: String,
    is_script: bool,
    escape: Escape,
    /// Dashes just before this place, two at most.
    dashes: u8,
}

impl Raw {
    /// Returns the name of the element.
    pub(super) const fn name(&self) -> &Name {
        &self.name
    }

    /// Begins the content of the element `name`.
    pub(super) fn start(&mut self, name: &str, is_script: bool) {
        self.name.clear();
        self.name.push(name);
        self.is_script = is_script;
        self.escape = Escape::None;
        self.at = At::Text;
    }

    /// Reads on; returns what follows the name in the end tag, or `None` if that has not come.
    pub(super) fn push<'t>(&mut self, text: &'t str, sink: &mut impl Sink) -> Option<&'t str> {
        let mut rest = text;
        while let Some(&byte) = rest.as_bytes().first() {
            match self.at {
                At::Text => rest = self.text(rest, sink),
                At::Open => rest = self.open(rest, byte, sink),
                At::EndOpen if byte.is_ascii_alphabetic() => {
                    self.held.clear();
                    self.at = At::EndName;
                }
                At::EndOpen => {
                    sink.text("</");
                    self.at = At::Text;
                }
                At::EndName => {
                    let letters = rest.bytes().take_while(u8::is_ascii_alphabetic);
                    let space = self.name.as_str().len().saturating_sub(self.held.len());
                    // One letter more than there is space for shows that it is another name.
                    let length = letters.take(space.saturating_add(1)).count();
                    self.held.push_str(before(rest, length));
                    rest = after(rest, length);
                    if let Some(&next) = rest.as_bytes().first() {
                        let is_name = self.held.eq_ignore_ascii_case(self.name.as_str());
                        if is_name && (is_space(next) || matches!(next, b'/' | b'>')) {
                            return Some(rest);
                        }
                        self.give_up_end(sink);
                    } else if self.held.len() > self.name.as_str().len() {
                        self.give_up_end(sink);
                    }
                }
                At::Bang(dashes) if byte == b'-' => {
                    sink.text("-");
                    rest = after(rest, 1);
                    self.at = At::Bang(1);
                    if dashes == 1 {
                        self.escape = Escape::Once;
                        self.dashes = 2;
                        self.at = At::Text;
                    }
                }
                At::Bang(_) => self.at = At::Text,
                At::Word(matched) => rest = self.word(rest, byte, matched, sink),
            }
        }
        None
    }

    /// Ends the page within the element.
    pub(super) fn end(&mut self, sink: &mut impl Sink) {
        match self.at {
            At::Open => sink.text("<"),
            At::EndOpen => sink.text("</"),
            At::EndName => self.give_up_end(sink),
            At::Text | At::Bang(_) | At::Word(_) => {}
        }
    }

    fn give_up_end(&mut self, sink: &mut impl Sink) {
        sink.text("</");
        sink.text(&self.held);
        self.at = At::Text;
    }

    fn text<'t>(&mut self, rest: &'t str, sink: &mut impl Sink) -> &'t str {
        let bytes = rest.as_bytes();
        let found = match self.escape {
            Escape::None => memchr(b'<', bytes),
            Escape::Once | Escape::Twice => memchr3(b'<', b'-', b'>', bytes),
        };
        let end = found.unwrap_or(bytes.len());
        add_without_nul(before(rest, end), sink);
        if end > 0 {
            self.dashes = 0;
        }
        match bytes.get(end) {
            None => return "",
            Some(b'-') => {
                sink.text("-");
                self.dashes = self.dashes.saturating_add(1).min(2);
            }
            Some(b'>') => {
                sink.text(">");
                if self.dashes == 2 {
                    self.escape = Escape::None;
                }
                self.dashes = 0;
            }
            Some(_) => {
                self.dashes = 0;
                self.at = At::Open;
            }
        }
        after(rest, end.saturating_add(1))
    }

    fn open<'t>(&mut self, rest: &'t str, byte: u8, sink: &mut impl Sink) -> &'t str {
        self.at = match byte {
            b'/' if self.escape == Escape::Twice => {
                sink.text("</");
                At::Word(Some(0))
            }
            b'/' => At::EndOpen,
            b'!' if self.is_script && self.escape == Escape::None => {
                sink.text("<!");
                At::Bang(0)
            }
            letter if letter.is_ascii_alphabetic() && self.escape == Escape::Once => {
                sink.text("<");
                self.at = At::Word(Some(0));
                return rest;
            }
            _ => {
                sink.text("<");
                self.at = At::Text;
                return rest;
            }
        };
        after(rest, 1)
    }

    /// Reads a name that may be `script`, which changes how the next end tag is taken.
    fn word<'t>(
        &mut self,
        rest: &'t str,
        byte: u8,
        matched: Option<usize>,
        sink: &mut impl Sink,
    ) -> &'t str {
        if byte.is_ascii_alphabetic() {
            sink.text(before(rest, 1));
            let expected = matched.and_then(|matched| SCRIPT.get(matched));
            let fits = expected.is_some_and(|expected| byte.eq_ignore_ascii_case(expected));
            self.at = At::Word(matched.filter(|_| fits).map(|matched| matched.saturating_add(1)));
            return after(rest, 1);
        }
        if matched == Some(SCRIPT.len()) && (is_space(byte) || matches!(byte, b'/' | b'>')) {
            self.escape = if self.escape == Escape::Once { Escape::Twice } else { Escape::Once };
        }
        self.at = At::Text;
        rest
    }
}
