//! Raw text: the content of elements such as `script` and `title`, up to their end tag.

use memchr::{memchr, memchr3};

use super::{
    Sink, add_text_replacing_nul,
    name::{Name, is_space},
    text_after, text_before,
};

/// Name of the element whose tags can be nested within a comment of a script. In
/// `<!--<script></script>`, the end tag belongs to the inner start tag.
const SCRIPT: &[u8] = b"script";

/// Whether a comment in a script hides end tags (*escaped* in the HTML standard).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Escape {
    #[default]
    None,
    /// After `<!--`.
    Once,
    /// After `<!--` and `<script`: the next `</script` does not end the element.
    Twice,
}

#[derive(Clone, Copy, Debug, Default)]
enum RawState {
    #[default]
    Text,
    /// After `<`.
    LessThan,
    /// After `</`.
    EndTagOpen,
    /// In letters that may be the name of the end tag.
    EndTagName,
    /// After `<!` and the given number of dashes.
    CommentStart(u8),
    /// After the given number of letters of `script`, or `None` in another name.
    ScriptName(Option<usize>),
}

/// Reader of raw text.
#[derive(Default)]
pub(super) struct Raw {
    state: RawState,
    /// Name of the element. Its end tag ends the text.
    name: Name,
    /// Letters after `</`, as written: at most one more than `name` has.
    end_name: String,
    is_script: bool,
    escape: Escape,
    /// Number of dashes immediately before, two at most.
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
        self.state = RawState::Text;
    }

    /// Reads the next chunk. Returns the text after the name of the end tag, or `None` if the end
    /// tag is not reached.
    pub(super) fn push<'t>(&mut self, text: &'t str, sink: &mut impl Sink) -> Option<&'t str> {
        let mut rest = text;
        while let Some(&byte) = rest.as_bytes().first() {
            match self.state {
                RawState::Text => rest = self.read_text(rest, sink),
                RawState::LessThan => rest = self.read_less_than(rest, byte, sink),
                RawState::EndTagOpen if byte.is_ascii_alphabetic() => {
                    self.end_name.clear();
                    self.state = RawState::EndTagName;
                }
                RawState::EndTagOpen => {
                    sink.add_text("</");
                    self.state = RawState::Text;
                }
                RawState::EndTagName => {
                    let letters = rest.bytes().take_while(u8::is_ascii_alphabetic);
                    let space = self.name.as_str().len().saturating_sub(self.end_name.len());
                    // Read one letter more than `name` has, to detect a longer name: `</titles`
                    // does not close a `title`.
                    let length = letters.take(space.saturating_add(1)).count();
                    self.end_name.push_str(text_before(rest, length));
                    rest = text_after(rest, length);
                    // At the end of the chunk, more letters may follow.
                    if let Some(&next) = rest.as_bytes().first() {
                        let is_name = self.end_name.eq_ignore_ascii_case(self.name.as_str());
                        if is_name && (is_space(next) || matches!(next, b'/' | b'>')) {
                            return Some(rest);
                        }
                        self.emit_rejected_end_tag(sink);
                    } else if self.end_name.len() > self.name.as_str().len() {
                        self.emit_rejected_end_tag(sink);
                    }
                }
                RawState::CommentStart(dashes) if byte == b'-' => {
                    sink.add_text("-");
                    rest = text_after(rest, 1);
                    self.state = RawState::CommentStart(1);
                    if dashes == 1 {
                        // These dashes also belong to `-->`: `<!-->` is a complete comment.
                        self.escape = Escape::Once;
                        self.dashes = 2;
                        self.state = RawState::Text;
                    }
                }
                RawState::CommentStart(_) => self.state = RawState::Text,
                RawState::ScriptName(matched_letters) => {
                    rest = self.read_script_name(rest, byte, matched_letters, sink);
                }
            }
        }
        None
    }

    /// Ends the page inside the element.
    pub(super) fn end(&mut self, sink: &mut impl Sink) {
        match self.state {
            RawState::LessThan => sink.add_text("<"),
            RawState::EndTagOpen => sink.add_text("</"),
            RawState::EndTagName => self.emit_rejected_end_tag(sink),
            RawState::Text | RawState::CommentStart(_) | RawState::ScriptName(_) => {}
        }
    }

    /// Adds `</` and the letters after it as text, because they are not the end tag.
    fn emit_rejected_end_tag(&mut self, sink: &mut impl Sink) {
        sink.add_text("</");
        sink.add_text(&self.end_name);
        self.state = RawState::Text;
    }

    fn read_text<'t>(&mut self, rest: &'t str, sink: &mut impl Sink) -> &'t str {
        let bytes = rest.as_bytes();
        let next = match self.escape {
            Escape::None => memchr(b'<', bytes),
            // Dashes and `>` can end the comment.
            Escape::Once | Escape::Twice => memchr3(b'<', b'-', b'>', bytes),
        };
        let end = next.unwrap_or(bytes.len());
        add_text_replacing_nul(text_before(rest, end), sink);
        if end > 0 {
            self.dashes = 0;
        }
        match bytes.get(end) {
            None => return "",
            Some(b'-') => {
                sink.add_text("-");
                self.dashes = self.dashes.saturating_add(1).min(2);
            }
            Some(b'>') => {
                sink.add_text(">");
                // `-->` ends the comment, and the nesting with it.
                if self.dashes == 2 {
                    self.escape = Escape::None;
                }
                self.dashes = 0;
            }
            Some(_) => {
                self.dashes = 0;
                self.state = RawState::LessThan;
            }
        }
        text_after(rest, end.saturating_add(1))
    }

    fn read_less_than<'t>(&mut self, rest: &'t str, byte: u8, sink: &mut impl Sink) -> &'t str {
        self.state = match byte {
            b'/' if self.escape == Escape::Twice => {
                // Only `</script` matters here: it ends the inner script.
                sink.add_text("</");
                RawState::ScriptName(Some(0))
            }
            b'/' => RawState::EndTagOpen,
            b'!' if self.is_script && self.escape == Escape::None => {
                sink.add_text("<!");
                RawState::CommentStart(0)
            }
            letter if letter.is_ascii_alphabetic() && self.escape == Escape::Once => {
                sink.add_text("<");
                self.state = RawState::ScriptName(Some(0));
                return rest;
            }
            _ => {
                sink.add_text("<");
                self.state = RawState::Text;
                return rest;
            }
        };
        text_after(rest, 1)
    }

    /// Reads a name. If it is `script`, its tag begins or ends the inner script.
    fn read_script_name<'t>(
        &mut self,
        rest: &'t str,
        byte: u8,
        matched_letters: Option<usize>,
        sink: &mut impl Sink,
    ) -> &'t str {
        if byte.is_ascii_alphabetic() {
            sink.add_text(text_before(rest, 1));
            let expected = matched_letters.and_then(|matched_letters| SCRIPT.get(matched_letters));
            let is_match = expected.is_some_and(|expected| byte.eq_ignore_ascii_case(expected));
            self.state = RawState::ScriptName(
                matched_letters
                    .filter(|_| is_match)
                    .map(|matched_letters| matched_letters.saturating_add(1)),
            );
            return text_after(rest, 1);
        }
        if matched_letters == Some(SCRIPT.len()) && (is_space(byte) || matches!(byte, b'/' | b'>'))
        {
            self.escape = if self.escape == Escape::Once { Escape::Twice } else { Escape::Once };
        }
        self.state = RawState::Text;
        rest
    }
}
