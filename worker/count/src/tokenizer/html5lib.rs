//! Compares the tokenizer with html5lib's tokenizer tests, which browsers and other parsers share.
//!
//! The tests are not in the repository: `tests/external/html5lib-tests` downloads them.

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::Value;

use super::{Content, Sink, State, Syntax, Tag, Tokenizer};

#[derive(Deserialize)]
struct Suite {
    #[serde(default)]
    tests: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Case {
    description: String,
    input: String,
    output: Vec<Value>,
    #[serde(default)]
    initial_states: Vec<String>,
    #[serde(default)]
    last_start_tag: String,
    #[serde(default)]
    double_escaped: bool,
}

/// The compared part of the output: text, and tags with their names.
#[derive(Default)]
struct Tokens(Vec<String>);

impl Tokens {
    fn add_text(&mut self, text: &str) {
        match self.0.last_mut().and_then(|last| last.strip_prefix("text ").map(str::len)) {
            Some(_) => self.0.last_mut().unwrap().push_str(text),
            None if text.is_empty() => {}
            None => self.0.push(format!("text {text}")),
        }
    }
}

impl Sink for Tokens {
    fn add_text(&mut self, text: &str) {
        self.add_text(text);
    }

    fn start_tag(&mut self, tag: &Tag) -> Content {
        // The tokenizer does not replace NUL: names with NUL match no known element.
        let name = tag.name().replace('\0', "\u{fffd}");
        self.0.push(format!("start {name} {}", tag.is_closed()));
        Content::Markup
    }

    fn end_tag(&mut self, tag: &Tag) {
        self.0.push(format!("end {}", tag.name()));
    }

    fn has_cdata(&self) -> bool {
        false
    }
}

fn expected_tokens(case: &Case) -> Option<Tokens> {
    let mut tokens = Tokens::default();
    for token in &case.output {
        let Some(token) = token.as_array() else { continue };
        let part = |i: usize| token.get(i).and_then(Value::as_str).unwrap_or_default();
        match part(0) {
            "Character" => tokens.add_text(&text(case, part(1))?),
            "StartTag" => {
                let is_closed = token.get(3).and_then(Value::as_bool).unwrap_or_default();
                tokens.0.push(format!("start {} {is_closed}", text(case, part(1))?));
            }
            "EndTag" => tokens.0.push(format!("end {}", text(case, part(1))?)),
            _ => {}
        }
    }
    Some(tokens)
}

/// Resolves the escapes of the suite. `None` if the result is not valid Unicode.
fn text(case: &Case, text: &str) -> Option<String> {
    if case.double_escaped {
        serde_json::from_str(&format!("\"{text}\"")).ok()
    } else {
        Some(text.to_owned())
    }
}

/// Returns a tokenizer in a state of the standard, or `None` if it cannot run the case.
fn tokenizer_in_state(state: &str, last_start_tag: &str, input: &str) -> Option<Tokenizer> {
    let mut tokenizer = Tokenizer::new(Syntax::Html);
    match state.to_ascii_lowercase().trim_end_matches(" state") {
        "data" => {}
        "plaintext" => tokenizer.state = State::PlainText,
        "cdata section" => tokenizer.state = State::Cdata(0),
        // References in `title` and `textarea` are not resolved, because neither is counted.
        "rcdata" if input.contains('&') => return None,
        name @ ("rcdata" | "rawtext" | "script data") => {
            tokenizer.raw.start(last_start_tag, name == "script data");
            tokenizer.state = State::Raw;
        }
        other => panic!("unknown state {other}"),
    }
    Some(tokenizer)
}

#[test]
#[ignore = "needs html5lib's tests: make test-parser"]
#[expect(clippy::disallowed_methods, reason = "the folder is not a setting of the service")]
#[expect(clippy::print_stdout, reason = "prints the number of cases")]
fn html5libs_tokenizer_tests_pass() {
    let folder = std::env::var("HTML5LIB_TESTS").expect("HTML5LIB_TESTS must name a folder");
    let folder = PathBuf::from(folder).join("tokenizer");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "test"));
    files.sort();
    let mut passed = 0;
    let mut skipped = 0;
    let mut failures = Vec::new();
    for file in files {
        let json = std::fs::read_to_string(&file).unwrap();
        let suite: Suite = serde_json::from_str(&json).unwrap();
        for case in suite.tests {
            let case: Case = serde_json::from_value(case).unwrap();
            let states = match case.initial_states.as_slice() {
                [] => &["data state".to_owned()][..],
                states => states,
            };
            for state in states {
                let input = text(&case, &case.input);
                let (Some(input), Some(expected)) = (input, expected_tokens(&case)) else {
                    skipped += 1;
                    continue;
                };
                let Some(mut tokenizer) = tokenizer_in_state(state, &case.last_start_tag, &input)
                else {
                    skipped += 1;
                    continue;
                };
                let input = input.replace("\r\n", "\n").replace('\r', "\n");
                let mut tokens = Tokens::default();
                tokenizer.push(&input, &mut tokens);
                tokenizer.end(&mut tokens);
                if tokens.0 == expected.0 {
                    passed += 1;
                } else {
                    let name = file.file_name().unwrap().display();
                    let description = &case.description;
                    failures.push(format!(
                        "{name}: {description} in {state}: {input:?}\n  ours {:?}\n  theirs {:?}",
                        tokens.0, expected.0
                    ));
                }
            }
        }
    }
    println!("{passed} cases passed, {skipped} skipped");
    assert!(failures.is_empty(), "{} cases failed:\n{}", failures.len(), failures.join("\n"));
    assert!(passed > 6000, "only {passed} cases passed");
    assert!(skipped < 100, "{skipped} cases skipped");
}
