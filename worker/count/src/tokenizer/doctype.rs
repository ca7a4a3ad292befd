//! Document type declarations: their start, and in XML the entities that they declare.

use std::collections::HashMap;

use super::text_before;

/// Maximum length of the stored part of a declaration before its internal subset, in bytes.
pub(super) const DOCTYPE_BYTES_MAX: usize = 1024;

/// Maximum size of the declarations of entities in a document, in bytes.
pub(crate) const ENTITY_DECLARATION_BYTES_MAX: usize = 64 * 1024;

/// Maximum size of the text that the entities of a document expand to, in bytes.
pub(crate) const ENTITY_TEXT_BYTES_MAX: usize = 1024 * 1024;

/// Maximum depth of entities whose text refers to other entities.
const ENTITY_DEPTH_MAX: u32 = 16;

/// Size of an entity in memory in addition to its declaration, approximately, in bytes.
const ENTITY_OVERHEAD_BYTES: usize = 64;

/// Start of the declaration of an entity, after `<`.
const ENTITY: &str = "!ENTITY";

/// Reason why an entity cannot be expanded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntityError {
    /// The document refers to a parameter entity, which can declare anything.
    #[error("parameter entities are not supported")]
    Parameter,
    /// The document refers to an entity in another file.
    #[error("external entities are not supported")]
    External,
    /// The text of an entity contains tags.
    #[error("entities that contain markup are not supported")]
    Markup,
    /// The declarations are larger than 64 KiB.
    #[error("the entity declarations are larger than {ENTITY_DECLARATION_BYTES_MAX} bytes")]
    DeclarationsTooLarge,
    /// The entities expand to more than 1 MiB, or are nested more than 16 levels deep.
    #[error(
        "the entities expand to more than {ENTITY_TEXT_BYTES_MAX} bytes, or are nested too deeply"
    )]
    ExpansionTooLarge,
}

/// An entity of a document.
#[derive(Debug)]
enum DeclaredEntity {
    /// The replacement text, in which character references are resolved.
    Text(String),
    External,
}

/// The entities that a document declares.
#[derive(Debug, Default)]
pub(super) struct Entities {
    by_name: HashMap<String, DeclaredEntity>,
    declared_bytes: usize,
    /// Size of the text so far, in bytes.
    text_bytes: usize,
}

impl Entities {
    pub(super) fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Returns the text of an entity, or `None` if it is not declared.
    pub(super) fn expand(&mut self, name: &str) -> Option<Result<String, EntityError>> {
        self.by_name.contains_key(name).then(|| {
            let mut text = String::new();
            self.expand_into(name, 0, &mut text).map(|()| text)
        })
    }

    fn expand_into(
        &mut self,
        name: &str,
        depth: u32,
        text: &mut String,
    ) -> Result<(), EntityError> {
        let replacement = match self.by_name.get(name) {
            Some(DeclaredEntity::Text(replacement)) => replacement.clone(),
            Some(DeclaredEntity::External) => return Err(EntityError::External),
            // A reference to a predefined entity is resolved with the text around it.
            None => {
                text.push('&');
                text.push_str(name);
                text.push(';');
                return Ok(());
            }
        };
        // Every expansion counts, even of an empty text, so that the time is bounded as well.
        self.text_bytes = self.text_bytes.saturating_add(replacement.len()).saturating_add(1);
        if depth >= ENTITY_DEPTH_MAX || self.text_bytes > ENTITY_TEXT_BYTES_MAX {
            return Err(EntityError::ExpansionTooLarge);
        }
        if replacement.contains('<') {
            return Err(EntityError::Markup);
        }
        let mut rest = replacement.as_str();
        while let Some((before, after)) = rest.split_once('&') {
            text.push_str(before);
            match after.split_once(';').filter(|(name, _)| !name.starts_with('#')) {
                Some((name, after)) => {
                    self.expand_into(name, depth.saturating_add(1), text)?;
                    rest = after;
                }
                None => {
                    text.push('&');
                    rest = after;
                }
            }
        }
        text.push_str(rest);
        Ok(())
    }

    /// Adds the entity of a declaration, without `<` and `>`. The first declaration of a name
    /// takes precedence. Other declarations, and parameter entities without a reference, do not
    /// change the text.
    fn declare(&mut self, declaration: &str) {
        let Some(rest) = declaration.strip_prefix(ENTITY) else { return };
        let rest = rest.trim_ascii_start();
        if rest.starts_with('%') {
            return;
        }
        let name_bytes = rest.find(|c: char| c.is_ascii_whitespace()).unwrap_or(rest.len());
        let (name, value) = rest.split_at_checked(name_bytes).unwrap_or_default();
        let value = value.trim_ascii_start();
        let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''));
        let entity = match quote.and_then(|quote| value.get(1..)?.split_once(quote)) {
            Some((literal, _)) => DeclaredEntity::Text(resolve_numbers(literal)),
            None => DeclaredEntity::External,
        };
        self.declared_bytes = self.declared_bytes.saturating_add(ENTITY_OVERHEAD_BYTES);
        self.by_name.entry(name.to_owned()).or_insert(entity);
    }
}

