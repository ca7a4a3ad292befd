//! Creates missing streams and consumers, and reports or corrects settings that differ. Never
//! deletes anything.

use std::fmt;

use async_nats::jetstream;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::stream::Config;
use serde::Serialize;
use serde_json::Value;

use crate::Error;
use crate::connect::Broker;
use crate::topology::{Consumer, Topology};

/// How to handle settings that differ from the topology.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drift {
    /// Only report them.
    Report,
    /// Change them to those of the topology.
    Correct,
}

/// Finding about one stream or consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Name of the part, for example `stream JOBS` or `consumer JOBS/bulk`.
    pub what: String,
    /// Result of its provisioning.
    pub outcome: Outcome,
}

/// Result of provisioning one stream or consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It did not exist and was created.
    Created,
    /// All its settings match the topology.
    Unchanged,
    /// These settings differ. Nothing was changed.
    Differs(Vec<Difference>),
    /// These settings differed and were corrected.
    Corrected(Vec<Difference>),
}

/// A setting that differs from the topology.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Name of the setting in the server's API.
    pub field: String,
    /// Value in the topology, as JSON.
    pub expected: String,
    /// Value on the broker, as JSON.
    pub actual: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, differences): (_, &[Difference]) = match &self.outcome {
            Outcome::Created => ("created", &[]),
            Outcome::Unchanged => ("unchanged", &[]),
            Outcome::Differs(differences) => ("differs", differences),
            Outcome::Corrected(differences) => ("corrected", differences),
        };
        write!(f, "{}: {word}", self.what)?;
        for Difference { field, expected, actual } in differences {
            write!(f, "\n  {field}: {actual}, expected {expected}")?;
        }
        Ok(())
    }
}

/// Creates the missing parts of `topology`, handles differing settings according to `drift`, and
/// returns one finding per part.
///
/// # Errors
/// [`Error::Unavailable`] if the broker refuses a request or does not answer. Parts before that
/// have been provisioned; it is safe to call this again.
pub async fn provision(
    broker: &Broker,
    topology: &Topology,
    drift: Drift,
) -> Result<Vec<Finding>, Error> {
    let mut findings = Vec::new();
    for expected in &topology.streams {
        let outcome = provision_stream(broker, expected, drift).await?;
        findings.push(Finding { what: format!("stream {}", expected.name), outcome });
    }
    for expected in &topology.consumers {
        let outcome = provision_consumer(broker, expected, drift).await?;
        findings.push(Finding { what: consumer_name(expected), outcome });
    }
    Ok(findings)
}

