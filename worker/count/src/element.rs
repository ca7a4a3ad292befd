//! Properties of the elements of HTML: whether words end at their tags, whether they are visible,
//! and which end tags may be omitted.

use std::sync::LazyLock;

use super::word_table::pack;

/// Properties of an element, as bits. A name that is unknown in HTML has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Element(u16);

impl Element {
    /// Invisible, and not part of the text: words continue across it.
    pub(super) const INVISIBLE: Self = Self(1);
    /// Visible as a box whose content is not part of the text: words end there.
    pub(super) const REPLACED: Self = Self(1 << 1);
    /// A block, a part of a table, or a visible box without text: words end at its tags. They
    /// continue across the tags of all other elements, which are inline by default, even unknown
    /// ones.
    pub(super) const BLOCK: Self = Self(1 << 2);
    /// Has no content in HTML.
    pub(super) const VOID: Self = Self(1 << 3);
    /// The start tag ends an open paragraph. The end tag ends a paragraph inside.
    pub(super) const CLOSES_PARAGRAPH: Self = Self(1 << 4);
    /// The end tag ends a paragraph inside, but the start tag does not end an open one.
    pub(super) const END_TAG_CLOSES_PARAGRAPH: Self = Self(1 << 5);
    /// Cannot be inside SVG or `MathML`: the start tag ends those that are open.
    pub(super) const ENDS_FOREIGN: Self = Self(1 << 6);

    /// Begins SVG or `MathML`.
    pub(super) const FOREIGN: Self = Self(1 << 7);
    /// Divides a page into main content, boilerplate and sections.
    pub(super) const LANDMARK: Self = Self(1 << 8);
    /// Content is raw text, in which tags are text.
    pub(super) const RAW: Self = Self(1 << 9);
    /// Like [`Self::INVISIBLE`], but inside SVG and `MathML` only.
    pub(super) const INVISIBLE_IN_FOREIGN: Self = Self(1 << 10);

    /// Returns the properties of a name in lower case.
    pub(super) fn of(name: &str) -> Self {
        ELEMENT_TABLE.look_up(name)
    }

    /// Returns whether the element has any of `properties`.
    pub(super) const fn has(self, properties: Self) -> bool {
        self.0 & properties.0 != 0
    }
}

const NAMES_BY_PROPERTY: [(Element, &[&str]); 11] = [
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
        Element::INVISIBLE,
        &[
            "datalist", "noembed", "noframes", "noscript", "rp", "script", "style", "template",
            "title",
        ],
    ),
    // Descriptions and annotations, which SVG 2 and MathML Core never render. Text in `defs` and
    // similar elements counts, because other elements can show it.
    (Element::INVISIBLE_IN_FOREIGN, &["annotation", "annotation-xml", "desc", "metadata"]),
    (Element::REPLACED, &["audio", "canvas", "iframe", "meter", "progress", "textarea", "video"]),
    // Names whose `display` is not inline in the rendering section of the HTML standard, or in
    // MathML Core. In addition: `br`; the boxes `embed`, `image`, `img` and `input`; annotations of
    // ruby, which are above the line; and the elements of SVG that begin a line of text.
    (
        Element::BLOCK,
        &[
            "address",
            "article",
            "aside",
            "blockquote",
            "body",
            "br",
            "caption",
            "center",
            "col",
            "colgroup",
            "dd",
            "details",
            "dialog",
            "dir",
            "div",
            "dl",
            "dt",
            "embed",
            "fieldset",
            "figcaption",
            "figure",
            "footer",
            "foreignobject",
            "form",
            "frame",
            "frameset",
            "h1",
            "h2",
            "h3",
            "h4",
            "h5",
            "h6",
            "head",
            "header",
            "hgroup",
            "hr",
            "html",
            "image",
            "img",
            "input",
            "legend",
            "li",
            "listing",
            "main",
            "menu",
            "mi",
            "mn",
            "mo",
            "ms",
            "mtable",
            "mtd",
            "mtext",
            "mtr",
            "nav",
            "ol",
            "optgroup",
            "option",
            "p",
            "plaintext",
            "pre",
            "rt",
            "search",
            "section",
            "summary",
            "table",
            "tbody",
            "td",
            "text",
            "tfoot",
            "th",
            "thead",
            "tr",
            "tspan",
            "ul",
            "xmp",
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
    (Element::END_TAG_CLOSES_PARAGRAPH, &["body", "caption", "html", "td", "th", "tr"]),
    (
        Element::ENDS_FOREIGN,
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

static ELEMENT_TABLE: LazyLock<ElementTable> = LazyLock::new(ElementTable::new);

/// Hash table of the names. At least three quarters of the slots are free.
struct ElementTable {
    slots: Box<[(Key, Element); SLOTS]>,
}

/// Packed bytes of a name, or zeros for a free slot.
type Key = (u64, u64);

const SLOTS: usize = 1024;

impl ElementTable {
    fn new() -> Self {
        let mut names = Self { slots: Box::new([((0, 0), Element::default()); SLOTS]) };
        for (property, list) in NAMES_BY_PROPERTY {
            for name in list {
                let Some(key) = pack(name.as_bytes()) else { continue };
                let index = names.slot_index(key);
                if let Some((name, element)) = names.slots.get_mut(index) {
                    *name = key;
                    element.0 |= property.0;
                }
            }
        }
        names
    }

    fn look_up(&self, name: &str) -> Element {
        // All names in the table can be packed, so a name that cannot be packed is unknown.
        let slot = pack(name.as_bytes()).and_then(|key| self.slots.get(self.slot_index(key)));
        slot.map_or_else(Element::default, |(_, element)| *element)
    }

    /// Returns the index of the slot with this name, or of the free slot for it.
    fn slot_index(&self, key: Key) -> usize {
        let mut index = home_index(key);
        while self.slots.get(index).is_some_and(|(name, _)| *name != key && *name != (0, 0)) {
            index = index.wrapping_add(1) % SLOTS;
        }
        index
    }
}

/// Returns the index at which the probe for a name starts: the top bits of a product (Fibonacci
/// hashing).
#[expect(clippy::cast_possible_truncation, reason = "the index is below the number of slots")]
const fn home_index((low, high): Key) -> usize {
    const GOLDEN_RATIO: u64 = 0x9e37_79b9_7f4a_7c15;
    ((low ^ high.rotate_left(32)).wrapping_mul(GOLDEN_RATIO)
        >> (u64::BITS - SLOTS.trailing_zeros())) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_name_with_nul_matches_no_element() {
        // Found by fuzzing: `<p\0>` ended SVG, as `<p>` does.
        assert_eq!(Element::of("p\0"), Element::default());
    }

    #[test]
    fn every_name_has_exactly_its_properties() {
        let known = NAMES_BY_PROPERTY.iter().flat_map(|(_, list)| list.iter());
        for name in
            known.chain(&["main", "x-y", "", "head", "blockquotex", "annotation-xml-and-more"])
        {
            let element = Element::of(name);
            for (property, list) in NAMES_BY_PROPERTY {
                assert_eq!(element.has(property), list.contains(name), "{name} {property:?}");
            }
        }
    }
}
