//! Submitted jobs: their JSON, and the validation of source, options, labels and webhook.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;
use wordmill_common::id::Lane;
use wordmill_common::options::Options;
use wordmill_common::source::Source;
use wordmill_common::webhook::Webhook;

use crate::App;
use crate::http::problem::{Code, Problem};
use crate::http::schema;
use crate::intake::json_body::JsonObject;

/// Maximum length of a URL, in bytes.
pub(crate) const URL_BYTES_MAX: usize = 8192;
/// Maximum number of labels of a job.
const LABELS_MAX: usize = 16;
/// Maximum length of the name of a label, in bytes.
const LABEL_NAME_BYTES_MAX: usize = 64;
/// Maximum length of the value of a label, in bytes.
const LABEL_VALUE_BYTES_MAX: usize = 256;
/// Pattern of the name of a label.
pub(crate) const LABEL_NAME_PATTERN: &str = "[A-Za-z0-9_.-]{1,64}";
/// Pattern of the value of a label, without its maximum length of 256 bytes.
pub(crate) const LABEL_VALUE_PATTERN: &str = "[^\\u0000-\\u001f\\u007f-\\u009f]*";

/// A new job: the body of `POST /v1/jobs`, or a line of `POST /v1/batches`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = require_one_source)]
pub(crate) struct NewJob {
    /// URL of the page to fetch and count: absolute, `http` or `https`, at most 8192 bytes.
    #[schemars(schema_with = "url_member")]
    pub(crate) url: Option<String>,
    /// Text to count. Send either `url` or `text`.
    pub(crate) text: Option<String>,
    /// Options of the count. They replace those in the query.
    #[schemars(with = "Option<Options>")]
    pub(crate) options: Option<Value>,
    /// Labels by which lists of jobs can be filtered, for example `{"book": "2600"}`. They replace
    /// those in the query. At most 16; a value has up to 256 bytes.
    #[schemars(extend(
        "maxProperties" = LABELS_MAX,
        "propertyNames" = json!({"pattern": format!("^{LABEL_NAME_PATTERN}$")}),
        "additionalProperties" = json!({"type": "string", "pattern": format!("^{LABEL_VALUE_PATTERN}$")}),
    ))]
    pub(crate) labels: Option<BTreeMap<String, String>>,
    /// Priority of the job. Busy workers prefer interactive jobs to bulk jobs.
    pub(crate) lane: Option<Lane>,
    /// Receiver of a notification when the job is final.
    pub(crate) webhook: Option<NewWebhook>,
}

/// Receiver of a notification when the job is final.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewWebhook {
    /// URL of the receiver: absolute, `http` or `https`, at most 8192 bytes.
    #[schemars(schema_with = "url_member")]
    pub(crate) url: String,
}

/// Returns the schema of a URL.
pub(crate) fn url_schema() -> Value {
    json!({
        "type": "string",
        "format": "uri",
        "maxLength": URL_BYTES_MAX,
    })
}

/// Returns the schema of a URL as a property of an object.
fn url_member(_: &mut SchemaGenerator) -> Schema {
    Schema::try_from(url_schema()).unwrap_or_default()
}

/// Changes a schema so that it requires exactly one source.
fn require_one_source(schema: &mut Schema) {
    schema::require_one_of(schema, &[("url", &["text"]), ("text", &["url"])]);
}

/// Validates the source of a job.
///
/// # Errors
/// `invalid_request` unless there is exactly one source, and `invalid_url`.
pub(crate) fn parse_source(url: Option<String>, text: Option<String>) -> Result<Source, Problem> {
    match (url, text) {
        (Some(url), None) => parse_url_source(&url),
        (None, Some(text)) => Ok(Source::Text { text }),
        (None, None) => {
            let detail = "The source is missing: send either \"url\" or \"text\".";
            Err(Problem::new(Code::InvalidRequest, detail))
        }
        (Some(_), Some(_)) => {
            let detail = "Send either \"url\" or \"text\", but not both.";
            Err(Problem::new(Code::InvalidRequest, detail))
        }
    }
}

