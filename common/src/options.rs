//! Options of a count.
//!
//! Options are stored and sent as JSON. A field with its default value is omitted, except for the
//! three oldest ones, so that a worker of an earlier version can run every job without newer
//! options. A reader refuses unknown fields and values, because ignoring them would give wrong
//! results.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::raw_json::RawJson;

/// Range of [`Options::min_len`], in characters.
const MIN_LEN: RangeInclusive<u32> = 1..=100;
/// Range of [`Options::top`].
const TOP: RangeInclusive<u32> = 0..=100;
/// Maximum number of words in [`Options::stop_words`].
const STOP_WORDS_MAX: usize = 1000;
/// Maximum length of a word in [`Options::stop_words`], in bytes of UTF-8.
const STOP_WORD_BYTES_MAX: usize = 256;
/// Maximum length of [`Options::language`], in bytes.
const LANGUAGE_BYTES_MAX: usize = 35;

/// Options of a count.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("if" = volume_rule_schema(), "then" = unfiltered_options_schema()))]
pub struct Options {
    /// Rule that defines the words of the histogram and of `totals`. The default is `unicode`.
    pub rule: RuleName,
    /// Handling of letter case in the listed words. The default is `lower`.
    pub case: Case,
    /// Part of a page to count. The default is `page`. No effect on plain text.
    pub scope: Scope,
    /// Whether numbers count as words. The default is `count`.
    #[serde(skip_serializing_if = "is_default")]
    pub numbers: Numbers,
    /// Whether different apostrophe characters are unified. The default is `unify`.
    #[serde(skip_serializing_if = "is_default")]
    pub apostrophe: Apostrophe,
    /// Whether a hyphen ends a word. The default is `split`. Ignored by `whitespace` and `office`.
    #[serde(skip_serializing_if = "is_default")]
    pub hyphen: Hyphen,
    /// Unicode normalization of the listed words. The default is `nfc`.
    #[serde(skip_serializing_if = "is_default")]
    pub normalize: Normalize,
    /// Minimum length of a word, from 1 to 100 characters. Shorter words are not counted. The
    /// default is 1.
    #[serde(skip_serializing_if = "is_default")]
    pub min_len: MinLen,
    /// Words that are not counted, in any letter case: at most 1000, of up to 256 bytes each. The
    /// default is none.
    #[serde(skip_serializing_if = "is_default")]
    pub stop_words: StopWords,
    /// Number of most frequent words in the job's `top_words`, from 0 to 100. The default is 20.
    #[serde(skip_serializing_if = "is_default")]
    pub top: Top,
    /// Language of the document, which decides how the rule `gmx` counts Han and Kana characters.
    /// If it is absent, the language is taken from the page or guessed from its characters.
    #[serde(skip_serializing_if = "is_default")]
    pub language: Option<Language>,
    /// Whether to record why the rules count differently. The default is `false`.
    #[serde(skip_serializing_if = "is_default")]
    pub explain: bool,
    /// An option that only the next version has.
    #[cfg(feature = "next-version")]
    #[serde(skip_serializing_if = "is_default")]
    pub next: Option<Next>,
}

/// Outcome of a job with the option of the next version.
#[cfg(feature = "next-version")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Next {
    /// The job is counted.
    Count,
    /// The job fails with the code of the next version.
    Fail,
    /// Every attempt fails with that code, until the job is dead-lettered.
    Retry,
}

impl From<&Options> for RawJson<Options> {
    #[expect(clippy::expect_used, reason = "options are names, numbers, flags and lists of text")]
    fn from(options: &Options) -> Self {
        Self::from_value(options).expect("options can be serialized as JSON")
    }
}

/// Schema of options in a response, which may also contain options of a newer version.
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
        let description = "Options of a count. A newer version may add options.";
        schema.insert("description".to_owned(), description.into());
        schema
    }
}

/// Rule that defines a word.
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
    /// Text between white space, like `wc -w`.
    Whitespace,
    /// Like word processors: text between white space, and each Han, Hiragana or Katakana
    /// character.
    Office,
    /// GMX-V, by which translations are priced: Unicode words, or in some languages characters
    /// divided by a factor.
    Gmx,
}

impl RuleName {
    /// All rules, in the order of the documentation.
    pub const ALL: [Self; 4] = [Self::Unicode, Self::Whitespace, Self::Office, Self::Gmx];

    /// Returns the name that the API uses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unicode => "unicode",
            Self::Whitespace => "whitespace",
            Self::Office => "office",
            Self::Gmx => "gmx",
        }
    }

    /// Returns the rule with this name, or `None` if there is none.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rule| rule.as_str() == name)
    }
}

/// Handling of letter case in the listed words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Case {
    /// Lower case, including final sigma. `Straße` and `STRASSE` remain different words.
    #[default]
    Lower,
    /// Full case folding: words that differ in case only are the same word, and `ß` becomes `ss`.
    Fold,
    /// Words are listed as written.
    Keep,
}

/// Part of a page to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// All visible text.
    #[default]
    Page,
    /// The main content, without navigation, header, footer and asides.
    Main,
}

