//! Other word counters, for comparison with Wordmill.

use std::{collections::HashMap, convert::Infallible, io::Write, process::Command, time::Duration};

use html5gum::{DefaultEmitter, Token, Tokenizer};
use scraper::{Html, Node};
use tempfile::NamedTempFile;
use unicode_segmentation::UnicodeSegmentation;

use super::timing;

/// Number of times that `wc` reads the text in one run, because its CPU time has a resolution of 10
/// ms.
const WC_FILES: u32 = 4;

/// Counts words with the crate `unicode_segmentation`, in lower case, in a standard `HashMap`.
pub fn unicode_words(text: &str) -> u64 {
    let mut counts: HashMap<String, u64> = HashMap::new();
    for word in text.unicode_words() {
        *counts.entry(word.to_lowercase()).or_default() += 1;
    }
    counts.values().sum()
}

/// Counts the words of a page with [`unicode_words`], from the tree that scraper parses.
pub fn scraper(page: &[u8]) -> u64 {
    let page = String::from_utf8_lossy(page);
    let tree = Html::parse_document(&page).tree;
    let mut text = String::new();
    for node in tree.nodes() {
        let is_visible = node.parent().is_some_and(|parent| match parent.value() {
            Node::Element(element) => !matches!(element.name(), "script" | "style" | "title"),
            _ => false,
        });
        if let Node::Text(part) = node.value()
            && is_visible
        {
            text.push_str(part);
            text.push(' ');
        }
    }
    unicode_words(&text)
}

/// Extracts the text of a page with html5gum, for Wordmill's counter.
pub fn html5gum(page: &[u8]) -> String {
    let mut text = Vec::new();
    let mut hidden = 0;
    let tokens = Tokenizer::new_with_emitter(page, DefaultEmitter::default());
    for token in tokens {
        match token.unwrap_or_else(|never: Infallible| match never {}) {
            Token::StartTag(tag) => {
                hidden += u32::from(is_hidden(&tag.name));
                text.push(b'\n');
            }
            Token::EndTag(tag) => {
                hidden -= u32::from(is_hidden(&tag.name)).min(hidden);
                text.push(b'\n');
            }
            Token::String(part) if hidden == 0 => text.extend_from_slice(&part),
            _ => {}
        }
    }
    String::from_utf8(text).expect("text")
}

fn is_hidden(name: &[u8]) -> bool {
    matches!(name, b"script" | b"style" | b"title")
}

/// `wc -w`, which returns only the number of words.
pub struct Wc(NamedTempFile);

impl Wc {
    pub fn new(text: &str) -> Self {
        let mut file = NamedTempFile::new().expect("a file");
        file.write_all(text.as_bytes()).expect("disk space for a text");
        Self(file)
    }

    /// Counts the text once, in a child process.
    pub fn run(&self) -> Duration {
        let files = (0..WC_FILES).map(|_| self.0.path());
        let time = timing::of_children(|| {
            let output = Command::new("wc").arg("-w").args(files).env("LC_ALL", "C.UTF-8").output();
            assert!(output.expect("wc").status.success(), "wc failed");
        });
        time / WC_FILES
    }
}
