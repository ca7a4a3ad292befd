//! Compares the counts of real plain texts in many languages and scripts with other programs: words
//! with ICU (`icu_words.py`, without code of Wordmill), and words between white space with `wc -w`.
//! The texts are files of installed Debian packages.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;
use wordmill_tests::stack::Stack;
use wordmill_tests::{LIMIT, repository};

use crate::differences::{
    Counts, Reason, Reasons, Script, distance, explain, histogram, script_of,
};

/// Languages in Debian's package `vlc-l10n` whose translations have at least a thousand words.
const TRANSLATIONS: [&str; 42] = [
    "am", "ar", "as", "be", "bg", "bn", "ca", "cs", "de", "el", "es", "fa", "fi", "fr", "gu", "he",
    "hi", "hy", "is", "it", "ja", "ka", "kk", "km", "kn", "ko", "lo", "ml", "mr", "my", "pa", "pl",
    "ru", "si", "ta", "te", "th", "tr", "ug", "vi", "zh_CN", "zh_TW",
];
/// Prose: jokes, proverbs, a license.
const PROSE: [(&str, &str); 6] = [
    ("en", "/usr/share/common-licenses/GPL-3"),
    ("en", "/usr/share/games/fortunes/wisdom"),
    ("de", "/usr/share/games/fortunes/de/witze"),
    ("ru", "/usr/share/games/fortunes/ru/love"),
    ("zh", "/usr/share/games/fortunes/chinese"),
    ("zh", "/usr/share/games/fortunes/tang300"),
];
/// Reasons why ICU may count a word differently.
const REASONS: [Reason; 4] =
    [Reason::Colon, Reason::AtSign, Reason::Hangul, Reason::AdjacentScript];

struct Text {
    name: String,
    text: String,
    /// Words that ICU has counted.
    words: Counts,
}

/// Returns the texts with the words that ICU counts.
fn texts() -> Vec<Text> {
    let translations = TRANSLATIONS
        .map(|language| (language, format!("/usr/share/locale/{language}/LC_MESSAGES/vlc.mo")));
    let prose = PROSE.map(|(language, file)| (language, file.to_owned()));
    let files: Vec<(&str, String)> = translations.into_iter().chain(prose).collect();
    // Debian's own Python uses Debian's ICU, even if another Python is installed.
    let output = Command::new("/usr/bin/python3")
        .arg(repository().join("tests/external/icu_words.py"))
        .args(files.iter().map(|(_, file)| file))
        .stderr(Stdio::inherit())
        .output()
        .expect("python3 runs: see tests/external/install");
    assert!(output.status.success());
    let output = String::from_utf8(output.stdout).expect("UTF-8");
    let texts: Vec<Text> = output
        .lines()
        .zip(files)
        .map(|(line, (language, file))| {
            let json: Value = serde_json::from_str(line).expect("JSON");
            let words = json["words"].as_object().expect("words").iter();
            let words = words.map(|(word, n)| (word.clone(), n.as_u64().expect("a count")));
            let name = file.rsplit('/').next().expect("a name");
            Text {
                name: format!("{language} {name}"),
                text: json["text"].as_str().expect("a text").to_owned(),
                words: words.collect(),
            }
        })
        .collect();
    assert_eq!(texts.len(), TRANSLATIONS.len() + PROSE.len());
    texts
}

/// Counts words with `wc -w`.
fn words_by_wc(text: &str) -> u64 {
    let mut child = Command::new("wc")
        .arg("-w")
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("wc runs");
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(text.as_bytes()).expect("wc reads its input");
    drop(input);
    let output = child.wait_with_output().expect("wc exits");
    String::from_utf8(output.stdout).expect("UTF-8").trim().parse().expect("a number")
}

/// Scripts without spaces. Wordmill segments all of them with the methods of ICU.
const SCRIPTS_WITHOUT_SPACES: [Script; 5] =
    [Script::ChineseJapanese, Script::Khmer, Script::Lao, Script::Myanmar, Script::Thai];

#[test]
fn real_texts_have_the_counts_of_icu_and_wc() {
    let stack = Stack::start();
    let client = stack.client();
    let headers = [("content-type", "text/plain; charset=utf-8")];
    println!("{:18} {:>6} {:>6} {:>6} with a reason", "text", "own", "ICU", "differ");
    let mut all = 0;
    let mut causes = Reasons::default();
    let mut bad = Vec::new();
    let mut without_spaces: BTreeMap<Script, u64> = BTreeMap::new();
    for Text { name, text, words: mut theirs } in texts() {
        let path = "/v1/jobs?rule=unicode&scope=page&case=lower&normalize=nfc";
        let answer = client.send("POST", path, &headers, text.as_bytes());
        assert_eq!(answer.status, 202, "{name}: {answer:?}");
        let job_id = answer.json()["job_id"].as_str().expect("a job id").to_owned();
        let job = client.wait_until_final(&job_id, LIMIT);
        assert_eq!(job["status"], "succeeded", "{name}: {job}");
        assert_eq!(job["totals"]["characters"], text.chars().count(), "{name}: {job}");
        let by_wc = words_by_wc(&text);
        assert_eq!(job["totals_by_rule"]["whitespace"], by_wc, "{name}: count of wc -w");

        let words: u64 = theirs.values().sum();
        assert!(words > 1000, "{name} has only {words} words");
        for (word, count) in &theirs {
            if let Some(script) = word.chars().find_map(script_of) {
                *without_spaces.entry(script).or_default() += count;
            }
        }
        let mut ours = histogram(&client.result(&job_id));
        let reasons = explain(&mut ours, &mut theirs, &REASONS);
        let (differ, examples) = distance(&ours, &theirs);
        println!("{name:18} {:>6} {words:>6} {differ:>6} {reasons:?}", job["totals"]["words"]);
        if differ > 0 {
            bad.push(format!("{name}: {}", examples.join(", ")));
        }
        all += words;
        causes.add(&reasons);
    }
    println!(
        "{all} words, with a reason: {causes:?}; in scripts without spaces: {without_spaces:?}"
    );
    assert!(bad.is_empty(), "words with the counts of Wordmill and ICU:\n{}", bad.join("\n"));
    assert!(REASONS.iter().all(|reason| causes.count_of(*reason) > 0), "{causes:?}");
    for script in SCRIPTS_WITHOUT_SPACES {
        let differently = causes.count_of(Reason::SegmentedDifferently(script));
        assert_eq!(differently, 0, "{script:?}: words that are segmented differently");
        assert!(without_spaces[&script] > 1000, "{script:?}: {without_spaces:?}");
    }
}
