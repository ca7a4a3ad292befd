//! Measures the speed of the whole system, compared with the broker alone: `make bench`.
//!
//! Everything runs on loopback, on this machine, in one run: the release binaries with their
//! default settings (tracing off, the log on and discarded), nats-server with `nats/server.conf`,
//! the load generator, and a web site with pages to count. Each figure has a *baseline*: the same
//! broker, driven by its client library with the same bytes, a minimal HTTP handler, or pages
//! counted without a broker. Wordmill and the baseline run short slices of work in turns, so that
//! the ratio of a round is valid even under other load. Requires Linux, for `/proc`.
//!
//! Arguments:
//! - `--full` measures larger backlogs.
//! - `--only <part of a name>` selects measurements.
//! - `--update` writes the main tables and the picture into `docs/`.
//! - `--against <folder>` only compares the services with another build, for example of an earlier
//!   commit. The folder may contain its own `server.conf`.
//!
//! Environment variables: `WORDMILL_BIN_DIR`, `NATS_SERVER`.

#![expect(
    clippy::disallowed_methods,
    reason = "a program for the terminal, which may block while it stops"
)]

mod baseline;
mod batches;
mod compare_builds;
mod http;
mod jobs;
mod measure;
mod pages;
mod plot;
mod polls;
mod process;
mod raw_broker;
mod report;
mod scaling;
mod stack;
mod submissions;
mod waiters;

use std::env;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use serde_json::json;
use tokio::runtime;

use self::pages::Site;
use self::process::Process;
use self::raw_broker::{JobTemplates, RawBroker};
use self::report::{Expense, Report};
use self::stack::{Broker, Cost, Stack, binaries, repository};

/// Allocator of the services. The baseline must use the same one.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Markers around the tables in docs/performance.md.
const BEGIN: &str = "<!-- make bench: begin -->\n";
const END: &str = "<!-- make bench: end -->\n";
/// Lanes of single jobs and of members of a batch.
const INTERACTIVE: &str = "interactive";
const BULK: &str = "bulk";
const TEXT_BYTES: usize = 1000;
const PAGE_BYTES: usize = 40_000;
const LARGE_PAGE_BYTES: usize = 2_000_000;

/// Command-line arguments; the module documentation describes them.
struct Arguments {
    full: bool,
    only: String,
    update: bool,
    against: Option<PathBuf>,
}

/// One kind of job.
struct JobKind {
    site: Option<Site>,
    text: String,
    templates: JobTemplates,
}

/// The services and baselines of all measurements. The two brokers are independent.
struct Bench {
    stack: Stack,
    raw: RawBroker,
    raw_server: Broker,
    baseline_address: SocketAddr,
    _baseline_process: Process,
    text: JobKind,
    page: JobKind,
    large_page: JobKind,
    report: Report,
}

fn main() -> Result<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let runtime = runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    if let [baseline::SERVE_ARGUMENT, address, nats] = words.as_slice() {
        return runtime.block_on(baseline::serve(address, nats));
    }
    runtime.block_on(run(&parse_arguments(&words)?))
}

fn parse_arguments(words: &[&str]) -> Result<Arguments> {
    let mut arguments =
        Arguments { full: false, only: String::new(), update: false, against: None };
    let mut words = words.iter();
    while let Some(&word) = words.next() {
        match word {
            "--full" => arguments.full = true,
            "--update" => arguments.update = true,
            "--only" => arguments.only = (*words.next().context("--only needs a name")?).to_owned(),
            "--against" => {
                arguments.against = Some(words.next().context("--against needs a folder")?.into())
            }
            // Added by `cargo bench`.
            "--bench" => {}
            _ => bail!("unknown argument {word}"),
        }
    }
    ensure!(!arguments.update || arguments.only.is_empty(), "--update excludes --only");
    Ok(arguments)
}

