//! Trace context of a job, in the format of W3C Trace Context.
//!
//! Every job has a trace id, new or inherited from the request. The telemetry settings decide
//! whether its spans are recorded.

mod trace_state;

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};
use uuid::Uuid;

pub use self::trace_state::{TRACE_STATE_BYTES_MAX, TraceState};

/// Id of a trace: 16 bytes, not all zero, written as 32 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String", extend("pattern" = "^[0-9a-f]{32}$"))]
pub struct TraceId(u128);

/// The text is not a valid trace id or `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a valid trace context")]
pub struct InvalidTraceContext;

impl TraceId {
    /// Returns a random trace id.
    #[must_use]
    pub fn random() -> Self {
        // A version 4 UUID has fixed bits, so it is never all zero.
        Self(Uuid::new_v4().as_u128())
    }

    /// Creates an id from its bits. The format reserves zero, so `bits` must not be zero.
    #[must_use]
    pub fn from_bits(bits: u128) -> Self {
        Self(bits)
    }

    /// Returns the bits of the id.
    #[must_use]
    pub fn bits(self) -> u128 {
        self.0
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Uses a table of digits, which is faster than `{:032x}`: every request formats the id
        // several times.
        Uuid::from_u128(self.0).simple().fmt(f)
    }
}

impl FromStr for TraceId {
    type Err = InvalidTraceContext;

    fn from_str(text: &str) -> Result<Self, InvalidTraceContext> {
        parse_hex(text, 32).filter(|id| *id != 0).map(Self).ok_or(InvalidTraceContext)
    }
}

impl TryFrom<String> for TraceId {
    type Error = InvalidTraceContext;

    fn try_from(text: String) -> Result<Self, InvalidTraceContext> {
        text.parse()
    }
}

impl Serialize for TraceId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The `traceparent` header of W3C Trace Context, level 1, section 3.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TraceParent {
    /// Trace that the parent span belongs to.
    pub trace_id: TraceId,
    /// Id of the parent span; never zero.
    pub parent_id: u64,
    /// Trace flags. Bit 0 is set if the caller records the trace.
    pub flags: u8,
}

impl TraceParent {
    /// Returns the context of a new trace, with the flag `sampled`.
    #[must_use]
    pub fn random() -> Self {
        // The variant bits of the UUID are in this half, so it is never zero.
        let parent_id = Uuid::new_v4().as_u64_pair().1;
        Self { trace_id: TraceId::random(), parent_id, flags: 1 }
    }
}

impl FromStr for TraceParent {
    type Err = InvalidTraceContext;

    fn from_str(text: &str) -> Result<Self, InvalidTraceContext> {
        let mut parts = text.split('-');
        let mut next = || parts.next().ok_or(InvalidTraceContext);
        let version = next()?;
        let trace_id = next()?;
        let parent_id = next()?;
        let flags = next()?;
        let version = parse_hex(version, 2).ok_or(InvalidTraceContext)?;
        // Later versions may append fields; version 00 must not, and ff is forbidden.
        if version == 0xff || (version == 0 && parts.next().is_some()) {
            return Err(InvalidTraceContext);
        }
        let parent_id = parse_hex(parent_id, 16).and_then(|id| u64::try_from(id).ok());
        let flags = parse_hex(flags, 2).and_then(|flags| u8::try_from(flags).ok());
        Ok(Self {
            trace_id: trace_id.parse()?,
            parent_id: parent_id.filter(|id| *id != 0).ok_or(InvalidTraceContext)?,
            flags: flags.ok_or(InvalidTraceContext)?,
        })
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{:016x}-{:02x}", self.trace_id, self.parent_id, self.flags)
    }
}

impl TryFrom<String> for TraceParent {
    type Error = InvalidTraceContext;

    fn try_from(text: String) -> Result<Self, InvalidTraceContext> {
        text.parse()
    }
}

impl From<TraceParent> for String {
    fn from(parent: TraceParent) -> Self {
        parent.to_string()
    }
}

/// Trace context of a span: the part that is passed on to other processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    /// Ids of the trace and of the span, and the flags.
    pub parent: TraceParent,
    /// Trace state of the caller; empty if there is none.
    pub state: TraceState,
}

impl TraceContext {
    /// Returns the context of a new trace, with the flag `sampled`.
    #[must_use]
    pub fn random() -> Self {
        TraceParent::random().into()
    }

    /// Returns the id of the trace.
    #[must_use]
    pub fn trace_id(&self) -> TraceId {
        self.parent.trace_id
    }
}

impl From<TraceParent> for TraceContext {
    fn from(parent: TraceParent) -> Self {
        Self { parent, state: TraceState::default() }
    }
}

/// Parses exactly `digits` lower-case hexadecimal digits.
fn parse_hex(text: &str, digits: usize) -> Option<u128> {
    let plain = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if text.len() != digits || !text.bytes().all(plain) {
        return None;
    }
    u128::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_round_trips() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(text.parse::<TraceParent>().unwrap().to_string(), text);
        let random = TraceParent::random();
        assert_eq!(random.to_string().parse(), Ok(random));
    }

    #[test]
    fn malformed_traceparents_are_refused() {
        for bad in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(bad.parse::<TraceParent>(), Err(InvalidTraceContext), "{bad}");
        }
    }
}
