//! An operation of the API: its parameters, responses and errors.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::http::problem::Code;

/// Errors of all operations that need a key.
const COMMON_CODES: [Code; 4] =
    [Code::Internal, Code::RateLimited, Code::Unauthenticated, Code::UnknownHost];
/// Errors of all operations with an unsafe method.
const UNSAFE_METHOD_CODES: [Code; 1] = [Code::CrossSiteRequest];

/// A method of a path.
#[derive(Debug)]
pub(crate) struct Operation {
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    tag: &'static str,
    id: &'static str,
    summary: &'static str,
    description: &'static str,
    parameters: Vec<Value>,
    body: Option<Value>,
    responses: BTreeMap<u16, Response>,
    codes: Vec<Code>,
    errors: Errors,
}

/// Format of the errors of an operation, and whether it needs a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Errors {
    /// Problems. The operation needs a key.
    Problems,
    /// Problems. The operation needs no key.
    OpenProblems,
    /// The older envelope. The operation needs a key.
    Envelopes,
    /// The older envelope. The operation needs no key.
    OpenEnvelopes,
}

/// A response that is not a problem.
#[derive(Debug)]
struct Response {
    description: String,
    content: Map<String, Value>,
    headers: Vec<&'static str>,
    links: Map<String, Value>,
}

impl Operation {
    pub(crate) fn new(
        tag: &'static str,
        (method, path): (&'static str, &'static str),
        id: &'static str,
        summary: &'static str,
    ) -> Self {
        Self {
            method,
            path,
            tag,
            id,
            summary,
            description: "",
            parameters: Vec::new(),
            body: None,
            responses: BTreeMap::new(),
            codes: Vec::new(),
            errors: Errors::Problems,
        }
    }

    /// Sets the description.
    pub(crate) fn description(mut self, text: &'static str) -> Self {
        self.description = text;
        self
    }

    /// Allows requests without a key.
    pub(crate) fn without_key(mut self) -> Self {
        self.errors = match self.errors {
            Errors::Problems | Errors::OpenProblems => Errors::OpenProblems,
            Errors::Envelopes | Errors::OpenEnvelopes => Errors::OpenEnvelopes,
        };
        self
    }

    /// Uses the older envelope for errors. The operation needs a key until [`Self::without_key`] is
    /// called.
    pub(crate) fn with_older_errors(mut self) -> Self {
        self.errors = Errors::Envelopes;
        self
    }

    /// Adds the id of a job as a path parameter.
    pub(crate) fn job_id(self) -> Self {
        let schema = json!({"type": "string", "format": "uuid"});
        self.path_parameter("id", "The job's id.", &schema).codes(&[Code::InvalidJobId])
    }

    /// Adds a path parameter.
    pub(crate) fn path_parameter(mut self, name: &str, text: &str, schema: &Value) -> Self {
        self.parameters.push(json!({
            "name": name, "in": "path", "required": true, "description": text, "schema": schema,
        }));
        self
    }

    /// Adds query parameters, see [`super::Schemas::query_parameters`].
    pub(crate) fn query_parameters(mut self, parameters: Vec<Value>) -> Self {
        self.parameters.extend(parameters);
        self
    }

    /// Adds an optional header parameter.
    pub(crate) fn header_parameter(mut self, name: &str, text: &str, schema: &Value) -> Self {
        self.parameters.push(json!({
            "name": name, "in": "header", "required": false, "description": text, "schema": schema,
        }));
        self
    }

    /// Sets the request body, with a schema for each media type.
    pub(crate) fn body(mut self, text: &str, content: &[(&str, Value)]) -> Self {
        let content: Map<String, Value> =
            content.iter().map(|(name, media)| ((*name).to_owned(), media.clone())).collect();
        self.body = Some(json!({"description": text, "required": true, "content": content}));
        self
    }

    /// Adds a response without a body.
    pub(crate) fn response(mut self, status: u16, text: &str) -> Self {
        let text = text.to_owned();
        let response = Response {
            description: text,
            content: Map::new(),
            headers: Vec::new(),
            links: Map::new(),
        };
        self.responses.insert(status, response);
        self
    }

    /// Adds a response with a JSON body.
    pub(crate) fn json(self, status: u16, text: &str, schema: Value) -> Self {
        self.content(status, text, "application/json", schema)
    }

    /// Adds a media type to a response, and the response if it is new.
    #[expect(clippy::needless_pass_by_value, reason = "made at every call")]
    pub(crate) fn content(mut self, status: u16, text: &str, media: &str, schema: Value) -> Self {
        if !self.responses.contains_key(&status) {
            self = self.response(status, text);
        }
        if let Some(response) = self.responses.get_mut(&status) {
            response.content.insert(media.to_owned(), json!({"schema": schema}));
        }
        self
    }

