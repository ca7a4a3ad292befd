//! `wordmill dead-letters`: lists, shows, replays and deletes jobs that used up all attempts, and
//! messages that are not valid jobs.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::arguments::{
    DeadLettersAction, DeadLettersListArguments, FilterArguments, Format, ReplayArguments,
    ShowArguments,
};
use crate::body::Payload;
use crate::csv;
use crate::error::Error;
use crate::exit;
use crate::jobs::{self, ListPage, without_fraction};
use crate::json;
use crate::request::Request;
use crate::session::Session;
use crate::table::{Alignment, Table};
use crate::text::{format_size, pluralize, replace_control_chars};

/// Maximum number of ids in one replay request.
const REPLAY_MAX: usize = 100;
/// Maximum number of requests of one replay.
const REQUESTS_MAX: usize = 10_000;

#[derive(Debug, Deserialize)]
struct DeadLetter {
    id: String,
    lane: String,
    failure: Failure,
    attempts: Option<u32>,
    dead_at: String,
    size_bytes: u64,
    source: Option<Value>,
    trace_id: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Failure {
    code: Option<String>,
    detail: Option<String>,
}

/// Outcome of the replay of one dead letter.
#[derive(Debug, Deserialize)]
struct ReplayOutcome {
    id: String,
    outcome: String,
    job_id: Option<String>,
    code: Option<String>,
    detail: Option<String>,
}

/// Runs `wordmill dead-letters`.
///
/// # Errors
/// Errors of the requests and of the output.
pub(crate) async fn run(session: &Session, action: DeadLettersAction) -> Result<(), Error> {
    match action {
        DeadLettersAction::List(arguments) => list(session, arguments).await,
        DeadLettersAction::Show(arguments) => show(session, arguments).await,
        DeadLettersAction::Replay(arguments) => replay(session, arguments).await,
        DeadLettersAction::Delete(arguments) => {
            jobs::delete_each(session, "dead-letters", &arguments.ids).await
        }
    }
}

fn parse_value<T: for<'de> Deserialize<'de>>(session: &Session, value: &Value) -> Result<T, Error> {
    T::deserialize(value).map_err(|error| Error::UnexpectedResponse {
        server: session.client.name(),
        detail: error.to_string(),
    })
}

impl FilterArguments {
    fn query(&self) -> Vec<(String, String)> {
        let parameters = [("code", &self.code), ("lane", &self.lane)].into_iter();
        parameters.filter_map(|(name, value)| Some((name.to_owned(), value.clone()?))).collect()
    }
}

impl DeadLetter {
    fn code(&self) -> String {
        self.failure.code.clone().unwrap_or_default()
    }

