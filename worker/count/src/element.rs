//! What is known about the elements of HTML: where words end, what is seen, what may be left out.

use std::sync::LazyLock;

use super::word_table::pack;

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

    /// Begins SVG or `MathML`.
    pub(super) const FOREIGN: Self = Self(1 << 7);
    /// Is a part of the page, or holds parts.
    pub(super) const LANDMARK: Self = Self(1 << 8);
    /// Has content in which tags are text.
    pub(super) const RAW: Self = Self(1 << 9);

    /// Looks a name in lower case up.
    pub(super) fn of(name: &str) -> Self {
        NAMES.find(name)
    }

    /// Returns whether the element has any of `properties`.
    pub(super) const fn is(self, properties: Self) -> bool {
        self.0 & properties.0 != 0
    }
}

const LISTS: [(Element, &[&str]); 10] = [
    (Element::FOREIGN, &["math", "svg"]),
    (
        Element::LANDMARK,
        &["article", "aside", "footer", "header", "main", "nav", "search", "section"],
    ),
    (
        Element::RAW,
        &[
            "iframe",
            "noembed",
            "noframes",
            "noscript",
            "plaintext",
            "script",
            "style",
            "textarea",
            "title",
            "xmp",
        ],
    ),
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
    places: Box<[(Key, Element); PLACES]>,
}

/// The bytes of a name; none for no name.
type Key = (u64, u64);

const PLACES: usize = 512;

impl Names {
    fn new() -> Self {
        let mut names = Self { places: Box::new([((0, 0), Element::default()); PLACES]) };
        for (property, list) in LISTS {
            for name in list {
                let Some(key) = pack(name.as_bytes()) else { continue };
                let place = names.place(key);
                if let Some((found, element)) = names.places.get_mut(place) {
                    *found = key;
                    element.0 |= property.0;
                }
            }
        }
        names
    }

    fn find(&self, name: &str) -> Element {
        // No name that is known is longer than what can be packed.
        let found = pack(name.as_bytes()).and_then(|key| self.places.get(self.place(key)));
        found.map_or_else(Element::default, |(_, element)| *element)
    }

    /// Returns where a name is, or would be.
    fn place(&self, key: Key) -> usize {
        let mut place = start_of(key);
        while self.places.get(place).is_some_and(|(found, _)| *found != key && *found != (0, 0)) {
            place = place.wrapping_add(1) % PLACES;
        }
        place
    }
}

/// Returns where the search for a name begins.
#[expect(clippy::cast_possible_truncation, reason = "the number is below that of the places")]
const fn start_of((low, high): Key) -> usize {
    const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
    ((low ^ high.rotate_left(32)).wrapping_mul(SPREAD) >> (u64::BITS - PLACES.trailing_zeros()))
        as usize
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
