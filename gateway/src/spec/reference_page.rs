//! Renders the OpenAPI document as a plain HTML page.
//!
//! The page is rendered once, at startup, and is self-contained: it has no script and loads
//! nothing.

mod html;
mod schema;

use axum::http::header::{CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_FRAME_OPTIONS};
use axum::http::{HeaderMap, HeaderValue};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use self::html::{escape, prose, text};

const STYLE: &str = include_str!("reference_page/style.css");

/// Adds headers that forbid all resources except the page's own style, forbid embedding by other
/// pages, and suppress the referrer.
pub(crate) fn add_security_headers(headers: &mut HeaderMap) {
    let digest = STANDARD.encode(Sha256::digest(STYLE));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    );
    headers.extend(HeaderValue::try_from(policy).ok().map(|one| (CONTENT_SECURITY_POLICY, one)));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
}

/// Renders the page for an OpenAPI document.
pub(crate) fn render(document: &Value) -> String {
    let info = &document["info"];
    let title = text(info, "title");
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title}: API reference</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <header>\n<h1>{title} <small>{}</small></h1>\n<p class=\"lead\">{}</p>\n</header>\n",
        text(info, "version"),
        text(info, "summary"),
    );
    let groups = operations_by_tag(document);
    html += &contents(&groups);
    html += "<main>\n<section class=\"introduction\">\n";
    html += &prose(info["description"].as_str().unwrap_or_default());
    html += "<p>Machine-readable: <a href=\"/openapi.json\">openapi.json</a>, OpenAPI 3.1.</p>\n</section>\n";
    for (tag, operations) in &groups {
        html += &format!("<h2 id=\"{}\">{}</h2>\n", anchor(&text(tag, "name")), text(tag, "name"));
        html += &prose(tag["description"].as_str().unwrap_or_default());
        for operation in operations {
            html += &operation.write(document);
        }
    }
    html += "<h2 id=\"schemas\">Schemas</h2>\n";
    for (name, schema) in members(document.pointer("/components/schemas").unwrap_or(&Value::Null)) {
        html += &schema::section(name, schema);
    }
    html + "</main>\n</body>\n</html>\n"
}

/// Returns the members of an object; none for other values.
fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

fn anchor(name: &str) -> String {
    name.replace(' ', "-")
}

/// An operation: a method of a path.
struct Operation<'a> {
    method: &'a str,
    path: &'a str,
    json: &'a Value,
}

/// Groups the operations by tag, both in document order.
fn operations_by_tag(document: &Value) -> Vec<(&Value, Vec<Operation<'_>>)> {
    let all = || {
        members(&document["paths"]).flat_map(|(path, methods)| {
            members(methods).map(move |(method, json)| Operation { method, path, json })
        })
    };
    let tags = document["tags"].as_array().into_iter().flatten();
    tags.map(|tag| {
        (tag, all().filter(|one| one.json.pointer("/tags/0") == tag.get("name")).collect())
    })
    .collect()
}

