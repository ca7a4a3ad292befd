//! JSON schemas of the types that handlers deserialize and serialize.

use std::borrow::Cow;

use schemars::generate::{Contract, SchemaSettings};
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::http::problem::Code;
use crate::http::schema::without_null;

/// Prefix of references to named schemas.
const SCHEMAS_PREFIX: &str = "#/components/schemas/";

/// The schemas that the document uses.
#[derive(Debug)]
pub(crate) struct Schemas {
    responses: SchemaGenerator,
    requests: SchemaGenerator,
    named: Map<String, Value>,
}

impl Schemas {
    pub(crate) fn new() -> Self {
        let mut written = SchemaSettings::draft2020_12();
        written.contract = Contract::Serialize;
        written.definitions_path = Cow::Borrowed("/components/schemas");
        written.meta_schema = None;
        let mut read = SchemaSettings::draft2020_12();
        read.contract = Contract::Deserialize;
        read.meta_schema = None;
        // A type has different schemas for requests and for responses. Only the schema for
        // responses gets the name of the type.
        read.inline_subschemas = true;
        let named = Map::from_iter([("Problem".to_owned(), problem())]);
        Self { responses: written.into_generator(), requests: read.into_generator(), named }
    }

    /// Returns a reference to the schema of a response.
    pub(crate) fn response<T: JsonSchema>(&mut self) -> Value {
        self.responses.subschema_for::<T>().into()
    }

    /// Returns the schema of a response, inline.
    pub(crate) fn response_inline<T: JsonSchema>(&mut self) -> Value {
        let _ = self.responses.subschema_for::<T>();
        let definitions = self.responses.definitions();
        definitions.get(&*T::schema_name()).cloned().unwrap_or_default()
    }

    /// Adds the schema of a request under `name`, and returns a reference to it.
    pub(crate) fn request<T: JsonSchema>(&mut self, name: &str) -> Value {
        let schema = self.request_inline::<T>();
        self.add_named(name, schema)
    }

    /// Returns the schema of a request, inline.
    pub(crate) fn request_inline<T: JsonSchema>(&mut self) -> Value {
        let mut schema = Value::from(self.requests.root_schema_for::<T>());
        if let Some(schema) = schema.as_object_mut() {
            schema.remove("title");
        }
        schema
    }

    /// Adds a schema under `name`, and returns a reference to it.
    pub(crate) fn add_named(&mut self, name: &str, schema: Value) -> Value {
        self.named.insert(name.to_owned(), schema);
        json!({"$ref": format!("{SCHEMAS_PREFIX}{name}")})
    }

    /// Returns the fields of `T` as query parameters.
    pub(crate) fn query_parameters<T: JsonSchema>(&mut self) -> Vec<Value> {
        let schema = Value::from(self.requests.root_schema_for::<T>());
        let required =
            schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
        let properties = schema.get("properties").and_then(Value::as_object).cloned();
        let parameter = |(name, schema): (String, Value)| {
            let mut schema = without_null(schema);
            let text = schema.as_object_mut().and_then(|schema| schema.remove("description"));
            json!({
                "name": name,
                "in": "query",
                "required": required.contains(&json!(name)),
                "description": text.unwrap_or_default(),
                "schema": schema,
            })
        };
        properties.unwrap_or_default().into_iter().map(parameter).collect()
    }

    /// Returns all named schemas.
    pub(crate) fn finish(mut self) -> Map<String, Value> {
        let mut all = self.responses.take_definitions(true);
        all.append(&mut self.named);
        all
    }
}

/// Returns the schema of a problem.
fn problem() -> Value {
    json!({
        "type": "object",
        "description": "An error as in RFC 9457. Some errors have further members; `detail` \
                        explains them.",
        "required": ["type", "title", "status", "detail", "code", "retryable", "trace_id"],
        "properties": {
            "type": {"type": "string", "pattern": "^urn:wordmill:error:[a-z_]+$"},
            "title": {"type": "string", "description": "Meaning of the code."},
            "status": {"type": "integer", "minimum": 400, "maximum": 599},
            "detail": {"type": "string", "description": "Explanation of this occurrence."},
            "code": {"enum": Code::ALL.iter().map(|code| code.name()).collect::<Vec<_>>()},
            "retryable": {
                "type": "boolean",
                "description": "Whether the same request may succeed later.",
            },
            "trace_id": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
            "job_id": {
                "type": "string",
                "format": "uuid",
                "description": "Id of a job that may have been accepted nevertheless. Get the \
                                job to find out.",
            },
        },
    })
}
