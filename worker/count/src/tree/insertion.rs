//! Insertion of elements at the current position.

use super::{Mode, StartTag, Tree};
use crate::{
    active_formatting::ElementId,
    element::{Element, Name, Namespace, Property},
    main_content::MainHolder,
    open_elements::Place,
    rendering::OwnRendering,
    tokenizer::Content,
};

impl Tree {
    /// Returns the place where the next element or text is inserted.
    #[inline]
    pub(super) fn place(&self) -> Place {
        if self.is_fostering { self.open.place_outside_table() } else { self.open.place() }
    }

    /// Opens the HTML element that a tag starts.
    #[inline]
    pub(super) fn insert(&mut self, start: &StartTag<'_>) -> ElementId {
        let own = start.rendering(Namespace::Html);
        self.insert_as((start.name, start.element, Namespace::Html), own)
    }

    /// Opens an HTML element without a tag.
    pub(super) fn insert_implied(&mut self, name: Name) {
        let element = Element::of(name);
        let mut own = OwnRendering::of_element(name, element, Namespace::Html);
        if name == Name::HEAD {
            // Text cannot be inside `head` in HTML: it ends the element.
            own = own.to_shown();
        }
        self.insert_as((name, element, Namespace::Html), own);
    }

    #[inline]
    pub(super) fn insert_as(
        &mut self,
        kind: (Name, Element, Namespace),
        own: OwnRendering,
    ) -> ElementId {
        let place = self.place();
        if self.open.is_full() {
            // The text of the new element inherits from the current one, which ends here.
            self.open.make_room();
            self.reset_mode();
        }
        let id = self.open.push(kind, own, place);
        if own.has_landmark() {
            self.update_holder();
        }
        id
    }

    /// Opens an element with raw text.
    pub(super) fn insert_raw(&mut self, start: &StartTag<'_>) -> Content {
        self.insert(start);
        self.is_in_raw_text = true;
        if start.name == Name::SCRIPT {
            self.script_count = self.script_count.saturating_add(1);
            Content::Script
        } else {
            Content::Raw
        }
    }

    /// Processes an element without content: words end there if it is visible.
    pub(super) fn insert_void(&mut self, start: &StartTag<'_>) {
        let own = start.rendering(Namespace::Html);
        self.open.separate(own, self.place());
    }

    pub(super) fn insert_template(&mut self, start: &StartTag<'_>) {
        self.insert(start);
        self.open.formatting.push_marker();
        self.is_frameset_ok = false;
        // The standard has another mode for templates, but all their text is invisible.
        self.mode = Mode::InBody;
    }

    pub(super) fn end_template(&mut self) {
        if !self.open.has_template() {
            return;
        }
        while self.open.current().is_some_and(|open| {
            open.is_html_with(Property::IMPLIED_END)
                || open.is_html_with(Property::IMPLIED_END_IN_TEMPLATE)
        }) {
            self.open.pop();
        }
        self.open.end_up_to(|open| open.is(Name::TEMPLATE));
        self.open.pop();
        self.open.formatting.clear_to_marker();
        self.reset_mode();
    }

    /// Discards the main content so far if the current element is a better holder of it.
    pub(super) fn update_holder(&mut self) {
        let Some(open) = self.open.current() else { return };
        let holder = MainHolder::of(open.rendering.landmarks());
        if open.rendering.drop_reason().is_none() && holder > self.holder {
            self.holder = holder;
            self.has_better_main = true;
        }
    }

    /// Opens the formatting elements again that ended with their block.
    #[inline]
    pub(super) fn reconstruct_formatting(&mut self) {
        if !self.open.formatting.has_closed() {
            return;
        }
        for index in self.open.formatting.closed() {
            let place = self.place();
            self.open.reopen(index, place);
        }
    }
}
