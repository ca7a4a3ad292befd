//! The insertion mode "in body".

use super::{Mode, StartTag, Tree};
use crate::{
    element::{Element, Name, Namespace, Property, TagTreatment},
    open_elements::OpenElement,
    rendering::OwnRendering,
    tokenizer::Content,
};

impl Tree {
    pub(super) fn start_in_body(&mut self, start: &StartTag<'_>) -> Content {
        if self.is_frameset_ok {
            self.is_frameset_ok = !forbids_frameset(start);
        }
        match start.element.treatment {
            TagTreatment::Ordinary => self.insert_inline(start),
            TagTreatment::Block | TagTreatment::Paragraph => {
                self.end_paragraph();
                self.insert(start);
            }
            TagTreatment::Formatting | TagTreatment::Anchor | TagTreatment::Nobr => {
                self.start_formatting(start);
            }
            TagTreatment::Heading => self.start_heading(start),
            TagTreatment::ListItem | TagTreatment::Definition => self.start_item(start),
            TagTreatment::Void | TagTreatment::LineBreak => {
                self.reconstruct_formatting();
                self.insert_void(start);
            }
            TagTreatment::Form => self.start_form(start),
            TagTreatment::Button => self.start_button(start),
            TagTreatment::Marker => {
                self.insert_inline(start);
                self.open.formatting.push_marker();
            }
            TagTreatment::Table => self.start_table(start),
            TagTreatment::Input => {
                self.end_select();
                self.reconstruct_formatting();
                self.insert_void(start);
            }
            TagTreatment::HorizontalRule => self.start_horizontal_rule(start),
            TagTreatment::Select => {
                if !self.end_select() {
                    self.insert_inline(start);
                }
            }
            TagTreatment::SelectOption => self.start_select_option(start),
            TagTreatment::RubyBase | TagTreatment::RubyText => self.start_ruby(start),
            TagTreatment::Foreign => {
                self.reconstruct_formatting();
                let is_svg = start.name == Name::SVG;
                self.insert_foreign(start, if is_svg { Namespace::Svg } else { Namespace::MathMl });
            }
            TagTreatment::HeadVoid | TagTreatment::HeadRaw | TagTreatment::Template => {
                return self.start_metadata(start).unwrap_or(Content::Markup);
            }
            TagTreatment::Raw => return self.insert_raw(start),
            TagTreatment::RawBlock => {
                self.end_paragraph();
                self.reconstruct_formatting();
                return self.insert_raw(start);
            }
            TagTreatment::PlainText => {
                self.end_paragraph();
                self.insert(start);
                return Content::PlainText;
            }
            TagTreatment::Html | TagTreatment::Body => self.merge_root(start),
            TagTreatment::Frameset => self.start_frameset(),
            TagTreatment::VoidMetadata | TagTreatment::Head | TagTreatment::TablePart => {}
        }
        Content::Markup
    }

    fn insert_inline(&mut self, start: &StartTag<'_>) {
        self.reconstruct_formatting();
        self.insert(start);
    }

    fn start_heading(&mut self, start: &StartTag<'_>) {
        self.end_paragraph();
        if self.open.current().is_some_and(|open| open.is_html_with(Property::HEADING)) {
            self.open.pop();
        }
        self.insert(start);
    }

    fn start_button(&mut self, start: &StartTag<'_>) {
        if let Some(index) = self.open.find_in_scope(|open| open.is(Name::BUTTON)) {
            self.open.generate_implied_ends(None);
            self.open.end_with_tag(index);
        }
        self.insert_inline(start);
    }

    fn start_table(&mut self, start: &StartTag<'_>) {
        if !self.is_in_quirks_mode {
            self.end_paragraph();
        }
        self.insert(start);
        self.mode = Mode::InTable;
    }

    fn start_horizontal_rule(&mut self, start: &StartTag<'_>) {
        self.end_paragraph();
        if self.is_in_select() {
            self.open.generate_implied_ends(None);
        }
        self.insert_void(start);
    }

    fn start_ruby(&mut self, start: &StartTag<'_>) {
        if self.open.find_in_scope(|open| open.is(Name::RUBY)).is_some() {
            let is_text = start.element.treatment == TagTreatment::RubyText;
            self.open.generate_implied_ends(is_text.then_some(Name::RTC));
        }
        self.insert(start);
    }

