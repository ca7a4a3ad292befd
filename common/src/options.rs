//! How a job is to be counted.
//!
//! Options are stored and sent as JSON. A field that has its default is left out, except the three
//! oldest, so that a worker of an earlier version understands every job that asks for nothing new;
//! a field or a value that a reader does not know is refused, because a job counted otherwise than
//! asked for would be wrong.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::raw_json::RawJson;

/// Shortest and longest value of [`Options::min_len`], in characters.
const MIN_LEN: RangeInclusive<u32> = 1..=100;
/// Fewest and most words in [`Options::top`].
const TOP: RangeInclusive<u32> = 0..=100;
/// Most words in [`Options::stop_words`].
const STOP_WORDS_MAX: usize = 1000;
/// Longest word in [`Options::stop_words`], in bytes of UTF-8.
const STOP_WORD_BYTES_MAX: usize = 256;
/// Longest tag in [`Options::language`], in bytes.
const LANGUAGE_BYTES_MAX: usize = 35;

/// How a job is to be counted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("if" = volume_rule_schema(), "then" = unfiltered_options_schema()))]
pub struct Options {
    /// Which definition of a word makes the histogram.
    pub rule: RuleName,
    /// What becomes of upper case.
    pub case: Case,
    /// Which part of a page counts.
    pub scope: Scope,
    /// Whether numbers are words.
    #[serde(skip_serializing_if = "is_default")]
    pub numbers: Numbers,
    /// Whether the kinds of apostrophe are told apart.
    #[serde(skip_serializing_if = "is_default")]
    pub apostrophe: Apostrophe,
    /// Whether a hyphen ends a word.
    #[serde(skip_serializing_if = "is_default")]
    pub hyphen: Hyphen,
    /// How characters that can be written in several ways are unified.
    #[serde(skip_serializing_if = "is_default")]
    pub normalize: Normalize,
    /// Shorter words are left out.
    #[serde(skip_serializing_if = "is_default")]
    pub min_len: MinLen,
    /// Words that are left out.
    #[serde(skip_serializing_if = "is_default")]
    pub stop_words: StopWords,
    /// How many of the most frequent words the job itself shows.
    #[serde(skip_serializing_if = "is_default")]
    pub top: Top,
    /// The language of the document, where the rule `gmx` has to know it.
    #[serde(skip_serializing_if = "is_default")]
    pub language: Option<Language>,
    /// Whether to record what the rules count differently.
    #[serde(skip_serializing_if = "is_default")]
    pub explain: bool,
    /// An option that only the next version has.
    #[cfg(feature = "next-version")]
    #[serde(skip_serializing_if = "is_default")]
    pub next: Option<Next>,
}

/// The end of a job that has the option of the next version.
#[cfg(feature = "next-version")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Next {
    /// It is counted.
    Count,
    /// It fails with the code of the next version.
    Fail,
    /// Every attempt fails with that code, until the job is dead-lettered.
    Retry,
}

impl From<&Options> for RawJson<Options> {
    #[expect(clippy::expect_used, reason = "options are names, numbers, flags and lists of text")]
    fn from(options: &Options) -> Self {
        Self::of(options).expect("options can be written as JSON")
    }
}

/// The schema of options in an answer: those that a newer version has added are shown, too.
impl JsonSchema for RawJson<Options> {
    fn schema_name() -> Cow<'static, str> {
        Options::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        format!("written {}", Options::schema_id()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = Options::json_schema(generator);
        schema.remove("additionalProperties");
        let description = "How a job is to be counted. A newer version may add options.";
        schema.insert("description".to_owned(), description.into());
        schema
    }
}

/// Definitions of a word.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Default,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum RuleName {
    /// Unicode word segmentation, with dictionaries for scripts without spaces.
    #[default]
    Unicode,
    /// What is between white space, as `wc -w` counts.
    Whitespace,
    /// As word processors show: by white space, and each Han, Hiragana or Katakana character.
    Office,
    /// As translation is charged: Unicode words, and characters divided for some languages.
    Gmx,
}

impl RuleName {
    /// Every rule, in the order in which they are documented.
    pub const ALL: [Self; 4] = [Self::Unicode, Self::Whitespace, Self::Office, Self::Gmx];

    /// Returns the name as clients see it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unicode => "unicode",
            Self::Whitespace => "whitespace",
            Self::Office => "office",
            Self::Gmx => "gmx",
        }
    }

    /// Finds a rule by its name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rule| rule.as_str() == name)
    }
}

