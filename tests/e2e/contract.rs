//! The HTTP contract as a whole: every route, every code, every document about them.

mod bad_requests;
mod description;
mod error_codes;
mod older_contract;
mod route_table;
