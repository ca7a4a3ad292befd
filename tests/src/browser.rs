//! A real Chromium, headless, driven over WebDriver by chromedriver, and what it did: requests,
//! messages of its console, files that it kept.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::Client;
use crate::process::Process;
use crate::{LIMIT, pause, wait_for};

/// Drivers that are started until one finds a port.
const DRIVERS_MAX: usize = 5;
/// Wait between two looks at the page.
const PAUSE: Duration = Duration::from_millis(50);
/// WebDriver's name of an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A running browser.
pub struct Browser {
    driver: Client,
    session: String,
    _process: Process,
    profile: TempDir,
}

/// Colours that a reader prefers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Dark on light.
    Light,
    /// Light on dark.
    Dark,
}

/// Requests and console messages of a browser since they were last taken.
#[derive(Debug, Default)]
pub struct BrowserActivity {
    /// URLs that were asked for.
    pub requests: Vec<String>,
    /// Errors and warnings of the console, with where they come from.
    pub complaints: Vec<String>,
}

impl Browser {
    /// Starts a browser with an empty profile.
    ///
    /// # Panics
    /// If there is none: `tests/external/install`.
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// Starts a browser with an empty profile and more command-line arguments.
    ///
    /// # Panics
    /// As [`Browser::start`].
    pub fn with(more_arguments: &[&str]) -> Self {
        let (process, driver) = (0..DRIVERS_MAX)
            .find_map(|_| start_driver())
            .unwrap_or_else(|| panic!("chromedriver finds no port, {DRIVERS_MAX} times"));
        let profile = TempDir::new().expect("a directory");
        std::fs::create_dir(profile.path().join("kept")).expect("a directory");
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
        let preferences = json!({"download.default_directory": profile.path().join("kept")});
        let options = json!({
            "goog:chromeOptions": {"args": arguments, "prefs": preferences},
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        });
        let answer =
            driver.post("/session", &json!({"capabilities": {"alwaysMatch": options}})).json();
        let session = answer["value"]["sessionId"].as_str();
        let session = session.unwrap_or_else(|| panic!("no browser: {answer}")).to_owned();
        Self { driver, session, _process: process, profile }
    }

    fn command(&self, what: &str, body: &Value) -> Value {
        let answer = self.driver.post(&format!("/session/{}/{what}", self.session), body);
        assert_eq!(answer.status, 200, "{what}: {answer:?}");
        answer.json()["value"].clone()
    }

    /// Opens a URL.
    pub fn open(&self, url: &str) {
        self.command("url", &json!({"url": url}));
    }

    /// Goes back, as the button does.
    pub fn back(&self) {
        self.command("back", &json!({}));
    }

    /// Runs a function's body on the page and returns what it returns.
    pub fn run_script(&self, script: &str, arguments: &[Value]) -> Value {
        self.command("execute/sync", &json!({"script": script, "args": arguments}))
    }

    /// The same for a function that ends by calling its last argument.
    pub fn run_async_script(&self, script: &str, arguments: &[Value]) -> Value {
        self.command("execute/async", &json!({"script": script, "args": arguments}))
    }

    /// Tells the browser something in the words of its own protocol.
    pub fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.command("goog/cdp/execute", &json!({"cmd": command, "params": parameters}))
    }

    /// Waits for an element that `selector` describes.
    fn element(&self, selector: &str) -> String {
        let path = format!("/session/{}/element", self.session);
        let body = json!({"using": "css selector", "value": selector});
        self.wait_for_page(&format!("{selector} is there"), || {
            let answer = self.driver.post(&path, &body);
            Some(answer.json()["value"][ELEMENT].as_str()?.to_owned())
        })
    }

    /// Clicks on an element.
    pub fn click(&self, selector: &str) {
        let element = self.element(selector);
        self.command(&format!("element/{element}/click"), &json!({}));
    }

    /// Types into an element; into one for files, their paths.
    pub fn fill(&self, selector: &str, text: &str) {
        let element = self.element(selector);
        self.command(&format!("element/{element}/value"), &json!({"text": text}));
    }

    /// Presses a key, wherever the focus is.
    pub fn press(&self, key: &str) {
        let keys = json!([{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]);
        let actions = json!({"actions": [{"type": "key", "id": "keys", "actions": keys}]});
        self.command("actions", &actions);
    }

    /// Returns the text that an element shows; nothing if there is none.
    pub fn text(&self, selector: &str) -> String {
        let script = "return document.querySelector(arguments[0])?.innerText ?? ''";
        let text = self.run_script(script, &[json!(selector)]);
        text.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until an element shows some text, and returns all that it shows.
    pub fn wait_for_text(&self, selector: &str, text: &str) -> String {
        self.wait_for_page(&format!("{selector} shows {text:?}"), || {
            Some(self.text(selector)).filter(|shown| shown.contains(text))
        })
    }

    /// Waits until a script returns a true value, and returns that.
    pub fn wait_for_script(&self, script: &str) -> Value {
        self.wait_for_page(script, || {
            let value = self.run_script(script, &[]);
            (!value.is_null() && value != json!(false) && value != json!(0)).then_some(value)
        })
    }

    /// Waits for a condition, and panics with the text of the page otherwise.
    fn wait_for_page<T>(&self, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
        let end = Instant::now() + LIMIT;
        loop {
            if let Some(value) = condition() {
                return value;
            }
            let is_late = Instant::now() >= end;
            assert!(!is_late, "not within {LIMIT:?}: {what}; shown is: {}", self.text("body"));
            pause(PAUSE);
        }
    }

    /// Sets the size of the window's content, in pixels.
    pub fn resize(&self, width: u32, height: u32) {
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", &size);
    }

    /// Sets the colours that the reader prefers.
    pub fn set_color_scheme(&self, scheme: Scheme) {
        let value = if scheme == Scheme::Dark { "dark" } else { "light" };
        let feature = json!({"name": "prefers-color-scheme", "value": value});
        self.devtools("Emulation.setEmulatedMedia", &json!({"features": [feature]}));
    }

    /// Returns the file that was kept under a name, once it is complete.
    pub fn wait_for_download(&self, name: &str) -> PathBuf {
        let path = self.profile.path().join("kept").join(name);
        wait_for(&format!("{name} is kept"), LIMIT, || path.is_file().then_some(()));
        path
    }

    /// Returns a folder for files of the test.
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
                activity.complaints.push(format!("{}: {}", entry["source"], entry["message"]));
            }
        }
        activity
    }

    fn log(&self, kind: &str) -> Vec<Value> {
        let entries = self.command("se/log", &json!({"type": kind}));
        entries.as_array().cloned().unwrap_or_default()
    }
}

/// Starts chromedriver; nothing if the port that it chose is in use: it takes a free one of IPv6
/// first, and gives up where somebody has the same one of IPv4.
fn start_driver() -> Option<(Process, Client)> {
    let mut command = Command::new("chromedriver");
    command.arg("--port=0");
    let process = Process::start("chromedriver", command);
    let port = wait_for("chromedriver listens, or has no port", LIMIT, || {
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
