//! Submission of sources as jobs.

use std::sync::Arc;

use hyper::header::{HeaderName, HeaderValue};
use serde_json::{Map, Value, json};

use crate::arguments::OptionArguments;
use crate::body::{Form, Payload, nonce};
use crate::error::Error;
use crate::job::FetchedJob;
use crate::request::Request;
use crate::session::Session;
use crate::source::{Document, Source, content_type};

/// Maximum number of sources that go into the lane `interactive`, unless `--lane` is given.
const INTERACTIVE_SOURCES_MAX: usize = 20;
/// Options that are lists and may be given several times.
const LIST_OPTIONS: [&str; 1] = ["stop_words"];
/// Header that makes a repeated submission idempotent.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Settings for the jobs of one invocation.
#[derive(Debug)]
pub(crate) struct Plan {
    options: Vec<(String, String)>,
    labels: Vec<(String, String)>,
    lane: Option<String>,
    content_type: Option<String>,
    /// Random part of the idempotency keys of this invocation.
    nonce: String,
}

impl Plan {
    /// Creates the plan for a number of sources.
    ///
    /// # Errors
    /// [`Error::Usage`] if an option or a label is given more than once.
    pub(crate) fn new(
        arguments: &OptionArguments,
        with_explanation: bool,
        sources: usize,
    ) -> Result<Self, Error> {
        let mut options = Vec::new();
        let named = [
            ("rule", &arguments.rule),
            ("case", &arguments.case),
            ("scope", &arguments.scope),
            ("language", &arguments.language),
        ];
        for (name, value) in named {
            options.extend(value.as_ref().map(|value| (name.to_owned(), value.clone())));
        }
        if with_explanation {
            options.push(("explain".to_owned(), "true".to_owned()));
        }
        options.extend_from_slice(&arguments.others);
        let is_list = |name: &str| LIST_OPTIONS.contains(&name);
        refuse_repeats(options.iter().filter(|(name, _)| !is_list(name)), "the option")?;
        refuse_repeats(arguments.labels.iter(), "the label")?;
        let is_many = sources > INTERACTIVE_SOURCES_MAX;
        let lane = arguments.lane.clone().or_else(|| is_many.then(|| "bulk".to_owned()));
        let labels = arguments.labels.clone();
        let content_type = arguments.content_type.clone();
        Ok(Self { options, labels, lane, content_type, nonce: nonce()? })
    }

    /// Submits one source. `number` is its index, which is part of the idempotency key.
    ///
    /// # Errors
    /// Errors of the request, and [`Error::File`] if the source cannot be read.
    pub(crate) async fn submit(
        &self,
        session: &Session,
        number: usize,
        source: &Source,
    ) -> Result<FetchedJob, Error> {
        let request = match source {
            Source::Url(url) => Request::post(&["v1", "jobs"], Payload::json(&self.job(url))),
            Source::File(_) | Source::Stdin => {
                let form = self.form(session, source).await?;
                Request::post(&["v1", "jobs"], Payload::Form(form)).queries(&self.query())
            }
        };
        let request = self.with_idempotency_key(request, &number.to_string())?;
        let response = session.client.send(&request).await?;
        let fetched = FetchedJob::parse(&response)?;
        session.add_unfinished_job(&fetched.job.job_id);
        Ok(fetched)
    }

    /// Adds an idempotency key, so that a repeated request creates no second job.
    ///
    /// # Errors
    /// [`Error::Usage`] if the key is not a valid header value.
    pub(crate) fn with_idempotency_key(
        &self,
        request: Request,
        name: &str,
    ) -> Result<Request, Error> {
        let key = HeaderValue::try_from(format!("wordmill-{}-{name}", self.nonce));
        let key = key.map_err(|error| Error::Usage(error.to_string()))?;
        Ok(request.header(IDEMPOTENCY_KEY, key))
    }

    async fn form(&self, session: &Session, source: &Source) -> Result<Form, Error> {
        let opened = source.clone();
        let opening = tokio::task::spawn_blocking(move || Document::open(&opened));
        let document = opening.await.map_err(|error| Error::LimitExceeded(error.to_string()))??;
        let name = source.name();
        let file_name = match source {
            Source::File(path) => path.file_name().map(|name| name.to_string_lossy().into_owned()),
            Source::Url(_) | Source::Stdin => None,
        };
        let file_name = file_name.unwrap_or_else(|| "stdin".to_owned());
        let content_type = self.content_type.as_deref().or_else(|| content_type(source));
        let Document { file, size_bytes } = document;
        let progress = Arc::clone(&session.progress.sent_bytes);
        Form::new(&name, file, size_bytes, &file_name, content_type, progress)
    }

