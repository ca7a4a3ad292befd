//! Rules: their names and versions, and the sums from which their totals are computed.

use std::collections::BTreeMap;

use wordmill_common::{histogram::Rule, options::RuleName};

use super::stretch::Stretch;

/// Version of the Unicode data that all rules use.
pub const UNICODE_VERSION: &str = "18.0";

/// Average length of a word of Chinese, Japanese, Korean and Thai, in tenths of a character.
///
/// The values are from secondary sources on GMX-V: the text of the standard was not available.
const CHINESE_WORD_LENGTH_TENTHS: u64 = 28;
const JAPANESE_WORD_LENGTH_TENTHS: u64 = 30;
const KOREAN_WORD_LENGTH_TENTHS: u64 = 33;
const THAI_WORD_LENGTH_TENTHS: u64 = 60;

/// Returns the version of a rule. Increment it when a rule may count the same text differently.
pub(super) const fn version_of(rule: RuleName) -> u32 {
    match rule {
        RuleName::Whitespace | RuleName::Office => 1,
        RuleName::Unicode | RuleName::Gmx => 2,
    }
}

/// Returns the name and version of a rule, with the version of the Unicode data.
pub(super) fn describe(rule: RuleName) -> Rule {
    Rule {
        name: rule.as_str().to_owned(),
        version: version_of(rule),
        unicode: UNICODE_VERSION.to_owned(),
    }
}

/// Characters and words of text that the rule `gmx` counts by its characters: it divides their
/// number by the average length of a word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct CharacterCounts {
    /// Characters that `gmx` divides.
    pub(super) characters: u64,
    /// Words of the same text by the rule `unicode`, which `gmx` does not count.
    pub(super) words: u64,
}

impl CharacterCounts {
    pub(super) const fn add(&mut self, characters: u64, words: u64) {
        self.characters = self.characters.saturating_add(characters);
        self.words = self.words.saturating_add(words);
    }

    const fn plus(self, other: Self) -> Self {
        Self {
            characters: self.characters.saturating_add(other.characters),
            words: self.words.saturating_add(other.words),
        }
    }
}

/// Sums of a text, from which the totals of all rules are computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    /// Words by the rule `unicode`.
    pub(super) unicode: u64,
    /// Words by the rule `whitespace`.
    pub(super) whitespace: u64,
    /// Words by the rule `office`.
    pub(super) office: u64,
    /// Counts of Han, Hiragana and Katakana.
    pub(super) han_kana: CharacterCounts,
    /// Counts of words with Hangul.
    pub(super) hangul: CharacterCounts,
    /// Counts of Thai letters and vowel signs.
    pub(super) thai: CharacterCounts,
    /// Whether the text contains Hiragana or Katakana. If so, its Han characters are probably
    /// Japanese.
    pub(super) has_kana: bool,
    /// Characters, except ASCII white space of a page.
    pub(super) characters: u64,
    /// Characters except white space.
    pub(super) characters_no_spaces: u64,
    /// Number of tokens of a page: text between ASCII white space. Between two tokens, one space is
    /// visible. 0 for plain text.
    pub(super) tokens: u64,
    /// Words that are too long to be listed.
    pub(super) overlong: u64,
}

impl Sums {
    /// Adds the sums of another text.
    pub(super) fn add(&mut self, more: &Self) {
        self.unicode = self.unicode.saturating_add(more.unicode);
        self.whitespace = self.whitespace.saturating_add(more.whitespace);
        self.office = self.office.saturating_add(more.office);
        self.han_kana = self.han_kana.plus(more.han_kana);
        self.hangul = self.hangul.plus(more.hangul);
        self.thai = self.thai.plus(more.thai);
        self.has_kana |= more.has_kana;
        self.characters = self.characters.saturating_add(more.characters);
        let no_spaces = self.characters_no_spaces.saturating_add(more.characters_no_spaces);
        self.characters_no_spaces = no_spaces;
        self.tokens = self.tokens.saturating_add(more.tokens);
        self.overlong = self.overlong.saturating_add(more.overlong);
    }

    /// Adds the characters of a stretch, which is not ASCII white space.
    #[inline]
    pub(super) const fn add_characters(&mut self, stretch: &Stretch<'_>) {
        self.characters = self.characters.saturating_add(stretch.characters);
        if !stretch.properties.is_space() {
            let no_spaces = self.characters_no_spaces.saturating_add(stretch.characters);
            self.characters_no_spaces = no_spaces;
        }
    }

    /// Adds one character of ASCII white space.
    pub(super) const fn add_space(&mut self) {
        self.characters = self.characters.saturating_add(1);
    }

    /// Counts the start of a token.
    pub(super) const fn add_token(&mut self) {
        self.tokens = self.tokens.saturating_add(1);
    }

    /// Returns the number of characters, including the visible spaces between the tokens of a page.
    pub(super) const fn all_characters(&self) -> u64 {
        self.characters.saturating_add(self.tokens.saturating_sub(1))
    }

    /// Returns the number of words by a rule.
    pub(super) fn words(&self, rule: RuleName, language: Option<&str>) -> u64 {
        match rule {
            RuleName::Unicode => self.unicode,
            RuleName::Whitespace => self.whitespace,
            RuleName::Office => self.office,
            RuleName::Gmx => self.gmx_parts(language).into_iter().fold(0, u64::saturating_add),
        }
    }

    /// Returns the number of words by each rule, with its name as the key.
    pub(super) fn by_rule(&self, language: Option<&str>) -> BTreeMap<String, u64> {
        let rules = RuleName::ALL.into_iter();
        rules.map(|rule| (rule.as_str().to_owned(), self.words(rule, language))).collect()
    }

