//! One tag: its name, and the few attributes that matter.

use memchr::memchr;

use super::before;

/// How much of a name is kept: more than any that matters has.
const NAME_BYTES_MAX: usize = 32;

/// How much of an attribute's value is kept.
const VALUE_BYTES_MAX: usize = 1024;

/// Attributes that are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attribute {
    Hidden,
    Role,
    Style,
    Charset,
    HttpEquiv,
    Content,
    Lang,
}

impl Attribute {
    const COUNT: usize = 7;

    #[cfg(test)]
    pub(crate) const ALL: [Self; Self::COUNT] = [
        Self::Hidden,
        Self::Role,
        Self::Style,
        Self::Charset,
        Self::HttpEquiv,
        Self::Content,
        Self::Lang,
    ];

    const fn bit(self) -> u8 {
        1 << self as u8
    }

    /// Finds a name in any case.
    fn of(name: &str) -> Option<Self> {
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        match name.len() {
            4 if is("lang") => Some(Self::Lang),
            4 if is("role") => Some(Self::Role),
            5 if is("style") => Some(Self::Style),
            6 if is("hidden") => Some(Self::Hidden),
            7 if is("charset") => Some(Self::Charset),
            7 if is("content") => Some(Self::Content),
            10 if is("http-equiv") => Some(Self::HttpEquiv),
            _ => None,
        }
    }
}

/// A name in lower case, cut off where it is too long to matter.
#[derive(Clone, Debug, Default)]
pub(super) struct Name {
    text: String,
    is_cut: bool,
}

impl Name {
    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.is_cut = false;
    }

    pub(super) fn push(&mut self, more: &str) {
        self.push_part(Part { text: more, has_capitals: true });
    }

    #[inline]
    fn push_part(&mut self, part: Part<'_>) {
        let (more, start) = (part.text, self.text.len());
        // A shorter character that comes later must not fill the gap.
        let space = if self.is_cut { 0 } else { NAME_BYTES_MAX.saturating_sub(start) };
        let length = more.floor_char_boundary(space);
        self.is_cut |= length < more.len();
        self.text.push_str(before(more, length));
        if part.has_capitals
            && let Some(added) = self.text.get_mut(start..)
        {
            added.make_ascii_lowercase();
        }
    }

    pub(super) fn as_str(&self) -> &str {
        &self.text
    }
}

/// A complete tag.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tag {
    name: Name,
    is_end: bool,
    is_closed: bool,
    /// A bit for each attribute that is there.
    present: u8,
    /// What was kept of their values.
    values: [String; Attribute::COUNT],
}

impl Tag {
    /// Returns the name in lower case.
    pub(crate) fn name(&self) -> &str {
        self.name.as_str()
    }

    pub(crate) const fn is_end(&self) -> bool {
        self.is_end
    }

    /// Returns whether the tag ends in `/>`.
    pub(crate) const fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Returns the value of an attribute, if it is there: the first 1024 bytes, as written.
    ///
    /// Character references in it are not resolved: no value that matters needs them.
    pub(crate) fn value(&self, attribute: Attribute) -> Option<&str> {
        let value = self.values.get(attribute as usize)?;
        (self.present & attribute.bit() != 0).then_some(value.as_str())
    }

    fn restart(&mut self, is_end: bool) {
        self.name.clear();
        self.is_end = is_end;
        self.is_closed = false;
        self.present = 0;
    }
}

/// Where the reader is in a tag.
#[derive(Clone, Copy, Debug, Default)]
enum At {
    #[default]
    Name,
    BeforeAttribute,
    AttributeName,
    AfterAttributeName,
    BeforeValue,
    QuotedValue(u8),
    BareValue,
    /// After a `/` between attributes.
    Slash,
}

/// Reads a tag from its name on.
#[derive(Default)]
pub(super) struct TagReader {
    at: At,
    tag: Tag,
    attribute: Name,
    /// The attribute that a value goes to.
    kept: Option<Attribute>,
}

