//! Counted documents: their description, the scope of a count, and hostile documents.

use serde_json::{Value, json};
use wordmill_tests::LIMIT;
use wordmill_tests::assertions::{array_length, assert_fields};
use wordmill_tests::client::Client;
use wordmill_tests::document::{compress, post_document, require_accepted};
use wordmill_tests::site::{Page, Site};
use wordmill_tests::stack::Stack;

/// Waits until a job is final and asserts that it has succeeded.
fn wait_until_succeeded(client: &Client, job_id: &str) -> Value {
    let job = client.wait_until_final(job_id, LIMIT);
    assert_eq!(job["status"], "succeeded", "{job}");
    job
}

#[test]
fn every_answer_describes_source_and_rule() {
    let stack = Stack::start();
    let client = stack.client();
    let site = Site::start();
    // "мельница" twice in windows-1251, which the page declares in a meta element.
    let mill = b"\xec\xe5\xeb\xfc\xed\xe8\xf6\xe0";
    let page = [b"<meta charset=windows-1251><p>".as_slice(), mill, b" ", mill].concat();
    let url = site.put("/mill", Page::new("text/html", page));
    let job_id = client.submit(&json!({"url": url, "options": {"explain": true}}));
    let job = wait_until_succeeded(client, &job_id);
    let source = json!({
        "kind": "url",
        "url": url,
        "final_url": url,
        "content_type": "text/html",
        "charset": "windows-1251",
        "charset_from": "meta",
        "extractor": {"name": "html", "version": 2},
        "size_bytes": 47,
        "sha256": "0994cdf6f3773a969a215a4f3d87e244c4a24ea0f9f60e5dc4741d12bd4718f9",
    });
    let rule = json!({"name": "unicode", "version": 2, "unicode": "18.0"});
    let explained = client.get(&format!("/v1/jobs/{job_id}/explain")).json();
    for answer in [&job, &client.result(&job_id), &explained] {
        assert_fields(answer, json!({"source": source, "rule": rule}));
    }
    for (content_type, body, charset_from, extractor) in [
        ("text/plain; charset=utf-8", "a mill", "header", "text"),
        ("text/markdown", "a mill", "default", "text"),
        (
            "application/xhtml+xml",
            "<?xml version='1.0' encoding='utf-8'?><p>a mill",
            "xml",
            "xhtml",
        ),
        ("text/html", "\u{feff}<p>a mill", "bom", "html"),
    ] {
        let headers = [("content-type", content_type)];
        let job = wait_until_succeeded(
            client,
            &require_accepted(&post_document(client, "", &headers, body.as_bytes())),
        );
        let source = &job["source"];
        assert_eq!(source["charset_from"], charset_from, "{source}");
        let version = if extractor == "text" { 1 } else { 2 };
        assert_eq!(source["extractor"], json!({"name": extractor, "version": version}), "{source}");
        assert_eq!(job["totals"]["words"], 2, "{job}");
    }
    // A text in JSON is always UTF-8, so no charset is detected.
    let job = wait_until_succeeded(client, &client.submit(&json!({"text": "a mill"})));
    assert_eq!(job["source"]["charset"], "utf-8", "{job}");
    assert!(job["source"]["charset_from"].is_null(), "{job}");
    assert_eq!(job["source"]["extractor"], json!({"name": "text", "version": 1}), "{job}");
}

#[test]
fn the_main_content_is_counted_in_addition_to_the_page() {
    let stack = Stack::start();
    let client = stack.client();
    let page = "<!doctype html><title>Mills</title><header>Mills of the world</header>\
                <nav><a href=/>Home</a> <a href=/mills>Mills</a></nav>\
                <main><h1>Water mills</h1><p>A mill by the river.</p>\
                <aside>More mills</aside><footer>Written by a miller</footer></main>\
                <footer>All rights reserved</footer>";
    let html = [("content-type", "text/html; charset=utf-8")];
    let both = json!({"page": 22, "main": 11});
    for (scope, words, listed, not_listed) in
        [("page", 22, "home", "title"), ("main", 11, "miller", "home")]
    {
        let answer = post_document(client, &format!("?scope={scope}"), &html, page.as_bytes());
        let job_id = require_accepted(&answer);
        let job = wait_until_succeeded(client, &job_id);
        assert_eq!(job["options"]["scope"], scope, "{job}");
        assert_eq!(job["totals"]["words"], words, "{job}");
        assert_eq!(job["totals_by_rule"]["unicode"], words, "{job}");
        let result = client.result(&job_id);
        for answer in [&job, &result] {
            assert_eq!(answer["totals_by_scope"], both, "{answer}");
        }
        assert_eq!(result["word_count"][listed], 1, "{result}");
        assert!(result["word_count"][not_listed].is_null(), "{result}");
    }
}

/// Returns a zstd frame that decompresses to `megabytes` MiB of `a`, built from RLE blocks.
fn zstd_bomb(megabytes: u32) -> Vec<u8> {
    const BLOCK_BYTES: u32 = 128 << 10;
    // Magic number; no checksum, no size, a window of 8 MiB.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 13 << 3];
    let blocks = (megabytes << 20) / BLOCK_BYTES;
    for block in 1..=blocks {
        let header = BLOCK_BYTES << 3 | 1 << 1 | u32::from(block == blocks);
        frame.extend_from_slice(&header.to_le_bytes()[..3]);
        frame.push(b'a');
    }
    frame
}

#[test]
fn decompression_bombs_fail_with_a_stable_code() {
    let stack = Stack::start();
    let client = stack.client();
    let site = Site::start();
    let letters = vec![b'a'; 8 << 20];
    // 8 MiB of "a", compressed with brotli.
    let brotli = b"\x9b\xff\xff\x7f\xf8\x25\xc2\xe2\xb1\x40\x20\xf7\xfe\x0f".to_vec();
    for (encoding, bomb) in [
        ("gzip", compress("gzip", &letters)),
        ("deflate", compress("zlib", &letters)),
        ("br", brotli),
        ("zstd", zstd_bomb(8)),
    ] {
        let page = Page::new("text/plain", bomb.clone()).header("Content-Encoding", encoding);
        let url = site.put(&format!("/{encoding}"), page);
        let headers = [("content-type", "text/plain"), ("content-encoding", encoding)];
        for job_id in
            [client.submit_url(&url), require_accepted(&post_document(client, "", &headers, &bomb))]
        {
            let job = client.wait_until_final(&job_id, LIMIT);
            assert_eq!(job["failure"]["code"], "fetch_too_large", "{encoding}: {job}");
            assert_eq!(job["failure"]["retryable"], false, "{encoding}: {job}");
            let detail = job["failure"]["detail"].as_str().expect("a detail");
            assert!(detail.contains("200"), "{encoding}: {detail}");
            assert_eq!(array_length(&job["attempts"]), 1, "{encoding}: {job}");
        }
    }
}
