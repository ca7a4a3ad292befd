//! Which part of a page is text that a reader sees, and where its words are separated.
//!
//! There is no tree: one hidden element at a time is followed by its name and a depth, which
//! takes constant memory and linear time whatever the page looks like.

use super::{
    counter::DropReason,
    element::Element,
    open_element::{End, OpenElement},
};

/// How names and slashes are understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Syntax {
    Html,
    Xml,
}

/// What a tag means for the words around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Words go on across the tag.
    Join,
    /// No word spans the tag.
    Break,
}

/// What a tag does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Effect {
    pub(super) step: Step,
    /// Whether the tag begins or ends something that is seen and has content.
    pub(super) is_seen: bool,
}

impl Effect {
    const NONE: Self = Self { step: Step::Join, is_seen: false };
}

/// Follows the tags of a page.
pub(super) struct Visibility {
    syntax: Syntax,
    hidden: Option<(OpenElement, DropReason)>,
    /// Open SVG and `MathML` elements.
    foreign: usize,
}

impl Visibility {
    pub(super) const fn new(syntax: Syntax) -> Self {
        Self { syntax, hidden: None, foreign: 0 }
    }

    /// Returns why text at this place is not seen, or `None` if it is.
    pub(super) fn hides_text(&self) -> Option<DropReason> {
        self.hidden.as_ref().map(|(_, why)| *why)
    }

    /// Returns whether the rules of XML hold at this place, as they do inside SVG and `MathML`.
    pub(super) const fn is_xml(&self) -> bool {
        matches!(self.syntax, Syntax::Xml) || self.foreign > 0
    }

    /// Takes a start tag; `is_hidden` if its attributes hide the element.
    pub(super) fn start(
        &mut self,
        (name, element): (&str, Element),
        is_hidden: bool,
        is_closed: bool,
    ) -> Effect {
        if element.is(Element::BREAKS_OUT) {
            self.foreign = 0;
        }
        let is_foreign_root = element.is(Element::FOREIGN);
        let is_empty =
            element.is(Element::VOID) || (is_closed && (is_foreign_root || self.is_xml()));
        if is_foreign_root && !is_empty {
            self.foreign = self.foreign.saturating_add(1);
        }
        if let Some((hidden, _)) = &mut self.hidden {
            if !hidden.is_ended_by_start(name, element) {
                if !is_empty {
                    hidden.start(name);
                }
                return Effect::NONE;
            }
            self.hidden = None;
        }
        if !is_empty && (is_hidden || element.is(Element::UNSEEN) || element.is(Element::BOX)) {
            let why = match name {
                "script" => DropReason::Scripts,
                "style" => DropReason::Styles,
                "template" => DropReason::Templates,
                _ if is_hidden => DropReason::Hidden,
                _ => DropReason::Replaced,
            };
            self.hidden = Some((OpenElement::new(name), why));
            let step = if is_hidden { Step::Join } else { step_of(element) };
            return Effect { step, is_seen: false };
        }
        Effect { step: step_of(element), is_seen: !is_empty }
    }

    /// Takes an end tag.
    pub(super) fn end(&mut self, (name, element): (&str, Element)) -> Effect {
        if element.is(Element::FOREIGN) {
            self.foreign = self.foreign.saturating_sub(1);
        }
        match self.hidden.as_mut().map(|(hidden, _)| hidden.end(name, element)) {
            Some(End::Inside) => return Effect::NONE,
            Some(End::Own) => {
                self.hidden = None;
                // What the reader does not see cannot separate words; a box can be seen.
                let step = if element.is(Element::BOX) { Step::Break } else { Step::Join };
                return Effect { step, is_seen: false };
            }
            Some(End::Parent) => self.hidden = None,
            None => {}
        }
        Effect { step: step_of(element), is_seen: true }
    }
}

fn step_of(element: Element) -> Step {
    let joins = element.is(Element::INLINE) || element.is(Element::UNSEEN);
    if joins { Step::Join } else { Step::Break }
}

/// Returns whether a `style` attribute takes the element out of the page: its last `display` is
/// `none`.
pub(super) fn displays_nothing(style: &str) -> bool {
    let declarations = style.split(';').filter_map(|declaration| declaration.split_once(':'));
    let mut displays =
        declarations.filter(|(property, _)| property.trim().eq_ignore_ascii_case("display"));
    displays.next_back().is_some_and(|(_, value)| {
        let value = value.split('!').next().unwrap_or_default();
        value.trim().eq_ignore_ascii_case("none")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_display_none_hides() {
        for style in [
            "display:none",
            "color: red; DISPLAY : None !important ;",
            "display:block;display:none",
        ] {
            assert!(displays_nothing(style), "{style}");
        }
        for style in [
            "",
            "display",
            "display:block",
            "display:none;display:inline",
            "x-display:none",
            "content:none",
        ] {
            assert!(!displays_nothing(style), "{style}");
        }
    }
}
