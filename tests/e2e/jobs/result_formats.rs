//! Result formats: every format has the same words in the same order, compressed if the client
//! accepts it.

use serde_json::{Value, json};
use wordmill_tests::client::{Answer, Client};
use wordmill_tests::stack::Stack;
use wordmill_tests::{LIMIT, wait_for};

fn get_result(client: &Client, job_id: &str, query: &str, headers: &[(&str, &str)]) -> Answer {
    let path = format!("/v1/jobs/{job_id}/result{query}");
    let answer = client.send("GET", &path, headers, &[]);
    assert_eq!(answer.status, 200, "{answer:?}");
    answer
}

/// Returns words and counts in the order of the answer.
fn parse_words(answer: &Answer) -> Vec<(String, u64)> {
    let content_type = answer.header("content-type").expect("a content type");
    let line = |line: &str| {
        let (word, count) = line.rsplit_once(',').expect("two fields");
        (word.to_owned(), count.parse().expect("a number"))
    };
    match content_type {
        "application/json" => {
            // A map would lose the order.
            let (_, histogram) = answer.text.rsplit_once("\"word_count\":{").expect("a histogram");
            let entries = histogram.trim_end_matches('}').split(',').filter(|one| !one.is_empty());
            entries
                .map(|entry| {
                    let (word, count) = entry.rsplit_once(':').expect("a member");
                    (word.trim_matches('"').to_owned(), count.parse().expect("a number"))
                })
                .collect()
        }
        "text/csv; charset=utf-8; header=present" => {
            let mut lines = answer.text.split_terminator("\r\n");
            assert_eq!(lines.next(), Some("word,count"));
            lines.map(line).collect()
        }
        "application/x-ndjson" => {
            let lines = answer.text.lines().map(|line| serde_json::from_str(line).expect("JSON"));
            lines
                .map(|line: Value| {
                    let word = line["word"].as_str().expect("a word").to_owned();
                    (word, line["count"].as_u64().expect("a number"))
                })
                .collect()
        }
        other => panic!("{other}"),
    }
}

/// Returns a text of `distinct` words with one to five occurrences each, in an order that is
/// neither alphabetical nor by frequency.
fn text_of_distinct_words(distinct: usize) -> String {
    let word = |n: usize| format!("w{}x ", (n * 7919) % distinct).repeat(n % 5 + 1);
    (0..distinct).map(word).collect()
}

#[test]
fn every_format_has_the_same_words_in_the_same_order() {
    let stack = Stack::start();
    let client = stack.client();
    // A histogram that fits into the record, and one that is too large for it.
    for distinct in [50, 20_000] {
        let job_id = client.submit(&json!({"text": text_of_distinct_words(distinct)}));
        client.wait_until_final(&job_id, LIMIT);
        let whole = get_result(client, &job_id, "", &[]);
        let expected = parse_words(&whole);
        assert_eq!(expected.len(), distinct);
        let sorted = expected.is_sorted_by(|(left, more), (right, less)| {
            more > less || (more == less && left < right)
        });
        assert!(sorted, "most frequent first, then alphabetically");
        assert_eq!(whole.json()["totals"]["unique_words"], distinct, "the complete body is JSON");

        for (query, accept) in [
            ("?format=json", "text/csv"),
            ("?format=csv", "*/*"),
            ("?format=ndjson", "application/json"),
            ("", "text/csv"),
            ("", "application/x-ndjson, application/json;q=0.5"),
            ("", "text/html, */*;q=0.1"),
        ] {
            let answer = get_result(client, &job_id, query, &[("accept", accept)]);
            assert_eq!(parse_words(&answer), expected, "{query} {accept}");
            let vary: Vec<_> = answer.headers.iter().filter(|(name, _)| name == "vary").collect();
            assert!(vary.iter().any(|(_, value)| value == "accept"), "{vary:?}");
        }
        for format in ["json", "csv", "ndjson"] {
            let get = |query: &str| {
                parse_words(&get_result(client, &job_id, &format!("?format={format}&{query}"), &[]))
            };
            assert_eq!(get("top=7"), expected[..7]);
            assert!(get("top=0").is_empty());
            let often: Vec<_> = expected.iter().filter(|(_, n)| *n >= 4).cloned().collect();
            assert!(!often.is_empty() && often.len() < distinct);
            assert_eq!(get("min_count=4"), often);
            assert_eq!(get("min_count=4&top=3"), often[..3]);
            assert!(get("min_count=1000000").is_empty());
        }
    }
}

