//! The HTTP contract: all routes, all codes, and their documentation.

mod bad_requests;
mod description;
mod error_codes;
mod older_contract;
mod route_table;
