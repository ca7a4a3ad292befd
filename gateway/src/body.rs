//! Request bodies: JSON, bounded in size and time.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use http_body_util::LengthLimitError;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::error::Category;

use crate::problem::{Code, Problem};

/// Longest time that a JSON body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(15);

/// Something that only an object of JSON is. A `struct` can be read from a list, too, which nobody means.
#[derive(Debug)]
pub(crate) struct Members<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Members<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Object<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }

        deserializer.deserialize_map(Object(PhantomData)).map(Self)
    }
}

/// Reads a JSON object of at most `size_max` bytes.
///
/// # Errors
/// A problem for a wrong content type, a body that is too large, too slow, cut off, not JSON, or
/// JSON of another shape.
pub(crate) async fn json<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: Body,
    size_max: usize,
) -> Result<T, Problem> {
    if !is_json(headers) {
        let detail = "Send the job as JSON, with Content-Type: application/json.";
        return Err(Problem::new(Code::UnsupportedMediaType, detail));
    }
    parse(&read(body, size_max).await?)
}

/// Reads a JSON object.
///
/// # Errors
/// `invalid_json`, and `invalid_request` for JSON of another shape.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let read: serde_json::Result<Members<T>> = serde_json::from_slice(bytes);
    read.map(|Members(read)| read).map_err(|error| match error.classify() {
        Category::Data => Problem::new(Code::InvalidRequest, format!("{error}.")),
        Category::Io | Category::Syntax | Category::Eof => {
            Problem::new(Code::InvalidJson, format!("{error}."))
        }
    })
}

/// Tells whether the headers announce JSON.
pub(crate) fn is_json(headers: &HeaderMap) -> bool {
    let essence = essence(headers);
    essence == "application/json"
        || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// Returns the content type without its parameters, in lower case; empty if there is none.
pub(crate) fn essence(headers: &HeaderMap) -> String {
    let announced = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = announced.and_then(|text| text.split(';').next()).unwrap_or_default();
    essence.trim().to_ascii_lowercase()
}

/// Reads a whole body of at most `size_max` bytes.
///
/// # Errors
/// A problem for a body that is too large, too slow or cut off.
pub(crate) async fn read(body: Body, size_max: usize) -> Result<Bytes, Problem> {
    let reading = tokio::time::timeout(BODY_TIMEOUT, axum::body::to_bytes(body, size_max));
    match reading.await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if is_too_long(&error) => Err(Problem::new(
            Code::InputTooLarge,
            format!("The body is larger than {size_max} bytes (WORDMILL_JSON_SIZE_MAX)."),
        )),
        Ok(Err(_)) => Err(Problem::new(Code::InvalidJson, "The body ended before its time.")),
        Err(_) => {
            let detail = format!("The body did not arrive within {} s.", BODY_TIMEOUT.as_secs());
            Err(Problem::new(Code::RequestTimeout, detail))
        }
    }
}

fn is_too_long(error: &axum::Error) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if error.is::<LengthLimitError>() {
            return true;
        }
        cause = error.source();
    }
    false
}
