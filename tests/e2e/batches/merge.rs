//! Results of batches: the sum of their members' results.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use wordmill_tests::admin::Admin;
use wordmill_tests::assertions::{array_length, assert_fields};
use wordmill_tests::client::Client;
use wordmill_tests::proxied_stack::{Proxied, ProxiedStack};
use wordmill_tests::proxy::Rule;
use wordmill_tests::site::{Page, Site};
use wordmill_tests::stack::{Stack, Worker};
use wordmill_tests::{LIMIT, wait_for};

use super::members::{counts, get_batch, member_ids, require_batch_id, submit_batch};

/// Returns the sum of the histograms of some jobs.
fn sum_histograms(client: &Client, jobs: &[String]) -> BTreeMap<String, u64> {
    let mut sum = BTreeMap::new();
    for job_id in jobs {
        for (word, count) in client.result(job_id)["word_count"].as_object().expect("words") {
            *sum.entry(word.clone()).or_default() += count.as_u64().expect("a count");
        }
    }
    sum
}

fn histogram(result: &Value) -> BTreeMap<String, u64> {
    let words = result["word_count"].as_object().expect("words").iter();
    words.map(|(word, count)| (word.clone(), count.as_u64().expect("a count"))).collect()
}

#[test]
fn the_result_of_a_batch_is_the_sum_of_its_members() {
    let stack = Stack::start();
    let site = Site::start();
    let client = stack.client();
    let url = site.put("/page", Page::new("text/html", "<p>the river</p><p>the mill</p>"));
    let long = (0..9000).map(|n| format!("w{n}")).collect::<Vec<_>>().join(" ");
    let sent = submit_batch(
        client,
        &[
            json!({"text": "the mill by the river"}),
            json!({"url": url}),
            json!({"text": "l'été", "options": {"language": "fr"}}),
            json!({"text": long}),
            json!({"url": "ftp://example.org/"}),
        ],
    );
    let batch_id = require_batch_id(&sent);
    let job = client.wait_until_final(batch_id, LIMIT);
    assert_fields(&job, json!({"status": "succeeded", "counts": counts(4, 0, 0, 1)}));
    let jobs = member_ids(&sent);
    let result = client.get(&format!("/v1/batches/{batch_id}/result")).json();
    assert_eq!(histogram(&result), sum_histograms(client, &jobs));
    let totals: Vec<Value> = jobs.iter().map(|job_id| client.result(job_id)).collect();
    let add = |of: &dyn Fn(&Value) -> &Value| -> u64 {
        totals.iter().map(|result| of(result).as_u64().expect("a number")).sum()
    };
    for name in ["words", "characters", "characters_no_spaces", "overlong_words"] {
        assert_eq!(result["totals"][name], add(&|result| &result["totals"][name]), "{name}");
    }
    assert_eq!(result["totals"]["unique_words"], histogram(&result).len());
    for rule in ["unicode", "whitespace", "office", "gmx"] {
        let sums = add(&|result| &result["totals_by_rule"][rule]);
        assert_eq!(result["totals_by_rule"][rule], sums, "{rule}");
    }
    let csv = client.get(&format!("/v1/batches/{batch_id}/result?format=csv&top=2"));
    assert_eq!(csv.text, "word,count\r\nthe,4\r\nmill,2\r\n", "{csv:?}");
    // A batch is also available as a job.
    assert_eq!(client.result(batch_id), result);
}

#[test]
fn another_worker_repeats_an_interrupted_merge() {
    let stack = ProxiedStack::start(Proxied::Workers, &[]).with_ack_wait(Duration::from_secs(3));
    let client = stack.client();
    // The merge hangs at its first read of a large result, because the proxy drops all reads of
    // results.
    let reads = stack.proxy().add_rule(Rule::discard("$JS.API.DIRECT.GET.OBJ_results"));
    let mut first = stack.start_proxied_worker(&[]);
    let long =
        |from: u32| (from..from + 9000).map(|n| format!("w{n}")).collect::<Vec<_>>().join(" ");
    let sent = submit_batch(client, &[json!({"text": long(0)}), json!({"text": long(5000)})]);
    wait_for("the merge has started and is recorded", LIMIT, || {
        let running = get_batch(client, require_batch_id(&sent))["status"] == "running";
        (running && reads.count() > 0).then_some(())
    });
    first.process.kill();
    let _second = stack.start_direct_worker(&[]);
    let done = client.wait_until_final(require_batch_id(&sent), LIMIT);
    assert_fields(&done, json!({"status": "succeeded", "counts": counts(2, 0, 0, 0)}));
    assert_eq!(array_length(&done["attempts"]), 2, "{done}");
    assert_eq!(done["attempts"][0]["failure"]["code"], "worker_crashed", "{done}");
    let totals = &done["totals"];
    assert_fields(totals, json!({"words": 18_000, "unique_words": 14_000}));
    let result = client.get(&format!("/v1/batches/{}/result", require_batch_id(&sent))).json();
    assert_eq!(histogram(&result), sum_histograms(client, &member_ids(&sent)));
}

#[test]
fn a_batch_is_merged_although_two_versions_counted_its_members() {
    let stack = Stack::with(1, 0, &[]);
    let admin = Admin::connect(&stack.nats);
    let client = stack.client();
    let sent =
        submit_batch(client, &["to be", "or not", "to be"].map(|text| json!({"text": text})));
    // No worker runs yet. The records are those of workers of two versions.
    let rule = |version: u32| json!({"name": "unicode", "version": version, "unicode": "18.0"});
    let extractor = |version: u32| json!({"name": "text", "version": version});
    for (member, version) in member_ids(&sent).iter().zip([1, 2, 2]) {
        admin.rewrite_record(member, |record| {
            record["status"] = json!("succeeded");
            record["finished_at"] = record["created_at"].clone();
            record["rule"] = rule(version);
            record["source"]["extractor"] = extractor(version);
            record["totals"] = json!({"words": 2, "unique_words": 2, "characters": 6,
                "characters_no_spaces": 5, "overlong_words": 0});
            record["totals_by_rule"] = json!({"unicode": 2});
            record["result"] = json!({"place": "inline", "word_count": {"be": 1, "to": 1}});
        });
    }
    let _worker = Worker::start(&stack.nats.address(), &[]);
    let batch = client.wait_until_final(require_batch_id(&sent), LIMIT);
    assert_eq!(batch["status"], "succeeded", "{batch}");
    assert_eq!(batch["totals"]["words"], 6, "{batch}");
    assert_eq!(batch["rule"], rule(2), "{batch}");
    let versions = "unicode 1 (Unicode 18.0), unicode 2 (Unicode 18.0), text 1, text 2";
    let expected = json!([{"code": "mixed_versions", "count": 1, "where": versions}]);
    assert_eq!(batch["warnings"], expected, "{batch}");
}
