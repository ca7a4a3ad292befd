//! Rules, options and explanations, through the running system.

use serde_json::{Value, json};
use wordmill_tests::LIMIT;
use wordmill_tests::assertions::{array_length, assert_answer};
use wordmill_tests::stack::Stack;

fn submit(stack: &Stack, text: &str, options: &Value) -> String {
    let answer = stack.client().post("/v1/jobs", &json!({"text": text, "options": options}));
    assert_eq!(answer.status, 202, "{answer:?}");
    answer.json()["job_id"].as_str().expect("an id").to_owned()
}

#[test]
fn a_job_explains_why_rules_differ() {
    let stack = Stack::start();
    let text = "the well-known mill — and 東京";
    let id = submit(&stack, text, &json!({"rule": "office", "explain": true}));
    let job = stack.client().wait_until_final(&id, LIMIT);
    let by_rule = json!({"unicode": 6, "whitespace": 6, "office": 7, "gmx": 6});
    assert_eq!(job["totals_by_rule"], by_rule, "{job}");
    assert_eq!(job["totals"]["words"], 7);
    assert_eq!(job["rule"]["name"], "office");

    let explain = |query: &str| stack.client().get(&format!("/v1/jobs/{id}/explain{query}"));
    let answer = explain("?rules=unicode,whitespace").json();
    assert_eq!(answer["totals"], json!({"unicode": 6, "whitespace": 6}));
    assert_eq!(answer["difference"], 0);
    let tokens = answer["tokens"].as_array().expect("tokens");
    let of = |name: &str| tokens.iter().find(|token| token["token"] == name).expect("a token");
    assert_eq!(of("well-known")["words"], json!({"unicode": 2.0, "whitespace": 1.0}));
    assert_eq!(
        of("well-known")["samples"],
        json!([{"before": "the ", "after": " mill — and 東京"}])
    );
    assert_eq!(of("—")["reason"], "no_letter_or_digit");
    assert_eq!(explain("").json()["rules"], json!(["unicode", "whitespace"]));
    let wrong = explain("?rules=unicode");
    assert_answer(&wrong, 400, json!({"code": "invalid_query"}));
}

#[test]
fn a_job_without_recorded_explanation_is_not_explained() {
    let stack = Stack::start();
    let id = submit(&stack, "a mill", &json!({}));
    stack.client().wait_until_final(&id, LIMIT);
    let answer = stack.client().get(&format!("/v1/jobs/{id}/explain"));
    assert_answer(&answer, 409, json!({"code": "explain_not_recorded"}));
}

#[test]
fn a_large_explanation_is_stored_with_the_result() {
    let stack = Stack::start();
    let text: String = (0..400).map(|n| format!("a{n}-b{n}/c ")).collect();
    let id = submit(&stack, &text, &json!({"explain": true}));
    stack.client().wait_until_final(&id, LIMIT);
    let answer = stack.client().get(&format!("/v1/jobs/{id}/explain?rules=whitespace,gmx"));
    let answer = answer.json();
    assert_eq!(array_length(&answer["tokens"]), 50, "{answer}");
    assert_eq!(answer["difference"], 800);
    assert_eq!(answer["listed_difference"], 100.0);
}

#[test]
fn an_invalid_option_is_named_in_the_problem() {
    let stack = Stack::start();
    for (options, expected) in [
        (json!({"rule": "words"}), "\"rule\""),
        (json!({"min_len": 0}), "\"min_len\""),
        (json!({"top": 1000}), "0 to 100"),
        (json!({"colour": 1}), "\"colour\""),
        (json!({"rule": "gmx", "numbers": "skip"}), "\"gmx\""),
    ] {
        let answer = stack.client().post("/v1/jobs", &json!({"text": "a", "options": options}));
        assert_answer(&answer, 422, json!({"code": "invalid_option"}));
        let problem = answer.json();
        assert!(problem["detail"].as_str().expect("a detail").contains(expected), "{problem}");
    }
}
