//! Output of `wordmill count`.

use serde::Serialize;
use serde_json::{Value, json};

use crate::arguments::{CountArguments, Format};
use crate::batch::Batch;
use crate::csv;
use crate::error::Error;
use crate::explain;
use crate::job::{Job, Rule, Totals};
use crate::json;
use crate::out::Output;
use crate::row::Row;
use crate::table::{Alignment, Table};
use crate::text::{format_number, pluralize, replace_control_chars};
use crate::words::{self, MergedHistogram, Words};

/// Default number of words in a table.
pub(crate) const TABLE_WORDS_DEFAULT: usize = 20;
/// Titles of the columns with totals.
const TOTAL_TITLES: [&str; 3] = ["words", "unique", "characters"];

/// Returns the maximum number of words of a merged histogram to print; `None` for all.
pub(crate) fn printed_words_max(arguments: &CountArguments) -> Option<usize> {
    let is_table = arguments.print.format == Format::Table;
    arguments.top.or_else(|| is_table.then_some(TABLE_WORDS_DEFAULT))
}

/// Prints the submitted jobs of `--no-wait`: their ids, or all rows as JSON or CSV.
///
/// # Errors
/// Those of [`Output::text`].
pub(crate) fn print_submitted(
    mut out: Output<'_>,
    format: Format,
    rows: &[Row],
) -> Result<(), Error> {
    match format {
        Format::Table => {
            for fetched in rows.iter().filter_map(|row| row.fetched.as_ref()) {
                out.text(&format!("{}\n", replace_control_chars(&fetched.job.job_id)))?;
            }
        }
        Format::Json => out.text(&json::pretty(&json!({"sources": source_views(rows)}))?)?,
        Format::Csv => out.text(&csv_rows(rows))?,
    }
    out.finish()
}

/// Prints the submitted batch of `--no-wait`: its id, or all rows as JSON or CSV.
///
/// # Errors
/// Those of [`Output::text`].
pub(crate) fn print_batch(mut out: Output<'_>, format: Format, batch: &Batch) -> Result<(), Error> {
    let id = replace_control_chars(&batch.batch_id);
    out.text(&match format {
        Format::Table => format!("{id}\n"),
        Format::Json => json::pretty(
            &json!({"batch_id": batch.batch_id, "sources": source_views(&batch.rows)}),
        )?,
        Format::Csv => csv_rows(&batch.rows),
    })?;
    out.finish()
}

/// Prints one row for each source, and the totals. A table with a single source shows details.
///
/// # Errors
/// Those of [`Output::text`].
pub(crate) fn print_rows(
    mut out: Output<'_>,
    arguments: &CountArguments,
    rows: &[Row],
) -> Result<(), Error> {
    let text = match arguments.print.format {
        Format::Table => match rows {
            [row] => {
                row.succeeded().map(|fetched| format_details(row, &fetched.job)).unwrap_or_default()
            }
            _ => format_summary(rows),
        },
        Format::Json => {
            json::pretty(&json!({"sources": source_views(rows), "totals": sum_totals(rows)}))?
        }
        Format::Csv if arguments.top.is_some() => csv_words(rows),
        Format::Csv => csv_rows(rows),
    };
    out.text(&text)?;
    out.finish()
}

/// Prints the merged histogram of all sources.
///
/// # Errors
/// Those of [`Output::text`].
pub(crate) fn print_merged(
    mut out: Output<'_>,
    format: Format,
    rows: &[Row],
    merged: &MergedHistogram,
    words: &Words,
) -> Result<(), Error> {
    match format {
        Format::Table => {
            let totals =
                format_totals(&merged.totals, &merged.totals_by_rule, merged.rule.as_ref());
            out.text(&format!("{}\n{totals}", pluralize(merged.sources, "source")))?;
            out.text(&format_words(words))?;
        }
        Format::Json => {
            let head = json!({
                "totals": merged.totals,
                "totals_by_rule": merged.totals_by_rule,
                "rule": merged.rule,
                "warnings": merged.warnings,
                "sources": source_views(rows),
            });
            // The histogram is the last member, as in a result. A `Value` would sort its words, so
            // it is serialized separately.
            let head = head.to_string();
            let head = head.strip_suffix('}').unwrap_or(&head);
            out.text(&format!("{head},\"word_count\":"))?;
            out.text(&json::compact(words)?)?;
            out.text("}\n")?;
        }
        Format::Csv => {
            out.text("word,count\r\n")?;
            for (word, count) in &words.0 {
                out.text(&csv::line([word.as_str(), &count.to_string()]))?;
            }
        }
    }
    out.finish()
}

/// JSON of one source: its job or error, and the requested details.
#[derive(Debug, Serialize)]
struct SourceView<'a> {
    source: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_words: Option<Vec<WordView<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    explanation: Option<&'a Value>,
}

#[derive(Debug, Serialize)]
struct WordView<'a> {
    word: &'a str,
    count: u64,
}

fn source_views(rows: &[Row]) -> Vec<SourceView<'_>> {
    rows.iter().map(SourceView::new).collect()
}

impl<'a> SourceView<'a> {
    fn new(row: &'a Row) -> Self {
        let words = row.top.as_ref().map(|top| {
            top.0.iter().map(|(word, count)| WordView { word, count: *count }).collect()
        });
        Self {
            source: &row.name,
            job: row.fetched.as_ref().map(|fetched| &fetched.value),
            error: row.error.as_ref().map(Error::to_json),
            top_words: words,
            explanation: row.explanation.as_ref(),
        }
    }
}

