//! SMTP (RFC 5321) without sockets.
//!
//! `server` is the receiving side as a machine, `dot` reads and writes message data, the rest are their words. Reading order: reply, command, extension, parameters, dot, server, timeouts.

pub mod command;
pub mod dot;
pub mod extension;
pub mod parameters;
pub mod reply;
pub mod server;
pub mod timeouts;
