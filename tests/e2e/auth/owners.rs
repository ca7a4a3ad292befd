//! Isolation of owners: every route answers requests for another owner's job like requests for a
//! job that never existed.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};
use wordmill_tests::admin::{Admin, job_message};
use wordmill_tests::assertions::array_length;
use wordmill_tests::client::{Answer, Client};
use wordmill_tests::dead_letters::wait_for_dead_letter;
use wordmill_tests::keyring::Keyring;
use wordmill_tests::site::{Page, Site};
use wordmill_tests::stack::Stack;
use wordmill_tests::{LIMIT, repository, wait_for};

const JSON: (&str, &str) = ("content-type", "application/json");
/// Placeholder for the job id in paths and bodies.
const ID: &str = "{id}";
/// An id that no job has.
const UNUSED_ID: &str = "0198f0c2-0000-7000-8000-000000000000";
/// Routes without a job or an owner: health, metrics and queue of the whole service, and the
/// description of the API.
const WITHOUT_OWNER: [&str; 7] =
    ["/livez", "/readyz", "/health", "/metrics", "/v1/queue", "/openapi.json", "/docs"];

/// Tested separately from [`all_requests`], because its requests do not refer to an existing job.
const BATCHES: &str = "/v1/batches";

/// One request about a job.
struct Request {
    route: &'static str,
    method: &'static str,
    path: String,
    headers: Vec<(&'static str, &'static str)>,
    body: String,
}

impl Request {
    fn new(method: &'static str, route: &'static str) -> Self {
        let path = route.to_owned();
        let headers = Vec::new();
        let body = String::new();
        Self { route, method, path, headers, body }
    }

    fn query(mut self, query: &str) -> Self {
        self.path = format!("{}?{query}", self.path);
        self
    }

    fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.push((name, value));
        self
    }

    fn body(mut self, body: &Value) -> Self {
        self.headers.push(JSON);
        self.body = body.to_string();
        self
    }

    fn send(&self, client: &Client, job_id: &str) -> Answer {
        let path = self.path.replace(ID, job_id);
        let body = self.body.replace(ID, job_id);
        client.send(self.method, &path, &self.headers, body.as_bytes())
    }
}

/// Returns all requests about a job, ordered so that no request affects a later one.
fn all_requests() -> Vec<Request> {
    let job = "/v1/jobs/{id}";
    let letter = "/v1/dead-letters/{id}";
    let result = "/v1/jobs/{id}/result";
    let older = "/word-count/{id}";
    vec![
        Request::new("GET", job),
        Request::new("GET", job).query("wait=1"),
        Request::new("GET", job).query("wait=1").header("if-none-match", "\"1\""),
        Request::new("GET", job).header("if-none-match", "*"),
        Request::new("HEAD", job),
        Request::new("GET", result),
        Request::new("GET", result).query("top=1&format=csv"),
        Request::new("GET", result).query("format=ndjson&min_count=1"),
        Request::new("GET", "/v1/jobs/{id}/explain"),
        Request::new("GET", "/v1/jobs/{id}/explain").query("rules=unicode"),
        Request::new("GET", "/v1/jobs/{id}/events"),
        Request::new("GET", "/v1/jobs/{id}/events").header("last-event-id", "1"),
        Request::new("POST", "/v1/jobs/{id}/cancel"),
        Request::new("POST", "/v1/jobs/{id}/retry"),
        Request::new("POST", "/v1/jobs/{id}/retry").header("idempotency-key", "again"),
        Request::new("POST", "/v1/jobs/{id}/webhook"),
        Request::new("GET", "/v1/batches/{id}"),
        Request::new("GET", "/v1/batches/{id}").query("wait=1"),
        Request::new("GET", "/v1/batches/{id}/result"),
        Request::new("DELETE", job),
        Request::new("GET", letter),
        Request::new("DELETE", letter),
        Request::new("POST", "/v1/dead-letters/replay")
            .body(&json!({"ids": [ID], "dry_run": true})),
        Request::new("POST", "/v1/dead-letters/replay").body(&json!({"ids": [ID]})),
        Request::new("POST", "/v1/dead-letters/replay").body(&json!({"filter": {}})),
        Request::new("GET", "/v1/dead-letters"),
        Request::new("GET", "/v1/dead-letters").query("cursor=ffff&limit=1"),
        Request::new("GET", "/v1/jobs"),
        Request::new("GET", "/v1/jobs").query("status=succeeded&label=secret:a"),
        Request::new("GET", "/v1/jobs").query("cursor=ffff&limit=1"),
        Request::new("GET", older),
        Request::new("GET", "/word-count").query("job_id={id}"),
        Request::new("GET", "/word-count").body(&json!({"job_id": ID})),
        // Last, because they create a job with this id.
        Request::new("PUT", job).body(&json!({"text": "mine"})),
        Request::new("PUT", job).body(&json!({"text": "mine"})),
    ]
}

