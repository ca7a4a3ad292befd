//! The stack of open elements, and the list of active formatting elements, as in the HTML standard.
//!
//! A parser that builds a tree derives the visibility of text from the ancestors of its node. Here,
//! each open element stores what its text inherits, so that no tree is needed.

mod scope;

use super::{
    active_formatting::{ActiveFormatting, ElementId},
    element::{Element, Name, Namespace, Property},
    rendering::{OwnRendering, Rendering},
};

/// Maximum number of open elements. Chromium limits the depth of its tree to the same number
/// (`kMaximumHTMLParserDOMTreeDepth`).
///
/// At the limit, a new element replaces the current one and inherits its rendering. Deep text is
/// therefore still counted. The only error: hidden text can be counted after the end tag of the new
/// element.
pub(super) const DEPTH_MAX: usize = 512;

/// Number of elements for which memory is allocated at first.
const USUAL_DEPTH: usize = 32;

/// An element whose end is not yet reached.
#[derive(Clone, Copy)]
pub(super) struct OpenElement {
    pub(super) name: Name,
    pub(super) element: Element,
    pub(super) namespace: Namespace,
    pub(super) id: ElementId,
    pub(super) own: OwnRendering,
    /// Rendering of text in the element.
    pub(super) rendering: Rendering,
    /// Whether words end at the start and the end of the element.
    ends_words: bool,
    /// Rendering of the parent in the tree, if that is not the open element before. The parent can
    /// be outside of a table (*foster parenting*), or it has ended, but not the elements inside.
    other_parent: Option<Rendering>,
    /// Whether the element is in the list of active formatting elements.
    is_formatting: bool,
    /// Whether a paragraph is open that the start tag of a block ends (*in button scope*).
    has_paragraph: bool,
    pub(super) has_child: bool,
}

impl OpenElement {
    /// Returns whether this is the HTML element with the given name.
    pub(super) fn is(&self, name: Name) -> bool {
        self.name == name && self.namespace == Namespace::Html
    }

    /// Returns whether this is an HTML element with the given property.
    pub(super) fn is_html_with(&self, property: Property) -> bool {
        self.namespace == Namespace::Html && self.element.has(property)
    }
}

/// Place where the next element or text is inserted.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) rendering: Rendering,
    is_fostered: bool,
}

/// Hidden elements and boxes whose end tag is missing.
#[derive(Clone, Copy, Default)]
pub(super) struct UnclosedElements {
    pub(super) count: u64,
    pub(super) first_name: Option<Name>,
}

impl UnclosedElements {
    fn record(&mut self, open: &OpenElement) {
        // HTML permits to omit some end tags, for example that of `p`.
        let may_omit = open.element.has(Property::IMPLIED_END)
            || open.element.has(Property::IMPLIED_END_IN_TEMPLATE);
        if open.own.drop_reason().is_some() && !may_omit {
            self.count = self.count.saturating_add(1);
            self.first_name.get_or_insert(open.name);
        }
    }
}

/// The stack of open elements. The last one is the current one.
pub(super) struct OpenElements {
    stack: Vec<OpenElement>,
    pub(super) formatting: ActiveFormatting,
    last_id: ElementId,
    /// Whether a word before the last tags cannot continue after them.
    pub(super) has_separation: bool,
    pub(super) unclosed: UnclosedElements,
    /// Number of elements that were nested deeper than [`DEPTH_MAX`].
    pub(super) too_deep_count: u64,
}

impl OpenElements {
    pub(super) fn new() -> Self {
        Self {
            stack: Vec::with_capacity(USUAL_DEPTH),
            formatting: ActiveFormatting::default(),
            last_id: ElementId::default(),
            has_separation: false,
            unclosed: UnclosedElements::default(),
            too_deep_count: 0,
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.stack.len()
    }

    pub(super) fn current(&self) -> Option<&OpenElement> {
        self.stack.last()
    }

    pub(super) fn get(&self, index: usize) -> Option<&OpenElement> {
        self.stack.get(index)
    }

    /// Returns the open elements, beginning with the current one.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &OpenElement> {
        self.stack.iter().rev()
    }

    /// Returns whether the current element is the HTML element with the given name.
    pub(super) fn current_is(&self, name: Name) -> bool {
        self.current().is_some_and(|open| open.is(name))
    }

