//! Requests, as often as they have to be sent.

use std::time::Duration;

use hyper::Method;
use hyper::header::{HeaderName, HeaderValue};
use url::Url;

use crate::body::Payload;

/// One request.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: Method,
    path: Vec<String>,
    query: Vec<(String, String)>,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) payload: Payload,
    /// How long the server was asked to wait before it answers.
    pub(crate) waits: Duration,
    /// Whether the body of a good answer is read piece by piece.
    pub(crate) is_streamed: bool,
}

impl Request {
    /// Returns a request for `/v1/…`, given segment by segment.
    pub(crate) fn new(method: Method, path: &[&str]) -> Self {
        Self {
            method,
            path: path.iter().map(|segment| (*segment).to_owned()).collect(),
            query: Vec::new(),
            headers: Vec::new(),
            payload: Payload::Nothing,
            waits: Duration::ZERO,
            is_streamed: false,
        }
    }

    /// Returns a `GET`.
    pub(crate) fn get(path: &[&str]) -> Self {
        Self::new(Method::GET, path)
    }

    /// Returns a `POST`.
    pub(crate) fn post(path: &[&str], payload: Payload) -> Self {
        Self { payload, ..Self::new(Method::POST, path) }
    }

    /// Adds a query parameter.
    pub(crate) fn query(mut self, name: &str, value: impl Into<String>) -> Self {
        self.query.push((name.to_owned(), value.into()));
        self
    }

    /// Adds query parameters.
    pub(crate) fn queries(mut self, pairs: &[(String, String)]) -> Self {
        self.query.extend_from_slice(pairs);
        self
    }

    /// Adds a header field.
    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Lets the server wait before it answers.
    pub(crate) fn wait(mut self, seconds: u64) -> Self {
        self.waits = Duration::from_secs(seconds);
        self.query("wait", seconds.to_string())
    }

    /// Leaves the body of a good answer to be read piece by piece.
    pub(crate) fn streamed(mut self) -> Self {
        self.is_streamed = true;
        self
    }

    /// Returns where it goes, at a server that may have a path itself.
    pub(crate) fn url(&self, base: &Url) -> Url {
        let mut url = base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(&self.path);
        }
        if !self.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&self.query);
        }
        url
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(base: &str, request: &Request) -> String {
        request.url(&base.parse().unwrap()).to_string()
    }

    #[test]
    fn an_address_may_have_a_path_and_names_cannot_leave_theirs() {
        let request = Request::get(&["v1", "jobs", "../a b/?#"]).query("label", "a:b c&d=é");
        let rest = "v1/jobs/..%2Fa%20b%2F%3F%23?label=a%3Ab+c%26d%3D%C3%A9";
        assert_eq!(url("http://127.0.0.1:8080", &request), format!("http://127.0.0.1:8080/{rest}"));
        assert_eq!(url("https://a/words/", &request), format!("https://a/words/{rest}"));
        assert_eq!(
            url("https://a/words", &Request::get(&["v1"]).wait(20)),
            "https://a/words/v1?wait=20"
        );
    }
}
