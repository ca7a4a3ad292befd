//! Properties of the elements of HTML, SVG and `MathML`: how tree construction treats their tags,
//! whether they are visible, and whether words end at them.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::LazyLock,
};

use super::word_table::pack;

/// Name of an element, in lower case. Names of up to 16 bytes are stored, longer ones are hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name(u64, u64);

impl Name {
    pub(super) const A: Self = Self::short("a");
    pub(super) const ARTICLE: Self = Self::short("article");
    pub(super) const ASIDE: Self = Self::short("aside");
    pub(super) const AUDIO: Self = Self::short("audio");
    pub(super) const BODY: Self = Self::short("body");
    pub(super) const BR: Self = Self::short("br");
    pub(super) const BUTTON: Self = Self::short("button");
    pub(super) const CAPTION: Self = Self::short("caption");
    pub(super) const COL: Self = Self::short("col");
    pub(super) const COLGROUP: Self = Self::short("colgroup");
    pub(super) const DD: Self = Self::short("dd");
    pub(super) const DT: Self = Self::short("dt");
    pub(super) const FOOTER: Self = Self::short("footer");
    pub(super) const FONT: Self = Self::short("font");
    pub(super) const FORM: Self = Self::short("form");
    pub(super) const FRAME: Self = Self::short("frame");
    pub(super) const FRAMESET: Self = Self::short("frameset");
    pub(super) const HEAD: Self = Self::short("head");
    pub(super) const HEADER: Self = Self::short("header");
    pub(super) const HTML: Self = Self::short("html");
    pub(super) const INPUT: Self = Self::short("input");
    pub(super) const LI: Self = Self::short("li");
    pub(super) const MAIN: Self = Self::short("main");
    pub(super) const NAV: Self = Self::short("nav");
    pub(super) const NOBR: Self = Self::short("nobr");
    pub(super) const NOFRAMES: Self = Self::short("noframes");
    pub(super) const NOSCRIPT: Self = Self::short("noscript");
    pub(super) const OPTGROUP: Self = Self::short("optgroup");
    pub(super) const OPTION: Self = Self::short("option");
    pub(super) const P: Self = Self::short("p");
    pub(super) const RTC: Self = Self::short("rtc");
    pub(super) const RUBY: Self = Self::short("ruby");
    pub(super) const SCRIPT: Self = Self::short("script");
    pub(super) const SEARCH: Self = Self::short("search");
    pub(super) const SECTION: Self = Self::short("section");
    pub(super) const SELECT: Self = Self::short("select");
    pub(super) const STYLE: Self = Self::short("style");
    pub(super) const SVG: Self = Self::short("svg");
    pub(super) const TABLE: Self = Self::short("table");
    pub(super) const TBODY: Self = Self::short("tbody");
    pub(super) const TD: Self = Self::short("td");
    pub(super) const TEMPLATE: Self = Self::short("template");
    pub(super) const TFOOT: Self = Self::short("tfoot");
    pub(super) const TH: Self = Self::short("th");
    pub(super) const THEAD: Self = Self::short("thead");
    pub(super) const TR: Self = Self::short("tr");

    /// Returns the name for a text in lower case.
    #[inline]
    pub(super) fn of(text: &str) -> Self {
        match pack(text.as_bytes()) {
            Some((low, high)) => Self(low, high),
            None => Self::hashed(text),
        }
    }

    /// Packs a name of at most eight bytes.
    const fn short(text: &str) -> Self {
        let mut rest = text.as_bytes();
        let mut low = 0;
        while let [head @ .., byte] = rest {
            low = low << 8 | *byte as u64;
            rest = head;
        }
        Self(low, 0)
    }

    /// Returns the text of the name. A long name has no text.
    pub(super) fn text(self) -> String {
        if self.1 == u64::MAX {
            return String::new();
        }
        let bytes = [self.0.to_le_bytes(), self.1.to_le_bytes()].concat();
        String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned()
    }

    #[cold]
    fn hashed(text: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        Self(hasher.finish(), u64::MAX)
    }
}

/// Namespace of an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Namespace {
    Html,
    Svg,
    MathMl,
    /// Any other, in XML.
    Unknown,
}