/// What becomes of upper case in the histogram's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Case {
    /// Lower case as people write it, final sigma included; `Straße` and `STRASSE` stay apart.
    #[default]
    Lower,
    /// Full case folding: what differs by case only is one word, `ß` is `ss`.
    Fold,
    /// As written.
    Keep,
}

/// Which part of a page counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Everything that a reader sees.
    #[default]
    Page,
    /// The article, without the navigation, header, footer and asides around it.
    Main,
}

/// Whether numbers are words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Numbers {
    /// They are.
    #[default]
    Count,
    /// Words with a digit and without a letter are left out.
    Skip,
}

/// Whether the kinds of apostrophe are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Apostrophe {
    /// All are listed as `'`.
    #[default]
    Unify,
    /// Each is listed as written.
    Keep,
}

/// Whether a hyphen ends a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Hyphen {
    /// It does.
    #[default]
    Split,
    /// One hyphen between two words makes them one.
    Join,
}

/// How characters that can be written in several ways are unified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Normalize {
    /// Letters and their accents are composed.
    #[default]
    Nfc,
    /// Ligatures, wide, raised and other variants of letters become plain letters, too.
    Nfkc,
}

/// The length of the shortest word that is kept, in characters as listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "f64", into = "u32")]
#[schemars(extend("type" = "integer", "minimum" = MIN_LEN.start(), "maximum" = MIN_LEN.end()))]
pub struct MinLen(u32);

impl Default for MinLen {
    fn default() -> Self {
        Self(*MIN_LEN.start())
    }
}

impl TryFrom<f64> for MinLen {
    type Error = String;

    fn try_from(length: f64) -> Result<Self, String> {
        let min = MIN_LEN.start();
        let max = MIN_LEN.end();
        let invalid = || format!("a length is {min} to {max} characters");
        integer(MIN_LEN, length).map(Self).ok_or_else(invalid)
    }
}

impl From<MinLen> for u32 {
    fn from(length: MinLen) -> Self {
        length.0
    }
}

/// The number of most frequent words that the job itself shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "f64", into = "u32")]
#[schemars(extend("type" = "integer", "minimum" = TOP.start(), "maximum" = TOP.end()))]
pub struct Top(u32);

impl Default for Top {
    fn default() -> Self {
        Self(20)
    }
}

impl TryFrom<f64> for Top {
    type Error = String;

    fn try_from(words: f64) -> Result<Self, String> {
        let min = TOP.start();
        let max = TOP.end();
        let invalid = || format!("{min} to {max} words can be shown");
        integer(TOP, words).map(Self).ok_or_else(invalid)
    }
}

impl From<Top> for u32 {
    fn from(top: Top) -> Self {
        top.0
    }
}

/// Returns a number as it is in a range; `None` if it is not. In JSON 3.0 is a whole number, too.
fn integer(range: RangeInclusive<u32>, number: f64) -> Option<u32> {
    range.into_iter().find(|integer| f64::from(*integer) == number)
}

/// Words that are left out of a count.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
#[schemars(extend("maxItems" = STOP_WORDS_MAX, "items" = json!({"type": "string", "minLength": 1})))]
pub struct StopWords(Vec<String>);

impl StopWords {
    /// Visits the words as they were given.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// Tells whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl TryFrom<Vec<String>> for StopWords {
    type Error = String;

    fn try_from(words: Vec<String>) -> Result<Self, String> {
        if words.len() > STOP_WORDS_MAX {
            return Err(format!("at most {STOP_WORDS_MAX} words can be left out"));
        }
        if words.iter().any(|word| word.is_empty() || word.len() > STOP_WORD_BYTES_MAX) {
            return Err(format!("each word has 1 to {STOP_WORD_BYTES_MAX} bytes of UTF-8"));
        }
        Ok(Self(words))
    }
}

impl From<StopWords> for Vec<String> {
    fn from(words: StopWords) -> Self {
        words.0
    }
}

/// A language, as BCP 47 writes it, such as `ja` or `zh-Hant-TW`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(extend("pattern" = "^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$", "maxLength" = LANGUAGE_BYTES_MAX))]
pub struct Language(String);

impl Language {
    /// Returns the language itself, in lower case, without script and region.
    #[must_use]
    pub fn primary(&self) -> String {
        let primary = self.0.split('-').next().unwrap_or_default();
        primary.to_ascii_lowercase()
    }
}

impl TryFrom<String> for Language {
    type Error = String;

