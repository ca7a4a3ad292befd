//! Requests to the API. A request can be sent several times.

use std::time::Duration;

use hyper::Method;
use hyper::header::{HeaderName, HeaderValue};
use url::Url;

use crate::body::Payload;

/// Request to the API.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: Method,
    path: Vec<String>,
    query: Vec<(String, String)>,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) payload: Payload,
    /// Time that the server may wait before it responds (`?wait`). Extends the idle timeout.
    pub(crate) server_wait: Duration,
    /// Whether the body of a successful response is streamed instead of buffered.
    pub(crate) is_streamed: bool,
}

impl Request {
    /// Creates a request. `path` is a list of segments, for example `["v1", "jobs"]`.
    pub(crate) fn new(method: Method, path: &[&str]) -> Self {
        Self {
            method,
            path: path.iter().map(|segment| (*segment).to_owned()).collect(),
            query: Vec::new(),
            headers: Vec::new(),
            payload: Payload::Nothing,
            server_wait: Duration::ZERO,
            is_streamed: false,
        }
    }

    /// Creates a `GET` request.
    pub(crate) fn get(path: &[&str]) -> Self {
        Self::new(Method::GET, path)
    }

    /// Creates a `POST` request.
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

    /// Lets the server wait up to `seconds` for a change before it responds.
    pub(crate) fn wait(mut self, seconds: u64) -> Self {
        self.server_wait = Duration::from_secs(seconds);
        self.query("wait", seconds.to_string())
    }

    /// Streams the body of a successful response instead of buffering it.
    pub(crate) fn streamed(mut self) -> Self {
        self.is_streamed = true;
        self
    }

    /// Returns the URL of the request. The path is appended to that of `base`.
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
    fn the_server_url_may_have_a_path_and_ids_are_percent_encoded() {
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
