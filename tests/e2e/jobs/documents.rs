//! Documents as the body of a request: upload, counting, and removal of the stored document.

use std::time::Duration;

use serde_json::json;
use wordmill_tests::admin::Admin;
use wordmill_tests::assertions::assert_fields;
use wordmill_tests::document::{compress, post_document, require_accepted};
use wordmill_tests::proxied_stack::{Proxied, ProxiedStack};
use wordmill_tests::stack::Stack;
use wordmill_tests::upload::Upload;
use wordmill_tests::{LIMIT, wait_for};

pub const TEXT: (&str, &str) = ("content-type", "text/plain; charset=utf-8");
const CHUNKED: (&str, &str) = ("transfer-encoding", "chunked");
/// Number of bytes above the maximum size of a document inside a message.
const LARGE: usize = 600_000;

/// Returns a text that is too large for a message, with 1000 different words, and its total number
/// of words.
pub fn large_text() -> (Vec<u8>, u64) {
    let mut text = String::new();
    let mut words = 0;
    while text.len() < LARGE {
        text += &format!("word{:03} ", words % 1000);
        words += 1;
    }
    (text.into_bytes(), words)
}

/// Waits until the document store is empty.
pub fn wait_until_store_is_empty(admin: &Admin) {
    wait_for("no document is stored", LIMIT, || {
        (admin.message_count("OBJ_documents") == 0).then_some(())
    });
}

/// Waits until a part of a document is stored.
fn wait_until_document_is_stored(admin: &Admin) {
    wait_for("a document is stored", LIMIT, || {
        (admin.message_count("OBJ_documents") > 0).then_some(())
    });
}

