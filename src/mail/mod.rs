//! Words of mail: what addresses, paths, envelopes, status codes, header fields and dates *are*. No IO, no time of its own.

pub mod address;
pub mod address_list;
pub mod addresses;
pub mod authres;
pub mod date;
pub mod digest;
pub mod domain;
pub mod dsn;
pub mod enhanced;
pub mod envelope;
pub mod header;
pub mod network;
pub mod notify;
pub mod path;
pub mod received;
pub mod recode;
pub mod words;