    fn start_frameset(&mut self) {
        let has_body = self.open.get(1).is_some_and(|open| open.is(Name::BODY));
        if has_body && self.is_frameset_ok {
            self.replace_body_by_frameset();
        }
    }

    fn start_formatting(&mut self, start: &StartTag<'_>) {
        match start.name {
            Name::A => self.end_anchor(),
            Name::NOBR => {
                self.reconstruct_formatting();
                if self.open.find_in_scope(|open| open.is(Name::NOBR)).is_some() {
                    self.adopt(Name::NOBR);
                }
            }
            _ => {}
        }
        self.reconstruct_formatting();
        self.insert(start);
        self.open.add_current_to_formatting();
    }

    /// Ends an open link, because links cannot be nested.
    fn end_anchor(&mut self) {
        let last = self.open.formatting.last_named(Name::A);
        let Some(anchor) = last.and_then(|index| self.open.formatting.get(index)) else { return };
        self.adopt(Name::A);
        if let Some(index) = self.open.formatting.position(anchor.id) {
            self.open.formatting.remove(index);
        }
        if let Some(index) = self.open.position(anchor.id) {
            self.open.end_only(index);
        }
    }

    /// Opens an item of a list, and ends the item before it, whose end tag may be omitted.
    fn start_item(&mut self, start: &StartTag<'_>) {
        let is_sibling = |open: &OpenElement| {
            if start.element.treatment == TagTreatment::ListItem {
                open.is(Name::LI)
            } else {
                open.is(Name::DD) || open.is(Name::DT)
            }
        };
        let is_limit = |open: &OpenElement| {
            is_sibling(open)
                || (open.element.has(Property::SPECIAL)
                    && !open.is_html_with(Property::WITHIN_LIST_ITEM))
        };
        let index =
            (0..self.open.len()).rev().find(|index| self.open.get(*index).is_some_and(is_limit));
        if let Some(index) = index
            && let Some(name) = self.open.get(index).filter(|open| is_sibling(open))
        {
            let name = name.name;
            self.open.generate_implied_ends(Some(name));
            self.open.end_with_tag(index);
        }
        self.end_paragraph();
        self.insert(start);
    }

    fn start_form(&mut self, start: &StartTag<'_>) {
        let has_template = self.open.has_template();
        if self.form.is_some() && !has_template {
            return;
        }
        self.end_paragraph();
        let id = self.insert(start);
        if !has_template {
            self.form = Some(id);
        }
    }

    /// Opens an `option` or `optgroup`.
    fn start_select_option(&mut self, start: &StartTag<'_>) {
        if self.is_in_select() {
            let is_option = start.name == Name::OPTION;
            self.open.generate_implied_ends(is_option.then_some(Name::OPTGROUP));
        } else if self.open.current_is(Name::OPTION) {
            self.open.pop();
        }
        self.reconstruct_formatting();
        self.insert(start);
    }

    fn is_in_select(&self) -> bool {
        self.open.find_in_scope(|open| open.is(Name::SELECT)).is_some()
    }

    /// Ends an open `select`, which can contain neither another one nor an `input`.
    fn end_select(&mut self) -> bool {
        let index = self.open.find_in_scope(|open| open.is(Name::SELECT));
        if let Some(index) = index {
            self.open.end_with_tag(index);
        }
        index.is_some()
    }

    /// Ends an open paragraph, whose end tag may be omitted before a block.
    #[inline]
    pub(super) fn end_paragraph(&mut self) {
        if self.open.has_paragraph()
            && let Some(index) = self.open.find_in_scope(|open| open.is(Name::P))
        {
            self.open.generate_implied_ends(Some(Name::P));
            self.open.end_with_tag(index);
        }
    }

