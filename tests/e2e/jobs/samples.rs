//! Sample documents in many languages, compared with counts made by hand.

use serde_json::{Value, json};
use wordmill_tests::assertions::array_length;
use wordmill_tests::site::{Page, Site};
use wordmill_tests::stack::Stack;
use wordmill_tests::{LIMIT, repository};

#[test]
fn samples_match_counts_made_by_hand() {
    let stack = Stack::start();
    let site = Site::start();
    let samples = repository().join("docs/samples");
    let mut counted = 0;
    for entry in std::fs::read_dir(samples.join("expected")).expect("expectations") {
        let expected = entry.expect("an entry").path();
        let name = expected.file_stem().expect("a name").to_string_lossy().into_owned();
        let expected: Value =
            serde_json::from_slice(&std::fs::read(&expected).expect("readable")).expect("JSON");
        let body = std::fs::read(samples.join(&name)).expect("the sample");
        let content_type = if name.ends_with(".html") { "text/html" } else { "text/plain" };
        let url = site.put(&format!("/{name}"), Page::new(content_type, body));

        let job_id = stack.client().submit_url(&url);
        let job = stack.client().wait_until_final(&job_id, LIMIT);
        assert_eq!(job["status"], "succeeded", "{name}: {job}");
        assert_eq!(job["totals"], expected["totals"], "{name}");
        assert_eq!(job["source"]["charset"], expected["charset"], "{name}");
        let result = stack.client().result(&job_id);
        assert_eq!(result["word_count"], expected["word_count"], "{name}");
        counted += 1;
    }
    assert!(counted >= 8, "only {counted} samples");
}

#[test]
fn a_submitted_text_is_counted() {
    let stack = Stack::start();
    let job_id =
        stack.client().submit(&json!({"text": "To be, or not to be", "labels": {"act": "3"}}));
    let job = stack.client().wait_until_final(&job_id, LIMIT);
    assert_eq!(job["status"], "succeeded", "{job}");
    assert_eq!(job["totals"]["words"], 6);
    assert_eq!(job["labels"], json!({"act": "3"}));
    assert_eq!(array_length(&job["attempts"]), 1);
    let result = stack.client().result(&job_id);
    assert_eq!(result["word_count"], json!({"be": 2, "to": 2, "not": 1, "or": 1}));
    let text = stack.client().get(&format!("/v1/jobs/{job_id}/result?top=2")).text;
    assert!(text.contains(r#""word_count":{"be":2,"to":2}"#), "in order: {text}");
}
