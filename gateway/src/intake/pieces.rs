//! Pieces of an uploaded document, from a plain body or from a form.

use std::time::Duration;

use axum::body::{Body, Bytes};
use http_body_util::BodyExt;

use crate::http::problem::{Code, Problem};

/// Pieces of a document, in the order of their arrival.
pub(crate) trait Pieces {
    /// Waits for the next piece; `None` after the last one.
    async fn next(&mut self) -> Result<Option<Bytes>, Problem>;
}

/// A request body that is the document itself.
pub(crate) struct PlainBody<'a> {
    pub(crate) body: &'a mut Body,
    pub(crate) stall_timeout: Duration,
}

impl Pieces for PlainBody<'_> {
    async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        loop {
            match wait_for_piece(self.stall_timeout, self.body.frame()).await? {
                None => return Ok(None),
                Some(Err(_)) => return Err(incomplete_body()),
                // Trailers do not belong to the document.
                Some(Ok(frame)) => {
                    if let Ok(piece) = frame.into_data() {
                        return Ok(Some(piece));
                    }
                }
            }
        }
    }
}

/// Waits for data from the client, with a timeout.
pub(crate) async fn wait_for_piece<T>(
    limit: Duration,
    arriving: impl Future<Output = T>,
) -> Result<T, Problem> {
    tokio::time::timeout(limit, arriving).await.map_err(|_| {
        let seconds = limit.as_secs_f64();
        let detail = format!("No data arrived for {seconds} s (WORDMILL_UPLOAD_STALL_TIMEOUT).");
        Problem::new(Code::RequestTimeout, detail)
    })
}

pub(crate) fn incomplete_body() -> Problem {
    Problem::new(Code::IncompleteBody, "The body is incomplete. Nothing was queued.")
}
