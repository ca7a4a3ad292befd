//! An open element, tracked without a tree by its name and a depth.

use super::element::Element;

/// Element that is closed by an end tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// An element inside the open one, or none.
    Inside,
    /// The open element itself.
    Own,
    /// The parent of the open element. It also ends the open element, whose end tag is missing.
    Parent,
}

/// An open element.
pub(super) struct OpenElement {
    name: String,
    kind: ElementKind,
    /// Number of open elements inside that have the same name. For an item, the number of open
    /// parents inside.
    depth: usize,
}

/// Way in which an element may end without its own end tag.
#[derive(Clone, Copy)]
enum ElementKind {
    Ordinary,
    /// A paragraph: it ends with its parent, and before a block such as `div`.
    Paragraph,
    /// An item, for example of a list. It ends before any of `siblings` and with any of `parents`.
    Item {
        siblings: &'static [&'static str],
        parents: &'static [&'static str],
        /// Elements of `parents` that can be nested inside the item, for example a list in `li`.
        nested_parents: &'static [&'static str],
    },
}

impl ElementKind {
    fn of(name: &str) -> Self {
        const SECTIONS: &[&str] = &["tbody", "tfoot", "thead"];
        const ROWS: &[&str] = &["tbody", "tfoot", "thead", "tr"];
        const CELLS: &[&str] = &["tbody", "td", "tfoot", "th", "thead", "tr"];
        const TABLE: &[&str] = &["table"];
        const ROW_PARENTS: &[&str] = &["table", "tbody", "tfoot", "thead"];
        const CELL_PARENTS: &[&str] = &["table", "tbody", "tfoot", "thead", "tr"];
        const LISTS: &[&str] = &["menu", "ol", "ul"];
        const OPTION_PARENTS: &[&str] = &["datalist", "optgroup", "select"];
        let (siblings, parents, nested_parents): (&[&str], &[&str], &[&str]) = match name {
            "p" => return Self::Paragraph,
            "li" => (&["li"], LISTS, LISTS),
            "dt" | "dd" => (&["dd", "dt"], &["dl"], &["dl"]),
            "option" => (&["optgroup", "option"], OPTION_PARENTS, &["select"]),
            "optgroup" => (&["optgroup"], &["select"], &["select"]),
            "tbody" | "tfoot" | "thead" => (SECTIONS, TABLE, TABLE),
            "tr" => (ROWS, ROW_PARENTS, TABLE),
            "td" | "th" => (CELLS, CELL_PARENTS, TABLE),
            _ => return Self::Ordinary,
        };
        Self::Item { siblings, parents, nested_parents }
    }
}

impl OpenElement {
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), kind: ElementKind::of(name), depth: 0 }
    }

    /// Returns whether the start tag of `name` ends the element.
    pub(super) fn is_ended_by_start(&self, name: &str, element: Element) -> bool {
        match self.kind {
            ElementKind::Ordinary => false,
            ElementKind::Paragraph => element.has(Element::CLOSES_PARAGRAPH),
            ElementKind::Item { siblings, .. } => self.depth == 0 && siblings.contains(&name),
        }
    }

    /// Processes the start tag of an element with content, inside this one.
    pub(super) fn start(&mut self, name: &str) {
        let is_nested = match self.kind {
            ElementKind::Ordinary => name == self.name,
            ElementKind::Paragraph => false,
            ElementKind::Item { nested_parents, .. } => nested_parents.contains(&name),
        };
        if is_nested {
            self.depth = self.depth.saturating_add(1);
        }
    }

    /// Processes an end tag.
    pub(super) fn end(&mut self, name: &str, element: Element) -> End {
        let (ends_own, ends_parent, ends_nested) = match self.kind {
            ElementKind::Ordinary => (name == self.name, false, name == self.name),
            ElementKind::Paragraph => {
                let is_parent = element.has(Element::CLOSES_PARAGRAPH)
                    || element.has(Element::END_TAG_CLOSES_PARAGRAPH);
                (name == "p", is_parent, false)
            }
            ElementKind::Item { parents, nested_parents, .. } => {
                (name == self.name, parents.contains(&name), nested_parents.contains(&name))
            }
        };
        // While nested elements are open, the end tag can only belong to one of them.
        if self.depth > 0 {
            if ends_nested {
                self.depth -= 1;
            }
            End::Inside
        } else if ends_own {
            End::Own
        } else if ends_parent {
            End::Parent
        } else {
            End::Inside
        }
    }
}
