//! Results of a count: totals, histogram and rule.

use std::{collections::HashMap, fmt};

use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, Visitor},
};

/// Sums of one document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub struct Totals {
    /// Number of words, including repeated and overlong ones.
    pub words: u64,
    /// Number of unique words, which is the number of entries in the histogram. Overlong words are
    /// not included.
    pub unique_words: u64,
    /// Number of code points (Unicode scalar values) of the extracted text.
    pub characters: u64,
    /// Number of code points of the extracted text that are not white space.
    pub characters_no_spaces: u64,
    /// Number of words longer than 256 bytes of UTF-8. They are included in `words`, but not listed
    /// in the histogram.
    pub overlong_words: u64,
}

/// Rule by which the words of a document were counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub struct Rule {
    /// Name of the rule, for example `unicode`.
    pub name: String,
    /// Version of the rule. It increases whenever the count of some text may change.
    pub version: u32,
    /// Version of Unicode that the rule uses, for example `18.0`.
    pub unicode: String,
}

/// A word and the number of its occurrences.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub struct WordCount {
    /// The normalized word, usually in lower case.
    pub word: String,
    /// Number of occurrences; at least 1.
    pub count: u64,
}

/// All words of a document with the number of their occurrences, in canonical order.
///
/// In canonical order the most frequent word comes first, and words with the same count are sorted
/// by code point. A histogram serializes as a JSON object in this order. Deserialization accepts an
/// object in any order and sorts it; the counts of a repeated word are added.
#[derive(Clone, Default)]
pub struct Histogram {
    /// All words, concatenated in any order. One allocation holds all of them.
    text: String,
    entries: Vec<Entry>,
}

/// Position of a word in the text, as byte offsets, and its count.
#[derive(Clone, Copy)]
struct Entry {
    start: usize,
    end: usize,
    count: u64,
}

impl Histogram {
    /// Returns the number of distinct words.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether the histogram has no words.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns the sum of all counts.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.entries.iter().map(|entry| entry.count).sum()
    }

    /// Iterates over the words in canonical order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, u64)> {
        self.entries.iter().map(|entry| (word(&self.text, *entry), entry.count))
    }

    /// Returns the first `n` words in canonical order, or all if there are fewer.
    #[must_use]
    pub fn top(&self, n: usize) -> Vec<WordCount> {
        let words = self.iter().take(n);
        words.map(|(word, count)| WordCount { word: word.to_owned(), count }).collect()
    }

    /// Removes the words for which `keep` returns `false`. The order of the others does not change.
    pub fn retain(&mut self, mut keep: impl FnMut(&str) -> bool) {
        // The text of removed words remains allocated.
        self.entries.retain(|entry| keep(word(&self.text, *entry)));
    }

    /// Creates a histogram from distinct words, and sorts them into canonical order.
    ///
    /// `text` contains the words one after the other. For each word, `ends` contains the byte
    /// offset of its end and its count.
    #[must_use]
    pub fn from_distinct(text: String, ends: &[(usize, u64)]) -> Self {
        let starts = std::iter::once(0).chain(ends.iter().map(|(end, _)| *end));
        let entries = starts.zip(ends).map(|(start, &(end, count))| Entry { start, end, count });
        let entries: Vec<Entry> = entries.collect();
        let keys = entries.iter().enumerate();
        let mut keys: Vec<SortKey> =
            keys.map(|(position, entry)| SortKey::new(&text, *entry, position)).collect();
        keys.sort_unstable();
        let mut sorted: Vec<Entry> =
            keys.iter().filter_map(|key| entries.get(key.position()).copied()).collect();
        // A key contains only the first bytes of the word and a capped count. Sort each group of
        // equal keys again, by the full count and the full word.
        let mut start = 0;
        for group in keys.chunk_by(|left, right| left.is_tied_with(*right)) {
            let end = group.len().saturating_add(start);
            if group.len() > 1
                && let Some(tied) = sorted.get_mut(start..end)
            {
                tied.sort_unstable_by(|left, right| {
                    let by_count = right.count.cmp(&left.count);
                    by_count.then_with(|| word(&text, *left).cmp(word(&text, *right)))
                });
            }
            start = end;
        }
        Self { text, entries: sorted }
    }
}

fn word(text: &str, entry: Entry) -> &str {
    text.get(entry.start..entry.end).unwrap_or_default()
}

/// Key that sorts before another one if its word comes earlier in canonical order. From the highest
/// bits: the complement of the count, the first bytes of the word, and the index of the word.
///
/// Comparing integers instead of words is a large part of the speed for small histograms.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct SortKey(u128);

impl SortKey {
    const POSITION_BITS: u32 = 40;
    const PREFIX_BITS: u32 = u64::BITS;
    /// Higher counts are capped to this value in the key, so such words are compared again
    /// afterwards, like words with the same prefix.
    const COUNT_MAX: u64 = (1 << (u128::BITS - Self::PREFIX_BITS - Self::POSITION_BITS)) - 1;