/// Resolves numeric character references, as XML does in the declaration of an entity.
fn resolve_numbers(literal: &str) -> String {
    let mut text = String::new();
    let mut rest = literal;
    while let Some((before, after)) = rest.split_once("&#") {
        text.push_str(before);
        let number = after.split_once(';').and_then(|(number, tail)| {
            let code = match number.strip_prefix('x') {
                Some(digits) => u32::from_str_radix(digits, 16).ok()?,
                None => number.parse().ok()?,
            };
            Some((char::from_u32(code)?, tail))
        });
        match number {
            Some((c, tail)) => {
                text.push(c);
                rest = tail;
            }
            None => {
                text.push_str("&#");
                rest = after;
            }
        }
    }
    text.push_str(rest);
    text
}

/// Position in a document type declaration.
#[derive(Clone, Copy, Debug, Default)]
enum Position {
    /// Before the internal subset, or without one.
    #[default]
    Start,
    /// In a quoted identifier, up to this quote.
    Quoted(u8),
    /// In the internal subset, between two declarations.
    Subset,
    /// In a declaration of the internal subset, after `<`.
    Declaration,
    /// In a quoted value of a declaration.
    QuotedValue(u8),
    /// In a comment of the internal subset, after the given number of dashes, two at most.
    Comment(u8),
    /// In a processing instruction of the internal subset. `true` after a question mark.
    Instruction(bool),
    /// After the internal subset.
    End,
}

/// Reader of document type declarations, which follow `<!`.
#[derive(Debug, Default)]
pub(super) struct DoctypeReader {
    is_xml: bool,
    position: Position,
    /// The declaration before the internal subset, up to [`DOCTYPE_BYTES_MAX`].
    text: String,
    /// Length of the declaration so far, which can be longer than its stored part.
    text_bytes: usize,
    /// The current declaration of the internal subset.
    declaration: String,
    pub(super) entities: Entities,
    pub(super) error: Option<EntityError>,
}

impl DoctypeReader {
    pub(super) fn new(is_xml: bool) -> Self {
        Self { is_xml, ..Self::default() }
    }

    /// Begins a declaration.
    pub(super) fn start(&mut self) {
        self.position = Position::Start;
        self.text.clear();
        self.text_bytes = 0;
    }

    /// Returns the declaration before its internal subset.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Reads the next chunk. Returns the text after the declaration, or `None` if it is incomplete.
    pub(super) fn push<'t>(&mut self, text: &'t str) -> Option<&'t str> {
        let end = text.char_indices().find(|(_, c)| self.push_char(*c));
        end.and_then(|(index, _)| text.get(index.saturating_add(1)..))
    }

    /// Reads a character. Returns whether it ends the declaration.
    fn push_char(&mut self, c: char) -> bool {
        self.position = match (self.position, c) {
            (Position::Start | Position::End, '>') => return true,
            // In HTML, a declaration ends at the next `>`, even inside quotes.
            (Position::Start, '[') if self.is_xml => Position::Subset,
            (Position::Start, '"') if self.is_xml => self.store(c, Position::Quoted(b'"')),
            (Position::Start, '\'') if self.is_xml => self.store(c, Position::Quoted(b'\'')),
            (Position::Quoted(quote), _) if c == char::from(quote) => {
                self.store(c, Position::Start)
            }
            (position @ (Position::Start | Position::Quoted(_)), _) => self.store(c, position),
            (Position::Subset, ']') => Position::End,
            (Position::Subset, '<') => {
                self.declaration.clear();
                Position::Declaration
            }
            (Position::Subset, '%') => self.fail(EntityError::Parameter),
            (Position::Declaration, '>') => {
                self.entities.declare(&self.declaration);
                Position::Subset
            }
            (Position::Declaration, '?') if self.declaration.is_empty() => {
                Position::Instruction(false)
            }
            (Position::Declaration, '-') if self.declaration == "!-" => Position::Comment(0),
            (Position::Declaration, '"') => self.store_value(c, Position::QuotedValue(b'"')),
            (Position::Declaration, '\'') => self.store_value(c, Position::QuotedValue(b'\'')),
            (Position::Declaration, _) => self.store_value(c, Position::Declaration),
            (Position::QuotedValue(quote), _) if c == char::from(quote) => {
                self.store_value(c, Position::Declaration)
            }
            (position @ Position::QuotedValue(_), _) => self.store_value(c, position),
            (Position::Comment(2), '>') | (Position::Instruction(true), '>') => Position::Subset,
            (Position::Comment(dashes), '-') => Position::Comment(dashes.saturating_add(1).min(2)),
            (Position::Comment(_), _) => Position::Comment(0),
            (Position::Instruction(_), _) => Position::Instruction(c == '?'),
            (position @ (Position::Subset | Position::End), _) => position,
        };
        false
    }

    fn store(&mut self, c: char, position: Position) -> Position {
        self.text_bytes = self.text_bytes.saturating_add(c.len_utf8());
        if self.text_bytes <= DOCTYPE_BYTES_MAX {
            self.text.push(c);
        }
        position
    }

    /// Stores a character of a declaration, if it declares an entity.
    fn store_value(&mut self, c: char, position: Position) -> Position {
        if self.declaration.len() >= ENTITY.len() {
            if !self.declaration.starts_with(ENTITY) {
                return position;
            }
            self.entities.declared_bytes =
                self.entities.declared_bytes.saturating_add(c.len_utf8());
            if self.entities.declared_bytes > ENTITY_DECLARATION_BYTES_MAX {
                return self.fail(EntityError::DeclarationsTooLarge);
            }
        }
        self.declaration.push(c);
        position
    }

    fn fail(&mut self, error: EntityError) -> Position {
        self.error.get_or_insert(error);
        self.declaration.clear();
        Position::Subset
    }
}

