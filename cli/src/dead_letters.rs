//! `wordmill dead-letters`: lists, shows, replays and deletes jobs that failed for good.

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
use crate::text::{pluralize, replace_control_chars, size};

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
            jobs::remove(session, "dead-letters", &arguments.ids).await
        }
    }
}

fn read<T: for<'de> Deserialize<'de>>(session: &Session, value: &Value) -> Result<T, Error> {
    T::deserialize(value).map_err(|error| Error::UnexpectedAnswer {
        server: session.client.name(),
        detail: error.to_string(),
    })
}

impl FilterArguments {
    fn pairs(&self) -> Vec<(String, String)> {
        let pairs = [("code", &self.code), ("lane", &self.lane)].into_iter();
        pairs.filter_map(|(name, value)| Some((name.to_owned(), value.clone()?))).collect()
    }
}

impl DeadLetter {
    fn code(&self) -> String {
        self.failure.code.clone().unwrap_or_default()
    }

    fn source(&self) -> String {
        let source = self.source.as_ref();
        let name = source.and_then(|source| {
            let named = source.get("url").or_else(|| source.get("file_name"));
            named.and_then(Value::as_str).map(str::to_owned)
        });
        let kind = source.and_then(|source| source.get("kind")?.as_str());
        name.unwrap_or_else(|| format!("({})", kind.unwrap_or("unreadable")))
    }
}

async fn list(session: &Session, arguments: DeadLettersListArguments) -> Result<(), Error> {
    let mut out = session.out(&arguments.print)?;
    let data =
        jobs::pages(session, "dead-letters", &arguments.filter.pairs(), arguments.limit).await?;
    let letters: Result<Vec<DeadLetter>, Error> =
        data.iter().map(|value| read(session, value)).collect();
    let letters = letters?;
    match arguments.print.format {
        Format::Table if letters.is_empty() => {}
        Format::Table => {
            let titles = ["id", "failed", "code", "lane", "source"];
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
                    letter.source(),
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
                    &letter.source(),
                    letter.trace_id.as_deref().unwrap_or_default(),
                ]))?;
            }
        }
    }
    out.finish()
}

async fn show(session: &Session, arguments: ShowArguments) -> Result<(), Error> {
    let mut out = session.out(&arguments.print)?;
    let request = Request::get(&["v1", "dead-letters", &arguments.id]);
    let value: Value = session.client.send(&request).await?.json()?;
    let letter: DeadLetter = read(session, &value)?;
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
                ("failed", Some(without_fraction(&letter.dead_at))),
                ("attempts", letter.attempts.map(|attempts| attempts.to_string())),
                ("source", Some(letter.source())),
                ("lane", Some(letter.lane.clone())),
                ("size", Some(size(letter.size_bytes))),
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

/// Replays dead letters in batches: by id, or page by page all that match the filter.
async fn replay(session: &Session, arguments: ReplayArguments) -> Result<(), Error> {
    let mut out = session.out(&arguments.print)?;
    let mut data: Vec<Value> = Vec::new();
    let dry_run = arguments.dry_run;
    if arguments.ids.is_empty() {
        let filter: Value = json!(
            arguments.filter.pairs().into_iter().collect::<std::collections::BTreeMap<_, _>>()
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
    let lines: Result<Vec<ReplayOutcome>, Error> =
        data.iter().map(|value| read(session, value)).collect();
    let lines = lines?;
    match arguments.print.format {
        Format::Table => out.text(&table(&lines))?,
        Format::Json => out.text(&json::lines(&data))?,
        Format::Csv => {
            out.text(&csv::line(["id", "outcome", "job_id", "code"]))?;
            for line in &lines {
                let job_id = line.job_id.as_deref().unwrap_or_default();
                let code = line.code.as_deref().unwrap_or_default();
                out.text(&csv::line([line.id.as_str(), &line.outcome, job_id, code]))?;
            }
        }
    }
    out.finish()?;
    let is_good =
        |line: &&ReplayOutcome| matches!(line.outcome.as_str(), "replayed" | "would_replay");
    let good = lines.iter().filter(is_good).count();
    let done = if dry_run { "would be replayed" } else { "replayed" };
    session.note(&format!("{} of {} {done}", good, pluralize(lines.len(), "dead letter")));
    if good < lines.len() {
        session.raise_exit_code(exit::REQUEST_REFUSED);
    }
    Ok(())
}

async fn replay_page(session: &Session, body: &Value) -> Result<ListPage, Error> {
    let request = Request::post(&["v1", "dead-letters", "replay"], Payload::json(body));
    session.client.send(&request).await?.json()
}

fn table(lines: &[ReplayOutcome]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let titles = ["dead letter", "outcome", "new job", ""];
    let mut table = Table::new(&titles.map(|title| (title, Alignment::Left)));
    for line in lines {
        let why = line.detail.clone().or_else(|| line.code.clone()).unwrap_or_default();
        let job_id = line.job_id.clone().unwrap_or_default();
        table.row([line.id.clone(), line.outcome.replace('_', " "), job_id, why]);
    }
    table.render()
}
