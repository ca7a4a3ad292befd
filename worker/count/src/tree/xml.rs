//! XHTML, in which tags are matched by their names only.

use super::{StartTag, Tree, foreign::element_in};
use crate::{element::Name, open_elements::Namespace};

impl Tree {
    pub(super) fn start_in_xml(&mut self, start: &StartTag<'_>) {
        let inherited = self.open.current().map_or(Namespace::Html, |open| open.namespace);
        let namespace = match start.tag.name() {
            "svg" => Namespace::Svg,
            "math" => Namespace::MathMl,
            _ => inherited,
        };
        if start.name == Name::SCRIPT {
            self.scripts = self.scripts.saturating_add(1);
        }
        let own = self.foreign_rendering(start, namespace);
        if start.tag.is_closed() {
            self.open.separate(own, self.open.place());
        } else {
            let element = element_in(start.element, namespace);
            self.insert_as((start.name, element, namespace), own);
        }
    }

    /// Ends the last open element with the given name.
    pub(super) fn end_in_xml(&mut self, name: Name) {
        let depth = self.open.iter().position(|open| open.name == name);
        if let Some(index) = depth.and_then(|depth| self.open.len().checked_sub(depth + 1)) {
            self.open.end_at(index);
        }
    }
}
