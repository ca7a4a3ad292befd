//! Tokenizes a page with html5gum, a complete tokenizer.

use std::convert::Infallible;

use html5gum::{Emitter, State, Tokenizer};

use super::{
    Attribute, Content,
    tests::{ContentSelector, Event},
};

/// Names of the stored attributes, in the order of [`Attribute`].
const ATTRIBUTES: [&[&str]; Attribute::ALL.len()] = [
    &["hidden"],
    &["role"],
    &["style"],
    &["charset"],
    &["http-equiv"],
    &["content"],
    &["lang"],
    &["type"],
    &["encoding"],
    &["controls"],
    &["color", "face", "size"],
    &["shadowrootmode"],
    &["display"],
    &["visibility"],
];

/// Returns the events of a page.
pub(super) fn events(page: &str, content_selector: ContentSelector) -> Vec<Event> {
    let mut events = Vec::new();
    let emitter = EventEmitter {
        events: &mut events,
        content_selector,
        tag: CurrentTag::default(),
        last_start_tag: Vec::new(),
    };
    let Ok(()) = Tokenizer::new_with_emitter(page, emitter).finish();
    events
}

#[derive(Default)]
struct CurrentTag {
    name: Vec<u8>,
    is_end: bool,
    is_closed: bool,
    attributes: Vec<(Vec<u8>, Vec<u8>)>,
}

struct EventEmitter<'e> {
    events: &'e mut Vec<Event>,
    content_selector: ContentSelector,
    tag: CurrentTag,
    /// Name of the element whose end tag ends raw text.
    last_start_tag: Vec<u8>,
}

fn to_text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl EventEmitter<'_> {
    fn start_tag(&mut self, name: String) -> Option<State> {
        let is_closed = self.tag.is_closed;
        let values = ATTRIBUTES.map(|names| {
            let mut attributes = self.tag.attributes.iter();
            let has_name = |key: &[u8]| names.iter().any(|name| name.as_bytes() == key);
            attributes.find(|(key, _)| has_name(key)).map(|(_, value)| to_text(value))
        });
        let content = self.content_selector.start(&name, is_closed);
        self.last_start_tag.clone_from(&self.tag.name);
        let state = match (content, name.as_str()) {
            (Content::Markup, _) => None,
            (Content::Raw, "title" | "textarea") => Some(State::RcData),
            (Content::Raw, _) => Some(State::RawText),
            (Content::Script, _) => Some(State::ScriptData),
            (Content::PlainText, _) => Some(State::PlainText),
        };
        self.events.push(Event::Start { name, is_closed, values: values.to_vec() });
        state
    }
}

impl Emitter for EventEmitter<'_> {
    type Token = Infallible;

    fn emit_string(&mut self, bytes: &[u8]) {
        if let Some(Event::Text(last)) = self.events.last_mut() {
            last.extend_from_slice(bytes);
        } else {
            self.events.push(Event::Text(bytes.to_vec()));
        }
    }

    fn init_start_tag(&mut self) {
        self.tag = CurrentTag::default();
    }

    fn init_end_tag(&mut self) {
        self.tag = CurrentTag { is_end: true, ..CurrentTag::default() };
    }

    fn push_tag_name(&mut self, name: &[u8]) {
        self.tag.name.extend_from_slice(name);
    }

    fn init_attribute(&mut self) {
        self.tag.attributes.push(Default::default());
    }

    fn push_attribute_name(&mut self, name: &[u8]) {
        self.tag.attributes.last_mut().unwrap().0.extend_from_slice(name);
    }

    fn push_attribute_value(&mut self, value: &[u8]) {
        self.tag.attributes.last_mut().unwrap().1.extend_from_slice(value);
    }

    fn set_self_closing(&mut self) {
        self.tag.is_closed = true;
    }

    fn emit_current_tag(&mut self) -> Option<State> {
        let name = to_text(&self.tag.name);
        if self.tag.is_end {
            self.content_selector.end(&name);
            self.events.push(Event::End { name });
            self.last_start_tag.clear();
            return None;
        }
        self.start_tag(name)
    }

    fn current_is_appropriate_end_tag_token(&mut self) -> bool {
        self.tag.is_end && !self.last_start_tag.is_empty() && self.last_start_tag == self.tag.name
    }

    fn adjusted_current_node_present_but_not_in_html_namespace(&mut self) -> bool {
        self.content_selector.has_cdata()
    }

    fn should_emit_errors(&mut self) -> bool {
        false
    }

    fn pop_token(&mut self) -> Option<Infallible> {
        None
    }

    fn set_last_start_tag(&mut self, name: Option<&[u8]>) {
        self.last_start_tag = name.unwrap_or_default().to_vec();
    }

    fn emit_eof(&mut self) {}
    fn emit_error(&mut self, _: html5gum::Error) {}
    fn init_comment(&mut self) {}
    fn push_comment(&mut self, _: &[u8]) {}
    fn emit_current_comment(&mut self) {}
    fn init_doctype(&mut self) {}
    fn push_doctype_name(&mut self, _: &[u8]) {}
    fn set_doctype_public_identifier(&mut self, _: &[u8]) {}
    fn set_doctype_system_identifier(&mut self, _: &[u8]) {}
    fn push_doctype_public_identifier(&mut self, _: &[u8]) {}
    fn push_doctype_system_identifier(&mut self, _: &[u8]) {}
    fn set_force_quirks(&mut self) {}
    fn emit_current_doctype(&mut self) {}
}
