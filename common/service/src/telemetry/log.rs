//! Log layer: writes one line per event, with the job id and the trace id of the enclosing spans.
//!
//! The formats of `tracing_subscriber` print the fields of the innermost span or of all spans. A
//! log line needs exactly these two fields, each from the innermost span that has it.

use std::fmt::{self, Write as _};
use std::io::Write as _;

use jiff::Timestamp;
use serde::Serialize;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::{ExtensionsMut, LookupSpan};

use super::LogFormat;

/// Fields of spans that are added to every line.
const JOB_ID: &str = "job.id";
const TRACE_ID: &str = "trace_id";

/// Layer that writes events to standard output.
#[derive(Debug)]
pub(super) struct LogLayer {
    format: LogFormat,
}

impl LogLayer {
    /// Creates a layer that writes lines in this format.
    pub(super) fn new(format: LogFormat) -> Self {
        Self { format }
    }
}

/// Fields of a span that are added to the lines of its events.
#[derive(Debug, Default)]
pub(super) struct SpanFields {
    pub(super) job_id: Option<String>,
    pub(super) trace_id: Option<String>,
}

impl SpanFields {
    /// Returns the fields of a span for modification. Adds them if the span has none yet.
    pub(super) fn of<'a>(extensions: &'a mut ExtensionsMut<'_>) -> &'a mut Self {
        if extensions.get_mut::<Self>().is_none() {
            extensions.insert(Self::default());
        }
        #[expect(clippy::expect_used, reason = "inserted two lines above if it was not there")]
        extensions.get_mut::<Self>().expect("inserted")
    }

    fn is_complete(&self) -> bool {
        self.job_id.is_some() && self.trace_id.is_some()
    }
}

impl Visit for SpanFields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            JOB_ID => self.job_id = Some(format!("{value:?}")),
            TRACE_ID => self.trace_id = Some(format!("{value:?}")),
            _ => {}
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}

impl<S: Subscriber + for<'span> LookupSpan<'span>> Layer<S> for LogLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = SpanFields::default();
        attributes.record(&mut fields);
        if let Some(span) =
            context.span(id).filter(|_| fields.job_id.is_some() || fields.trace_id.is_some())
        {
            span.extensions_mut().replace(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            values.record(SpanFields::of(&mut span.extensions_mut()));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut line = Line::new(self.format, event);
        event.record(&mut line);
        let mut fields = SpanFields { job_id: None, trace_id: None };
        // From the innermost span outwards: the inner value takes precedence.
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(span) = span.extensions().get::<SpanFields>() {
                fields.job_id = fields.job_id.or_else(|| span.job_id.clone());
                fields.trace_id = fields.trace_id.or_else(|| span.trace_id.clone());
            }
            if fields.is_complete() {
                break;
            }
        }
        line.end(&fields);
        // Continue without a log if standard output is closed.
        let _ = std::io::stdout().lock().write_all(line.text.as_bytes());
    }
}

/// A log line under construction.
struct Line {
    format: LogFormat,
    text: String,
    /// Fields of a `pretty` line, which are written after its message.
    fields: String,
    has_job_id: bool,
    has_trace_id: bool,
    target: &'static str,
}

impl Line {
    fn new(format: LogFormat, event: &Event<'_>) -> Self {
        let now = Timestamp::now();
        let metadata = event.metadata();
        let mut text = String::with_capacity(512);
        let level = metadata.level();
        // Writing to a string cannot fail.
        let _ = match format {
            LogFormat::Json => write!(text, r#"{{"timestamp":"{now:.6}","level":"{level}""#),
            LogFormat::Pretty => write!(text, "{now:.3} {level:>5}"),
        };
        let fields = String::new();
        let target = metadata.target();
        Self { format, text, fields, has_job_id: false, has_trace_id: false, target }
    }

    fn add(&mut self, name: &str, value: &(impl Serialize + ?Sized)) {
        // A field of the event itself takes precedence over the same field of a span.
        self.has_job_id |= name == JOB_ID;
        self.has_trace_id |= name == TRACE_ID;
        let (Ok(name_json), Ok(value)) =
            (serde_json::to_string(name), serde_json::to_string(value))
        else {
            return;
        };
        let _ = match self.format {
            LogFormat::Json => write!(self.text, ",{name_json}:{value}"),
            LogFormat::Pretty => write!(self.fields, " {name}={value}"),
        };
    }

    fn end(&mut self, fields: &SpanFields) {
        if let Some(job_id) = fields.job_id.as_ref().filter(|_| !self.has_job_id) {
            self.add(JOB_ID, job_id);
        }
        if let Some(trace_id) = fields.trace_id.as_ref().filter(|_| !self.has_trace_id) {
            self.add(TRACE_ID, trace_id);
        }
        match self.format {
            LogFormat::Json => {
                let target = self.target;
                self.add("target", target);
                self.text.push_str("}\n");
            }
            LogFormat::Pretty => {
                self.text.push_str(&self.fields);
                self.text.push('\n');
            }
        }
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if self.format == LogFormat::Pretty && field.name() == "message" {
            // A line break in a message must not start another line.
            let _ = write!(self.text, " {}", value.replace(['\n', '\r'], " "));
            return;
        }
        self.add(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field.name(), &value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field.name(), &value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field.name(), &value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field.name(), &value);
    }
}
