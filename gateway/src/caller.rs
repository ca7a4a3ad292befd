//! Who asks.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use wordmill_common::id::{JobId, JobKey, Owner};

/// Whoever sent a request. What they may see and touch belongs to `owner`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) owner: Owner,
}

impl Caller {
    /// Returns the key of this caller's job.
    pub(crate) fn job(&self, job_id: JobId) -> JobKey {
        JobKey { owner: self.owner.clone(), job_id }
    }
}

/// Without access keys everybody is the same caller.
impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(_: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self { owner: Owner::public() })
    }
}
