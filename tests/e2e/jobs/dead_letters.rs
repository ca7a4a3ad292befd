//! Dead letters: lists, replays, deletion, and jobs that crash their workers.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use wordmill_tests::admin::Admin;
use wordmill_tests::assertions::{array_length, assert_fields};
use wordmill_tests::client::Client;
use wordmill_tests::dead_letters::{ids, list};
use wordmill_tests::site::{Page, Site, closed_port};
use wordmill_tests::stack::{Stack, Worker, wait_until_ready};
use wordmill_tests::{LIMIT, wait_for};

/// Submits jobs that use up all attempts, waits until their dead letters are stored, and returns
/// their ids.
fn create_dead_letters(stack: &Stack, admin: &Admin, bodies: &[Value]) -> Vec<String> {
    let before = admin.message_count("DEAD_JOBS");
    let ids: Vec<String> = bodies.iter().map(|body| stack.client().submit(body)).collect();
    for id in &ids {
        assert_eq!(stack.client().wait_until_final(id, LIMIT)["dead_lettered"], true);
    }
    wait_for("the dead letters are stored", LIMIT, || {
        (admin.message_count("DEAD_JOBS") == before + ids.len() as u64).then_some(())
    });
    ids
}

fn replay(client: &Client, body: &Value) -> Value {
    let answer = client.post("/v1/dead-letters/replay", body);
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

#[test]
fn dead_letters_are_listed_newest_first_and_read_one_by_one() {
    let stack = Stack::start();
    let client = stack.client();
    let admin = Admin::connect(&stack.nats);
    let site = Site::start();
    assert_eq!(list(client, ""), json!({"data": [], "next_cursor": null}));
    let url = site.put("/busy", Page::status("503 Service Unavailable"));
    let mut expected = Vec::new();
    for n in 0..5 {
        let lane = if n % 2 == 0 { "interactive" } else { "bulk" };
        let body = json!({"url": url, "lane": lane, "labels": {"n": n.to_string()}});
        expected.extend(create_dead_letters(&stack, &admin, &[body]));
    }
    expected.extend(create_dead_letters(&stack, &admin, &[json!({"url": closed_port()})]));
    expected.reverse();
    admin.publish("jobs.bulk.public.nonsense", "not a job");
    admin.wait_until_idle();

    let all = list(client, "");
    assert_eq!(ids(&all)[1..], expected, "{all}");
    assert_eq!(all["next_cursor"], Value::Null, "{all}");
    let mut paged = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = list(client, &format!("?limit=2{cursor}"));
        paged.extend(ids(&page));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(paged, ids(&all));
    assert_eq!(ids(&list(client, "?code=fetch_connect")), [expected[0].clone()]);
    assert_eq!(ids(&list(client, "?code=fetch_http_5xx")).len(), 5);
    assert_eq!(ids(&list(client, "?code=fetch_http_5xx&lane=bulk")).len(), 2);

    let old = client.get(&format!("/v1/jobs/{}", expected[1])).json();
    let letter = client.get(&format!("/v1/dead-letters/{}", expected[1])).json();
    assert_eq!(letter, all["data"][2], "{letter}");
    for field in ["job_id", "lane", "labels", "options", "trace_id", "created_at"] {
        assert_eq!(letter[field], old[field], "{field}: {letter}");
    }
    assert_eq!(letter["failure"]["code"], "fetch_http_5xx", "{letter}");
    assert_eq!(letter["failure"]["detail"], old["failure"]["detail"], "{letter}");
    assert_fields(&letter, json!({"attempts": 3, "source.url": url}));
    // Trailing zeros are omitted, so timestamps compare as text only without the `Z`.
    let time = |value: &Value| value.as_str().map(|text| text.trim_end_matches('Z').to_owned());
    let dead_at = time(&letter["dead_at"]);
    let finished_at = time(&old["finished_at"]);
    assert!(dead_at.is_some() && dead_at >= finished_at, "{letter} {old}");

    let name = &ids(&all)[0];
    assert!(name.starts_with("unreadable-"), "{all}");
    let unreadable = client.get(&format!("/v1/dead-letters/{name}")).json();
    assert_fields(&unreadable, json!({"size_bytes": 9, "job_id": null}));
    assert!(unreadable["failure"]["detail"].as_str().is_some_and(|text| !text.is_empty()));

    for id in [name, &expected[1]] {
        let path = format!("/v1/dead-letters/{id}");
        assert_eq!(client.send("DELETE", &path, &[], b"").status, 204);
        client.send("DELETE", &path, &[], b"").expect_problem(404, "dead_letter_not_found");
        client.get(&path).expect_problem(404, "dead_letter_not_found");
    }
    assert_eq!(ids(&list(client, "")).len(), 5);
    for query in ["limit=0", "limit=101", "cursor=xyz", "colour=red", "lane=fast"] {
        let answer = client.get(&format!("/v1/dead-letters?{query}"));
        answer.expect_problem(400, "invalid_query");
    }
    client.get("/v1/dead-letters/17").expect_problem(404, "dead_letter_not_found");
}

#[test]
fn sparse_dead_letters_are_found_and_texts_are_not_shown() {
    let stack = Stack::with(1, 0, &[]);
    let admin = Admin::connect(&stack.nats);
    let first = "0198f0c2-0000-7000-8000-000000000001";
    let last = "0198f0c2-0000-7000-8000-000000000002";
    let letter = |id: &str| {
        json!({
            "format": 1, "job_id": id, "owner": "public", "lane": "bulk",
            "source": {"kind": "text", "text": "a secret of 20 bytes"}, "options": {},
            "labels": {}, "created_at": "2026-01-01T00:00:00Z",
            "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        })
        .to_string()
    };
    admin.publish(&format!("dead.bulk.public.{first}"), &letter(first));
    // The stream keeps one message per subject, so this leaves a gap of thousands of sequences.
    admin.publish_all((0..3000).map(|_| ("dead.bulk.other.x".to_owned(), "{}".to_owned())));
    admin.publish(&format!("dead.bulk.public.{last}"), &letter(last));
    // A dead letter of another owner.
    let theirs = "0198f0c2-0000-7000-8000-000000000003";
    admin.publish(&format!("dead.bulk.team.{theirs}"), &letter(theirs));

    let mut letters = Vec::new();
    let mut page = list(stack.client(), "?limit=1");
    loop {
        letters.extend(ids(&page));
        assert!(!page.to_string().contains("a secret"), "{page}");
        match page["next_cursor"].as_str() {
            Some(next) => page = list(stack.client(), &format!("?limit=1&cursor={next}")),
            None => break,
        }
    }
    assert_eq!(letters, [last, first]);
    let letter = stack.client().get(&format!("/v1/dead-letters/{first}")).json();
    assert_eq!(letter["source"], json!({"kind": "text", "size_bytes": 20}), "{letter}");
    let path = format!("/v1/dead-letters/{theirs}");
    stack.client().get(&path).expect_problem(404, "dead_letter_not_found");
}

#[test]
fn repeated_replays_create_one_job() {
    let mut stack = Stack::start();
    let admin = Admin::connect(&stack.nats);
    let site = Site::start();
    let down = Page::status("500 Internal Server Error");
    let a = site.put("/a", down.clone());
    let b = site.put("/b", down);
    let body = |url: &str, lane| json!({"url": url, "lane": lane, "labels": {"book": "1"}});
    let mut old = create_dead_letters(&stack, &admin, &[body(&a, "bulk"), body(&b, "interactive")]);
    let client = stack.client();
    site.put("/a", Page::new("text/plain", "here at last"));
    site.put("/b", Page::new("text/plain", "me too"));

    // A dry run changes nothing.
    let filter = json!({"code": "fetch_http_5xx", "lane": "bulk"});
    let dry = replay(client, &json!({"filter": filter, "dry_run": true}));
    assert_fields(&dry, json!({"dry_run": true}));
    assert_eq!(array_length(&dry["data"]), 1, "{dry}");
    let line = &dry["data"][0];
    let job_id = line["job_id"].as_str().expect("an id");
    assert_fields(line, json!({"id": old[0], "outcome": "would_replay"}));
    client.get(&format!("/v1/jobs/{job_id}")).expect_problem(404, "job_not_found");

    let ids = json!({"ids": [old[0], "0198f0c2-0000-7000-8000-000000000000", "nonsense"]});
    let first = replay(client, &ids);
    let outcomes: Vec<&Value> = (0..3).map(|n| &first["data"][n]["outcome"]).collect();
    assert_eq!(outcomes, ["replayed", "not_found", "not_found"], "{first}");
    assert_eq!(first["data"][0]["job_id"], job_id, "{first}");
    let job = client.wait_until_final(job_id, LIMIT);
    assert_fields(&job, json!({"status": "succeeded", "totals.words": 3}));
    assert_fields(&job, json!({"retry_of": old[0], "lane": "bulk"}));
    assert_eq!(job["labels"], json!({"book": "1"}), "{job}");
    let dead = client.get(&format!("/v1/jobs/{}", old[0])).json();
    assert_ne!(job["trace_id"], dead["trace_id"]);
    assert!(dead.get("retry_of").is_none(), "{dead}");

    // A replay returns the same job, even after the dead letter is stored again and the broker is
    // restarted.
    let subject = format!("dead.bulk.public.{}", old[0]);
    let (letter, _) =
        admin.last_message("DEAD_JOBS", &subject).expect("the dead letter is still stored");
    admin.publish(&subject, &letter);
    stack.nats.process.kill();
    stack.nats.restart();
    wait_until_ready(stack.client());
    wait_until_ready(&stack.workers[0].health);
    let client = stack.client();
    let hits = site.hits("/a");
    for _ in 0..2 {
        let again = replay(client, &json!({"ids": [old[0]]}));
        assert_eq!(again["data"][0]["job_id"], job_id, "{again}");
        assert_eq!(again["data"][0]["status"], "succeeded", "{again}");
    }
    // An empty filter selects all dead letters: one already replayed, one new.
    let all = replay(client, &json!({"filter": {}}));
    let lines = all["data"].as_array().expect("lines");
    let replayed: BTreeSet<&str> =
        lines.iter().filter_map(|line| line["job_id"].as_str()).collect();
    assert_eq!(replayed.len(), 2, "{all}");
    for job_id in replayed {
        assert_eq!(client.wait_until_final(job_id, LIMIT)["status"], "succeeded");
    }
    Admin::connect(&stack.nats).wait_until_idle();
    assert_eq!(site.hits("/a"), hits);
    assert_eq!(site.hits("/b"), 4);

    // A dead letter is not replayed again, even if the job of its first replay was deleted.
    assert_eq!(client.send("DELETE", &format!("/v1/jobs/{job_id}"), &[], b"").status, 204);
    let gone = replay(client, &json!({"ids": [old.remove(0)]}));
    assert_eq!(gone["data"][0]["outcome"], "gone", "{gone}");
}

#[test]
fn invalid_replays_are_refused() {
    let stack = Stack::with(1, 0, &[]);
    let client = stack.client();
    for body in [json!({}), json!({"ids": []}), json!({"ids": ["a"], "filter": {}})] {
        client.post("/v1/dead-letters/replay", &body).expect_problem(422, "invalid_request");
    }
}

#[test]
fn a_job_that_crashes_its_workers_becomes_a_dead_letter() {
    const ATTEMPTS: usize = 2;
    let stack = Stack::with(1, 0, &[]);
    let admin = Admin::connect(&stack.nats);
    admin.set_ack_wait(Duration::from_secs(3));
    let site = Site::start();
    let poison = Page::new("text/plain", "deadly").after(Duration::from_secs(30));
    let job_id = stack.client().submit_url(&site.put("/poison", poison));
    let path = format!("/v1/jobs/{job_id}");
    let mut kills = 0;
    let job = loop {
        let mut worker = Worker::start(&stack.nats.address(), &[("WORDMILL_ATTEMPTS", "2")]);
        let ended = wait_for("the job starts or fails", LIMIT, || {
            if site.hits("/poison") > kills {
                return Some(None);
            }
            let job = stack.client().get(&path).json();
            (job["status"] == "failed").then_some(Some(job))
        });
        if let Some(job) = ended {
            // The last worker stays alive and settles the message.
            admin.wait_until_idle();
            break job;
        }
        worker.process.kill();
        kills += 1;
        assert!(kills <= ATTEMPTS + 1, "the job is started too often");
    };
    assert!((ATTEMPTS..=ATTEMPTS + 1).contains(&kills), "{kills}: {job}");
    assert_eq!(site.hits("/poison"), kills, "not started after the last attempt");
    assert_fields(&job, json!({"failure.code": "worker_crashed", "dead_lettered": true}));
    let attempts = job["attempts"].as_array().expect("attempts");
    assert_eq!(attempts.len(), ATTEMPTS, "{job}");
    for attempt in attempts {
        assert_eq!(attempt["failure"]["code"], "worker_crashed", "{job}");
        assert!(attempt["ended_at"].is_string(), "{job}");
    }
    let letters = list(stack.client(), "?code=worker_crashed");
    assert_eq!(ids(&letters), [job_id], "{letters}");
    assert_eq!(letters["data"][0]["attempts"], ATTEMPTS, "{letters}");
}

#[test]
fn a_refused_replay_lists_the_dead_letters_that_were_not_tried() {
    let mut stack = Stack::start();
    let admin = Admin::connect(&stack.nats);
    let url = closed_port();
    let old = create_dead_letters(&stack, &admin, &[json!({"url": url}), json!({"url": url})]);
    admin.wait_until_idle();
    stack.workers.clear();
    let client = stack.client();
    client.submit(&json!({"text": "a"}));
    admin.reconfigure("JOBS", |config| config.max_messages = 1);
    let full = replay(client, &json!({"ids": old}));
    let outcomes: Vec<&Value> = (0..2).map(|n| &full["data"][n]["outcome"]).collect();
    assert_eq!(outcomes, ["refused", "not_tried"], "{full}");
    assert_eq!(full["data"][0]["code"], "queue_full", "{full}");
    // The refused replay left nothing behind, so it succeeds once the queue has room.
    admin.reconfigure("JOBS", |config| config.max_messages = 100);
    wait_for("all are replayed", LIMIT, || {
        let again = replay(client, &json!({"ids": old}));
        (0..2).all(|n| again["data"][n]["outcome"] == "replayed").then_some(())
    });
    assert_eq!(admin.message_count("JOBS"), 3);
}
