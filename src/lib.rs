//! Pipit, a mail server for the home. Modules stand in reading order; each imports only from those above it
//! (`src/README.md` has the map, `tests/layers.rs` enforces it).

pub mod admin;
pub mod app;
pub mod cli;
pub mod config;
pub mod control;
pub mod host;
pub mod inbound;
pub mod intake;
pub mod mail;
pub mod metrics;
pub mod net;
pub mod outbound;
pub mod proto;
pub mod reach;
pub mod store;
#[cfg(feature = "localserve")]
pub mod world;
