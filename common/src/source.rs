//! Source of a job, as sent to the worker and as described in the record.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::batch::Batch;
use crate::open_name::OpenName;

/// Source of a job, with everything that a worker needs to read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Source {
    /// A page to fetch.
    Url {
        /// Absolute `http` or `https` URL, at most 8192 bytes as the client sent it.
        url: String,
    },
    /// A text that the message contains.
    Text {
        /// The text itself.
        text: String,
    },
    /// A document that the client uploaded.
    Document(Document),
    /// The members of a batch. Their results are added up.
    Batch(Batch),
}

/// A document that the client uploaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// Bytes of the document as uploaded, possibly compressed, or the object that contains them.
    pub content: Content,
    /// Media type that the client sent, or that the gateway guessed from the name of the file.
    /// Absent if neither is known, or if it is longer than 255 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Compression of the bytes, as in the HTTP header `Content-Encoding`; absent if they are not
    /// compressed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_encoding: Option<String>,
    /// Name of the uploaded file, without control characters and at most 255 bytes long. Only the
    /// file of a form has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_name: Option<String>,
    /// Size of the uploaded bytes. The gateway limits it by `WORDMILL_DOCUMENT_SIZE_MAX`.
    pub size_bytes: u64,
    /// SHA-256 of the uploaded bytes, in hexadecimal.
    pub sha256: String,
}

/// Bytes of a document, or the object that contains them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// The bytes of a small document, as base64 in JSON.
    #[serde(serialize_with = "write_base64", deserialize_with = "read_base64")]
    Inline(Vec<u8>),
    /// Name of an object in the bucket `documents`.
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
    /// Returns the kind of the source.
    #[must_use]
    pub fn kind(&self) -> SourceKind {
        match self {
            Self::Url { .. } => SourceKind::Url,
            Self::Text { .. } => SourceKind::Text,
            Self::Document(_) => SourceKind::Document,
            Self::Batch(_) => SourceKind::Batch,
        }
    }

    /// Returns the name of the object that contains the document, if there is one.
    #[must_use]
    pub fn object(&self) -> Option<&str> {
        match self {
            Self::Document(Document { content: Content::Object(name), .. }) => Some(name),
            Self::Url { .. } | Self::Text { .. } | Self::Document(_) | Self::Batch(_) => None,
        }
    }

    /// Replaces the name of the object that contains the document. The other object must contain
    /// the same bytes. Does nothing for a source without an object.
    pub fn replace_object(&mut self, object: &str) {
        if let Self::Document(Document { content: Content::Object(name), .. }) = self {
            object.clone_into(name);
        }
    }

    /// Returns the number of bytes of the source that the message contains.
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

    /// Returns the description for the record: everything except the text or the document itself.
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

/// Kind of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SourceKind {
    /// A page to fetch.
    Url,
    /// A text that was sent with the job.
    Text,
    /// A document that the client uploaded.
    Document,
    /// The jobs of a batch.
    Batch,
}

impl SourceKind {
    /// Returns the name that records and metrics use.
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

/// Description of a source: the properties that the client sent, and those that a successful
/// attempt detected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SourceInfo {
    /// Kind of the source.
    pub kind: OpenName<SourceKind>,
    /// URL that the client sent, in normalized form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// URL of the page after redirects, set by a successful attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub final_url: Option<String>,
    /// Name of the uploaded file, if the client sent one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_name: Option<String>,
    /// Compression of the uploaded document; absent if it is not compressed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_encoding: Option<String>,
    /// Media type. Before the count: as the client sent it. After it: the type that determined how
    /// the document was parsed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Character encoding with which the bytes were decoded, for example `utf-8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub charset: Option<String>,
    /// Origin of the character encoding: `bom`, `header`, `meta`, `xml`, `detected` or `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub charset_from: Option<String>,
    /// Extractor that produced the text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extractor: Option<Extractor>,
    /// Number of bytes that were counted, after decompression. Before the count: number of bytes
    /// that the client sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// SHA-256 of these bytes, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Members, if the job is a batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<Batch>,
}

/// Extractor that turned the bytes of a document into the counted text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Extractor {
    /// Format in which the document was parsed: `html`, `xhtml` or `text`.
    pub name: String,
    /// Version of the extractor. It increases whenever the extracted text of some document may
    /// change.
    pub version: u32,
}

impl SourceInfo {
    /// Returns a description with the kind only.
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
    fn source_info_has_stable_json() {
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
    fn documents_have_stable_json() {
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
    fn batches_have_stable_json() {
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
    fn the_description_does_not_depend_on_where_a_document_is_stored() {
        let inline = document(Content::Inline(vec![1, 2, 3])).describe();
        assert_eq!(inline, document(Content::Object("a.b".to_owned())).describe());
    }
}
