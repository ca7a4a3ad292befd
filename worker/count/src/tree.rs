//! Tree construction of the HTML standard, without a tree.
//!
//! Browsers decide by the tree of a page which text is visible. This module applies the rules that
//! build the tree: implied and missing end tags, misnested tags, tables, foreign content. But it
//! stores only the open elements, with what their text inherits. Memory is therefore constant, and
//! text is extracted as it arrives.
//!
//! Limit: text is extracted before later tags can move it. In `<b><x-y hidden><p>text</b>`,
//! browsers move the paragraph out of the hidden element and show the text. Here, it stays hidden.
//!
//! The names are those of the standard: [insertion mode](Mode), *in scope*, *implied end tags*,
//! *foster parenting*, *adoption agency algorithm*.

mod adoption;
mod body;
mod foreign;
#[cfg(test)]
mod fuzz;
mod head;
#[cfg(test)]
mod html5lib;
mod insertion;
mod quirks;
#[cfg(test)]
mod reference;
mod table;
mod xml;

use self::xml::Bindings;
use super::{
    active_formatting::ElementId,
    counter::Region,
    element::{Element, Name, Namespace},
    main_content::MainHolder,
    open_elements::{OpenElements, UnclosedElements},
    rendering::{OwnRendering, Rendering},
    tokenizer::{Content, Syntax, Tag},
};

/// Insertion mode of the standard. Other modes of the standard differ only in the tree or in the
/// errors that they report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    BeforeHead,
    InHead,
    AfterHead,
    InBody,
    InTable,
    InCaption,
    InColumnGroup,
    InTableBody,
    InRow,
    InCell,
    InFrameset,
}

/// A start tag.
#[derive(Clone, Copy)]
struct StartTag<'t> {
    tag: &'t Tag,
    name: Name,
    element: Element,
}

impl StartTag<'_> {
    fn rendering(&self, namespace: Namespace) -> OwnRendering {
        OwnRendering::of(self.tag, self.name, self.element, namespace)
    }
}

/// Whether a tag is processed, or has to be processed again in another insertion mode.
enum Step<T> {
    Done(T),
    Again,
}

/// State of tree construction.
pub(super) struct Tree {
    syntax: Syntax,
    open: OpenElements,
    mode: Mode,
    /// The open form. Another form inside it is ignored.
    form: Option<ElementId>,
    /// Whether the current element has raw text, which only its own end tag ends.
    is_in_raw_text: bool,
    /// Whether content that a table cannot contain is inserted before the table.
    is_fostering: bool,
    /// In quirks mode, a paragraph can contain a table.
    is_in_quirks_mode: bool,
    /// Whether a `frameset` can still replace the body, because there was no text.
    is_frameset_ok: bool,
    holder: MainHolder,
    has_better_main: bool,
    is_root_hidden: bool,
    script_count: u64,
    /// Namespace declarations in scope, in XML.
    bindings: Bindings,
    /// Whether the root is an element of XHTML, in XML.
    has_xhtml_root: Option<bool>,
    /// Whether there was no tag, text or document type declaration yet.
    is_at_start: bool,
}

impl Tree {
    pub(super) fn new(syntax: Syntax) -> Self {
        let mut tree = Self {
            syntax,
            open: OpenElements::new(),
            mode: Mode::BeforeHead,
            form: None,
            is_in_raw_text: false,
            is_fostering: false,
            is_in_quirks_mode: true,
            is_frameset_ok: true,
            holder: MainHolder::Page,
            has_better_main: false,
            is_root_hidden: false,
            script_count: 0,
            bindings: Bindings::default(),
            has_xhtml_root: None,
            is_at_start: true,
        };
        if syntax == Syntax::Html {
            tree.insert_implied(Name::HTML);
        }
        tree
    }

    /// Returns whether the rules of XML apply here, as they do inside SVG and `MathML`.
    pub(super) fn is_xml(&self) -> bool {
        self.syntax == Syntax::Xml || self.is_in_foreign()
    }