/// Treatment of a start tag in the insertion mode "in body" of the HTML standard, and of its end
/// tag. Elements with the same treatment share a variant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum TagTreatment {
    /// Inline, for example `span` and unknown elements.
    #[default]
    Ordinary,
    /// Ends an open paragraph, for example `div`.
    Block,
    Heading,
    Paragraph,
    ListItem,
    /// `dd` or `dt`.
    Definition,
    Form,
    /// Is opened again in the next block if its end tag is missing, for example `b`.
    Formatting,
    Anchor,
    Nobr,
    Button,
    /// Contains formatting elements that do not continue after it, for example `object`.
    Marker,
    Table,
    /// A part of a table, which is ignored outside of tables.
    TablePart,
    /// Has no content and no end tag.
    Void,
    /// Like [`Self::Void`], but not visible, so that it does not open formatting elements again.
    VoidMetadata,
    Input,
    HorizontalRule,
    LineBreak,
    Select,
    /// `optgroup` or `option`.
    SelectOption,
    /// `rb` or `rtc`.
    RubyBase,
    /// `rp` or `rt`.
    RubyText,
    /// `math` or `svg`.
    Foreign,
    /// Belongs into `head`, and has no content: `meta`, `link` and others.
    HeadVoid,
    /// Belongs into `head`, and has raw text: `title`, `style` and others.
    HeadRaw,
    /// Raw text in the body.
    Raw,
    /// Raw text that ends an open paragraph: `xmp`.
    RawBlock,
    PlainText,
    Template,
    Html,
    Head,
    Body,
    Frameset,
}

/// Properties of an element.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) treatment: TagTreatment,
    properties: u32,
}

/// Property of an element, as a bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Property(u32);

impl Property {
    /// Invisible in HTML, and not part of the text: words continue across it.
    pub(super) const INVISIBLE: Self = Self(1);
    /// Like [`Self::INVISIBLE`], in SVG.
    pub(super) const INVISIBLE_IN_SVG: Self = Self(1 << 1);
    /// Like [`Self::INVISIBLE`], in `MathML`.
    pub(super) const INVISIBLE_IN_MATHML: Self = Self(1 << 2);
    /// Visible as a box whose content is not part of the text: words end there.
    pub(super) const REPLACED: Self = Self(1 << 3);
    /// A block, a part of a table, or a visible box without text: words end at its tags. They
    /// continue across the tags of all other elements, which are inline by default, even unknown
    /// ones.
    pub(super) const BLOCK: Self = Self(1 << 4);
    /// Like [`Self::BLOCK`], in SVG and `MathML`.
    pub(super) const BLOCK_IN_FOREIGN: Self = Self(1 << 5);
    /// *Special* in the standard: an end tag of an inline element does not end it.
    pub(super) const SPECIAL: Self = Self(1 << 6);
    /// Limits the scope in which an end tag finds its element.
    pub(super) const SCOPE: Self = Self(1 << 7);
    /// Ends without an end tag before many other tags.
    pub(super) const IMPLIED_END: Self = Self(1 << 8);
    /// Ends without an end tag before the end tag of `template`.
    pub(super) const IMPLIED_END_IN_TEMPLATE: Self = Self(1 << 9);
    /// Special, but can be between a list item and the next one: `address`, `div`, `p`.
    pub(super) const WITHIN_LIST_ITEM: Self = Self(1 << 10);
    pub(super) const HEADING: Self = Self(1 << 11);
    /// `ol` or `ul`.
    pub(super) const LIST: Self = Self(1 << 12);
    /// A table or a part of it that cannot contain text.
    pub(super) const TABLE_STRUCTURE: Self = Self(1 << 13);
    /// `tbody`, `tfoot` or `thead`.
    pub(super) const TABLE_BODY: Self = Self(1 << 14);
    /// `td` or `th`.
    pub(super) const CELL: Self = Self(1 << 15);
    /// Divides a page into main content, boilerplate and sections.
    pub(super) const LANDMARK: Self = Self(1 << 16);
    /// Cannot be inside SVG or `MathML`: the start tag ends those that are open.
    pub(super) const ENDS_FOREIGN: Self = Self(1 << 17);
    /// Contains HTML, in SVG.
    pub(super) const HTML_INTEGRATION: Self = Self(1 << 18);
    /// Contains text and inline HTML, in `MathML`.
    pub(super) const TEXT_INTEGRATION: Self = Self(1 << 19);
    /// Only the first child is visible, in `MathML`.
    pub(super) const FIRST_CHILD_VISIBLE: Self = Self(1 << 20);
    /// Takes up space, but is not visible, in `MathML`.
    pub(super) const PHANTOM: Self = Self(1 << 21);
    /// Contains HTML if its attribute `encoding` selects it, in `MathML`: `annotation-xml`.
    pub(super) const ANNOTATION: Self = Self(1 << 22);

    /// Properties other than [`Self::BLOCK`] that determine the rendering in HTML.
    pub(super) const RENDERED: Self = Self(Self::INVISIBLE.0 | Self::REPLACED.0 | Self::LANDMARK.0);
}

impl Element {
    /// Returns the properties of a name.
    pub(super) fn of(name: Name) -> Self {
        ELEMENT_TABLE.look_up(name)
    }

