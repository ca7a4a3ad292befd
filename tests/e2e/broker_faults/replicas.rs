//! Clusters of three servers with a lagging replica or changing leaders: no job is declared lost,
//! and none runs twice.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wordmill_tests::admin::Admin;
use wordmill_tests::assertions::{array_length, assert_answer};
use wordmill_tests::client::Client;
use wordmill_tests::cluster::Cluster;
use wordmill_tests::proxied_stack::{Proxied, ProxiedStack};
use wordmill_tests::proxy::Rule;
use wordmill_tests::site::{Page, Site};
use wordmill_tests::stack::{Gateway, Worker, wait_until_ready};
use wordmill_tests::{LIMIT, pause, wait_for};

/// Maximum delay of the replication to a server before that server starts an election.
const LAG_MAX: Duration = Duration::from_secs(3);
const REPLICAS: (&str, &str) = ("WORDMILL_REPLICAS", "3");
const SWEEPER: [(&str, &str); 3] =
    [REPLICAS, ("WORDMILL_SWEEP_INTERVAL", "200ms"), ("WORDMILL_SWEEP_GRACE", "3s")];
/// Streams and consumers whose leaders the test changes.
const LEADERS: [&str; 4] =
    ["STREAM JOBS", "STREAM KV_job_state", "CONSUMER JOBS.interactive", "CONSUMER JOBS.bulk"];

/// Returns a server that leads neither the queue nor the records.
fn find_follower(admin: &Admin, cluster: &Cluster) -> usize {
    wait_for("both streams have a leader", LIMIT, || {
        let leaders = ["JOBS", "KV_job_state"].map(|stream| admin.leader(stream));
        let follows = |index: &usize| !leaders.contains(&format!("n{index}"));
        leaders.iter().all(|leader| !leader.is_empty()).then_some(())?;
        (0..cluster.nodes.len()).find(follows)
    })
}

/// Delays the replication to one server while `check` runs. Repeats this until `check` has returned
/// `true` within [`LAG_MAX`]: the server was outdated before and after the reads.
fn with_lagging_server(cluster: &Cluster, admin: &Admin, mut check: impl FnMut(usize) -> bool) {
    let end = Instant::now() + LIMIT;
    while Instant::now() < end {
        let lagging = find_follower(admin, cluster);
        let started = Instant::now();
        cluster.delay_replication(lagging);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(lagging)));
        // On a busy machine `check` may take too long. Then its result is meaningless, even a
        // failed assertion, and the round is repeated.
        let was_in_time = started.elapsed() < LAG_MAX;
        cluster.resume_replication();
        cluster.wait_until_healthy();
        match result {
            Ok(true) if was_in_time => return,
            Err(failed) if was_in_time => std::panic::resume_unwind(failed),
            Ok(_) | Err(_) => {}
        }
    }
    panic!("in no round did the server lag during all reads");
}

fn record_subject(job_id: &str) -> String {
    format!("$KV.job_state.public.{job_id}")
}

fn assert_queued(client: &Client, job_id: &str) {
    // A busy broker may not answer in time. Then [`with_lagging_server`] discards the round.
    let job = wait_for("the broker answers", LIMIT, || {
        let answer = client.get(&format!("/v1/jobs/{job_id}"));
        (answer.status != 503).then_some(answer)
    });
    assert_answer(&job, 200, json!({"status": "queued"}));
}

#[test]
fn a_read_that_a_replica_cannot_answer_goes_to_the_leader() {
    let cluster = Cluster::linked(3);
    cluster.provision(&[]);
    let addresses = cluster.addresses();
    let admin = Admin::connect_to_any(&addresses);
    // Each gateway connects to one server only.
    let gateways: Vec<Gateway> =
        addresses.iter().map(|address| Gateway::start(address, &[REPLICAS])).collect();
    gateways.iter().for_each(|gateway| wait_until_ready(&gateway.client));
    let body = json!({"text": "a b"}).to_string();
    let submit_with_key = |client: &Client, key: &str| {
        let headers = [("content-type", "application/json"), ("idempotency-key", key)];
        client.send("POST", "/v1/jobs", &headers, body.as_bytes())
    };
    let mut round = 0;
    with_lagging_server(&cluster, &admin, |lagging| {
        round += 1;
        let client = &gateways[lagging].client;
        let before = admin.message_count("JOBS");
        let job_id = client.submit(&json!({"text": "a b"}));
        let is_lagging = || {
            let message = format!("jobs.interactive.public.{job_id}");
            admin.replica_sequences("KV_job_state", &record_subject(&job_id)).contains(&0)
                && admin.replica_sequences("JOBS", &message).contains(&0)
        };
        let was_lagging = is_lagging();
        // Enough reads for each replica to answer some of them.
        (0..20).for_each(|_| assert_queued(client, &job_id));
        // A repeated request finds the record and the message, although the lagging server has
        // neither.
        let key = format!("key-{round}");
        let first = submit_with_key(client, &key);
        assert_eq!(first.status, 202, "{first:?}");
        assert_eq!(submit_with_key(client, &key).json(), first.json());
        assert_eq!(admin.message_count("JOBS"), before + 2);
        let unknown = "/v1/jobs/0198f0c2-0000-7000-8000-000000000000";
        client.get(unknown).expect_problem(404, "job_not_found");
        was_lagging && is_lagging()
    });
}

