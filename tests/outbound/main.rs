//! The sending service from end to end in this process: its own store, a table instead of the DNS, peers on loopback that
//! follow a script, and a clock that the tests move.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod damage;
mod delivery;
mod notices;
mod peer;
mod retries;
mod scene;
mod seven_bit;
mod trouble;
