//! XHTML, in which elements are identified by their namespaces.

use super::{StartTag, Tree, foreign::element_in};
use crate::{
    element::{Element, Name, Namespace},
    tokenizer::Tag,
};

/// Maximum number of namespace declarations in scope. Further ones are ignored.
const BINDINGS_MAX: usize = 1024;

/// Namespace that a prefix stands for.
struct Binding {
    /// Prefix, or an empty string for the default namespace.
    prefix: String,
    namespace: Namespace,
    /// Number of open elements outside of the element with the declaration.
    depth: usize,
}

/// Namespace declarations in scope.
#[derive(Default)]
pub(super) struct Bindings(Vec<Binding>);

impl Bindings {
    /// Removes the declarations of elements that have ended.
    fn leave(&mut self, depth: usize) {
        while self.0.last().is_some_and(|binding| binding.depth >= depth) {
            self.0.pop();
        }
    }

    fn declare(&mut self, tag: &Tag, depth: usize) {
        for declaration in tag.namespaces() {
            if self.0.len() < BINDINGS_MAX {
                let namespace = namespace_of(&declaration.namespace);
                let prefix = declaration.prefix.clone();
                self.0.push(Binding { prefix, namespace, depth });
            }
        }
    }

    fn find(&self, prefix: &str) -> Option<Namespace> {
        let binding = self.0.iter().rev().find(|binding| binding.prefix == prefix);
        binding.map(|binding| binding.namespace)
    }
}

fn namespace_of(uri: &str) -> Namespace {
    match uri.trim_ascii() {
        "http://www.w3.org/1999/xhtml" => Namespace::Html,
        "http://www.w3.org/2000/svg" => Namespace::Svg,
        "http://www.w3.org/1998/Math/MathML" => Namespace::MathMl,
        _ => Namespace::Unknown,
    }
}

impl Tree {
    /// Returns whether the root is an element of XHTML, or `None` before the root.
    pub(crate) const fn has_xhtml_root(&self) -> Option<bool> {
        self.has_xhtml_root
    }

    pub(super) fn start_in_xml(&mut self, start: &StartTag<'_>) {
        self.bindings.leave(self.open.len());
        self.bindings.declare(start.tag, self.open.len());
        let (prefix, local) = split_name(start.tag.name());
        let inherited = self.open.current().map_or(Namespace::Html, |open| open.namespace);
        let namespace = match (self.bindings.find(prefix), local) {
            (Some(namespace), _) => namespace,
            (None, _) if !prefix.is_empty() => Namespace::Unknown,
            // Many documents do not declare the namespaces of HTML, SVG and MathML.
            (None, "svg") => Namespace::Svg,
            (None, "math") => Namespace::MathMl,
            (None, _) => inherited,
        };
        let is_declared = self.bindings.find(prefix).is_some();
        let is_xhtml = namespace == Namespace::Html && (is_declared || local == "html");
        self.has_xhtml_root.get_or_insert(is_xhtml);
        let has_other_name = namespace == Namespace::Unknown
            || (namespace == Namespace::Html && start.tag.has_capitals());
        let name = Name::of(local);
        let element = if has_other_name { Element::default() } else { Element::of(name) };
        let local = StartTag { tag: start.tag, name, element };
        if name == Name::SCRIPT && !has_other_name {
            self.script_count = self.script_count.saturating_add(1);
        }
        let own = self.foreign_rendering(&local, namespace);
        if start.tag.is_closed() {
            self.open.separate(own, self.open.place());
        } else {
            // The whole name matches that of the end tag.
            self.insert_as((start.name, element_in(element, namespace), namespace), own);
        }
        self.is_at_start = false;
    }

    /// Ends the last open element with the given name.
    pub(super) fn end_in_xml(&mut self, name: Name) {
        let depth = self.open.iter().position(|open| open.name == name);
        let inner = depth.map(|depth| depth.saturating_add(1));
        if let Some(index) = inner.and_then(|inner| self.open.len().checked_sub(inner)) {
            self.open.end_with_tag(index);
        }
    }
}

/// Splits a name into its prefix, which is empty if there is none, and its local part.
fn split_name(name: &str) -> (&str, &str) {
    name.split_once(':').unwrap_or(("", name))
}