    /// Returns whether the element has a property, or one of several.
    #[inline]
    pub(super) const fn has(self, property: Property) -> bool {
        self.properties & property.0 != 0
    }

    /// Returns the element with only some of its properties.
    pub(super) const fn only(self, properties: &[Property]) -> Self {
        let mut mask = 0;
        let mut rest = properties;
        while let [property, tail @ ..] = rest {
            mask |= property.0;
            rest = tail;
        }
        Self { treatment: self.treatment, properties: self.properties & mask }
    }

    /// Returns the element with an additional property.
    pub(super) const fn with(self, property: Property) -> Self {
        Self { treatment: self.treatment, properties: self.properties | property.0 }
    }
}

/// Names by the treatment of their tags.
const NAMES_BY_TREATMENT: &[(TagTreatment, &str)] = &[
    (
        TagTreatment::Block,
        "address article aside blockquote center details dialog dir div dl fieldset figcaption \
         figure footer header hgroup listing main menu nav ol pre search section summary ul",
    ),
    (TagTreatment::Heading, "h1 h2 h3 h4 h5 h6"),
    (TagTreatment::Paragraph, "p"),
    (TagTreatment::ListItem, "li"),
    (TagTreatment::Definition, "dd dt"),
    (TagTreatment::Form, "form"),
    (TagTreatment::Formatting, "b big code em font i s small strike strong tt u"),
    (TagTreatment::Anchor, "a"),
    (TagTreatment::Nobr, "nobr"),
    (TagTreatment::Button, "button"),
    (TagTreatment::Marker, "applet marquee object"),
    (TagTreatment::Table, "table"),
    (TagTreatment::TablePart, "caption col colgroup frame tbody td tfoot th thead tr"),
    (TagTreatment::Void, "area embed image img keygen wbr"),
    (TagTreatment::VoidMetadata, "param source track"),
    (TagTreatment::Input, "input"),
    (TagTreatment::HorizontalRule, "hr"),
    (TagTreatment::LineBreak, "br"),
    (TagTreatment::Select, "select"),
    (TagTreatment::SelectOption, "optgroup option"),
    (TagTreatment::RubyBase, "rb rtc"),
    (TagTreatment::RubyText, "rp rt"),
    (TagTreatment::Foreign, "math svg"),
    (TagTreatment::HeadVoid, "base basefont bgsound link meta"),
    (TagTreatment::HeadRaw, "noframes script style title"),
    (TagTreatment::Raw, "iframe noembed noscript textarea"),
    (TagTreatment::RawBlock, "xmp"),
    (TagTreatment::PlainText, "plaintext"),
    (TagTreatment::Template, "template"),
    (TagTreatment::Html, "html"),
    (TagTreatment::Head, "head"),
    (TagTreatment::Body, "body"),
    (TagTreatment::Frameset, "frameset"),
];

/// Names by property.
const NAMES_BY_PROPERTY: &[(Property, &str)] = &[
    (Property::INVISIBLE, "datalist head noembed noframes noscript rp script style template title"),
    // Elements that SVG 2 and MathML Core never render. Text in `defs` and similar elements counts,
    // because other elements can show it.
    (Property::INVISIBLE_IN_SVG, "desc metadata script style title"),
    (Property::INVISIBLE_IN_MATHML, "annotation annotation-xml"),
    (Property::REPLACED, "audio canvas iframe meter progress textarea video"),
    // Names whose `display` is not inline in the rendering section of the HTML standard. In
    // addition: `br`; the boxes `embed`, `image`, `img` and `input`; and annotations of ruby, which
    // are above the line.
    (
        Property::BLOCK,
        "address article aside blockquote body br caption center col colgroup dd details dialog \
         dir div dl dt embed fieldset figcaption figure footer form frame frameset h1 h2 h3 h4 h5 \
         h6 head header hgroup hr html image img input legend li listing main menu nav ol optgroup \
         option p plaintext pre rt search section summary table tbody td tfoot th thead tr ul xmp",
    ),
    // Elements whose `display` is not inline in MathML Core, and those that begin a line of text in
    // SVG.
    (Property::BLOCK_IN_FOREIGN, "foreignobject mi mn mo ms mtable mtd mtext mtr text tspan"),
    (
        Property::SPECIAL,
        "address applet area article aside base basefont bgsound blockquote body br button caption \
         center col colgroup dd details dir div dl dt embed fieldset figcaption figure footer form \
         frame frameset h1 h2 h3 h4 h5 h6 head header hgroup hr html iframe img input keygen li \
         link listing main marquee menu meta nav noembed noframes noscript object ol p param \
         plaintext pre script search section select source style summary table tbody td template \
         textarea tfoot th thead title tr track ul wbr xmp",
    ),
    (Property::SCOPE, "applet caption html marquee object select table td template th"),
    (Property::IMPLIED_END, "dd dt li optgroup option p rb rp rt rtc"),
    (Property::IMPLIED_END_IN_TEMPLATE, "caption colgroup tbody td tfoot th thead tr"),
    (Property::WITHIN_LIST_ITEM, "address div p"),
    (Property::HEADING, "h1 h2 h3 h4 h5 h6"),
    (Property::LIST, "ol ul"),
    (Property::TABLE_STRUCTURE, "table tbody tfoot thead tr"),
    (Property::TABLE_BODY, "tbody tfoot thead"),
    (Property::CELL, "td th"),
    (Property::LANDMARK, "article aside footer header main nav search section"),
    (
        Property::ENDS_FOREIGN,
        "b big blockquote body br center code dd div dl dt em embed h1 h2 h3 h4 h5 h6 head hr i \
         img li listing menu meta nobr ol p pre ruby s small span strike strong sub sup table tt u \
         ul var",
    ),
    (Property::HTML_INTEGRATION, "desc foreignobject title"),
    (Property::TEXT_INTEGRATION, "mi mn mo ms mtext"),
    (Property::FIRST_CHILD_VISIBLE, "maction semantics"),
    (Property::PHANTOM, "mphantom"),
    (Property::ANNOTATION, "annotation-xml"),
];

