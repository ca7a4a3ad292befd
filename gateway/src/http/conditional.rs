//! Conditional requests: entity tags and `If-None-Match`.

use axum::http::HeaderMap;
use axum::http::header::IF_NONE_MATCH;

/// The entity tags in `If-None-Match`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IfNoneMatch(Vec<String>);

impl IfNoneMatch {
    /// Parses the header; `None` if it is missing.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let fields = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
        let tags: Vec<String> = fields
            .flat_map(|field| field.split(','))
            .map(|tag| tag.trim().trim_start_matches("W/").to_owned())
            .collect();
        (!tags.is_empty()).then_some(Self(tags))
    }

    /// Returns whether the client has this revision.
    pub(crate) fn includes(&self, revision: u64) -> bool {
        self.includes_tag(&etag(revision))
    }

    /// Returns whether the client has the content with this entity tag.
    pub(crate) fn includes_tag(&self, tag: &str) -> bool {
        self.0.iter().any(|listed| listed == tag || listed == "*")
    }
}

/// Returns the entity tag of a revision.
pub(crate) fn etag(revision: u64) -> String {
    format!("\"{revision}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn known_revisions_are_compared_weakly() {
        for (values, is_known) in [
            (&["\"7\""][..], true),
            (&["W/\"7\""], true),
            (&["\"6\", \"7\""], true),
            (&["\"6\"", "\"7\""], true),
            (&["*"], true),
            (&["7"], false),
            (&["\"77\""], false),
            (&[""], false),
        ] {
            let if_none_match = IfNoneMatch::of(&headers("if-none-match", values)).unwrap();
            assert_eq!(if_none_match.includes(7), is_known, "{values:?}");
        }
        assert_eq!(IfNoneMatch::of(&HeaderMap::new()), None);
    }
}
