//! Test cases of the route table: a request with its expected answer, and the operations of the API
//! description.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::Value;
use wordmill_tests::client::{Answer, Client};
use wordmill_tests::repository;
use wordmill_tests::upload::Upload;

/// A job id that was never used.
pub const UNKNOWN: &str = "0198f0c2-0000-7000-8000-000000000000";

/// Values of the placeholders in requests, for example the id of a failed job for `{failed}`.
#[derive(Debug, Default)]
pub struct Names {
    known: BTreeMap<&'static str, String>,
    all_ids: Option<&'static str>,
}

impl Names {
    /// Uses `id` for every name without a value.
    pub fn all_ids(self, id: &'static str) -> Self {
        Self { all_ids: Some(id), ..self }
    }

    pub fn add(&mut self, name: &'static str, value: impl Into<String>) {
        self.known.insert(name, value.into());
    }

    /// Replaces all names in a text with their values. Panics if a name has no value.
    fn fill(&self, text: &str) -> String {
        let mut filled = text.to_owned();
        for (name, value) in &self.known {
            filled = filled.replace(&format!("{{{name}}}"), value);
        }
        // Names consist of lower-case letters and underscores, so a JSON object does not match.
        while let (Some(id), Some((start, end))) = (self.all_ids, find_name(&filled)) {
            filled.replace_range(start..end, id);
        }
        assert!(find_name(&filled).is_none(), "a name has no value: {filled}");
        filled
    }
}

/// Returns the range of the first name in braces.
fn find_name(text: &str) -> Option<(usize, usize)> {
    text.match_indices('{').find_map(|(start, _)| {
        let length = text[start + 1..].find(|c: char| !c.is_ascii_lowercase() && c != '_')?;
        let end = start + 1 + length;
        (length > 0 && text[end..].starts_with('}')).then_some((start, end + 1))
    })
}

/// Way to send a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sending {
    Complete,
    /// The body never ends, and the connection stays open.
    Stalled,
    /// The connection is closed before the end of the body.
    Incomplete,
}

/// One request and its expected answer: a status, optionally followed by the code of a problem, for
/// example `404 job_not_found`.
#[derive(Debug, Clone)]
pub struct Case {
    pub expected: String,
    pub method: String,
    pub path: String,
    headers: Vec<(&'static str, String)>,
    body: String,
    sending: Sending,
}

impl Case {
    /// Creates a case from a request without a body, for example `GET /v1/jobs`.
    pub fn new(expected: &str, request: &str) -> Self {
        let (method, path) = request.split_once(' ').expect("a method and a path");
        Self {
            expected: expected.to_owned(),
            method: method.to_owned(),
            path: path.to_owned(),
            headers: Vec::new(),
            body: String::new(),
            sending: Sending::Complete,
        }
    }

    pub fn with_expected(mut self, expected: &str) -> Self {
        expected.clone_into(&mut self.expected);
        self
    }

    pub fn with_name(mut self, name: &str, value: &str) -> Self {
        self.path = self.path.replace(name, value);
        self
    }

    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub fn body(mut self, content_type: &str, body: &str) -> Self {
        body.clone_into(&mut self.body);
        self.header("content-type", content_type)
    }

    pub fn json(self, body: &Value) -> Self {
        self.body("application/json", &body.to_string())
    }

    pub fn lines(self, lines: &[Value]) -> Self {
        let body: String = lines.iter().map(|line| format!("{line}\n")).collect();
        self.body("application/x-ndjson", &body)
    }

    pub fn text(self, text: &str) -> Self {
        self.body("text/plain", text)
    }

    pub fn with_stalled_body(mut self) -> Self {
        self.sending = Sending::Stalled;
        self
    }

    pub fn with_incomplete_body(mut self) -> Self {
        self.sending = Sending::Incomplete;
        self
    }

    /// Sends the request and asserts that the answer is the expected one.
    pub fn send_and_check(&self, client: &Client, names: &Names) -> Answer {
        let answer = self.send(client, names);
        self.check(&answer);
        answer
    }

