//! Actions on existing jobs: `status`, `wait`, `result`, `cancel`, `retry`, `delete` and `list`.

use futures_util::{StreamExt, stream};
use hyper::Method;
use hyper::header::{HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::Value;

use crate::arguments::{
    DeleteArguments, Format, ListArguments, PrintArguments, ResultArguments, SelectionArguments,
};
use crate::body::{Payload, nonce};
use crate::csv;
use crate::error::Error;
use crate::exit;
use crate::follow;
use crate::job::{FetchedJob, Job};
use crate::json;
use crate::out::Output;
use crate::report;
use crate::request::Request;
use crate::session::Session;
use crate::table::{Alignment, Table};
use crate::text::{format_number, format_size, replace_control_chars};
use crate::warning;
use crate::words::CountedWords;

/// Maximum number of requests in flight.
const REQUESTS_IN_FLIGHT_MAX: usize = 16;
/// Maximum number of jobs on one page of a list.
const PAGE_ITEMS_MAX: u32 = 100;
/// Maximum number of pages that are read for one list. Even an empty page may have a successor.
const PAGES_MAX: u32 = 1000;

/// One page of a list.
#[derive(Debug, Deserialize)]
pub(crate) struct ListPage {
    pub(crate) data: Vec<Value>,
    pub(crate) next_cursor: Option<String>,
}

/// Runs `wordmill status`.
///
/// # Errors
/// Errors that affect every job. An error of a single job is printed.
pub(crate) async fn status(session: &Session, arguments: SelectionArguments) -> Result<(), Error> {
    let out = session.open_output(&arguments.print)?;
    let jobs = for_each_id(session, &arguments.ids, |id| async move {
        FetchedJob::parse(&session.client.send(&Request::get(&["v1", "jobs", &id])).await?)
    });
    let jobs = jobs.await?;
    print_warnings(session, arguments.print.format, &jobs);
    print(out, arguments.print.format, &jobs)
}

/// Runs `wordmill wait`.
///
/// # Errors
/// Errors that affect every job. An error of a single job is printed.
pub(crate) async fn wait(session: &Session, arguments: SelectionArguments) -> Result<(), Error> {
    let out = session.open_output(&arguments.print)?;
    arguments.ids.iter().for_each(|id| session.add_unfinished_job(id));
    session.progress.begin("waiting", arguments.ids.len(), 0);
    let jobs = for_each_id(session, &arguments.ids, |id| async move {
        let fetched = follow::wait_until_final(session, &id, |job| {
            session.progress.set_job_progress(job.progress_thousandths());
        })
        .await;
        session.progress.step();
        // Remove the job even after an error: another `wordmill wait` for it would fail, too.
        session.remove_unfinished_job(&id);
        fetched
    });
    let jobs = jobs.await?;
    for reason in jobs.iter().filter_map(|job| job.job.failure_text()) {
        session.print_message(&reason);
        session.raise_exit_code(exit::JOB_FAILED);
    }
    print_warnings(session, arguments.print.format, &jobs);
    print(out, arguments.print.format, &jobs)
}

/// Runs `wordmill cancel`.
///
/// # Errors
/// Errors that affect every job. An error of a single job is printed.
pub(crate) async fn cancel(session: &Session, arguments: SelectionArguments) -> Result<(), Error> {
    let out = session.open_output(&arguments.print)?;
    let jobs = for_each_id(session, &arguments.ids, |id| async move {
        let request = Request::post(&["v1", "jobs", &id, "cancel"], Payload::Nothing);
        FetchedJob::parse(&session.client.send(&request).await?)
    });
    print(out, arguments.print.format, &jobs.await?)
}

/// Runs `wordmill retry`.
///
/// # Errors
/// Errors that affect every job. An error of a single job is printed.
pub(crate) async fn retry(session: &Session, arguments: SelectionArguments) -> Result<(), Error> {
    let out = session.open_output(&arguments.print)?;
    let nonce = &nonce()?;
    let jobs = for_each_id(session, &arguments.ids, |id| async move {
        let key = HeaderValue::try_from(format!("wordmill-{nonce}-{id}"));
        let key = key.map_err(|_| Error::Usage(format!("{id} is not a valid job id")))?;
        let request = Request::post(&["v1", "jobs", &id, "retry"], Payload::Nothing);
        let request = request.header(HeaderName::from_static("idempotency-key"), key);
        FetchedJob::parse(&session.client.send(&request).await?)
    });
    print(out, arguments.print.format, &jobs.await?)
}

/// Runs `wordmill delete`.
///
/// # Errors
/// Errors that affect every job. An error of a single job is printed.
pub(crate) async fn delete(session: &Session, arguments: DeleteArguments) -> Result<(), Error> {
    delete_each(session, "jobs", &arguments.ids).await
}

/// Deletes resources of one kind: `jobs` or `dead-letters`.
///
/// # Errors
/// Errors that affect every resource. An error of a single one is printed.
pub(crate) async fn delete_each(
    session: &Session,
    kind: &str,
    ids: &[String],
) -> Result<(), Error> {
    for_each_id(session, ids, |id| async move {
        session.client.send(&Request::new(Method::DELETE, &["v1", kind, &id])).await.map(drop)
    })
    .await?;
    Ok(())
}

/// Sends one request for each id, several at a time, and returns the responses in the order of the
/// ids. An error of a single id is printed.
async fn for_each_id<T, F: Future<Output = Result<T, Error>>>(
    session: &Session,
    ids: &[String],
    send: impl Fn(String) -> F,
) -> Result<Vec<T>, Error> {
    let responses = stream::iter(ids.to_vec()).map(|id| {
        let response = send(id.clone());
        async move { (id, response.await) }
    });
    let mut responses = responses.buffered(REQUESTS_IN_FLIGHT_MAX);
    let mut all = Vec::new();
    while let Some((id, response)) = responses.next().await {
        match response {
            Ok(value) => all.push(value),
            Err(error) if error.affects_every_source() => return Err(error),
            Err(error) => session.report_error(&id, &error),
        }
    }
    Ok(all)
}

/// Runs `wordmill result`.
///
/// # Errors
/// Errors of the request and of the output.
pub(crate) async fn result(session: &Session, arguments: ResultArguments) -> Result<(), Error> {
    let mut out = session.open_output(&arguments.print)?;
    let mut request = Request::get(&["v1", "jobs", &arguments.id, "result"]);
    if let Some(min_count) = arguments.min_count {
        request = request.query("min_count", min_count.to_string());
    }
    let format = match arguments.print.format {
        Format::Csv => "csv",
        Format::Json | Format::Table => "json",
    };
    let is_table = arguments.print.format == Format::Table;
    if let Some(top) = arguments.top.or_else(|| is_table.then_some(report::TABLE_WORDS_DEFAULT)) {
        request = request.query("top", top.to_string());
    }
    request = request.query("format", format);
    if is_table {
        let counted: CountedWords = session.client.send(&request).await?.json()?;
        let by_rule = counted.totals_by_rule.unwrap_or_default();
        let totals = counted.totals.unwrap_or_default();
        warning::print(session, arguments.print.format, Some(&arguments.id), &counted.warnings);
        out.text(&report::format_totals(&totals, &by_rule, counted.rule.as_ref()))?;
        out.text(&report::format_words(&counted.word_count))?;
        return out.finish();
    }
    // Copies the JSON or CSV of the service unchanged, without buffering all of it.
    let mut response = session.client.send(&request.streamed()).await?;
    while let Some(chunk) = response.next().await? {
        out.bytes(&chunk)?;
    }
    if format == "json" {
        out.text("\n")?;
    }
    out.finish()
}

/// Runs `wordmill list`.
///
/// # Errors
/// Errors of the requests and of the output.
pub(crate) async fn list(session: &Session, arguments: ListArguments) -> Result<(), Error> {
    let out = session.open_output(&arguments.print)?;
    let mut request = Vec::new();
    request.extend(arguments.status.map(|status| ("status".to_owned(), status)));
    let label = arguments.label.map(|(name, value)| format!("{name}:{value}"));
    request.extend(label.map(|label| ("label".to_owned(), label)));
    let data = fetch_list(session, "jobs", &request, arguments.limit).await?;
    let PrintArguments { format, .. } = arguments.print;
    let jobs: Result<Vec<FetchedJob>, _> = data.into_iter().map(FetchedJob::from_value).collect();
    let jobs = jobs.map_err(|error| Error::UnexpectedResponse {
        server: session.client.name(),
        detail: error.to_string(),
    })?;
    match format {
        Format::Table => print_table(out, &jobs),
        Format::Json | Format::Csv => print(out, format, &jobs),
    }
}

/// Reads a list page by page, up to `limit` entries.
///
/// # Errors
/// Errors of the requests.
pub(crate) async fn fetch_list(
    session: &Session,
    kind: &str,
    query: &[(String, String)],
    limit: u32,
) -> Result<Vec<Value>, Error> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut all = Vec::new();
    let mut cursor: Option<String> = None;
    for _ in 0..PAGES_MAX {
        let left = u32::try_from(limit.saturating_sub(all.len()))
            .unwrap_or(PAGE_ITEMS_MAX)
            .min(PAGE_ITEMS_MAX);
        let mut request = Request::get(&["v1", kind]).queries(query);
        request = request.query("limit", left.to_string());
        if let Some(cursor) = cursor {
            request = request.query("cursor", cursor);
        }
        let page: ListPage = session.client.send(&request).await?.json()?;
        all.extend(page.data);
        cursor = page.next_cursor;
        if cursor.is_none() || all.len() >= limit {
            break;
        }
    }
    all.truncate(limit);
    Ok(all)
}