    /// Returns whether `gmx` counts characters of this text instead of words.
    pub(super) const fn has_counted_characters(&self) -> bool {
        self.han_kana.characters > 0 || self.hangul.characters > 0 || self.thai.characters > 0
    }

    /// Returns the number of words that a part of a document contributes to the total of a rule,
    /// with two decimals. Not rounded up: only the `gmx` count of the whole document is.
    #[expect(clippy::cast_precision_loss, reason = "parts are small, and shown with two decimals")]
    pub(super) fn share(&self, rule: RuleName, language: Option<&str>, has_kana: bool) -> f64 {
        let words = match rule {
            RuleName::Unicode | RuleName::Whitespace | RuleName::Office => {
                self.words(rule, None) as f64
            }
            RuleName::Gmx => {
                let by_characters = self.han_kana.plus(self.hangul).plus(self.thai);
                let other_words = self.unicode.saturating_sub(by_characters.words);
                let words = |counts: CharacterCounts, tenths| {
                    (counts.characters * 10) as f64 / tenths as f64
                };
                other_words as f64
                    + words(self.han_kana, han_kana_word_length_tenths(language, has_kana))
                    + words(self.hangul, KOREAN_WORD_LENGTH_TENTHS)
                    + words(self.thai, THAI_WORD_LENGTH_TENTHS)
            }
        };
        (words * 100.0).round() / 100.0
    }

    /// Returns the parts of the `gmx` count: the words that are counted as such, then Han and Kana,
    /// Hangul, and Thai. The last three are numbers of characters divided by the average length of
    /// a word, rounded up.
    ///
    /// `language` selects one of the three languages that use Han. Otherwise, a text with Kana is
    /// treated as Japanese, and a text without Kana as Chinese.
    fn gmx_parts(&self, language: Option<&str>) -> [u64; 4] {
        let by_characters = self.han_kana.plus(self.hangul).plus(self.thai);
        let other_words = self.unicode.saturating_sub(by_characters.words);
        let mut han_kana = self.han_kana.characters;
        let mut hangul = self.hangul.characters;
        // Han in a Korean text is rounded up together with Hangul.
        if language == Some("ko") {
            hangul = hangul.saturating_add(han_kana);
            han_kana = 0;
        }
        let words = |characters: u64, tenths| characters.saturating_mul(10).div_ceil(tenths);
        [
            other_words,
            words(han_kana, han_kana_word_length_tenths(language, self.has_kana)),
            words(hangul, KOREAN_WORD_LENGTH_TENTHS),
            words(self.thai.characters, THAI_WORD_LENGTH_TENTHS),
        ]
    }
}

/// Returns the average length of a word of Han and Kana, in tenths of a character.
fn han_kana_word_length_tenths(language: Option<&str>, has_kana: bool) -> u64 {
    match language {
        Some("ko") => KOREAN_WORD_LENGTH_TENTHS,
        Some("zh") => CHINESE_WORD_LENGTH_TENTHS,
        Some("ja") => JAPANESE_WORD_LENGTH_TENTHS,
        Some(_) | None if has_kana => JAPANESE_WORD_LENGTH_TENTHS,
        Some(_) | None => CHINESE_WORD_LENGTH_TENTHS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(han_kana: u64, hangul: u64, thai: u64) -> Sums {
        let counts = |characters| CharacterCounts { characters, words: 1 };
        Sums {
            unicode: 13,
            han_kana: counts(han_kana),
            hangul: counts(hangul),
            thai: counts(thai),
            ..Sums::default()
        }
    }

    #[test]
    fn gmx_divides_characters_and_rounds_up() {
        let gmx_count = |sums: &Sums, language| sums.words(RuleName::Gmx, language);
        assert_eq!(gmx_count(&sums(0, 0, 0), None), 10);
        assert_eq!(gmx_count(&sums(28, 0, 0), None), 10 + 10);
        assert_eq!(gmx_count(&sums(29, 0, 0), None), 10 + 11);
        assert_eq!(gmx_count(&sums(0, 33, 0), None), 10 + 10);
        assert_eq!(gmx_count(&sums(0, 0, 61), None), 10 + 11);
    }

    #[test]
    fn the_language_selects_the_word_length_of_han() {
        let mut sums = sums(84, 33, 0);
        let gmx_count = |sums: &Sums, language| sums.words(RuleName::Gmx, language);
        assert_eq!(gmx_count(&sums, None), 10 + 30 + 10);
        assert_eq!(gmx_count(&sums, Some("zh")), 10 + 30 + 10);
        assert_eq!(gmx_count(&sums, Some("ja")), 10 + 28 + 10);
        assert_eq!(gmx_count(&sums, Some("ko")), 10 + 36);
        assert_eq!(gmx_count(&sums, Some("de")), 10 + 30 + 10);
        sums.has_kana = true;
        assert_eq!(gmx_count(&sums, None), 10 + 28 + 10);
        assert_eq!(gmx_count(&sums, Some("zh")), 10 + 30 + 10);
    }

    #[test]
    fn every_rule_has_its_total() {
        let sums = Sums { unicode: 1, whitespace: 2, office: 3, ..Sums::default() };
        let expected = [("gmx", 1), ("office", 3), ("unicode", 1), ("whitespace", 2)];
        let expected = expected.map(|(name, words)| (name.to_owned(), words));
        assert_eq!(sums.by_rule(None), BTreeMap::from(expected));
    }
}