impl TagReader {
    pub(super) const fn tag(&self) -> &Tag {
        &self.tag
    }

    /// Begins a tag whose name comes next.
    pub(super) fn start(&mut self, is_end: bool) {
        self.tag.restart(is_end);
        self.kept = None;
        self.at = At::Name;
    }

    /// Begins an end tag whose name was read already.
    pub(super) fn start_raw_end(&mut self, name: &Name) {
        self.tag.restart(true);
        self.tag.name.clone_from(name);
        self.at = At::BeforeAttribute;
    }

    /// Reads on; returns what follows the tag, or `None` if it is not complete.
    pub(super) fn push<'t>(&mut self, text: &'t str) -> Option<&'t str> {
        let mut rest = text;
        while let Some(&byte) = rest.as_bytes().first() {
            let used = match self.at {
                At::Name | At::AttributeName => self.read_name(rest),
                At::QuotedValue(quote) => self.read_quoted(rest, quote),
                At::BareValue => self.read_bare(rest),
                At::Slash if byte == b'>' => {
                    self.tag.is_closed = true;
                    return rest.get(1..);
                }
                At::Slash => {
                    self.at = At::BeforeAttribute;
                    0
                }
                At::BeforeAttribute | At::AfterAttributeName | At::BeforeValue if byte == b'>' => {
                    return rest.get(1..);
                }
                At::BeforeAttribute | At::AfterAttributeName | At::BeforeValue
                    if is_space(byte) =>
                {
                    1
                }
                At::BeforeAttribute | At::AfterAttributeName if byte == b'/' => {
                    self.at = At::Slash;
                    1
                }
                At::AfterAttributeName if byte == b'=' => {
                    self.at = At::BeforeValue;
                    1
                }
                At::BeforeAttribute | At::AfterAttributeName => {
                    self.attribute.clear();
                    self.kept = None;
                    self.at = At::AttributeName;
                    // At the start, `=` is part of the name.
                    self.attribute.push(before(rest, usize::from(byte == b'=')));
                    usize::from(byte == b'=')
                }
                At::BeforeValue if matches!(byte, b'"' | b'\'') => {
                    self.at = At::QuotedValue(byte);
                    1
                }
                At::BeforeValue => {
                    self.at = At::BareValue;
                    0
                }
            };
            rest = rest.get(used..).unwrap_or_default();
        }
        None
    }

    /// Reads a tag from its first byte on, if it is all there and written as usual; returns what
    /// follows it. Else nothing has happened, and [`Self::push`] has to read it.
    pub(super) fn push_whole<'t>(&mut self, text: &'t str) -> Option<&'t str> {
        let rest = self.try_whole(text);
        if rest.is_none() {
            let is_end = self.tag.is_end;
            self.start(is_end);
        }
        rest
    }

    /// The usual way of a tag, without a look at the state for each part of it.
    fn try_whole<'t>(&mut self, text: &'t str) -> Option<&'t str> {
        let name = Part::first(text, ENDS_TAG_NAME);
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
                b'/' | b'=' => return None,
                _ => {
                    let name = Part::first(rest, ENDS_TAG_NAME | ENDS_ATTRIBUTE_NAME);
                    self.finish_name(Attribute::of(name.text));
                    rest = rest.get(name.text.len()..)?;
                    if let [b'=', quote, ..] = rest.as_bytes() {
                        let value = rest.get(2..).filter(|_| matches!(quote, b'"' | b'\''))?;
                        let end = memchr(*quote, value.as_bytes())?;
                        self.keep(before(value, end));
                        rest = value.get(end.saturating_add(1)..)?;
                    } else if rest.as_bytes().first() == Some(&b'=') {
                        return None;
                    }
                }
            }
        }
    }

    fn read_name(&mut self, rest: &str) -> usize {
        let is_tag = matches!(self.at, At::Name);
        let ends = if is_tag { ENDS_TAG_NAME } else { ENDS_TAG_NAME | ENDS_ATTRIBUTE_NAME };
        let part = Part::first(rest, ends);
        let length = part.text.len();
        let has_ended = length < rest.len();
        if is_tag {
            self.tag.name.push_part(part);
            if has_ended {
                self.at = At::BeforeAttribute;
            }
            return length;
        }
        self.attribute.push_part(part);
        if has_ended {
            self.at = At::AfterAttributeName;
            self.finish_name(Attribute::of(self.attribute.as_str()));
        }
        length
    }

    /// Decides whether the attribute is kept. Of several with one name, the first counts.
    fn finish_name(&mut self, attribute: Option<Attribute>) {
        self.kept = attribute.filter(|attribute| self.tag.present & attribute.bit() == 0);
        if let Some(attribute) = self.kept {
            self.tag.present |= attribute.bit();
            if let Some(value) = self.tag.values.get_mut(attribute as usize) {
                value.clear();
            }
        }
    }

    fn read_quoted(&mut self, rest: &str, quote: u8) -> usize {
        let end = memchr(quote, rest.as_bytes());
        let length = end.unwrap_or(rest.len());
        self.keep(before(rest, length));
        if end.is_some() {
            self.at = At::BeforeAttribute;
            return length.saturating_add(1);
        }
        length
    }

    fn read_bare(&mut self, rest: &str) -> usize {
        let ends = |&byte: &u8| is_space(byte) || byte == b'>';
        let end = rest.as_bytes().iter().position(ends);
        let length = end.unwrap_or(rest.len());
        self.keep(before(rest, length));
        if end.is_some() {
            self.at = At::BeforeAttribute;
        }
        length
    }

    fn keep(&mut self, more: &str) {
        let kept = self.kept.and_then(|attribute| self.tag.values.get_mut(attribute as usize));
        if let Some(value) = kept {
            let space = VALUE_BYTES_MAX.saturating_sub(value.len());
            let length = more.floor_char_boundary(space);
            value.push_str(before(more, length));
            if length < more.len() {
                // A shorter character that comes later must not fill the gap.
                self.kept = None;
            }
        }
    }
}

