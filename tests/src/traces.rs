//! The trace of a job, as received by a collector or read from Jaeger.

pub mod cases;

use std::collections::{BTreeMap, BTreeSet};

/// Attributes with their values as text.
pub type Attributes = BTreeMap<String, String>;

/// Kind of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An internal operation.
    Internal,
    /// Server side of a request.
    Server,
    /// Client side of a request.
    Client,
    /// Publishing of a message.
    Producer,
    /// Processing of a message.
    Consumer,
}

/// Link of a span to another one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "terms of OpenTelemetry")]
pub struct Link {
    pub trace_id: String,
    pub span_id: String,
    /// Empty if there is none, and in spans from Jaeger.
    pub trace_state: String,
}

/// Event of a span.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "terms of OpenTelemetry")]
pub struct Event {
    pub name: String,
    pub time_us: u64,
    pub attributes: Attributes,
}

/// One span.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "terms of OpenTelemetry")]
pub struct Span {
    pub trace_id: String,
    pub span_id: String,
    /// Empty for a root span.
    pub parent_id: String,
    /// Empty if there is none.
    pub trace_state: String,
    pub name: String,
    pub kind: Kind,
    pub attributes: Attributes,
    pub links: Vec<Link>,
    pub events: Vec<Event>,
    pub is_error: bool,
    /// Description of the error; empty if there is none.
    pub description: String,
    pub start_us: u64,
    pub end_us: u64,
    pub resource: Attributes,
}

impl Span {
    /// Returns the value of an attribute, or an empty string.
    pub fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }

    /// Returns the name of the service that recorded the span.
    pub fn service(&self) -> &str {
        self.resource.get("service.name").map_or("", String::as_str)
    }

    /// Returns the names of the events, in order.
    pub fn event_names(&self) -> Vec<&str> {
        self.events.iter().map(|event| event.name.as_str()).collect()
    }

    /// Asserts the values of attributes.
    pub fn assert_attributes(&self, attributes: &[(&str, &str)]) {
        for (name, value) in attributes {
            assert_eq!(self.attribute(name), *value, "{name} of {self:#?}");
        }
    }

    /// Asserts that the span is a child of `parent`. Its start may be up to 1 ms earlier, as clocks
    /// differ.
    pub fn assert_child_of(&self, parent: &Span) {
        assert_eq!(self.parent_id, parent.span_id, "the parent of {self:#?} is {parent:#?}");
        assert!(self.start_us + 1000 >= parent.start_us && self.end_us >= self.start_us);
    }

    /// Asserts that the span has a link to `other`.
    pub fn assert_linked_to(&self, other: &Span) {
        let is_other =
            |link: &Link| link.trace_id == other.trace_id && link.span_id == other.span_id;
        assert!(self.links.iter().any(is_other), "no link from {self:#?} to {other:#?}");
    }

    /// Asserts that the span failed with this `error.type`.
    pub fn assert_failed(&self, error_type: &str) {
        assert!(self.is_error, "{self:#?}");
        assert_eq!(self.attribute("error.type"), error_type, "{self:#?}");
    }
}

/// The spans of one trace, sorted by start time.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "terms of OpenTelemetry")]
pub struct Trace {
    pub spans: Vec<Span>,
}

impl Trace {
    /// Groups spans by trace.
    pub fn group(spans: Vec<Span>) -> Vec<Self> {
        let mut traces: BTreeMap<String, Vec<Span>> = BTreeMap::new();
        for span in spans {
            traces.entry(span.trace_id.clone()).or_default().push(span);
        }
        let sorted = |mut spans: Vec<Span>| {
            spans.sort_by_key(|span| span.start_us);
            Self { spans }
        };
        traces.into_values().map(sorted).collect()
    }

    /// Returns the trace id.
    pub fn id(&self) -> &str {
        &self.spans[0].trace_id
    }

    /// Returns all spans with this name, the earliest first.
    pub fn spans_named(&self, name: &str) -> Vec<&Span> {
        self.spans.iter().filter(|span| span.name == name).collect()
    }

    /// Returns the only span with this name.
    pub fn only_span(&self, name: &str) -> &Span {
        match self.spans_named(name)[..] {
            [one] => one,
            ref spans => {
                panic!("{} spans have the name {name}, expected one: {self:#?}", spans.len())
            }
        }
    }

    /// Asserts the names of all spans. Also asserts that span ids are unique, that exactly one span
    /// is a root or a child of `caller`, and that the parent of each other span is in the trace.
    pub fn assert_spans(&self, names: &[&str], caller: Option<&str>) {
        let mut actual: Vec<_> = self.spans.iter().map(|span| span.name.as_str()).collect();
        let mut expected = names.to_vec();
        actual.sort_unstable();
        expected.sort_unstable();
        assert_eq!(actual, expected, "{self:#?}");
        let ids: BTreeSet<_> = self.spans.iter().map(|span| span.span_id.as_str()).collect();
        assert_eq!(ids.len(), self.spans.len(), "{self:#?}");
        let mut roots = 0;
        for span in &self.spans {
            let parent = span.parent_id.as_str();
            if parent.is_empty() || Some(parent) == caller {
                roots += 1;
            } else {
                assert!(ids.contains(parent), "the parent is missing: {span:#?}");
            }
        }
        assert_eq!(roots, 1, "number of roots: {self:#?}");
    }
}
