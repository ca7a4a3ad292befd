//! Commands for existing jobs (status, waiting, results, dead letters), and the behavior of
//! `wordmill` in terminals and pipes.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use wordmill_tests::admin::Admin;
use wordmill_tests::command::{CommandOutput, Wordmill, run_command};
use wordmill_tests::metrics::Metrics;
use wordmill_tests::site::{Page, Site};
use wordmill_tests::stack::{Stack, Worker, wait_until_ready};
use wordmill_tests::{LIMIT, wait_for};

use crate::cli::count::{create_folder, list_jobs};

fn run_all_jobs(stack: &mut Stack) {
    let worker = Worker::start(&stack.nats.address(), &[]);
    wait_until_ready(&worker.health);
    stack.workers.push(worker);
}

/// Parses a list with one JSON value per line.
fn parse_lines(output: &CommandOutput) -> Vec<Value> {
    output.expect_success().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn jobs_are_managed_by_their_ids() {
    let mut stack = Stack::with(1, 0, &[]);
    let files = create_folder(&[("a.txt", b"to be"), ("b.txt", b"or not to be"), ("c.txt", b"x")]);
    let wordmill = Wordmill::for_client(stack.client(), files.path());
    let submitted = wordmill.run(&["count", "--no-wait", ".", "-l", "play=hamlet"]);
    submitted.expect_success();
    let [a, b, c] = submitted.lines()[..] else { panic!("{submitted:?}") };
    assert!(wordmill.run(&["queue"]).expect_success().contains("No worker is running."));
    assert_eq!(wordmill.run(&["status", a, "-f", "json"]).json()["status"], "queued");
    wordmill.run(&["result", a]).expect_failure(4, &["(job_not_finished, status 409, trace "]);
    wordmill.run(&["delete", a]).expect_failure(4, &[a, "409"]);
    assert!(wordmill.run(&["cancel", c]).expect_success().contains("cancelled"));
    wordmill.run(&["result", c]).expect_failure(1, &["(job_cancelled, "]);
    let waited = wordmill.run(&["--timeout", "500ms", "wait", a, b]);
    let back = format!("wordmill wait {a} {b}");
    assert_eq!(waited.expect_failure(124, &["time limit reached", "2 jobs continue", &back]), "");

    run_all_jobs(&mut stack);
    let waited = wordmill.run(&["wait", a, c, "-f", "csv"]);
    let out = waited.expect_failure(1, &["cancelled", c]);
    let lines: Vec<&str> = out.split("\r\n").collect();
    assert_eq!(lines[0], "job_id,status,source,words,code,created_at,finished_at");
    assert!(lines[1].starts_with(&format!("{a},succeeded,a.txt,2,,20")), "{out}");
    assert!(lines[2].starts_with(&format!("{c},cancelled,c.txt,,,20")), "{out}");
    let table = wordmill.run(&["wait", a, b]);
    let rows: Vec<Vec<&str>> =
        table.expect_success().lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["job", "status", "code", "created", "words", "source"]);
    assert_eq!(rows[1][..2], [a, "succeeded"]);
    assert_eq!(rows[1][3..], ["2", "a.txt"]);
    assert_eq!(rows[2][..2], [b, "succeeded"]);
    assert_eq!(rows[2][3..], ["4", "b.txt"]);
    let status = wordmill.run(&["status", b]);
    for part in [b, "b.txt", "play=hamlet", "interactive", "trace", "attempt 1"] {
        assert!(status.expect_success().contains(part), "{part} is not in {status:?}");
    }
    let queue = wordmill.run(&["queue", "-f", "json"]);
    assert_eq!(queue.json()["lanes"]["bulk"]["depth"], 0);

    let jobs = parse_lines(&wordmill.run(&["list", "-f", "json"]));
    assert_eq!(jobs.len(), 3);
    let only = parse_lines(&wordmill.run(&["list", "--status", "cancelled", "-f", "json"]));
    assert_eq!(only.len(), 1, "{only:?}");
    assert_eq!(only[0]["job_id"], c);
    assert_eq!(parse_lines(&wordmill.run(&["list", "-l", "play=hamlet", "-f", "json"])).len(), 3);
    assert_eq!(parse_lines(&wordmill.run(&["list", "-l", "play=lear", "-f", "json"])).len(), 0);
    assert_eq!(wordmill.run(&["list", "-l", "play=lear"]).expect_success(), "");
    assert_eq!(wordmill.run(&["list", "--limit", "2"]).expect_success().lines().count(), 3);

    let again = wordmill.run(&["retry", c]);
    again.expect_failure(4, &["(source_gone, status 410"]);
    wordmill.run(&["delete", a]).expect_success();
    wordmill.run(&["delete", a]).expect_failure(4, &["(result_expired, status 410"]);
    wordmill.run(&["status", a]).expect_failure(4, &["410"]);
    wordmill.run(&["status", "not-an-id", "../queue"]).expect_failure(4, &["invalid_job_id"]);
    wordmill.run(&["cancel", b]).expect_failure(4, &["already_finished"]);
    let mixed = wordmill.run(&["status", "-f", "json", "nonsense", b]);
    assert_eq!(mixed.expect_failure(4, &["nonsense: "]).matches("job_id").count(), 1);
}