async fn run(arguments: &Arguments) -> Result<()> {
    let started = Instant::now();
    let mut bench = Bench::start().await?;
    if let Some(folder) = &arguments.against {
        bench.stack.start_worker().await?;
        compare_builds::measure(&mut bench, folder).await?;
        println!("\n{}", describe_conditions(&bench, started)?);
        return Ok(());
    }
    let is_selected = |name: &str| name.contains(&arguments.only);
    // Without a worker, jobs stay queued.
    if is_selected("submissions") {
        submissions::measure(&mut bench).await?;
    }
    if is_selected("batches") {
        batches::measure(&mut bench).await?;
    }
    if is_selected("waiters") {
        waiters::measure(&mut bench).await?;
    }
    if is_selected("polls") {
        polls::measure(&mut bench, polls::Job::Queued).await?;
    }
    bench.purge_jobs().await?;
    bench.stack.start_worker().await?;
    bench.store_final_records().await?;
    if is_selected("polls") {
        polls::measure(&mut bench, polls::Job::Finished).await?;
    }
    if is_selected("jobs") {
        jobs::measure(&mut bench).await?;
    }
    if is_selected("latency") {
        jobs::measure_latency(&mut bench).await?;
    }
    if is_selected("workers") {
        scaling::with_workers(&mut bench).await?;
    }
    if is_selected("backlog") {
        let backlogs: &[usize] = if arguments.full { &[200_000, 1_000_000] } else { &[100_000] };
        for backlog in backlogs {
            scaling::with_backlog(&mut bench, *backlog).await?;
        }
    }
    bench.report.conditions = describe_conditions(&bench, started)?;
    println!("{}", bench.report.markdown());
    write(&bench.report, arguments)
}

impl Bench {
    async fn start() -> Result<Self> {
        let stack = Stack::start().await?;
        let raw_server = Broker::start_for(&binaries()).await?;
        let (baseline_process, baseline_address) = baseline::start(&stack.broker.url).await?;
        Ok(Self {
            text: JobKind::text(&stack).await?,
            page: JobKind::page(&stack, PAGE_BYTES).await?,
            large_page: JobKind::page(&stack, LARGE_PAGE_BYTES).await?,
            raw: RawBroker::connect(&raw_server.url).await?,
            stack,
            raw_server,
            baseline_address,
            _baseline_process: baseline_process,
            report: Report::default(),
        })
    }

    /// Deletes all jobs of the stack and of the raw broker.
    async fn purge_jobs(&self) -> Result<()> {
        self.stack.broker.purge().await?;
        self.raw_server.purge().await
    }

    /// Lets the worker finish a job of each kind, and loads its final record.
    async fn store_final_records(&mut self) -> Result<()> {
        for job_kind in [&mut self.text, &mut self.page, &mut self.large_page] {
            let id = self.stack.submit(&job_kind.body(0)).await?;
            self.stack.broker.wait_for_jobs(0).await?;
            job_kind.templates.add_final_record(&self.stack.broker.jetstream, &id).await?;
        }
        Ok(())
    }

    /// Adds the CPU time and the memory of the raw broker to the report. `before` is its CPU time
    /// at the start of the measurement, in seconds.
    fn record_baseline_expense(&mut self, name: &str, jobs: usize, before: f64) -> Result<()> {
        let broker = &self.raw_server.process;
        let cpu_us = (broker.cpu_seconds()? - before) / jobs as f64 * 1e6;
        let memory_mib = broker.memory_bytes()? as f64 / f64::from(1 << 20);
        self.report.add_expense(Expense {
            name: format!("{name}, raw"),
            jobs,
            cpu_us: [0.0, 0.0, cpu_us],
            memory_mib: [0.0, 0.0, memory_mib],
        });
        Ok(())
    }

    /// Adds the CPU time of the services since `before`, for `jobs` jobs, and their memory to the
    /// report.
    fn record_expense(
        &mut self,
        name: impl Into<String>,
        jobs: usize,
        before: &[Cost; 3],
    ) -> Result<()> {
        let after = self.stack.costs()?;
        self.report.add_expense(compute_expense(name, jobs, before, &after));
        Ok(())
    }
}

