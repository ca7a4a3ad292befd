//! Names from sets that newer versions extend, for example failure codes.
//!
//! During an upgrade, services of two versions run side by side. A reader keeps unknown names, so
//! that it can show them and write them back unchanged.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{DeserializeOwned, Error, IntoDeserializer, Visitor, value};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// A known name (a `T`) or an unknown one. In JSON, both are strings.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(untagged)]
pub enum OpenName<T> {
    /// A known name.
    Known(T),
    /// An unknown name, as it was read.
    Other(String),
}

impl<T: DeserializeOwned> OpenName<T> {
    /// Parses a name. An unknown one becomes [`OpenName::Other`].
    #[must_use]
    pub fn parse(name: String) -> Self {
        let known: Result<T, value::Error> = T::deserialize(name.as_str().into_deserializer());
        known.map_or(Self::Other(name), Self::Known)
    }
}

impl<T: Copy> OpenName<T> {
    /// Returns the name if it is known, otherwise `None`.
    pub fn known(&self) -> Option<T> {
        match self {
            Self::Known(name) => Some(*name),
            Self::Other(_) => None,
        }
    }
}

impl<T> From<T> for OpenName<T> {
    fn from(name: T) -> Self {
        Self::Known(name)
    }
}

impl<T: PartialEq> PartialEq<T> for OpenName<T> {
    fn eq(&self, other: &T) -> bool {
        matches!(self, Self::Known(name) if name == other)
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for OpenName<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(NameVisitor(PhantomData))
    }
}

struct NameVisitor<T>(PhantomData<fn() -> T>);

impl<T: DeserializeOwned> Visitor<'_> for NameVisitor<T> {
    type Value = OpenName<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<OpenName<T>, E> {
        // Allocates only for an unknown name.
        let known: Result<T, value::Error> = T::deserialize(name.into_deserializer());
        Ok(known.map_or_else(|_| OpenName::Other(name.to_owned()), OpenName::Known))
    }
}

/// Schema of any string, instead of the enumeration of `T`. Its description lists the known names.
impl<T: JsonSchema> JsonSchema for OpenName<T> {
    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        format!("open {}", T::schema_id()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let known = T::json_schema(generator);
        let text = |value: Option<&Value>| {
            value.and_then(Value::as_str).map(str::to_owned).unwrap_or_default()
        };
        let mut description = text(known.get("description"));
        description += " A newer version may add values. Known values:";
        for name in known.get("oneOf").and_then(Value::as_array).into_iter().flatten() {
            let (name, meaning) = (text(name.get("const")), text(name.get("description")));
            description += &format!(" `{name}`: {meaning}");
        }
        json_schema!({"type": "string", "description": description})
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::failure::FailureCode;
    use crate::job::Stage;

    #[test]
    fn unknown_names_round_trip() {
        let known: OpenName<FailureCode> = serde_json::from_value(json!("fetch_http_4xx")).unwrap();
        assert_eq!(known, FailureCode::FetchHttp4xx);
        assert_eq!(json!(known), "fetch_http_4xx");
        let other: OpenName<FailureCode> = serde_json::from_value(json!("fetch_quic")).unwrap();
        assert_eq!((other.known(), other.as_str()), (None, "fetch_quic"));
        assert_eq!(json!(other), "fetch_quic");
        assert_ne!(other, FailureCode::FetchHttp4xx);
        let escaped: OpenName<Stage> = serde_json::from_str(r#""\u0066etch""#).unwrap();
        assert_eq!(escaped, Stage::Fetch);
    }

    #[test]
    fn only_strings_are_names() {
        for wrong in [json!(1), json!(null), json!({"fetch": 1}), json!(["fetch"])] {
            assert!(serde_json::from_value::<OpenName<Stage>>(wrong.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_schema_allows_any_string_and_explains_the_known_ones() {
        let schema = OpenName::<Stage>::json_schema(&mut SchemaGenerator::default());
        assert_eq!(schema.get("type"), Some(&json!("string")));
        assert_eq!(schema.get("oneOf"), None);
        let description = schema.get("description").and_then(Value::as_str).unwrap();
        assert!(description.contains("`count`: Counts a text"), "{description}");
    }
}
