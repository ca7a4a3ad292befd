//! Parts of JSON schemas that several types share.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

/// Schema of a time: a string in RFC 3339 format.
#[derive(Debug)]
pub(crate) enum Moment {}

impl JsonSchema for Moment {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Moment".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": "date-time"})
    }
}

/// Turns the schema of an object into a choice of forms. Each form requires one member and forbids
/// others. For example, a new job has either `url` or `text`.
pub(crate) fn require_one_of(schema: &mut Schema, forms: &[(&str, &[&str])]) {
    let forms: Vec<Value> =
        forms.iter().map(|(needed, others)| alternative(schema, needed, others)).collect();
    let description = schema.get("description").cloned().unwrap_or_default();
    *schema = json_schema!({"description": description, "oneOf": forms});
}

/// Returns a copy of `schema` that requires the member `needed` and lacks the members `others`.
fn alternative(schema: &Schema, needed: &str, others: &[&str]) -> Value {
    let mut form = schema.clone();
    form.remove("description");
    form.insert("required".to_owned(), json!([needed]));
    if let Some(members) = form.get_mut("properties").and_then(Value::as_object_mut) {
        members.retain(|name, _| !others.contains(&name.as_str()));
        if let Some(needed) = members.get_mut(needed) {
            *needed = without_null(std::mem::take(needed));
        }
    }
    form.into()
}

/// Removes the alternative `null` from the schema of a query parameter or a required member,
/// neither of which can be null.
pub(crate) fn without_null(mut schema: Value) -> Value {
    let is_null = |value: &Value| value == "null" || value.get("type").is_some_and(|t| t == "null");
    let Some(members) = schema.as_object_mut() else { return schema };
    if let Some(Value::Array(types)) = members.get_mut("type") {
        types.retain(|one| !is_null(one));
        if let [one] = types.as_slice() {
            let one = one.clone();
            members.insert("type".to_owned(), one);
        }
    }
    if let Some(Value::Array(choices)) = members.get_mut("anyOf") {
        choices.retain(|one| !is_null(one));
        if let [Value::Object(one)] = choices.as_slice() {
            let one = one.clone();
            members.remove("anyOf");
            for (name, value) in one {
                // The description of the parameter takes precedence over that of its type.
                members.entry(name).or_insert(value);
            }
        }
    }
    schema
}
