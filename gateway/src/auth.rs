//! Who sends a request, and how much one owner may ask for.

pub(crate) mod caller;
pub mod keys;
pub(crate) mod limits;
