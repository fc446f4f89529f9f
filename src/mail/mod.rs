//! Words of mail: what addresses, paths, envelopes, status codes, header fields and dates *are*. No IO, no time of its own.

pub mod address;
pub mod date;
pub mod domain;
pub mod enhanced;
pub mod envelope;
pub mod network;
pub mod path;
