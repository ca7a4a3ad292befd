//! Web pages of other sites that attack a gateway without API keys, in a real browser.

use serde_json::{Value, json};
use wordmill_tests::assertions::array_length;
use wordmill_tests::browser::Browser;
use wordmill_tests::client::Client;
use wordmill_tests::metrics::Metrics;
use wordmill_tests::site::{Page, Site};
use wordmill_tests::stack::Stack;
use wordmill_tests::{LIMIT, wait_for};

/// Resolves every name below `.example` to this machine, as an attacker does with DNS rebinding.
const RESOLVER: &str = "--host-resolver-rules=MAP *.example 127.0.0.1";
/// Sends a request, and returns the response or the name of the error.
const FETCH: &str = "
    const [url, options, finish] = arguments;
    fetch(url, options).then(
        async (answer) => finish({
            status: answer.status, type: answer.type, text: await answer.text(),
            trace: answer.headers.get('traceresponse'),
        }),
        (error) => finish({error: error.name}),
    )";

/// A browser that shows a page of another site, and a gateway on the same machine.
struct Attack {
    browser: Browser,
    stack: Stack,
    site: Site,
}

impl Attack {
    fn start(settings: &[(&str, &str)]) -> Self {
        let site = Site::start();
        site.put("/", Page::new("text/html", "<!doctype html><title>Evil</title>"));
        Self { browser: Browser::with(&[RESOLVER]), stack: Stack::with(1, 1, settings), site }
    }

    fn client(&self) -> &Client {
        self.stack.client()
    }

    /// Returns the URL of a path on the gateway, with another host name of this machine.
    fn gateway_url(&self, name: &str, path: &str) -> String {
        self.client().url(path).replace("127.0.0.1", name)
    }

    /// Returns the URL of a path on the other site, with a host name of this machine.
    fn other_site_url(&self, name: &str, path: &str) -> String {
        self.site.url(path).replace("127.0.0.1", name)
    }

    /// Sends a request from the displayed page.
    fn fetch(&self, url: &str, options: &Value) -> Value {
        self.browser.run_async_script(FETCH, &[json!(url), options.clone()])
    }

    fn job_count(&self) -> usize {
        array_length(&self.client().get("/v1/jobs").json()["data"])
    }
}

/// Options of a `POST` that a browser sends without a preflight: a *simple request*.
fn simple_post() -> Value {
    let headers = json!({"content-type": "text/plain"});
    json!({"method": "POST", "mode": "no-cors", "headers": headers, "body": "one two"})
}

fn json_post() -> Value {
    let headers = json!({"content-type": "application/json"});
    json!({"method": "POST", "headers": headers, "body": "{\"text\": \"one two\"}"})
}

#[test]
fn pages_of_other_origins_start_no_job() {
    let attack = Attack::start(&[]);
    // Another site, another port on the same host, and another host name of this machine.
    for page in ["evil.example", "127.0.0.1", "localhost"] {
        for gateway in ["127.0.0.1", "localhost"] {
            attack.browser.open(&attack.other_site_url(page, "/"));
            let url = attack.gateway_url(gateway, "/v1/jobs");
            // The browser hides the response because of the same-origin policy or the resource
            // policy (CORP).
            let hidden = attack.fetch(&url, &simple_post());
            assert_eq!(hidden, json!({"error": "TypeError"}), "{page} to {gateway}");
            let no_permission = attack.fetch(&url, &json_post());
            assert_eq!(no_permission, json!({"error": "TypeError"}), "{page} to {gateway}");
            let read = attack.fetch(&url, &json!({"mode": "no-cors"}));
            assert_eq!(read, json!({"error": "TypeError"}), "{page} to {gateway}");
        }
    }
    assert_eq!(attack.job_count(), 0);
}

#[test]
fn forms_of_other_origins_start_no_job() {
    let attack = Attack::start(&[]);
    let url = attack.client().url("/v1/jobs");
    let mut refused = 0.0;
    for encoding in ["text/plain", "multipart/form-data", "application/x-www-form-urlencoded"] {
        let form = format!(
            "<!doctype html><form method=post enctype='{encoding}' action='{url}'>\
             <input name=file value='one two'><button id=send>Send</button></form>"
        );
        attack.browser.open(&attack.site.put("/form", Page::new("text/html", form.as_str())));
        attack.browser.click("#send");
        attack.browser.wait_for_text("body", "cross_site_request");
        // A document with an opaque origin sends `Origin: null`.
        let framed = form.replace('"', "&quot;");
        let frame = format!(
            "<!doctype html><iframe sandbox='allow-forms allow-scripts' srcdoc=\"{framed}\
             <script>document.forms[0].submit()</script>\"></iframe>"
        );
        attack.browser.open(&attack.site.put("/frame", Page::new("text/html", frame)));
        refused += 2.0;
        wait_for("the form and the frame are refused", LIMIT, || {
            let labels = [("http_request_method", "POST"), ("http_response_status_code", "403")];
            let metrics = Metrics::fetch(attack.client());
            let count = metrics.sum("http_server_request_duration_seconds_count", &labels);
            (count == Some(refused)).then_some(())
        });
    }
    assert_eq!(attack.job_count(), 0);
}

#[test]
fn dns_rebinding_reaches_no_route() {
    let attack = Attack::start(&[]);
    attack.client().submit(&json!({"text": "a secret"}));
    // After DNS rebinding, the page of evil.example has the same origin as the gateway.
    attack.browser.open(&attack.gateway_url("evil.example", "/livez"));
    attack.browser.wait_for_text("body", "alive");
    for (path, options) in
        [("/v1/jobs", json!({})), ("/v1/jobs", json_post()), ("/openapi.json", json!({}))]
    {
        let answer = attack.fetch(path, &options);
        assert_eq!(answer["status"], 421, "{path}: {answer}");
        assert!(answer["text"].as_str().is_some_and(|text| text.contains("unknown_host")));
    }
    assert_eq!(attack.job_count(), 1);
}

#[test]
fn the_ui_and_listed_origins_are_accepted() {
    let app = Site::start();
    let origin = app.url("").replace("127.0.0.1", "app.example");
    let settings =
        [("WORDMILL_HOSTS", "wordmill.example"), ("WORDMILL_CORS_ORIGINS", origin.as_str())];
    let attack = Attack::start(&settings);
    // A browser sends `Sec-Fetch-Site` only to loopback and over HTTPS. To other host names it
    // sends only `Origin`.
    for name in ["127.0.0.1", "localhost", "wordmill.example"] {
        attack.browser.open(&attack.gateway_url(name, "/"));
        attack.browser.wait_for_text("h1", "Count words");
        attack.browser.fill("#input", "one two three");
        attack.browser.click("#count");
        attack.browser.wait_for_text(".figure", "3");
    }
    assert_eq!(attack.job_count(), 3);
    attack.browser.open(&attack.other_site_url("evil.example", "/"));
    let by_name = attack.gateway_url("wordmill.example", "/v1/jobs");
    assert_eq!(attack.fetch(&by_name, &simple_post()), json!({"error": "TypeError"}));
    assert_eq!(attack.job_count(), 3);
    app.put("/", Page::new("text/html", "<!doctype html><title>App</title>"));
    attack.browser.open(&format!("{origin}/"));
    for name in ["127.0.0.1", "wordmill.example"] {
        let answer = attack.fetch(&attack.gateway_url(name, "/v1/jobs"), &json_post());
        assert_eq!(answer["status"], 202, "{name}: {answer}");
        assert!(answer["trace"].as_str().is_some_and(|trace| trace.starts_with("00-")), "{answer}");
    }
    assert_eq!(attack.job_count(), 5);
}
