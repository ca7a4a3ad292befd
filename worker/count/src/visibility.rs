//! Determines which text of a page is visible, and where its words are separated.
//!
//! No tree is built. Only the outermost hidden element is tracked, by its name and a depth, which
//! takes constant memory and linear time for any page.

use super::{
    counter::DropReason,
    element::Element,
    open_element::{End, OpenElement},
};

/// Syntax of a page, which determines the meaning of names and of `/>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Syntax {
    Html,
    Xml,
}

/// Whether a tag separates the words around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Separation {
    /// Words continue across the tag.
    Join,
    /// No word spans the tag.
    Break,
}

/// Effect of a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TagEffect {
    pub(super) separation: Separation,
    /// Whether the tag begins or ends a visible element that has content.
    pub(super) is_visible: bool,
}

impl TagEffect {
    const NONE: Self = Self { separation: Separation::Join, is_visible: false };
}

/// Tracks the tags of a page.
pub(super) struct Visibility {
    syntax: Syntax,
    /// The outermost hidden element, and the reason why its text is dropped.
    hidden: Option<(OpenElement, DropReason)>,
    /// Number of open SVG and `MathML` elements.
    foreign_depth: usize,
}

impl Visibility {
    pub(super) const fn new(syntax: Syntax) -> Self {
        Self { syntax, hidden: None, foreign_depth: 0 }
    }

    /// Returns the reason why text at this position is dropped, or `None` if it is visible.
    pub(super) fn drop_reason(&self) -> Option<DropReason> {
        self.hidden.as_ref().map(|(_, reason)| *reason)
    }

    /// Returns whether the rules of XML apply here, as they do inside SVG and `MathML`.
    pub(super) const fn is_xml(&self) -> bool {
        matches!(self.syntax, Syntax::Xml) || self.foreign_depth > 0
    }

    /// Processes a start tag. `is_hidden` is set if its attributes hide the element, `is_closed` if
    /// the tag ends with `/>`.
    pub(super) fn start(
        &mut self,
        (name, element): (&str, Element),
        is_hidden: bool,
        is_closed: bool,
    ) -> TagEffect {
        if element.has(Element::ENDS_FOREIGN) {
            self.foreign_depth = 0;
        }
        let is_foreign_root = element.has(Element::FOREIGN);
        // HTML ignores `/>`, except in SVG and `MathML`.
        let is_empty =
            element.has(Element::VOID) || (is_closed && (is_foreign_root || self.is_xml()));
        if is_foreign_root && !is_empty {
            self.foreign_depth = self.foreign_depth.saturating_add(1);
        }
        if let Some((hidden, _)) = &mut self.hidden {
            if !hidden.is_ended_by_start(name, element) {
                if !is_empty {
                    hidden.start(name);
                }
                return TagEffect::NONE;
            }
            self.hidden = None;
        }
        let is_invisible = element.has(Element::INVISIBLE)
            || (self.foreign_depth > 0 && element.has(Element::INVISIBLE_IN_FOREIGN));
        if !is_empty && (is_hidden || is_invisible || element.has(Element::REPLACED)) {
            let reason = match name {
                "script" => DropReason::Scripts,
                "style" => DropReason::Styles,
                "template" => DropReason::Templates,
                _ if is_hidden => DropReason::Hidden,
                _ => DropReason::Replaced,
            };
            self.hidden = Some((OpenElement::new(name), reason));
            // A hidden element leaves no gap in the text, so words continue across it.
            let separation = if is_hidden { Separation::Join } else { separation_of(element) };
            return TagEffect { separation, is_visible: false };
        }
        TagEffect { separation: separation_of(element), is_visible: !is_empty }
    }

    /// Processes an end tag.
    pub(super) fn end(&mut self, (name, element): (&str, Element)) -> TagEffect {
        if element.has(Element::FOREIGN) {
            self.foreign_depth = self.foreign_depth.saturating_sub(1);
        }
        match self.hidden.as_mut().map(|(hidden, _)| hidden.end(name, element)) {
            Some(End::Inside) => return TagEffect::NONE,
            Some(End::Own) => {
                self.hidden = None;
                // An invisible element leaves no gap either. A replaced element is visible as a
                // box, so words end there.
                let is_replaced = element.has(Element::REPLACED);
                let separation = if is_replaced { Separation::Break } else { Separation::Join };
                return TagEffect { separation, is_visible: false };
            }
            Some(End::Parent) => self.hidden = None,
            None => {}
        }
        TagEffect { separation: separation_of(element), is_visible: true }
    }
}

fn separation_of(element: Element) -> Separation {
    let ends_words = element.has(Element::BLOCK) || element.has(Element::REPLACED);
    if ends_words { Separation::Break } else { Separation::Join }
}
