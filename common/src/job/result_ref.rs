//! References to the larger parts of a result, which are stored in the record or as separate
//! objects.

use serde::{Deserialize, Serialize};

use crate::explanation::Explanation;
use crate::histogram::Histogram;
use crate::raw_json::RawJson;

/// Location of the histogram. In JSON, the field `place` is `inline` or `object`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "ResultRefJson", into = "ResultRefJson")]
pub enum ResultRef {
    /// Stored in the record, if it is small.
    Inline {
        /// The histogram, as stored JSON.
        word_count: RawJson<Histogram>,
    },
    /// Stored in the bucket `results`, as zstd-compressed JSON.
    Object {
        /// Name of the object: `<job_id>.<run nonce>`.
        name: String,
    },
}

/// Location of the explanation. In JSON, the field `place` is `inline` or `object`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "place", rename_all = "snake_case")]
pub enum ExplanationRef {
    /// Stored in the record, if it is small.
    Inline {
        /// The explanation.
        explanation: Explanation,
    },
    /// Stored in the bucket `results`, as zstd-compressed JSON.
    Object {
        /// Name of the object: `<job_id>.<run nonce>.explain`.
        name: String,
    },
}

/// JSON form of [`ResultRef`]. It is not derived, because serde buffers the content of an
/// internally tagged enum in a tree of values, from which [`RawJson`] cannot recover the original
/// JSON.
#[derive(Serialize, Deserialize)]
struct ResultRefJson {
    place: Storage,
    #[serde(skip_serializing_if = "Option::is_none")]
    word_count: Option<RawJson<Histogram>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Storage {
    Inline,
    Object,
}

impl From<ResultRef> for ResultRefJson {
    fn from(place: ResultRef) -> Self {
        match place {
            ResultRef::Inline { word_count } => {
                Self { place: Storage::Inline, word_count: Some(word_count), name: None }
            }
            ResultRef::Object { name } => {
                Self { place: Storage::Object, word_count: None, name: Some(name) }
            }
        }
    }
}

impl TryFrom<ResultRefJson> for ResultRef {
    type Error = &'static str;

    fn try_from(place: ResultRefJson) -> Result<Self, Self::Error> {
        match place.place {
            Storage::Inline => {
                let word_count =
                    place.word_count.ok_or("an inline result has no field `word_count`")?;
                Ok(Self::Inline { word_count })
            }
            Storage::Object => {
                Ok(Self::Object { name: place.name.ok_or("a stored result has no field `name`")? })
            }
        }
    }
}
