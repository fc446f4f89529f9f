//! The one configuration file, `pipit.toml`: text in → settings, faults and edited text out. Pure: nothing here opens a
//! file or reads a clock.
//!
//! ```text
//! text ─▶ file (what was written, with lines) ─▶ value (what each key means) ─▶ check (blocks, crosswise) ─▶ Settings
//!   │                     keys: the one table ──────────┘
//!   ├─▶ edit      the same text with one thing changed, every other byte as it was
//!   └─▶ explain   what `pipit config show|explain|reference` print
//! ```

pub mod check;
mod cross;
pub mod diff;
pub mod edit;
pub mod explain;
pub mod fault;
pub mod file;
pub mod keys;
pub mod live;
pub mod recover;
pub mod settings;
pub mod template;
pub mod value;
