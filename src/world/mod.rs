//! The small internet of localserve: what a mail server meets outside, played in the same process on loopback.
//!
//! A DNS server that looks like a recursive resolver (`dns`) before a `tree` of zones, signed (`sign`) below a trust anchor
//! that is made at each start: our two domains (`names`), and some that go wrong in ways worth trying. Compiled with the
//! feature `localserve` only; the integration tests use the same one.
//! Not yet: hosts that receive mail other than ours.

pub mod dns;
pub mod names;
pub mod sign;
pub mod tree;
pub mod zone;
