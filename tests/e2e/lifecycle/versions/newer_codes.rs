//! Codes of failures and warnings that only a newer worker knows.

use serde_json::json;
use wordmill_tests::dead_letters::wait_for_dead_letter;
use wordmill_tests::process::Version;
use wordmill_tests::receiver::Receiver;
use wordmill_tests::stream::EventStream;

use super::{Broker, RETURN_TIME_MAX, WEBHOOKS, find_in_list, newer_job};

#[test]
fn an_older_gateway_shows_the_codes_of_a_newer_worker() {
    let broker = Broker::start();
    let mut new_worker = broker.worker(Version::Next, &[]);
    let new = broker.gateway(Version::Next);
    let old = broker.gateway(Version::Current);
    let new = &new.client;
    let old = &old.client;
    let receiver = Receiver::start();
    let mut body = newer_job("to be", "fail");
    body["webhook"] = json!({"url": receiver.url("/hook")});
    let failed = new.submit(&body);
    let shown = old.wait_until_final(&failed, RETURN_TIME_MAX);
    assert_eq!(shown["failure"]["code"], "next_version", "{shown}");
    assert_eq!(shown["attempts"][0]["failure"]["code"], "next_version", "{shown}");
    assert_eq!(find_in_list(old, &failed)["failure"], shown["failure"]);
    assert_eq!(find_in_list(old, &failed)["options"]["next"], "fail");
    let event = EventStream::open(old, &failed, &[]).next_job(RETURN_TIME_MAX).expect("an event");
    assert_eq!(event.id_and_status().1, "failed");
    let problem = old.get(&format!("/v1/jobs/{failed}/result")).expect_problem(409, "job_failed");
    assert_eq!(problem["failure"]["code"], "next_version", "{problem}");

    let lines = "{\"text\": \"to be\"}\n{\"text\": \"or not\"}\n";
    let headers = [("content-type", "application/x-ndjson")];
    let sent = new.send("POST", "/v1/batches?next=fail", &headers, lines.as_bytes()).json();
    let batch = sent["batch_id"].as_str().expect("an id");
    let done = old.wait_until_final(batch, RETURN_TIME_MAX);
    assert_eq!(done["counts"]["failed"], 2, "{done}");
    assert_eq!(done["options"]["next"], "fail", "{done}");
    assert_eq!(old.get(&format!("/v1/batches/{batch}")).json()["counts"], done["counts"]);

    let dead = new.submit(&newer_job("not to be", "retry"));
    assert_eq!(old.wait_until_final(&dead, RETURN_TIME_MAX)["dead_lettered"], true);
    let letter = wait_for_dead_letter(old, &dead);
    assert_eq!(letter["failure"]["code"], "next_version", "{letter}");
    assert_eq!(letter["options"]["next"], "retry", "{letter}");
    assert_eq!(letter["source"], json!({"kind": "text", "size_bytes": 9}), "{letter}");
    let some = old.get("/v1/dead-letters?code=next_version").json();
    assert_eq!(some["data"][0]["id"], json!(dead), "{some}");
    for dry_run in [true, false] {
        let request = json!({"ids": [dead], "dry_run": dry_run});
        let line = old.post("/v1/dead-letters/replay", &request).json()["data"][0].clone();
        assert_eq!(line["outcome"], "unreadable", "{line}");
        assert!(line["detail"].as_str().expect("a detail").contains("options"), "{line}");
    }
    old.post(&format!("/v1/jobs/{dead}/retry"), &json!({}))
        .expect_problem(503, "broker_unavailable");
    assert_eq!(new.post(&format!("/v1/jobs/{dead}/retry"), &json!({})).status, 202);

    // Roll the worker back. It delivers the webhook that the new version has enqueued.
    new_worker.process.stop();
    let _old_worker = broker.worker(Version::Current, &[WEBHOOKS]);
    let requests = receiver.wait_for_requests("/hook", 1, RETURN_TIME_MAX);
    assert_eq!(requests[0].json()["data"]["failure"]["code"], "next_version");
    let deleted = old.send("DELETE", &format!("/v1/jobs/{failed}"), &[], &[]);
    assert_eq!(deleted.status, 204, "{deleted:?}");
}

#[test]
fn an_older_gateway_shows_the_warnings_of_a_newer_worker() {
    let broker = Broker::start();
    let _new_worker = broker.worker(Version::Next, &[]);
    let new = broker.gateway(Version::Next);
    let old = broker.gateway(Version::Current);
    let job_id = new.client.submit(&newer_job("—", "count"));
    let shown = old.client.wait_until_final(&job_id, RETURN_TIME_MAX);
    let expected = json!([
        {"code": "no_text_found", "count": 1, "where": null},
        {"code": "next_version", "count": 1, "where": "option next"},
    ]);
    assert_eq!(shown["warnings"], expected, "{shown}");
    assert_eq!(old.client.result(&job_id)["warnings"], expected);
    assert_eq!(find_in_list(&old.client, &job_id)["warnings"], expected);
}