/// Waits until a job is final. Without a leader the gateway answers 503, because an unfinished
/// status at a replica may be outdated.
fn wait_until_final(client: &Client, job_id: &str) -> Value {
    wait_for(&format!("job {job_id} is final"), LIMIT, || {
        let answer = client.get(&format!("/v1/jobs/{job_id}"));
        assert!(matches!(answer.status, 200 | 503), "{answer:?}");
        let job = answer.json();
        let is_final = matches!(job["status"].as_str(), Some("succeeded" | "failed" | "cancelled"));
        is_final.then_some(job)
    })
}

#[test]
fn leader_changes_do_not_affect_jobs() {
    let cluster = Cluster::start(3);
    cluster.provision(&[]);
    let admin = Admin::connect_to_any(&cluster.addresses());
    let addresses = cluster.addresses().join(",");
    let gateways = [0, 1].map(|_| Gateway::start(&addresses, &SWEEPER));
    gateways.iter().for_each(|gateway| wait_until_ready(&gateway.client));
    let client = &gateways[0].client;
    // Without a worker: eight jobs stay queued, one loses its message, and one is cancelled.
    let mut waiting: Vec<String> =
        (0..10).map(|_| client.submit(&json!({"text": "a b"}))).collect();
    let cancelled = waiting.pop().expect("a job");
    let answer = client.send("POST", &format!("/v1/jobs/{cancelled}/cancel"), &[], &[]);
    assert_eq!(answer.status, 200, "{answer:?}");
    let lost = waiting.pop().expect("a job");
    admin.remove_message("JOBS", &format!("jobs.interactive.public.{lost}"));
    let end = Instant::now() + Duration::from_secs(8);
    for leader in LEADERS.iter().cycle() {
        admin.step_down(leader);
        pause(Duration::from_millis(300));
        if Instant::now() > end {
            break;
        }
    }
    let ended = wait_until_final(client, &lost);
    assert_eq!(ended["failure"]["code"], "lost", "{ended}");
    wait_for("the cancelled job's message is removed", LIMIT, || {
        (admin.message_count("JOBS") == waiting.len() as u64).then_some(())
    });
    waiting.iter().for_each(|job_id| assert_queued(client, job_id));

    // The leaders also change while a job runs.
    let site = Site::start();
    let slow = Page::new("text/plain", "a b").after(Duration::from_secs(4));
    let worker = Worker::start(&addresses, &[REPLICAS]);
    wait_until_ready(&worker.health);
    let running = client.submit_url(&site.put("/slow", slow));
    wait_for("the job runs", LIMIT, || (site.hits("/slow") == 1).then_some(()));
    for leader in LEADERS {
        admin.step_down(leader);
    }
    waiting.push(running);
    for job_id in &waiting {
        let job = wait_until_final(client, job_id);
        assert_eq!(job["totals"]["words"], 2, "{job}");
        assert_eq!(array_length(&job["attempts"]), 1, "{job}");
    }
    admin.wait_until_idle();
    assert_eq!(site.hits("/slow"), 1);
    assert_eq!(client.get(&format!("/v1/jobs/{cancelled}")).json(), answer.json());
}

#[test]
fn long_replica_lag_loses_no_jobs() {
    let stack = ProxiedStack::start(Proxied::Gateways(1), &SWEEPER[1..]);
    let client = stack.client();
    let admin = &stack.admin;
    let proxy = stack.proxy();
    let rules = ["JOBS", "KV_job_state"]
        .map(|stream| proxy.add_rule(Rule::not_found(&format!("$JS.API.DIRECT.GET.{stream}."))));
    let waiting: Vec<String> = (0..5).map(|_| client.submit(&json!({"text": "a b"}))).collect();
    waiting.iter().for_each(|job_id| assert_queued(client, job_id));
    let unknown = "/v1/jobs/0198f0c2-0000-7000-8000-000000000000";
    client.get(unknown).expect_problem(404, "job_not_found");
    // This job is younger. Once the sweeper has failed it, it has also checked the others and left
    // them unchanged.
    let lost = client.submit(&json!({"text": "lost"}));
    admin.remove_message("JOBS", &format!("jobs.interactive.public.{lost}"));
    let ended = client.wait_until_final(&lost, LIMIT);
    assert_eq!(ended["failure"]["code"], "lost", "{ended}");
    assert!(rules.iter().all(|rule| rule.count() > waiting.len()));
    waiting.iter().for_each(|job_id| assert_queued(client, job_id));
    proxy.release();
    let _worker = Worker::start(&stack.nats.address(), &[]);
    for job_id in &waiting {
        assert_eq!(client.wait_until_final(job_id, LIMIT)["totals"]["words"], 2);
    }
    admin.wait_until_idle();
}