/// Returns the part of a text that can be the name of an entity.
pub(super) fn entity_name(text: &str) -> &str {
    let is_name = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    let length = text.find(|c: char| !is_name(c)).unwrap_or(text.len());
    text_before(text, length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(subset: &str, name: &str) -> Result<String, EntityError> {
        let mut reader = DoctypeReader::new(true);
        assert_eq!(reader.push(&format!("DOCTYPE html [{subset}]>rest")), Some("rest"));
        match reader.error {
            Some(error) => Err(error),
            None => reader.entities.expand(name).unwrap(),
        }
    }

    #[test]
    fn declared_texts_are_expanded() {
        for (subset, text) in [
            ("<!ENTITY e 'a b'>", "a b"),
            ("<!ENTITY e \"it's > ]\">", "it's > ]"),
            ("<!ENTITY e 'first'><!ENTITY e 'second'>", "first"),
            ("<!ENTITY f 'b'>\n<!ENTITY e 'a&f;c'>", "abc"),
            ("<!ENTITY e '&#65;&#x42;&#38;#67;'>", "AB&#67;"),
            ("<!ENTITY e '&amp;&lt;'>", "&amp;&lt;"),
            ("<!-- <!ENTITY e 'x'> --><?x '?><!ENTITY e 'a'>", "a"),
            ("<!ELEMENT p (a|b)*><!ATTLIST p c CDATA '>'><!ENTITY e 'a'>", "a"),
            ("<!ENTITY % p 'x'><!ENTITY x SYSTEM 'x'><!ENTITY e 'a'>", "a"),
            ("<!ENTITY e ''>", ""),
        ] {
            assert_eq!(expand(subset, "e").as_deref(), Ok(text), "{subset}");
        }
    }

    #[test]
    fn other_entities_are_refused() {
        let large = format!("<!ENTITY e '{}'>", "x".repeat(ENTITY_DECLARATION_BYTES_MAX));
        for (subset, error) in [
            ("<!ENTITY e SYSTEM 'file:///etc/passwd'>", EntityError::External),
            ("<!ENTITY e PUBLIC 'a' 'b'>", EntityError::External),
            ("<!ENTITY f SYSTEM 'x'><!ENTITY e '&f;'>", EntityError::External),
            ("<!ENTITY % p SYSTEM 'x'>%p;<!ENTITY e 'a'>", EntityError::Parameter),
            ("<!ENTITY e '<b>a</b>'>", EntityError::Markup),
            ("<!ENTITY e '&#60;b>'>", EntityError::Markup),
            ("<!ENTITY e 'a&e;'>", EntityError::ExpansionTooLarge),
            (&large, EntityError::DeclarationsTooLarge),
        ] {
            assert_eq!(expand(subset, "e"), Err(error), "{error}");
        }
    }

    #[test]
    fn exponential_expansion_is_limited() {
        let mut subset = "<!ENTITY l0 'lol'>".to_owned();
        for level in 1..12 {
            let reference = format!("&l{};", level - 1);
            subset.push_str(&format!("<!ENTITY l{level} '{}'>", reference.repeat(10)));
        }
        assert_eq!(expand(&subset, "l11"), Err(EntityError::ExpansionTooLarge));
    }

    #[test]
    fn html_has_no_internal_subset() {
        let mut reader = DoctypeReader::new(false);
        assert_eq!(
            reader.push("doctype html '>' [<!ENTITY e 'a'>]>"),
            Some("' [<!ENTITY e 'a'>]>")
        );
        assert!(reader.entities.is_empty());
    }
}