fn contents(groups: &[(&Value, Vec<Operation<'_>>)]) -> String {
    let mut nav = "<nav aria-label=\"Contents\">\n".to_owned();
    for (tag, operations) in groups {
        let name = text(tag, "name");
        nav += &format!("<h2><a href=\"#{}\">{name}</a></h2>\n<ul>\n", anchor(&name));
        for one in operations {
            nav += &format!(
                "<li><a href=\"#{}\">{} <span class=\"path\">{}</span></a></li>\n",
                text(one.json, "operationId"),
                method(one.method),
                escape(one.path),
            );
        }
        nav += "</ul>\n";
    }
    nav + "<h2><a href=\"#schemas\">schemas</a></h2>\n</nav>\n"
}

fn method(name: &str) -> String {
    format!("<span class=\"method {name}\">{}</span>", name.to_uppercase())
}

impl Operation<'_> {
    fn write(&self, document: &Value) -> String {
        let id = text(self.json, "operationId");
        let mut out = format!(
            "<article id=\"{id}\">\n<h3>{} <code>{}</code> \
             <a class=\"here\" href=\"#{id}\" aria-label=\"Link to {id}\">#</a></h3>\n\
             <p class=\"summary\">{}.</p>\n",
            method(self.method),
            escape(self.path),
            text(self.json, "summary"),
        );
        out += &prose(self.json["description"].as_str().unwrap_or_default());
        if self.json["security"].as_array().is_some_and(Vec::is_empty) {
            out += "<p class=\"note\">No API key needed.</p>\n";
        }
        out += &self.parameters();
        out += &self.body();
        out += &self.responses(document);
        out + "</article>\n"
    }

    fn parameters(&self) -> String {
        let Some(parameters) = self.json["parameters"].as_array() else { return String::new() };
        let rows = parameters.iter().map(|one| {
            let must = if one["required"] == true { " <span class=\"must\">required</span>" } else { "" };
            format!(
                "<tr><th scope=\"row\"><code>{}</code>{must}</th><td>{}</td><td>{}</td><td>{}</td></tr>\n",
                text(one, "name"),
                text(one, "in"),
                schema::kind(&one["schema"]),
                prose(one["description"].as_str().unwrap_or_default()),
            )
        });
        format!(
            "<h4>Parameters</h4>\n<div class=\"wide\"><table>\n<thead><tr><th>name</th><th>in</th>\
             <th>type</th><th></th></tr></thead>\n<tbody>{}</tbody></table></div>\n",
            rows.collect::<String>()
        )
    }

    fn body(&self) -> String {
        let body = &self.json["requestBody"];
        if body.is_null() {
            return String::new();
        }
        format!(
            "<h4>Body</h4>\n{}{}",
            prose(body["description"].as_str().unwrap_or_default()),
            content(body)
        )
    }

    fn responses(&self, document: &Value) -> String {
        let rows = members(&self.json["responses"]).map(|(status, response)| {
            let headers: Vec<String> = members(&response["headers"])
                .map(|(name, reference)| {
                    let pointer = reference["$ref"].as_str().unwrap_or_default().trim_start_matches('#');
                    let header = document.pointer(pointer).unwrap_or(&Value::Null);
                    format!("<abbr title=\"{}\">{}</abbr>", text(header, "description"), escape(name))
                })
                .collect();
            let headers = if headers.is_empty() {
                String::new()
            } else {
                format!("<p class=\"headers\">{}</p>\n", headers.join(", "))
            };
            format!(
                "<tr><th scope=\"row\"><span class=\"status s{}\">{status}</span></th><td>{}{}{headers}</td></tr>\n",
                status.chars().next().unwrap_or('0'),
                prose(response["description"].as_str().unwrap_or_default()),
                content(response),
            )
        });
        format!(
            "<h4>Responses</h4>\n<div class=\"wide\"><table>\n<tbody>{}</tbody></table></div>\n",
            rows.collect::<String>()
        )
    }
}

/// Renders the media types of a body as a list.
fn content(body: &Value) -> String {
    let items: String = members(&body["content"])
        .map(|(media, content)| {
            format!(
                "<li><code>{}</code> {}</li>\n",
                escape(media),
                schema::kind(&content["schema"])
            )
        })
        .collect();
    if items.is_empty() { items } else { format!("<ul class=\"content\">\n{items}</ul>\n") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_page_shows_every_operation_and_loads_nothing() {
        let document = crate::spec::openapi::document_with_keys();
        let html = render(&document);
        for (path, methods) in members(&document["paths"]) {
            assert!(html.contains(&escape(path)), "{path}");
            for (_, operation) in members(methods) {
                let id = operation["operationId"].as_str().unwrap();
                assert!(html.contains(&format!("<article id=\"{id}\">")), "{id}");
            }
        }
        for foreign in ["<script", "src=", "@import", "url(", "href=\"http", "<link"] {
            assert!(!html.contains(foreign), "{foreign}");
        }
        for part in html.split("href=\"#").skip(1) {
            let target = part.split('"').next().unwrap();
            assert!(html.contains(&format!("id=\"{target}\"")), "nothing has the id {target}");
        }
    }

    #[test]
    fn text_of_the_description_is_escaped() {
        let document = json!({
            "info": {"title": "<b>", "description": "a `<i>` & b"},
            "tags": [{"name": "t"}],
            "paths": {"/<x>": {"get": {"tags": ["t"], "operationId": "o", "summary": "\"s\""}}},
        });
        let html = render(&document);
        assert!(
            html.contains("<h1>&lt;b&gt;") && html.contains("a <code>&lt;i&gt;</code> &amp; b")
        );
        assert!(!html.contains("/<x>") && html.contains("&quot;s&quot;"));
    }
}
