//! Compares the visible text with that of the tree that html5ever builds, a complete parser.
//!
//! Both use the same rules for the rendering of an element, so the tests compare which elements
//! contain a text.

use std::{
    borrow::Cow,
    cell::{Cell, RefCell},
};

use html5ever::{
    Attribute, LocalName, Namespace as Ns, ParseOpts, QualName,
    interface::{ElementFlags, NodeOrText, QuirksMode, TreeSink},
    local_name, ns, parse_document,
    tendril::{StrTendril, TendrilSink},
};
use wordmill_common::histogram::Histogram;

use crate::{
    Options,
    counter::Counter,
    element::{Element, Name, Namespace, Property},
    extract::Extractor,
    rendering::{OwnRendering, Rendering},
    tokenizer::{Syntax, Tag},
};

/// Properties of a tree that can cause differences.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DifferenceCauses {
    /// Foster parenting: content of a table was inserted before the table.
    pub(crate) is_fostered: bool,
    /// The adoption agency algorithm moved a block.
    pub(crate) is_adopted: bool,
    /// There is an integration point. html5ever does not treat it as *special*, unlike the standard
    /// and browsers: in `<li><svg><title><li>`, its second `li` ends the first one.
    pub(crate) has_integration_point: bool,
}

#[derive(Debug)]
enum Kind {
    Document,
    Text(String),
    Element { name: QualName, attributes: Vec<(String, String)> },
    Other,
}

struct Node {
    kind: Kind,
    parent: Option<usize>,
    children: Vec<usize>,
    template: Option<usize>,
}

/// Arena of nodes, whose handles are indexes.
#[derive(Default)]
struct Arena {
    nodes: RefCell<Vec<Node>>,
    causes: Cell<DifferenceCauses>,
}

impl Arena {
    fn add(&self, kind: Kind) -> usize {
        let mut nodes = self.nodes.borrow_mut();
        nodes.push(Node { kind, parent: None, children: Vec::new(), template: None });
        nodes.len() - 1
    }

    fn record_cause(&self, change: impl FnOnce(&mut DifferenceCauses)) {
        let mut causes = self.causes.get();
        change(&mut causes);
        self.causes.set(causes);
    }

    fn insert(&self, parent: usize, index: usize, child: NodeOrText<usize>) {
        match child {
            NodeOrText::AppendText(text) => {
                let mut nodes = self.nodes.borrow_mut();
                let before = index.checked_sub(1).map(|index| nodes[parent].children[index]);
                if let Some(before) = before
                    && let Kind::Text(last) = &mut nodes[before].kind
                {
                    last.push_str(&text);
                    return;
                }
                drop(nodes);
                let node = self.add(Kind::Text(text.to_string()));
                self.attach(parent, index, node);
            }
            NodeOrText::AppendNode(node) => {
                self.detach(node);
                self.attach(parent, index, node);
            }
        }
    }

    fn attach(&self, parent: usize, index: usize, node: usize) {
        let mut nodes = self.nodes.borrow_mut();
        let index = index.min(nodes[parent].children.len());
        nodes[parent].children.insert(index, node);
        nodes[node].parent = Some(parent);
    }

    fn detach(&self, node: usize) {
        let mut nodes = self.nodes.borrow_mut();
        if let Some(parent) = nodes[node].parent.take() {
            nodes[parent].children.retain(|child| *child != node);
        }
    }
}

/// Name of a node, which is copied because the arena is borrowed only for a moment.
#[derive(Debug)]
struct OwnedName(QualName);

impl html5ever::interface::ElemName for OwnedName {
    fn ns(&self) -> &Ns {
        &self.0.ns
    }

    fn local_name(&self) -> &LocalName {
        &self.0.local
    }
}

impl TreeSink for Arena {
    type Handle = usize;
    type Output = Self;
    type ElemName<'a> = OwnedName;

    fn finish(self) -> Self {
        self
    }

