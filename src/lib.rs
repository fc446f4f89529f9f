//! Pipit, a mail server for the home. Modules stand in reading order; each imports only from those above it
//! (`src/README.md` has the map, `tests/layers.rs` enforces it).

pub mod mail;
pub mod store;