fn print_warnings(session: &Session, format: Format, jobs: &[FetchedJob]) {
    for job in jobs.iter().map(|job| &job.job) {
        warning::print(session, format, Some(&job.job_id), &job.warnings);
    }
}

/// Prints jobs. As a table, a single job is shown with all details, and several with one row each.
fn print(mut out: Output<'_>, format: Format, jobs: &[FetchedJob]) -> Result<(), Error> {
    match (format, jobs) {
        (Format::Table, [single]) => out.text(&format_details(&single.job))?,
        (Format::Table, _) => return print_table(out, jobs),
        (Format::Json, _) => out.text(&json::lines(jobs.iter().map(|job| &job.value)))?,
        (Format::Csv, _) => {
            let titles =
                ["job_id", "status", "source", "words", "code", "created_at", "finished_at"];
            out.text(&csv::line(titles))?;
            for job in jobs.iter().map(|job| &job.job) {
                let words = job.totals.map(|totals| totals.words.to_string());
                out.text(&csv::line([
                    job.job_id.as_str(),
                    &job.status,
                    &job.source.name(),
                    &words.unwrap_or_default(),
                    job.failure.as_ref().map_or("", |failure| &failure.code),
                    &job.created_at,
                    job.finished_at.as_deref().unwrap_or_default(),
                ]))?;
            }
        }
    }
    out.finish()
}

