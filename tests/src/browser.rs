//! Drives a real headless Chromium over WebDriver (chromedriver), and reports its requests, console
//! messages and downloads.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::Client;
use crate::process::Process;
use crate::{LIMIT, pause, wait_for};

/// Maximum number of attempts to start chromedriver on a free port.
const START_ATTEMPTS_MAX: usize = 5;
/// Interval between two checks of the page.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Key of the element id in WebDriver answers.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A running browser.
pub struct Browser {
    driver: Client,
    session: String,
    _process: Process,
    profile: TempDir,
}

/// Preferred color scheme of the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Dark text on a light background.
    Light,
    /// Light text on a dark background.
    Dark,
}

/// Requests and console messages of a browser since the previous [`Browser::take_activity`].
#[derive(Debug, Default)]
pub struct BrowserActivity {
    /// URLs of all requests.
    pub requests: Vec<String>,
    /// Errors and warnings of the console, each with its source.
    pub console_messages: Vec<String>,
}

impl Browser {
    /// Starts a browser with an empty profile.
    ///
    /// # Panics
    /// If chromedriver or Chromium is not installed. Run `tests/external/install`.
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// Starts a browser with an empty profile and additional command-line arguments.
    ///
    /// # Panics
    /// As [`Browser::start`].
    pub fn with(more_arguments: &[&str]) -> Self {
        let (process, driver) =
            (0..START_ATTEMPTS_MAX).find_map(|_| start_driver()).unwrap_or_else(|| {
                panic!("chromedriver found no free port in {START_ATTEMPTS_MAX} attempts")
            });
        let profile = TempDir::new().expect("a directory");
        std::fs::create_dir(profile.path().join("downloads")).expect("a directory");
        let profile_argument = format!("--user-data-dir={}", profile.path().display());
        let mut arguments = vec![
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            profile_argument.as_str(),
        ];
        arguments.extend(more_arguments);
        let preferences = json!({"download.default_directory": profile.path().join("downloads")});
        let options = json!({
            "goog:chromeOptions": {"args": arguments, "prefs": preferences},
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        });
        let answer =
            driver.post("/session", &json!({"capabilities": {"alwaysMatch": options}})).json();
        let session = answer["value"]["sessionId"].as_str();
        let session =
            session.unwrap_or_else(|| panic!("cannot start the browser: {answer}")).to_owned();
        Self { driver, session, _process: process, profile }
    }

    fn command(&self, command: &str, body: &Value) -> Value {
        let answer = self.driver.post(&format!("/session/{}/{command}", self.session), body);
        assert_eq!(answer.status, 200, "{command}: {answer:?}");
        answer.json()["value"].clone()
    }

    /// Opens a URL.
    pub fn open(&self, url: &str) {
        self.command("url", &json!({"url": url}));
    }

    /// Goes back in the history, like the back button.
    pub fn back(&self) {
        self.command("back", &json!({}));
    }

    /// Runs a function body in the page and returns its return value.
    pub fn run_script(&self, script: &str, arguments: &[Value]) -> Value {
        self.command("execute/sync", &json!({"script": script, "args": arguments}))
    }

    /// Runs an asynchronous function body in the page. The script passes its result to the callback
    /// in its last argument.
    pub fn run_async_script(&self, script: &str, arguments: &[Value]) -> Value {
        self.command("execute/async", &json!({"script": script, "args": arguments}))
    }

