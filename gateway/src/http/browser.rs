//! Refuses requests that a web page of another site makes through a user's browser.
//!
//! A gateway without API keys trusts every program that can connect to it. A browser is such a
//! program, and it connects for any page that the user visits. Two checks keep those pages out:
//!
//! - **DNS rebinding**: a page of `evil.example` changes the address of its name to that of the
//!   gateway, and is then of the same origin. The request still has `Host: evil.example`, so only
//!   names that cannot be rebound are accepted.
//! - **Cross-site request forgery**: a form or a `no-cors` fetch sends a `POST` to any address
//!   without permission. Browsers name the sender in `Origin` and `Sec-Fetch-Site`, which scripts
//!   cannot change.
//!
//! A gateway with keys needs neither check, because pages of other sites have no key.

use std::fmt;

use axum::extract::Request;
use axum::http::header::{HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN};
use axum::http::uri::Authority;
use url::{Host, Url};

use crate::http::cors::Origins;
use crate::http::problem::{Code, Problem};

/// Paths without a host check, because probes and Prometheus may address a gateway by any name.
/// They reveal no job and change nothing.
const EXEMPT_PATHS: [&str; 4] = ["/livez", "/readyz", "/health", "/metrics"];
/// Header in which browsers classify the sender of a request (W3C Fetch Metadata).
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// Maximum length of a host name in a problem, in characters.
const SHOWN_CHARS_MAX: usize = 100;

/// The host names of `WORDMILL_HOSTS`, in lower case. Empty by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hosts(Vec<String>);

impl Hosts {
    /// Parses a list such as `wordmill.example.org,counts.lan`.
    ///
    /// # Errors
    /// A message about the first item that is not a host name.
    pub fn parse(text: &str) -> Result<Self, String> {
        let names = text.split(',').map(|item| {
            let item = item.trim();
            match Host::parse(item) {
                Ok(Host::Domain(name)) if !name.contains('*') => {
                    Ok(without_root_dot(&name).to_owned())
                }
                // Addresses are always accepted, so listing one changes nothing.
                Ok(address @ (Host::Ipv4(_) | Host::Ipv6(_))) => Ok(address.to_string()),
                Ok(Host::Domain(_)) | Err(_) => Err(format!(
                    "{item:?} must be a host name such as wordmill.example.org, without scheme and \
                     port"
                )),
            }
        });
        names.collect::<Result<_, _>>().map(Self)
    }

    /// Returns whether requests for `host` are accepted.
    fn is_accepted(&self, host: &Host) -> bool {
        match host {
            Host::Ipv4(_) | Host::Ipv6(_) => true,
            Host::Domain(name) => {
                let name = without_root_dot(name);
                name == "localhost"
                    || name.ends_with(".localhost")
                    || self.0.iter().any(|accepted| accepted == name)
            }
        }
    }
}

impl fmt::Display for Hosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(","))
    }
}

/// Checks of a gateway without keys.
#[derive(Debug, Clone)]
pub(crate) struct BrowserPolicy {
    /// Accepted host names, in addition to addresses and `localhost`.
    hosts: Hosts,
    /// Origins whose pages may send unsafe requests.
    origins: Origins,
}

impl BrowserPolicy {
    pub(crate) fn new(hosts: Hosts, origins: Origins) -> Self {
        Self { hosts, origins }
    }

    /// Checks the host of a request and, for unsafe methods, its sender.
    ///
    /// # Errors
    /// `unknown_host` if the host is not accepted, `cross_site_request` if a page of another origin
    /// sent an unsafe request.
    pub(crate) fn check(&self, request: &Request) -> Result<(), Problem> {
        if EXEMPT_PATHS.contains(&request.uri().path()) {
            return Ok(());
        }
        let target = Target::of(request).filter(|target| self.hosts.is_accepted(&target.host));
        let target = target.ok_or_else(|| unknown_host(request.headers()))?;
        if request.method().is_safe() || self.can_send(request.headers(), &target) {
            return Ok(());
        }
        let detail = "A web page of another origin sent this request. If that page may use this \
                      gateway, add its origin to WORDMILL_CORS_ORIGINS.";
        Err(Problem::new(Code::CrossSiteRequest, detail))
    }

    /// Returns whether the sender may make an unsafe request. Browsers never send `Origin` or
    /// `Sec-Fetch-Site` twice, so a request that does is refused.
    fn can_send(&self, headers: &HeaderMap, target: &Target) -> bool {
        let origin = match find_header(headers, &ORIGIN) {
            Occurrence::None => None,
            Occurrence::One(value) => Some(value),
            Occurrence::Many => return false,
        };
        if origin.is_some_and(|origin| self.origins.is_listed(origin)) {
            return true;
        }
        match find_header(headers, &SEC_FETCH_SITE) {
            Occurrence::One(site) => site == "same-origin" || site == "none",
            Occurrence::Many => false,
            // A program that is not a browser, or a browser on plain HTTP, which sends only
            // `Origin`.
            Occurrence::None => origin.is_none_or(|origin| target.has_host_and_port_of(origin)),
        }
    }
}

