//! Retention of documents: a document is stored as long as its job or its dead letter needs it.

use serde_json::json;
use wordmill_tests::admin::Admin;
use wordmill_tests::assertions::{assert_answer, assert_fields};
use wordmill_tests::document::{post_document, require_accepted};
use wordmill_tests::stack::{Stack, Worker};
use wordmill_tests::{LIMIT, wait_for};

use crate::jobs::documents::{TEXT, large_text, wait_until_store_is_empty};

#[test]
fn a_repeated_request_returns_the_same_job_and_stores_no_second_copy() {
    let mut stack = Stack::with(1, 0, &[]);
    let client = stack.client().clone();
    let admin = Admin::connect(&stack.nats);
    let (text, words) = large_text();
    let key = [TEXT, ("idempotency-key", "k")];
    let id = require_accepted(&post_document(&client, "?label=a:b", &key, &text));
    let message_count = admin.message_count("OBJ_documents");
    assert!(message_count > 1);
    let wait_for_one_copy = || {
        wait_for("only one copy is stored", LIMIT, || {
            (admin.message_count("OBJ_documents") == message_count).then_some(())
        });
    };
    assert_eq!(require_accepted(&post_document(&client, "?label=a:b", &key, &text)), id);
    wait_for_one_copy();
    let other = [TEXT, ("idempotency-key", "k"), ("content-encoding", "identity")];
    assert_eq!(require_accepted(&post_document(&client, "?label=a:b", &other, &text)), id);
    let mut changed = text.clone();
    changed[0] = b'x';
    for (query, headers, body) in [
        ("?label=a:b", &key, &changed),
        ("", &key, &text),
        ("?label=a:b", &[("content-type", "text/html"), ("idempotency-key", "k")], &text),
    ] {
        post_document(&client, query, headers, body).expect_problem(422, "idempotency_key_reused");
    }
    wait_for_one_copy();
    // Without the message, as after a gateway crash, a repeated request repairs the job with the
    // document of the first request.
    admin.remove_message("JOBS", &format!("jobs.interactive.public.{id}"));
    assert_eq!(require_accepted(&post_document(&client, "?label=a:b", &key, &text)), id);
    wait_for_one_copy();

    let path = "/v1/jobs/0198f0c2-0000-7000-8000-000000000001";
    let first = client.send("PUT", path, &[TEXT], b"small one");
    assert_eq!(first.status, 202, "{first:?}");
    client.send("PUT", path, &[TEXT], b"small two").expect_problem(422, "idempotency_key_reused");
    assert_eq!(client.send("PUT", path, &[TEXT], b"small one").status, 202);

    stack.workers.push(Worker::start(&stack.nats.address(), &[]));
    let job = client.wait_until_final(&id, LIMIT);
    assert_fields(&job, json!({"status": "succeeded", "totals.words": words}));
    wait_until_store_is_empty(&admin);
    let again = post_document(&client, "?label=a:b", &key, &text);
    assert_answer(&again, 200, json!({"job_id": id}));
    wait_until_store_is_empty(&admin);
}

/// Rewrites the record of a job as if a worker had crashed while running it.
pub fn crash_worker(admin: &Admin, id: &str) {
    admin.rewrite_record(id, |record| {
        record["status"] = json!("running");
        record["attempts"] = json!([{
            "number": 1, "worker": "dead", "run": "0198f0c2-0000-4000-8000-000000000001",
            "started_at": record["created_at"], "ended_at": null, "failure": null,
        }]);
    });
}

#[test]
fn the_document_of_a_dead_letter_is_kept_for_its_replay() {
    let mut stack = Stack::with(1, 0, &[]);
    let client = stack.client().clone();
    let admin = Admin::connect(&stack.nats);
    let address = stack.nats.address();
    let (text, words) = large_text();
    let id = require_accepted(&post_document(&client, "", &[TEXT], &text));
    let message_count = admin.message_count("OBJ_documents");
    crash_worker(&admin, &id);
    stack.workers.push(Worker::start(&address, &[("WORDMILL_ATTEMPTS", "1")]));
    let job = client.wait_until_final(&id, LIMIT);
    assert_fields(&job, json!({"dead_lettered": true, "failure.code": "worker_crashed"}));
    admin.wait_until_idle();
    assert_eq!(admin.message_count("OBJ_documents"), message_count);
    let letter = client.get(&format!("/v1/dead-letters/{id}")).json();
    assert_eq!(letter["source"]["size_bytes"], text.len(), "{letter}");

    // The replayed job has its own copy of the document.
    let replay = json!({"ids": [id]});
    let again = client.post("/v1/dead-letters/replay", &replay).json();
    assert_eq!(again["data"][0]["outcome"], "replayed", "{again}");
    let new = again["data"][0]["job_id"].as_str().expect("a job").to_owned();
    let job = client.wait_until_final(&new, LIMIT);
    assert_fields(&job, json!({"totals.words": words, "retry_of": id}));
    let wait_for_one_document = || {
        wait_for("only the document of the dead letter is stored", LIMIT, || {
            (admin.message_count("OBJ_documents") == message_count).then_some(())
        });
    };
    wait_for_one_document();
    let repeated = client.post("/v1/dead-letters/replay", &replay).json();
    assert_eq!(repeated["data"][0]["job_id"], json!(new), "{repeated}");
    wait_for_one_document();

    // The document outlives the job, so that the dead letter can still be replayed. It is removed
    // with the dead letter.
    assert_eq!(client.send("DELETE", &format!("/v1/jobs/{id}"), &[], &[]).status, 204);
    wait_for_one_document();
    let deleted = client.send("DELETE", &format!("/v1/dead-letters/{id}"), &[], &[]);
    assert_eq!(deleted.status, 204, "{deleted:?}");
    wait_until_store_is_empty(&admin);
}

