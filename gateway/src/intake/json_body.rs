//! Reads JSON bodies, with limits on size, time and shared memory.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use http_body_util::BodyExt;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::error::Category;

use crate::enqueue::in_flight_budget::{BodyReservation, InFlightBudget};
use crate::http::problem::{Code, Problem};

/// Time limit for receiving a JSON body.
const BODY_TIMEOUT: Duration = Duration::from_secs(15);

/// Maximum number of bytes of a refused body that are read and discarded. A client that is still
/// sending would otherwise see a broken connection and never read the response.
const DRAIN_BYTES_MAX: usize = 16 << 20;
/// Maximum time for which the rest of a refused body is read.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(1);
/// Size of the blocks of a body after the first one, in bytes.
const BLOCK_BYTES: usize = 64 << 10;

/// Wrapper that accepts JSON objects only. Serde would also deserialize a `struct` from an array.
#[derive(Debug)]
pub(crate) struct JsonObject<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for JsonObject<T> {
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

/// Reads a JSON object of at most `size_max` bytes. Returns it with the reservation of its memory.
///
/// # Errors
/// `unsupported_media_type`, `input_too_large`, `request_timeout`, `overloaded`, `invalid_json`
/// (including an incomplete body), and `invalid_request` if the JSON has the wrong shape.
pub(crate) async fn read_object<T: DeserializeOwned>(
    budget: &InFlightBudget,
    headers: &HeaderMap,
    body: Body,
    size_max: usize,
) -> Result<(T, BodyReservation), Problem> {
    if !is_json(headers) {
        let detail = "Send the job as JSON, with Content-Type: application/json.";
        return Err(Problem::new(Code::UnsupportedMediaType, detail));
    }
    let (bytes, reservation) = read_body(budget, body, size_max).await?;
    Ok((parse_object(&bytes)?, reservation))
}

/// Parses a JSON object.
///
/// # Errors
/// `invalid_json`, and `invalid_request` if the JSON has the wrong shape.
pub(crate) fn parse_object<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let read: serde_json::Result<JsonObject<T>> = serde_json::from_slice(bytes);
    read.map(|JsonObject(read)| read).map_err(|error| match error.classify() {
        Category::Data => Problem::new(Code::InvalidRequest, format!("{error}.")),
        Category::Io | Category::Syntax | Category::Eof => {
            Problem::new(Code::InvalidJson, format!("{error}."))
        }
    })
}

/// Returns whether the content type is JSON.
pub(crate) fn is_json(headers: &HeaderMap) -> bool {
    let essence = essence(headers);
    essence == "application/json"
        || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// Returns the content type in lower case and without its parameters; empty if it is missing.
pub(crate) fn essence(headers: &HeaderMap) -> String {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = content_type.and_then(|text| text.split(';').next()).unwrap_or_default();
    essence.trim().to_ascii_lowercase()
}

/// Reads a body of at most `size_max` bytes. Memory is reserved as the body arrives, and released
/// when the reservation is dropped.
///
/// # Errors
/// `input_too_large`, `request_timeout`, `invalid_json` if the body is incomplete, and
/// `overloaded`.
async fn read_body(
    budget: &InFlightBudget,
    mut body: Body,
    size_max: usize,
) -> Result<(Bytes, BodyReservation), Problem> {
    let mut reservation = budget.reserve_body();
    let collecting = collect(&mut body, &mut reservation, size_max);
    let read = tokio::time::timeout(BODY_TIMEOUT, collecting).await.unwrap_or_else(|_| {
        let detail = format!("The body did not arrive within {} s.", BODY_TIMEOUT.as_secs());
        Err(Problem::new(Code::RequestTimeout, detail))
    });
    match read {
        Ok(bytes) => Ok((bytes, reservation)),
        Err(problem) => {
            // Release the memory first, because reading the rest may take a second.
            drop(reservation);
            if problem.has_code(Code::InputTooLarge) || problem.has_code(Code::Overloaded) {
                drain(body).await;
            }
            Err(problem)
        }
    }
}

/// Reads and discards the rest of a refused body for a moment, so that a client that is still
/// sending can read the response.
pub(crate) async fn drain(mut body: Body) {
    let draining = async {
        let mut left = DRAIN_BYTES_MAX;
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                return;
            }
        }
    };
    // A client that sends more than this may not get the response.
    let _ = tokio::time::timeout(DRAIN_TIME_MAX, draining).await;
}

async fn collect(
    body: &mut Body,
    reservation: &mut BodyReservation,
    size_max: usize,
) -> Result<Bytes, Problem> {
    let mut blocks = Blocks::default();
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|_| Problem::new(Code::InvalidJson, "The body is incomplete."))?;
        // Ignore trailers.
        let Ok(data) = frame.into_data() else { continue };
        let length = blocks.length.saturating_add(data.len());
        if length > size_max {
            let detail =
                format!("The body is larger than {size_max} bytes (WORDMILL_JSON_SIZE_MAX).");
            return Err(Problem::new(Code::InputTooLarge, detail));
        }
        reservation.resize(length)?;
        blocks.push(&data);
    }
    Ok(blocks.join())
}

/// Buffer of a body: one block of the size of the first frame, then blocks of `BLOCK_BYTES`.
///
/// The allocator reuses the blocks of a refused body for the next one, whereas it keeps the pages
/// of a large buffer for a while.
#[derive(Default)]
struct Blocks {
    blocks: Vec<Vec<u8>>,
    length: usize,
}

impl Blocks {
    fn push(&mut self, mut data: &[u8]) {
        self.length = self.length.saturating_add(data.len());
        while !data.is_empty() {
            match self.blocks.last_mut() {
                Some(last) if last.len() < last.capacity() => {
                    let free = last.capacity().saturating_sub(last.len());
                    let (fits, rest) = data.split_at(free.min(data.len()));
                    last.extend_from_slice(fits);
                    data = rest;
                }
                Some(_) => self.blocks.push(Vec::with_capacity(BLOCK_BYTES)),
                // Most bodies arrive in one frame.
                None => {
                    self.blocks.push(data.to_vec());
                    data = &[];
                }
            }
        }
    }

    fn join(mut self) -> Bytes {
        // A single block becomes the body without a copy.
        if let [_] = self.blocks.as_slice() {
            return self.blocks.pop().unwrap_or_default().into();
        }
        let mut joined = Vec::with_capacity(self.length);
        for block in self.blocks {
            joined.extend_from_slice(&block);
        }
        joined.into()
    }
}
