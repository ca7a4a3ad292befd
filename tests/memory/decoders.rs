//! Memory of a worker that decodes worst-case bodies.

mod brotli;
mod zstd;

use serde_json::Value;
use wordmill_tests::document::{compress, post_document, require_accepted};
use wordmill_tests::site::{Page, Site};
use wordmill_tests::stack::{Stack, Worker, wait_until_ready};
use wordmill_tests::{LIMIT, repository};

use crate::{assert_below, start_stack};

/// Largest difference between the peaks of two equal runs. Measured: 0.3 MiB.
const NOISE_BYTES: u64 = 1 << 20;
/// Size of a body without compression.
const PLAIN_BYTES: usize = 16 << 20;
/// Size of a gzip header without optional fields.
const GZIP_HEADER_BYTES: usize = 10;

/// A body and its decoder.
struct Case {
    name: &'static str,
    /// Row of the decoder in docs/counting.md.
    decoder: &'static str,
    encoding: &'static str,
    charset: &'static str,
    body: Vec<u8>,
}

/// Returns the memory limit of a decoder, as documented in docs/counting.md.
fn documented_bytes_max(decoder: &str) -> u64 {
    let text = std::fs::read_to_string(repository().join("docs/counting.md")).expect("a document");
    let start = format!("| {decoder} | ");
    let row = text.lines().find_map(|line| line.strip_prefix(&start)).expect("a row");
    let (size, _) = row.split_once(" | ").expect("cells");
    let (number, unit) = size.split_once(' ').expect("a number and a unit");
    number.parse::<u64>().expect("a number")
        << match unit {
            "KiB" => 10,
            "MiB" => 20,
            other => panic!("unknown unit: {other}"),
        }
}

/// Fetches a page with a new worker. Returns the job and the peak resident memory of the worker.
fn fetch_document(stack: &Stack, site: &Site, case: &Case) -> (Value, u64) {
    let worker = Worker::start(&stack.nats.address(), &[]);
    wait_until_ready(&worker.health);
    let page = Page::new(&format!("text/plain; charset={}", case.charset), case.body.as_slice());
    let url = site.put("/page", page.header("Content-Encoding", case.encoding));
    let job = stack.client().wait_until_final(&stack.client().submit_url(&url), LIMIT);
    (job, worker.process.peak_memory_bytes())
}

/// Returns a text of a hundred distinct words in random order, which compresses like prose.
fn prose() -> Vec<u8> {
    let mut seed = 1_u32;
    let words = (0..1_000_000).map(|_| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        format!("word{:02} ", (seed >> 20) % 100)
    });
    words.collect::<String>().into_bytes()
}

/// Returns a gzip body with the longest extra field, a name and a comment of 8 MiB each, and 10,000
/// empty members after the text.
fn gzip_with_long_header(text: &[u8]) -> Vec<u8> {
    const FIELD_BYTES: usize = 8 << 20;
    let extra = 4;
    let name = 8;
    let comment = 16;
    let mut body = vec![0x1f, 0x8b, 8, extra | name | comment, 0, 0, 0, 0, 0, 0xff];
    body.extend_from_slice(&u16::MAX.to_le_bytes());
    body.resize(body.len() + usize::from(u16::MAX), b'x');
    for _ in 0..2 {
        body.resize(body.len() + FIELD_BYTES, b'x');
        body.push(0);
    }
    body.extend_from_slice(&compress("gzip", text)[GZIP_HEADER_BYTES..]);
    body.extend_from_slice(&compress("gzip", b"").repeat(10_000));
    body
}

fn cases() -> Vec<Case> {
    let compressed = |name, decoder, encoding, body| {
        let charset = "utf-8";
        Case { name, decoder, encoding, charset, body }
    };
    let plain = |charset, bytes: &[u8]| {
        let body = bytes.repeat(PLAIN_BYTES / bytes.len());
        let decoder = "any charset";
        let encoding = "identity";
        Case { name: charset, decoder, encoding, charset, body }
    };
    let prose = prose();
    let zlib = compress("zlib", &prose);
    // The zlib format adds two bytes before the data, and a checksum of four bytes after it.
    let deflate = zlib[2..zlib.len() - 4].to_vec();
    let inflate = "`gzip`, `deflate`";
    vec![
        compressed("gzip", inflate, "gzip", gzip_with_long_header(&prose)),
        compressed("zlib", inflate, "deflate", zlib),
        compressed("deflate", inflate, "deflate", deflate),
        compressed("br", "`br`", "br", brotli::worst(*b"abc ")),
        compressed("zstd", "`zstd`", "zstd", zstd::worst()),
        // Bytes that decode to three bytes each, invalid bytes, and an alphabet switch per word.
        plain("windows-1252", b"\x80\x80\x80 word "),
        plain("utf-8", b"\xff\xff\xff word "),
        plain("gb18030", b"\xff\x81\x30\xff word "),
        plain("iso-2022-jp", b"\x1b$B!!\x1b(B word "),
        plain("utf-16le", b"w\0o\0r\0d\0 \0\x20\xac\x20\xac"),
    ]
}

#[test]
fn decoders_use_at_most_the_documented_memory() {
    let stack = start_stack(1, 0, &[]);
    let site = Site::start();
    let small = Case {
        name: "plain text",
        decoder: "",
        encoding: "identity",
        charset: "utf-8",
        body: b"abc ".repeat(PLAIN_BYTES / 4),
    };
    let (_, usual) = fetch_document(&stack, &site, &small);
    for case in cases() {
        let (job, peak) = fetch_document(&stack, &site, &case);
        let name = case.name;
        assert_eq!(job["status"], "succeeded", "{name}: {job}");
        let memory = peak.saturating_sub(usual);
        let bytes_max = documented_bytes_max(case.decoder);
        println!("decoding {name}: {} KiB, documented {} KiB", memory >> 10, bytes_max >> 10);
        assert!(memory < bytes_max + NOISE_BYTES, "{name}: {memory} bytes of {bytes_max}");
        // If the body uses less than half of a large limit, it is not the worst case.
        assert!(bytes_max < NOISE_BYTES || memory > bytes_max / 2, "{name}: {memory} bytes only");
    }
}

#[test]
fn large_brotli_windows_are_refused_before_allocation() {
    const WINDOW_LOG: u32 = 28;
    /// Measured: 1 to 2 MiB.
    const GROWTH_BYTES_MAX: u64 = 4 << 20;
    let stack = start_stack(1, 1, &[]);
    let site = Site::start();
    let client = stack.client();
    let worker = &stack.workers[0].process;
    // 192 MiB of text in a body of little more than 2 MiB.
    let body = brotli::with_large_window(WINDOW_LOG, 12);
    let page = Page::new("text/plain", body.as_slice()).header("Content-Encoding", "br");
    let url = site.put("/page", page);
    let headers = [("content-type", "text/plain"), ("content-encoding", "br")];
    let before = worker.peak_memory_bytes();
    for job_id in
        [client.submit_url(&url), require_accepted(&post_document(client, "", &headers, &body))]
    {
        let job = client.wait_until_final(&job_id, LIMIT);
        assert_eq!(job["failure"]["code"], "decode_error", "{job}");
        assert_eq!(job["failure"]["retryable"], false, "{job}");
        let detail = job["failure"]["detail"].as_str().expect("a sentence");
        assert!(detail.contains("large window") && detail.contains("16 MiB"), "{detail}");
        let grown = worker.peak_memory_bytes() - before;
        assert_below(GROWTH_BYTES_MAX, grown, "brotli with a large window");
    }
}
