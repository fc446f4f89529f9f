//! Pipit, a mail server for the home. Modules stand in reading order; each imports only from those above it
//! (`src/README.md` has the map, `tests/layers.rs` enforces it).

pub mod mail;
pub mod proto;

pub mod config;

pub mod host;
pub mod net;
pub mod store;

pub mod cli;