/// Returns an answer without the fields that differ between two requests.
fn comparable_answer(answer: &Answer, job_id: &str) -> String {
    let mut headers: Vec<(String, String)> = answer.headers.clone();
    // A timestamp may have one digit less, which changes the length of the body.
    let has_times = answer.status < 400;
    let changing = ["date", "traceresponse", "server-timing"];
    headers.retain(|(name, _)| {
        let is_length_of_times = has_times && name == "content-length";
        !changing.contains(&name.as_str()) && !is_length_of_times
    });
    headers.iter_mut().for_each(|(_, value)| *value = value.replace(job_id, ID));
    let text = answer.text.replace(job_id, ID);
    let body = match serde_json::from_str::<Value>(&text) {
        Ok(mut json) => {
            clear_changing_fields(&mut json);
            json.to_string()
        }
        Err(_) => text,
    };
    format!("{} {headers:?} {body}", answer.status)
}

fn clear_changing_fields(json: &mut Value) {
    match json {
        Value::Object(fields) => {
            for (name, value) in fields {
                let changes = ["trace_id", "created_at", "trace"].contains(&name.as_str());
                if changes { *value = json!("…") } else { clear_changing_fields(value) }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(clear_changing_fields),
        _ => {}
    }
}

/// Returns the routes of the gateway, read from its source.
fn gateway_routes() -> BTreeSet<String> {
    let source = fs::read_to_string(repository().join("gateway/src/routes.rs")).expect("routes");
    let listed = source.split(".route(").skip(1);
    let routes = listed.filter_map(|rest| rest.split('"').nth(1)).map(str::to_owned);
    let routes: BTreeSet<String> = routes.collect();
    assert!(routes.len() > 10, "{routes:?}");
    routes
}

/// The jobs of one owner: a succeeded one, a failed one with a dead letter, and a running one.
struct OwnedJobs {
    client: Client,
    done: String,
    dead: String,
    running: String,
}

impl OwnedJobs {
    fn all(&self) -> [&str; 3] {
        [&self.done, &self.dead, &self.running]
    }

    fn snapshot(&self) -> Vec<Value> {
        let get = |path: String| {
            let answer = self.client.get(&path);
            assert_eq!(answer.status, 200, "{answer:?}");
            answer.json()
        };
        let mut answers = vec![
            get(format!("/v1/jobs/{}", self.done)),
            get(format!("/v1/jobs/{}/result", self.done)),
            get(format!("/v1/jobs/{}", self.dead)),
            get(format!("/v1/dead-letters/{}", self.dead)),
            get("/v1/dead-letters".to_owned()),
        ];
        // The running job updates its progress, so only its status is compared.
        answers.push(get(format!("/v1/jobs/{}", self.running))["status"].clone());
        let mut listed: Vec<Value> = get("/v1/jobs".to_owned())["data"]
            .as_array()
            .expect("jobs")
            .iter()
            .map(|job| job["job_id"].clone())
            .collect();
        listed.sort_by_key(ToString::to_string);
        answers.extend(listed);
        answers
    }
}

fn create_owned_jobs(client: Client, site: &Site) -> OwnedJobs {
    let done = client.submit(&json!({"text": "my secret", "labels": {"secret": "a"}}));
    client.wait_until_final(&done, LIMIT);
    let url = site.put("/busy", Page::status("503 Service Unavailable"));
    let dead = client.submit(&json!({"url": url}));
    assert_eq!(client.wait_until_final(&dead, LIMIT)["dead_lettered"], true);
    let url = site.put("/stuck", Page::new("text/plain", "stuck in the middle").stalls_after(5));
    let running = client.submit(&json!({"url": url}));
    wait_for("the job runs", LIMIT, || {
        let job = client.get(&format!("/v1/jobs/{running}")).json();
        (job["status"] == "running").then_some(())
    });
    wait_for("the dead letter is stored", LIMIT, || {
        (client.get(&format!("/v1/dead-letters/{dead}")).status == 200).then_some(())
    });
    OwnedJobs { client, done, dead, running }
}

#[test]
fn every_route_has_an_isolation_test() {
    let requests = all_requests();
    let mut tested: BTreeSet<String> =
        requests.iter().map(|request| request.route.to_owned()).collect();
    tested.extend(WITHOUT_OWNER.map(str::to_owned));
    tested.insert(BATCHES.to_owned());
    assert_eq!(gateway_routes(), tested);
}

/// Asserts that requests about the jobs of `theirs` get the same answers as requests about jobs
/// that never existed, and that the answers contain no data of these jobs.
fn assert_answers_show_nothing(client: &Client, theirs: &OwnedJobs, requests: &[Request]) {
    for (number, id) in theirs.all().into_iter().enumerate() {
        // Each job is compared with its own unused id.
        let unused_id = UNUSED_ID.replace("-0000-7000-", &format!("-000{number}-7000-"));
        for request in requests.iter().filter(|request| request.method != "PUT") {
            let real = request.send(client, id);
            let none = request.send(client, &unused_id);
            let request_name = format!("{} {} about {id}", request.method, request.path);
            assert_eq!(
                comparable_answer(&real, id),
                comparable_answer(&none, &unused_id),
                "{request_name}"
            );
            let secrets = ["secret", "busy", "stuck", "\"a\""];
            let leaks = theirs.all().into_iter().chain(secrets);
            for leak in leaks.filter(|leak| *leak != id) {
                assert!(!real.text.contains(leak), "{request_name} shows {leak}: {real:?}");
            }
            let is_about_one = request.path.contains(ID) || request.route == "/word-count";
            assert_eq!(is_about_one, real.status >= 400, "{request_name}: {real:?}");
        }
    }
}

#[test]
fn no_route_reveals_jobs_of_another_owner() {
    let requests = all_requests();
    let mut keys = Keyring::new();
    let a = keys.add("a", &json!({}));
    let b = keys.add("b", &json!({}));
    let (name, path) = keys.setting();
    let stack = Stack::with(1, 1, &[(name, &path), ("WORDMILL_FETCH_STALL_TIMEOUT", "60s")]);
    let site = Site::start();
    let b = stack.client().with_key(&b);
    let theirs = create_owned_jobs(stack.client().with_key(&a), &site);
    let named = [JSON, ("idempotency-key", "the-same-for-both")];
    let by_a = theirs.client.send("POST", "/v1/jobs", &named, br#"{"text": "one"}"#).json();
    theirs.client.wait_until_final(by_a["job_id"].as_str().expect("an id"), LIMIT);
    let lines = br#"[{"text": "one"}]"#;
    let batch_of_a = theirs.client.send("POST", BATCHES, &named, lines).json();
    theirs.client.wait_until_final(batch_of_a["batch_id"].as_str().expect("an id"), LIMIT);
    let before = theirs.snapshot();

    assert_answers_show_nothing(&b, &theirs, &requests);
    for path in WITHOUT_OWNER {
        let answer = b.get(path);
        assert_eq!(answer.status, 200, "{answer:?}");
        let shows = |text: &&str| answer.text.contains(*text);
        assert_eq!(theirs.all().iter().find(|id| shows(id)), None, "{path}: {answer:?}");
        assert!(!answer.text.contains("\"a\""), "{path} names an owner: {answer:?}");
    }
    // Another owner may use the same idempotency keys and ids for its own jobs.
    let by_b = b.send("POST", "/v1/jobs", &named, br#"{"text": "two words"}"#);
    assert_eq!(by_b.status, 202, "{by_b:?}");
    assert_ne!(by_a["job_id"], by_b.json()["job_id"]);
    let puts: Vec<&Request> = requests.iter().filter(|one| one.method == "PUT").collect();
    for (number, id) in theirs.all().into_iter().enumerate() {
        let unused_id = UNUSED_ID.replace("-0000-7000-", &format!("-000{number}-7000-"));
        let real = puts[0].send(&b, id);
        let none = puts[0].send(&b, &unused_id);
        assert_eq!(
            comparable_answer(&real, id),
            comparable_answer(&none, &unused_id),
            "PUT of {id}"
        );
        assert_eq!(real.status, 202, "{real:?}");
        let mine = b.wait_until_final(id, LIMIT);
        assert_eq!(mine["totals"]["words"], 1, "{mine}");
        b.wait_until_final(&unused_id, LIMIT);
        assert_eq!(puts[1].send(&b, id).status, 200);
    }
    let mine = b.get("/v1/jobs").json();
    assert_eq!(array_length(&mine["data"]), 7, "{mine}");
    // The same holds for batches and their members.
    let batch_of_b = b.send("POST", BATCHES, &named, lines);
    assert_eq!(batch_of_b.status, 202, "{batch_of_b:?}");
    let ids = |batch: &Value| [batch["batch_id"].clone(), batch["lines"][0]["job_id"].clone()];
    let of_a = ids(&batch_of_a);
    let of_b = ids(&batch_of_b.json());
    assert!(of_a[0] != of_b[0] && of_a[1] != of_b[1], "{of_a:?} {of_b:?}");
    assert_eq!(theirs.snapshot(), before, "the other owner's jobs are unchanged");
}

#[test]
fn unreadable_messages_are_shown_to_the_owner_public_only() {
    let mut keys = Keyring::new();
    let a = keys.add("a", &json!({}));
    let public = keys.add("public", &json!({}));
    let (name, path) = keys.setting();
    let stack = Stack::with(1, 1, &[(name, &path)]);
    let a = stack.client().with_key(&a);
    let public = stack.client().with_key(&public);
    Admin::connect(&stack.nats).publish("jobs.bulk.a.nonsense", "not a job");
    let letter = wait_for("the message becomes a dead letter", LIMIT, || {
        let list = public.get("/v1/dead-letters").json();
        list["data"][0]["id"].as_str().map(str::to_owned)
    });
    assert!(letter.starts_with("unreadable-"), "{letter}");
    assert_eq!(a.get("/v1/dead-letters").json()["data"], json!([]));
    let path = format!("/v1/dead-letters/{letter}");
    for (method, path) in [("GET", &path), ("DELETE", &path)] {
        a.send(method, path, &[], b"").expect_problem(404, "dead_letter_not_found");
    }
    let request = json!({"ids": [letter]});
    let replayed = a.post("/v1/dead-letters/replay", &request).json();
    assert_eq!(replayed["data"][0]["outcome"], "not_found", "{replayed}");
    assert_eq!(public.send("DELETE", &path, &[], b"").status, 204);
}

#[test]
fn two_owners_can_use_the_same_job_id() {
    let mut keys = Keyring::new();
    let a = keys.add("a", &json!({}));
    let b = keys.add("b", &json!({}));
    let (name, path) = keys.setting();
    let stack = Stack::with(1, 1, &[(name, &path), ("WORDMILL_ATTEMPTS", "1")]);
    let site = Site::start();
    let url = site.put("/busy", Page::status("503 Service Unavailable"));
    let path = format!("/v1/jobs/{UNUSED_ID}");
    let owners = [&a, &b].map(|key| stack.client().with_key(key));
    for client in &owners {
        let body = json!({"url": url}).to_string();
        assert_eq!(client.send("PUT", &path, &[JSON], body.as_bytes()).status, 202);
    }
    // The queue and the dead letters deduplicate by id, but keep the jobs of two owners apart.
    for client in &owners {
        assert_eq!(client.wait_until_final(UNUSED_ID, LIMIT)["dead_lettered"], true);
        wait_for_dead_letter(client, UNUSED_ID);
    }
    assert_eq!(site.hits("/busy"), 2);
    assert_eq!(owners[0].send("DELETE", &path, &[], b"").status, 204);
    owners[0].get(&path).expect_problem(410, "result_expired");
    assert_eq!(owners[1].get(&path).status, 200);
}

#[test]
fn jobs_submitted_before_keys_belong_to_the_owner_public() {
    let mut keys = Keyring::new();
    let a = keys.add("a", &json!({}));
    let public = keys.add("public", &json!({}));
    let (name, path) = keys.setting();
    let stack = Stack::with(1, 1, &[(name, &path)]);
    let message = job_message("interactive", UNUSED_ID, "from the time before keys");
    Admin::connect(&stack.nats).publish(&format!("jobs.interactive.public.{UNUSED_ID}"), &message);
    let job = stack.client().with_key(&public).wait_until_final(UNUSED_ID, LIMIT);
    assert_eq!(job["totals"]["words"], 5, "{job}");
    let path = format!("/v1/jobs/{UNUSED_ID}");
    stack.client().with_key(&a).get(&path).expect_problem(404, "job_not_found");
}
