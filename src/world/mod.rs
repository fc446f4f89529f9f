//! The small internet of localserve: what a mail server meets outside, played in the same process on loopback.
//!
//! So far a DNS server that looks like a recursive resolver (`dns`) with the names of `zone`: our two domains, and some that
//! go wrong in ways worth trying. Compiled with the feature `localserve` only; the integration tests use the same one.
//! Not yet: signatures over the zone, and hosts that receive mail other than ours.

pub mod dns;
pub mod zone;