fn multipart_body(boundary: &str, parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (headers, content) in parts {
        body.extend_from_slice(format!("--{boundary}\r\n{headers}\r\n\r\n").as_bytes());
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    body
}

const FORM: (&str, &str) = ("content-type", "multipart/form-data; boundary=seam");

#[test]
fn a_document_is_counted_as_it_was_sent() {
    let stack = Stack::start();
    let client = stack.client();
    let admin = Admin::connect(&stack.nats);
    let page = b"<!doctype html><title>T</title><p>to be or not to be".as_slice();
    let query = "?rule=unicode&label=book:2600&label=part:1&lane=bulk&scope=page";
    let id =
        require_accepted(&post_document(client, query, &[("content-type", "text/html")], page));
    let job = client.wait_until_final(&id, LIMIT);
    assert_eq!(job["status"], "succeeded", "{job}");
    assert_fields(&job, json!({"lane": "bulk", "labels": {"book": "2600", "part": "1"}}));
    assert_eq!(job["totals"]["words"], 6, "{job}");
    let source = &job["source"];
    assert_eq!(source["kind"], "document", "{source}");
    assert_eq!(source["content_type"], "text/html", "{source}");
    assert_eq!(source["size_bytes"], page.len(), "{source}");
    assert!(source["charset_from"].is_string(), "{source}");
    assert_eq!(client.result(&id)["word_count"]["be"], 2);

    let (text, words) = large_text();
    for headers in [&[TEXT][..], &[("content-type", "application/octet-stream")]] {
        let answer = post_document(client, "", headers, &text);
        let id = require_accepted(&answer);
        let source = &answer.json()["source"];
        assert_eq!(source["size_bytes"], text.len(), "{source}");
        let sha256 = source["sha256"].as_str().expect("a digest").to_owned();
        let job = client.wait_until_final(&id, LIMIT);
        assert_eq!(job["totals"]["words"], words, "{job}");
        assert_eq!(job["totals"]["unique_words"], 1000, "{job}");
        assert_fields(&job, json!({"source.sha256": sha256}));
        assert_eq!(sha256.len(), 64);
    }
    let koi8 = [0xcd, 0xc5, 0xcc, 0xd8, b' ', 0xcd, 0xc5, 0xcc, 0xd8];
    let id = require_accepted(&post_document(
        client,
        "",
        &[("content-type", "text/plain; charset=koi8-r")],
        &koi8,
    ));
    assert_eq!(client.wait_until_final(&id, LIMIT)["status"], "succeeded");
    assert_eq!(client.result(&id)["word_count"], json!({"мель": 2}));
    let id = require_accepted(&post_document(client, "", &[TEXT], b""));
    assert_eq!(client.wait_until_final(&id, LIMIT)["totals"]["words"], 0);
    wait_until_store_is_empty(&admin);
    admin.wait_until_idle();
}

#[test]
fn a_form_must_contain_exactly_one_file() {
    let stack = Stack::start();
    let client = stack.client();
    let admin = Admin::connect(&stack.nats);
    let (text, words) = large_text();
    let file = "Content-Disposition: form-data; name=\"f\"; filename=\"b\u{fc}ch.txt\"\r\n\
                Content-Type: text/plain; charset=utf-8";
    let id = require_accepted(&post_document(
        client,
        "?label=a:b",
        &[FORM],
        &multipart_body("seam", &[(file, &text)]),
    ));
    let job = client.wait_until_final(&id, LIMIT);
    assert_fields(&job, json!({"status": "succeeded", "totals.words": words}));
    assert_eq!(job["source"]["file_name"], "b\u{fc}ch.txt", "{job}");
    assert_eq!(job["labels"], json!({"a": "b"}));
    // Many programs send `application/octet-stream` for any file; then the file name decides.
    let file = "Content-Disposition: form-data; name=\"f\"; filename=\"a.html\"\r\n\
                Content-Type: application/octet-stream";
    let page = b"one<script>two</script>".as_slice();
    let id = require_accepted(&post_document(
        client,
        "",
        &[FORM],
        &multipart_body("seam", &[(file, page)]),
    ));
    assert_eq!(client.wait_until_final(&id, LIMIT)["source"]["content_type"], "text/html");
    assert_eq!(client.result(&id)["word_count"], json!({"one": 1}));

    let plain = "Content-Disposition: form-data; name=\"f\"; filename=\"a.txt\"";
    let whole = multipart_body("seam", &[(plain, &text)]);
    let image = "Content-Disposition: form-data; name=\"f\"; filename=\"a.png\"\r\n\
                 Content-Type: image/png";
    for (body, status, code) in [
        (&whole[..whole.len() - 20], 400, "invalid_multipart"),
        (&whole[..1000], 400, "invalid_multipart"),
        (b"".as_slice(), 400, "invalid_multipart"),
        (b"--seam--\r\n", 400, "invalid_multipart"),
        (b"not a form", 400, "invalid_multipart"),
        (&multipart_body("seam", &[(plain, &text), (plain, b"second")]), 400, "invalid_multipart"),
        (&multipart_body("seam", &[(image, b"x")]), 415, "unsupported_media_type"),
    ] {
        post_document(client, "", &[FORM], body).expect_problem(status, code);
    }
    let endless = [b"--seam\r\nX: ".as_slice(), &vec![b'a'; 3 << 20]].concat();
    post_document(client, "", &[FORM], &endless).expect_problem(400, "invalid_multipart");
    post_document(client, "", &[("content-type", "multipart/form-data")], &whole)
        .expect_problem(400, "invalid_multipart");
    wait_until_store_is_empty(&admin);
    admin.wait_until_idle();
}

#[test]
fn compressed_documents_are_counted_within_limits() {
    let stack = Stack::with(1, 1, &[("WORDMILL_FETCH_SIZE_MAX", "4MiB")]);
    let client = stack.client();
    let admin = Admin::connect(&stack.nats);
    let (text, words) = large_text();
    // Poorly compressible, so that it is stored as an object even in compressed form.
    let noise: String =
        (0..200_000_u64).map(|n| format!("{:x} ", n.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
    for (encoding, module, bytes, words) in [
        ("gzip", "gzip", text.as_slice(), words),
        ("deflate", "zlib", &text, words),
        ("gzip", "gzip", noise.as_bytes(), 200_000),
    ] {
        let headers = [TEXT, ("content-encoding", encoding)];
        let body = compress(module, bytes);
        let answer = post_document(client, "", &headers, &body);
        assert_eq!(answer.json()["source"]["size_bytes"], body.len(), "{answer:?}");
        let job = client.wait_until_final(&require_accepted(&answer), LIMIT);
        assert_eq!(job["totals"]["words"], words, "{job}");
        assert_eq!(job["source"]["size_bytes"], bytes.len(), "{job}");
        assert_eq!(job["source"]["content_encoding"], encoding, "{job}");
    }
    let gzip = [TEXT, ("content-encoding", "gzip")];
    let good = compress("gzip", &text);
    let bomb = compress("gzip", &vec![b'a'; 64 << 20]);
    for (body, code) in [
        (b"not a gzip body".to_vec(), "decode_error"),
        (good[..good.len() / 2].to_vec(), "decode_error"),
        ([good.as_slice(), b"more"].concat(), "decode_error"),
        (compress("gzip", noise.repeat(2).as_bytes()), "fetch_too_large"),
        (bomb, "fetch_too_large"),
    ] {
        let job = client
            .wait_until_final(&require_accepted(&post_document(client, "", &gzip, &body)), LIMIT);
        assert_eq!(job["failure"]["code"], code, "{job}");
    }
    for encoding in ["gzip, gzip", "compress", "br, gzip"] {
        let headers = [TEXT, ("content-encoding", encoding)];
        post_document(client, "", &headers, b"x").expect_problem(415, "unsupported_media_type");
    }
    wait_until_store_is_empty(&admin);
}

#[test]
fn a_refused_document_leaves_nothing_behind() {
    let settings = [
        ("WORDMILL_DOCUMENT_SIZE_MAX", "1MiB"),
        ("WORDMILL_UPLOAD_STALL_TIMEOUT", "500ms"),
        ("WORDMILL_UPLOAD_TIMEOUT", "4s"),
    ];
    let stack = Stack::with(1, 0, &settings);
    let client = stack.client();
    let admin = Admin::connect(&stack.nats);
    let megabyte = vec![b'a'; 1 << 20];
    require_accepted(&post_document(client, "", &[TEXT], &megabyte));
    let message_count = admin.message_count("OBJ_documents");

    let over = [megabyte.as_slice(), b"a"].concat();
    post_document(client, "", &[TEXT], &over).expect_problem(413, "input_too_large");
    // Refused because of its `Content-Length`, before the body is sent.
    let announced = [TEXT, ("content-length", "9999999999")];
    let upload = Upload::begin(client, "POST", "/v1/jobs", &announced);
    upload.answer().expect_problem(413, "input_too_large");
    // Without a `Content-Length`.
    let mut upload = Upload::begin(client, "POST", "/v1/jobs", &[TEXT, CHUNKED]);
    while upload.send_chunk(&megabyte[..100_000]) {}
    drop(upload);
    let mut upload = Upload::begin(client, "POST", "/v1/jobs", &[TEXT, CHUNKED]);
    for _ in 0..11 {
        upload.send_chunk(&megabyte[..100_000]);
    }
    upload.answer().expect_problem(413, "input_too_large");
    // Bytes after the `Content-Length` are not part of the document.
    let mut upload = Upload::begin(client, "POST", "/v1/jobs", &[TEXT, ("content-length", "3")]);
    upload.send(b"one two three");
    assert_eq!(upload.answer().status, 202);
    // One upload that stalls, and one that is too slow.
    let slow = [TEXT, ("content-length", "1000000")];
    let mut upload = Upload::begin(client, "POST", "/v1/jobs", &slow);
    upload.send(&megabyte[..500_000]);
    upload.answer().expect_problem(408, "request_timeout");
    let mut upload = Upload::begin(client, "POST", "/v1/jobs", &slow);
    while upload.send(&megabyte[..100]) && pause_upload() {}
    drop(upload);

    for content_type in ["image/png", "application/pdf", "application/x-www-form-urlencoded", "x"] {
        let headers = [("content-type", content_type)];
        post_document(client, "", &headers, b"a").expect_problem(415, "unsupported_media_type");
    }
    for (query, status, code) in [
        ("?rule=none", 422, "invalid_option"),
        ("?colour=red", 422, "invalid_option"),
        ("?lane=slow", 400, "invalid_query"),
        ("?label=book", 422, "invalid_label"),
        ("?label=a:%00", 422, "invalid_label"),
    ] {
        post_document(client, query, &[TEXT], &megabyte).expect_problem(status, code);
    }
    wait_for("only accepted documents are stored", LIMIT, || {
        (admin.message_count("OBJ_documents") == message_count && admin.message_count("JOBS") == 2)
            .then_some(())
    });
}

/// Waits briefly between two parts of an upload. Returns `true`, for use in a loop condition.
fn pause_upload() -> bool {
    wordmill_tests::pause(Duration::from_millis(200));
    true
}

#[test]
fn an_aborted_upload_leaves_nothing_behind() {
    let stack = Stack::with(1, 0, &[]);
    let client = stack.client();
    let admin = Admin::connect(&stack.nats);
    let (text, _) = large_text();
    let length = (2 * text.len()).to_string();
    let with_length = [TEXT, ("content-length", length.as_str())];
    for headers in [&with_length[..], &[TEXT, CHUNKED]] {
        for closes_its_side in [false, true] {
            let mut upload = Upload::begin(client, "POST", "/v1/jobs", headers);
            assert!(match headers[1] {
                CHUNKED => upload.send_chunk(&text),
                _ => upload.send(&text),
            });
            wait_until_document_is_stored(&admin);
            if closes_its_side {
                upload.close();
                upload.answer().expect_problem(400, "incomplete_body");
            } else {
                drop(upload);
            }
            wait_until_store_is_empty(&admin);
        }
    }
    assert_eq!(admin.message_count("JOBS"), 0);
}

#[test]
fn documents_are_refused_if_the_store_is_full_or_the_broker_fails() {
    let space = [("WORDMILL_DOCUMENTS_SPACE", "1MiB")];
    let stack = ProxiedStack::start(Proxied::Gateways(1), &space);
    let client = stack.client();
    let admin = &stack.admin;
    let proxy = stack.proxy();
    let (text, _) = large_text();

    post_document(client, "", &[TEXT], &text.repeat(3)).expect_problem(503, "storage_full");
    wait_until_store_is_empty(admin);
    require_accepted(&post_document(client, "", &[TEXT], b"small ones need no room there"));

    let mut upload = Upload::begin(client, "POST", "/v1/jobs", &[TEXT, CHUNKED]);
    assert!(upload.send_chunk(&text));
    wait_until_document_is_stored(admin);
    proxy.cut();
    assert!(upload.send_chunk(&text) && upload.send(b"0\r\n\r\n"));
    upload.answer().expect_problem(503, "broker_unavailable");
    proxy.restore();
    wait_until_store_is_empty(admin);
    assert_eq!(admin.message_count("JOBS"), 1);
}