/// A name as it is written, or a part of it.
#[derive(Clone, Copy)]
struct Part<'t> {
    text: &'t str,
    has_capitals: bool,
}

impl<'t> Part<'t> {
    /// Takes what comes before the first byte of the classes `ends`, which are ASCII.
    #[inline]
    fn first(text: &'t str, ends: u8) -> Self {
        let (mut length, mut all) = (0_usize, 0);
        for byte in text.bytes() {
            let class = CLASSES.get(usize::from(byte)).copied().unwrap_or(0);
            if class & ends != 0 {
                break;
            }
            all |= class;
            length = length.saturating_add(1);
        }
        Self { text: before(text, length), has_capitals: all & CAPITAL != 0 }
    }
}

const ENDS_TAG_NAME: u8 = 1;
const ENDS_ATTRIBUTE_NAME: u8 = 2;
const CAPITAL: u8 = 4;

/// What bytes are for names.
#[expect(clippy::indexing_slicing, reason = "done by the compiler, which would refuse")]
static CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut rest: &[u8] = b"\t\n\x0c\r />";
    while let [byte, more @ ..] = rest {
        classes[*byte as usize] = ENDS_TAG_NAME;
        rest = more;
    }
    classes[b'=' as usize] = ENDS_ATTRIBUTE_NAME;
    let mut byte = b'A';
    while byte <= b'Z' {
        classes[byte as usize] = CAPITAL;
        byte += 1;
    }
    classes
};

/// White space of HTML's syntax.
pub(super) const fn is_space(byte: u8) -> bool {
    matches!(byte, b'\t' | b'\n' | 0x0c | b'\r' | b' ')
}
