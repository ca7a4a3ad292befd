//! How fast the whole system is, next to what the broker alone can do: `make bench`.
//!
//! Everything runs on loopback, on this machine, in one run: our release binaries with their default
//! settings (tracing off, the log on and discarded), nats-server with `nats/server.conf`, the load
//! generator, a web site with pages to count, and beside each figure its *floor*: the same broker driven
//! by its client library with the same bytes and nothing else, a bare HTTP handler, or pages counted
//! without a broker. Ours and the floor take short slices of work in turns, so that the ratio of a round
//! says something even on a machine that does other things. It needs Linux, for `/proc`.
//!
//! Arguments: `--full` for larger backlogs, `--only <part of a name>`, `--update` to write the tables and
//! the picture into `docs/`; `--against <folder>` compares the services with others, of an earlier build
//! for example and perhaps with a `server.conf` of its own, and does nothing else.
//! Environment: `WORDMILL_BIN_DIR`, `NATS_SERVER`.

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
use self::raw_broker::{Raw, Templates};
use self::report::{Expense, Report};
use self::stack::{Broker, Cost, Stack, binaries, repository};

/// The services' own: the floor is to lack nothing that they have.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Where the tables of the last run are.
const BEGIN: &str = "<!-- make bench: begin -->\n";
const END: &str = "<!-- make bench: end -->\n";
/// The lanes of jobs that are submitted alone and with others.
const INTERACTIVE: &str = "interactive";
const BULK: &str = "bulk";
const TEXT_BYTES: usize = 1000;
const PAGE_BYTES: usize = 40_000;
const LARGE_PAGE_BYTES: usize = 2_000_000;

/// What was asked for.
struct Arguments {
    full: bool,
    only: String,
    update: bool,
    against: Option<PathBuf>,
}

/// One kind of job.
struct Work {
    site: Option<Site>,
    text: String,
    templates: Templates,
}

/// Everything that scenarios work with. Neither stack knows of the other.
struct Bench {
    stack: Stack,
    raw: Raw,
    raw_broker: Broker,
    floor: SocketAddr,
    _floor_process: Process,
    text: Work,
    page: Work,
    large_page: Work,
    report: Report,
}

fn main() -> Result<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let runtime = runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    if let [baseline::SERVE, address, nats] = words.as_slice() {
        return runtime.block_on(baseline::serve(address, nats));
    }
    runtime.block_on(run(&read(&words)?))
}

fn read(words: &[&str]) -> Result<Arguments> {
    let mut arguments =
        Arguments { full: false, only: String::new(), update: false, against: None };
    let mut words = words.iter();
    while let Some(&word) = words.next() {
        match word {
            "--full" => arguments.full = true,
            "--update" => arguments.update = true,
            "--only" => arguments.only = (*words.next().context("--only what?")?).to_owned(),
            "--against" => {
                arguments.against = Some(words.next().context("--against what?")?.into())
            }
            // What `cargo bench` adds.
            "--bench" => {}
            _ => bail!("unknown argument {word}"),
        }
    }
    ensure!(!arguments.update || arguments.only.is_empty(), "only a whole run is written down");
    Ok(arguments)
}

async fn run(arguments: &Arguments) -> Result<()> {
    let started = Instant::now();
    let mut bench = Bench::start().await?;
    if let Some(folder) = &arguments.against {
        bench.stack.start_worker().await?;
        compare_builds::measure(&mut bench, folder).await?;
        println!("\n{}", conditions(&bench, started)?);
        return Ok(());
    }
    let wanted = |name: &str| name.contains(&arguments.only);
    // As long as there is no worker, jobs wait.
    if wanted("submissions") {
        submissions::measure(&mut bench).await?;
    }
    if wanted("batches") {
        batches::measure(&mut bench).await?;
    }
    if wanted("waiters") {
        waiters::measure(&mut bench).await?;
    }
    if wanted("polls") {
        polls::measure(&mut bench, polls::Job::Queued).await?;
    }
    bench.forget_jobs().await?;
    bench.stack.start_worker().await?;
    bench.take_ends().await?;
    if wanted("polls") {
        polls::measure(&mut bench, polls::Job::Finished).await?;
    }
    if wanted("jobs") {
        jobs::measure(&mut bench).await?;
    }
    if wanted("latency") {
        jobs::measure_latency(&mut bench).await?;
    }
    if wanted("workers") {
        scaling::with_workers(&mut bench).await?;
    }
    if wanted("backlog") {
        let backlogs: &[usize] = if arguments.full { &[200_000, 1_000_000] } else { &[100_000] };
        for backlog in backlogs {
            scaling::with_backlog(&mut bench, *backlog).await?;
        }
    }
    bench.report.conditions = conditions(&bench, started)?;
    println!("{}", bench.report.markdown());
    write(&bench.report, arguments)
}