    /// Returns whether words end at the tags since [`Self::clear_separation`].
    #[inline]
    pub(super) const fn has_separation(&self) -> bool {
        self.open.has_separation
    }

    #[inline]
    pub(super) const fn clear_separation(&mut self) {
        self.open.has_separation = false;
    }

    /// Returns whether a better element for the main content has started since
    /// [`Self::clear_better_main`].
    #[inline]
    pub(super) const fn has_better_main(&self) -> bool {
        self.has_better_main
    }

    pub(super) const fn clear_better_main(&mut self) {
        self.has_better_main = false;
    }

    /// Returns the region of text with the given rendering.
    #[inline]
    pub(super) const fn region_of(&self, rendering: Rendering) -> Region {
        self.holder.region(rendering.landmarks())
    }

    /// Returns whether attributes of `html` or `body` hide the whole page.
    ///
    /// If the page has a script, it is assumed to show the page, as is common to avoid flicker.
    pub(super) const fn is_page_hidden(&self) -> bool {
        self.is_root_hidden && self.script_count == 0
    }

    /// Returns the rendering of text at this position, or `None` if text can change the tree here.
    #[inline]
    pub(super) fn usual_rendering(&self) -> Option<Rendering> {
        let is_usual = matches!(self.mode, Mode::InBody | Mode::InCell | Mode::InCaption)
            && !self.open.formatting.has_closed()
            && !self.is_frameset_ok;
        is_usual.then(|| self.open.place().rendering)
    }

    /// Returns the rendering of the current element.
    pub(super) fn rendering(&self) -> Rendering {
        self.open.place().rendering
    }

    /// Processes text. Returns its rendering.
    pub(super) fn text(&mut self, text: &str) -> Rendering {
        if self.is_in_raw_text || self.syntax == Syntax::Xml {
            return self.open.place().rendering;
        }
        let is_white_space = text.bytes().all(|byte| byte.is_ascii_whitespace() || byte == 0);
        if self.is_in_foreign() && !self.is_in_integration_point() {
            self.is_frameset_ok &= is_white_space;
            return self.open.place().rendering;
        }
        if self.mode == Mode::InFrameset {
            return Rendering::NOT_DISPLAYED;
        }
        let is_in_head = matches!(self.mode, Mode::BeforeHead | Mode::InHead | Mode::AfterHead);
        if is_white_space && (is_in_head || self.is_in_table_mode()) {
            return self.open.place().rendering;
        }
        if is_in_head {
            self.is_at_start = false;
            self.open_body();
        }
        if self.mode == Mode::InColumnGroup {
            self.end_column_group();
        }
        self.is_frameset_ok &= is_white_space;
        self.is_fostering = self.is_in_table_mode();
        self.reconstruct_formatting();
        let rendering = self.place().rendering;
        self.is_fostering = false;
        rendering
    }

    /// Processes a document type declaration, without `<!` and `>`. Only one at the start of the
    /// page has an effect.
    pub(super) fn doctype(&mut self, text: &str) {
        if self.is_at_start {
            self.is_in_quirks_mode = quirks::selects_quirks_mode(text);
            self.is_at_start = false;
        }
    }

    /// Processes a start tag. Returns the kind of content of the element.
    pub(super) fn start_tag(&mut self, tag: &Tag) -> Content {
        self.is_at_start = false;
        let name = Name::of(tag.name());
        let start = StartTag { tag, name, element: Element::of(name) };
        if self.syntax == Syntax::Xml {
            self.start_in_xml(&start);
            return Content::Markup;
        }
        if self.is_start_foreign(&start) && self.start_in_foreign(&start) {
            return Content::Markup;
        }
        loop {
            let step = match self.mode {
                Mode::InBody => Step::Done(self.start_in_body(&start)),
                Mode::BeforeHead => self.start_before_head(&start),
                Mode::InHead => self.start_in_head(&start),
                Mode::AfterHead => self.start_after_head(&start),
                Mode::InFrameset => Step::Done(self.start_in_frameset(&start)),
                Mode::InTable => self.start_in_table(&start),
                Mode::InCaption => self.start_in_caption(&start),
                Mode::InColumnGroup => self.start_in_column_group(&start),
                Mode::InTableBody => self.start_in_table_body(&start),
                Mode::InRow => self.start_in_row(&start),
                Mode::InCell => self.start_in_cell(&start),
            };
            if let Step::Done(content) = step {
                return content;
            }
        }
    }

