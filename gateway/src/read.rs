//! Finds jobs, follows them, and represents jobs and results.

pub(crate) mod csv;
pub(crate) mod format;
pub(crate) mod lookup;
pub(crate) mod view;
pub(crate) mod waiting;
pub(crate) mod words;
