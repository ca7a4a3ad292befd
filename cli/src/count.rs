//! `wordmill count`: submits sources, waits for the jobs, and prints the results.

use futures_util::{StreamExt, stream};

use crate::arguments::{CountArguments, Format};
use crate::batch;
use crate::error::Error;
use crate::follow;
use crate::out::Output;
use crate::report;
use crate::request::Request;
use crate::row::Row;
use crate::session::Session;
use crate::source::{self, Source};
use crate::submit::Plan;
use crate::text::pluralize;
use crate::warning;
use crate::words::{self, MergedHistogram};

/// Maximum number of submissions in flight.
const SUBMISSIONS_IN_FLIGHT_MAX: usize = 8;

/// Runs `wordmill count`.
///
/// # Errors
/// Errors that affect every source. An error of a single source is printed, and the command
/// continues with the others.
pub(crate) async fn run(session: &Session, arguments: CountArguments) -> Result<(), Error> {
    if arguments.explain.is_some() && arguments.print.format == Format::Csv {
        return Err(Error::Usage(
            "an explanation cannot be printed as CSV; use --format json".to_owned(),
        ));
    }
    let out = session.open_output(&arguments.print)?;
    let source_arguments = arguments.sources.clone();
    let find_task = tokio::task::spawn_blocking(move || {
        let sources = source::find(&source_arguments)?;
        let size_bytes: u64 = sources.all.iter().map(Source::size_bytes).sum();
        Ok::<_, Error>((sources, size_bytes))
    });
    let (sources, size_bytes) =
        find_task.await.map_err(|error| Error::LimitExceeded(error.to_string()))??;
    if sources.skipped_files > 0 {
        let verb = if sources.skipped_files == 1 { "is" } else { "are" };
        let files = pluralize(sources.skipped_files, "file");
        session.print_message(&format!("skipped {files} that {verb} not text"));
    }
    let plan = Plan::new(&arguments.options, arguments.explain.is_some(), sources.all.len())?;
    session.progress.begin("submitting", sources.all.len(), size_bytes);
    if arguments.merge && batch::can_be_batch(&sources.all) {
        return count_as_batch(session, &arguments, &plan, &sources.all, out).await;
    }
    if arguments.merge && arguments.no_wait {
        let detail = "--merge with files cannot be combined with --no-wait: the command must wait to \
                      merge the results";
        return Err(Error::Usage(detail.to_owned()));
    }
    let mut rows = submit(session, &plan, sources.all).await?;
    if arguments.no_wait {
        return report::print_submitted(out, arguments.print.format, &rows);
    }
    session.progress.begin("counting", rows.len(), 0);
    wait(session, &mut rows).await?;
    for row in &rows {
        if let Some(fetched) = row.succeeded() {
            warning::print(session, arguments.print.format, Some(&row.name), &fetched.job.warnings);
        }
    }
    if arguments.merge {
        let mut merged = merge(session, &mut rows).await?;
        let words = merged.take_words(report::printed_words_max(&arguments));
        return report::print_merged(out, arguments.print.format, &rows, &merged, &words);
    }
    if arguments.explain.is_some() || arguments.top.is_some() {
        fetch_details(session, &arguments, &mut rows).await?;
    }
    report::print_rows(out, &arguments, &rows)
}

/// Counts URLs as one batch. The server merges the results.
async fn count_as_batch(
    session: &Session,
    arguments: &CountArguments,
    plan: &Plan,
    sources: &[Source],
    out: Output<'_>,
) -> Result<(), Error> {
    let format = arguments.print.format;
    let mut batch = batch::submit(session, plan, sources).await?;
    if arguments.no_wait {
        return report::print_batch(out, format, &batch);
    }
    let fetched = batch.wait(session, format == Format::Json).await?;
    warning::print(session, format, None, &fetched.job.warnings);
    let mut merged = MergedHistogram::default();
    if fetched.job.has_succeeded() {
        merged.add(&session.client, &fetched.job).await?;
    }
    let words = merged.take_words(report::printed_words_max(arguments));
    report::print_merged(out, format, &batch.rows, &merged, &words)
}

/// Submits all sources, and returns their rows in the same order.
async fn submit(session: &Session, plan: &Plan, sources: Vec<Source>) -> Result<Vec<Row>, Error> {
    let submitting =
        stream::iter(sources.into_iter().enumerate()).map(|(number, source)| async move {
            let submitted = plan.submit(session, number, &source).await;
            session.progress.step();
            (source, submitted)
        });
    let mut submitting = submitting.buffered(SUBMISSIONS_IN_FLIGHT_MAX);
    let mut rows = Vec::new();
    while let Some((source, submitted)) = submitting.next().await {
        let mut row = Row::new(source.name());
        match submitted {
            Ok(fetched) => row.fetched = Some(fetched),
            Err(error) => row.record_error(session, error)?,
        }
        rows.push(row);
    }
    Ok(rows)
}

/// Waits until every job is final.
async fn wait(session: &Session, rows: &mut [Row]) -> Result<(), Error> {
    let ids: Vec<Option<String>> =
        rows.iter().map(|row| Some(row.fetched.as_ref()?.job.job_id.clone())).collect();
    let following = stream::iter(ids).map(|id| async move {
        let id = id?;
        let fetched = follow::wait_until_final(session, &id, |job| {
            session.progress.set_job_progress(job.progress_thousandths());
        })
        .await;
        session.progress.step();
        Some(fetched)
    });
    let mut following = following.buffered(follow::FOLLOWED_JOBS_MAX);
    for row in rows {
        match following.next().await.flatten() {
            None => {}
            Some(Ok(fetched)) => row.set_job(session, fetched),
            Some(Err(error)) => row.record_error(session, error)?,
        }
    }
    Ok(())
}

/// Merges the histograms of the succeeded jobs, in the order of the sources.
async fn merge(session: &Session, rows: &mut [Row]) -> Result<MergedHistogram, Error> {
    session.progress.begin("merging", rows.len(), 0);
    let mut merged = MergedHistogram::default();
    for row in rows {
        if let Some(fetched) = row.succeeded() {
            merged.add(&session.client, &fetched.job).await?;
        }
        session.progress.step();
    }
    Ok(merged)
}

/// Fetches the requested words and explanations of the succeeded jobs.
async fn fetch_details(
    session: &Session,
    arguments: &CountArguments,
    rows: &mut [Row],
) -> Result<(), Error> {
    session.progress.begin("fetching results", rows.len(), 0);
    for row in rows {
        let Some(job_id) = row.succeeded().map(|fetched| fetched.job.job_id.clone()) else {
            continue;
        };
        if let Some(top) = arguments.top {
            match words::fetch_top_words(&session.client, &job_id, top).await {
                Ok(top) => row.top = Some(top),
                Err(error) => row.record_error(session, error)?,
            }
        }
        if let Some(rules) = &arguments.explain {
            let request = Request::get(&["v1", "jobs", &job_id, "explain"]);
            match session.client.send(&request.query("rules", rules)).await {
                Ok(response) => row.explanation = Some(response.json()?),
                Err(error) => row.record_error(session, error)?,
            }
        }
        session.progress.step();
    }
    Ok(())
}
