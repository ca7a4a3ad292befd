//! `wordmill count`: inputs, outputs and exit codes.

use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;
use wordmill_tests::LIMIT;
use wordmill_tests::assertions::{array_length, assert_fields};
use wordmill_tests::command::{Wordmill, run_command};
use wordmill_tests::site::{Page, Site};
use wordmill_tests::stack::Stack;

/// Creates a temporary folder with these files.
pub fn create_folder(files: &[(&str, &[u8])]) -> TempDir {
    let folder = TempDir::new().expect("a directory");
    for (name, content) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("created");
        fs::write(path, content).expect("written");
    }
    folder
}

/// Returns the jobs in the list of a gateway, at most 100.
pub fn list_jobs(stack: &Stack) -> Vec<Value> {
    let response = stack.client().get("/v1/jobs?limit=100");
    response.json()["data"].as_array().expect("jobs").clone()
}

#[test]
fn files_folders_urls_and_pipes_are_counted() {
    let stack = Stack::start();
    let site = Site::start();
    let files = create_folder(&[
        ("hamlet.txt", b"To be, or not to be: that is the question."),
        ("page.html", b"<title>T</title><p>one<script>two</script> three"),
        ("more/c.md", b"# one\n\ntwo"),
        ("more/.hidden", b"no"),
        ("more/picture.png", b"\x89PNG\0"),
    ]);
    let wordmill = Wordmill::for_client(stack.client(), files.path());
    let url = site.put("/page", Page::new("text/html", "<p>far away"));

    let one = wordmill.run(&["count", "hamlet.txt", "--top", "2"]);
    let lines: Vec<&str> = one.expect_success().lines().collect();
    assert_eq!(lines[0], "hamlet.txt", "{one:?}");
    assert_eq!(lines[1], "words                10  by the rule unicode, version 2");
    assert_eq!(lines[2], "unique words          8");
    assert_eq!(lines[3], "characters           42  33 without spaces");
    assert_eq!(lines[lines.len() - 2..], ["2  be", "2  to"], "{one:?}");

    let all = wordmill.run(&["count", "hamlet.txt", "page.html", "more", &url]);
    assert_eq!(all.code, 0, "{all:?}");
    let messages = "wordmill: skipped 1 file that is not text\n\
                    wordmill: page.html: warning: script_only_page: the page has hardly any \
                    words, but 1 script; JavaScript is not run\n";
    assert_eq!(all.stderr, messages);
    let expected = format!(
        "words  unique  characters  source\n   \
            10       8          42  hamlet.txt\n    \
             2       2           9  page.html\n    \
             2       2          10  more/c.md\n    \
             2       2           8  {url}\n   \
            16                  69  total\n"
    );
    assert_eq!(all.stdout, expected);

    let piped = wordmill.run_with(&["count", "--type", "text/html", "-f", "csv"], b"<b>a</b> b");
    let lines: Vec<&str> = piped.expect_success().split("\r\n").collect();
    let title = "source,job_id,status,words,unique_words,characters,characters_no_spaces,code";
    assert_eq!(lines[0], title);
    assert!(lines[1].starts_with("standard input,"), "{piped:?}");
    assert!(lines[1].ends_with(",succeeded,2,2,3,2,"), "{piped:?}");
    let jobs = list_jobs(&stack);
    assert_eq!(jobs[0]["source"]["content_type"], "text/html", "{}", jobs[0]);
    assert!(jobs.iter().any(|job| job["source"]["file_name"] == "hamlet.txt"));

    // A named pipe, and standard input together with another source.
    let shell = "printf 'a b' | wordmill count - <(printf 'c d e') -f json";
    let both = run_command(&mut wordmill.shell(shell));
    assert_eq!(both.expect_success().matches("\"words\"").count(), 3, "{both:?}");
    assert_eq!(both.json()["totals"]["words"], 5);
}

