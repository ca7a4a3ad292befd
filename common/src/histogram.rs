//! Totals, histogram and rule: what a count says about a document.

use std::{cmp::Ordering, collections::HashMap, fmt, sync::Arc};

use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::{RawValue, to_raw_value};

/// The sums of one document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub struct Totals {
    /// Words, each occurrence counted, overlong ones included.
    pub words: u64,
    /// Different words, which is the number of entries in the histogram; overlong words have none.
    pub unique_words: u64,
    /// Unicode scalar values of the extracted text.
    pub characters: u64,
    /// Unicode scalar values of the extracted text that are not white space.
    pub characters_no_spaces: u64,
    /// Words too long to be kept: counted in `words`, absent from the histogram.
    pub overlong_words: u64,
}

/// The definition of a word that a count was made with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub struct Rule {
    /// The rule's name, such as `unicode`.
    pub name: String,
    /// Raised whenever the same text may get another count.
    pub version: u32,
    /// The version of the Unicode data in use, such as `18.0`.
    pub unicode: String,
}

/// One word and how often it occurs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub struct WordCount {
    /// The word as it is listed, usually in lower case.
    pub word: String,
    /// Occurrences; at least 1 in a counted document.
    pub count: u64,
}

/// Every word of a document with its number of occurrences, in the canonical order.
///
/// The canonical order is: most frequent first, words of equal frequency alphabetically by code
/// point. It serialises as a JSON object in that order; reading one back sorts again, so
/// an object in any order is accepted. A word given twice has its counts added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    entries: Vec<WordCount>,
}

impl Histogram {
    /// Returns the number of different words.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether there is no word at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns the sum of all counts.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.iter().map(|(_, count)| count).sum()
    }

    /// Visits the words in the canonical order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, u64)> {
        self.entries.iter().map(|entry| (entry.word.as_str(), entry.count))
    }

    /// Returns the first `n` words of the canonical order, or all if there are fewer.
    #[must_use]
    pub fn top(&self, n: usize) -> Vec<WordCount> {
        self.entries.iter().take(n).cloned().collect()
    }

    /// Sorts words, of which no two are the same, into the canonical order.
    #[must_use]
    pub fn from_distinct(mut entries: Vec<WordCount>) -> Self {
        // This way of sorting is the fastest for what is in order already, in whole or in part.
        entries.sort_by(canonical);
        Self { entries }
    }
}

fn canonical(left: &WordCount, right: &WordCount) -> Ordering {
    let by_count = right.count.cmp(&left.count);
    by_count.then_with(|| left.word.cmp(&right.word))
}

impl<W: Into<String>> FromIterator<(W, u64)> for Histogram {
    fn from_iter<I: IntoIterator<Item = (W, u64)>>(words: I) -> Self {
        let mut counts: HashMap<String, u64> = HashMap::new();
        for (word, count) in words {
            let sum = counts.entry(word.into()).or_default();
            *sum = sum.saturating_add(count);
        }
        Self::from(counts)
    }
}

impl<S> From<HashMap<String, u64, S>> for Histogram {
    fn from(counts: HashMap<String, u64, S>) -> Self {
        let entries = counts.into_iter();
        Self::from_distinct(entries.map(|(word, count)| WordCount { word, count }).collect())
    }
}

impl IntoIterator for Histogram {
    type Item = WordCount;
    type IntoIter = std::vec::IntoIter<WordCount>;

    /// Hands the words out in the canonical order.
    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter()
    }
}

impl Serialize for Histogram {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Histogram {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HistogramVisitor)
    }
}

/// A histogram as the JSON that it is in a record: written once, and read only by those who want the
/// words. Clones share it.
#[derive(Clone, Debug)]
pub struct Written(Arc<RawValue>);

impl Written {
    /// Writes a histogram unless it takes more than so many bytes.
    #[must_use]
    pub fn within(histogram: &Histogram, bytes_max: usize) -> Option<Self> {
        // Quotes, colon, a digit and a comma: what is far too large is not written first.
        let bytes_min: usize = histogram.iter().map(|(word, _)| word.len() + 5).sum();
        if bytes_min > bytes_max {
            return None;
        }
        let json = to_raw_value(histogram).ok().filter(|json| json.get().len() <= bytes_max)?;
        Some(Self(json.into()))
    }

