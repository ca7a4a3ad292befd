//! The words of a finished job, one by one, wherever they are kept.

use std::vec;

use wordmill_common::histogram::WordCount;
use wordmill_common::job::{Job, ResultRef};
use wordmill_nats::Error;
use wordmill_nats::results::{self, Entries};

use crate::App;
use crate::http::deadline::BROKER_DEADLINE;
use crate::http::problem::{Code, Problem};

/// The words that were asked for: the most frequent ones, down to a count, up to a number. What comes
/// after them is not read.
pub(crate) struct Words {
    storage: Storage,
    /// The first one, which was read to see that they can be.
    first: Option<WordCount>,
    remaining: usize,
    count_min: u64,
}

enum Storage {
    /// In the record.
    Record(vec::IntoIter<WordCount>),
    /// In the store of large results.
    Store(Box<Entries>),
}

impl Words {
    /// Opens the words of a job that succeeded, and reads the first of them.
    ///
    /// # Errors
    /// `broker_unavailable`, and `result_expired` if they are no longer kept.
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
                    Storage::Record(results::inline(&job.key(), word_count)?.into_iter())
                }
                Some(ResultRef::Object { name }) => {
                    let packed =
                        app.results.read(name).await?.ok_or_else(Problem::result_expired)?;
                    Storage::Store(Box::new(packed.entries()?))
                }
            };
            let mut words = Self { storage, first: None, remaining: words_max, count_min };
            words.first = words.read().await?;
            Ok(words)
        };
        let opened = tokio::time::timeout(BROKER_DEADLINE, opening).await;
        opened.unwrap_or_else(|_| {
            let detail = "The result could not be read in time.";
            Err(Problem::new(Code::BrokerUnavailable, detail))
        })
    }

    /// Returns the next word; `None` after the last one.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Gone`] if they are removed meanwhile, and [`Error::Corrupt`].
    pub(crate) async fn next(&mut self) -> Result<Option<WordCount>, Error> {
        if self.remaining == 0 {
            return Ok(None);
        }
        let next = match self.first.take() {
            Some(first) => Some(first),
            None => self.read().await?,
        };
        // They come in order, so what is too rare ends them.
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
