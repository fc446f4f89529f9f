//! The process and its machine: privileges, sandbox, signals, the supervisor, files and memory. Linux only.
//!
//! Start order (`tests/host_sandbox.rs` plays it): listeners bound → `notify` → `privileges::drop_to` →
//! `sandbox::landlock` → `sandbox::seccomp` → threads, `signals`.

pub mod addresses;
pub mod files;
pub mod memory;
pub mod notify;
pub mod privileges;
pub mod sandbox;
pub mod signals;
pub mod syscalls;
pub mod users;