    /// Returns the JSON of a job with a URL.
    fn job(&self, url: &str) -> Value {
        let mut job = Map::from_iter([("url".to_owned(), json!(url))]);
        if !self.options.is_empty() {
            job.insert("options".to_owned(), options(&self.options));
        }
        if !self.labels.is_empty() {
            let labels = self.labels.iter().map(|(name, value)| (name.clone(), json!(value)));
            job.insert("labels".to_owned(), Value::Object(labels.collect()));
        }
        job.extend(self.lane.iter().map(|lane| ("lane".to_owned(), json!(lane))));
        Value::Object(job)
    }

    /// Returns the same settings as query parameters, for documents and batches.
    pub(crate) fn query(&self) -> Vec<(String, String)> {
        let labels = self.labels.iter().map(|(name, value)| format!("{name}:{value}"));
        let labels = labels.map(|label| ("label".to_owned(), label));
        let lane = self.lane.iter().map(|lane| ("lane".to_owned(), lane.clone()));
        self.options.iter().cloned().chain(labels).chain(lane).collect()
    }
}

/// Converts options to JSON. A value becomes a number or a boolean if it can be parsed as one, and
/// a string otherwise. The service parses query parameters in the same way.
fn options(pairs: &[(String, String)]) -> Value {
    let mut options = Map::new();
    for (name, text) in pairs {
        if LIST_OPTIONS.contains(&name.as_str()) {
            let list = options.entry(name.as_str()).or_insert_with(|| json!([]));
            if let Value::Array(values) = list {
                values.push(json!(text));
            }
            continue;
        }
        let value = text.parse::<u64>().map(Value::from);
        let value = value.or_else(|_| text.parse::<bool>().map(Value::from));
        options.insert(name.clone(), value.unwrap_or_else(|_| json!(text)));
    }
    Value::Object(options)
}

fn refuse_repeats<'a>(
    pairs: impl Iterator<Item = &'a (String, String)>,
    kind: &str,
) -> Result<(), Error> {
    let mut names: Vec<&String> = pairs.map(|(name, _)| name).collect();
    names.sort_unstable();
    match names.array_windows().find(|[name, next]| name == next) {
        Some([name, _]) => Err(Error::Usage(format!("{kind} {name} is given more than once"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::arguments::{Action, Arguments};

    fn plan(line: &str, sources: usize) -> Result<Plan, Error> {
        let parsed = Arguments::try_parse_from(line.split(' ')).unwrap();
        let Action::Count(count) = parsed.action else { panic!("{line}") };
        Plan::new(&count.options, count.explain.is_some(), sources)
    }

    #[test]
    fn urls_and_documents_get_the_same_options() {
        let line = "wordmill count a --rule office --option min_len=2 --option stop_words=the \
                    --option stop_words=7 --explain -l book=2600 -l from=a:b --lane bulk";
        let plan = plan(line, 1).unwrap();
        let expected = json!({
            "url": "http://a",
            "options": {"rule": "office", "explain": true, "min_len": 2, "stop_words": ["the", "7"]},
            "labels": {"book": "2600", "from": "a:b"},
            "lane": "bulk",
        });
        assert_eq!(plan.job("http://a"), expected);
        let query: Vec<String> =
            plan.query().into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        let expected = "rule=office explain=true min_len=2 stop_words=the stop_words=7 \
                        label=book:2600 label=from:a:b lane=bulk";
        assert_eq!(query.join(" "), expected);
    }

    #[test]
    fn many_sources_are_bulk_by_default() {
        assert_eq!(plan("wordmill count a", 20).unwrap().job("u"), json!({"url": "u"}));
        assert_eq!(plan("wordmill count a", 21).unwrap().job("u")["lane"], "bulk");
        let interactive = plan("wordmill count a --lane interactive", 21).unwrap();
        assert_eq!(interactive.job("u")["lane"], "interactive");
    }

    #[test]
    fn repeated_labels_and_options_are_refused() {
        for line in [
            "wordmill count a --rule gmx --option rule=office",
            "wordmill count a --option n=1 --option n=1",
            "wordmill count a -l a=1 -l a=2",
        ] {
            assert_eq!(plan(line, 1).unwrap_err().exit_code(), 2, "{line}");
        }
    }
}