/// Whether numbers count as words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Numbers {
    /// Numbers count as words.
    #[default]
    Count,
    /// Words that contain a digit and no letter are not counted.
    Skip,
}

/// Whether different apostrophe characters are unified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Apostrophe {
    /// All apostrophes are listed as `'`.
    #[default]
    Unify,
    /// Apostrophes are listed as written.
    Keep,
}

/// Whether a hyphen ends a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Hyphen {
    /// A hyphen ends a word.
    #[default]
    Split,
    /// A single hyphen between two words joins them into one word.
    Join,
}

/// Unicode normalization of the listed words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Normalize {
    /// Canonical composition (NFC): a letter and its accents become one character.
    #[default]
    Nfc,
    /// Compatibility composition (NFKC): ligatures, wide, superscript and other variants become
    /// plain letters, too.
    Nfkc,
}

/// Minimum length of a counted word, in characters of its listed form.
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
        let invalid = || format!("the length must be {min} to {max} characters");
        to_integer(MIN_LEN, length).map(Self).ok_or_else(invalid)
    }
}

impl From<MinLen> for u32 {
    fn from(length: MinLen) -> Self {
        length.0
    }
}

/// Number of most frequent words in the job's `top_words`.
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
        let invalid = || format!("the number of words must be {min} to {max}");
        to_integer(TOP, words).map(Self).ok_or_else(invalid)
    }
}

impl From<Top> for u32 {
    fn from(top: Top) -> Self {
        top.0
    }
}

/// Converts a number to an integer in `range`; `None` if it is fractional or outside. Accepts 3.0,
/// which is an integer in JSON.
fn to_integer(range: RangeInclusive<u32>, number: f64) -> Option<u32> {
    range.into_iter().find(|integer| f64::from(*integer) == number)
}

/// Words that are not counted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
#[schemars(extend("maxItems" = STOP_WORDS_MAX, "items" = json!({"type": "string", "minLength": 1})))]
pub struct StopWords(Vec<String>);

impl StopWords {
    /// Iterates over the words, as the client sent them.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// Returns whether there are no words.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl TryFrom<Vec<String>> for StopWords {
    type Error = String;

    fn try_from(words: Vec<String>) -> Result<Self, String> {
        if words.len() > STOP_WORDS_MAX {
            return Err(format!("at most {STOP_WORDS_MAX} stop words are allowed"));
        }
        if words.iter().any(|word| word.is_empty() || word.len() > STOP_WORD_BYTES_MAX) {
            return Err(format!(
                "each stop word must have 1 to {STOP_WORD_BYTES_MAX} bytes of UTF-8"
            ));
        }
        Ok(Self(words))
    }
}

impl From<StopWords> for Vec<String> {
    fn from(words: StopWords) -> Self {
        words.0
    }
}

/// Language as a BCP 47 tag, for example `ja` or `zh-Hant-TW`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(extend("pattern" = "^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$", "maxLength" = LANGUAGE_BYTES_MAX))]
pub struct Language(String);

impl Language {
    /// Returns the primary language subtag in lower case, without script and region.
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
        Err("the language must be a BCP 47 tag, for example \"ja\" or \"zh-Hant-TW\"".to_owned())
    }
}

impl From<Language> for String {
    fn from(language: Language) -> Self {
        language.0
    }
}

/// Returns the schema of options with the rule `gmx`, for which [`Options::find_contradiction`]
/// checks the other options.
fn volume_rule_schema() -> Value {
    json!({"required": ["rule"], "properties": {"rule": {"const": RuleName::Gmx}}})
}

/// Returns the schema of the options that are allowed with the rule `gmx`.
fn unfiltered_options_schema() -> Value {
    json!({"properties": {
        "numbers": {"const": Numbers::default()},
        "hyphen": {"const": Hyphen::default()},
        "min_len": {"const": MinLen::default()},
        "stop_words": {"maxItems": 0},
    }})
}

impl Options {
    /// Returns an error message if two options contradict each other.
    #[must_use]
    pub fn find_contradiction(&self) -> Option<String> {
        let filters = [
            ("numbers", !is_default(&self.numbers)),
            ("hyphen", !is_default(&self.hyphen)),
            ("min_len", !is_default(&self.min_len)),
            ("stop_words", !self.stop_words.is_empty()),
        ];
        // Each of these options omits or joins words, but a GMX-V volume includes every word.
        let filter = filters.into_iter().find(|(_, is_given)| *is_given);
        let (name, _) = filter.filter(|_| self.rule == RuleName::Gmx)?;
        Some(format!(
            "The option \"{name}\" cannot be combined with the rule \"gmx\": a GMX-V volume \
             includes every word. Use \"unicode\", \"whitespace\" or \"office\", or remove the \
             option."
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
    fn every_option_round_trips() {
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
        for (wrong, expected) in [
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
            assert!(error.contains(expected), "{wrong}: {error}");
        }
    }

    #[test]
    fn gmx_refuses_options_that_omit_words() {
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
    fn rule_names_match_their_json() {
        for rule in RuleName::ALL {
            assert_eq!(json!(rule), json!(rule.as_str()));
            assert_eq!(RuleName::parse(rule.as_str()), Some(rule));
        }
    }
}