#[test]
fn options_labels_and_lanes_apply_to_documents_and_urls() {
    let stack = Stack::start();
    let site = Site::start();
    let files = create_folder(&[("a.txt", "Straße, the well-known one".as_bytes())]);
    let wordmill = Wordmill::for_client(stack.client(), files.path());
    let url = site.put("/a", Page::new("text/plain; charset=utf-8", "Straße, the well-known one"));
    let arguments = [
        "count",
        "a.txt",
        &url,
        "--rule",
        "whitespace",
        "--case",
        "fold",
        "--scope",
        "main",
        "--language",
        "de",
        "--option",
        "stop_words=the",
        "--option",
        "min_len=2",
        "--label",
        "book=26:00",
        "-l",
        "part=1",
        "--lane",
        "bulk",
        "--explain",
        "-f",
        "json",
    ];
    let counted = wordmill.run(&arguments);
    counted.expect_success();
    let sources = counted.json()["sources"].clone();
    let [document, page] = &sources.as_array().expect("sources")[..] else { panic!("{sources}") };
    assert_eq!(document["source"], "a.txt");
    assert_eq!(page["source"], url);
    for source in [document, page] {
        let job = &source["job"];
        assert_eq!(job["labels"], json!({"book": "26:00", "part": "1"}), "{job}");
        assert_eq!(job["lane"], "bulk", "{job}");
        let options = &job["options"];
        assert_eq!(options["rule"], "whitespace", "{job}");
        assert_eq!(options["case"], "fold", "{job}");
        assert_eq!(options["scope"], "main", "{job}");
        assert_eq!(options["language"], "de", "{job}");
        assert_eq!(options["stop_words"], json!(["the"]), "{job}");
        assert_fields(options, json!({"min_len": 2, "explain": true}));
        assert_eq!(source["explanation"]["rules"], json!(["unicode", "whitespace"]), "{source}");
        assert_eq!(job["top_words"], page["job"]["top_words"]);
    }
    let explained = wordmill.run(&["count", "a.txt", "--explain=unicode,whitespace"]);
    let text = explained.expect_success();
    assert!(text.contains("unicode 5, whitespace 4"), "{text}");
    assert!(text.contains("signs inside") && text.contains("[well-known]"), "{text}");
}

#[test]
fn sources_are_merged_into_one_histogram() {
    let stack = Stack::start();
    let site = Site::start();
    let files = create_folder(&[("a.txt", b"be to be"), ("b.html", b"<p>to be"), ("bad.txt", b"")]);
    let wordmill = Wordmill::for_client(stack.client(), files.path());
    let url = site.put("/a", Page::new("text/plain", "to sleep"));
    let merged = wordmill.run(&["count", "--merge", "a.txt", "b.html", &url, "-f", "csv"]);
    assert_eq!(merged.expect_success(), "word,count\r\nbe,3\r\nto,3\r\nsleep,1\r\n");
    let merged = wordmill.run(&["count", "--merge", "a.txt", &url, "-f", "json", "--top", "2"]);
    let order = merged.expect_success().split("\"word_count\"").nth(1).expect("words").trim();
    assert_eq!(order, ":{\"be\":2,\"to\":2}}");
    let value = merged.json();
    assert_eq!(value["totals"]["words"], 5, "{value}");
    assert_eq!(value["totals"]["unique_words"], 3, "{value}");
    assert_eq!(value["totals_by_rule"]["office"], 5, "{value}");
    assert_eq!(array_length(&value["sources"]), 2, "{value}");
    let table = wordmill.run(&["count", "--merge", "a.txt", "b.html"]);
    assert!(
        table.expect_success().starts_with("2 sources\nwords                 5  by"),
        "{table:?}"
    );
    assert!(table.stdout.ends_with("\n3  be\n2  to\n"), "{table:?}");

    // A failed source is reported and omitted from the sum, and the command fails.
    let missing = site.url("/nowhere");
    let part = wordmill.run(&["count", "--merge", "a.txt", &missing, "-f", "csv"]);
    let out = part.expect_failure(1, &[&missing, "failed: ", "(fetch_http_4xx, job ", "trace "]);
    assert_eq!(out, "word,count\r\nbe,2\r\nto,1\r\n");
    wordmill
        .run(&["count", "--merge", "--no-wait", "a.txt"])
        .expect_failure(2, &["cannot be combined with --no-wait"]);
    let words = wordmill.run(&["count", "a.txt", "b.html", "--top", "1", "-f", "csv"]);
    assert_eq!(words.expect_success(), "source,word,count\r\na.txt,be,2\r\nb.html,be,1\r\n");
}

