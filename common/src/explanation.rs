//! Why one rule counts more words in a document than another.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::options::RuleName;

/// Most tokens that are listed for two rules.
pub const TOKENS_MAX: usize = 50;

/// Everything recorded about one count, for any two rules.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// The tokens that matter most for any two rules.
    pub tokens: Vec<Token>,
    /// What was left out of the page, by kind, in bytes.
    #[serde(default)]
    pub dropped_bytes: BTreeMap<String, u64>,
}

/// Text between white space that not all rules count alike.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Token {
    /// The text, cut if it is long.
    pub token: String,
    /// How often it occurs.
    pub count: u64,
    /// What makes it special.
    pub reason: Reason,
    /// How many words one occurrence is by each rule. A volume has fractions.
    pub words: BTreeMap<RuleName, f64>,
    /// The first occurrences.
    pub samples: Vec<Sample>,
}

/// The surroundings of one occurrence.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sample {
    /// Text before it.
    pub before: String,
    /// Text after it.
    pub after: String,
}

/// What makes rules count a token differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Signs without a letter or digit: between white space, but no word.
    NoLetterOrDigit,
    /// Letters of a script in which spaces do not separate words.
    WrittenWithoutSpaces,
    /// Letters of which a volume counts characters.
    CharactersDivided,
    /// Signs inside, such as hyphens and slashes, that end words for some rules.
    SignsInside,
}

impl Token {
    /// Returns the words that `right` counts in all occurrences and `left` does not; negative if
    /// it is the other way round.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts beyond 2^53 do not occur")]
    pub fn difference(&self, left: RuleName, right: RuleName) -> f64 {
        let words = |rule| self.words.get(&rule).copied().unwrap_or_default();
        (words(right) - words(left)) * self.count as f64
    }
}

impl Explanation {
    /// Returns the tokens that make the largest differences between two rules, the largest first.
    #[must_use]
    pub fn largest_differences(&self, left: RuleName, right: RuleName) -> Vec<&Token> {
        let size = |token: &Token| token.difference(left, right).abs();
        let mut tokens: Vec<_> = self.tokens.iter().filter(|token| size(token) > 0.0).collect();
        tokens.sort_by(|a, b| size(b).total_cmp(&size(a)).then_with(|| a.token.cmp(&b.token)));
        tokens.truncate(TOKENS_MAX);
        tokens
    }

    /// Keeps only the tokens that some pair of rules lists.
    pub fn shorten(&mut self) {
        let mut listed = Vec::new();
        for (i, left) in RuleName::ALL.into_iter().enumerate() {
            for right in RuleName::ALL.into_iter().skip(i).skip(1) {
                listed.extend(
                    self.largest_differences(left, right).iter().map(|token| token.token.clone()),
                );
            }
        }
        listed.sort_unstable();
        self.tokens.retain(|token| listed.binary_search(&token.token).is_ok());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(text: &str, count: u64, unicode: f64, whitespace: f64) -> Token {
        let words = [(RuleName::Unicode, unicode), (RuleName::Whitespace, whitespace)];
        let reason = Reason::SignsInside;
        Token { token: text.to_owned(), count, reason, words: words.into(), samples: Vec::new() }
    }

    fn explanation(tokens: Vec<Token>) -> Explanation {
        Explanation { tokens, ..Explanation::default() }
    }

    #[test]
    fn the_largest_difference_comes_first() {
        let tokens =
            vec![token("a-b", 2, 2.0, 1.0), token("—", 5, 0.0, 1.0), token("x", 9, 1.0, 1.0)];
        let explanation = explanation(tokens);
        let listed = explanation.largest_differences(RuleName::Unicode, RuleName::Whitespace);
        let listed: Vec<_> = listed.iter().map(|token| token.token.as_str()).collect();
        assert_eq!(listed, ["—", "a-b"]);
        assert!(explanation.largest_differences(RuleName::Office, RuleName::Office).is_empty());
    }

    #[test]
    fn tokens_without_a_difference_are_dropped() {
        let mut many: Vec<_> = (1..200).map(|n| token(&format!("{n}-"), n, 2.0, 1.0)).collect();
        many.push(token("same", 1000, 1.0, 1.0));
        let mut explanation = explanation(many);
        let before = explanation.clone();
        explanation.shorten();
        // The other rules count nothing here, so there are pairs with other tokens in front.
        assert!(explanation.tokens.len() <= 3 * TOKENS_MAX);
        for (left, right) in
            [(RuleName::Unicode, RuleName::Whitespace), (RuleName::Gmx, RuleName::Unicode)]
        {
            assert_eq!(
                explanation.largest_differences(left, right),
                before.largest_differences(left, right)
            );
        }
    }
}
