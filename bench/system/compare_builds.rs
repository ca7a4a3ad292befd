//! These services next to others, of an earlier build for example: what a change is worth.

use std::path::Path;

use anyhow::Result;

use crate::http::{Requests, load};
use crate::jobs::{PAGES, TEXTS, take_through};
use crate::measure::{Bounds, Side, Spread, in_turns};
use crate::polls::{self, Job};
use crate::stack::{Cost, Stack};
use crate::submissions::CONNECTIONS;
use crate::{Bench, expense};

const BOUNDS: Bounds = Bounds { rounds: 10, seconds: 25 };
/// Polls of one slice.
const POLLS: usize = 4000;

/// Prints, for each kind of work, how fast both are and what it takes of each process.
pub async fn measure(bench: &mut Bench, folder: &Path) -> Result<()> {
    let mut other = Stack::start_from(folder.to_owned()).await?;
    other.start_worker().await?;
    let (ours, other) = (&bench.stack, &other);
    println!(
        "| what | working tree, per s | other, per s | ratio (rounds) | CPU µs per job, working tree: gateway, worker, nats-server | other |"
    );
    println!("|---|---|---|---|---|---|");
    for (what, work, count) in
        [("jobs, text", &bench.text, TEXTS), ("jobs, page", &bench.page, PAGES)]
    {
        let requests = &work.requests("");
        let through = |stack| move || take_through(stack, count, requests, CONNECTIONS[0]);
        let sides = [Side::new("working tree", through(ours)), Side::new("other", through(other))];
        compare(what, &sides, [ours, other]).await?;
    }
    for stack in [ours, other] {
        stack.pause_workers(true)?;
    }
    let requests = &bench.text.requests("");
    let submit = |stack: &Stack| submitting(stack, requests.clone());
    compare("submissions, text", &[submit(ours), submit(other)], [ours, other]).await?;
    for stack in [ours, other] {
        stack.pause_workers(false)?;
        stack.broker.wait_for_jobs(0).await?;
    }
    let mut sides = Vec::new();
    for stack in [ours, other] {
        let id = polls::one(bench, stack, Job::Finished).await?;
        sides.push(polls::side("polls", stack.address, format!("/v1/jobs/{id}"), CONNECTIONS[0]));
    }
    compare("polls, finished", &sides, [ours, other]).await
}

fn submitting(stack: &Stack, requests: Requests) -> Side<'static> {
    let address = stack.address;
    Side::new("submissions", move || {
        let requests = requests.clone();
        async move { load(address, CONNECTIONS[0], POLLS, &requests, 202).await }
    })
}

async fn compare(what: &str, sides: &[Side<'_>], stacks: [&Stack; 2]) -> Result<()> {
    let before: [[Cost; 3]; 2] = [stacks[0].costs()?, stacks[1].costs()?];
    let measured = in_turns(sides, BOUNDS).await?;
    let [these, those] = measured.as_slice() else { return Ok(()) };
    let spent = |side: usize, jobs| -> Result<String> {
        let cpu = expense(what, jobs, &before[side], &stacks[side].costs()?).cpu_us;
        Ok(format!("{:.0}, {:.0}, {:.0}", cpu[0], cpu[1], cpu[2]))
    };
    let Spread { median, low, high } = these.share_of(those);
    println!(
        "| {what} | {:.0} | {:.0} | {median:.2} ({low:.2} to {high:.2}) | {} | {} |",
        these.rate().median,
        those.rate().median,
        spent(0, these.done)?,
        spent(1, those.done)?,
    );
    Ok(())
}
