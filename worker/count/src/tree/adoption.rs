//! The adoption agency algorithm: the end tags of formatting elements that are misnested.

use super::Tree;
use crate::{
    element::{Name, Property},
    open_elements::OpenElement,
};

/// Maximum number of formatting elements that one end tag ends.
const OUTER_LOOPS_MAX: usize = 8;
/// Maximum number of formatting elements inside the ended one that continue after it.
const INNER_LOOPS_MAX: usize = 3;

impl Tree {
    /// Ends a formatting element. In `<b><p>a</b>c`, the paragraph continues without `b`.
    pub(super) fn adopt(&mut self, name: Name) {
        // The usual case.
        if self.open.pop_formatting(name) {
            return;
        }
        // The current element ends, and is not in the list.
        if self
            .open
            .current()
            .is_some_and(|open| open.is(name) && self.open.formatting.position(open.id).is_none())
        {
            self.open.pop();
            return;
        }
        for _ in 0..OUTER_LOOPS_MAX {
            let Some(list_index) = self.open.formatting.last_named(name) else {
                self.end_ordinary(name);
                return;
            };
            let formatting = self.open.formatting.get(list_index);
            let Some(formatting) = formatting else { return };
            let Some(index) = self.open.position(formatting.id) else {
                self.open.formatting.remove(list_index);
                return;
            };
            if self.open.find_in_scope(|open| open.id == formatting.id).is_none() {
                return;
            }
            let is_special = |open: &OpenElement| open.element.has(Property::SPECIAL);
            let block = (index..self.open.len())
                .find(|index| self.open.get(*index).is_some_and(is_special));
            match block {
                None => {
                    self.open.end_with_tag(index);
                    self.open.formatting.remove(list_index);
                    return;
                }
                Some(block) => self.adopt_block(index, block, list_index),
            }
        }
    }

    /// Moves the formatting element at `index` to the inside of the block at `block`.
    fn adopt_block(&mut self, index: usize, block: usize, mut list_index: usize) {
        let mut block = block;
        let mut bookmark = list_index;
        let mut is_first = true;
        let mut loops = 0_usize;
        // The elements between both, from the inner to the outer one.
        for between in (index.saturating_add(1)..block).rev() {
            loops = loops.saturating_add(1);
            let Some(open) = self.open.get(between) else { return };
            let mut position = self.open.formatting.position(open.id);
            if loops > INNER_LOOPS_MAX
                && let Some(removed) = position.take()
            {
                self.open.formatting.remove(removed);
                list_index = list_index.saturating_sub(usize::from(removed < list_index));
                bookmark = bookmark.saturating_sub(usize::from(removed < bookmark));
            }
            match position {
                // The block, and then this element, moves out of the formatting element.
                Some(position) => {
                    if is_first {
                        bookmark = position.saturating_add(1);
                    }
                    is_first = false;
                }
                None => {
                    self.open.remove(between);
                    block = block.saturating_sub(1);
                }
            }
        }
        if let Some(id) = self.open.move_inside(index, block) {
            self.open.formatting.replace(list_index, bookmark, id);
        }
        self.open.set_parent(index, self.is_fostering);
    }
}
