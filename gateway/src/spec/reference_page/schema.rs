//! Renders JSON schemas as HTML.

use serde_json::Value;

use super::html::{escape, prose, text};
use super::members;

/// Renders a named schema as a section.
pub(super) fn section(name: &str, schema: &Value) -> String {
    let name = escape(name);
    format!(
        "<article id=\"schema-{name}\">\n<h3><code>{name}</code> \
         <a class=\"here\" href=\"#schema-{name}\" aria-label=\"Link to {name}\">#</a></h3>\n{}{}</article>\n",
        prose(schema["description"].as_str().unwrap_or_default()),
        body(schema),
    )
}

fn body(schema: &Value) -> String {
    let mut rows = String::new();
    for (name, property) in members(&schema["properties"]) {
        let is_required =
            schema["required"].as_array().is_some_and(|all| all.contains(&name.as_str().into()));
        let optional = if is_required { "" } else { " <span class=\"may\">optional</span>" };
        rows += &format!(
            "<tr><th scope=\"row\"><code>{}</code>{optional}</th><td>{}</td><td>{}</td></tr>\n",
            escape(name),
            kind(property),
            prose(property["description"].as_str().unwrap_or_default()),
        );
    }
    for choice in schema["oneOf"].as_array().into_iter().flatten() {
        if let Some(value) = choice.get("const") {
            rows += &format!(
                "<tr><th scope=\"row\"><code>{}</code></th><td></td><td>{}</td></tr>\n",
                escape_value(value),
                prose(choice["description"].as_str().unwrap_or_default()),
            );
        }
    }
    let forms = schema["oneOf"].as_array().into_iter().flatten();
    let forms: Vec<String> =
        forms.filter(|form| form["properties"].is_object()).map(body).collect();
    if !forms.is_empty() {
        return format!("<p>One of these:</p>\n{}", forms.join("<p>or</p>\n"));
    }
    if rows.is_empty() {
        return format!("<p>{}</p>\n", kind(schema));
    }
    format!("<div class=\"wide\"><table>\n<tbody>{rows}</tbody></table></div>\n")
}

/// Summarizes the type and the bounds of a schema.
pub(super) fn kind(schema: &Value) -> String {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = escape(reference.rsplit('/').next().unwrap_or_default());
        return format!("<a href=\"#schema-{name}\">{name}</a>");
    }
    if let Some(value) = schema.get("const") {
        return format!("<code>{}</code>", escape_value(value));
    }
    if let Some(values) = schema["enum"].as_array() {
        return join(
            values.iter().map(|value| format!("<code>{}</code>", escape_value(value))),
            " or ",
        );
    }
    let choices = ["anyOf", "oneOf"].into_iter().find_map(|name| schema[name].as_array());
    if let Some(choices) = choices.filter(|_| schema["type"].is_null()) {
        return join(choices.iter().map(kind), " or ");
    }
    // The schema of an error response extends `Problem`.
    if let Some([only]) = schema["allOf"].as_array().map(Vec::as_slice) {
        return kind(only);
    }
    let mut summary = match &schema["type"] {
        Value::String(name) => type_name(name, schema),
        Value::Array(names) => {
            join(names.iter().filter_map(Value::as_str).map(|name| type_name(name, schema)), " or ")
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => "anything".to_owned(),
    };
    summary += &bounds(schema);
    summary
}

fn join(parts: impl Iterator<Item = String>, between: &str) -> String {
    parts.collect::<Vec<_>>().join(between)
}

fn type_name(name: &str, schema: &Value) -> String {
    match name {
        "array" => format!("list of {}", kind(&schema["items"])),
        "object" if schema["additionalProperties"].is_object() => {
            format!("object of {}", kind(&schema["additionalProperties"]))
        }
        "string" => match schema["format"].as_str() {
            Some("date-time") => "time".to_owned(),
            Some(format) => escape(format),
            None => "string".to_owned(),
        },
        name => escape(name),
    }
}

/// Describes the bounds of a schema, for example `, 1 to 100 characters`.
fn bounds(schema: &Value) -> String {
    let mut bounds = Vec::new();
    for (least, most, unit) in [
        ("minimum", "maximum", ""),
        ("minLength", "maxLength", " characters"),
        ("minItems", "maxItems", " items"),
        ("minProperties", "maxProperties", " members"),
    ] {
        let least = &schema[least];
        let most = &schema[most];
        match (least.is_null(), most.is_null()) {
            (true, true) => {}
            (false, true) if *least == 0 => {}
            (false, true) => bounds.push(format!("{}{unit} or more", escape_value(least))),
            (true, false) => bounds.push(format!("up to {}{unit}", escape_value(most))),
            (false, false) => {
                bounds.push(format!("{} to {}{unit}", escape_value(least), escape_value(most)));
            }
        }
    }
    if schema["contains"].is_object() {
        bounds.push(format!("at least one {}", kind(&schema["contains"])));
    }
    if schema["pattern"].is_string() {
        bounds.push(format!("<code>{}</code>", text(schema, "pattern")));
    }
    if bounds.is_empty() { String::new() } else { format!(", {}", bounds.join(", ")) }
}

fn escape_value(value: &Value) -> String {
    escape(&value.as_str().map_or_else(|| value.to_string(), str::to_owned))
}