/// Returns whether none of the streams of `topology` exists.
///
/// # Errors
/// [`Error::Unavailable`].
pub async fn has_no_streams(broker: &Broker, topology: &Topology) -> Result<bool, Error> {
    const OPERATION: &str = "search for existing streams";
    for stream in &topology.streams {
        let actual = find_stream(broker, &stream.name).await;
        if actual.map_err(|error| Error::unavailable(OPERATION, error))?.is_some() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Checks that everything in `needed` exists and is visible to our role. Logs a warning for each
/// setting that differs.
///
/// # Errors
/// [`Error::Unavailable`] for the first part that is missing, or that our role may not read.
pub async fn verify(broker: &Broker, needed: &Topology) -> Result<(), Error> {
    const OPERATION: &str = "verify the streams and consumers";
    let missing = |what: &str| {
        Error::unavailable(OPERATION, format!("{what} is missing: run wordmill-nats provision"))
    };
    for expected in &needed.streams {
        let name = format!("stream {}", expected.name);
        match find_stream(broker, &expected.name)
            .await
            .map_err(|e| Error::unavailable(OPERATION, e))?
        {
            Some(actual) => warn_of_drift(&name, expected, &actual),
            None => return Err(missing(&name)),
        }
    }
    for expected in &needed.consumers {
        let name = consumer_name(expected);
        match find_consumer(broker, expected).await.map_err(|e| Error::unavailable(OPERATION, e))? {
            Some(actual) => warn_of_drift(&name, &expected.config, &actual),
            None => return Err(missing(&name)),
        }
    }
    Ok(())
}

fn warn_of_drift<T: Serialize>(what: &str, expected: &T, actual: &T) {
    for Difference { field, expected, actual } in differences(expected, actual) {
        // Do not rename these fields: alarms may filter by them.
        tracing::warn!(
            what,
            field,
            wanted = expected,
            found = actual,
            "a setting of a stream or consumer differs from the topology"
        );
    }
}

fn consumer_name(consumer: &Consumer) -> String {
    format!("consumer {}/{}", consumer.stream, durable(&consumer.config))
}

fn durable(config: &pull::Config) -> &str {
    config.durable_name.as_deref().unwrap_or_default()
}

async fn provision_stream(
    broker: &Broker,
    expected: &Config,
    drift: Drift,
) -> Result<Outcome, Error> {
    const OPERATION: &str = "provision a stream";
    let actual =
        find_stream(broker, &expected.name).await.map_err(|e| Error::unavailable(OPERATION, e))?;
    let Some(actual) = actual else {
        let created = broker.jetstream.create_stream(expected).await;
        created.map_err(|error| {
            Error::unavailable(OPERATION, describe_with_causes(&expected.name, &error))
        })?;
        return Ok(Outcome::Created);
    };
    let differences = differences(expected, &actual);
    if differences.is_empty() {
        return Ok(Outcome::Unchanged);
    }
    if drift == Drift::Report {
        return Ok(Outcome::Differs(differences));
    }
    let updated = broker.jetstream.update_stream(expected).await;
    updated.map_err(|error| {
        Error::unavailable(OPERATION, describe_with_causes(&expected.name, &error))
    })?;
    Ok(Outcome::Corrected(differences))
}

async fn provision_consumer(
    broker: &Broker,
    expected: &Consumer,
    drift: Drift,
) -> Result<Outcome, Error> {
    const OPERATION: &str = "provision a consumer";
    let actual =
        find_consumer(broker, expected).await.map_err(|e| Error::unavailable(OPERATION, e))?;
    let missing = actual.is_none();
    let differences = actual.map_or_else(Vec::new, |actual| differences(&expected.config, &actual));
    if !missing && differences.is_empty() {
        return Ok(Outcome::Unchanged);
    }
    if !missing && drift == Drift::Report {
        return Ok(Outcome::Differs(differences));
    }
    // Creates the consumer, or updates an existing one.
    let made = broker.jetstream.create_consumer_on_stream(expected.config.clone(), expected.stream);
    made.await.map_err(|error| {
        Error::unavailable(OPERATION, describe_with_causes(durable(&expected.config), &error))
    })?;
    Ok(if missing { Outcome::Created } else { Outcome::Corrected(differences) })
}

/// Joins an error and its causes into one line, because the text of the error alone omits them.
fn describe_with_causes(name: &str, error: &dyn std::error::Error) -> String {
    let mut text = format!("{name}: {error}");
    let mut cause = error.source();
    while let Some(source) = cause {
        text = format!("{text}: {source}");
        cause = source.source();
    }
    text
}

async fn find_stream(broker: &Broker, name: &str) -> Result<Option<Config>, String> {
    match broker.jetstream.get_stream(name).await {
        Ok(stream) => Ok(Some(stream.cached_info().config.clone())),
        Err(error) => {
            let is_missing = matches!(
                error.kind(),
                GetStreamErrorKind::JetStream(api)
                    if api.error_code() == ErrorCode::STREAM_NOT_FOUND
            );
            if is_missing { Ok(None) } else { Err(describe_with_causes(name, &error)) }
        }
    }
}

async fn find_consumer(
    broker: &Broker,
    expected: &Consumer,
) -> Result<Option<pull::Config>, String> {
    let name = durable(&expected.config);
    let subject = format!("CONSUMER.INFO.{}.{name}", expected.stream);
    let answer: Result<jetstream::response::Response<jetstream::consumer::Info>, _> =
        broker.jetstream.request(subject, &serde_json::json!({})).await;
    match answer {
        Ok(jetstream::response::Response::Ok(info)) => {
            use jetstream::consumer::FromConsumer;
            pull::Config::try_from_consumer_config(info.config)
                .map(Some)
                .map_err(|error| format!("{name}: {error}"))
        }
        Ok(jetstream::response::Response::Err { error })
            if error.error_code() == ErrorCode::CONSUMER_NOT_FOUND =>
        {
            Ok(None)
        }
        Ok(jetstream::response::Response::Err { error }) => Err(describe_with_causes(name, &error)),
        Err(error) => Err(describe_with_causes(name, &error)),
    }
}

/// Compares settings by their names in the server's API. Ignores metadata and other settings that
/// the server adds.
fn differences<T: Serialize>(expected: &T, actual: &T) -> Vec<Difference> {
    let json = |settings: &T| serde_json::to_value(settings).unwrap_or(Value::Null);
    let expected = json(expected);
    let actual = json(actual);
    let (Some(expected), Some(actual)) = (expected.as_object(), actual.as_object()) else {
        return Vec::new();
    };
    let mut differences = Vec::new();
    for (field, expected) in expected {
        let actual = actual.get(field).unwrap_or(&Value::Null);
        if field != "metadata" && expected != actual {
            let expected = expected.to_string();
            let actual = actual.to_string();
            differences.push(Difference { field: field.clone(), expected, actual });
        }
    }
    differences
}
