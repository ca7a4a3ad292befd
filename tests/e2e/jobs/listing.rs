//! The paged list of jobs, newest change first.

use std::collections::HashSet;

use serde_json::{Value, json};
use wordmill_tests::admin::Admin;
use wordmill_tests::client::{Answer, Client};
use wordmill_tests::cluster::Cluster;
use wordmill_tests::stack::{Gateway, Stack, wait_until_ready};
use wordmill_tests::{LIMIT, wait_for};

fn ids(page: &Value) -> Vec<String> {
    let data = page["data"].as_array().unwrap_or_else(|| panic!("{page}"));
    data.iter().map(|job| job["job_id"].as_str().expect("an id").to_owned()).collect()
}

fn list(client: &Client, query: &str) -> Answer {
    let answer = client.get(&format!("/v1/jobs{query}"));
    assert_eq!(answer.status, 200, "{answer:?}");
    answer
}

/// Follows the `next` links and returns the ids of each page.
fn follow_pages(client: &Client, query: &str) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    let mut next = Some(format!("/v1/jobs{query}"));
    while let Some(path) = next {
        let answer = client.get(&path);
        let page = answer.json();
        pages.push(ids(&page));
        next = answer.header("link").map(|link| {
            let target = link.strip_prefix('<').and_then(|rest| rest.split_once('>'));
            let (target, rest) = target.expect("a target");
            assert_eq!(rest, "; rel=\"next\"");
            let cursor = page["next_cursor"].as_str().expect("a cursor");
            assert!(target.ends_with(&format!("cursor={cursor}")), "{target} {cursor}");
            target.to_owned()
        });
        assert_eq!(next.is_none(), page["next_cursor"].is_null(), "{page}");
    }
    pages
}

fn submit_labelled(client: &Client, count: usize) -> Vec<String> {
    let submit = |n| {
        let parity = if n % 2 == 0 { "even" } else { "odd" };
        let labels = json!({"parity": parity, "url": format!("a:b={n}&c")});
        client.submit(&json!({"text": format!("job {n}"), "labels": labels}))
    };
    (0..count).map(submit).collect()
}

#[test]
fn the_newest_change_comes_first_and_pages_do_not_overlap() {
    let stack = Stack::with(1, 0, &[]);
    let client = stack.client();
    assert_eq!(list(client, "").json(), json!({"data": [], "next_cursor": null}));
    let mut submitted = submit_labelled(client, 45);
    submitted.reverse();

    let first = list(client, "");
    assert_eq!(ids(&first.json()), submitted[..20], "20 by default");
    let job = client.get(&format!("/v1/jobs/{}", submitted[0])).json();
    assert_eq!(first.json()["data"][0], job, "a job looks the same in the list");
    for limit in [1, 7, 44, 45, 46, 100] {
        let pages = follow_pages(client, &format!("?limit={limit}"));
        assert!(pages.iter().all(|page| page.len() <= limit), "{limit}");
        assert_eq!(pages.concat(), submitted, "{limit}");
    }
    // A change moves a job to the front.
    let oldest = submitted.pop().expect("a job");
    client.send("POST", &format!("/v1/jobs/{oldest}/cancel"), &[], &[]);
    submitted.insert(0, oldest);
    assert_eq!(follow_pages(client, "?limit=10").concat(), submitted);
}

#[test]
fn lists_are_filtered_by_status_and_label() {
    let stack = Stack::with(1, 0, &[]);
    let client = stack.client();
    let mut submitted = submit_labelled(client, 40);
    for job_id in &submitted[10..13] {
        client.send("POST", &format!("/v1/jobs/{job_id}/cancel"), &[], &[]);
    }
    let mut cancelled: Vec<_> = submitted.drain(10..13).collect();
    cancelled.reverse();
    submitted.reverse();
    assert_eq!(follow_pages(client, "?status=cancelled&limit=2").concat(), cancelled);
    assert_eq!(follow_pages(client, "?status=queued&limit=10").concat(), submitted);
    assert_eq!(follow_pages(client, "?status=failed").concat(), Vec::<String>::new());
    assert_eq!(follow_pages(client, "?label=parity:odd").concat().len(), 20);
    assert_eq!(
        follow_pages(client, "?label=parity:odd&status=cancelled").concat(),
        [&*cancelled[1]]
    );
    // Everything after the first colon is the value.
    assert_eq!(follow_pages(client, "?label=url:a:b%3D10%26c").concat(), [&*cancelled[2]]);
    for label in ["parity:none", "parity:", "other:odd"] {
        assert_eq!(follow_pages(client, &format!("?label={label}")).concat(), Vec::<String>::new());
    }
}

