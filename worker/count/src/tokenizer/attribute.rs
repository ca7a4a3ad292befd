//! Attributes that determine which text of a page is visible, and its charset.

/// Attributes that are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attribute {
    Hidden,
    Role,
    Style,
    Charset,
    HttpEquiv,
    Content,
    Lang,
    Type,
    Encoding,
    Controls,
    /// `color`, `face` or `size`: a `font` tag with one of them ends SVG and `MathML`.
    FontStyling,
    ShadowRootMode,
    /// The presentation attributes of SVG.
    Display,
    Visibility,
}

impl Attribute {
    pub(crate) const COUNT: usize = 14;

    #[cfg(test)]
    pub(crate) const ALL: [Self; Self::COUNT] = [
        Self::Hidden,
        Self::Role,
        Self::Style,
        Self::Charset,
        Self::HttpEquiv,
        Self::Content,
        Self::Lang,
        Self::Type,
        Self::Encoding,
        Self::Controls,
        Self::FontStyling,
        Self::ShadowRootMode,
        Self::Display,
        Self::Visibility,
    ];

    pub(super) const fn mask(self) -> u16 {
        1 << self as u8
    }

    /// Returns the attribute with the given name in any case, or `None` if it is not stored.
    pub(super) fn of(name: &[u8]) -> Option<Self> {
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        // Length and first letter exclude almost all other attributes.
        let first = name.first()?.to_ascii_lowercase();
        match (name.len(), first) {
            (4, b'f') if is("face") => Some(Self::FontStyling),
            (4, b'l') if is("lang") => Some(Self::Lang),
            (4, b'r') if is("role") => Some(Self::Role),
            (4, b's') if is("size") => Some(Self::FontStyling),
            (4, b't') if is("type") => Some(Self::Type),
            (5, b'c') if is("color") => Some(Self::FontStyling),
            (5, b's') if is("style") => Some(Self::Style),
            (6, b'h') if is("hidden") => Some(Self::Hidden),
            (7, b'c') if is("charset") => Some(Self::Charset),
            (7, b'c') if is("content") => Some(Self::Content),
            (7, b'd') if is("display") => Some(Self::Display),
            (8, b'c') if is("controls") => Some(Self::Controls),
            (8, b'e') if is("encoding") => Some(Self::Encoding),
            (10, b'h') if is("http-equiv") => Some(Self::HttpEquiv),
            (10, b'v') if is("visibility") => Some(Self::Visibility),
            (14, b's') if is("shadowrootmode") => Some(Self::ShadowRootMode),
            _ => None,
        }
    }
}
