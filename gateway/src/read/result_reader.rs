//! Reads the words of a succeeded job, from its record or from the object store.

use std::vec;

use wordmill_common::histogram::WordCount;
use wordmill_common::job::{Job, ResultRef};
use wordmill_nats::Error;
use wordmill_nats::results::{self, Entries};

use crate::App;
use crate::http::deadline::BROKER_DEADLINE;
use crate::http::problem::{Code, Problem};

/// The requested words of a result: the most frequent ones, limited by number and by minimum count.
/// Further words are not read.
pub(crate) struct Words {
    storage: Storage,
    /// First word. It is read early, so that an error can still be reported as a problem.
    first: Option<WordCount>,
    remaining: usize,
    count_min: u64,
}

enum Storage {
    /// Words of the record.
    Record(vec::IntoIter<WordCount>),
    /// Words of a large result in the object store.
    Store(Box<Entries>),
}

impl Words {
    /// Opens the words of a succeeded job and reads the first one. There are at most `words_max`
    /// words, each with at least `count_min` occurrences.
    ///
    /// # Errors
    /// `broker_unavailable`, and `result_expired` if the result is no longer stored.
    pub(crate) async fn open(
        app: &App,
        job: &Job,
        words_max: usize,
        count_min: u64,
    ) -> Result<Self, Problem> {
        let opening = async {
            let storage = match &job.result {
                None => return Err(Problem::result_expired()),
                Some(ResultRef::Inline { word_count }) => {
                    Storage::Record(results::parse_inline(&job.key(), word_count)?.into_iter())
                }
                Some(ResultRef::Object { name }) => {
                    let compressed =
                        app.results.read(name).await?.ok_or_else(Problem::result_expired)?;
                    Storage::Store(Box::new(compressed.entries()?))
                }
            };
            let mut words = Self { storage, first: None, remaining: words_max, count_min };
            words.first = words.read().await?;
            Ok(words)
        };
        let opened = tokio::time::timeout(BROKER_DEADLINE, opening).await;
        opened.unwrap_or_else(|_| {
            let detail = "The result could not be read in time. Try again.";
            Err(Problem::new(Code::BrokerUnavailable, detail))
        })
    }

    /// Returns the next word; `None` after the last one.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Gone`] if the result is removed in the meantime, and
    /// [`Error::Corrupt`].
    pub(crate) async fn next(&mut self) -> Result<Option<WordCount>, Error> {
        if self.remaining == 0 {
            return Ok(None);
        }
        let next = match self.first.take() {
            Some(first) => Some(first),
            None => self.read().await?,
        };
        // Words are sorted by count, so the first one below the minimum ends the list.
        let next = next.filter(|next| next.count >= self.count_min);
        self.remaining = if next.is_some() { self.remaining - 1 } else { 0 };
        Ok(next)
    }

    async fn read(&mut self) -> Result<Option<WordCount>, Error> {
        match &mut self.storage {
            Storage::Record(words) => Ok(words.next()),
            Storage::Store(entries) => {
                Ok(entries.next().await?.map(|(word, count)| WordCount { word, count }))
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn of(words: Vec<WordCount>) -> Self {
        let storage = Storage::Record(words.into_iter());
        Self { storage, first: None, remaining: usize::MAX, count_min: 0 }
    }
}
