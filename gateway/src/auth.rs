//! Who sends a request, and how much one owner may ask for.

pub mod api_keys;
pub(crate) mod caller;
pub(crate) mod limits;
