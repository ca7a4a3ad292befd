//! What a job counts, as it is asked for and as it is remembered.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::batch::Batch;
use crate::open_name::OpenName;

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
    /// A document that the client sent.
    Document(Document),
    /// What other jobs found, added up.
    Batch(Batch),
}

/// A document that the client sent, as it was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// The bytes, or where they are.
    pub content: Content,
    /// Media type that the client gave, or that the file's name suggests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// How the bytes are compressed, in the words of HTTP; absent if they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_encoding: Option<String>,
    /// Name of the file, if the client gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_name: Option<String>,
    /// Size in bytes.
    pub size_bytes: u64,
    /// SHA-256 in hexadecimal.
    pub sha256: String,
}

/// The bytes of a document, or where they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// The bytes, in base64 where they are text.
    #[serde(serialize_with = "write_base64", deserialize_with = "read_base64")]
    Inline(Vec<u8>),
    /// The name of an object in the bucket `documents`.
    Object(String),
}

fn write_base64<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&STANDARD.encode(bytes))
}

fn read_base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    STANDARD.decode(text).map_err(serde::de::Error::custom)
}

impl Source {
    /// Returns which kind of source it is.
    #[must_use]
    pub fn kind(&self) -> SourceKind {
        match self {
            Self::Url { .. } => SourceKind::Url,
            Self::Text { .. } => SourceKind::Text,
            Self::Document(_) => SourceKind::Document,
            Self::Batch(_) => SourceKind::Batch,
        }
    }

    /// Returns the name of the object that a document is kept in, if it is.
    #[must_use]
    pub fn object(&self) -> Option<&str> {
        match self {
            Self::Document(Document { content: Content::Object(name), .. }) => Some(name),
            Self::Url { .. } | Self::Text { .. } | Self::Document(_) | Self::Batch(_) => None,
        }
    }

    /// Points to another object of the same bytes, if it points to one.
    pub fn replace_object(&mut self, object: &str) {
        if let Self::Document(Document { content: Content::Object(name), .. }) = self {
            object.clone_into(name);
        }
    }

    /// Returns how many bytes of it travel in the message.
    #[must_use]
    pub fn inline_bytes(&self) -> usize {
        match self {
            Self::Url { url } => url.len(),
            Self::Text { text } => text.len(),
            Self::Document(Document { content: Content::Inline(bytes), .. }) => bytes.len(),
            Self::Document(Document { content: Content::Object(name), .. }) => name.len(),
            Self::Batch(_) => 0,
        }
    }

    /// Returns what the record says of it: everything but the text or the document itself.
    #[must_use]
    pub fn describe(&self) -> SourceInfo {
        let mut info = SourceInfo::new(self.kind());
        match self {
            Self::Url { url } => info.url = Some(url.clone()),
            Self::Text { text } => info.size_bytes = u64::try_from(text.len()).ok(),
            Self::Document(document) => {
                info.content_type.clone_from(&document.content_type);
                info.content_encoding.clone_from(&document.content_encoding);
                info.file_name.clone_from(&document.file_name);
                info.size_bytes = Some(document.size_bytes);
                info.sha256 = Some(document.sha256.clone());
            }
            Self::Batch(batch) => info.batch = Some(batch.clone()),
        }
        info
    }
}

/// The kinds of source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SourceKind {
    /// A page.
    Url,
    /// A text in the message.
    Text,
    /// A document that the client sent.
    Document,
    /// Other jobs.
    Batch,
}

impl SourceKind {
    /// Returns the name as it stands in records and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Url => "url",
            Self::Text => "text",
            Self::Document => "document",
            Self::Batch => "batch",
        }
    }
}

