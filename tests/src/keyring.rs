//! A file of API keys, created with `wordmill-gateway key new`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::process::binary;

/// A key file in a temporary directory.
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
    /// Creates a keyring without keys. The file does not exist until [`Self::add`] or
    /// [`Self::write`].
    pub fn new() -> Self {
        Self { directory: TempDir::new().expect("a directory"), lines: Vec::new() }
    }

    /// Returns the path of the file.
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("keys.jsonl")
    }

    /// Returns the name and the value of the setting for the file.
    pub fn setting(&self) -> (&'static str, String) {
        ("WORDMILL_KEYS_FILE", self.path().to_str().expect("a path").to_owned())
    }

    /// Creates a key, adds its line to the file, and returns the key. `more` contains further
    /// fields of the line, for example `{"queue_quota": 5}`.
    pub fn add(&mut self, name: &str, more: &Value) -> String {
        let (key, mut line) = create(name);
        for (field, value) in more.as_object().expect("fields") {
            line[field] = value.clone();
        }
        self.lines.push(line);
        self.write();
        key
    }

    /// Adds another key to an existing name, and returns it.
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

    /// Writes the file atomically, by a rename.
    pub fn write(&self) {
        let lines: String = self.lines.iter().map(|line| format!("{line}\n")).collect();
        let new = self.directory.path().join("new");
        fs::write(&new, format!("# Keys of the tests\n\n{lines}")).expect("the file is written");
        fs::rename(new, self.path()).expect("the file is renamed");
    }

    fn line(&mut self, name: &str) -> &mut Value {
        self.lines.iter_mut().find(|line| line["name"] == name).expect("the name")
    }
}

/// Runs `wordmill-gateway key new`. Returns the key, from standard error, and its line, from
/// standard output.
fn create(name: &str) -> (String, Value) {
    let mut command = Command::new(binary("wordmill-gateway"));
    let output = command.args(["key", "new", "--name", name]).output().expect("the command runs");
    assert!(output.status.success(), "{output:?}");
    let key = String::from_utf8(output.stderr).expect("text").trim().to_owned();
    let line = serde_json::from_slice(&output.stdout).expect("a line");
    assert!(key.starts_with("wm_") && key.len() == 67, "{key}");
    (key, line)
}
