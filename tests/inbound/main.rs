//! The receiving service from end to end in this process: no binary, no sockets, a clock that tests move.
//!
//! `Scene` is a service on a store in a directory of its own; `Client` speaks SMTP to it through a pipe in memory.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod clock;
mod isolation;
mod relay;
mod scarcity;
mod scene;
mod submission;
mod wishes;
