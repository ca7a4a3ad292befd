//! Authentication and rights: API keys and owners at the gateway, roles and accounts at the broker.

mod api_keys;
mod broker_accounts;
mod broker_replies;
mod broker_rights;
mod broker_roles;
mod owners;