#[test]
fn invalid_queries_are_refused() {
    let stack = Stack::with(1, 0, &[]);
    let client = stack.client();
    for query in [
        "limit=0",
        "limit=101",
        "limit=-1",
        "limit=all",
        "status=lost",
        "status=",
        "label=parity",
        "label=:odd",
        "label=",
        "cursor=",
        "cursor=xyz",
        "cursor=-1",
        "cursor=00",
        "cursor=FF",
        "cursor=11111111111111111",
        "order=up",
        "limit=1&limit=2",
        "label=a:b&label=c:d",
    ] {
        client.get(&format!("/v1/jobs?{query}")).expect_problem(400, "invalid_query");
    }
    // A well-formed cursor is valid even if it belongs to no job.
    let cursor = list(client, "?cursor=ffffffffffffffff");
    assert_eq!(cursor.json(), json!({"data": [], "next_cursor": null}));
}

#[test]
fn paging_lists_every_unchanged_job_exactly_once() {
    let stack = Stack::with(1, 0, &[]);
    let admin = Admin::connect(&stack.nats);
    let client = stack.client();
    let submitted = submit_labelled(client, 60);
    let mut listed_ids = Vec::new();
    let mut next = String::new();
    let mut number = 0;
    loop {
        let page = list(client, &format!("?limit=5{next}")).json();
        listed_ids.extend(ids(&page));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        next = format!("&cursor={cursor}");
        // Meanwhile every third job changes, both listed and unlisted ones, and new jobs arrive.
        for job_id in submitted.iter().skip(number % 3 * 3).step_by(9) {
            admin.rewrite_record(job_id, |record| {
                record["labels"] = json!({"n": number.to_string()})
            });
        }
        client.submit(&json!({"text": "late"}));
        number += 1;
    }
    let once: HashSet<_> = listed_ids.iter().collect();
    assert_eq!(once.len(), listed_ids.len(), "no job is listed twice");
    let unchanged = submitted.iter().enumerate().filter(|(n, _)| n % 3 != 0);
    for (n, job_id) in unchanged {
        assert!(once.contains(job_id), "job {n} was missed");
    }
}

#[test]
fn gaps_tombstones_and_other_owners_are_skipped() {
    let stack = Stack::with(1, 0, &[("WORDMILL_RESULT_TTL", "2s")]);
    let admin = Admin::connect(&stack.nats);
    let client = stack.client();
    let oldest = client.submit(&json!({"text": "the oldest"}));
    // Thousands of revisions of another owner's record leave one message and a gap of sequences.
    let other = |n: usize| {
        let record = json!({"format": 1, "status": "queued", "n": n});
        ("$KV.job_state.other.0198f0c2-0000-7000-8000-000000000001".to_owned(), record.to_string())
    };
    admin.publish_all((0..20_000).map(other));
    let deleted = client.submit(&json!({"text": "deleted"}));
    let expired = client.submit(&json!({"text": "expired"}));
    for job_id in [&deleted, &expired] {
        client.send("POST", &format!("/v1/jobs/{job_id}/cancel"), &[], &[]);
    }
    assert_eq!(client.send("DELETE", &format!("/v1/jobs/{deleted}"), &[], &[]).status, 204);
    wait_for("the record expires", LIMIT, || {
        (client.get(&format!("/v1/jobs/{expired}")).status == 410).then_some(())
    });
    // Invalid records are not listed and do not affect the order.
    admin.publish("$KV.job_state.public.0198f0c2-0000-7000-8000-000000000002", "not a record");
    admin.publish("$KV.job_state.public.nonsense", "{}");
    let newest = client.submit(&json!({"text": "the newest"}));
    assert_eq!(follow_pages(client, "").concat(), [&*newest, &*oldest]);
    assert_eq!(follow_pages(client, "?limit=1").concat(), [&*newest, &*oldest]);
    assert_eq!(follow_pages(client, "?label=a:b").concat(), Vec::<String>::new());
}

#[test]
fn a_new_job_is_listed_by_every_replica() {
    let cluster = Cluster::start(3);
    let settings = [("WORDMILL_REPLICAS", "3")];
    cluster.provision(&[]);
    let gateway = Gateway::start(&cluster.addresses().join(","), &settings);
    wait_until_ready(&gateway.client);
    for n in 0..100 {
        let job_id = gateway.client.submit(&json!({"text": format!("job {n}")}));
        // Waits for the record, but not until all replicas have it.
        let path = format!("/v1/jobs/{job_id}");
        wait_for("the record is written", LIMIT, || {
            (gateway.client.get(&path).header("etag") != Some("\"0\"")).then_some(())
        });
        let page = list(&gateway.client, "?limit=5").json();
        assert_eq!(ids(&page)[0], job_id, "job {n}");
    }
}
