//! Parts of JSON schemas that several types share.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

/// A time, as JSON has it.
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

/// Makes an object one of several: each has to have a member, and cannot have some others.
pub(crate) fn alternatives(schema: &mut Schema, forms: &[(&str, &[&str])]) {
    let forms: Vec<Value> =
        forms.iter().map(|(needed, others)| form(schema, needed, others)).collect();
    let description = schema.get("description").cloned().unwrap_or_default();
    *schema = json_schema!({"description": description, "oneOf": forms});
}

fn form(schema: &Schema, needed: &str, others: &[&str]) -> Value {
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

/// Returns a schema without the choice of `null`, which a query does not have.
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
                // What the parameter says of itself counts more than what its type does.
                members.entry(name).or_insert(value);
            }
        }
    }
    schema
}