impl Bench {
    async fn start() -> Result<Self> {
        let stack = Stack::start().await?;
        let raw_broker = Broker::start_for(&binaries()).await?;
        let (floor_process, floor) = baseline::start(&stack.broker.url).await?;
        Ok(Self {
            text: Work::text(&stack).await?,
            page: Work::page(&stack, PAGE_BYTES).await?,
            large_page: Work::page(&stack, LARGE_PAGE_BYTES).await?,
            raw: Raw::connect(&raw_broker.url).await?,
            stack,
            raw_broker,
            floor,
            _floor_process: floor_process,
            report: Report::default(),
        })
    }

    /// Forgets all jobs of the stack and of the raw broker.
    async fn forget_jobs(&self) -> Result<()> {
        self.stack.broker.purge().await?;
        self.raw_broker.purge().await
    }

    /// Lets the worker finish a job of each kind, and keeps what it leaves.
    async fn take_ends(&mut self) -> Result<()> {
        for work in [&mut self.text, &mut self.page, &mut self.large_page] {
            let id = self.stack.submit(&work.body(0)).await?;
            self.stack.broker.wait_for_jobs(0).await?;
            work.templates.take_end(&self.stack.broker.jetstream, &id).await?;
        }
        Ok(())
    }

    /// Notes what the raw broker took since `before` seconds of its CPU time.
    fn note_floor(&mut self, what: &str, jobs: usize, before: f64) -> Result<()> {
        let broker = &self.raw_broker.process;
        let cpu_us = (broker.cpu_seconds()? - before) / jobs as f64 * 1e6;
        let memory_mib = broker.memory_bytes()? as f64 / f64::from(1 << 20);
        let (cpu_us, memory_mib) = ([0.0, 0.0, cpu_us], [0.0, 0.0, memory_mib]);
        self.report.spend(Expense { what: format!("{what}, raw"), jobs, cpu_us, memory_mib });
        Ok(())
    }

    /// Notes what the processes took since `before` for so many jobs.
    fn note_expense(
        &mut self,
        what: impl Into<String>,
        jobs: usize,
        before: &[Cost; 3],
    ) -> Result<()> {
        let after = self.stack.costs()?;
        self.report.spend(expense(what, jobs, before, &after));
        Ok(())
    }
}

fn expense(what: impl Into<String>, jobs: usize, before: &[Cost; 3], after: &[Cost; 3]) -> Expense {
    let mut spent = Expense { what: what.into(), jobs, cpu_us: [0.0; 3], memory_mib: [0.0; 3] };
    for (place, (before, after)) in before.iter().zip(after).enumerate() {
        spent.cpu_us[place] = (after.cpu_seconds - before.cpu_seconds) / jobs as f64 * 1e6;
        spent.memory_mib[place] = after.memory_bytes as f64 / f64::from(1 << 20);
    }
    spent
}

impl Work {
    async fn text(stack: &Stack) -> Result<Self> {
        Self::of(stack, None, pages::text(TEXT_BYTES)).await
    }

    async fn page(stack: &Stack, bytes: usize) -> Result<Self> {
        Self::of(stack, Some(Site::serve(&pages::page(bytes)).await?), String::new()).await
    }

    async fn of(stack: &Stack, site: Option<Site>, text: String) -> Result<Self> {
        let body = body(site.as_ref(), &text, 0);
        let id = stack.submit(&body).await?;
        Ok(Self {
            templates: Templates::waiting(&stack.broker.jetstream, INTERACTIVE, &id).await?,
            site,
            text,
        })
    }

    /// Returns the body of request `number`.
    fn body(&self, number: usize) -> serde_json::Value {
        body(self.site.as_ref(), &self.text, number)
    }

    /// Returns the requests that submit it; `fields` are further header fields.
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

/// Says under which conditions the figures hold.
fn conditions(bench: &Bench, started: Instant) -> Result<String> {
    let cpus = std::thread::available_parallelism()?;
    let processor = fs::read_to_string("/proc/cpuinfo")?;
    let processor = processor.lines().find_map(|line| line.strip_prefix("model name"));
    let processor = processor.map_or("unknown", |name| name.trim_start_matches(['\t', ' ', ':']));
    let load = fs::read_to_string("/proc/loadavg")?;
    let load = load.split(' ').nth(2).unwrap_or_default().to_owned();
    let nats = bench.stack.broker.jetstream.client().server_info().version;
    Ok(format!(
        "{cpus} processors ({processor}) for everything, load generator included; nats-server {nats}, one server, \
         `sync_interval: 1s`; tracing off, log at `info` and discarded; texts of {TEXT_BYTES} bytes; {:.0} min, load of the machine \
         in the end {load}.",
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
            text.split_once(BEGIN).context("docs/performance.md has no place for it")?;
        let (_, after) = rest.split_once(END).context("docs/performance.md has no end of it")?;
        fs::write(page, format!("{before}{BEGIN}{}{END}{after}", report.markdown()))?;
    }
    Ok(())
}