    fn source_name(&self) -> String {
        let source = self.source.as_ref();
        let name = source.and_then(|source| {
            let name = source.get("url").or_else(|| source.get("file_name"));
            name.and_then(Value::as_str).map(str::to_owned)
        });
        let kind = source.and_then(|source| source.get("kind")?.as_str());
        name.unwrap_or_else(|| format!("({})", kind.unwrap_or("unreadable")))
    }
}

async fn list(session: &Session, arguments: DeadLettersListArguments) -> Result<(), Error> {
    let mut out = session.open_output(&arguments.print)?;
    let data =
        jobs::fetch_list(session, "dead-letters", &arguments.filter.query(), arguments.limit)
            .await?;
    let letters: Result<Vec<DeadLetter>, Error> =
        data.iter().map(|value| parse_value(session, value)).collect();
    let letters = letters?;
    match arguments.print.format {
        Format::Table if letters.is_empty() => {}
        Format::Table => {
            let titles = ["id", "failed at", "code", "lane", "source"];
            let columns = titles.map(|title| (title, Alignment::Left));
            let mut table = Table::new(&columns);
            for letter in &letters {
                let id = letter.id.clone();
                let lane = letter.lane.clone();
                table.row([
                    id,
                    without_fraction(&letter.dead_at),
                    letter.code(),
                    lane,
                    letter.source_name(),
                ]);
            }
            out.text(&table.render())?;
        }
        Format::Json => out.text(&json::lines(&data))?,
        Format::Csv => {
            out.text(&csv::line(["id", "dead_at", "code", "lane", "source", "trace_id"]))?;
            for letter in &letters {
                out.text(&csv::line([
                    letter.id.as_str(),
                    &letter.dead_at,
                    &letter.code(),
                    &letter.lane,
                    &letter.source_name(),
                    letter.trace_id.as_deref().unwrap_or_default(),
                ]))?;
            }
        }
    }
    out.finish()
}

async fn show(session: &Session, arguments: ShowArguments) -> Result<(), Error> {
    let mut out = session.open_output(&arguments.print)?;
    let request = Request::get(&["v1", "dead-letters", &arguments.id]);
    let value: Value = session.client.send(&request).await?.json()?;
    let letter: DeadLetter = parse_value(session, &value)?;
    match arguments.print.format {
        Format::Json => out.text(&json::pretty(&value)?)?,
        Format::Csv => {
            return Err(Error::Usage(
                "a single dead letter cannot be printed as CSV; use --format json".to_owned(),
            ));
        }
        Format::Table => {
            let mut table = Table::new(&[("", Alignment::Left), ("", Alignment::Left)]);
            for (name, value) in [
                ("dead letter", Some(letter.id.clone())),
                ("reason", Some(letter.code())),
                ("failed at", Some(without_fraction(&letter.dead_at))),
                ("attempts", letter.attempts.map(|attempts| attempts.to_string())),
                ("source", Some(letter.source_name())),
                ("lane", Some(letter.lane.clone())),
                ("size", Some(format_size(letter.size_bytes))),
                ("trace", letter.trace_id.clone()),
            ] {
                if let Some(value) = value {
                    table.row([name.to_owned(), value]);
                }
            }
            out.text(&table.render())?;
            let detail = letter.failure.detail.as_deref().map(replace_control_chars);
            out.text(&detail.map(|detail| format!("{detail}\n")).unwrap_or_default())?;
        }
    }
    out.finish()
}

/// Replays dead letters, either those with the given ids or all that match the filter. Each request
/// replays a bounded number.
async fn replay(session: &Session, arguments: ReplayArguments) -> Result<(), Error> {
    let mut out = session.open_output(&arguments.print)?;
    let mut data: Vec<Value> = Vec::new();
    let dry_run = arguments.dry_run;
    if arguments.ids.is_empty() {
        let filter: Value = json!(
            arguments.filter.query().into_iter().collect::<std::collections::BTreeMap<_, _>>()
        );
        let mut cursor: Option<String> = None;
        for _ in 0..REQUESTS_MAX {
            let body = match &cursor {
                None => json!({"filter": filter, "dry_run": dry_run}),
                Some(cursor) => json!({"filter": filter, "dry_run": dry_run, "cursor": cursor}),
            };
            let page = replay_page(session, &body).await?;
            data.extend(page.data);
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
    }
    for ids in arguments.ids.chunks(REPLAY_MAX) {
        let page = replay_page(session, &json!({"ids": ids, "dry_run": dry_run})).await?;
        data.extend(page.data);
    }
    let outcomes: Result<Vec<ReplayOutcome>, Error> =
        data.iter().map(|value| parse_value(session, value)).collect();
    let outcomes = outcomes?;
    match arguments.print.format {
        Format::Table => out.text(&outcome_table(&outcomes))?,
        Format::Json => out.text(&json::lines(&data))?,
        Format::Csv => {
            out.text(&csv::line(["id", "outcome", "job_id", "code"]))?;
            for outcome in &outcomes {
                let job_id = outcome.job_id.as_deref().unwrap_or_default();
                let code = outcome.code.as_deref().unwrap_or_default();
                out.text(&csv::line([outcome.id.as_str(), &outcome.outcome, job_id, code]))?;
            }
        }
    }
    out.finish()?;
    let is_replayed =
        |outcome: &&ReplayOutcome| matches!(outcome.outcome.as_str(), "replayed" | "would_replay");
    let replayed = outcomes.iter().filter(is_replayed).count();
    let verb = if dry_run { "would be replayed" } else { "replayed" };
    session.print_message(&format!(
        "{} of {} {verb}",
        replayed,
        pluralize(outcomes.len(), "dead letter")
    ));
    if replayed < outcomes.len() {
        session.raise_exit_code(exit::REQUEST_REFUSED);
    }
    Ok(())
}

async fn replay_page(session: &Session, body: &Value) -> Result<ListPage, Error> {
    let request = Request::post(&["v1", "dead-letters", "replay"], Payload::json(body));
    session.client.send(&request).await?.json()
}

fn outcome_table(outcomes: &[ReplayOutcome]) -> String {
    if outcomes.is_empty() {
        return String::new();
    }
    let titles = ["dead letter", "outcome", "new job", "reason"];
    let mut table = Table::new(&titles.map(|title| (title, Alignment::Left)));
    for outcome in outcomes {
        let reason = outcome.detail.clone().or_else(|| outcome.code.clone()).unwrap_or_default();
        let job_id = outcome.job_id.clone().unwrap_or_default();
        table.row([outcome.id.clone(), outcome.outcome.replace('_', " "), job_id, reason]);
    }
    table.render()
}
