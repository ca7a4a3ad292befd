//! Reader of one tag: its name, and the attributes in [`Attribute`].

use memchr::memchr;

use super::{
    attribute::Attribute,
    name::{ENDS_ATTRIBUTE_NAME, ENDS_TAG_NAME, Name, NamePart, is_space},
    text_before,
};

/// Maximum length of the stored part of an attribute value, in bytes. The declaration that hides an
/// element can be at the end of a long `style`.
pub(super) const VALUE_BYTES_MAX: usize = 16 << 10;

/// Maximum number of namespace declarations of one tag, and maximum lengths of the stored parts of
/// a prefix and a namespace, in bytes. All known namespaces are shorter.
const NAMESPACES_MAX: usize = 64;
const PREFIX_BYTES_MAX: usize = 64;
const NAMESPACE_BYTES_MAX: usize = 64;

/// A namespace declaration: `xmlns="..."` or `xmlns:prefix="..."`.
#[derive(Clone, Debug, Default)]
pub(crate) struct NamespaceDeclaration {
    /// Prefix, or an empty string for the default namespace.
    pub(crate) prefix: String,
    /// Namespace as written.
    pub(crate) namespace: String,
}

/// A complete tag.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tag {
    name: Name,
    /// Namespace declarations, in XML.
    namespaces: Vec<NamespaceDeclaration>,
    is_end: bool,
    is_closed: bool,
    /// One bit for each attribute that is present.
    present_attributes: u16,
    /// Stored values of the attributes. The value of an absent attribute is from an earlier tag.
    values: [String; Attribute::COUNT],
}

impl Tag {
    /// Creates a start tag with some of the stored attributes.
    #[cfg(test)]
    pub(crate) fn new(name: &str, attributes: &[(&str, &str)]) -> Self {
        let mut tag = Self::default();
        tag.name.push(name);
        for (name, value) in attributes {
            if let Some(attribute) = Attribute::of(name)
                && tag.value(attribute).is_none()
            {
                tag.present_attributes |= attribute.mask();
                tag.values[attribute as usize] = value.replace('&', "&amp;");
            }
        }
        tag
    }

    /// Returns the name in lower case.
    pub(crate) fn name(&self) -> &str {
        self.name.as_str()
    }

    pub(crate) const fn is_end(&self) -> bool {
        self.is_end
    }

    /// Returns whether the tag ends with `/>`.
    pub(crate) const fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Returns whether the tag has any of the stored attributes.
    pub(crate) const fn has_attributes(&self) -> bool {
        self.present_attributes != 0
    }

    /// Returns the value of an attribute as written, up to the limit of the reader, or `None` if it
    /// is absent. Character references in it are not resolved.
    pub(crate) fn value(&self, attribute: Attribute) -> Option<&str> {
        let value = self.values.get(attribute as usize)?;
        (self.present_attributes & attribute.mask() != 0).then_some(value.as_str())
    }

    /// Returns the namespace declarations, in XML.
    pub(crate) fn namespaces(&self) -> &[NamespaceDeclaration] {
        &self.namespaces
    }

    /// Returns whether the name has capital letters. In XML, elements of HTML have none.
    pub(crate) const fn has_capitals(&self) -> bool {
        self.name.has_capitals
    }

    fn reset(&mut self, is_end: bool) {
        self.name.clear();
        self.namespaces.clear();
        self.is_end = is_end;
        self.is_closed = false;
        self.present_attributes = 0;
    }
}

/// Position in a tag.
#[derive(Clone, Copy, Debug, Default)]
enum TagState {
    #[default]
    Name,
    BeforeAttribute,
    AttributeName,
    AfterAttributeName,
    BeforeValue,
    QuotedValue(u8),
    UnquotedValue,
    /// After a `/` between attributes.
    Slash,
}

/// Reads a tag, starting with its name.
#[derive(Default)]
pub(super) struct TagReader {
    state: TagState,
    tag: Tag,
    attribute_name: Name,
    /// Receiver of the current value; `None` if it is not stored.
    current_attribute: Option<Receiver>,
    is_xml: bool,
    /// Maximum length of the stored part of a value, in bytes.
    value_bytes_max: usize,
}

/// Receiver of an attribute value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Receiver {
    Attribute(Attribute),
    /// The last namespace declaration.
    Namespace,
}