    pub(super) fn end_in_body(&mut self, name: Name, element: Element) {
        match element.treatment {
            TagTreatment::Block | TagTreatment::Button | TagTreatment::Select => {
                self.end_block(name);
            }
            TagTreatment::Paragraph => {
                if self.open.has_paragraph() {
                    self.end_paragraph();
                } else {
                    // The end tag stands for an empty paragraph.
                    let own = OwnRendering::of_element(name, element, Namespace::Html);
                    self.open.separate(own, self.place());
                }
            }
            TagTreatment::Formatting | TagTreatment::Anchor | TagTreatment::Nobr => {
                self.adopt(name);
            }
            TagTreatment::Form => self.end_form(name),
            TagTreatment::ListItem => {
                if let Some(index) = self.open.find_in_list_scope(name) {
                    self.open.generate_implied_ends(Some(name));
                    self.open.end_with_tag(index);
                }
            }
            TagTreatment::Definition => {
                if let Some(index) = self.open.find_in_scope(|open| open.is(name)) {
                    self.open.generate_implied_ends(Some(name));
                    self.open.end_with_tag(index);
                }
            }
            TagTreatment::Heading => {
                let is_heading = |open: &OpenElement| open.is_html_with(Property::HEADING);
                if let Some(index) = self.open.find_in_scope(is_heading) {
                    self.open.generate_implied_ends(None);
                    self.open.end_with_tag(index);
                }
            }
            TagTreatment::Marker => {
                if let Some(index) = self.open.find_in_scope(|open| open.is(name)) {
                    self.open.generate_implied_ends(None);
                    self.open.end_with_tag(index);
                    self.open.formatting.clear_to_marker();
                }
            }
            TagTreatment::LineBreak => {
                // Browsers treat `</br>` as `<br>`.
                self.reconstruct_formatting();
                self.is_frameset_ok = false;
                let own = OwnRendering::of_element(name, element, Namespace::Html);
                self.open.separate(own, self.place());
            }
            TagTreatment::Template => self.end_template(),
            TagTreatment::Html | TagTreatment::Body => {}
            TagTreatment::Ordinary
            | TagTreatment::Table
            | TagTreatment::TablePart
            | TagTreatment::Void
            | TagTreatment::VoidMetadata
            | TagTreatment::Input
            | TagTreatment::HorizontalRule
            | TagTreatment::SelectOption
            | TagTreatment::RubyBase
            | TagTreatment::RubyText
            | TagTreatment::Foreign
            | TagTreatment::HeadVoid
            | TagTreatment::HeadRaw
            | TagTreatment::Raw
            | TagTreatment::RawBlock
            | TagTreatment::PlainText
            | TagTreatment::Head
            | TagTreatment::Frameset => self.end_ordinary(name),
        }
    }

    fn end_form(&mut self, name: Name) {
        if self.open.has_template() {
            self.end_block(name);
            return;
        }
        let form = self.form.take();
        if let Some(index) = form.and_then(|id| self.open.find_in_scope(|open| open.id == id)) {
            self.open.generate_implied_ends(None);
            self.open.end_only(index);
        }
    }

    fn end_block(&mut self, name: Name) {
        if let Some(index) = self.open.find_in_scope(|open| open.is(name)) {
            self.open.generate_implied_ends(None);
            self.open.end_with_tag(index);
        }
    }

    /// Ends the last element with the given name, unless a special element inside it is open.
    pub(super) fn end_ordinary(&mut self, name: Name) {
        for index in (0..self.open.len()).rev() {
            let Some(open) = self.open.get(index) else { return };
            if open.is(name) {
                self.open.generate_implied_ends(Some(name));
                self.open.end_with_tag(index);
                return;
            }
            if open.element.has(Property::SPECIAL) {
                return;
            }
        }
    }
}

/// Returns whether a page with the given tag in its body cannot be a page of frames.
fn forbids_frameset(start: &StartTag<'_>) -> bool {
    let forbids = matches!(
        start.element.treatment,
        TagTreatment::ListItem
            | TagTreatment::Definition
            | TagTreatment::Button
            | TagTreatment::Marker
            | TagTreatment::Table
            | TagTreatment::Void
            | TagTreatment::HorizontalRule
            | TagTreatment::LineBreak
            | TagTreatment::Select
            | TagTreatment::RawBlock
            | TagTreatment::Body
    );
    forbids
        || matches!(start.tag.name(), "textarea" | "iframe" | "pre" | "listing")
        || (start.element.treatment == TagTreatment::Input
            && start.rendering(Namespace::Html).ends_words())
}
