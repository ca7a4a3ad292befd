//! Formats of a result, and their negotiation.
//!
//! All formats list words in the canonical order: most frequent first, then by code point.

use axum::BoxError;
use axum::body::{Body, Bytes};
use axum::http::HeaderMap;
use axum::http::header::ACCEPT;
use futures_util::{StreamExt, stream};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use tracing::{info, warn};
use wordmill_common::histogram::WordCount;

use crate::auth::api_keys::KeyValidity;
use crate::http::problem::{Code, Problem};
use crate::read::csv;
use crate::read::result_reader::Words;

/// Minimum size of a piece of the body, in bytes. Only the last one may be smaller.
const CHUNK_BYTES: usize = 32 << 10;
/// Error that ends the body after the client's key was revoked.
const REVOKED: &str = "API key revoked";

/// A format of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Format {
    /// One object with totals and histogram.
    Json,
    /// A table of words and counts, with a header line.
    Csv,
    /// One object for each word, one per line.
    Ndjson,
}

impl Format {
    /// Order of preference for clients that accept several formats equally.
    const ALL: [Self; 3] = [Self::Json, Self::Csv, Self::Ndjson];

    /// Returns the format that the client prefers, according to `Accept`.
    ///
    /// # Errors
    /// `not_acceptable` if the client accepts none.
    pub(crate) fn negotiate(headers: &HeaderMap) -> Result<Self, Problem> {
        let fields = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let ranges: Vec<Range<'_>> =
            fields.flat_map(|field| field.split(',')).filter_map(Range::read).collect();
        if ranges.is_empty() {
            return Ok(Self::Json);
        }
        let quality = |format: &Self| format.quality(&ranges);
        // The order is reversed, because `max_by_key` returns the last of equal elements.
        let best = Self::ALL.into_iter().rev().max_by_key(quality);
        best.filter(|format| quality(format) > 0).ok_or_else(|| {
            let detail =
                "A result is available as application/json, text/csv or application/x-ndjson.";
            Problem::new(Code::NotAcceptable, detail)
        })
    }

    /// Returns the media type.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Csv => "text/csv; charset=utf-8; header=present",
            Self::Ndjson => "application/x-ndjson",
        }
    }

    /// Returns the client's preference for this format, in thousandths. The most specific media
    /// range applies.
    fn quality(self, ranges: &[Range<'_>]) -> u16 {
        let names: &[&str] = match self {
            Self::Json => &["application/json", "application/*", "*/*"],
            Self::Csv => &["text/csv", "text/*", "*/*"],
            Self::Ndjson => &["application/x-ndjson", "application/*", "*/*"],
        };
        let named = |name: &&str| ranges.iter().find(|range| range.name.eq_ignore_ascii_case(name));
        names.iter().find_map(named).map_or(0, |range| range.quality)
    }
}

/// A media range of `Accept`.
struct Range<'a> {
    name: &'a str,
    quality: u16,
}

impl<'a> Range<'a> {
    fn read(item: &'a str) -> Option<Self> {
        let mut parts = item.split(';').map(str::trim);
        let name = parts.next().filter(|name| !name.is_empty())?;
        let weight =
            parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        let quality = weight.map_or(Some(1000), parse_quality).unwrap_or(1000);
        Some(Self { name, quality })
    }
}

/// Parses a quality value and returns it in thousandths. For example, `0.8` becomes 800.
fn parse_quality(text: &str) -> Option<u16> {
    let (integer, part) = text.split_once('.').unwrap_or((text, ""));
    let part: u16 = format!("{part:0<3}").get(..3)?.parse().ok()?;
    let integer: u16 = integer.parse().ok()?;
    integer.checked_mul(1000)?.checked_add(part).map(|quality| quality.min(1000))
}

/// JSON around a histogram. CSV and NDJSON have no frame.
#[derive(Debug)]
pub(crate) struct Frame<'a> {
    /// Text before the object.
    pub(crate) before: &'a str,
    /// The object without its last member, the histogram.
    pub(crate) head: &'a str,
    /// Text after the object.
    pub(crate) after: &'a str,
}

impl<'a> Frame<'a> {
    /// Returns the frame of a histogram in the object `head`, with nothing around the object.
    pub(crate) fn of(head: &'a str) -> Self {
        Self { before: "", head, after: "" }
    }
}

/// Serializes a histogram piece by piece.
#[derive(Debug)]
struct HistogramWriter {
    format: Format,
    is_first: bool,
    written: Vec<u8>,
    /// Text after the last word.
    end: String,
}

impl HistogramWriter {
    fn begin(format: Format, frame: &Frame<'_>) -> Self {
        let mut end = String::new();
        let written = match format {
            Format::Json => {
                let mut open = format!("{}{}", frame.before, frame.head);
                // Removes the closing brace, because the histogram becomes the last member.
                open.pop();
                open.push_str(if open.ends_with('{') { "" } else { "," });
                open.push_str("\"word_count\":{");
                end = format!("}}}}{}", frame.after);
                open.into_bytes()
            }
            Format::Csv => b"word,count\r\n".to_vec(),
            Format::Ndjson => Vec::new(),
        };
        Self { format, is_first: true, written, end }
    }

