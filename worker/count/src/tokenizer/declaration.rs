//! Parts of a page that begin with `<!`, and references to the entities that it declares.

use memchr::memchr;

use super::{
    Comment, Declaration, ENTITY_NAME_BYTES_MAX, Sink, State, Tokenizer, doctype::entity_name,
    reference::resolve_in_attribute, text_after, text_before,
};

impl Tokenizer {
    pub(super) fn read_declaration<'t>(
        &mut self,
        rest: &'t str,
        kind: Declaration,
        matched_bytes: usize,
        sink: &impl Sink,
    ) -> &'t str {
        let byte = rest.as_bytes().first();
        // The first byte selects the expected name. Then all bytes of the name are compared.
        let (kind, name) = match (kind, byte) {
            (Declaration::Comment, _) | (Declaration::Unknown, Some(b'-')) => {
                (Declaration::Comment, b"--".as_slice())
            }
            (Declaration::Cdata, _) | (Declaration::Unknown, Some(b'[')) => {
                (Declaration::Cdata, b"[CDATA[".as_slice())
            }
            (Declaration::Unknown, _) => {
                self.doctype.start();
                self.state = State::Doctype;
                return rest;
            }
        };
        if byte != name.get(matched_bytes) {
            // Not a comment or CDATA, for example `<!-x>`, which ends at the first `>`.
            self.state = State::Bogus;
            return rest;
        }
        let matched_bytes = matched_bytes.saturating_add(1);
        self.state = match kind {
            _ if matched_bytes < name.len() => State::Declaration(kind, matched_bytes),
            Declaration::Comment => State::Comment(Comment::Start),
            Declaration::Cdata if sink.has_cdata() => State::Cdata(0),
            Declaration::Cdata | Declaration::Unknown => State::Bogus,
        };
        text_after(rest, 1)
    }

    /// Reads a document type declaration, or another declaration.
    pub(super) fn read_doctype<'t>(&mut self, rest: &'t str, sink: &mut impl Sink) -> &'t str {
        let Some(rest) = self.doctype.push(rest) else { return "" };
        sink.doctype(self.doctype.text());
        self.state = State::Text;
        rest
    }

    /// Reads a reference in a document that declares entities, after `&`.
    pub(super) fn read_entity<'t>(&mut self, rest: &'t str, sink: &mut impl Sink) -> &'t str {
        let name = entity_name(rest);
        let free_bytes = ENTITY_NAME_BYTES_MAX.saturating_sub(self.entity_name.len());
        let name = text_before(name, name.floor_char_boundary(free_bytes));
        self.entity_name.push_str(name);
        let rest = text_after(rest, name.len());
        if rest.is_empty() && name.len() < free_bytes {
            return rest;
        }
        let expanded = rest
            .strip_prefix(';')
            .and_then(|after| Some((self.doctype.entities.expand(&self.entity_name)?, after)));
        self.state = State::Text;
        match expanded {
            Some((Ok(text), after)) => {
                sink.add_text(&resolve_in_attribute(&text));
                after
            }
            Some((Err(error), after)) => {
                self.doctype.error.get_or_insert(error);
                after
            }
            // Not a declared entity, so it is a character reference.
            None => {
                self.reference.start();
                let name = std::mem::take(&mut self.entity_name);
                match self.reference.push(&name, sink) {
                    // The reference ended inside the name, and the remaining letters are text.
                    Some(after) => sink.add_text(after),
                    None => self.state = State::Reference,
                }
                rest
            }
        }
    }

    pub(super) fn read_comment<'t>(&mut self, rest: &'t str, comment: Comment) -> &'t str {
        if matches!(comment, Comment::Inside) {
            let Some(dash) = memchr(b'-', rest.as_bytes()) else {
                return "";
            };
            self.state = State::Comment(Comment::Dash);
            return text_after(rest, dash.saturating_add(1));
        }
        // `<!-->` and `<!--->` are complete comments. `--!>` also ends a comment, and so does
        // `---->`, because dashes after `--` change nothing.
        let next = match (rest.as_bytes().first(), comment) {
            (Some(b'>'), Comment::Start | Comment::StartDash | Comment::End | Comment::EndBang) => {
                self.state = State::Text;
                return text_after(rest, 1);
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
        text_after(rest, 1)
    }
}