    fn try_from(tag: String) -> Result<Self, String> {
        let is_part = |part: &str| {
            (1..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric())
        };
        let mut parts = tag.split('-');
        let primary = parts.next().unwrap_or_default();
        let is_primary =
            (2..=8).contains(&primary.len()) && primary.bytes().all(|b| b.is_ascii_alphabetic());
        if is_primary && parts.all(is_part) && tag.len() <= LANGUAGE_BYTES_MAX {
            return Ok(Self(tag));
        }
        Err("a language is a tag of BCP 47, such as \"ja\" or \"zh-Hant-TW\"".to_owned())
    }
}

impl From<Language> for String {
    fn from(language: Language) -> Self {
        language.0
    }
}

/// Returns the schema of options with which [`Options::contradiction`] has to look at the others.
fn volume_rule_schema() -> Value {
    json!({"required": ["rule"], "properties": {"rule": {"const": RuleName::Gmx}}})
}

/// Returns the schema of what it lets pass then.
fn unfiltered_options_schema() -> Value {
    json!({"properties": {
        "numbers": {"const": Numbers::default()},
        "hyphen": {"const": Hyphen::default()},
        "min_len": {"const": MinLen::default()},
        "stop_words": {"maxItems": 0},
    }})
}

impl Options {
    /// Tells which two options contradict each other, in a sentence, if any do.
    #[must_use]
    pub fn find_contradiction(&self) -> Option<String> {
        let filters = [
            ("numbers", !is_default(&self.numbers)),
            ("hyphen", !is_default(&self.hyphen)),
            ("min_len", !is_default(&self.min_len)),
            ("stop_words", !self.stop_words.is_empty()),
        ];
        let filter = filters.into_iter().find(|(_, is_given)| *is_given);
        let (name, _) = filter.filter(|_| self.rule == RuleName::Gmx)?;
        Some(format!(
            "The option \"{name}\" cannot be combined with the rule \"gmx\": a volume after that \
             standard leaves nothing out. It is allowed with \"unicode\", \"whitespace\" and \
             \"office\"."
        ))
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(json: serde_json::Value) -> Result<Options, String> {
        serde_json::from_value(json).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_are_not_serialized() {
        let json = serde_json::to_string(&Options::default()).unwrap();
        assert_eq!(json, r#"{"rule":"unicode","case":"lower","scope":"page"}"#);
    }

    #[test]
    fn every_option_survives_the_way() {
        let json = json!({
            "rule": "office", "case": "keep", "scope": "main", "numbers": "skip",
            "apostrophe": "keep", "hyphen": "join", "normalize": "nfkc", "min_len": 3,
            "stop_words": ["the", "l'"], "top": 5, "language": "zh-Hant-TW", "explain": true,
        });
        let options = read(json.clone()).unwrap();
        assert_eq!(json!(options), json);
        assert_eq!(options.language.unwrap().primary(), "zh");
        assert_eq!(read(json!({"top": 5.0})).unwrap().top, Top(5));
    }

    #[test]
    fn unknown_or_out_of_range_options_are_refused() {
        for (wrong, says) in [
            (json!({"rule": "words"}), "`unicode`, `whitespace`, `office`, `gmx`"),
            (json!({"case": "upper"}), "`lower`, `fold`, `keep`"),
            (json!({"colour": "red"}), "unknown field"),
            (json!({"min_len": 0}), "1 to 100"),
            (json!({"min_len": 2.5}), "1 to 100"),
            (json!({"top": 101}), "0 to 100"),
            (json!({"stop_words": [""]}), "1 to 256 bytes"),
            (json!({"stop_words": vec!["a"; 1001]}), "at most 1000"),
            (json!({"language": "german language"}), "BCP 47"),
            (json!({"language": "a"}), "BCP 47"),
            (json!({"explain": "yes"}), "boolean"),
        ] {
            let error = read(wrong.clone()).unwrap_err();
            assert!(error.contains(says), "{wrong}: {error}");
        }
    }

    #[test]
    fn a_volume_leaves_nothing_out() {
        for filter in [
            json!({"numbers": "skip"}),
            json!({"hyphen": "join"}),
            json!({"min_len": 2}),
            json!({"stop_words": ["a"]}),
        ] {
            let mut options = read(filter).unwrap();
            assert_eq!(options.find_contradiction(), None);
            options.rule = RuleName::Gmx;
            assert!(options.find_contradiction().is_some());
        }
        assert_eq!(
            Options { rule: RuleName::Gmx, ..Options::default() }.find_contradiction(),
            None
        );
    }

    #[test]
    fn names_are_those_of_the_json() {
        for rule in RuleName::ALL {
            assert_eq!(json!(rule), json!(rule.as_str()));
            assert_eq!(RuleName::parse(rule.as_str()), Some(rule));
        }
    }
}
