//! Compares the words that Wordmill and another program count in a text, and explains the known
//! differences.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Signs and joiners that are part of a word only between two letters.
const INNER_SIGNS: &[char] = &['\'', '.', '\u{200c}', '\u{200d}'];

/// Words with their number of occurrences.
pub type Counts = BTreeMap<String, u64>;

/// Reason why the other program counts a different word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// It splits at a colon within a word (`a:b`). Unicode's default rule does not.
    Colon,
    /// It splits at a full stop between letters (`x.org`, `e.g.`). Unicode's default rule does not.
    FullStop,
    /// It does not split at an at sign within an address (`a@b.org`). Unicode's default rule does.
    AtSign,
    /// It splits between Hangul and digits or Latin letters (`12는`). Unicode's default rule does
    /// not.
    Hangul,
    /// It joins letters, digits and full stops with an adjacent script without spaces (`ສຳລັບvlc`).
    /// Unicode's default rule separates that script.
    AdjacentScript,
    /// It omits closed `details`, `dialog` and popovers.
    ClosedElement,
    /// It does not split at a box without text, such as an image.
    BoxWithoutText,
    /// It counts a word without letters and digits (`__`).
    NoLetter,
    /// It leaves a narrow space (U+202F) at the edge of a word.
    NarrowSpace,
    /// It guesses another charset, because the page declares none, or too late for the browser.
    Charset,
    /// It segments a run of a script without spaces differently, with another dictionary or method.
    SegmentedDifferently(Script),
}

/// A script that is written without spaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Script {
    /// Han, Hiragana and Katakana.
    ChineseJapanese,
    Khmer,
    Lao,
    Myanmar,
    Thai,
}

/// Number of differing words by reason. Words without a reason are not included.
#[derive(Debug, Default)]
pub struct Reasons(BTreeMap<Reason, u64>);

impl Reasons {
    /// Returns the number of words that differ for this reason.
    pub fn count_of(&self, reason: Reason) -> u64 {
        self.0.get(&reason).copied().unwrap_or(0)
    }

    /// Returns the number of words that are segmented differently, in all scripts.
    pub fn segmented_differently(&self) -> u64 {
        let entries =
            self.0.iter().filter(|(reason, _)| matches!(reason, Reason::SegmentedDifferently(_)));
        entries.map(|(_, words)| words).sum()
    }

    /// Adds the differences of another text.
    pub fn add(&mut self, other: &Self) {
        for (reason, words) in &other.0 {
            self.count(*reason, *words);
        }
    }

    /// Adds words that differ for this reason.
    pub fn count(&mut self, reason: Reason, words: u64) {
        if words > 0 {
            *self.0.entry(reason).or_default() += words;
        }
    }
}

impl fmt::Display for Reasons {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reasons = self.0.iter().map(|(reason, words)| format!("{reason:?} {words}"));
        f.write_str(&reasons.collect::<Vec<_>>().join(", "))
    }
}

fn is_hangul(c: char) -> bool {
    matches!(c, '\u{1100}'..='\u{11ff}' | '\u{3130}'..='\u{318f}' | '\u{ac00}'..='\u{d7a3}')
}

/// Returns the script of a letter or mark, if the script is written without spaces.
pub fn script_of(c: char) -> Option<Script> {
    match c {
        // Digits follow the rules for numbers.
        _ if c.is_numeric() && !matches!(c, '\u{3005}'..='\u{9fff}') => None,
        '\u{e01}'..='\u{e5b}' => Some(Script::Thai),
        '\u{e81}'..='\u{edf}' => Some(Script::Lao),
        '\u{1000}'..='\u{109f}' | '\u{a9e0}'..='\u{a9ff}' | '\u{aa60}'..='\u{aa7f}' => {
            Some(Script::Myanmar)
        }
        '\u{1780}'..='\u{17ff}' => Some(Script::Khmer),
        '\u{3005}'..='\u{3007}'
        | '\u{3040}'..='\u{30ff}'
        | '\u{31f0}'..='\u{31ff}'
        | '\u{3400}'..='\u{9fff}'
        | '\u{f900}'..='\u{faff}'
        | '\u{ff66}'..='\u{ff9f}' => Some(Script::ChineseJapanese),
        _ => None,
    }
}

/// Splits a word of Wordmill where the other program splits for one of `reasons`. Adds `count` to
/// the reasons in `causes`.
fn split_like_other(
    word: &str,
    count: u64,
    reasons: &[Reason],
    causes: &mut Reasons,
) -> Vec<String> {
    let characters: Vec<char> = word.chars().collect();
    let mut parts = vec![String::new()];
    for (i, &c) in characters.iter().enumerate() {
        let around = (i > 0).then(|| characters[i - 1]).zip(characters.get(i + 1).copied());
        let between_letters =
            around.is_some_and(|(left, right)| left.is_alphabetic() && right.is_alphabetic());
        let reason = match c {
            ':' => Some(Reason::Colon),
            '.' if between_letters => Some(Reason::FullStop),
            _ if i > 0 && is_hangul(c) != is_hangul(characters[i - 1]) => Some(Reason::Hangul),
            _ => None,
        };
        let reason = reason.filter(|reason| reasons.contains(reason));
        if let Some(reason) = reason {
            causes.count(reason, count);
            parts.push(String::new());
        }
        if reason.is_none_or(|reason| reason == Reason::Hangul) {
            parts.last_mut().expect("a part").push(c);
        }
    }
    if parts.len() > 1 {
        parts.iter_mut().for_each(|part| *part = part.trim_matches(INNER_SIGNS).to_owned());
        parts.retain(|part| part.chars().any(char::is_alphanumeric));
    }
    parts
}

