//! Description of the API: the OpenAPI document and the reference page.

pub(crate) mod openapi;
pub(crate) mod reference_page;
