//! Warnings of a succeeded job: reasons to check its count before relying on it.

use std::cmp::Ordering;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::open_name::OpenName;

/// Maximum number of warnings of a job, each with a different code.
pub const WARNINGS_MAX: usize = 32;
/// Maximum length of [`Warning::location`], in bytes of UTF-8. Longer values are cut.
///
/// With [`WARNINGS_MAX`], it bounds the share of warnings in a record and in the body of a webhook.
pub const LOCATION_BYTES_MAX: usize = 100;

/// Declares [`WarningCode`] from a table of rows `Variant = "name";`.
macro_rules! warning_codes {
    ($($(#[$doc:meta])* $code:ident = $name:literal;)*) => {
        /// Code of a warning. Clients can branch on it; `docs/errors.md` explains each code.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
        pub enum WarningCode {
            $($(#[$doc])* #[serde(rename = $name)] $code,)*
            /// A code that only the next version has.
            #[cfg(feature = "next-version")]
            #[serde(rename = "next_version")]
            NextVersion,
        }

        impl WarningCode {
            /// All codes, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$code,)*];

            /// Returns the name that the API uses.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$code => $name,)*
                    #[cfg(feature = "next-version")]
                    Self::NextVersion => "next_version",
                }
            }
        }
    };
}

warning_codes! {
    /// The job found no words.
    NoTextFound = "no_text_found";
    /// The page has scripts, and hardly any words.
    ScriptOnlyPage = "script_only_page";
    /// The page has text in hidden elements, which was not counted.
    HiddenTextPresent = "hidden_text_present";
    /// A hidden element has no end tag.
    UnclosedHiddenElement = "unclosed_hidden_element";
    /// The charset was guessed from the bytes.
    CharsetGuessed = "charset_guessed";
    /// A part of the document contradicts its charset.
    CharsetContradicted = "charset_contradicted";
    /// Elements are nested more deeply than the limit.
    NestingTooDeep = "nesting_too_deep";
    /// Members of the batch were counted by different versions.
    MixedVersions = "mixed_versions";
}

impl fmt::Display for WarningCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl OpenName<WarningCode> {
    /// Returns the name that the API uses.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Known(code) => code.as_str(),
            Self::Other(name) => name,
        }
    }

    /// Compares two codes: known ones in the order of the documentation, then unknown ones by name.
    fn compare(&self, other: &Self) -> Ordering {
        let rank = |code: &Self| {
            let position = WarningCode::ALL.iter().position(|known| code == known);
            position.unwrap_or(WarningCode::ALL.len())
        };
        rank(self).cmp(&rank(other)).then_with(|| self.as_str().cmp(other.as_str()))
    }
}

/// A reason to check the count of a job before relying on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Warning {
    /// Kind of the warning.
    pub code: OpenName<WarningCode>,
    /// Number of occurrences, at least 1. The code determines what is counted.
    #[schemars(range(min = 1))]
    pub count: u64,
    /// Place of the first occurrence, or another detail, depending on the code. For people.
    #[serde(rename = "where")]
    pub location: Option<String>,
}

/// Warnings of a job: at most one for each code, in a fixed order of the codes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline, extend("maxItems" = WARNINGS_MAX))]
pub struct Warnings(Vec<Warning>);

impl Warnings {
    /// Returns an empty list.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Returns whether the list is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the warnings in their order.
    pub fn iter(&self) -> impl Iterator<Item = &Warning> {
        self.0.iter()
    }

    /// Returns whether there is a warning with this code.
    #[must_use]
    pub fn has(&self, code: WarningCode) -> bool {
        self.iter().any(|warning| warning.code == code)
    }

    /// Adds `count` occurrences. A warning with the same code gets the sum, and keeps its first
    /// location. Does nothing if `count` is 0.
    ///
    /// The location is shortened to [`LOCATION_BYTES_MAX`]. Control characters become spaces, so
    /// that text of a document cannot break a line of a log or of a terminal.
    pub fn add(
        &mut self,
        code: impl Into<OpenName<WarningCode>>,
        count: u64,
        location: Option<&str>,
    ) {
        if count == 0 {
            return;
        }
        let code = code.into();
        let location = location.map(shorten);
        if let Some(same) = self.0.iter_mut().find(|warning| warning.code == code) {
            same.count = same.count.saturating_add(count);
            same.location = same.location.take().or(location);
            return;
        }
        // There are fewer known codes than places. So a code is lost only if workers of newer
        // versions report many that this version does not know.
        if self.0.len() < WARNINGS_MAX {
            let index = self.0.partition_point(|warning| warning.code.compare(&code).is_lt());
            self.0.insert(index, Warning { code, count, location });
        }
    }

