//! Insertion modes before the body.

use super::{Mode, StartTag, Step, Tree};
use crate::{
    element::{Name, Namespace, TagTreatment},
    rendering::OwnRendering,
    tokenizer::Content,
};

impl Tree {
    pub(super) fn start_before_head(&mut self, start: &StartTag<'_>) -> Step<Content> {
        match start.name {
            Name::HTML => {
                // The element is open already, without attributes.
                self.open.pop();
                self.insert_root(start);
                Step::Done(Content::Markup)
            }
            Name::HEAD => {
                self.open_head();
                Step::Done(Content::Markup)
            }
            _ => {
                self.open_head();
                Step::Again
            }
        }
    }

    pub(super) fn start_in_head(&mut self, start: &StartTag<'_>) -> Step<Content> {
        if let Some(content) = self.start_metadata(start) {
            return Step::Done(content);
        }
        match start.name {
            Name::NOSCRIPT => Step::Done(self.insert_raw(start)),
            Name::HTML => {
                self.merge_root(start);
                Step::Done(Content::Markup)
            }
            Name::HEAD => Step::Done(Content::Markup),
            _ => {
                self.end_head();
                Step::Again
            }
        }
    }

    pub(super) fn start_after_head(&mut self, start: &StartTag<'_>) -> Step<Content> {
        if let Some(content) = self.start_metadata(start) {
            return Step::Done(content);
        }
        match start.name {
            Name::HTML => self.merge_root(start),
            Name::HEAD => {}
            Name::BODY => {
                self.insert_root(start);
                self.is_frameset_ok = false;
                self.mode = Mode::InBody;
            }
            Name::FRAMESET => self.replace_body_by_frameset(),
            _ => {
                self.open_body();
                return Step::Again;
            }
        }
        Step::Done(Content::Markup)
    }

    /// Processes the start tag of an element that belongs into `head`. Returns `None` for others.
    pub(super) fn start_metadata(&mut self, start: &StartTag<'_>) -> Option<Content> {
        let tags = start.element.treatment;
        if tags == TagTreatment::HeadRaw {
            return Some(self.insert_raw(start));
        }
        if tags == TagTreatment::Template {
            self.insert_template(start);
        }
        matches!(tags, TagTreatment::HeadVoid | TagTreatment::Template).then_some(Content::Markup)
    }

    pub(super) fn start_in_frameset(&mut self, start: &StartTag<'_>) -> Content {
        if start.name == Name::NOFRAMES { self.insert_raw(start) } else { Content::Markup }
    }

    pub(super) fn end_in_head(&mut self, name: Name) -> Step<()> {
        match (self.mode, name) {
            (_, Name::TEMPLATE) => self.end_template(),
            (Mode::InHead, Name::HEAD) => self.end_head(),
            (Mode::BeforeHead, Name::HEAD) => {
                self.open_head();
                self.end_head();
            }
            (_, Name::BODY | Name::HTML | Name::BR) => {
                self.open_body();
                return Step::Again;
            }
            _ => {}
        }
        Step::Done(())
    }

    /// Opens the body without a tag.
    pub(super) fn open_body(&mut self) {
        if self.mode == Mode::InHead {
            self.end_head();
        }
        self.insert_implied(Name::BODY);
        self.mode = Mode::InBody;
    }

    /// Processes another tag of `html` or `body`, which can only add attributes.
    pub(super) fn merge_root(&mut self, start: &StartTag<'_>) {
        if !self.open.has_template() {
            self.root_rendering(start);
        }
    }

    pub(super) fn replace_body_by_frameset(&mut self) {
        self.open.end_without_tag(1);
        self.insert_implied(Name::FRAMESET);
        self.mode = Mode::InFrameset;
    }

    fn insert_root(&mut self, start: &StartTag<'_>) {
        let own = self.root_rendering(start);
        self.insert_as((start.name, start.element, Namespace::Html), own);
    }

    /// Returns the rendering of `html` or `body`. If it hides the page, this is decided at the end.
    fn root_rendering(&mut self, start: &StartTag<'_>) -> OwnRendering {
        let own = start.rendering(Namespace::Html);
        self.is_root_hidden |= own.is_hidden();
        own.to_shown()
    }

    fn open_head(&mut self) {
        self.insert_implied(Name::HEAD);
        self.mode = Mode::InHead;
    }

    fn end_head(&mut self) {
        self.open.pop();
        self.mode = Mode::AfterHead;
    }
}
