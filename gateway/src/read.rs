//! Finds and follows jobs, and renders jobs and results.

pub(crate) mod csv;
pub(crate) mod find_job;
pub(crate) mod follow;
pub(crate) mod job_view;
pub(crate) mod result_format;
pub(crate) mod result_reader;