/// Validates a URL and normalizes it, without resolving its host.
///
/// # Errors
/// `invalid_url`.
pub(crate) fn parse_url_source(text: &str) -> Result<Source, Problem> {
    let url =
        parse_http_url(text, "The URL").map_err(|detail| Problem::new(Code::InvalidUrl, detail))?;
    Ok(Source::Url { url })
}

/// Validates the URL of a webhook, like the URL of a source.
///
/// # Errors
/// `webhooks_disabled` and `invalid_webhook`.
pub(crate) fn parse_webhook(app: &App, text: &str) -> Result<Webhook, Problem> {
    if !app.webhooks_enabled {
        let detail =
            "Webhooks are disabled. Submit the job without one, and wait for it or poll it.";
        return Err(Problem::new(Code::WebhooksDisabled, detail));
    }
    let invalid = |detail| Problem::new(Code::InvalidWebhook, detail);
    let url = parse_http_url(text, "The URL of the webhook").map_err(invalid)?;
    Ok(Webhook { url })
}

fn parse_http_url(text: &str, what: &str) -> Result<String, String> {
    if text.len() > URL_BYTES_MAX {
        return Err(format!("{what} is longer than {URL_BYTES_MAX} bytes."));
    }
    let url = Url::parse(text).map_err(|error| format!("{what} is not valid: {error}."))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("Only http and https URLs are allowed, not {}.", url.scheme()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(format!("{what} must not contain a user name or a password."));
    }
    Ok(url.into())
}

/// Deserializes and validates options. Without a value, returns the defaults.
///
/// # Errors
/// `invalid_option`.
pub(crate) fn parse_options(value: Option<Value>) -> Result<Options, Problem> {
    let Some(value) = value.filter(|value| !value.is_null()) else {
        return Ok(Options::default());
    };
    let invalid = |detail| Problem::new(Code::InvalidOption, detail);
    // `JsonObject` refuses an array, which serde would accept for a struct.
    let JsonObject(options): JsonObject<Options> = serde_json::from_value(value.clone())
        .map_err(|error| invalid(describe_invalid_option(&value, &error)))?;
    options.find_contradiction().map_or(Ok(options), |detail| Err(invalid(detail)))
}

/// Returns a message that names the invalid option, by parsing each option alone. The error about
/// all options does not contain its name.
fn describe_invalid_option(value: &Value, error: &serde_json::Error) -> String {
    let options = value.as_object().into_iter().flatten();
    let mut invalid_options = options.filter_map(|(name, value)| {
        let alone = json!({name.as_str(): value});
        let error = serde_json::from_value::<Options>(alone).err()?;
        Some(format!("The option \"{name}\" is not valid: {error}."))
    });
    invalid_options.next().unwrap_or_else(|| format!("The options are not valid: {error}."))
}

/// Validates the labels of a job.
///
/// # Errors
/// `invalid_label`.
pub(crate) fn check_labels(
    labels: BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, Problem> {
    let invalid = |detail: String| Err(Problem::new(Code::InvalidLabel, detail));
    if labels.len() > LABELS_MAX {
        return invalid(format!("A job can have at most {LABELS_MAX} labels."));
    }
    for (name, value) in &labels {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if name.is_empty() || name.len() > LABEL_NAME_BYTES_MAX || !name.chars().all(plain) {
            return invalid(format!(
                "The name of a label must be 1 to {LABEL_NAME_BYTES_MAX} characters of a-z, A-Z, \
                 0-9, '_', '-' and '.'."
            ));
        }
        if value.len() > LABEL_VALUE_BYTES_MAX || value.chars().any(char::is_control) {
            return invalid(format!(
                "The value of a label must be at most {LABEL_VALUE_BYTES_MAX} bytes of text on one \
                 line."
            ));
        }
    }
    Ok(labels)
}
