//! How a job is to be counted.

use serde::{Deserialize, Serialize};

/// How a job is to be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Which definition of a word makes the histogram.
    pub rule: RuleName,
    /// What becomes of upper case.
    pub case: Case,
    /// Which part of a page counts.
    pub scope: Scope,
}

/// Definitions of a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleName {
    /// Unicode word segmentation, with dictionaries for scripts without spaces.
    #[default]
    Unicode,
}

/// What becomes of upper case in the histogram's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Case {
    /// Unicode default lower case.
    #[default]
    Lower,
}

/// Which part of a page counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Everything that a reader sees.
    #[default]
    Page,
    /// The article, without the navigation, header, footer and asides around it.
    Main,
}
