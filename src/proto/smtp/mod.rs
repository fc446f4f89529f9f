//! SMTP (RFC 5321) without sockets.
//!
//! `server` is the receiving side as a machine, `client` the sending side, `dot` reads and writes message data, `sasl` logs
//! people in, the rest are their words. Reading order: reply, command, extension, parameters, dot, sasl, server, timeouts,
//! `peer_reply`, client.

pub mod client;
pub mod command;
pub mod dot;
pub mod extension;
pub mod parameters;
pub mod peer_reply;
pub mod reply;
pub mod sasl;
pub mod server;
pub mod timeouts;
