//! Report of a run, as Markdown tables and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::measure::{Spread, VariantResult};

/// Rows of docs/performance.md, by the beginning of their names. Each entry selects the first
/// matching row. Later rows, for example with more workers, are omitted.
const PAGE_ROWS: &[&str] = &[
    "submissions, text of 1 kB",
    "batch lines, text of 1 kB",
    "polls, finished job",
    "full jobs, text of 1 kB",
    "full jobs, page of 40 kB",
    "full jobs, page of 2 MB",
    "text of 1 kB, alone",
    "text of 1 kB, at",
];
/// Expenses of that page, selected in the same way.
const PAGE_EXPENSES: &[&str] = &[
    "submissions, text of 1 kB",
    "polls, finished job",
    "full jobs, text of 1 kB",
    "full jobs, page of 40 kB",
    "full jobs, page of 2 MB",
];

/// Target of a row.
#[derive(Clone, Copy)]
pub enum Target {
    /// Minimum ratio to the baseline.
    MinRatio(f64),
    /// Maximum ratio to the baseline.
    MaxRatio(f64),
    /// Maximum value of Wordmill, in the unit of the row.
    MaxValue(f64),
}

/// One measurement of Wordmill and its baseline.
pub struct Row {
    pub name: String,
    /// The unit of `wordmill` and `baseline`.
    pub unit: &'static str,
    pub wordmill: Spread,
    pub baseline: Option<(String, Spread)>,
    pub ratio: Option<Spread>,
    pub target: Option<Target>,
    /// Latencies in milliseconds: the percentiles 50, 99 and 99.9.
    pub latencies_ms: Option<[f64; 3]>,
}

impl Row {
    /// Compares rates per second.
    pub fn rate(
        name: impl Into<String>,
        wordmill: &VariantResult,
        baseline: &VariantResult,
    ) -> Self {
        Self {
            name: name.into(),
            unit: "per s",
            wordmill: wordmill.rate(),
            baseline: Some((baseline.name.clone(), baseline.rate())),
            ratio: Some(wordmill.ratio_to(baseline)),
            target: None,
            latencies_ms: (!wordmill.latencies.is_empty()).then(|| latencies_ms(wordmill)),
        }
    }

    /// Compares median latencies.
    pub fn time(
        name: impl Into<String>,
        wordmill: &VariantResult,
        baseline: Option<&VariantResult>,
    ) -> Self {
        let median = |measured: &VariantResult| single_value(measured.percentile_ms(500));
        Self {
            name: name.into(),
            unit: "ms",
            wordmill: median(wordmill),
            baseline: baseline.map(|baseline| (baseline.name.clone(), median(baseline))),
            ratio: baseline.map(|baseline| {
                single_value(wordmill.percentile_ms(500) / baseline.percentile_ms(500))
            }),
            target: None,
            latencies_ms: Some(latencies_ms(wordmill)),
        }
    }

    pub fn with_target(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }

    /// Returns whether the target is met; `None` without a target.
    pub fn is_met(&self) -> Option<bool> {
        let ratio = self.ratio.map_or(f64::NAN, |ratio| ratio.median);
        Some(match self.target? {
            Target::MinRatio(least) => ratio >= least,
            Target::MaxRatio(most) => ratio <= most,
            Target::MaxValue(most) => self.wordmill.median <= most,
        })
    }

    fn line(&self) -> String {
        let baseline = self.baseline.as_ref();
        let baseline = baseline.map_or(String::new(), |(name, rate)| {
            format!("{} ({name})", format_number(rate.median))
        });
        let target = match self.target {
            None => String::new(),
            Some(Target::MinRatio(least)) => format!("≥ {least}"),
            Some(Target::MaxRatio(most)) => format!("≤ {most}"),
            Some(Target::MaxValue(most)) => format!("≤ {most} {}", self.unit),
        };
        let verdict = self.is_met().map_or("", |met| if met { ", met" } else { ", **missed**" });
        let ratio = self.ratio.map_or(String::new(), |ratio| {
            if ratio.low == ratio.high {
                format!("{:.2}", ratio.median)
            } else {
                format!("{:.2} ({:.2} to {:.2})", ratio.median, ratio.low, ratio.high)
            }
        });
        let times = self.latencies_ms.map_or("| | |".to_owned(), |times| {
            let [p50, p99, p999] = times.map(|time| format!("{time:.2}"));
            format!("{p50} | {p99} | {p999} |")
        });
        let wordmill = format!("{} {}", format_number(self.wordmill.median), self.unit);
        format!("| {} | {wordmill} | {baseline} | {ratio} | {target}{verdict} | {times}", self.name)
    }