#[test]
fn results_are_printed_in_the_requested_format() {
    let stack = Stack::start();
    let site = Site::start();
    let files = create_folder(&[("a.txt", b"well-known words, words, words \xe2\x80\x94 well")]);
    let wordmill = Wordmill::for_client(stack.client(), files.path());
    let submitted = wordmill.run(&["count", "--no-wait", "a.txt", "--option", "explain=true"]);
    let id = submitted.expect_success().trim();
    wordmill.run(&["wait", id]).expect_success();
    let csv = "word,count\r\nwords,3\r\nwell,2\r\nknown,1\r\n";
    assert_eq!(wordmill.run(&["result", id, "-f", "csv"]).expect_success(), csv);
    let some = wordmill.run(&["result", id, "-f", "csv", "--min-count", "2", "--top", "1"]);
    assert_eq!(some.expect_success(), "word,count\r\nwords,3\r\n");
    let json_text = wordmill.run(&["result", id, "-f", "json"]);
    assert!(
        json_text.expect_success().contains("\"word_count\":{\"words\":3,\"well\":2,\"known\":1}")
    );
    let table = wordmill.run(&["result", id]);
    assert!(
        table.expect_success().starts_with("words                 6  by the rule unicode"),
        "{table:?}"
    );
    assert!(table.stdout.ends_with("\n3  words\n2  well\n1  known\n"), "{table:?}");

    let path = files.path().join("out.csv");
    wordmill.run(&["result", id, "-f", "csv", "-o", "out.csv"]).expect_success();
    assert_eq!(fs::read_to_string(&path).expect("written"), csv);
    wordmill
        .run(&["result", "nonsense", "-f", "csv", "-o", "out.csv"])
        .expect_failure(4, &["invalid_job_id"]);
    assert_eq!(fs::read_to_string(&path).expect("the file still exists"), csv);

    let explained = wordmill.run(&["explain", id, "--rules", "unicode,whitespace"]);
    let text = explained.expect_success();
    assert!(text.starts_with("unicode 6, whitespace 6\n"), "{text}");
    assert!(text.contains("signs inside") && text.contains("[well-known]"), "{text}");
    assert!(text.contains("no letter or digit"), "{text}");
    wordmill.run(&["explain", id, "--rules", "unicode"]).expect_failure(4, &["invalid_query"]);
    let plain = wordmill.run(&["count", "--no-wait", "a.txt"]);
    let plain = plain.expect_success().trim();
    wordmill.run(&["wait", plain]).expect_success();
    wordmill.run(&["explain", plain]).expect_failure(4, &["explain_not_recorded"]);

    // A failed URL can be retried.
    site.put("/a", Page::status("404 Not Found"));
    let failed = wordmill.run(&["count", "-f", "json", &site.url("/a")]);
    failed.expect_failure(1, &["fetch_http_4xx"]);
    let old = failed.json()["sources"][0]["job"]["job_id"].as_str().expect("an id").to_owned();
    site.put("/a", Page::new("text/plain", "found"));
    let new = wordmill.run(&["retry", &old, "-f", "json"]);
    new.expect_success();
    assert_eq!(new.json()["retry_of"], old.as_str());
    let new = new.json()["job_id"].as_str().expect("an id").to_owned();
    assert_eq!(wordmill.run(&["wait", &new, "-f", "json"]).json()["totals"]["words"], 1);
    wordmill.run(&["result", &old]).expect_failure(1, &["(job_failed, "]);
}