    fn parse_error(&self, _: Cow<'static, str>) {}

    fn get_document(&self) -> usize {
        0
    }

    fn elem_name(&self, target: &usize) -> OwnedName {
        match &self.nodes.borrow()[*target].kind {
            Kind::Element { name, .. } => OwnedName(name.clone()),
            other @ (Kind::Document | Kind::Text(_) | Kind::Other) => {
                panic!("{other:?} has no name")
            }
        }
    }

    fn create_element(
        &self,
        name: QualName,
        attributes: Vec<Attribute>,
        flags: ElementFlags,
    ) -> usize {
        let element = Element::of(Name::of(&name.local.to_ascii_lowercase()));
        let is_integration_point = name.ns != ns!(html)
            && [Property::HTML_INTEGRATION, Property::TEXT_INTEGRATION, Property::ANNOTATION]
                .iter()
                .any(|property| element.has(*property));
        self.record_cause(|causes| causes.has_integration_point |= is_integration_point);
        let attributes = attributes
            .into_iter()
            .map(|attribute| (attribute.name.local.to_string(), attribute.value.to_string()));
        let node = self.add(Kind::Element { name, attributes: attributes.collect() });
        if flags.template {
            let contents = self.add(Kind::Other);
            self.nodes.borrow_mut()[node].template = Some(contents);
        }
        node
    }

    fn create_comment(&self, _: StrTendril) -> usize {
        self.add(Kind::Other)
    }

    fn create_pi(&self, _: StrTendril, _: StrTendril) -> usize {
        self.add(Kind::Other)
    }

    fn append(&self, parent: &usize, child: NodeOrText<usize>) {
        let end = self.nodes.borrow()[*parent].children.len();
        self.insert(*parent, end, child);
    }

    fn append_based_on_parent_node(
        &self,
        element: &usize,
        previous: &usize,
        child: NodeOrText<usize>,
    ) {
        self.record_cause(|causes| causes.is_fostered = true);
        if self.nodes.borrow()[*element].parent.is_some() {
            self.append_before_sibling(element, child);
        } else {
            self.append(previous, child);
        }
    }

    fn append_doctype_to_document(&self, _: StrTendril, _: StrTendril, _: StrTendril) {}

    fn get_template_contents(&self, target: &usize) -> usize {
        self.nodes.borrow()[*target].template.unwrap()
    }

    fn same_node(&self, x: &usize, y: &usize) -> bool {
        x == y
    }

    fn set_quirks_mode(&self, _: QuirksMode) {}

    fn append_before_sibling(&self, sibling: &usize, node: NodeOrText<usize>) {
        if let NodeOrText::AppendNode(node) = node {
            self.detach(node);
        }
        let nodes = self.nodes.borrow();
        let parent = nodes[*sibling].parent.unwrap();
        let index = nodes[parent].children.iter().position(|child| child == sibling).unwrap();
        drop(nodes);
        self.insert(parent, index, node);
    }

    fn add_attrs_if_missing(&self, target: &usize, added: Vec<Attribute>) {
        let mut nodes = self.nodes.borrow_mut();
        let Kind::Element { attributes, .. } = &mut nodes[*target].kind else { return };
        for attribute in added {
            let name = attribute.name.local.to_string();
            if attributes.iter().all(|(other, _)| *other != name) {
                attributes.push((name, attribute.value.to_string()));
            }
        }
    }

    fn remove_from_parent(&self, target: &usize) {
        self.detach(*target);
    }

    fn reparent_children(&self, node: &usize, new_parent: &usize) {
        self.record_cause(|causes| causes.is_adopted = true);
        let children = std::mem::take(&mut self.nodes.borrow_mut()[*node].children);
        for child in children {
            self.nodes.borrow_mut()[child].parent = None;
            self.append(new_parent, NodeOrText::AppendNode(child));
        }
    }

    fn is_mathml_annotation_xml_integration_point(&self, handle: &usize) -> bool {
        match &self.nodes.borrow()[*handle].kind {
            Kind::Element { attributes, .. } => attributes.iter().any(|(name, value)| {
                let value = value.to_ascii_lowercase();
                name == "encoding" && matches!(&*value, "text/html" | "application/xhtml+xml")
            }),
            Kind::Document | Kind::Text(_) | Kind::Other => false,
        }
    }
}

impl Arena {
    /// Adds the visible text in a node to a counter. A stack replaces recursion, because trees can
    /// be deep.
    fn count(&self, counter: &mut Counter) {
        enum Step {
            Enter(usize, Rendering),
            Separate,
        }
        let nodes = self.nodes.borrow();
        let is_shown = !self.is_page_hidden(&nodes);
        let mut steps = vec![Step::Enter(0, Rendering::default())];
        while let Some(step) = steps.pop() {
            let (index, rendering) = match step {
                Step::Enter(index, rendering) => (index, rendering),
                Step::Separate => {
                    counter.separate();
                    continue;
                }
            };
            let node = &nodes[index];
            let inner = match &node.kind {
                Kind::Text(text) => {
                    if rendering.text_drop_reason().is_none() && is_shown {
                        counter.add_page_text(text);
                    }
                    continue;
                }
                Kind::Element { name, attributes } => {
                    let own = self.own_rendering(&nodes, node, name, attributes);
                    if rendering.ends_words_at(own) {
                        counter.separate();
                        steps.push(Step::Separate);
                    }
                    rendering.enter(own)
                }
                Kind::Document => rendering,
                Kind::Other => continue,
            };
            steps.extend(node.children.iter().rev().map(|child| Step::Enter(*child, inner)));
        }
    }