/// Returns the sum of all totals, without `unique_words`: only `--merge` determines how many unique
/// words the sources contain together.
fn sum_totals(rows: &[Row]) -> Value {
    let mut sum = Totals::default();
    for totals in rows.iter().filter_map(|row| row.succeeded()?.job.totals) {
        words::add_totals(&mut sum, &totals);
    }
    let mut sum = json!(sum);
    if let Some(sum) = sum.as_object_mut() {
        sum.remove("unique_words");
    }
    sum
}

fn csv_rows(rows: &[Row]) -> String {
    let titles = [
        "source",
        "job_id",
        "status",
        "words",
        "unique_words",
        "characters",
        "characters_no_spaces",
        "code",
    ];
    let mut text = csv::line(titles);
    for row in rows {
        let job = row.fetched.as_ref().map(|fetched| &fetched.job);
        let totals = job.and_then(|job| job.totals);
        let total = |field: fn(&Totals) -> u64| {
            totals.as_ref().map(|totals| field(totals).to_string()).unwrap_or_default()
        };
        let failure = job.and_then(|job| job.failure.as_ref()).map(|failure| failure.code.as_str());
        text += &csv::line([
            row.name.as_str(),
            job.map_or("", |job| &job.job_id),
            job.map_or_else(|| status_without_job(row), |job| &job.status),
            &total(|totals| totals.words),
            &total(|totals| totals.unique_words),
            &total(|totals| totals.characters),
            &total(|totals| totals.characters_no_spaces),
            failure.or_else(|| row.error.as_ref().map(Error::code)).unwrap_or_default(),
        ]);
    }
    text
}

/// Returns the status of a source without a job.
fn status_without_job(row: &Row) -> &'static str {
    match row.error {
        Some(Error::Problem(_)) => "refused",
        _ => "not_sent",
    }
}

fn csv_words(rows: &[Row]) -> String {
    let mut text = csv::line(["source", "word", "count"]);
    for row in rows {
        for (word, count) in row.top.iter().flat_map(|top| &top.0) {
            text += &csv::line([row.name.as_str(), word, &count.to_string()]);
        }
    }
    text
}

/// Formats a table with a row for each source. Names follow the numbers, as in the output of `wc`,
/// so that wide and right-to-left letters do not misalign the columns of numbers.
fn format_summary(rows: &[Row]) -> String {
    let has_words = rows.iter().any(|row| row.top.is_some());
    let mut columns = TOTAL_TITLES.map(|title| (title, Alignment::Right)).to_vec();
    columns.push(("source", Alignment::Left));
    if has_words {
        columns.push(("most frequent", Alignment::Left));
    }
    let mut table = Table::new(&columns);
    let mut sum = Totals::default();
    for row in rows {
        let totals = row.succeeded().and_then(|fetched| fetched.job.totals);
        let mut cells = match totals {
            Some(totals) => {
                words::add_totals(&mut sum, &totals);
                [totals.words, totals.unique_words, totals.characters].map(format_number).to_vec()
            }
            None => vec!["-".to_owned(); TOTAL_TITLES.len()],
        };
        cells.push(row.name.clone());
        if let Some(top) = &row.top {
            let words =
                top.0.iter().map(|(word, count)| format!("{} {word}", format_number(*count)));
            cells.push(words.collect::<Vec<_>>().join(", "));
        }
        table.row(cells);
    }
    let total = "total".to_owned();
    table.row([format_number(sum.words), String::new(), format_number(sum.characters), total]);
    let mut text = table.render();
    for row in rows.iter().filter(|row| row.explanation.is_some()) {
        text += &format!("\n{}\n", replace_control_chars(&row.name));
        text += &row.explanation.as_ref().map(explain::format_table).unwrap_or_default();
    }
    text
}

/// Formats the details of a single source.
fn format_details(row: &Row, job: &Job) -> String {
    let totals = job.totals.unwrap_or_default();
    let by_rule = job.totals_by_rule.clone().unwrap_or_default();
    let mut text = format!(
        "{}\n{}",
        replace_control_chars(&row.name),
        format_totals(&totals, &by_rule, job.rule.as_ref())
    );
    text += &row.top.as_ref().map(format_words).unwrap_or_default();
    if let Some(explanation) = &row.explanation {
        text += &format!("\n{}", explain::format_table(explanation));
    }
    text
}

/// Formats the totals, and the words by other rules.
pub(crate) fn format_totals(
    totals: &Totals,
    by_rule: &std::collections::BTreeMap<String, u64>,
    rule: Option<&Rule>,
) -> String {
    let mut table =
        Table::new(&[("", Alignment::Left), ("", Alignment::Right), ("", Alignment::Left)]);
    let rule_text = rule.map(|rule| format!("by the rule {}, version {}", rule.name, rule.version));
    let without_spaces = format!("{} without spaces", format_number(totals.characters_no_spaces));
    table.row(["words".to_owned(), format_number(totals.words), rule_text.unwrap_or_default()]);
    table.row(["unique words".to_owned(), format_number(totals.unique_words), String::new()]);
    table.row(["characters".to_owned(), format_number(totals.characters), without_spaces]);
    let own_rule = rule.map(|rule| rule.name.as_str());
    for (rule, words) in by_rule.iter().filter(|(rule, _)| Some(rule.as_str()) != own_rule) {
        table.row([format!("words by {rule}"), format_number(*words), String::new()]);
    }
    table.render()
}

/// Formats one word per line, after its count.
pub(crate) fn format_words(words: &Words) -> String {
    let mut table = Table::new(&[("", Alignment::Right), ("", Alignment::Left)]);
    for (word, count) in &words.0 {
        table.row([format_number(*count), word.clone()]);
    }
    let lines = table.render();
    if lines.is_empty() { lines } else { format!("\n{lines}") }
}
