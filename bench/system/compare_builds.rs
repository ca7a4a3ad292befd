//! Compares the services of the working tree with another build, for example of an earlier commit,
//! to measure the effect of a change.

use std::path::Path;

use anyhow::Result;

use crate::http::{Requests, load};
use crate::jobs::{PAGES, TEXTS, run_jobs};
use crate::measure::{Bounds, Spread, Variant, run_in_turns};
use crate::polls::{self, Job};
use crate::stack::{Cost, Stack};
use crate::submissions::CONNECTIONS;
use crate::{Bench, compute_expense};

const BOUNDS: Bounds = Bounds { rounds: 10, seconds: 25 };
/// Polls of one slice.
const POLLS: usize = 4000;

/// Prints the speed of both builds for each kind of job, and the CPU time of each process.
pub async fn measure(bench: &mut Bench, folder: &Path) -> Result<()> {
    let mut other = Stack::start_from(folder.to_owned()).await?;
    other.start_worker().await?;
    let working_tree = &bench.stack;
    let other = &other;
    println!(
        "| measurement | working tree, per s | other, per s | ratio (rounds) \
         | CPU µs per job, working tree: gateway, worker, nats-server | other |"
    );
    println!("|---|---|---|---|---|---|");
    for (name, job_kind, count) in
        [("jobs, text", &bench.text, TEXTS), ("jobs, page", &bench.page, PAGES)]
    {
        let requests = &job_kind.requests("");
        let run_jobs_at = |stack| move || run_jobs(stack, count, requests, CONNECTIONS[0]);
        let variants = [
            Variant::new("working tree", run_jobs_at(working_tree)),
            Variant::new("other", run_jobs_at(other)),
        ];
        compare(name, &variants, [working_tree, other]).await?;
    }
    for stack in [working_tree, other] {
        stack.pause_workers(true)?;
    }
    let requests = &bench.text.requests("");
    let submit = |stack: &Stack| submission_variant(stack, requests.clone());
    compare("submissions, text", &[submit(working_tree), submit(other)], [working_tree, other])
        .await?;
    for stack in [working_tree, other] {
        stack.pause_workers(false)?;
        stack.broker.wait_for_jobs(0).await?;
    }
    let mut variants = Vec::new();
    for stack in [working_tree, other] {
        let id = polls::submit_job(bench, stack, Job::Finished).await?;
        variants.push(polls::variant(
            "polls",
            stack.address,
            format!("/v1/jobs/{id}"),
            CONNECTIONS[0],
        ));
    }
    compare("polls, finished", &variants, [working_tree, other]).await
}

fn submission_variant(stack: &Stack, requests: Requests) -> Variant<'static> {
    let address = stack.address;
    Variant::new("submissions", move || {
        let requests = requests.clone();
        async move { load(address, CONNECTIONS[0], POLLS, &requests, 202).await }
    })
}

async fn compare(name: &str, variants: &[Variant<'_>], stacks: [&Stack; 2]) -> Result<()> {
    let before: [[Cost; 3]; 2] = [stacks[0].costs()?, stacks[1].costs()?];
    let measured = run_in_turns(variants, BOUNDS).await?;
    let [working_tree_result, other_result] = measured.as_slice() else { return Ok(()) };
    let cpu_cells = |variant: usize, jobs| -> Result<String> {
        let cpu = compute_expense(name, jobs, &before[variant], &stacks[variant].costs()?).cpu_us;
        Ok(format!("{:.0}, {:.0}, {:.0}", cpu[0], cpu[1], cpu[2]))
    };
    let Spread { median, low, high } = working_tree_result.ratio_to(other_result);
    println!(
        "| {name} | {:.0} | {:.0} | {median:.2} ({low:.2} to {high:.2}) | {} | {} |",
        working_tree_result.rate().median,
        other_result.rate().median,
        cpu_cells(0, working_tree_result.done)?,
        cpu_cells(1, other_result.done)?,
    );
    Ok(())
}