/// What the record says of the source: what was asked for, and what was found there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SourceInfo {
    /// The kind.
    pub kind: OpenName<SourceKind>,
    /// The URL as given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The URL that answered, after redirects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub final_url: Option<String>,
    /// Name of the file that a client sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_name: Option<String>,
    /// How a document that a client sent was compressed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_encoding: Option<String>,
    /// Media type that decided how the bytes were read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Character encoding that the bytes were decoded with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub charset: Option<String>,
    /// What decided the character encoding: `bom`, `header`, `meta`, `xml`, `detected`, `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub charset_from: Option<String>,
    /// What got the text out of the bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extractor: Option<Extractor>,
    /// Bytes read, after decompression. Of a document that waits to be counted: bytes sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// SHA-256 of those bytes, hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// The members of a batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<Batch>,
}

/// The way from the bytes of a document to the text that is counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Extractor {
    /// How the document was read: `html`, `xhtml` or `text`.
    pub name: String,
    /// Raised whenever the same bytes may give another text.
    pub version: u32,
}

impl SourceInfo {
    /// Returns a description that says nothing but the kind.
    #[must_use]
    pub fn new(kind: impl Into<OpenName<SourceKind>>) -> Self {
        Self {
            kind: kind.into(),
            url: None,
            final_url: None,
            file_name: None,
            content_encoding: None,
            content_type: None,
            charset: None,
            charset_from: None,
            extractor: None,
            size_bytes: None,
            sha256: None,
            batch: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_receipt_has_fixed_json_and_may_be_missing() {
        let mut info = SourceInfo::new(SourceKind::Url);
        assert_eq!(serde_json::from_value::<SourceInfo>(json!({"kind": "url"})).unwrap(), info);
        info.charset = Some("utf-8".to_owned());
        info.charset_from = Some("meta".to_owned());
        info.extractor = Some(Extractor { name: "html".to_owned(), version: 1 });
        info.size_bytes = Some(3);
        info.sha256 = Some("00".to_owned());
        let expected = json!({
            "kind": "url", "charset": "utf-8", "charset_from": "meta",
            "extractor": {"name": "html", "version": 1}, "size_bytes": 3, "sha256": "00",
        });
        assert_eq!(serde_json::to_value(&info).unwrap(), expected);
        assert_eq!(serde_json::from_value::<SourceInfo>(expected).unwrap(), info);
    }

    fn document(content: Content) -> Source {
        Source::Document(Document {
            content,
            content_type: Some("text/plain".to_owned()),
            content_encoding: None,
            file_name: None,
            size_bytes: 3,
            sha256: "00".to_owned(),
        })
    }

    #[test]
    fn documents_have_fixed_json() {
        let inline = document(Content::Inline(vec![0, 255, 16]));
        let expected = json!({
            "kind": "document", "content": {"inline": "AP8Q"}, "content_type": "text/plain",
            "size_bytes": 3, "sha256": "00",
        });
        assert_eq!(serde_json::to_value(&inline).unwrap(), expected);
        assert_eq!(serde_json::from_value::<Source>(expected).unwrap(), inline);
        let object = document(Content::Object("a.b".to_owned()));
        let json = serde_json::to_value(&object).unwrap();
        assert_eq!(json["content"], json!({"object": "a.b"}));
        assert_eq!(serde_json::from_value::<Source>(json).unwrap(), object);
    }

    #[test]
    fn batches_have_fixed_json() {
        let batch_id = "0198f0c2-0000-7000-8000-000000000000";
        let refused = [2, 7, 8].into_iter().collect();
        let batch = Batch { batch_id: batch_id.parse().unwrap(), lines: 9, refused };
        let source = Source::Batch(batch.clone());
        let expected = json!({
            "kind": "batch", "batch_id": batch_id, "lines": 9, "refused": [[2, 2], [7, 8]],
        });
        assert_eq!(serde_json::to_value(&source).unwrap(), expected);
        assert_eq!(serde_json::from_value::<Source>(expected).unwrap(), source);
        assert_eq!(source.describe().batch, Some(batch));
    }

    #[test]
    fn the_description_omits_the_place_of_the_bytes() {
        let inline = document(Content::Inline(vec![1, 2, 3])).describe();
        assert_eq!(inline, document(Content::Object("a.b".to_owned())).describe());
    }
}
