//! Explanation of the differences between the word counts of two rules.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::options::RuleName;

/// Maximum number of tokens that are listed for a pair of rules.
pub const TOKENS_MAX: usize = 50;

/// Recorded explanation of one count, for all pairs of rules.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// Tokens with the largest differences, for any pair of rules.
    pub tokens: Vec<Token>,
    /// Size of the page content that was not counted, in bytes, by kind, for example `scripts`.
    #[serde(default)]
    pub dropped_bytes: BTreeMap<String, u64>,
}

/// Text between white space that at least two rules count differently.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Token {
    /// The text, shortened if it is long.
    pub token: String,
    /// Number of occurrences.
    pub count: u64,
    /// Reason for the difference.
    pub reason: Reason,
    /// Number of words of one occurrence, by rule. Under `gmx` it can be a fraction.
    pub words: BTreeMap<RuleName, f64>,
    /// Context of the first occurrences.
    pub samples: Vec<Sample>,
}

/// Context of one occurrence of a token.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sample {
    /// Text before the token.
    pub before: String,
    /// Text after the token.
    pub after: String,
}

/// Reason why rules count a token differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The token contains no letter or digit, for example a dash. It is a word only for
    /// `whitespace` and `office`.
    NoLetterOrDigit,
    /// The token contains letters of a script that does not separate words by spaces.
    WrittenWithoutSpaces,
    /// The token contains letters that `gmx` counts by the character.
    CharactersDivided,
    /// The token contains signs, such as hyphens and slashes, that end a word for some rules.
    SignsInside,
}

impl Token {
    /// Returns the number of words that `right` counts in all occurrences, minus the number that
    /// `left` counts. It is negative if `left` counts more.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts beyond 2^53 do not occur")]
    pub fn difference(&self, left: RuleName, right: RuleName) -> f64 {
        let words = |rule| self.words.get(&rule).copied().unwrap_or_default();
        (words(right) - words(left)) * self.count as f64
    }
}

impl Explanation {
    /// Returns up to [`TOKENS_MAX`] tokens that the two rules count differently, the largest
    /// difference first.
    #[must_use]
    pub fn largest_differences(&self, left: RuleName, right: RuleName) -> Vec<&Token> {
        let size = |token: &Token| token.difference(left, right).abs();
        let mut tokens: Vec<_> = self.tokens.iter().filter(|token| size(token) > 0.0).collect();
        // Equal differences are sorted by the text of the token, so that the order is stable.
        tokens.sort_by(|a, b| size(b).total_cmp(&size(a)).then_with(|| a.token.cmp(&b.token)));
        tokens.truncate(TOKENS_MAX);
        tokens
    }

    /// Removes the tokens that are not listed for any pair of rules.
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
        // The other rules count 0 words for every token here, so other tokens come first in their
        // pairs.
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
