//! Records the tokens that the rules count differently, while text is counted.

use std::collections::{BTreeMap, HashMap};

use wordmill_common::{
    explanation::{Explanation, Reason, Sample, Token},
    options::RuleName,
};

use super::{char_class::CharTable, rules::Sums};

/// Maximum number of distinct tokens that are recorded. Later ones are ignored.
const TOKENS_MAX: usize = 4000;
/// Maximum number of samples of one token.
const SAMPLES_MAX: usize = 3;
/// Maximum length of the shown part of a token, in characters.
const TOKEN_CHARACTERS_MAX: usize = 60;
/// Maximum length of the shown text before and after a token, in characters.
const CONTEXT_CHARACTERS_MAX: usize = 40;

/// Counts of a token, and samples of the text around it.
struct TokenCounts {
    count: u64,
    /// Sums of one occurrence.
    sums: Sums,
    samples: Vec<Sample>,
}

/// Collects the tokens that the rules count differently.
pub(super) struct ExplanationRecorder {
    char_table: CharTable,
    tokens: HashMap<String, TokenCounts>,
    /// The current token, truncated.
    token: String,
    /// The text before the current token.
    before: String,
}

impl ExplanationRecorder {
    pub(super) fn new() -> Self {
        Self {
            char_table: CharTable::get(),
            tokens: HashMap::new(),
            token: String::new(),
            before: String::new(),
        }
    }

    /// Removes all tokens.
    pub(super) fn clear(&mut self) {
        self.tokens.clear();
    }

    /// Begins the token that starts in `text` at `start`.
    pub(super) fn begin_token(&mut self, text: &str, start: usize) {
        let (before, after) = text.split_at_checked(start).unwrap_or_default();
        self.token.clear();
        let mut rest = after.chars();
        let shown = rest.by_ref().take_while(|c| !c.is_ascii_whitespace());
        self.token.extend(shown.take(TOKEN_CHARACTERS_MAX));
        // Mark a truncated token.
        if after.get(self.token.len()..).is_some_and(|rest| {
            !rest.is_empty() && !rest.starts_with(|c: char| c.is_ascii_whitespace())
        }) {
            self.token.push('…');
        }
        self.before.clear();
        let last = before.char_indices().rev().take(CONTEXT_CHARACTERS_MAX).last();
        let shown = last.and_then(|(from, _)| before.get(from..)).unwrap_or_default();
        push_on_one_line(shown, &mut self.before);
    }

    /// Ends the current token: records its sums, and the text `after` it, if the rules differ.
    pub(super) fn end_token(&mut self, sums: &Sums, after: &str) {
        let is_alike = sums.unicode == sums.whitespace
            && sums.unicode == sums.office
            && !sums.has_counted_characters();
        let is_new = !self.tokens.contains_key(&self.token);
        if is_alike || (is_new && self.tokens.len() >= TOKENS_MAX) {
            return;
        }
        let new = || TokenCounts { count: 0, sums: *sums, samples: Vec::new() };
        let counts = self.tokens.entry(self.token.clone()).or_insert_with(new);
        counts.count = counts.count.saturating_add(1);
        if counts.samples.len() < SAMPLES_MAX {
            let mut sample = Sample { before: self.before.clone(), after: String::new() };
            let end = after.char_indices().nth(CONTEXT_CHARACTERS_MAX);
            let shown = end.and_then(|(end, _)| after.get(..end)).unwrap_or(after);
            push_on_one_line(shown, &mut sample.after);
            counts.samples.push(sample);
        }
    }

    /// Returns the recorded tokens, with the number of words in each by every rule, and without
    /// the sizes of dropped text.
    pub(super) fn finish(self, language: Option<&str>, has_kana: bool) -> Explanation {
        let char_table = self.char_table;
        let tokens = self.tokens.into_iter().map(|(token, counts)| {
            let words =
                RuleName::ALL.map(|rule| (rule, counts.sums.share(rule, language, has_kana)));
            let reason = reason_of(&token, &counts.sums, char_table);
            let TokenCounts { count, samples, .. } = counts;
            Token { token, count, reason, words: words.into(), samples }
        });
        let mut explanation =
            Explanation { tokens: tokens.collect(), dropped_bytes: BTreeMap::new() };
        explanation
            .tokens
            .sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.token.cmp(&b.token)));
        explanation.shorten();
        explanation
    }
}

fn reason_of(token: &str, sums: &Sums, char_table: CharTable) -> Reason {
    if sums.unicode == 0 {
        Reason::NoLetterOrDigit
    } else if token.chars().any(|c| char_table.of(c).class.writing().is_some()) {
        Reason::WrittenWithoutSpaces
    } else if sums.has_counted_characters() && sums.unicode == sums.whitespace {
        Reason::CharactersDivided
    } else {
        Reason::SignsInside
    }
}

/// Appends text, with each run of white space as one space.
fn push_on_one_line(text: &str, line: &mut String) {
    let mut was_space = false;
    for c in text.chars() {
        let is_space = c.is_whitespace() || c.is_control();
        if !is_space {
            line.push(c);
        } else if !was_space {
            line.push(' ');
        }
        was_space = is_space;
    }
}
