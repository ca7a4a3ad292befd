//! Webhooks of batches and their members, over HTTPS, and with a broker cluster of three servers.

use std::fs;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use wordmill_tests::admin::Admin;
use wordmill_tests::assertions::assert_fields;
use wordmill_tests::certificates::Authority;
use wordmill_tests::cluster::Cluster;
use wordmill_tests::receiver::{Receiver, Reply};
use wordmill_tests::stack::{Gateway, Stack, Worker, wait_until_ready};
use wordmill_tests::{LIMIT, wait_for};

use crate::webhooks::delivery::{
    FAST_RETRIES, SECRET, get_webhook, public_receiver_secret, wait_until_settled,
};

const NDJSON: [(&str, &str); 1] = [("content-type", "application/x-ndjson")];

#[test]
fn a_batch_and_its_members_have_separate_webhooks() {
    let stack = Stack::with(1, 1, &FAST_RETRIES);
    let receiver = Receiver::start();
    let client = stack.client();
    let line = json!({"text": "the river", "webhook": {"url": receiver.url("/line")}});
    let body = format!("{line}\n{{\"text\": \"the mill\"}}\n");
    let path = format!("/v1/batches?label=book:a&webhook={}", receiver.url("/batch"));
    let sent = client.send("POST", &path, &NDJSON, body.as_bytes());
    assert_eq!(sent.status, 202, "{sent:?}");
    let sent = sent.json();
    let ids = [&sent["lines"][0]["job_id"], &sent["batch_id"], &sent["lines"][1]["job_id"]];
    let [line, batch, silent] = ids.map(|id| id.as_str().expect("an id"));

    for (path, job_id, kind, words) in [("/line", line, "text", 2), ("/batch", batch, "batch", 4)] {
        let request = receiver.wait_for_requests(path, 1, LIMIT).remove(0);
        assert!(request.is_signed_with(&public_receiver_secret()), "{request:?}");
        assert_eq!(request.header("webhook-id"), job_id);
        let body = request.json();
        assert_eq!(body["type"], "job.succeeded", "{body}");
        let data = &body["data"];
        assert_fields(data, json!({"job_id": job_id, "lane": "bulk"}));
        assert_eq!(data["source"]["kind"], kind, "{body}");
        assert_fields(data, json!({"totals.words": words, "labels.book": "a"}));
        // The link to the result works.
        let result = client.get(data["links"]["result"].as_str().expect("a link")).json();
        assert_eq!(result["totals"]["words"], words, "{result}");
        assert_eq!(wait_until_settled(client, job_id)["status"], "delivered");
    }
    let batch_view = client.get(&format!("/v1/batches/{batch}")).json();
    assert_eq!(batch_view["webhook"]["url"], receiver.url("/batch"), "{batch_view}");
    assert!(client.get(&format!("/v1/jobs/{silent}")).json()["webhook"].is_null());
    let again = client.send("POST", &format!("/v1/jobs/{batch}/webhook"), &[], b"");
    assert_eq!(again.status, 202, "{again:?}");
    receiver.wait_for_requests("/batch", 2, LIMIT);
    assert_eq!(receiver.requests("/line").len(), 1);
}

#[test]
fn webhooks_are_delivered_over_https_only_with_trusted_certificates() {
    let ours = Authority::new();
    let others = Authority::new();
    let folder = TempDir::new().expect("a directory");
    let trusted = folder.path().join("authorities.pem");
    fs::write(&trusted, &ours.pem).expect("the file is written");
    let trusted = ("SSL_CERT_FILE", trusted.to_str().expect("a path"));
    let settings = [&FAST_RETRIES[..], &[trusted]].concat();
    let stack = Stack::with(1, 1, &settings);
    let client = stack.client();
    let submit = |receiver: &Receiver| {
        client.submit(&json!({"text": "a", "webhook": {"url": receiver.url("/hook")}}))
    };
    let good = Receiver::start_with(&ours.certify("127.0.0.1"));
    let job_id = submit(&good);
    assert_eq!(wait_until_settled(client, &job_id)["status"], "delivered");
    let request = good.requests("/hook").remove(0);
    assert!(request.is_signed_with(&public_receiver_secret()), "{request:?}");

    // An unknown authority, another host name, an expired certificate.
    for certified in
        [others.certify("127.0.0.1"), ours.certify("localhost"), ours.certify_expired("127.0.0.1")]
    {
        let bad = Receiver::start_with(&certified);
        let job_id = submit(&bad);
        let failed = wait_for("an attempt fails", LIMIT, || {
            let webhook = get_webhook(client, &job_id);
            webhook["attempts"][0]["failure"].is_object().then_some(webhook)
        });
        assert_eq!(failed["attempts"][0]["failure"]["code"], "fetch_tls", "{failed}");
        assert!(failed["attempts"][0]["status_code"].is_null(), "{failed}");
        assert!(bad.requests("/hook").is_empty());
    }
}

