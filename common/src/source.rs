//! What a job counts, as it is asked for and as it is remembered.

use serde::{Deserialize, Serialize};

/// What a job counts, with everything that a worker needs to get at it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Source {
    /// A page to be fetched.
    Url {
        /// Absolute `http` or `https` URL.
        url: String,
    },
    /// A text that travels in the message.
    Text {
        /// The text itself.
        text: String,
    },
}

impl Source {
    /// Returns which kind of source it is.
    #[must_use]
    pub fn kind(&self) -> SourceKind {
        match self {
            Self::Url { .. } => SourceKind::Url,
            Self::Text { .. } => SourceKind::Text,
        }
    }

    /// Returns what the record says of it: everything but the text itself.
    #[must_use]
    pub fn describe(&self) -> SourceInfo {
        let mut info = SourceInfo::new(self.kind());
        match self {
            Self::Url { url } => info.url = Some(url.clone()),
            Self::Text { text } => info.size_bytes = u64::try_from(text.len()).ok(),
        }
        info
    }
}

/// The kinds of source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceKind {
    /// A page.
    Url,
    /// A text in the message.
    Text,
}

impl SourceKind {
    /// Returns the name as it stands in records and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Url => "url",
            Self::Text => "text",
        }
    }
}

/// What the record says of the source: what was asked for, and what was found there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceInfo {
    /// The kind.
    pub kind: SourceKind,
    /// The URL as given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The URL that answered, after redirects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub final_url: Option<String>,
    /// Media type that decided how the bytes were read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Character encoding that the bytes were decoded with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub charset: Option<String>,
    /// What decided the character encoding: `bom`, `header`, `meta`, `xml`, `detected`, `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub charset_from: Option<String>,
    /// Bytes read, after decompression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// SHA-256 of those bytes, hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

impl SourceInfo {
    /// Returns a description that says nothing but the kind.
    #[must_use]
    pub fn new(kind: SourceKind) -> Self {
        Self {
            kind,
            url: None,
            final_url: None,
            content_type: None,
            charset: None,
            charset_from: None,
            size_bytes: None,
            sha256: None,
        }
    }
}
