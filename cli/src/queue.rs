//! `wordmill queue`: shows queued and running jobs, and the workers.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::arguments::{Format, PrintArguments};
use crate::csv;
use crate::error::Error;
use crate::json;
use crate::request::Request;
use crate::session::Session;
use crate::table::{Alignment, Table};
use crate::text::format_number;

#[derive(Debug, Deserialize)]
struct Queue {
    lanes: BTreeMap<String, Lane>,
    workers: Vec<Worker>,
}

#[derive(Debug, Deserialize)]
struct Lane {
    depth: u64,
    waiting: u64,
    in_work: u64,
    waiting_for_retry: u64,
    redelivered: u64,
    oldest_age_ms: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Worker {
    name: String,
    slots: u64,
    in_work: BTreeMap<String, u64>,
}

/// Runs `wordmill queue`.
///
/// # Errors
/// Errors of the request and of the output.
pub(crate) async fn run(session: &Session, arguments: PrintArguments) -> Result<(), Error> {
    let mut out = session.open_output(&arguments)?;
    let response = session.client.send(&Request::get(&["v1", "queue"])).await?;
    let value: Value = response.json()?;
    let queue: Queue = response.json()?;
    let text = match arguments.format {
        Format::Table => format_table(&queue),
        Format::Json => json::pretty(&value)?,
        Format::Csv => format_csv(&queue),
    };
    out.text(&text)?;
    out.finish()
}

fn format_table(queue: &Queue) -> String {
    let titles = ["unfinished", "waiting", "running", "for retry", "redelivered", "oldest"];
    let mut columns = vec![("lane", Alignment::Left)];
    columns.extend(titles.map(|title| (title, Alignment::Right)));
    let mut table = Table::new(&columns);
    for (name, lane) in &queue.lanes {
        let oldest = lane.oldest_age_ms.map_or_else(|| "-".to_owned(), format_age);
        let numbers = lane.numbers().map(format_number);
        table.row([name.clone()].into_iter().chain(numbers).chain([oldest]));
    }
    let lanes = table.render();
    if queue.workers.is_empty() {
        return format!("{lanes}\nNo worker is running. Jobs stay queued until one starts.\n");
    }
    let columns =
        [("worker", Alignment::Left), ("running", Alignment::Right), ("slots", Alignment::Right)];
    let mut table = Table::new(&columns);
    for worker in &queue.workers {
        let in_work = worker.in_work.values().sum();
        table.row([worker.name.clone(), format_number(in_work), format_number(worker.slots)]);
    }
    format!("{lanes}\n{}", table.render())
}

fn format_csv(queue: &Queue) -> String {
    let titles = [
        "lane",
        "depth",
        "waiting",
        "in_work",
        "waiting_for_retry",
        "redelivered",
        "oldest_age_ms",
    ];
    let mut text = csv::line(titles);
    for (name, lane) in &queue.lanes {
        let numbers = lane.numbers().map(|number| number.to_string());
        let oldest = lane.oldest_age_ms.map(|age| age.to_string()).unwrap_or_default();
        let fields = [name.clone()].into_iter().chain(numbers).chain([oldest]);
        text += &csv::line(fields.collect::<Vec<_>>().iter().map(String::as_str));
    }
    text
}

impl Lane {
    fn numbers(&self) -> [u64; 5] {
        [self.depth, self.waiting, self.in_work, self.waiting_for_retry, self.redelivered]
    }
}

/// Formats an age in the largest unit that fits, rounded down, for example `2 h`.
fn format_age(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_rounded_down_to_one_unit() {
        for (ms, text) in [
            (999, "0 s"),
            (59_999, "59 s"),
            (60_000, "1 min"),
            (7_200_000, "2 h"),
            (200_000_000, "2 d"),
        ] {
            assert_eq!(format_age(ms), text);
        }
    }

    #[test]
    fn a_queue_without_workers_is_reported() {
        let lane = r#"{"depth":1200,"waiting":1200,"in_work":0,"waiting_for_retry":0,"redelivered":3,"oldest_age_ms":61000}"#;
        let queue = format!(r#"{{"lanes":{{"bulk":{lane}}},"workers":[],"depth":7}}"#);
        let queue: Queue = serde_json::from_str(&queue).unwrap();
        let text = format_table(&queue);
        assert!(
            text.contains("bulk       1,200    1,200        0          0            3   1 min"),
            "{text}"
        );
        assert!(
            text.ends_with("\nNo worker is running. Jobs stay queued until one starts.\n"),
            "{text}"
        );
        assert!(format_csv(&queue).ends_with("bulk,1200,1200,0,0,3,61000\r\n"));
    }
}