    /// Processes an end tag.
    pub(super) fn end_tag(&mut self, tag: &Tag) {
        self.is_at_start = false;
        if std::mem::take(&mut self.is_in_raw_text) {
            self.open.pop();
            return;
        }
        let name = Name::of(tag.name());
        let element = Element::of(name);
        if self.syntax == Syntax::Xml {
            self.end_in_xml(name);
            return;
        }
        if self.is_in_foreign() && self.end_in_foreign(name) {
            return;
        }
        while let Step::Again = self.end_by_mode(name, element) {}
    }

    fn end_by_mode(&mut self, name: Name, element: Element) -> Step<()> {
        match self.mode {
            Mode::InBody => self.end_in_body(name, element),
            Mode::BeforeHead | Mode::InHead | Mode::AfterHead => return self.end_in_head(name),
            Mode::InFrameset => {}
            Mode::InTable => self.end_in_table(name, element),
            Mode::InCaption => return self.end_in_caption(name, element),
            Mode::InColumnGroup => return self.end_in_column_group(name),
            Mode::InTableBody => return self.end_in_table_body(name, element),
            Mode::InRow => return self.end_in_row(name, element),
            Mode::InCell => return self.end_in_cell(name, element),
        }
        Step::Done(())
    }

    /// Ends the page. Returns the hidden elements and boxes whose end tag is missing.
    pub(super) fn end(&mut self) -> UnclosedElements {
        self.open.end_without_tag(0);
        self.open.unclosed
    }

    /// Returns the number of `script` elements.
    pub(super) const fn script_count(&self) -> u64 {
        self.script_count
    }

    /// Returns the number of elements that were nested too deep.
    pub(super) const fn too_deep_count(&self) -> u64 {
        self.open.too_deep_count
    }

    /// Sets the insertion mode that fits the open elements.
    fn reset_mode(&mut self) {
        let mode = self.open.iter().find_map(|open| match open.name {
            _ if open.namespace != Namespace::Html => None,
            Name::TD | Name::TH => Some(Mode::InCell),
            Name::TR => Some(Mode::InRow),
            Name::TBODY | Name::TFOOT | Name::THEAD => Some(Mode::InTableBody),
            Name::CAPTION => Some(Mode::InCaption),
            Name::COLGROUP => Some(Mode::InColumnGroup),
            Name::TABLE => Some(Mode::InTable),
            Name::TEMPLATE | Name::BODY => Some(Mode::InBody),
            Name::HEAD => Some(Mode::InHead),
            Name::FRAMESET => Some(Mode::InFrameset),
            _ => None,
        });
        self.mode = mode.unwrap_or(Mode::AfterHead);
    }

    const fn is_in_table_mode(&self) -> bool {
        matches!(self.mode, Mode::InTable | Mode::InTableBody | Mode::InRow | Mode::InColumnGroup)
    }
}

/// Returns the kind of content of an element in HTML.
#[cfg(test)]
pub(super) fn content_of(name: &str) -> Content {
    use super::element::TagTreatment;

    match (Element::of(Name::of(name)).treatment, name) {
        (_, "script") => Content::Script,
        (TagTreatment::HeadRaw | TagTreatment::Raw | TagTreatment::RawBlock, _) => Content::Raw,
        (TagTreatment::PlainText, _) => Content::PlainText,
        _ => Content::Markup,
    }
}
