//! Histograms: words in the order of a result.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::client::Client;
use crate::error::Error;
use crate::job::{Job, Rule, Totals};
use crate::request::Request;
use crate::warning::{self, Warning};

/// Maximum number of distinct words in merged histograms, which take about 1 GB of memory.
const MERGED_WORDS_MAX: usize = 10_000_000;
/// Maximum length of a line of a histogram in bytes.
const LINE_BYTES_MAX: usize = 1 << 20;

/// Words with their numbers of occurrences, the most frequent first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Words(pub(crate) Vec<(String, u64)>);

/// One line of a result as NDJSON.
#[derive(Debug, Deserialize)]
struct Entry {
    word: String,
    count: u64,
}

/// Result of a job.
#[derive(Debug, Deserialize)]
pub(crate) struct CountedWords {
    pub(crate) totals: Option<Totals>,
    pub(crate) totals_by_rule: Option<BTreeMap<String, u64>>,
    pub(crate) rule: Option<Rule>,
    #[serde(default)]
    pub(crate) warnings: Vec<Warning>,
    pub(crate) word_count: Words,
}

/// Merged histograms of several sources.
#[derive(Debug, Default)]
pub(crate) struct MergedHistogram {
    pub(crate) totals: Totals,
    pub(crate) totals_by_rule: BTreeMap<String, u64>,
    pub(crate) rule: Option<Rule>,
    pub(crate) warnings: Vec<Warning>,
    /// Number of merged sources.
    pub(crate) sources: usize,
    words: HashMap<String, u64>,
}

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WordsVisitor;
        impl<'de> Visitor<'de> for WordsVisitor {
            type Value = Words;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of words and counts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Words, A::Error> {
                let mut words = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    words.push(entry);
                }
                Ok(Words(words))
            }
        }
        deserializer.deserialize_map(WordsVisitor)
    }
}

impl Serialize for Words {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(word, count)| (word, count)))
    }
}

/// Fetches the most frequent words of a succeeded job.
///
/// # Errors
/// Errors of the request.
pub(crate) async fn fetch_top_words(
    client: &Client,
    job_id: &str,
    top: usize,
) -> Result<Words, Error> {
    let request = Request::get(&["v1", "jobs", job_id, "result"]);
    let request = request.query("format", "json").query("top", top.to_string());
    let counted: CountedWords = client.send(&request).await?.json()?;
    Ok(counted.word_count)
}

impl MergedHistogram {
    /// Adds the result of a succeeded job. The histogram is streamed.
    ///
    /// # Errors
    /// Errors of the request, and [`Error::LimitExceeded`] for more than [`MERGED_WORDS_MAX`]
    /// distinct words.
    pub(crate) async fn add(&mut self, client: &Client, job: &Job) -> Result<(), Error> {
        let request = Request::get(&["v1", "jobs", &job.job_id, "result"]);
        let request = request.query("format", "ndjson").streamed();
        let mut response = client.send(&request).await?;
        let mut buffer = Vec::new();
        while let Some(chunk) = response.next().await? {
            buffer.extend_from_slice(&chunk);
            let Some(end) = buffer.iter().rposition(|byte| *byte == b'\n') else {
                if buffer.len() > LINE_BYTES_MAX {
                    return Err(response.unexpected("a line of the result is too long"));
                }
                continue;
            };
            // Adds the complete lines. The rest of the last one follows in the next chunk.
            let rest = buffer.split_off(end + 1);
            for line in buffer.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                let Entry { word, count } =
                    serde_json::from_slice(line).map_err(|error| response.unexpected(error))?;
                self.add_word(word, count)?;
            }
            buffer = rest;
        }
        if !buffer.is_empty() {
            return Err(response.unexpected("the result ends within a line"));
        }
        self.add_job_totals(job);
        Ok(())
    }

    fn add_word(&mut self, word: String, count: u64) -> Result<(), Error> {
        let counted = self.words.entry(word).or_default();
        *counted = counted.saturating_add(count);
        if self.words.len() > MERGED_WORDS_MAX {
            let detail =
                format!("together, the sources have more than {MERGED_WORDS_MAX} unique words");
            return Err(Error::LimitExceeded(detail));
        }
        Ok(())
    }

    fn add_job_totals(&mut self, job: &Job) {
        // A batch adds the number of its succeeded members.
        let counts = job.counts.as_ref();
        let members = counts.and_then(|counts| usize::try_from(*counts.get("succeeded")?).ok());
        self.sources += members.unwrap_or(1);
        add_totals(&mut self.totals, &job.totals.unwrap_or_default());
        self.totals.unique_words = u64::try_from(self.words.len()).unwrap_or(u64::MAX);
        for (rule, words) in job.totals_by_rule.iter().flatten() {
            let sum = self.totals_by_rule.entry(rule.clone()).or_default();
            *sum = sum.saturating_add(*words);
        }
        if self.rule.is_none() {
            self.rule.clone_from(&job.rule);
        }
        warning::merge(&mut self.warnings, &job.warnings);
    }

    /// Takes the words in the order of a result, at most `top` of them.
    pub(crate) fn take_words(&mut self, top: Option<usize>) -> Words {
        let mut words: Vec<(String, u64)> = std::mem::take(&mut self.words).into_iter().collect();
        words.sort_unstable_by(|(a, a_count), (b, b_count)| {
            (Reverse(a_count), a).cmp(&(Reverse(b_count), b))
        });
        words.truncate(top.unwrap_or(usize::MAX));
        Words(words)
    }
}

/// Adds totals to a sum, except `unique_words`: the distinct words of both may overlap.
pub(crate) fn add_totals(sum: &mut Totals, more: &Totals) {
    for (sum, more) in [
        (&mut sum.words, more.words),
        (&mut sum.characters, more.characters),
        (&mut sum.characters_no_spaces, more.characters_no_spaces),
        (&mut sum.overlong_words, more.overlong_words),
    ] {
        *sum = sum.saturating_add(more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_keep_their_order() {
        let json = r#"{"to":2,"be":1,"a":1}"#;
        let words: Words = serde_json::from_str(json).unwrap();
        assert_eq!(words.0.first(), Some(&("to".to_owned(), 2)));
        assert_eq!(serde_json::to_string(&words).unwrap(), json);
    }

    #[test]
    fn merged_words_are_added_up_and_sorted() {
        let mut merged = MergedHistogram::default();
        for (word, count) in [("b", 1), ("é", 5), ("a", 2), ("b", 1), ("z", 5)] {
            merged.add_word(word.to_owned(), count).unwrap();
        }
        let words = merged.take_words(None).0;
        let expected = [("z", 5), ("é", 5), ("a", 2), ("b", 2)];
        assert_eq!(words, expected.map(|(word, count)| (word.to_owned(), count)));
    }
}