/// The host and port that a request is for.
#[derive(Debug)]
struct Target {
    host: Host,
    port: Option<u16>,
}

impl Target {
    /// Parses the target of a request; `None` if it is missing or invalid. An absolute URI takes
    /// precedence over `Host` (RFC 9112, section 3.2.2).
    fn of(request: &Request) -> Option<Self> {
        let authority = match (request.uri().authority(), find_header(request.headers(), &HOST)) {
            (Some(authority), Occurrence::None | Occurrence::One(_)) => authority.clone(),
            (None, Occurrence::One(host)) => Authority::try_from(host.as_bytes()).ok()?,
            (None, Occurrence::None) | (_, Occurrence::Many) => return None,
        };
        if authority.as_str().contains('@') {
            return None;
        }
        let host = Host::parse(authority.host()).ok()?;
        Some(Self { host, port: authority.port_u16() })
    }

    /// Returns whether an origin has the same host and port. The scheme is not compared: behind a
    /// TLS proxy the origin has `https`, but the request arrives over `http`. The origin `null` has
    /// no host.
    fn has_host_and_port_of(&self, origin: &HeaderValue) -> bool {
        let origin = origin.to_str().ok().and_then(|text| Url::parse(text).ok());
        let Some(origin) = origin else { return false };
        let default = match origin.scheme() {
            "http" => 80,
            "https" => 443,
            _ => return false,
        };
        origin.host() == Some(borrow_host(&self.host))
            && origin.port().unwrap_or(default) == self.port.unwrap_or(default)
    }
}

/// The occurrences of a header in a request.
enum Occurrence<'a> {
    None,
    One(&'a HeaderValue),
    Many,
}

fn find_header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Occurrence<'a> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Occurrence::None,
        (Some(value), None) => Occurrence::One(value),
        (Some(_), Some(_)) => Occurrence::Many,
    }
}

fn borrow_host(host: &Host) -> Host<&str> {
    match host {
        Host::Domain(name) => Host::Domain(name),
        Host::Ipv4(address) => Host::Ipv4(*address),
        Host::Ipv6(address) => Host::Ipv6(*address),
    }
}