#[test]
fn a_replay_without_its_document_is_refused() {
    let mut stack = Stack::with(1, 0, &[]);
    let client = stack.client().clone();
    let admin = Admin::connect(&stack.nats);
    let id = require_accepted(&post_document(&client, "", &[TEXT], &large_text().0));
    crash_worker(&admin, &id);
    stack.workers.push(Worker::start(&stack.nats.address(), &[("WORDMILL_ATTEMPTS", "1")]));
    client.wait_until_final(&id, LIMIT);
    admin.wait_until_idle();
    admin.purge("OBJ_documents", "$O.documents.>");
    let answer = client.post("/v1/dead-letters/replay", &json!({"ids": [id]})).json();
    assert_eq!(answer["data"][0]["outcome"], "source_gone", "{answer}");
    assert_eq!(answer["data"][0]["code"], "source_gone", "{answer}");
    assert_eq!(admin.message_count("JOBS"), 0);
}

#[test]
fn a_missing_or_changed_document_fails_its_job() {
    let mut stack = Stack::with(1, 0, &[]);
    let client = stack.client().clone();
    let admin = Admin::connect(&stack.nats);
    let (text, _) = large_text();
    let gone = require_accepted(&post_document(&client, "", &[TEXT], &text));
    admin.purge("OBJ_documents", "$O.documents.>");
    // The last chunk of this document is missing.
    let cut = require_accepted(&post_document(&client, "", &[TEXT], &text));
    let last = admin.all_messages("OBJ_documents");
    let chunk = last
        .iter()
        .rfind(|message| message.subject.starts_with("$O.documents.C."))
        .expect("a chunk");
    admin.delete_message("OBJ_documents", chunk.revision);
    // The last chunk of this document is replaced by another one.
    let changed = require_accepted(&post_document(&client, "", &[TEXT], &text));
    let last = admin.all_messages("OBJ_documents");
    let chunk = last
        .iter()
        .rfind(|message| message.subject.starts_with("$O.documents.C."))
        .expect("a chunk");
    admin.delete_message("OBJ_documents", chunk.revision);
    let other = String::from_utf8(chunk.payload.clone()).expect("text").replace('w', "v");
    admin.publish(&chunk.subject, &other);

    stack.workers.push(Worker::start(&stack.nats.address(), &[]));
    for id in [gone, cut, changed] {
        let job = client.wait_until_final(&id, LIMIT);
        assert_eq!(job["failure"]["code"], "source_gone", "{job}");
        assert_eq!(job["dead_lettered"], false, "{job}");
    }
    wait_until_store_is_empty(&admin);
}

#[test]
fn documents_of_cancelled_and_deleted_jobs_are_removed() {
    let mut stack = Stack::with(1, 0, &[]);
    let client = stack.client().clone();
    let admin = Admin::connect(&stack.nats);
    let (text, _) = large_text();
    let ids: Vec<String> =
        (0..2).map(|_| require_accepted(&post_document(&client, "", &[TEXT], &text))).collect();
    let message_count = admin.message_count("OBJ_documents");
    let cancel = |id: &str| {
        let path = format!("/v1/jobs/{id}/cancel");
        assert_eq!(client.send("POST", &path, &[], &[]).status, 200);
    };
    cancel(&ids[0]);
    assert_eq!(client.send("DELETE", &format!("/v1/jobs/{}", ids[0]), &[], &[]).status, 204);
    assert_eq!(admin.message_count("OBJ_documents"), message_count / 2);
    cancel(&ids[1]);
    stack.workers.push(Worker::start(&stack.nats.address(), &[]));
    admin.wait_until_idle();
    wait_until_store_is_empty(&admin);
}

#[test]
fn the_sweeper_removes_document_and_message_of_a_cancelled_job() {
    let stack = Stack::with(1, 0, &[("WORDMILL_SWEEP_INTERVAL", "100ms")]);
    let client = stack.client();
    let admin = Admin::connect(&stack.nats);
    let id = require_accepted(&post_document(client, "", &[TEXT], &large_text().0));
    let path = format!("/v1/jobs/{id}/cancel");
    assert_eq!(client.send("POST", &path, &[], &[]).status, 200);
    admin.wait_until_idle();
    assert_eq!(admin.message_count("OBJ_documents"), 0);
}

#[test]
fn the_sweeper_removes_only_documents_without_a_job() {
    let settings = [
        ("WORDMILL_SWEEP_INTERVAL", "100ms"),
        ("WORDMILL_SWEEP_GRACE", "3s"),
        ("WORDMILL_UPLOAD_TIMEOUT", "1s"),
    ];
    let stack = Stack::with(1, 0, &settings);
    let client = stack.client().clone();
    let admin = Admin::connect(&stack.nats);
    let (text, _) = large_text();
    let waiting = require_accepted(&post_document(&client, "", &[TEXT], &text));
    let message_count = admin.message_count("OBJ_documents");
    // A document of a job that was never accepted, one of an earlier request for the same job, and
    // a chunk of an unfinished upload.
    let unknown_job = "0198f0c2-0000-7000-8000-00000000dead";
    for name in [format!("{unknown_job}.0"), format!("{waiting}.0")] {
        admin.put_object("documents", &name, "an orphan");
    }
    let chunks = format!("$O.documents.C.{unknown_job}_ab_cd");
    admin.publish(&chunks, "a chunk");
    assert_eq!(admin.message_count("OBJ_documents"), message_count + 5);
    wait_for("documents without a job are removed", LIMIT, || {
        (admin.message_count("OBJ_documents") == message_count).then_some(())
    });
    let worker = Worker::start(&stack.nats.address(), &[]);
    assert_eq!(client.wait_until_final(&waiting, LIMIT)["status"], "succeeded");
    drop(worker);
}
