//! Many jobs in one request.

mod members;
mod refusals;
