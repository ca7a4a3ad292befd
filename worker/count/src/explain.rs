//! Records, while it is counted, what the rules count differently.

use std::collections::{BTreeMap, HashMap};

use wordmill_common::{
    explanation::{Explanation, Reason, Sample, Token},
    options::RuleName,
};

use super::{char_class::Kinds, rules::Sums};

/// Most different tokens that are recorded; those that come later are not.
const TOKENS_MAX: usize = 4000;
/// Most surroundings of one token.
const SAMPLES_MAX: usize = 3;
/// Most of a token that is shown, in characters.
const TOKEN_CHARACTERS_MAX: usize = 60;
/// Most text that is shown before and after a token, in characters.
const CONTEXT_CHARACTERS_MAX: usize = 40;

/// Why text of a page is not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum DropReason {
    /// `script`.
    Scripts,
    /// `style`.
    Styles,
    /// `template`.
    Templates,
    /// The attribute `hidden`, or `display: none` in the attribute `style`.
    Hidden,
    /// What is shown in another way, or in other circumstances: the title, form fields, replacements for media and
    /// scripts.
    Replaced,
}

impl DropReason {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Scripts => "scripts",
            Self::Styles => "styles",
            Self::Templates => "templates",
            Self::Hidden => "hidden",
            Self::Replaced => "replaced",
        }
    }
}

/// What is known of a token.
struct TokenCounts {
    count: u64,
    sums: Sums,
    samples: Vec<Sample>,
}

/// Collects the tokens that not all rules count alike.
pub(super) struct Recorder {
    kinds: Kinds,
    tokens: HashMap<String, TokenCounts>,
    dropped: BTreeMap<DropReason, u64>,
    token: String,
    before: String,
}

impl Recorder {
    pub(super) fn new() -> Self {
        Self {
            kinds: Kinds::get(),
            tokens: HashMap::new(),
            dropped: BTreeMap::new(),
            token: String::new(),
            before: String::new(),
        }
    }

    /// Notes that `bytes` of text were left out.
    pub(super) fn drop(&mut self, why: DropReason, bytes: u64) {
        let sum = self.dropped.entry(why).or_default();
        *sum = sum.saturating_add(bytes);
    }

    /// Takes back every token.
    pub(super) fn forget(&mut self) {
        self.tokens.clear();
    }

    /// Looks at the token that begins in `text` at `start`.
    pub(super) fn begin(&mut self, text: &str, start: usize) {
        let (before, after) = text.split_at_checked(start).unwrap_or_default();
        self.token.clear();
        let mut rest = after.chars();
        let shown = rest.by_ref().take_while(|c| !c.is_ascii_whitespace());
        self.token.extend(shown.take(TOKEN_CHARACTERS_MAX));
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

    /// Records what was counted in that token, behind which `after` follows.
    pub(super) fn end(&mut self, sums: &Sums, after: &str) {
        let is_alike =
            sums.unicode == sums.whitespace && sums.unicode == sums.office && !sums.has_divided();
        let is_new = !self.tokens.contains_key(&self.token);
        if is_alike || (is_new && self.tokens.len() >= TOKENS_MAX) {
            return;
        }
        let new = || TokenCounts { count: 0, sums: *sums, samples: Vec::new() };
        let known = self.tokens.entry(self.token.clone()).or_insert_with(new);
        known.count = known.count.saturating_add(1);
        if known.samples.len() < SAMPLES_MAX {
            let mut sample = Sample { before: self.before.clone(), after: String::new() };
            let end = after.char_indices().nth(CONTEXT_CHARACTERS_MAX);
            let shown = end.and_then(|(end, _)| after.get(..end)).unwrap_or(after);
            push_on_one_line(shown, &mut sample.after);
            known.samples.push(sample);
        }
    }

    /// Returns what was recorded, for the language in effect.
    pub(super) fn finish(self, language: Option<&str>, has_kana: bool) -> Explanation {
        let kinds = self.kinds;
        let tokens = self.tokens.into_iter().map(|(token, known)| {
            let words =
                RuleName::ALL.map(|rule| (rule, known.sums.share(rule, language, has_kana)));
            let reason = reason(&token, &known.sums, kinds);
            let TokenCounts { count, samples, .. } = known;
            Token { token, count, reason, words: words.into(), samples }
        });
        let dropped = self.dropped.into_iter();
        let dropped = dropped.map(|(why, bytes)| (why.as_str().to_owned(), bytes));
        let mut explanation =
            Explanation { tokens: tokens.collect(), dropped_bytes: dropped.collect() };
        explanation
            .tokens
            .sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.token.cmp(&b.token)));
        explanation.shorten();
        explanation
    }
}

fn reason(token: &str, sums: &Sums, kinds: Kinds) -> Reason {
    if sums.unicode == 0 {
        Reason::NoLetterOrDigit
    } else if token.chars().any(|c| kinds.of(c).class.writing().is_some()) {
        Reason::WrittenWithoutSpaces
    } else if sums.has_divided() && sums.unicode == sums.whitespace {
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