    /// Adds header fields to a response. [`headers`] describes them.
    pub(crate) fn with_headers(mut self, status: u16, headers: &[&'static str]) -> Self {
        if let Some(response) = self.responses.get_mut(&status) {
            response.headers.extend(headers);
        }
        self
    }

    /// Adds links from the job in a response to operations on it.
    pub(crate) fn with_links(mut self, status: u16, operations: &[&str]) -> Self {
        for id in operations {
            self = self.link(status, id, "$response.body#/job_id");
        }
        self
    }

    /// Adds a link from a response to an operation. `parameter` locates the id in the response.
    pub(crate) fn link(mut self, status: u16, operation: &str, parameter: &str) -> Self {
        if let Some(response) = self.responses.get_mut(&status) {
            let link = json!({"operationId": operation, "parameters": {"id": parameter}});
            response.links.insert(operation.to_owned(), link);
        }
        self
    }

    /// Adds error codes.
    pub(crate) fn codes(mut self, codes: &[Code]) -> Self {
        self.codes.extend(codes);
        self
    }

    /// Returns all error codes, sorted by name and without duplicates.
    pub(super) fn all_codes(&self) -> Vec<Code> {
        let common: &[Code] = match self.errors {
            Errors::Problems | Errors::Envelopes => &COMMON_CODES,
            Errors::OpenProblems | Errors::OpenEnvelopes => &[],
        };
        let cross_site: &[Code] = if self.method == "GET" { &[] } else { &UNSAFE_METHOD_CODES };
        let codes = self.codes.iter().chain(common).chain(cross_site);
        let mut all: Vec<Code> = codes.copied().collect();
        all.sort_by_key(|code| code.name());
        all.dedup();
        all
    }

    /// Renders the OpenAPI operation object.
    pub(super) fn describe(&self) -> Value {
        let mut responses: Map<String, Value> = Map::new();
        for (status, response) in &self.responses {
            responses.insert(status.to_string(), self.describe_response(response));
        }
        for (status, codes) in self.problems() {
            responses.insert(status.to_string(), self.describe_problem(&codes));
        }
        let mut operation = json!({
            "operationId": self.id,
            "tags": [self.tag],
            "summary": self.summary,
            "responses": responses,
        });
        let Some(members) = operation.as_object_mut() else { return operation };
        if !self.description.is_empty() {
            members.insert("description".to_owned(), self.description.into());
        }
        if !self.parameters.is_empty() {
            members.insert("parameters".to_owned(), self.parameters.clone().into());
        }
        if let Some(body) = &self.body {
            members.insert("requestBody".to_owned(), body.clone());
        }
        if matches!(self.errors, Errors::OpenProblems | Errors::OpenEnvelopes) {
            members.insert("security".to_owned(), json!([]));
        }
        operation
    }

    fn describe_response(&self, response: &Response) -> Value {
        let mut named: Vec<&str> = response.headers.clone();
        if matches!(self.errors, Errors::Problems | Errors::Envelopes) {
            named.extend(["RateLimit", "RateLimit-Policy"]);
        }
        named.push("traceresponse");
        let mut described =
            json!({"description": response.description, "headers": references(&named)});
        let Some(members) = described.as_object_mut() else { return described };
        if !response.content.is_empty() {
            members.insert("content".to_owned(), response.content.clone().into());
        }
        if !response.links.is_empty() {
            members.insert("links".to_owned(), response.links.clone().into());
        }
        described
    }

    /// Groups the error codes by status.
    fn problems(&self) -> BTreeMap<u16, Vec<Code>> {
        let mut by_status: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
        for code in self.all_codes() {
            by_status.entry(code.status().as_u16()).or_default().push(code);
        }
        by_status
    }

    fn describe_problem(&self, codes: &[Code]) -> Value {
        let names: Vec<&str> = codes.iter().map(|code| code.name()).collect();
        let listed: Vec<String> =
            codes.iter().map(|code| format!("`{}`: {}.", code.name(), code.title())).collect();
        let mut headers = vec!["traceresponse"];
        if codes.iter().any(|code| code.retry_after().is_some() || code.status() == 429) {
            headers.push("Retry-After");
        }
        if codes.contains(&Code::Unauthenticated) {
            headers.push("WWW-Authenticate");
        }
        let content = match self.errors {
            Errors::Problems | Errors::OpenProblems => {
                json!({"application/problem+json": {"schema": {
                    "allOf": [{"$ref": "#/components/schemas/Problem"}],
                    "properties": {"code": {"enum": names}},
                }}})
            }
            Errors::Envelopes | Errors::OpenEnvelopes => json!({"application/json": {
                "schema": super::older_contract::error_schema(),
            }}),
        };
        json!({
            "description": listed.join("\n"),
            "headers": references(&headers),
            "content": content,
        })
    }
}

fn references(names: &[&str]) -> Map<String, Value> {
    let reference =
        |name: &&str| ((*name).to_owned(), json!({"$ref": format!("#/components/headers/{name}")}));
    names.iter().map(reference).collect()
}

/// Returns the descriptions of all header fields of responses.
pub(super) fn headers() -> Map<String, Value> {
    let text = json!({"type": "string"});
    [
        ("Cache-Control", "How long a copy may be used.", text.clone()),
        ("ETag", "The entity tag of the response. Send it as `If-None-Match`.", text.clone()),
        ("Link", "`rel=\"next\"`: the next page, if there is one.", text.clone()),
        ("Location", "Path of the job.", json!({"type": "string", "format": "uri-reference"})),
        ("Preference-Applied", "`wait=N` if the job was final within that time.", text.clone()),
        (
            "RateLimit",
            "Remaining requests, and seconds until all are available again; for keys \
             with a rate limit.",
            text.clone(),
        ),
        ("RateLimit-Policy", "The rate limit of the key, if it has one.", text.clone()),
        (
            "Retry-After",
            "Delay before the next request, in seconds.",
            json!({"type": "integer", "minimum": 0}),
        ),
        ("traceresponse", "The trace context of the request.", text.clone()),
        ("Vary", "Request headers that selected the format.", text.clone()),
        ("WWW-Authenticate", "How to send a key.", text),
    ]
    .into_iter()
    .map(|(name, text, schema)| {
        (name.to_owned(), json!({"description": text, "required": false, "schema": schema}))
    })
    .collect()
}