    /// Reads the histogram.
    ///
    /// # Errors
    /// If it is none.
    pub fn read(&self) -> Result<Histogram, serde_json::Error> {
        serde_json::from_str(self.0.get())
    }
}

impl PartialEq for Written {
    fn eq(&self, other: &Self) -> bool {
        self.0.get() == other.0.get()
    }
}

impl Eq for Written {}

impl Serialize for Written {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(|json| Self(json.into()))
    }
}

struct HistogramVisitor;

impl<'de> Visitor<'de> for HistogramVisitor {
    type Value = Histogram;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object of words and their counts")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Histogram, A::Error> {
        let mut counts: HashMap<String, u64> = HashMap::new();
        while let Some((word, count)) = map.next_entry::<String, u64>()? {
            let sum = counts.entry(word).or_default();
            *sum = sum.saturating_add(count);
        }
        Ok(Histogram::from(counts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Histogram {
        [("river", 2), ("mill", 3), ("bread", 2), ("\u{e9}t\u{e9}", 2)].into_iter().collect()
    }

    #[test]
    fn order_is_by_count_then_by_code_point() {
        let words: Vec<_> = sample().iter().map(|(word, _)| word.to_owned()).collect();
        assert_eq!(words, ["mill", "bread", "river", "\u{e9}t\u{e9}"]);
    }

    #[test]
    fn json_is_an_object_in_canonical_order() {
        let json = serde_json::to_string(&sample()).unwrap();
        assert_eq!(json, r#"{"mill":3,"bread":2,"river":2,"été":2}"#);
    }

    #[test]
    fn json_in_any_order_reads_back_equal() {
        let json = r#"{"été":2,"bread":2,"mill":1,"river":2,"mill":2}"#;
        assert_eq!(serde_json::from_str::<Histogram>(json).unwrap(), sample());
        assert!(serde_json::from_str::<Histogram>(r#"{"mill":-1}"#).is_err());
        assert!(serde_json::from_str::<Histogram>("[]").is_err());
    }

    #[test]
    fn top_is_a_prefix_of_the_order() {
        let json = serde_json::to_string(&sample().top(2)).unwrap();
        assert_eq!(json, r#"[{"word":"mill","count":3},{"word":"bread","count":2}]"#);
        assert_eq!(sample().top(100).len(), sample().len());
        assert!(Histogram::default().top(1).is_empty());
        assert_eq!(sample().into_iter().collect::<Vec<_>>(), sample().top(100));
    }

    #[test]
    fn what_is_written_is_the_json_and_has_a_bound() {
        let json = r#"{"mill":3,"bread":2,"river":2,"été":2}"#;
        let written = Written::within(&sample(), json.len()).unwrap();
        assert_eq!(serde_json::to_string(&written).unwrap(), json);
        assert_eq!(serde_json::from_str::<Written>(json).unwrap(), written);
        assert_eq!(written.read().unwrap(), sample());
        assert!(Written::within(&sample(), json.len() - 1).is_none());
        assert!(Written::within(&sample(), 3).is_none());
        assert!(serde_json::from_str::<Written>("[1]").unwrap().read().is_err());
    }

    #[test]
    fn total_adds_all_counts() {
        assert_eq!(sample().total(), 9);
        assert_eq!(sample().len(), 4);
        assert!(!sample().is_empty());
        assert_eq!(Histogram::default().total(), 0);
    }

    #[test]
    fn rule_and_totals_have_fixed_json() {
        let rule = Rule { name: "unicode".to_owned(), version: 1, unicode: "18.0".to_owned() };
        assert_eq!(
            serde_json::to_string(&rule).unwrap(),
            r#"{"name":"unicode","version":1,"unicode":"18.0"}"#
        );
        let totals = Totals { words: 1, ..Totals::default() };
        assert_eq!(
            serde_json::to_string(&totals).unwrap(),
            concat!(
                r#"{"words":1,"unique_words":0,"characters":0,"#,
                r#""characters_no_spaces":0,"overlong_words":0}"#
            )
        );
    }
}