#[test]
fn an_interrupted_wait_prints_how_to_continue() {
    let mut stack = Stack::with(1, 0, &[]);
    let files = create_folder(&[("a.txt", b"to be")]);
    let wordmill = Wordmill::for_client(stack.client(), files.path());
    let waiting_clients_are = |expected: f64| {
        let waiting = Metrics::fetch(stack.client()).sum("wordmill_clients_waiting", &[]);
        (waiting == Some(expected)).then_some(())
    };
    let mut sent = Vec::new();
    for (signal, code, message) in
        [(Signal::INT, 130, "interrupted"), (Signal::TERM, 143, "terminated")]
    {
        wait_for("no client waits", LIMIT, || waiting_clients_are(0.0));
        let mut waiting = wordmill.start(&["count", "a.txt"]);
        // A waiting command already has the id of its job.
        wait_for("the command waits for its job", LIMIT, || waiting_clients_are(1.0));
        let jobs = list_jobs(&stack);
        assert_eq!(jobs.len(), sent.len() + 1, "{jobs:?}");
        let job_id = jobs[0]["job_id"].as_str().expect("an id").to_owned();
        waiting.signal(signal);
        assert_eq!(waiting.wait_for_exit(LIMIT).code(), Some(code), "{}", waiting.output());
        let output = wait_for("the command has printed how to continue", LIMIT, || {
            waiting.output().contains("wordmill wait").then(|| waiting.output())
        });
        assert!(output.contains(message), "{output}");
        assert!(output.contains("1 job continues; to wait for the results:"), "{output}");
        assert!(output.contains(&format!("  wordmill wait {job_id}")), "{output}");
        sent.push(job_id);
    }
    run_all_jobs(&mut stack);
    let mut arguments = vec!["wait"];
    arguments.extend(sent.iter().map(String::as_str));
    assert_eq!(wordmill.run(&arguments).expect_success().matches("succeeded").count(), 2);
}

#[test]
fn a_closed_pipe_ends_the_command_quietly() {
    let stack = Stack::start();
    let text: String = (0..60_000).map(|n| format!("w{n} ")).collect();
    let files = create_folder(&[("a.txt", text.as_bytes())]);
    let wordmill = Wordmill::for_client(stack.client(), files.path());
    let submitted = wordmill.run(&["count", "a.txt", "--no-wait"]);
    let id = submitted.expect_success().trim();
    wordmill.run(&["wait", id]).expect_success();
    for command in [
        &format!("result {id} -f csv"),
        &format!("result {id} -f json"),
        &format!("result {id} --top 50000"),
        "count a.txt --merge -f csv",
        "completions bash",
        "--help",
    ] {
        let script = format!("wordmill {command} | head -c 5 > /dev/null; echo ${{PIPESTATUS[0]}}");
        assert_eq!(run_command(&mut wordmill.shell(&script)).expect_success(), "0\n", "{command}");
    }
    let full =
        run_command(&mut wordmill.shell(&format!("wordmill result {id} -f csv > /dev/full")));
    full.expect_failure(5, &["cannot write to standard output"]);
    wordmill.run(&["result", id, "-f", "csv", "-o", "/dev/full"]).expect_failure(5, &["/dev/full"]);
}

