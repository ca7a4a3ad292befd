//! Where the larger parts of what was found are: in the record, or beside it.

use serde::{Deserialize, Serialize};

use crate::explanation::Explanation;
use crate::histogram::Histogram;
use crate::raw_json::RawJson;

/// Where the full histogram is. In JSON the field `place` says which one it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "ResultRefJson", into = "ResultRefJson")]
pub enum ResultRef {
    /// In the record itself.
    Inline {
        /// The histogram.
        word_count: RawJson<Histogram>,
    },
    /// In the bucket `results`, as zstd-compressed JSON.
    Object {
        /// The object's name, `<job_id>.<run nonce>`.
        name: String,
    },
}

/// Where the explanation is of what rules count differently.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "place", rename_all = "snake_case")]
pub enum ExplanationRef {
    /// In the record itself.
    Inline {
        /// The explanation.
        explanation: Explanation,
    },
    /// In the bucket `results`, as zstd-compressed JSON.
    Object {
        /// The object's name, `<job_id>.<run nonce>.explain`.
        name: String,
    },
}

/// A [`ResultRef`] as JSON. It is spelt out because an enum whose tag is a field is read by way of a
/// tree of values, and what is in a tree is no longer the JSON that it came from.
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
                let word_count = place.word_count.ok_or("a result without its words")?;
                Ok(Self::Inline { word_count })
            }
            Storage::Object => {
                Ok(Self::Object { name: place.name.ok_or("a result without its name")? })
            }
        }
    }
}
