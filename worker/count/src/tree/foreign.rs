//! Foreign content: SVG and `MathML`.

use super::{StartTag, Tree};
use crate::{
    element::{Element, Name, Namespace, Property},
    rendering::OwnRendering,
    tokenizer::Attribute,
};

impl Tree {
    /// Returns whether the current element belongs to SVG or `MathML`.
    #[inline]
    pub(crate) fn is_in_foreign(&self) -> bool {
        self.open.current().is_some_and(|open| open.namespace != Namespace::Html)
    }

    /// Returns whether the current element is an integration point, which contains HTML.
    pub(crate) fn is_in_integration_point(&self) -> bool {
        self.open.current().is_some_and(|open| {
            open.element.has(Property::HTML_INTEGRATION)
                || open.element.has(Property::TEXT_INTEGRATION)
        })
    }

    /// Returns whether a start tag is processed by the rules for foreign content.
    #[inline]
    pub(super) fn is_start_foreign(&self, start: &StartTag<'_>) -> bool {
        let Some(open) = self.open.current().filter(|open| open.namespace != Namespace::Html)
        else {
            return false;
        };
        if open.element.has(Property::HTML_INTEGRATION) {
            false
        } else if open.element.has(Property::TEXT_INTEGRATION) {
            matches!(start.tag.name(), "mglyph" | "malignmark")
        } else {
            !(open.element.has(Property::ANNOTATION) && start.name == Name::SVG)
        }
    }

    /// Processes a start tag inside SVG or `MathML`. Returns `false` if it ends them, and has to be
    /// processed as HTML.
    pub(super) fn start_in_foreign(&mut self, start: &StartTag<'_>) -> bool {
        let is_styled_font =
            start.name == Name::FONT && start.tag.value(Attribute::FontStyling).is_some();
        if start.element.has(Property::ENDS_FOREIGN) || is_styled_font {
            self.end_foreign();
            return false;
        }
        if let Some(namespace) = self.open.current().map(|open| open.namespace) {
            self.insert_foreign(start, namespace);
        }
        true
    }

    /// Processes an end tag inside SVG or `MathML`. Returns `false` if it has to be processed as
    /// HTML.
    pub(super) fn end_in_foreign(&mut self, name: Name) -> bool {
        if matches!(name, Name::BR | Name::P) {
            self.end_foreign();
            return false;
        }
        for index in (0..self.open.len()).rev() {
            let Some(open) = self.open.get(index) else { break };
            if open.namespace == Namespace::Html {
                break;
            }
            if open.name == name {
                self.open.end_with_tag(index);
                return true;
            }
        }
        false
    }

    pub(super) fn insert_foreign(&mut self, start: &StartTag<'_>, namespace: Namespace) {
        let mut element = element_in(start.element, namespace);
        let own = self.foreign_rendering(start, namespace);
        if element.has(Property::ANNOTATION) && is_html(start.tag.value(Attribute::Encoding)) {
            element = element.with(Property::HTML_INTEGRATION);
        }
        if start.name == Name::SCRIPT {
            self.script_count = self.script_count.saturating_add(1);
        }
        self.insert_as((start.name, element, namespace), own);
        if start.tag.is_closed() {
            self.open.pop();
        }
    }

    /// Returns the rendering of an element of SVG or `MathML`, depending on its position.
    pub(super) fn foreign_rendering(
        &mut self,
        start: &StartTag<'_>,
        namespace: Namespace,
    ) -> OwnRendering {
        let own = start.rendering(namespace);
        let is_later_child = self.open.current().is_some_and(|open| {
            open.namespace == Namespace::MathMl
                && open.element.has(Property::FIRST_CHILD_VISIBLE)
                && open.has_child
        });
        self.open.mark_child();
        // An annotation is not hidden text: no browser shows it in any place.
        if is_later_child && own.drop_reason().is_none() { own.to_hidden() } else { own }
    }

    /// Ends the elements of SVG and `MathML` up to one that contains HTML.
    fn end_foreign(&mut self) {
        self.open.end_up_to(|open| {
            open.namespace == Namespace::Html
                || open.element.has(Property::HTML_INTEGRATION)
                || open.element.has(Property::TEXT_INTEGRATION)
        });
    }
}

/// Returns the properties that an element has in SVG or `MathML`, where names of HTML mean nothing.
pub(super) const fn element_in(element: Element, namespace: Namespace) -> Element {
    let (element, limit) = match namespace {
        Namespace::Html | Namespace::Unknown => return element,
        Namespace::Svg => (
            element.only(&[Property::BLOCK_IN_FOREIGN, Property::HTML_INTEGRATION]),
            Property::HTML_INTEGRATION,
        ),
        Namespace::MathMl => (
            element.only(&[
                Property::BLOCK_IN_FOREIGN,
                Property::TEXT_INTEGRATION,
                Property::ANNOTATION,
                Property::FIRST_CHILD_VISIBLE,
            ]),
            if element.has(Property::ANNOTATION) {
                Property::ANNOTATION
            } else {
                Property::TEXT_INTEGRATION
            },
        ),
    };
    if element.has(limit) { element.with(Property::SPECIAL).with(Property::SCOPE) } else { element }
}

/// Returns whether the attribute `encoding` of `annotation-xml` announces HTML.
fn is_html(encoding: Option<&str>) -> bool {
    encoding.is_some_and(|encoding| {
        encoding.eq_ignore_ascii_case("text/html")
            || encoding.eq_ignore_ascii_case("application/xhtml+xml")
    })
}