#[test]
fn urls_without_files_are_merged_by_the_service() {
    let stack = Stack::start();
    let site = Site::start();
    let files = create_folder(&[]);
    let wordmill = Wordmill::for_client(stack.client(), files.path());
    let one = site.put("/one", Page::new("text/plain", "be to be"));
    let two = site.put("/two", Page::new("text/plain", "to sleep"));
    let merged = wordmill.run(&["count", "--merge", &one, &two, "-f", "csv", "-l", "play=hamlet"]);
    assert_eq!(merged.expect_success(), "word,count\r\nbe,2\r\nto,2\r\nsleep,1\r\n");
    let kinds =
        |kind: &str| list_jobs(&stack).iter().filter(|job| job["source"]["kind"] == kind).count();
    assert_eq!(kinds("batch"), 1, "{:?}", list_jobs(&stack));
    assert_eq!(kinds("url"), 2, "{:?}", list_jobs(&stack));
    assert!(list_jobs(&stack).iter().all(|job| job["labels"]["play"] == "hamlet"));
    let value = wordmill.run(&["count", "--merge", &one, &two, "-f", "json", "--top", "1"]).json();
    assert_eq!(value["word_count"], json!({"be": 2}), "{value}");
    assert_eq!(value["totals"]["words"], 5, "{value}");
    assert_eq!(value["totals_by_rule"]["gmx"], 5, "{value}");
    assert_eq!(value["sources"][1]["source"], two, "{value}");
    assert_eq!(value["sources"][1]["job"]["totals"]["words"], 2, "{value}");

    // Sources that are omitted from the sum are reported.
    let missing = site.url("/nowhere");
    let part = wordmill.run(&["count", "--merge", &one, "http://", &missing, &two]);
    let out =
        part.expect_failure(4, &["http://: ", "(invalid_url)", &missing, "(fetch_http_4xx, job "]);
    assert!(out.starts_with("2 sources\nwords                 5"), "{part:?}");
    let none = wordmill.run(&["count", "--merge", "http://", "https://"]);
    assert_eq!(none.expect_failure(4, &["http://: ", "https://: ", "(empty_batch, status "]), "");

    let submitted = wordmill.run(&["count", "--merge", "--no-wait", &one, &two]);
    let id = submitted.expect_success().trim();
    wordmill.run(&["wait", id]).expect_success();
    assert!(wordmill.run(&["status", id]).expect_success().contains("2 succeeded"));
    assert!(
        wordmill
            .run(&["result", id, "-f", "csv"])
            .expect_success()
            .starts_with("word,count\r\nbe,2")
    );
}

#[test]
fn a_thousand_files_are_counted() {
    let stack = Stack::with(1, 2, &[]);
    let files = TempDir::new().expect("a directory");
    let mut expected = 0;
    for n in 0..1000 {
        let words = n % 7 + 1;
        expected += words;
        let text = (0..words).map(|word| format!("w{word} ")).collect::<String>();
        fs::write(files.path().join(format!("{n:04}.txt")), text).expect("written");
    }
    let wordmill = Wordmill::for_client(stack.client(), files.path());
    let counted = wordmill.run(&["count", ".", "-f", "json"]);
    counted.expect_success();
    let value = counted.json();
    let sources = value["sources"].as_array().expect("sources");
    assert_fields(&value, json!({"totals.words": expected}));
    assert_eq!(sources.len(), 1000);
    for (n, source) in sources.iter().enumerate() {
        assert_eq!(source["source"], format!("./{n:04}.txt"));
        assert_eq!(source["job"]["totals"]["words"], n % 7 + 1, "{source}");
        assert_eq!(source["job"]["lane"], "bulk", "{source}");
    }
    let merged = wordmill.run(&["count", ".", "--merge", "-f", "csv"]);
    assert_eq!(merged.expect_success().lines().nth(1), Some("w0,1000"), "{}", merged.stdout);
}