    /// Ends words at this place, if an element with the given rendering does.
    pub(super) const fn separate(&mut self, own: OwnRendering, place: Place) {
        self.has_separation |= place.rendering.ends_words_at(own);
    }

    // Places.

    /// Returns the place inside the current element.
    #[inline]
    pub(super) fn place(&self) -> Place {
        let rendering = self.current().map(|open| open.rendering).unwrap_or_default();
        Place { rendering, is_fostered: false }
    }

    /// Returns the place for content that a table cannot contain: before the table, if the current
    /// element is a part of it.
    pub(super) fn place_outside_table(&self) -> Place {
        if self.current().is_some_and(|open| open.is_html_with(Property::TABLE_STRUCTURE)) {
            Place { rendering: self.foster_rendering(self.len()), is_fostered: true }
        } else {
            self.place()
        }
    }

    /// Returns the rendering outside of the last table among the first `len` elements.
    fn foster_rendering(&self, len: usize) -> Rendering {
        let stack = self.stack.get(..len).unwrap_or_default();
        let is_limit = |open: &OpenElement| open.is(Name::TABLE) || open.is(Name::TEMPLATE);
        let index = match stack.iter().rposition(is_limit) {
            Some(index) if stack.get(index).is_some_and(|open| open.is(Name::TABLE)) => {
                index.saturating_sub(1)
            }
            Some(index) => index,
            None => 0,
        };
        stack.get(index).map(|open| open.rendering).unwrap_or_default()
    }

    // Changes.

    pub(super) const fn is_full(&self) -> bool {
        self.len() >= DEPTH_MAX
    }

    /// Ends the current element, because the next one would be too deep.
    #[cold]
    pub(super) fn make_room(&mut self) {
        self.too_deep_count = self.too_deep_count.saturating_add(1);
        self.pop();
    }

    /// Opens an element at a place. Returns its identity.
    #[inline]
    pub(super) fn push(
        &mut self,
        (name, element, namespace): (Name, Element, Namespace),
        own: OwnRendering,
        place: Place,
    ) -> ElementId {
        let ends_words = place.rendering.ends_words_at(own);
        self.has_separation |= ends_words;
        let id = self.last_id.next();
        self.last_id = id;
        let has_paragraph = self.has_paragraph();
        let mut open = OpenElement {
            name,
            element,
            namespace,
            id,
            own,
            rendering: place.rendering.enter(own),
            ends_words,
            other_parent: place.is_fostered.then_some(place.rendering),
            is_formatting: false,
            has_paragraph: false,
            has_child: false,
        };
        open.has_paragraph = has_paragraph_in(&open, has_paragraph);
        self.stack.push(open);
        id
    }

    /// Adds the current element to the list of active formatting elements.
    pub(super) fn add_current_to_formatting(&mut self) {
        if let Some(open) = self.stack.last_mut() {
            open.is_formatting = true;
            self.formatting.push(open.id, open.name, open.own);
        }
    }

    /// Opens the formatting element at `index` of the list again.
    pub(super) fn reopen(&mut self, index: usize, place: Place) {
        let Some(formatting) = self.formatting.get(index) else { return };
        let kind = (formatting.name, Element::of(formatting.name), Namespace::Html);
        if self.is_full() {
            self.make_room();
        }
        let id = self.push(kind, formatting.own, place);
        if let Some(open) = self.stack.last_mut() {
            open.is_formatting = true;
        }
        self.formatting.set_open(index, id);
    }

    /// Ends the current element.
    #[inline]
    pub(super) fn pop(&mut self) {
        if let Some(open) = self.stack.last() {
            self.has_separation |= open.ends_words;
            if open.is_formatting {
                self.formatting.close(open.id);
            }
            self.stack.truncate(self.stack.len().saturating_sub(1));
        }
    }

    /// Ends the current element if it has the given name, and is the last formatting element.
    /// Returns whether it is.
    #[inline]
    pub(super) fn pop_formatting(&mut self, name: Name) -> bool {
        let Some(open) = self.stack.last() else { return false };
        let is_last = open.is(name) && open.is_formatting && self.formatting.is_last(open.id);
        if is_last {
            self.has_separation |= open.ends_words;
            self.formatting.pop();
            self.stack.truncate(self.stack.len().saturating_sub(1));
        }
        is_last
    }