#[test]
fn dead_letters_are_shown_replayed_and_deleted() {
    let stack = Stack::start();
    let site = Site::start();
    let files = create_folder(&[]);
    let wordmill = Wordmill::for_client(stack.client(), files.path());
    assert_eq!(wordmill.run(&["dead-letters", "list"]).expect_success(), "");
    let url = site.put("/busy", Page::status("503 Service Unavailable"));
    let failed = wordmill.run(&["count", &url, &url, "-f", "json"]);
    failed.expect_failure(1, &["fetch_http_5xx"]);
    let admin = Admin::connect(&stack.nats);
    wait_for("the dead letters are stored", LIMIT, || {
        (admin.message_count("DEAD_JOBS") == 2).then_some(())
    });

    let letters = parse_lines(&wordmill.run(&["dead-letters", "list", "-f", "json"]));
    let id = letters[0]["id"].as_str().expect("an id").to_owned();
    let table = wordmill.run(&["dead-letters", "list", "--code", "fetch_http_5xx"]);
    let lines: Vec<&str> = table.expect_success().lines().collect();
    assert_eq!(lines.len(), 3, "{table:?}");
    assert!(lines[1].starts_with(&id) && lines[1].ends_with(&url), "{table:?}");
    let bulk = wordmill.run(&["dead-letters", "list", "--lane", "bulk", "-f", "json"]);
    assert_eq!(parse_lines(&bulk).len(), 0);
    let csv = wordmill.run(&["dead-letters", "list", "-f", "csv"]);
    assert!(
        csv.expect_success().starts_with("id,dead_at,code,lane,source,trace_id\r\n"),
        "{csv:?}"
    );
    let shown = wordmill.run(&["dead-letters", "show", &id]);
    for part in [id.as_str(), "fetch_http_5xx", "attempts     3", &url, "trace"] {
        assert!(shown.expect_success().contains(part), "{part} is not in {shown:?}");
    }
    wordmill
        .run(&["dead-letters", "show", "nonsense"])
        .expect_failure(4, &["dead_letter_not_found"]);

    let dry = wordmill.run(&["dead-letters", "replay", "--all", "--dry-run"]);
    assert_eq!(dry.code, 0, "{dry:?}");
    assert_eq!(dry.stderr, "wordmill: 2 of 2 dead letters would be replayed\n");
    assert_eq!(list_jobs(&stack).len(), 2);
    site.put("/busy", Page::new("text/plain", "available again"));
    let replayed = wordmill.run(&["dead-letters", "replay", &id, "-f", "json"]);
    assert_eq!(replayed.code, 0, "{replayed:?}");
    let line = replayed.json();
    assert_eq!(line["outcome"], "replayed", "{line}");
    let new = line["job_id"].as_str().expect("an id");
    assert_eq!(wordmill.run(&["wait", new, "-f", "json"]).json()["totals"]["words"], 2);
    // A repeated replay of the same dead letter creates no further job.
    let filter = ["dead-letters", "replay", "--code", "fetch_http_5xx", "--lane", "interactive"];
    let all = wordmill.run(&filter);
    assert_eq!(all.code, 0, "{all:?}");
    assert_eq!(all.stdout.matches("replayed").count(), 2, "{all:?}");
    assert!(all.stdout.contains(new), "{all:?}");
    // A job that changes while the list is read may be missing from it.
    wait_for("each dead letter has one new job, which is final", LIMIT, || {
        let jobs = list_jobs(&stack);
        let final_jobs = jobs.iter().filter(|job| job["finished_at"].is_string()).count();
        (final_jobs == 4 && jobs.len() == 4).then_some(())
    });
    let missing = wordmill.run(&["dead-letters", "replay", "nonsense", &id]);
    missing.expect_failure(4, &["1 of 2 dead letters replayed"]);
    assert!(missing.stdout.contains("not found"), "{missing:?}");
    wordmill.run(&["dead-letters", "delete", &id]).expect_success();
    wordmill.run(&["dead-letters", "delete", &id]).expect_failure(4, &["dead_letter_not_found"]);
    assert_eq!(parse_lines(&wordmill.run(&["dead-letters", "list", "-f", "json"])).len(), 1);
}