    pub fn send(&self, client: &Client, names: &Names) -> Answer {
        let path = names.fill(&self.path);
        let body = names.fill(&self.body);
        let filled: Vec<_> =
            self.headers.iter().map(|(name, value)| (*name, names.fill(value))).collect();
        let headers: Vec<_> = filled.iter().map(|(name, value)| (*name, value.as_str())).collect();
        if self.sending == Sending::Complete {
            return client.send(&self.method, &path, &headers, body.as_bytes());
        }
        let headers = [&headers[..], &[("transfer-encoding", "chunked")]].concat();
        let mut upload = Upload::begin(client, &self.method, &path, &headers);
        assert!(upload.send_chunk(body.as_bytes()));
        if self.sending == Sending::Incomplete {
            upload.close();
        }
        upload.answer()
    }

    pub fn check(&self, answer: &Answer) {
        let (status, code) = match self.expected.split_once(' ') {
            Some((status, code)) => (status, Some(code)),
            None => (self.expected.as_str(), None),
        };
        let request = format!("{} {}", self.method, self.path);
        let status: u16 = status.parse().expect("a status");
        assert_eq!(answer.status, status, "{request}: {} expected: {answer:?}", self.expected);
        let Some(code) = code else { return };
        if is_older(&self.path) {
            let envelope = answer.json();
            assert_eq!(envelope["success"], false, "{request}: {envelope}");
            assert_eq!(envelope["data"], serde_json::json!({}), "{request}: {envelope}");
            assert!(envelope["message"].as_str().is_some_and(|text| !text.is_empty()));
            return;
        }
        let problem = answer.json();
        assert_eq!(problem["code"], code, "{request}: {problem}");
        answer.expect_problem(status, code);
    }
}

/// Returns whether a path belongs to the older contract.
fn is_older(path: &str) -> bool {
    path.starts_with("/word-count") || path == "/health"
}

/// One operation of the description and its possible answers.
#[derive(Debug)]
pub struct Operation {
    pub id: String,
    pub method: String,
    pub path: String,
    pub is_older: bool,
    /// Possible answers, in the format of [`Case::expected`].
    pub answers: BTreeSet<String>,
}

/// The operations of the API description.
#[derive(Debug)]
pub struct Description {
    pub operations: Vec<Operation>,
}

impl Description {
    /// Reads `docs/openapi.json`, which every gateway serves.
    pub fn read() -> Self {
        let file = repository().join("docs/openapi.json");
        let text = fs::read_to_string(file).expect("the description");
        let json: Value = serde_json::from_str(&text).expect("JSON");
        let paths = json["paths"].as_object().expect("paths");
        let operations: Vec<Operation> = paths
            .iter()
            .flat_map(|(path, methods)| {
                let methods = methods.as_object().expect("methods");
                methods
                    .iter()
                    .map(|(method, description)| Operation::read(method, path, description))
            })
            .collect();
        assert!(operations.len() > 20, "{operations:?}");
        Self { operations }
    }

    /// Returns the operation of a case. Panics if it is not described.
    pub fn operation(&self, case: &Case) -> &Operation {
        let path = case.path.split('?').next().unwrap_or_default();
        let operation =
            self.operations.iter().find(|one| one.method == case.method && one.matches_path(path));
        operation.unwrap_or_else(|| panic!("{} {path} is not described", case.method))
    }
}

impl Operation {
    fn read(method: &str, path: &str, description: &Value) -> Self {
        let mut answers = BTreeSet::new();
        for (status, answer) in description["responses"].as_object().expect("responses") {
            let text = answer["description"].as_str().expect("a description");
            let codes: Vec<&str> = text
                .lines()
                .filter_map(|line| Some(line.strip_prefix('`')?.split_once("`: ")?.0))
                .collect();
            answers.extend(codes.iter().map(|code| format!("{status} {code}")));
            answers.extend(codes.is_empty().then(|| status.clone()));
        }
        Self {
            id: description["operationId"].as_str().expect("an id").to_owned(),
            method: method.to_uppercase(),
            path: path.to_owned(),
            is_older: is_older(path),
            answers,
        }
    }

    fn matches_path(&self, path: &str) -> bool {
        let (ours, theirs): (Vec<_>, Vec<_>) =
            (self.path.split('/').collect(), path.split('/').collect());
        ours.len() == theirs.len()
            && ours.iter().zip(theirs).all(|(ours, theirs)| *ours == "{id}" || *ours == theirs)
    }
}
