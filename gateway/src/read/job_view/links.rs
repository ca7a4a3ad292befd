//! The links of a job to related requests.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Serialize, Serializer};
use wordmill_common::id::JobId;

/// URLs of related requests.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Links {
    /// The job itself.
    #[serde(rename = "self")]
    this: Link,
    /// Its result.
    result: Link,
    /// Its changes, as an event stream.
    events: Link,
    /// Repeats it as a new job.
    retry: Link,
    /// Cancels it.
    cancel: Link,
    /// The batch that it is a member of.
    #[serde(skip_serializing_if = "Option::is_none")]
    batch: Option<Link>,
    /// Its trace in the trace viewer, if the gateway has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) trace: Option<String>,
}

/// A path that contains the id of a job.
#[derive(Debug)]
struct Link(&'static str, JobId, &'static str);

impl Serialize for Link {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(before, id, after) = self;
        serializer.collect_str(&format_args!("{before}{id}{after}"))
    }
}

impl JsonSchema for Link {
    fn inline_schema() -> bool {
        String::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        String::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        String::json_schema(generator)
    }
}

impl Links {
    /// Returns the links of a job, without the one to its trace.
    pub(super) fn of(job_id: JobId, batch: Option<JobId>) -> Self {
        let to = |part| Link("/v1/jobs/", job_id, part);
        Self {
            this: to(""),
            result: to("/result"),
            events: to("/events"),
            retry: to("/retry"),
            cancel: to("/cancel"),
            batch: batch.map(|batch| Link("/v1/batches/", batch, "")),
            trace: None,
        }
    }
}
