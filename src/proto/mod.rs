//! Conversations as pure machines: one `Input` in, one `Action` out.
//!
//! Nothing here waits, reads a clock or opens anything; drivers in `inbound` and `outbound` do that.

pub mod dns;
pub mod smtp;
pub mod x509;