/// Splits a word of the other program where it joins and Wordmill does not. Adds `count` to the
/// reasons in `causes`.
fn split_like_wordmill(
    word: &str,
    count: u64,
    reasons: &[Reason],
    causes: &mut Reasons,
) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut before: Option<Option<Script>> = None;
    for c in word.chars() {
        // A combining mark belongs to the script of the preceding character.
        let script =
            script_of(c).or_else(|| before.flatten().filter(|_| !c.is_ascii() && !c.is_numeric()));
        let reason = match before {
            _ if c == '@' => Some(Reason::AtSign),
            Some(before) if before != script => Some(Reason::AdjacentScript),
            _ => None,
        };
        before = Some(script);
        let reason = reason.filter(|reason| reasons.contains(reason));
        if let Some(reason) = reason {
            causes.count(reason, count);
            parts.push(String::new());
        }
        if reason != Some(Reason::AtSign) {
            parts.last_mut().expect("a part").push(c);
        }
    }
    if parts.len() > 1 {
        parts.retain(|part| part.chars().any(char::is_alphanumeric));
    }
    parts
}

/// Removes all differences with one of `reasons` from both counts, and returns their number.
///
/// Scripts without spaces are always included: each of their characters must occur equally often in
/// both counts, but words may be segmented differently.
pub fn explain(ours: &mut Counts, theirs: &mut Counts, reasons: &[Reason]) -> Reasons {
    let mut causes = Reasons::default();
    for (word, count) in std::mem::take(ours) {
        for part in split_like_other(&word, count, reasons, &mut causes) {
            *ours.entry(part).or_default() += count;
        }
    }
    for (word, count) in std::mem::take(theirs) {
        for part in split_like_wordmill(&word, count, reasons, &mut causes) {
            *theirs.entry(part).or_default() += count;
        }
    }
    let mut characters: BTreeMap<char, i64> = BTreeMap::new();
    let words: BTreeSet<String> = ours.keys().chain(theirs.keys()).cloned().collect();
    for word in words {
        let Some(script) = word.chars().find_map(script_of) else {
            continue;
        };
        let a = ours.remove(&word).unwrap_or(0);
        let b = theirs.remove(&word).unwrap_or(0);
        causes.count(Reason::SegmentedDifferently(script), a.abs_diff(b));
        for c in word.chars() {
            *characters.entry(c).or_default() +=
                i64::try_from(a).unwrap() - i64::try_from(b).unwrap();
        }
    }
    for (c, difference) in characters.into_iter().filter(|(_, difference)| *difference != 0) {
        let side = if difference > 0 { &mut *ours } else { &mut *theirs };
        *side.entry(c.to_string()).or_default() += difference.unsigned_abs();
    }
    causes
}

/// Returns the number of word occurrences that are in only one of the counts, and a list of the
/// words.
pub fn distance(a: &Counts, b: &Counts) -> (u64, Vec<String>) {
    let words: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let mut sum = 0;
    let mut examples = Vec::new();
    for word in words {
        let left = a.get(word).copied().unwrap_or(0);
        let right = b.get(word).copied().unwrap_or(0);
        if left != right {
            sum += left.abs_diff(right);
            examples.push(format!("{word:?} {left} {right}"));
        }
    }
    (sum, examples)
}

/// Returns the histogram of a result.
pub fn histogram(result: &serde_json::Value) -> Counts {
    let counts = result["word_count"].as_object().expect("a histogram").iter();
    counts.map(|(word, n)| (word.clone(), n.as_u64().expect("a count"))).collect()
}

#[cfg(test)]
mod tests {
    use super::{Counts, Reason, distance, explain};

    const ALL: [Reason; 5] =
        [Reason::Colon, Reason::FullStop, Reason::AtSign, Reason::Hangul, Reason::AdjacentScript];

    fn counts(words: &str) -> Counts {
        words.split(' ').map(|word| (word.to_owned(), 1)).collect()
    }

    /// Returns the number of words that differ without a reason.
    fn unexplained(ours: &str, theirs: &str) -> u64 {
        let (mut ours, mut theirs) = (counts(ours), counts(theirs));
        explain(&mut ours, &mut theirs, &ALL);
        distance(&ours, &theirs).0
    }

    #[test]
    fn a_missing_word_has_no_reason() {
        assert_eq!(unexplained("x.org b", "x org"), 1);
    }

    #[test]
    fn joined_words_have_no_reason() {
        assert_eq!(unexplained("a b", "ab"), 3);
    }

    #[test]
    fn a_missing_character_of_a_script_without_spaces_has_no_reason() {
        assert_eq!(unexplained("東京", "東 京 は"), 1);
    }

    #[test]
    fn other_boundaries_in_a_script_without_spaces_have_a_reason() {
        assert_eq!(unexplained("東京は", "東京 は"), 0);
    }
}