/// Runs a command in a pseudo-terminal and returns everything that the terminal received.
/// `arguments` may redirect output to another target.
fn run_on_terminal(wordmill: &Wordmill, arguments: &str) -> String {
    let script = format!(
        "python3 -c 'import pty, sys; sys.exit(pty.spawn([\"bash\", \"-c\", sys.argv[1]]) >> 8)' \
         'wordmill {arguments}' < /dev/null"
    );
    let output = run_command(&mut wordmill.shell(&script));
    output.expect_success().to_owned()
}

#[test]
fn a_terminal_shows_progress_without_control_characters() {
    let stack = Stack::start();
    let site = Site::start();
    let hostile_name = "\u{1b}]0;owned\u{7}\u{9b}31m.txt";
    let files = create_folder(&[
        ("図書館.txt", "図書館で本を読む。".as_bytes()),
        ("ספר.txt", "שלום עולם".as_bytes()),
        (hostile_name, b"a \x7f\xc2\x9b31m b"),
    ]);
    let wordmill = Wordmill::for_client(stack.client(), files.path());
    let table = wordmill.run(&["count", ".", "-l", "a=\u{1b}[2J"]);
    table.expect_failure(4, &["invalid_label"]);
    assert!(!table.stderr.contains('\u{1b}'), "{table:?}");
    let table = wordmill.run(&["count", ".", "--top", "2"]);
    assert!(table.expect_success().chars().all(|c| c == '\n' || !c.is_control()), "{table:?}");
    assert!(
        table.stdout.contains("./図書館.txt") && table.stdout.contains("./ספר.txt"),
        "{table:?}"
    );
    assert!(table.stdout.contains("1 עולם, 1 שלום"), "{table:?}");
    // The column after the names is aligned by display width, in which each CJK character counts
    // twice.
    let column = |name: &str, wide: usize| {
        let line = table.stdout.lines().find(|line| line.contains(name)).expect("a line");
        let (before, after) = line.split_once(name).expect("the name");
        before.chars().count() + wide + after.chars().take_while(|c| *c == ' ').count()
    };
    assert_eq!(column("./図書館.txt", 12), column("./ספר.txt", 9), "{}", table.stdout);

    // Pipes receive names unchanged; terminals receive no control characters.
    let piped = wordmill.run(&["count", hostile_name, "--merge", "-f", "json"]);
    assert_eq!(piped.json()["sources"][0]["source"], hostile_name);
    for format in ["json", "csv", "table"] {
        let shown = run_on_terminal(&wordmill, &format!("count . -f {format} 2> /dev/null"));
        assert!(shown.contains("図書館"), "{shown:?}");
        let is_interpreted = |c: &char| c.is_control() && !matches!(c, '\r' | '\n');
        assert!(!shown.chars().any(|c| is_interpreted(&c)), "{shown:?}");
    }

    let url = site.put("/slow", Page::new("text/plain", "a b").after(Duration::from_secs(2)));
    let shown = run_on_terminal(&wordmill, &format!("count {url}"));
    assert!(shown.contains("counting [---") && shown.contains(" %"), "{shown:?}");
    let last = shown.rsplit("\u{1b}[K").next().expect("the end");
    assert!(last.starts_with(&url) && !last.contains('%'), "{shown:?}");
    let dumb = Wordmill::for_client(stack.client(), files.path()).with_variable("TERM", "dumb");
    assert!(!run_on_terminal(&dumb, &format!("count {url}")).contains('\u{1b}'));
    assert_eq!(wordmill.run(&["count", &url]).stderr, "");
}

#[test]
fn shells_complete_the_command() {
    let files = create_folder(&[]);
    let wordmill = Wordmill::for_server("http://127.0.0.1:1", files.path());
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = wordmill.run(&["completions", shell]);
        for word in ["dead-letters", "merge", "no-wait"] {
            assert!(script.expect_success().contains(word), "{shell}: {word}");
        }
    }
    let script = "source <(wordmill completions bash)\n\
                COMP_WORDS=(wordmill count --rule '') COMP_CWORD=3\n\
                _wordmill wordmill '' --rule; echo \"${COMPREPLY[@]}\"";
    let completed = run_command(&mut wordmill.shell(script));
    assert_eq!(completed.expect_success().trim(), "unicode whitespace office gmx");
}