    pub fn json(&self) -> Value {
        let spread = |spread: &Spread| {
            let Spread { median, low, high } = spread;
            json!({"median": median, "low": low, "high": high})
        };
        let target = self.target.map(|target| match target {
            Target::MinRatio(least) => json!({"ratio_min": least}),
            Target::MaxRatio(most) => json!({"ratio_max": most}),
            Target::MaxValue(most) => json!({"value_max": most}),
        });
        json!({
            "what": self.name,
            "unit": self.unit,
            "wordmill": spread(&self.wordmill),
            "baseline": self
                .baseline
                .as_ref()
                .map(|(name, rate)| json!({"name": name, "value": spread(rate)})),
            "ratio": self.ratio.as_ref().map(spread),
            "target": target,
            "is_met": self.is_met(),
            "p50_p99_p999_ms": self.latencies_ms,
        })
    }
}

fn single_value(value: f64) -> Spread {
    Spread { median: value, low: value, high: value }
}

fn latencies_ms(measured: &VariantResult) -> [f64; 3] {
    [500, 990, 999].map(|per_mille| measured.percentile_ms(per_mille))
}

fn format_number(value: f64) -> String {
    let digits = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.digits$}")
}

/// CPU time and memory of the processes for one kind of work.
pub struct Expense {
    pub name: String,
    pub jobs: usize,
    /// CPU time per job in microseconds: gateway, workers, broker.
    pub cpu_us: [f64; 3],
    /// Resident memory in MiB, in the same order.
    pub memory_mib: [f64; 3],
}

impl Expense {
    fn line(&self) -> String {
        let [gateway, worker, broker] = self.cpu_us.map(|cpu| format!("{cpu:.0}"));
        let [gateway_mib, worker_mib, broker_mib] = self.memory_mib.map(|mib| format!("{mib:.0}"));
        let Self { name, jobs, .. } = self;
        format!(
            "| {name} | {jobs} | {gateway} | {worker} | {broker} | {gateway_mib} | {worker_mib} \
             | {broker_mib} |"
        )
    }

    pub fn json(&self) -> Value {
        let by_service = |values: [f64; 3]| {
            let [gateway, worker, broker] = values;
            json!({"gateway": gateway, "worker": worker, "broker": broker})
        };
        json!({
            "what": self.name,
            "jobs": self.jobs,
            "cpu_us_per_job": by_service(self.cpu_us),
            "memory_mib": by_service(self.memory_mib),
        })
    }
}

/// All results of a run.
#[derive(Default)]
pub struct Report {
    pub conditions: String,
    pub rows: Vec<Row>,
    pub expenses: Vec<Expense>,
}

impl Report {
    pub fn add(&mut self, row: Row) {
        eprintln!("{}", row.line());
        self.rows.push(row);
    }

    pub fn add_expense(&mut self, expense: Expense) {
        eprintln!("{}", expense.line());
        self.expenses.push(expense);
    }

    /// Returns all rows and expenses as tables.
    pub fn markdown(&self) -> String {
        self.tables(self.rows.iter(), self.expenses.iter())
    }

    /// Returns the tables with the main rows and expenses, for `docs/performance.md`.
    pub fn page_markdown(&self) -> String {
        let rows = PAGE_ROWS
            .iter()
            .filter_map(|name| self.rows.iter().find(|row| row.name.starts_with(*name)));
        let expenses = PAGE_EXPENSES
            .iter()
            .filter_map(|name| self.expenses.iter().find(|row| row.name.starts_with(*name)));
        self.tables(rows, expenses)
    }

    fn tables<'a>(
        &self,
        rows: impl Iterator<Item = &'a Row>,
        expenses: impl Iterator<Item = &'a Expense>,
    ) -> String {
        let mut text = format!("{}\n\n", self.conditions);
        text.push_str(
            "| measurement | Wordmill | baseline | ratio (rounds) | target | p50 ms | p99 ms \
             | p99.9 ms |\n",
        );
        text.push_str("|---|---|---|---|---|---|---|---|\n");
        for row in rows {
            let _ = writeln!(text, "{}", row.line());
        }
        text.push_str(
            "\n| CPU and memory | jobs | gateway, µs per job | worker | nats-server | gateway, MiB \
             | worker | nats-server |\n",
        );
        text.push_str("|---|---|---|---|---|---|---|---|\n");
        for expense in expenses {
            let _ = writeln!(text, "{}", expense.line());
        }
        text
    }

    pub fn json(&self) -> Value {
        json!({
            "conditions": self.conditions,
            "rows": self.rows.iter().map(Row::json).collect::<Vec<_>>(),
            "expenses": self.expenses.iter().map(Expense::json).collect::<Vec<_>>(),
        })
    }
}