#[test]
fn a_webhook_survives_the_loss_of_its_queues_leader() {
    const SETTINGS: [(&str, &str); 3] = [
        ("WORDMILL_REPLICAS", "3"),
        ("WORDMILL_WEBHOOK_SECRETS", SECRET),
        ("WORDMILL_WEBHOOK_RETRY_MAX", "3s"),
    ];
    let mut cluster = Cluster::start(3);
    cluster.provision(&[]);
    let addresses = cluster.addresses();
    let admin = Admin::connect_to_any(&addresses);
    // Short, so that messages whose acknowledgement is lost with the server are redelivered soon.
    admin.set_ack_wait(Duration::from_secs(2));
    admin.set_ack_wait_of("WEBHOOKS", &["webhooks"], Duration::from_secs(2));
    let (gateway, worker) = {
        let all = addresses.join(",");
        (Gateway::start(&all, &SETTINGS), Worker::start(&all, &SETTINGS))
    };
    wait_until_ready(&gateway.client);
    wait_until_ready(&worker.health);
    let client = &gateway.client;
    let receiver = Receiver::start();
    let submit =
        |path: &str| client.submit(&json!({"text": "a b", "webhook": {"url": receiver.url(path)}}));
    let requests = submit("/first");
    assert_eq!(wait_until_settled(client, &requests)["status"], "delivered");

    let busy = Reply::Status("503 Service Unavailable", "");
    receiver.set_replies("/hook", &[busy, Reply::Status("204 No Content", "")]);
    let job_id = submit("/hook");
    receiver.wait_for_requests("/hook", 1, LIMIT);
    // The next attempt is due soon.
    let leader = admin.leader("WEBHOOKS");
    let index = (0..addresses.len()).find(|index| leader == format!("n{index}"));
    let index = index.expect("a leader");
    cluster.nodes[index].process.kill();
    receiver.wait_for_requests("/hook", 2, LIMIT);
    wait_for("the webhook is delivered", LIMIT, || {
        // Without a leader the gateway answers 503.
        let answer = client.get(&format!("/v1/jobs/{job_id}"));
        (answer.status == 200 && answer.json()["webhook"]["status"] == "delivered").then_some(())
    });
    let received = receiver.requests("/hook");
    assert!(
        received.iter().all(|one| one.is_signed_with(&public_receiver_secret())),
        "{received:?}"
    );
    // Webhooks of later jobs are also delivered.
    let next = wait_for("the queue takes jobs again", LIMIT, || {
        let body = json!({"text": "a b", "webhook": {"url": receiver.url("/next")}});
        let answer = client.post("/v1/jobs", &body);
        (answer.status == 202).then(|| answer.json()["job_id"].as_str().expect("an id").to_owned())
    });
    receiver.wait_for_requests("/next", 1, LIMIT);
    wait_for("the webhook is delivered", LIMIT, || {
        let answer = client.get(&format!("/v1/jobs/{next}"));
        (answer.status == 200 && answer.json()["webhook"]["status"] == "delivered").then_some(())
    });
    cluster.nodes[index].restart();
    cluster.wait_until_healthy();
    let again = client.send("POST", &format!("/v1/jobs/{requests}/webhook"), &[], b"");
    assert_eq!(again.status, 202, "{again:?}");
    receiver.wait_for_requests("/first", 2, LIMIT);
}