    fn new(text: &str, entry: Entry, position: usize) -> Self {
        let inverted_count = Self::COUNT_MAX.saturating_sub(entry.count);
        let upper =
            u128::from(inverted_count) << Self::PREFIX_BITS | u128::from(prefix(text, entry));
        // The index fits into 40 bits: 2^40 words do not fit into memory.
        Self(upper << Self::POSITION_BITS | position as u128)
    }

    /// Returns whether the keys do not decide the order of the two words: they have the same count
    /// and prefix, or both counts are capped.
    const fn is_tied_with(self, other: Self) -> bool {
        // Shift that leaves the complement of the count, which is 0 for every capped count.
        const COUNT_SHIFT: u32 = SortKey::PREFIX_BITS + SortKey::POSITION_BITS;
        let are_most_frequent = (self.0 | other.0) >> COUNT_SHIFT == 0;
        are_most_frequent || (self.0 ^ other.0) >> Self::POSITION_BITS == 0
    }

    const fn position(self) -> usize {
        (self.0 & ((1 << Self::POSITION_BITS) - 1)) as usize
    }
}

/// Returns the first eight bytes of a word as a big-endian number. A shorter word is padded with
/// zeros.
fn prefix(text: &str, entry: Entry) -> u64 {
    let rest = text.as_bytes().get(entry.start..).unwrap_or_default();
    let Some(first) = rest.first_chunk() else {
        // Fewer than eight bytes are left in the text.
        let bytes = rest.iter().take(entry.end.saturating_sub(entry.start));
        let shifts = (0..u64::BITS).step_by(8).rev();
        return bytes.zip(shifts).fold(0, |all, (byte, shift)| all | u64::from(*byte) << shift);
    };
    // The eight bytes may include the start of the next word: clear the bits after the end of this
    // one.
    let bytes = u32::try_from(entry.end.saturating_sub(entry.start)).unwrap_or(u32::MAX);
    let after = u64::MAX.checked_shr(bytes.saturating_mul(8)).unwrap_or(0);
    u64::from_be_bytes(*first) & !after
}

impl fmt::Debug for Histogram {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_map().entries(self.iter()).finish()
    }
}

impl PartialEq for Histogram {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Histogram {}

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
        let mut text = String::new();
        let ends = counts.into_iter().map(|(word, count)| {
            text.push_str(&word);
            (text.len(), count)
        });
        let ends: Vec<_> = ends.collect();
        Self::from_distinct(text, &ends)
    }
}

impl IntoIterator for Histogram {
    type Item = WordCount;
    type IntoIter = std::vec::IntoIter<WordCount>;

    /// Iterates over the words in canonical order.
    fn into_iter(self) -> Self::IntoIter {
        self.top(usize::MAX).into_iter()
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

struct HistogramVisitor;

impl<'de> Visitor<'de> for HistogramVisitor {
    type Value = Histogram;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object that maps words to counts")
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
    fn the_order_is_correct_for_similar_words_and_counts() {
        let beginnings =
            ["", "a", "b", "\u{e9}", "\0", "mill", "millston", "millstone", "\u{6c34}\u{8eca}"];
        let ends = ["", "\0", "\0\0", "s", "\u{e9}s"];
        let counts = [1, 2, 1000, (1 << 24) - 2, (1 << 24) - 1, 1 << 24, u64::MAX - 1, u64::MAX];
        let mut expected = Vec::new();
        for (turn, (begin, end)) in
            beginnings.iter().flat_map(|begin| ends.iter().map(move |end| (begin, end))).enumerate()
        {
            for repeat in 0..3 {
                let word = format!("{begin}{}{end}", "x".repeat(repeat * 4));
                let count = counts[(turn * 7 + repeat * 5) % counts.len()];
                expected.push(WordCount { word, count });
            }
        }
        expected.retain(|entry| !entry.word.is_empty());
        expected.sort_by(|left, right| left.word.cmp(&right.word));
        expected.dedup_by(|left, right| left.word == right.word);
        let counts = expected.iter().map(|entry| (entry.word.clone(), entry.count));
        let histogram: Histogram = counts.collect();
        // This sort is stable, so words with the same count stay in the order by code point.
        expected.sort_by_key(|entry| std::cmp::Reverse(entry.count));
        assert_eq!(histogram.top(usize::MAX), expected);
    }

    #[test]
    fn retain_keeps_the_order() {
        let mut some = sample();
        some.retain(|word| word != "bread");
        let words: Vec<_> = some.iter().collect();
        assert_eq!(words, [("mill", 3), ("river", 2), ("\u{e9}t\u{e9}", 2)]);
        assert_eq!(some.len(), 3);
        assert_ne!(some, sample());
        assert_eq!(format!("{some:?}"), r#"{"mill": 3, "river": 2, "été": 2}"#);
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
    fn total_adds_all_counts() {
        assert_eq!(sample().total(), 9);
        assert_eq!(sample().len(), 4);
        assert!(!sample().is_empty());
        assert_eq!(Histogram::default().total(), 0);
    }

    #[test]
    fn rule_and_totals_have_stable_json() {
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