    /// Ends the element at `index`, which has an end tag, and those inside it, which have none.
    #[inline]
    pub(super) fn end_with_tag(&mut self, index: usize) {
        let inner = index.saturating_add(1);
        if self.len() > inner {
            self.end_without_tag(inner);
        }
        self.pop();
    }

    /// Ends the elements from `index` on, which have no end tags.
    pub(super) fn end_without_tag(&mut self, index: usize) {
        while self.len() > index {
            if let Some(open) = self.stack.last() {
                self.unclosed.record(open);
            }
            self.pop();
        }
    }

    /// Ends the current elements up to one for which `is_limit` holds.
    pub(super) fn end_up_to(&mut self, is_limit: impl Fn(&OpenElement) -> bool) {
        while let Some(open) = self.stack.last()
            && !is_limit(open)
        {
            self.unclosed.record(open);
            self.pop();
        }
    }

    /// Ends the current elements whose end tags may be omitted, except `except`.
    pub(super) fn generate_implied_ends(&mut self, except: Option<Name>) {
        while let Some(open) = self.current()
            && open.is_html_with(Property::IMPLIED_END)
            && except != Some(open.name)
        {
            self.pop();
        }
    }

    /// Ends the element at `index`, but not the elements inside it, which stay there in the tree.
    pub(super) fn end_only(&mut self, index: usize) {
        let Some(open) = self.stack.get(index) else { return };
        let rendering = open.rendering;
        if let Some(next) = self.stack.get_mut(index.saturating_add(1)) {
            next.other_parent.get_or_insert(rendering);
        }
        self.remove(index);
    }

    /// Removes the element at `index`. The elements inside move to its parent.
    pub(super) fn remove(&mut self, index: usize) {
        if index < self.len() {
            let open = self.stack.remove(index);
            self.has_separation |= open.ends_words;
            if open.is_formatting {
                self.formatting.close(open.id);
            }
            self.update_from(index);
        }
    }

    /// Moves the formatting element at `from` to the inside of the deeper element at `to`. The
    /// moved element is a copy, so it gets a new identity, which is returned.
    pub(super) fn move_inside(&mut self, from: usize, to: usize) -> Option<ElementId> {
        let mut open = self.stack.get(from).copied()?;
        open.id = self.last_id.next();
        open.other_parent = None;
        self.last_id = open.id;
        self.stack.insert(to.saturating_add(1).min(self.len()), open);
        self.stack.remove(from);
        self.update_from(from);
        Some(open.id)
    }

    /// Sets the parent of the element at `index`, which has moved: the element before, or the place
    /// outside of a table if that is a part of one.
    pub(super) fn set_parent(&mut self, index: usize, is_fostering: bool) {
        let is_in_table = index
            .checked_sub(1)
            .and_then(|parent| self.stack.get(parent))
            .is_some_and(|parent| parent.is_html_with(Property::TABLE_STRUCTURE));
        let rendering = self.foster_rendering(index);
        if let Some(open) = self.stack.get_mut(index) {
            open.other_parent = (is_fostering && is_in_table).then_some(rendering);
        }
        self.update_from(index);
    }

    pub(super) fn mark_child(&mut self) {
        if let Some(open) = self.stack.last_mut() {
            open.has_child = true;
        }
    }

    /// Derives what the elements from `index` on inherit, after a change of the elements before.
    fn update_from(&mut self, index: usize) {
        for index in index..self.len() {
            let before = index.checked_sub(1).and_then(|before| self.stack.get(before)).copied();
            if let Some(open) = self.stack.get_mut(index) {
                let parent = open.other_parent.or_else(|| before.map(|open| open.rendering));
                let parent = parent.unwrap_or_default();
                open.rendering = parent.enter(open.own);
                // A block that is visible from here on begins here.
                let ends_words = parent.ends_words_at(open.own);
                self.has_separation |= ends_words && !open.ends_words;
                open.ends_words = ends_words;
                open.has_paragraph =
                    has_paragraph_in(open, before.is_some_and(|open| open.has_paragraph));
            }
        }
    }
}

/// Returns [`OpenElement::has_paragraph`] for an element inside another one.
fn has_paragraph_in(open: &OpenElement, parent_has_paragraph: bool) -> bool {
    open.is(Name::P)
        || (parent_has_paragraph && !open.element.has(Property::SCOPE) && !open.is(Name::BUTTON))
}