/// Returns a name without the dot of the DNS root. For example, `localhost.` becomes `localhost`.
fn without_root_dot(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

fn unknown_host(headers: &HeaderMap) -> Problem {
    let reason: String = match find_header(headers, &HOST) {
        Occurrence::None => "The Host header is missing".to_owned(),
        Occurrence::Many => "The request has more than one Host header".to_owned(),
        Occurrence::One(value) => {
            let text = String::from_utf8_lossy(value.as_bytes());
            let shown: String = text.chars().take(SHOWN_CHARS_MAX).collect();
            format!("The host name {shown} is not accepted")
        }
    };
    let detail = format!(
        "{reason}: without API keys the gateway accepts IP addresses, localhost and the names in \
         WORDMILL_HOSTS."
    );
    Problem::new(Code::UnknownHost, detail)
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn policy(hosts: &str, origins: &str) -> BrowserPolicy {
        let hosts = if hosts.is_empty() { Hosts::default() } else { Hosts::parse(hosts).unwrap() };
        let origins =
            if origins.is_empty() { Origins::default() } else { Origins::parse(origins).unwrap() };
        BrowserPolicy { hosts, origins }
    }

    fn refusal(
        policy: &BrowserPolicy,
        method: &str,
        uri: &str,
        headers: &[(&str, &str)],
    ) -> Option<&'static str> {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).unwrap();
        policy.check(&request).err().map(|problem| problem.code_name())
    }

    #[test]
    fn only_hosts_that_cannot_be_rebound_are_accepted() {
        let policy = policy("Wordmill.Example.org, gateway,xn--bcher-kva.example.", "");
        for host in [
            "127.0.0.1",
            "127.0.0.1:8080",
            "10.1.2.3:80",
            "[::1]",
            "[::1]:8080",
            "[::ffff:127.0.0.1]:8080",
            "localhost",
            "LocalHost:8080",
            "localhost.",
            "a.localhost:1",
            "wordmill.example.org",
            "WORDMILL.example.ORG:443",
            "wordmill.example.org.",
            "gateway:8080",
            "xn--bcher-kva.example",
        ] {
            assert_eq!(refusal(&policy, "GET", "/v1/jobs", &[("host", host)]), None, "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "notlocalhost",
            "wordmill.example.org.evil.example",
            "a.wordmill.example.org",
            "localhost@evil.example",
            "evil.example@localhost",
            "localhost, evil.example",
            "localhost/",
            "[::1",
            "::1",
        ] {
            let refused = refusal(&policy, "GET", "/v1/jobs", &[("host", host)]);
            assert_eq!(refused, Some("unknown_host"), "{host}");
        }
        let twice = [("host", "localhost"), ("host", "localhost")];
        assert_eq!(refusal(&policy, "GET", "/", &twice), Some("unknown_host"));
        assert_eq!(refusal(&policy, "GET", "/", &[]), Some("unknown_host"));
        for path in EXEMPT_PATHS {
            assert_eq!(refusal(&policy, "GET", path, &[("host", "evil.example")]), None);
            assert_eq!(refusal(&policy, "GET", path, &[]), None);
        }
        // The absolute form of the request line takes precedence.
        let local = [("host", "localhost")];
        let absolute = |uri| refusal(&policy, "GET", uri, &local);
        assert_eq!(absolute("http://evil.example/v1/jobs"), Some("unknown_host"));
        assert_eq!(absolute("http://localhost:8080/v1/jobs"), None);
    }

    #[test]
    fn unsafe_requests_of_other_origins_are_refused() {
        let policy = policy("counts.example", "https://app.example");
        let check = |host: &str, origin: Option<&str>, site: Option<&str>| {
            let mut headers = vec![("host", host)];
            headers.extend(origin.map(|origin| ("origin", origin)));
            headers.extend(site.map(|site| ("sec-fetch-site", site)));
            for method in ["GET", "HEAD", "OPTIONS"] {
                assert_eq!(refusal(&policy, method, "/v1/jobs", &headers), None);
            }
            let refused = ["POST", "PUT", "DELETE", "PATCH"]
                .map(|method| refusal(&policy, method, "/v1/jobs", &headers).is_none());
            assert!(refused.iter().all(|one| *one == refused[0]), "{headers:?}");
            refused[0]
        };
        for (host, origin, site) in [
            ("localhost:8080", None, None),
            ("localhost:8080", None, Some("none")),
            ("localhost:8080", None, Some("same-origin")),
            ("localhost:8080", Some("http://localhost:8080"), Some("same-origin")),
            ("localhost:8080", Some("http://localhost:8080"), None),
            ("LOCALHOST:8080", Some("http://localhost:8080"), None),
            ("127.0.0.1", Some("http://127.0.0.1"), None),
            ("127.0.0.1:80", Some("http://127.0.0.1"), None),
            ("[::1]:8080", Some("http://[::1]:8080"), None),
            ("counts.example", Some("https://counts.example"), None),
            ("counts.example:443", Some("https://counts.example"), None),
            ("localhost:8080", Some("https://app.example"), Some("cross-site")),
            ("localhost:8080", Some("https://app.example"), None),
        ] {
            assert!(check(host, origin, site), "{host} {origin:?} {site:?}");
        }
        for (host, origin, site) in [
            ("localhost:8080", None, Some("cross-site")),
            ("localhost:8080", None, Some("same-site")),
            ("localhost:8080", None, Some("")),
            ("localhost:8080", Some("http://localhost:3000"), Some("same-site")),
            ("localhost:8080", Some("http://localhost:8080"), Some("cross-site")),
            ("localhost:8080", Some("null"), None),
            ("localhost:8080", Some("null"), Some("cross-site")),
            ("localhost:8080", Some("http://localhost:3000"), None),
            ("localhost:8080", Some("http://127.0.0.1:8080"), None),
            ("localhost:8080", Some("https://evil.example"), None),
            ("localhost", Some("https://localhost:8080"), None),
            ("localhost:443", Some("http://localhost"), None),
            ("localhost:8080", Some("ftp://localhost:8080"), None),
            ("localhost:8080", Some("http://app.example"), None),
            ("localhost:8080", Some(""), None),
        ] {
            assert!(!check(host, origin, site), "{host} {origin:?} {site:?}");
        }
        let twice = [
            ("host", "localhost"),
            ("origin", "https://app.example"),
            ("origin", "https://evil.example"),
        ];
        assert_eq!(refusal(&policy, "POST", "/v1/jobs", &twice), Some("cross_site_request"));
        let twice = [
            ("host", "localhost"),
            ("sec-fetch-site", "same-origin"),
            ("sec-fetch-site", "cross-site"),
        ];
        assert_eq!(refusal(&policy, "POST", "/v1/jobs", &twice), Some("cross_site_request"));
    }

    #[test]
    fn only_host_names_can_be_listed() {
        assert_eq!(Hosts::parse("A.example ,b").unwrap().to_string(), "a.example,b");
        for bad in ["a.example:8080", "http://a.example", "a.example/", "a b", "a,,b", "*.a", ","] {
            let reason = Hosts::parse(bad).unwrap_err();
            assert!(reason.contains("must be a host name"), "{bad}: {reason}");
        }
    }
}