fn print_table(mut out: Output<'_>, jobs: &[FetchedJob]) -> Result<(), Error> {
    let mut table = Table::new(&[
        ("job", Alignment::Left),
        ("status", Alignment::Left),
        ("code", Alignment::Left),
        ("created", Alignment::Left),
        ("words", Alignment::Right),
        ("source", Alignment::Left),
    ]);
    for job in jobs.iter().map(|job| &job.job) {
        let code = job.failure.as_ref().map(|failure| failure.code.clone());
        let words = job.totals.map(|totals| format_number(totals.words));
        table.row([
            job.job_id.clone(),
            job.status.clone(),
            code.unwrap_or_default(),
            without_fraction(&job.created_at),
            words.unwrap_or_else(|| "-".to_owned()),
            job.source.name(),
        ]);
    }
    if !jobs.is_empty() {
        out.text(&table.render())?;
    }
    out.finish()
}

/// Removes the fraction of a second from a timestamp.
pub(crate) fn without_fraction(time: &str) -> String {
    match time.split_once('.') {
        Some((seconds, _)) => format!("{seconds}Z"),
        None => time.to_owned(),
    }
}

/// Formats the details of one job.
fn format_details(job: &Job) -> String {
    let mut table = Table::new(&[("", Alignment::Left), ("", Alignment::Left)]);
    let mut add_row = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            table.row([name.to_owned(), value]);
        }
    };
    add_row("job", Some(job.job_id.clone()));
    add_row("status", Some(job.status.clone()));
    let failure = job.failure.as_ref();
    add_row("reason", failure.map(|failure| failure.code.clone()));
    add_row("dead letter", job.dead_lettered.then(|| "yes".to_owned()));
    add_row("source", Some(job.source.name()));
    add_row("size", job.source.size_bytes().map(format_size));
    add_row(
        "progress",
        job.progress_thousandths()
            .filter(|_| !job.is_final())
            .map(|part| format!("{} %", part / 10)),
    );
    let counts = job.counts.iter().flatten().filter(|(_, count)| **count > 0);
    let counts: Vec<String> = counts.map(|(status, count)| format!("{count} {status}")).collect();
    add_row("members", (!counts.is_empty()).then(|| counts.join(", ")));
    add_row("lane", Some(job.lane.clone()));
    let labels: Vec<String> =
        job.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    add_row("labels", (!labels.is_empty()).then(|| labels.join(" ")));
    add_row("words", job.totals.map(|totals| format_number(totals.words)));
    add_row("unique words", job.totals.map(|totals| format_number(totals.unique_words)));
    add_row("created", Some(without_fraction(&job.created_at)));
    add_row("next attempt", job.next_attempt_at.as_deref().map(without_fraction));
    add_row("finished", job.finished_at.as_deref().map(without_fraction));
    add_row("kept until", job.expires_at.as_deref().map(without_fraction));
    add_row("retry of", job.retry_of.clone());
    for attempt in &job.attempts {
        let failure = attempt.failure.as_ref().map(|failure| format!(": {}", failure.code));
        let name = format!("attempt {}", attempt.number);
        add_row(&name, Some(format!("{}{}", attempt.worker, failure.unwrap_or_default())));
    }
    add_row("trace", Some(job.trace_id.clone()));
    let link = job.links.get("trace").and_then(Value::as_str);
    let mut text = table.render();
    // The detail follows the table, because cells are truncated.
    if let Some(failure) = failure {
        text += &format!("{}\n", replace_control_chars(&failure.detail));
    }
    text += &link.map(|link| format!("{}\n", replace_control_chars(link))).unwrap_or_default();
    text
}