    /// Adds all warnings of another list, for example those of a member of a batch.
    pub fn merge(&mut self, other: Self) {
        for Warning { code, count, location } in other.0 {
            self.add(code, count, location.as_deref());
        }
    }
}

/// Returns a location with at most [`LOCATION_BYTES_MAX`] bytes, without control characters.
fn shorten(location: &str) -> String {
    let end = location.floor_char_boundary(LOCATION_BYTES_MAX);
    let start = location.get(..end).unwrap_or_default();
    start.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn warnings(all: &[(WarningCode, u64, Option<&str>)]) -> Warnings {
        let mut warnings = Warnings::new();
        for (code, count, location) in all {
            warnings.add(*code, *count, *location);
        }
        warnings
    }

    #[test]
    fn codes_are_spelled_the_same_in_json_and_in_text() {
        for code in WarningCode::ALL {
            assert_eq!(json!(code), code.as_str());
        }
    }

    #[test]
    fn every_code_has_a_heading_in_the_documentation() {
        let page = include_str!("../../docs/errors.md");
        for code in WarningCode::ALL {
            assert!(page.contains(&format!("\n### `{code}`\n")), "docs/errors.md lacks {code}");
        }
    }

    #[test]
    fn a_warning_has_stable_json() {
        let warnings = warnings(&[
            (WarningCode::NoTextFound, 1, None),
            (WarningCode::CharsetGuessed, 1, Some("koi8-r")),
        ]);
        let expected = json!([
            {"code": "no_text_found", "count": 1, "where": null},
            {"code": "charset_guessed", "count": 1, "where": "koi8-r"},
        ]);
        assert_eq!(json!(warnings), expected);
        assert_eq!(serde_json::from_value::<Warnings>(expected).unwrap(), warnings);
    }

    #[test]
    fn an_unknown_code_is_preserved() {
        let newer = json!([{"code": "font_missing", "count": 2, "where": "page 3"}]);
        let warnings: Warnings = serde_json::from_value(newer.clone()).unwrap();
        assert_eq!(json!(warnings), newer);
    }

    #[test]
    fn warnings_with_the_same_code_are_merged() {
        let mut sum = warnings(&[(WarningCode::HiddenTextPresent, 2, None)]);
        sum.merge(warnings(&[(WarningCode::HiddenTextPresent, 3, Some("div"))]));
        sum.merge(warnings(&[(WarningCode::HiddenTextPresent, u64::MAX, Some("p"))]));
        assert_eq!(sum, warnings(&[(WarningCode::HiddenTextPresent, u64::MAX, Some("div"))]));
    }

    #[test]
    fn the_order_depends_on_the_codes_alone() {
        let mut sum = Warnings::new();
        for name in ["zebra", "charset_guessed", "apple", "no_text_found"] {
            sum.add(OpenName::parse(name.to_owned()), 1, None);
        }
        let names: Vec<_> = sum.iter().map(|warning| warning.code.as_str()).collect();
        assert_eq!(names, ["no_text_found", "charset_guessed", "apple", "zebra"]);
    }

    #[test]
    fn the_number_of_warnings_is_bounded() {
        let mut sum = Warnings::new();
        for number in 0..1000 {
            sum.add(OpenName::Other(format!("code_{number}")), 1, None);
        }
        assert_eq!(sum.iter().count(), WARNINGS_MAX);
    }

    #[test]
    fn a_location_is_short_and_on_one_line() {
        let long = format!("a\n{}", "é".repeat(LOCATION_BYTES_MAX));
        let sum = warnings(&[(WarningCode::HiddenTextPresent, 1, Some(&long))]);
        let location = sum.iter().next().unwrap().location.clone().unwrap();
        assert_eq!(location, format!("a {}", "é".repeat(49)));
    }

    #[test]
    fn zero_occurrences_add_no_warning() {
        assert!(warnings(&[(WarningCode::NestingTooDeep, 0, None)]).is_empty());
    }
}