#[test]
fn every_error_has_a_message_and_an_exit_code() {
    let stack = Stack::start();
    let site = Site::start();
    let files = create_folder(&[("a.txt", b"a"), ("picture.png", b"\x89PNG\r\n\x1a\n\0\0")]);
    let wordmill = Wordmill::for_client(stack.client(), files.path());
    let missing = site.url("/nowhere");
    let failed = wordmill.run(&["count", &missing]);
    assert_eq!(failed.expect_failure(1, &[&missing, "fetch_http_4xx", "status 404", "trace "]), "");
    wordmill
        .run(&["count", "picture.png"])
        .expect_failure(1, &["picture.png: failed: ", "unsupported_format"]);

    // Other sources are still counted.
    let mixed = wordmill.run(&["count", "a.txt", "nowhere.txt", &missing, "-f", "csv"]);
    let out = mixed.expect_failure(5, &["cannot read nowhere.txt: No such file", &missing]);
    let lines: Vec<&str> = out.split("\r\n").collect();
    assert!(lines[1].contains(",succeeded,1,1,1,1,"), "{out}");
    assert_eq!(lines[2], "nowhere.txt,,not_sent,,,,,unreadable");
    assert!(lines[3].ends_with(",failed,,,,,fetch_http_4xx"), "{out}");
    let mixed = wordmill.run(&["count", "a.txt", "ftp:x", "http://", "-f", "json"]);
    mixed.expect_failure(5, &["http://: ", "(invalid_url, status 422, trace "]);
    assert_eq!(mixed.json()["sources"][2]["error"]["code"], "invalid_url");

    let refused = wordmill.run(&["count", "a.txt", "a.txt", "--option", "colour=red"]);
    assert_eq!(refused.expect_failure(4, &["(invalid_option, status 422, trace "]), "");
    assert_eq!(refused.stderr.lines().count(), 1, "reported once: {refused:?}");

    for (arguments, message) in [
        (&["count", "--rule", "words", "a.txt"][..], "possible values"),
        (&["count", "a.txt", "--label", "x"], "NAME=VALUE"),
        (&["count", "--option", "a=1", "--option", "a=1", "a.txt"], "given more than once"),
        (&["count", "-", "-"], "given more than once"),
        (&["count", "a.txt", "--explain", "-f", "csv"], "--format json"),
        (&["frobnicate"], "unrecognized subcommand"),
        (&["--server", "nonsense", "queue"], "http://host:port"),
        (&["count", "--output", "no/such/folder/x", "a.txt"], "cannot write"),
    ] {
        let output = wordmill.run(arguments);
        let code = if message == "cannot write" { 5 } else { 2 };
        output.expect_failure(code, &[message]);
    }
    let before = list_jobs(&stack).len();
    wordmill
        .run(&["count", "a.txt", "--output", "no/such/folder/x"])
        .expect_failure(5, &["cannot write"]);
    assert_eq!(list_jobs(&stack).len(), before, "no job without an output");

    let help = wordmill.run(&["--help"]);
    for part in ["Examples:", "wordmill count", "Exit codes:", "124", "WORDMILL_API_KEY"] {
        assert!(help.expect_success().contains(part), "{part} is not in {help:?}");
    }
}

#[test]
fn warnings_are_printed_on_standard_error() {
    let stack = Stack::start();
    let files = create_folder(&[
        ("dash.txt", "—".as_bytes()),
        ("hidden.html", b"<p>The mill<p hidden>by the river"),
        ("mill.txt", b"the mill"),
    ]);
    let wordmill = Wordmill::for_client(stack.client(), files.path());
    let expected = "wordmill: ./dash.txt: warning: no_text_found: no words were found\n\
                    wordmill: ./hidden.html: warning: hidden_text_present: 10 characters of \
                    hidden text, without spaces, were not counted\n";
    for arguments in [&["count", "."][..], &["count", ".", "-f", "csv"], &["count", ".", "--merge"]]
    {
        let counted = wordmill.run(arguments);
        assert_eq!(counted.stderr, expected, "{arguments:?}");
        assert_eq!(counted.code, 0, "{arguments:?}");
    }
    for action in ["wait", "status", "result"] {
        let job_id = stack.client().submit(&json!({"text": "—"}));
        stack.client().wait_until_final(&job_id, LIMIT);
        let shown = wordmill.run(&[action, &job_id]);
        assert_eq!(shown.code, 0, "{shown:?}");
        let line = format!("wordmill: {job_id}: warning: no_text_found: no words were found\n");
        assert_eq!(shown.stderr, line, "{action}");
    }
}

#[test]
fn json_has_the_warnings_instead_of_standard_error() {
    let stack = Stack::start();
    let files = create_folder(&[("a.txt", "—".as_bytes()), ("b.txt", "…".as_bytes())]);
    let wordmill = Wordmill::for_client(stack.client(), files.path());
    let each = wordmill.run(&["count", ".", "-f", "json"]);
    let warning = json!([{"code": "no_text_found", "count": 1, "where": null}]);
    assert_eq!(each.json()["sources"][0]["job"]["warnings"], warning);
    assert_eq!(each.stderr, "");
    let merged = wordmill.run(&["count", ".", "--merge", "-f", "json"]);
    let warning = json!([{"code": "no_text_found", "count": 2, "where": null}]);
    assert_eq!(merged.json()["warnings"], warning);
    assert_eq!(merged.stderr, "");
}

#[test]
fn a_batch_of_urls_prints_its_merged_warnings() {
    let stack = Stack::start();
    let site = Site::start();
    let files = create_folder(&[]);
    let wordmill = Wordmill::for_client(stack.client(), files.path());
    let urls = ["/a", "/b"].map(|path| site.put(path, Page::new("text/plain", "-")));
    let merged = wordmill.run(&["count", &urls[0], &urls[1], "--merge"]);
    assert_eq!(merged.stderr, "wordmill: warning: no_text_found: 2 documents have no words\n");
    assert_eq!(merged.code, 0, "{merged:?}");
    let merged = wordmill.run(&["count", &urls[0], &urls[1], "--merge", "-f", "json"]);
    assert_eq!(merged.json()["warnings"][0]["count"], 2, "{merged:?}");
}