fn compute_expense(
    name: impl Into<String>,
    jobs: usize,
    before: &[Cost; 3],
    after: &[Cost; 3],
) -> Expense {
    let mut expense = Expense { name: name.into(), jobs, cpu_us: [0.0; 3], memory_mib: [0.0; 3] };
    for (index, (before, after)) in before.iter().zip(after).enumerate() {
        expense.cpu_us[index] = (after.cpu_seconds - before.cpu_seconds) / jobs as f64 * 1e6;
        expense.memory_mib[index] = after.memory_bytes as f64 / f64::from(1 << 20);
    }
    expense
}

impl JobKind {
    async fn text(stack: &Stack) -> Result<Self> {
        Self::load(stack, None, pages::text(TEXT_BYTES)).await
    }

    async fn page(stack: &Stack, bytes: usize) -> Result<Self> {
        Self::load(stack, Some(Site::serve(&pages::page(bytes)).await?), String::new()).await
    }

    /// Submits one job, and loads its message and record as templates for the raw broker.
    async fn load(stack: &Stack, site: Option<Site>, text: String) -> Result<Self> {
        let body = body(site.as_ref(), &text, 0);
        let id = stack.submit(&body).await?;
        Ok(Self {
            templates: JobTemplates::of_queued_job(&stack.broker.jetstream, INTERACTIVE, &id)
                .await?,
            site,
            text,
        })
    }

    /// Returns the body of request `number`.
    fn body(&self, number: usize) -> serde_json::Value {
        body(self.site.as_ref(), &self.text, number)
    }

    /// Returns the requests that submit jobs of this kind; `fields` are further header fields.
    fn requests(&self, fields: &str) -> http::Requests {
        let kinds: Vec<Bytes> = (0..pages::HOSTS.into())
            .map(|number| http::post("/v1/jobs", self.body(number).to_string().as_bytes(), fields))
            .collect();
        std::sync::Arc::new(move |number| kinds[number % kinds.len()].clone())
    }
}

fn body(site: Option<&Site>, text: &str, number: usize) -> serde_json::Value {
    match site {
        Some(site) => json!({"url": site.url(number)}),
        None => json!({"text": text}),
    }
}

/// Describes the conditions of the run.
fn describe_conditions(bench: &Bench, started: Instant) -> Result<String> {
    let cpus = std::thread::available_parallelism()?;
    let processor = fs::read_to_string("/proc/cpuinfo")?;
    let processor = processor.lines().find_map(|line| line.strip_prefix("model name"));
    let processor = processor.map_or("unknown", |name| name.trim_start_matches(['\t', ' ', ':']));
    let load = fs::read_to_string("/proc/loadavg")?;
    let load = load.split(' ').nth(2).unwrap_or_default().to_owned();
    let nats = bench.stack.broker.jetstream.client().server_info().version;
    Ok(format!(
        "{cpus} processors ({processor}) for everything, load generator included; nats-server \
         {nats}, one server, `sync_interval: 1s`; tracing off, log at `info` and discarded; texts \
         of {TEXT_BYTES} bytes; {:.0} min, load average of the last 15 min {load}.",
        started.elapsed().as_secs_f64() / 60.0
    ))
}

fn write(report: &Report, arguments: &Arguments) -> Result<()> {
    let folder = repository().join("target/bench");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("bench.json"), serde_json::to_vec_pretty(&report.json())?)?;
    fs::write(folder.join("bench.svg"), plot::draw(report))?;
    eprintln!("written to target/bench: bench.json, bench.svg");
    if arguments.update {
        fs::write(repository().join("docs/images/performance.svg"), plot::draw(report))?;
        let page = repository().join("docs/performance.md");
        let text = fs::read_to_string(&page)?;
        let (before, rest) =
            text.split_once(BEGIN).context("docs/performance.md has no begin marker")?;
        let (_, after) = rest.split_once(END).context("docs/performance.md has no end marker")?;
        fs::write(page, format!("{before}{BEGIN}{}{END}{after}", report.page_markdown()))?;
    }
    Ok(())
}
