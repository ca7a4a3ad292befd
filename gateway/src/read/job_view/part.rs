//! Parts of a job, which are usually passed on as they are stored.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use wordmill_common::warning::Warnings;

/// A part of a job: a typed value, or raw JSON that is passed on as it is stored.
#[derive(Debug)]
pub(super) enum Part<'a, T> {
    Typed(&'a T),
    Raw(&'a RawValue),
}

impl<T: Serialize> Serialize for Part<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Typed(value) => value.serialize(serializer),
            Self::Raw(json) => json.serialize(serializer),
        }
    }
}

impl<'de: 'a, 'a, T> Deserialize<'de> for Part<'a, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&RawValue>::deserialize(deserializer).map(Self::Raw)
    }
}

/// No warnings, for a record without the field.
impl Default for Part<'_, Warnings> {
    fn default() -> Self {
        static NONE: Warnings = Warnings::new();
        Self::Typed(&NONE)
    }
}

impl<T: JsonSchema> JsonSchema for Part<'_, T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}
