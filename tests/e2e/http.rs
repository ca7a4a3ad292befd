//! The gateway as an HTTP server: browsers, TLS, response headers and hostile clients.

mod cors;
mod cross_site;
mod hostile_clients;
mod response_headers;
mod tls;
