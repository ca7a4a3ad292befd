//! Values that are kept as serialized JSON.

use std::marker::PhantomData;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};

use crate::histogram::Histogram;

/// JSON text of a `T`. It is serialized once and passed on unchanged; only a caller that needs the
/// value deserializes it. Used for the larger parts of a record. Clones share the text.
#[derive(Debug)]
pub struct RawJson<T> {
    json: Arc<RawValue>,
    marker: PhantomData<fn() -> T>,
}

impl<T> RawJson<T> {
    fn new(json: Box<RawValue>) -> Self {
        Self { json: json.into(), marker: PhantomData }
    }
}

impl<T: Serialize> RawJson<T> {
    /// Serializes a value.
    ///
    /// # Errors
    /// If JSON cannot represent the value, for example a map with keys that are not strings.
    pub fn from_value(value: &T) -> Result<Self, serde_json::Error> {
        to_raw_value(value).map(Self::new)
    }
}

impl<T: DeserializeOwned> RawJson<T> {
    /// Deserializes the value.
    ///
    /// # Errors
    /// If the JSON does not represent a `T`.
    pub fn read(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.json.get())
    }
}

impl RawJson<Histogram> {
    /// Serializes a histogram; returns `None` if the JSON is larger than `bytes_max`.
    #[must_use]
    pub fn histogram_up_to(histogram: &Histogram, bytes_max: usize) -> Option<Self> {
        // Each entry needs at least two quotes, a colon, a digit and a comma. This lower bound
        // avoids serializing a histogram that is far too large.
        let bytes_min: usize = histogram.iter().map(|(word, _)| word.len() + 5).sum();
        if bytes_min > bytes_max {
            return None;
        }
        Self::from_value(histogram).ok().filter(|written| written.json.get().len() <= bytes_max)
    }
}

impl<T> Clone for RawJson<T> {
    fn clone(&self) -> Self {
        Self { json: Arc::clone(&self.json), marker: PhantomData }
    }
}

impl<T> PartialEq for RawJson<T> {
    fn eq(&self, other: &Self) -> bool {
        self.json.get() == other.json.get()
    }
}

impl<T> Eq for RawJson<T> {}

impl<T> Serialize for RawJson<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.json.serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for RawJson<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(Self::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::WordCount;

    #[test]
    fn a_raw_histogram_is_bounded() {
        let words = [("river", 2), ("mill", 3), ("bread", 2), ("\u{e9}t\u{e9}", 2)];
        let histogram: Histogram = words.into_iter().collect();
        let json = r#"{"mill":3,"bread":2,"river":2,"été":2}"#;
        let written = RawJson::histogram_up_to(&histogram, json.len()).unwrap();
        assert_eq!(serde_json::to_string(&written).unwrap(), json);
        assert_eq!(serde_json::from_str::<RawJson<Histogram>>(json).unwrap(), written);
        assert_eq!(written.read().unwrap(), histogram);
        assert!(RawJson::histogram_up_to(&histogram, json.len() - 1).is_none());
        assert!(RawJson::histogram_up_to(&histogram, 3).is_none());
    }

    #[test]
    fn raw_json_is_forwarded_without_parsing() {
        let json = r#"[ {"word":"mill", "count":3} ]"#;
        let written: RawJson<Vec<WordCount>> = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&written).unwrap(), json);
        assert_eq!(written.read().unwrap(), [WordCount { word: "mill".to_owned(), count: 3 }]);
        serde_json::from_str::<RawJson<Histogram>>(json).unwrap().read().unwrap_err();
    }
}