    /// Sends a command of the Chrome DevTools Protocol.
    pub fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.command("goog/cdp/execute", &json!({"cmd": command, "params": parameters}))
    }

    /// Waits for an element that matches a CSS selector, and returns its id.
    fn element(&self, selector: &str) -> String {
        let path = format!("/session/{}/element", self.session);
        let body = json!({"using": "css selector", "value": selector});
        self.wait_for_page(&format!("{selector} exists"), || {
            let answer = self.driver.post(&path, &body);
            Some(answer.json()["value"][ELEMENT].as_str()?.to_owned())
        })
    }

    /// Clicks an element.
    pub fn click(&self, selector: &str) {
        let element = self.element(selector);
        self.command(&format!("element/{element}/click"), &json!({}));
    }

    /// Types text into an element. For a file input, `text` is the path of the file.
    pub fn fill(&self, selector: &str, text: &str) {
        let element = self.element(selector);
        self.command(&format!("element/{element}/value"), &json!({"text": text}));
    }

    /// Presses and releases a key in the focused element.
    pub fn press(&self, key: &str) {
        let keys = json!([{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]);
        let actions = json!({"actions": [{"type": "key", "id": "keys", "actions": keys}]});
        self.command("actions", &actions);
    }

    /// Returns the visible text of an element, or an empty string if no element matches.
    pub fn text(&self, selector: &str) -> String {
        let script = "return document.querySelector(arguments[0])?.innerText ?? ''";
        let text = self.run_script(script, &[json!(selector)]);
        text.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until the text of an element contains `text`, and returns the whole text.
    pub fn wait_for_text(&self, selector: &str, text: &str) -> String {
        self.wait_for_page(&format!("{selector} shows {text:?}"), || {
            Some(self.text(selector)).filter(|shown| shown.contains(text))
        })
    }

    /// Waits until a script returns a value other than null, false and 0, and returns the value.
    pub fn wait_for_script(&self, script: &str) -> Value {
        self.wait_for_page(script, || {
            let value = self.run_script(script, &[]);
            (!value.is_null() && value != json!(false) && value != json!(0)).then_some(value)
        })
    }

    /// Waits for a condition. After [`LIMIT`], panics with the text of the page.
    fn wait_for_page<T>(
        &self,
        condition_name: &str,
        mut condition: impl FnMut() -> Option<T>,
    ) -> T {
        let end = Instant::now() + LIMIT;
        loop {
            if let Some(value) = condition() {
                return value;
            }
            let is_late = Instant::now() >= end;
            assert!(
                !is_late,
                "timed out after {LIMIT:?}: {condition_name}; text of the page: {}",
                self.text("body")
            );
            pause(POLL_INTERVAL);
        }
    }

    /// Sets the size of the viewport, in pixels.
    pub fn resize(&self, width: u32, height: u32) {
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", &size);
    }

    /// Sets the preferred color scheme.
    pub fn set_color_scheme(&self, scheme: Scheme) {
        let value = if scheme == Scheme::Dark { "dark" } else { "light" };
        let feature = json!({"name": "prefers-color-scheme", "value": value});
        self.devtools("Emulation.setEmulatedMedia", &json!({"features": [feature]}));
    }

    /// Waits until a download is complete, and returns its path.
    pub fn wait_for_download(&self, name: &str) -> PathBuf {
        let path = self.profile.path().join("downloads").join(name);
        wait_for(&format!("{name} is downloaded"), LIMIT, || path.is_file().then_some(()));
        path
    }

    /// Returns the profile directory, in which tests may create files.
    pub fn folder(&self) -> &Path {
        self.profile.path()
    }

    /// Returns the browser's activity since the last call.
    pub fn take_activity(&self) -> BrowserActivity {
        let mut activity = BrowserActivity::default();
        for entry in self.log("performance") {
            let message = entry["message"].as_str().expect("a message");
            let message: Value = serde_json::from_str(message).expect("JSON");
            let message = &message["message"];
            if message["method"] == "Network.requestWillBeSent" {
                let url = message["params"]["request"]["url"].as_str().expect("a URL");
                activity.requests.push(url.to_owned());
            }
        }
        for entry in self.log("browser") {
            if matches!(entry["level"].as_str(), Some("SEVERE" | "WARNING")) {
                activity
                    .console_messages
                    .push(format!("{}: {}", entry["source"], entry["message"]));
            }
        }
        activity
    }

    fn log(&self, kind: &str) -> Vec<Value> {
        let entries = self.command("se/log", &json!({"type": kind}));
        entries.as_array().cloned().unwrap_or_default()
    }
}

/// Starts chromedriver. Returns `None` if its port is in use: it picks a port that is free for
/// IPv6, and fails if the same port is taken for IPv4.
fn start_driver() -> Option<(Process, Client)> {
    let mut command = Command::new("chromedriver");
    command.arg("--port=0");
    let process = Process::start("chromedriver", command);
    let port = wait_for("chromedriver listens, or reports that its port is in use", LIMIT, || {
        let output = process.output();
        if output.contains("port not available") {
            return Some(None);
        }
        let port = output.split("started successfully on port ").nth(1)?;
        port.split(|c: char| !c.is_ascii_digit()).next().map(|port| Some(port.to_owned()))
    })?;
    Some((process, Client::new(&format!("127.0.0.1:{port}"))))
}

impl Drop for Browser {
    fn drop(&mut self) {
        let path = format!("/session/{}", self.session);
        let _ = self.driver.try_send("DELETE", &path, &[], b"");
    }
}
