//! The description of the API, for programs and for people.

pub(crate) mod openapi;
pub(crate) mod reference_page;