impl TagReader {
    pub(super) fn new(is_xml: bool, value_bytes_max: usize) -> Self {
        Self { is_xml, value_bytes_max, ..Self::default() }
    }

    pub(super) const fn tag(&self) -> &Tag {
        &self.tag
    }

    /// Begins a tag. Its name follows.
    pub(super) fn start(&mut self, is_end: bool) {
        self.tag.reset(is_end);
        self.current_attribute = None;
        self.state = TagState::Name;
    }

    /// Begins an end tag after its name.
    pub(super) fn start_raw_end(&mut self, name: &Name) {
        self.tag.reset(true);
        self.tag.name.clone_from(name);
        self.state = TagState::BeforeAttribute;
    }

    /// Reads the next chunk of the tag. Returns the text after the tag, or `None` if it is
    /// incomplete.
    pub(super) fn push<'t>(&mut self, text: &'t str) -> Option<&'t str> {
        let mut rest = text;
        while let Some(&byte) = rest.as_bytes().first() {
            let length = match self.state {
                TagState::Name | TagState::AttributeName => self.read_name(rest),
                TagState::QuotedValue(quote) => self.read_quoted(rest, quote),
                TagState::UnquotedValue => self.read_unquoted(rest),
                TagState::Slash if byte == b'>' => {
                    self.tag.is_closed = true;
                    return rest.get(1..);
                }
                // A `/` that does not end the tag is ignored.
                TagState::Slash => {
                    self.state = TagState::BeforeAttribute;
                    0
                }
                TagState::BeforeAttribute
                | TagState::AfterAttributeName
                | TagState::BeforeValue
                    if byte == b'>' =>
                {
                    return rest.get(1..);
                }
                TagState::BeforeAttribute
                | TagState::AfterAttributeName
                | TagState::BeforeValue
                    if is_space(byte) =>
                {
                    1
                }
                TagState::BeforeAttribute | TagState::AfterAttributeName if byte == b'/' => {
                    self.state = TagState::Slash;
                    1
                }
                TagState::AfterAttributeName if byte == b'=' => {
                    self.state = TagState::BeforeValue;
                    1
                }
                TagState::BeforeAttribute | TagState::AfterAttributeName => {
                    self.attribute_name.clear();
                    self.current_attribute = None;
                    self.state = TagState::AttributeName;
                    // At its start, `=` is part of an attribute name: `<a =b>` has an attribute
                    // `=b`.
                    self.attribute_name.push(text_before(rest, usize::from(byte == b'=')));
                    usize::from(byte == b'=')
                }
                TagState::BeforeValue if matches!(byte, b'"' | b'\'') => {
                    self.state = TagState::QuotedValue(byte);
                    1
                }
                TagState::BeforeValue => {
                    self.state = TagState::UnquotedValue;
                    0
                }
            };
            rest = rest.get(length..).unwrap_or_default();
        }
        None
    }

    /// Reads a whole tag if it is complete in `text` and has the usual syntax. Returns the text
    /// after it. Otherwise resets the tag and returns `None`, and [`Self::push`] must read it.
    pub(super) fn push_complete<'t>(&mut self, text: &'t str) -> Option<&'t str> {
        let rest = self.read_complete(text);
        if rest.is_none() {
            let is_end = self.tag.is_end;
            self.start(is_end);
        }
        rest
    }

    /// Reads a tag with the usual syntax, without a state between its parts.
    fn read_complete<'t>(&mut self, text: &'t str) -> Option<&'t str> {
        let name = NamePart::first(text, ENDS_TAG_NAME);
        self.tag.name.push_part(name);
        let mut rest = text.get(name.text.len()..)?;
        loop {
            match *rest.as_bytes().first()? {
                b'>' => return rest.get(1..),
                b'/' if rest.as_bytes().get(1) == Some(&b'>') => {
                    self.tag.is_closed = true;
                    return rest.get(2..);
                }
                byte if is_space(byte) => rest = rest.get(1..)?,
                // Unusual, for example `<a / b>` or `<a =b>`: [`Self::push`] reads it.
                b'/' | b'=' => return None,
                _ => {
                    let name = NamePart::first(rest, ENDS_TAG_NAME | ENDS_ATTRIBUTE_NAME);
                    self.select_attribute(name.text);
                    rest = rest.get(name.text.len()..)?;
                    // Usually there is a value in quotes, or none. [`Self::push`] reads other
                    // values.
                    if let [b'=', quote, ..] = rest.as_bytes() {
                        let value = rest.get(2..).filter(|_| matches!(quote, b'"' | b'\''))?;
                        let end = memchr(*quote, value.as_bytes())?;
                        self.append_value(text_before(value, end));
                        rest = value.get(end.saturating_add(1)..)?;
                    } else if rest.as_bytes().first() == Some(&b'=') {
                        return None;
                    }
                }
            }
        }
    }

    fn read_name(&mut self, rest: &str) -> usize {
        let is_tag = matches!(self.state, TagState::Name);
        let ends = if is_tag { ENDS_TAG_NAME } else { ENDS_TAG_NAME | ENDS_ATTRIBUTE_NAME };
        let part = NamePart::first(rest, ends);
        let length = part.text.len();
        let has_ended = length < rest.len();
        if is_tag {
            self.tag.name.push_part(part);
            if has_ended {
                self.state = TagState::BeforeAttribute;
            }
            return length;
        }
        self.attribute_name.push_part(part);
        if has_ended {
            self.state = TagState::AfterAttributeName;
            let name = std::mem::take(&mut self.attribute_name);
            self.select_attribute(name.as_str());
            self.attribute_name = name;
        }
        length
    }

    /// Selects the attribute that receives the next value. If a name occurs several times, the
    /// first occurrence takes precedence.
    fn select_attribute(&mut self, name: &str) {
        let Some(attribute) = Attribute::of(name) else {
            self.current_attribute = None;
            if self.is_xml {
                self.declare_namespace(name);
            }
            return;
        };
        let is_first = self.tag.present_attributes & attribute.mask() == 0;
        self.current_attribute = is_first.then_some(Receiver::Attribute(attribute));
        if is_first {
            self.tag.present_attributes |= attribute.mask();
            if let Some(value) = self.tag.values.get_mut(attribute as usize) {
                value.clear();
            }
        }
    }

    /// Begins a namespace declaration if the name of an attribute is `xmlns` or `xmlns:prefix`.
    fn declare_namespace(&mut self, name: &str) {
        let Some(prefix) = name.strip_prefix("xmlns") else { return };
        let prefix = match prefix.strip_prefix(':') {
            Some(prefix) => prefix,
            None if prefix.is_empty() => prefix,
            None => return,
        };
        if self.tag.namespaces.len() < NAMESPACES_MAX && prefix.len() <= PREFIX_BYTES_MAX {
            let prefix = prefix.to_ascii_lowercase();
            self.tag.namespaces.push(NamespaceDeclaration { prefix, namespace: String::new() });
            self.current_attribute = Some(Receiver::Namespace);
        }
    }

    fn read_quoted(&mut self, rest: &str, quote: u8) -> usize {
        let end = memchr(quote, rest.as_bytes());
        let length = end.unwrap_or(rest.len());
        self.append_value(text_before(rest, length));
        if end.is_some() {
            self.state = TagState::BeforeAttribute;
            return length.saturating_add(1);
        }
        length
    }

    fn read_unquoted(&mut self, rest: &str) -> usize {
        let ends = |&byte: &u8| is_space(byte) || byte == b'>';
        let end = rest.as_bytes().iter().position(ends);
        let length = end.unwrap_or(rest.len());
        self.append_value(text_before(rest, length));
        if end.is_some() {
            self.state = TagState::BeforeAttribute;
        }
        length
    }

    fn append_value(&mut self, text: &str) {
        let Some(receiver) = self.current_attribute else { return };
        let (value, bytes_max) = match receiver {
            Receiver::Attribute(attribute) => {
                (self.tag.values.get_mut(attribute as usize), self.value_bytes_max)
            }
            Receiver::Namespace => {
                let last = self.tag.namespaces.last_mut();
                (last.map(|declaration| &mut declaration.namespace), NAMESPACE_BYTES_MAX)
            }
        };
        let Some(value) = value else { return };
        let space = bytes_max.saturating_sub(value.len());
        let length = text.floor_char_boundary(space);
        value.push_str(text_before(text, length));
        if length < text.len() {
            // A shorter character must not fill the gap later, as in [`Name::push_part`].
            self.current_attribute = None;
        }
    }
}
