//! The list of active formatting elements of the HTML standard: formatting elements, such as `b`,
//! that are opened again after the end of their block if their end tag is missing.
//!
//! In `<p><b>a</p><p>b</p>`, the second paragraph is bold, too.

use super::{element::Name, rendering::OwnRendering};

/// Maximum number of items. If there are more, the older half is discarded. Between two markers,
/// there are at most three equal elements, so longer lists consist of markers without an end.
const ITEMS_MAX: usize = 1024;

/// Maximum number of equal elements after the last marker.
const EQUAL_MAX: usize = 3;

/// Identity of an element, which a copy of the element does not share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ElementId(u32);

impl ElementId {
    /// Returns the identity of the next element. After 4 billion elements, they repeat.
    pub(super) const fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}

/// A formatting element.
#[derive(Clone, Copy)]
pub(super) struct FormattingElement {
    pub(super) name: Name,
    pub(super) own: OwnRendering,
    pub(super) id: ElementId,
    is_open: bool,
}

/// An item of the list.
#[derive(Clone, Copy)]
enum Item {
    /// Start of an element such as `td`: formatting elements before it do not continue inside.
    Marker,
    Element(FormattingElement),
}

impl Item {
    const fn element(&self) -> Option<&FormattingElement> {
        match self {
            Self::Element(element) => Some(element),
            Self::Marker => None,
        }
    }
}

/// The list of active formatting elements.
#[derive(Default)]
pub(super) struct ActiveFormatting {
    items: Vec<Item>,
}

impl ActiveFormatting {
    pub(super) fn get(&self, index: usize) -> Option<FormattingElement> {
        self.items.get(index).and_then(Item::element).copied()
    }

    pub(super) fn push_marker(&mut self) {
        self.push_item(Item::Marker);
    }

    /// Adds an open element. If there are three equal ones, the earliest of them is removed.
    ///
    /// Elements are equal here if they have the same name and rendering. The standard compares all
    /// attributes, but this does not change which text is visible.
    pub(super) fn push(&mut self, id: ElementId, name: Name, own: OwnRendering) {
        // Usually the list is short.
        if self.items.len() >= EQUAL_MAX {
            self.limit_equal(name, own);
        }
        self.push_item(Item::Element(FormattingElement { name, own, id, is_open: true }));
    }

    fn limit_equal(&mut self, name: Name, own: OwnRendering) {
        let is_equal = |element: &FormattingElement| element.name == name && element.own == own;
        let start = self.start();
        let items = self.items.iter().enumerate().skip(start).rev();
        let mut equal = items.filter(|(_, item)| item.element().is_some_and(is_equal));
        if let Some((index, _)) = equal.nth(EQUAL_MAX.saturating_sub(1)) {
            self.items.remove(index);
        }
    }

    fn push_item(&mut self, item: Item) {
        if self.items.len() >= ITEMS_MAX {
            self.items.drain(..ITEMS_MAX / 2);
        }
        self.items.push(item);
    }

    /// Removes all items after the last marker, and the marker.
    pub(super) fn clear_to_marker(&mut self) {
        self.items.truncate(self.start().saturating_sub(1));
    }

    /// Returns the index after the last marker.
    fn start(&self) -> usize {
        let marker = self.items.iter().rposition(|item| item.element().is_none());
        marker.map_or(0, |marker| marker.saturating_add(1))
    }

    /// Returns the index of the last element with the given name after the last marker.
    pub(super) fn last_named(&self, name: Name) -> Option<usize> {
        let items = self.items.iter().enumerate().rev();
        let mut elements = items.map_while(|(index, item)| Some((index, item.element()?)));
        elements.find(|(_, element)| element.name == name).map(|(index, _)| index)
    }

    /// Returns the index of an element.
    pub(super) fn position(&self, id: ElementId) -> Option<usize> {
        let is_equal = |item: &Item| item.element().is_some_and(|element| element.id == id);
        self.items.iter().rposition(is_equal)
    }

    pub(super) fn remove(&mut self, index: usize) {
        if index < self.items.len() {
            self.items.remove(index);
        }
    }

    /// Moves the element at `from` to the place before `to`, with a new identity.
    pub(super) fn replace(&mut self, from: usize, to: usize, id: ElementId) {
        if from >= self.items.len() {
            return;
        }
        let mut item = self.items.remove(from);
        if let Item::Element(element) = &mut item {
            element.id = id;
            element.is_open = true;
        }
        let to = if from < to { to.saturating_sub(1) } else { to };
        self.items.insert(to.min(self.items.len()), item);
    }

    /// Returns whether elements have to be opened again.
    #[inline]
    pub(super) fn has_closed(&self) -> bool {
        matches!(self.items.last(), Some(Item::Element(element)) if !element.is_open)
    }

    /// Returns the indexes of the elements that have to be opened again.
    pub(super) fn closed(&self) -> std::ops::Range<usize> {
        let is_closed = |item: &&Item| item.element().is_some_and(|element| !element.is_open);
        let end = self.items.len();
        let count = self.items.iter().rev().take_while(is_closed).count();
        end.saturating_sub(count)..end
    }

    /// Returns whether an element is the last item.
    #[inline]
    pub(super) fn is_last(&self, id: ElementId) -> bool {
        matches!(self.items.last(), Some(Item::Element(element)) if element.id == id)
    }

    /// Removes the last item.
    #[inline]
    pub(super) fn pop(&mut self) {
        self.items.truncate(self.items.len().saturating_sub(1));
    }

    /// Records that an element is open again as `id`.
    pub(super) fn set_open(&mut self, index: usize, id: ElementId) {
        if let Some(Item::Element(element)) = self.items.get_mut(index) {
            element.id = id;
            element.is_open = true;
        }
    }

    /// Records that an open element has ended.
    pub(super) fn close(&mut self, id: ElementId) {
        if let Some(index) = self.position(id)
            && let Some(Item::Element(element)) = self.items.get_mut(index)
        {
            element.is_open = false;
        }
    }
}