static ELEMENT_TABLE: LazyLock<ElementTable> = LazyLock::new(ElementTable::new);

/// Hash table of the names. At least three quarters of the slots are free.
struct ElementTable {
    slots: Box<[(Name, Element); SLOTS]>,
}

const SLOTS: usize = 1024;
/// Name of a free slot. No name packs to zeros.
const FREE: Name = Name(0, 0);

impl ElementTable {
    fn new() -> Self {
        let mut table = Self { slots: Box::new([(FREE, Element::default()); SLOTS]) };
        for (tags, names) in NAMES_BY_TREATMENT {
            for name in names.split_ascii_whitespace() {
                table.update(name, |element| element.treatment = *tags);
            }
        }
        for (property, names) in NAMES_BY_PROPERTY {
            for name in names.split_ascii_whitespace() {
                table.update(name, |element| element.properties |= property.0);
            }
        }
        table
    }

    fn update(&mut self, name: &str, change: impl FnOnce(&mut Element)) {
        let name = Name::of(name);
        let index = self.slot_index(name);
        if let Some((key, element)) = self.slots.get_mut(index) {
            *key = name;
            change(element);
        }
    }

    fn look_up(&self, name: Name) -> Element {
        self.slots.get(self.slot_index(name)).map_or_else(Element::default, |(_, element)| *element)
    }

    /// Returns the index of the slot with this name, or of the free slot for it.
    fn slot_index(&self, name: Name) -> usize {
        let mut index = home_index(name);
        while self.slots.get(index).is_some_and(|(key, _)| *key != name && *key != FREE) {
            index = index.wrapping_add(1) % SLOTS;
        }
        index
    }
}

/// Returns the index at which the probe for a name starts: the top bits of a product (Fibonacci
/// hashing).
#[expect(clippy::cast_possible_truncation, reason = "the index is below the number of slots")]
const fn home_index(Name(low, high): Name) -> usize {
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
        assert_eq!(Element::of(Name::of("p\0")), Element::default());
    }

    #[test]
    fn names_are_equal_if_their_texts_are() {
        assert_eq!(Name::P, Name::of("p"));
        assert_eq!(Name::TEMPLATE, Name::of("template"));
        assert_eq!(Name::of("annotation-xml-and-more"), Name::of("annotation-xml-and-more"));
        assert_ne!(Name::of("annotation-xml-and-more"), Name::of("annotation-xml-and-less"));
    }

    #[test]
    fn every_name_has_exactly_its_properties() {
        let names_of = |names: &'static str| names.split_ascii_whitespace();
        let known = NAMES_BY_PROPERTY.iter().flat_map(|(_, names)| names_of(names));
        for name in known.chain(["main", "x-y", "", "blockquotex", "annotation-xml-and-more"]) {
            let element = Element::of(Name::of(name));
            for (property, names) in NAMES_BY_PROPERTY {
                let is_listed = names_of(names).any(|listed| listed == name);
                assert_eq!(element.has(*property), is_listed, "{name} {property:?}");
            }
        }
    }

    #[test]
    fn every_name_has_one_treatment() {
        let mut names: Vec<&str> = NAMES_BY_TREATMENT
            .iter()
            .flat_map(|(_, names)| names.split_ascii_whitespace())
            .collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
