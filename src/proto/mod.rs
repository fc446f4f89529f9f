//! Conversations as pure machines: one `Input` in, one `Action` out. Nothing here waits, reads a clock or opens anything.

pub mod x509;