#[test]
fn responses_use_an_encoding_that_the_client_accepts() {
    let stack = Stack::start();
    let client = stack.client();
    let job_id = client.submit(&json!({"text": text_of_distinct_words(20_000)}));
    client.wait_until_final(&job_id, LIMIT);
    let plain = get_result(client, &job_id, "", &[]);
    assert_eq!(plain.header("content-encoding"), None);
    for (accepted, encoding) in [("gzip", "gzip"), ("zstd", "zstd"), ("gzip;q=0.5, zstd", "zstd")] {
        let packed = get_result(client, &job_id, "", &[("accept-encoding", accepted)]);
        assert_eq!(packed.header("content-encoding"), Some(encoding), "{accepted}");
        assert!(packed.bytes.len() < plain.bytes.len() / 2, "{accepted}");
        if encoding == "zstd" {
            let unpacked = zstd::decode_all(packed.bytes.as_slice()).expect("zstd");
            assert_eq!(unpacked, plain.bytes, "the same content");
        } else {
            assert!(packed.bytes.starts_with(&[0x1f, 0x8b, 8]), "gzip");
        }
    }
    for accepted in ["identity", "compress", "gzip;q=0"] {
        let answer = get_result(client, &job_id, "", &[("accept-encoding", accepted)]);
        assert_eq!(answer.header("content-encoding"), None);
        assert_eq!(answer.text, plain.text);
    }
    // Small answers are not compressed.
    let small = client.send("GET", "/livez", &[("accept-encoding", "gzip")], &[]);
    assert_eq!(small.header("content-encoding"), None);
}

#[test]
fn a_result_may_be_cached_until_it_expires() {
    let stack = Stack::with(1, 1, &[("WORDMILL_RESULT_TTL", "1h")]);
    let client = stack.client();
    let job_id = client.submit(&json!({"text": "a b a"}));
    client.wait_until_final(&job_id, LIMIT);
    let answer = get_result(client, &job_id, "", &[]);
    let cache = answer.header("cache-control").expect("a cache policy").to_owned();
    let seconds =
        cache.strip_prefix("private, max-age=").and_then(|rest| rest.strip_suffix(", immutable"));
    let seconds: u64 = seconds.and_then(|text| text.parse().ok()).expect("seconds");
    assert!((3000..=3600).contains(&seconds), "{cache}");
}

#[test]
fn unknown_formats_are_refused() {
    let stack = Stack::start();
    let client = stack.client();
    let job_id = client.submit(&json!({"text": "a b a"}));
    client.wait_until_final(&job_id, LIMIT);
    let path = format!("/v1/jobs/{job_id}/result");
    for query in [
        "format=xml",
        "format=",
        "format=CSV",
        "top=-1",
        "top=many",
        "min_count=-1",
        "min_count=1.5",
        "sort=word",
        "top=1&top=2",
    ] {
        client.get(&format!("{path}?{query}")).expect_problem(400, "invalid_query");
    }
    for accept in ["text/html", "image/*", "application/json;q=0"] {
        let answer = client.send("GET", &path, &[("accept", accept)], &[]);
        answer.expect_problem(406, "not_acceptable");
    }
    // An explicit format takes precedence over `Accept`.
    get_result(client, &job_id, "?format=csv", &[("accept", "text/html")]);
}

#[test]
fn a_missing_result_is_a_problem_in_every_format() {
    let stack = Stack::with(1, 0, &[]);
    let client = stack.client();
    let job_id = client.submit(&json!({"text": "a"}));
    let path = format!("/v1/jobs/{job_id}/result?format=csv");
    client.get(&path).expect_problem(409, "job_not_finished");
    client.send("POST", &format!("/v1/jobs/{job_id}/cancel"), &[], &[]);
    wait_for("the job is cancelled", LIMIT, || (client.get(&path).status == 409).then_some(()));
    client.get(&path).expect_problem(409, "job_cancelled");
}
