//! What is known about the elements of HTML: where words end, what is seen, what may be left out.

use std::sync::LazyLock;

/// The properties of an element's name; none for a name that HTML does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Element(u16);

impl Element {
    /// Is no part of the text and not seen either: words go on across it.
    pub(super) const UNSEEN: Self = Self(1);
    /// Is shown as a box whose content is not text of the page: words end there.
    pub(super) const BOX: Self = Self(1 << 1);
    /// Is within a line, or shows nothing: words go on across its tags.
    pub(super) const INLINE: Self = Self(1 << 2);
    /// Has no content in HTML.
    pub(super) const VOID: Self = Self(1 << 3);
    /// Ends an open paragraph as start tag; as end tag, ends it with its parent.
    pub(super) const CLOSES_PARAGRAPH: Self = Self(1 << 4);
    /// Can hold a paragraph that it does not end when it starts.
    pub(super) const HOLDS_PARAGRAPH: Self = Self(1 << 5);
    /// Cannot be in SVG or `MathML`: ends them if they were left open.
    pub(super) const BREAKS_OUT: Self = Self(1 << 6);

    /// Looks a name in lower case up.
    pub(super) fn of(name: &str) -> Self {
        NAMES.find(name)
    }

    /// Returns whether the element has any of `properties`.
    pub(super) const fn is(self, properties: Self) -> bool {
        self.0 & properties.0 != 0
    }
}

const LISTS: [(Element, &[&str]); 7] = [
    (
        Element::UNSEEN,
        &["datalist", "noembed", "noframes", "noscript", "script", "style", "template", "title"],
    ),
    (Element::BOX, &["audio", "canvas", "iframe", "meter", "progress", "textarea", "video"]),
    (
        Element::INLINE,
        &[
            "a", "abbr", "acronym", "b", "base", "bdi", "bdo", "big", "button", "cite", "code",
            "data", "del", "dfn", "em", "font", "i", "ins", "kbd", "label", "link", "mark", "meta",
            "nobr", "object", "param", "q", "ruby", "s", "samp", "select", "small", "source",
            "span", "strike", "strong", "sub", "sup", "svg", "time", "track", "tt", "u", "var",
            "wbr",
        ],
    ),
    (
        Element::VOID,
        &[
            "area", "base", "basefont", "bgsound", "br", "col", "embed", "frame", "hr", "img",
            "input", "keygen", "link", "meta", "param", "source", "track", "wbr",
        ],
    ),
    (
        Element::CLOSES_PARAGRAPH,
        &[
            "address",
            "article",
            "aside",
            "blockquote",
            "center",
            "dd",
            "details",
            "dialog",
            "dir",
            "div",
            "dl",
            "dt",
            "fieldset",
            "figcaption",
            "figure",
            "footer",
            "form",
            "h1",
            "h2",
            "h3",
            "h4",
            "h5",
            "h6",
            "header",
            "hgroup",
            "hr",
            "li",
            "listing",
            "main",
            "menu",
            "nav",
            "ol",
            "p",
            "plaintext",
            "pre",
            "search",
            "section",
            "summary",
            "table",
            "ul",
            "xmp",
        ],
    ),
    (Element::HOLDS_PARAGRAPH, &["body", "caption", "html", "td", "th", "tr"]),
    (
        Element::BREAKS_OUT,
        &[
            "b",
            "big",
            "blockquote",
            "body",
            "br",
            "center",
            "code",
            "dd",
            "div",
            "dl",
            "dt",
            "em",
            "embed",
            "h1",
            "h2",
            "h3",
            "h4",
            "h5",
            "h6",
            "head",
            "hr",
            "i",
            "img",
            "li",
            "listing",
            "menu",
            "meta",
            "nobr",
            "ol",
            "p",
            "pre",
            "ruby",
            "s",
            "small",
            "span",
            "strike",
            "strong",
            "sub",
            "sup",
            "table",
            "tt",
            "u",
            "ul",
            "var",
        ],
    ),
];

static NAMES: LazyLock<Names> = LazyLock::new(Names::new);

/// The names by hash; at most one in four places is taken.
struct Names {
    places: Vec<(u128, Element)>,
}

const PLACES: usize = 512;

impl Names {
    fn new() -> Self {
        let mut names = Self { places: vec![(0, Element::default()); PLACES] };
        for (property, list) in LISTS {
            for name in list {
                let key = key(name);
                for index in probe(key) {
                    if let Some((found, element)) = names.places.get_mut(index)
                        && (*found == 0 || *found == key)
                    {
                        *found = key;
                        element.0 |= property.0;
                        break;
                    }
                }
            }
        }
        names
    }

    fn find(&self, name: &str) -> Element {
        let key = key(name);
        for index in probe(key) {
            match self.places.get(index) {
                Some((found, element)) if *found == key => return *element,
                Some((0, _)) | None => break,
                Some(_) => {}
            }
        }
        Element::default()
    }
}

/// Returns the bytes of a name as a number, or 0, which is no name's, if they are too many or NUL
/// is among them.
fn key(name: &str) -> u128 {
    let mut bytes = [0; 16];
    match bytes.get_mut(..name.len()) {
        // With NUL at its end, a name would have the number of a shorter one.
        Some(start) if !name.contains('\0') => start.copy_from_slice(name.as_bytes()),
        Some(_) | None => return 0,
    }
    u128::from_le_bytes(bytes)
}

fn probe(key: u128) -> impl Iterator<Item = usize> {
    const SPREAD: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;
    let hash = key.wrapping_mul(SPREAD) >> 119;
    let start = usize::try_from(hash).unwrap_or_default();
    (0..PLACES).map(move |step| start.wrapping_add(step) % PLACES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_nul_is_not_the_shorter_one() {
        // Found by fuzzing: `<p\0>` ended a drawing as `<p>` does.
        assert_eq!(Element::of("p\0"), Element::default());
    }

    #[test]
    fn every_name_has_exactly_its_properties() {
        let known = LISTS.iter().flat_map(|(_, list)| list.iter());
        for name in
            known.chain(&["main", "x-y", "", "head", "blockquotex", "annotation-xml-and-more"])
        {
            let element = Element::of(name);
            for (property, list) in LISTS {
                assert_eq!(element.is(property), list.contains(name), "{name} {property:?}");
            }
        }
    }
}
