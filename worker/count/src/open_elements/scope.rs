//! Searches for open elements, within the scopes of the HTML standard.

use super::{ElementId, OpenElement, OpenElements};
use crate::element::{Name, Namespace, Property};

impl OpenElements {
    /// Returns whether a paragraph is open that the start tag of a block ends.
    #[inline]
    pub(crate) fn has_paragraph(&self) -> bool {
        self.current().is_some_and(|open| open.has_paragraph)
    }

    /// Returns the index of the last HTML element for which `is_target` holds, if it is in scope.
    pub(crate) fn find_in_scope(&self, is_target: impl Fn(&OpenElement) -> bool) -> Option<usize> {
        self.find_before(is_target, |open| open.element.has(Property::SCOPE))
    }

    /// Like [`Self::find_in_scope`], in the scope of list items.
    pub(crate) fn find_in_list_scope(&self, name: Name) -> Option<usize> {
        let is_limit = |open: &OpenElement| {
            open.element.has(Property::SCOPE) || open.is_html_with(Property::LIST)
        };
        self.find_before(|open| open.is(name), is_limit)
    }

    /// Like [`Self::find_in_scope`], in the scope of a table.
    pub(crate) fn find_in_table(&self, is_target: impl Fn(&OpenElement) -> bool) -> Option<usize> {
        self.find_before(is_target, |open| open.is(Name::TABLE) || open.is(Name::TEMPLATE))
    }

    fn find_before(
        &self,
        is_target: impl Fn(&OpenElement) -> bool,
        is_limit: impl Fn(&OpenElement) -> bool,
    ) -> Option<usize> {
        for (index, open) in self.stack.iter().enumerate().rev() {
            if open.namespace == Namespace::Html && is_target(open) {
                return Some(index);
            }
            if is_limit(open) {
                return None;
            }
        }
        None
    }

    /// Returns the index of an element.
    pub(crate) fn position(&self, id: ElementId) -> Option<usize> {
        self.stack.iter().rposition(|open| open.id == id)
    }

    /// Returns whether a `template` is open.
    pub(crate) fn has_template(&self) -> bool {
        self.stack.iter().any(|open| open.is(Name::TEMPLATE))
    }
}