    fn write_word(&mut self, entry: &WordCount) {
        let out = &mut self.written;
        let word = &entry.word;
        let count = entry.count;
        match self.format {
            Format::Json => {
                let comma = if self.is_first { "" } else { "," };
                out.extend(format!("{comma}{}:{count}", Value::from(word.as_str())).into_bytes());
            }
            Format::Csv => {
                out.extend(format!("{},{count}\r\n", csv::quote_field(word)).into_bytes());
            }
            Format::Ndjson => {
                let word = Value::from(word.as_str());
                out.extend(format!("{{\"word\":{word},\"count\":{count}}}\n").into_bytes());
            }
        }
        self.is_first = false;
    }

    fn finish(&mut self) {
        self.written.extend(self.end.as_bytes());
    }

    fn take(&mut self) -> Bytes {
        std::mem::take(&mut self.written).into()
    }
}

/// Returns a body that is serialized while it is sent. If the words cannot be read or the client's
/// key is revoked, the connection is closed, because the status was already sent.
pub(crate) fn body(
    format: Format,
    frame: &Frame<'_>,
    words: Words,
    key_validity: KeyValidity,
) -> Body {
    let begin = Some((HistogramWriter::begin(format, frame), words, key_validity));
    let pieces = stream::unfold(begin, |state| async {
        let (mut writer, mut words, key_validity) = state?;
        // Nothing is sent between two pieces, so one check per piece is enough.
        if !key_validity.is_valid() {
            info!("result download ended early: the API key was revoked");
            return Some((Err(REVOKED.into()), None));
        }
        // Let other tasks run: this loop would never yield if all words are available immediately.
        tokio::task::yield_now().await;
        while writer.written.len() < CHUNK_BYTES {
            match words.next().await {
                Ok(Some(entry)) => writer.write_word(&entry),
                Ok(None) => {
                    writer.finish();
                    return Some((Ok(writer.take()), None));
                }
                Err(error) => {
                    warn!(%error, "result download ended early: cannot read the words");
                    return Some((Err(BoxError::from(error)), None));
                }
            }
        }
        Some((Ok(writer.take()), Some((writer, words, key_validity))))
    });
    // The compression layer polls once more after the end.
    Body::from_stream(pieces.fuse())
}

#[cfg(test)]
mod tests {
    use wordmill_common::id::Owner;

    use super::*;
    use crate::auth::api_keys::Keys;

    fn accepted(values: &[&str]) -> Option<Format> {
        let headers = values.iter().map(|value| (ACCEPT, value.parse().unwrap())).collect();
        Format::negotiate(&headers).ok()
    }

    #[test]
    fn the_preferred_format_is_chosen() {
        use Format::{Csv, Json, Ndjson};
        for (values, expected) in [
            (&[][..], Some(Json)),
            (&[""], Some(Json)),
            (&["*/*"], Some(Json)),
            (&["text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"], Some(Json)),
            (&["text/csv"], Some(Csv)),
            (&["TEXT/CSV; header=present"], Some(Csv)),
            (&["text/*"], Some(Csv)),
            (&["application/x-ndjson"], Some(Ndjson)),
            (&["application/*"], Some(Json)),
            (&["application/json;q=0.5, text/csv;q=0.75"], Some(Csv)),
            (&["text/csv", "application/json"], Some(Json)),
            (&["application/json;q=0, */*;q=0.1"], Some(Csv)),
            (&["text/html"], None),
            (&["*/*;q=0"], None),
            (&["text/csv;q=0.000"], None),
        ] {
            assert_eq!(accepted(values), expected, "{values:?}");
        }
    }

    async fn whole(format: Format, head: &str, words: Vec<WordCount>) -> String {
        framed(format, &Frame::of(head), words).await
    }

    async fn framed(format: Format, frame: &Frame<'_>, words: Vec<WordCount>) -> String {
        let key_validity = Keys(None).key_validity(&Owner::public(), None);
        let body = body(format, frame, Words::of(words), key_validity);
        String::from_utf8(axum::body::to_bytes(body, usize::MAX).await.unwrap().into()).unwrap()
    }

    #[tokio::test]
    async fn every_format_has_the_same_words_in_the_same_order() {
        let word = |word: &str, count| WordCount { word: word.to_owned(), count };
        let words = vec![word("\"q\"", 3), word("b", 2), word("a", 1)];
        let head = r#"{"job_id":"x"}"#;
        let json = r#"{"job_id":"x","word_count":{"\"q\"":3,"b":2,"a":1}}"#;
        assert_eq!(whole(Format::Json, head, words.clone()).await, json);
        let frame = Frame { before: "{\"data\":", head, after: ",\"success\":true}" };
        let enclosed = format!("{{\"data\":{json},\"success\":true}}");
        assert_eq!(framed(Format::Json, &frame, words.clone()).await, enclosed);
        let csv = "word,count\r\n\"\"\"q\"\"\",3\r\nb,2\r\na,1\r\n";
        assert_eq!(whole(Format::Csv, head, words.clone()).await, csv);
        let lines = "{\"word\":\"\\\"q\\\"\",\"count\":3}\n{\"word\":\"b\",\"count\":2}\n{\"word\":\"a\",\"count\":1}\n";
        assert_eq!(whole(Format::Ndjson, head, words).await, lines);

        assert_eq!(whole(Format::Json, "{}", Vec::new()).await, r#"{"word_count":{}}"#);
        let nested = whole(Format::Json, r#"{"source":{"a":{}}}"#, Vec::new()).await;
        assert_eq!(nested, r#"{"source":{"a":{}},"word_count":{}}"#);
        assert_eq!(whole(Format::Csv, "{}", Vec::new()).await, "word,count\r\n");
        assert_eq!(whole(Format::Ndjson, "{}", Vec::new()).await, "");
    }
}
