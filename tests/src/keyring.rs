//! A file of API keys, made by the command for operators.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::process::binary;

/// A file of keys.
pub struct Keyring {
    directory: TempDir,
    lines: Vec<Value>,
}

impl Default for Keyring {
    fn default() -> Self {
        Self::new()
    }
}

impl Keyring {
    /// Returns one without keys; there is no file yet.
    pub fn new() -> Self {
        Self { directory: TempDir::new().expect("a directory"), lines: Vec::new() }
    }

    /// Returns where the file is.
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("keys.jsonl")
    }

    /// Returns the setting that names the file.
    pub fn setting(&self) -> (&'static str, String) {
        ("WORDMILL_KEYS_FILE", self.path().to_str().expect("a path").to_owned())
    }

    /// Makes a key, files its line with further fields such as `{"queue_quota": 5}`, and returns
    /// it.
    pub fn add(&mut self, name: &str, more: &Value) -> String {
        let (key, mut line) = create(name);
        for (field, value) in more.as_object().expect("fields") {
            line[field] = value.clone();
        }
        self.lines.push(line);
        self.write();
        key
    }

    /// Makes another key for a name that has one, and returns it.
    pub fn rotate(&mut self, name: &str) -> String {
        let (key, line) = create(name);
        let hashes = self.line(name)["sha256"].as_array_mut().expect("hashes");
        hashes.push(line["sha256"][0].clone());
        self.write();
        key
    }

    /// Revokes the oldest key of a name.
    pub fn revoke_oldest(&mut self, name: &str) {
        self.line(name)["sha256"].as_array_mut().expect("hashes").remove(0);
        self.write();
    }

    /// Writes the file beside its place, and moves it there.
    pub fn write(&self) {
        let lines: String = self.lines.iter().map(|line| format!("{line}\n")).collect();
        let new = self.directory.path().join("new");
        fs::write(&new, format!("# Keys of the tests\n\n{lines}")).expect("written");
        fs::rename(new, self.path()).expect("moved");
    }

    fn line(&mut self, name: &str) -> &mut Value {
        self.lines.iter_mut().find(|line| line["name"] == name).expect("the name")
    }
}

/// Makes a key by the command that is there for it, and returns the key and the line.
fn create(name: &str) -> (String, Value) {
    let mut command = Command::new(binary("wordmill-gateway"));
    let output = command.args(["key", "new", "--name", name]).output().expect("the command runs");
    assert!(output.status.success(), "{output:?}");
    let key = String::from_utf8(output.stderr).expect("text").trim().to_owned();
    let line = serde_json::from_slice(&output.stdout).expect("a line");
    assert!(key.starts_with("wm_") && key.len() == 67, "{key}");
    (key, line)
}