    fn own_rendering(
        &self,
        nodes: &[Node],
        node: &Node,
        name: &QualName,
        attributes: &[(String, String)],
    ) -> OwnRendering {
        let tag_name = name.local.to_ascii_lowercase().to_string();
        let attributes: Vec<_> =
            attributes.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let tag = Tag::new(&tag_name, &attributes);
        let namespace = namespace_of(name);
        let key = Name::of(&tag_name);
        let own = OwnRendering::of(&tag, key, Element::of(key), namespace);
        let is_root =
            matches!(name.local, local_name!("html") | local_name!("body") | local_name!("head"));
        if name.ns == ns!(html) && is_root {
            own.to_shown()
        } else if self.is_later_child(nodes, node) {
            own.to_hidden()
        } else {
            own
        }
    }

    /// Returns whether an element is not the first child of an element of `MathML` that shows only
    /// this one.
    fn is_later_child(&self, nodes: &[Node], node: &Node) -> bool {
        let Some(parent) = node.parent else { return false };
        let Kind::Element { name, .. } = &nodes[parent].kind else { return false };
        let is_element = |child: &&usize| matches!(nodes[**child].kind, Kind::Element { .. });
        let first = nodes[parent].children.iter().find(is_element);
        name.ns == ns!(mathml)
            && Element::of(Name::of(&name.local)).has(Property::FIRST_CHILD_VISIBLE)
            && first.is_some_and(|first| !std::ptr::eq(&raw const nodes[*first], node))
    }

    /// Returns whether `html` or `body` is hidden, and no script can show it.
    fn is_page_hidden(&self, nodes: &[Node]) -> bool {
        let mut is_root_hidden = false;
        let mut has_script = false;
        for node in nodes {
            let Kind::Element { name, attributes } = &node.kind else { continue };
            has_script |= name.local == local_name!("script");
            if name.ns == ns!(html)
                && matches!(name.local, local_name!("html") | local_name!("body"))
            {
                let attributes: Vec<_> = attributes
                    .iter()
                    .map(|(name, value)| (name.as_str(), value.as_str()))
                    .collect();
                let tag = Tag::new(&name.local, &attributes);
                let key = Name::of(&name.local);
                let own = OwnRendering::of(&tag, key, Element::of(key), Namespace::Html);
                is_root_hidden |= own.is_hidden();
            }
        }
        is_root_hidden && !has_script
    }
}

fn namespace_of(name: &QualName) -> Namespace {
    match name.ns {
        ns!(html) => Namespace::Html,
        ns!(svg) => Namespace::Svg,
        ns!(mathml) => Namespace::MathMl,
        _ => Namespace::Unknown,
    }
}

/// Returns the words of the visible text of html5ever's tree, and possible causes of
/// differences.
pub(crate) fn words_of_reference(page: &str) -> (Histogram, DifferenceCauses) {
    let arena = Arena::default();
    arena.add(Kind::Document);
    // As in the tokenizer, the page has no byte order mark.
    let mut options = ParseOpts::default();
    options.tokenizer.discard_bom = false;
    let arena = parse_document(arena, options).one(page);
    let mut counter = Counter::new(&Options::default());
    arena.count(&mut counter);
    (counter.finish().unwrap().histogram, arena.causes.get())
}

/// Returns the words of the visible text of a page.
pub(crate) fn words_of(page: &str) -> Histogram {
    let mut counter = Counter::new(&Options::default());
    let mut extractor = Extractor::new(Syntax::Html);
    extractor.push(page, &mut counter);
    extractor.end(&mut counter);
    counter.finish().unwrap().histogram
}

/// Returns a histogram as text, to compare two of them.
pub(crate) fn show(histogram: &Histogram) -> String {
    let mut words: Vec<_> =
        histogram.iter().map(|(word, count)| format!("{word} {count}")).collect();
    words.sort_unstable();
    words.join(", ")
}
