//! X.509 certificates (RFC 5280) as far as a server needs them for itself: write a self-signed one, read when one ends and
//! which key it holds (for TLSA records, RFC 6698). Verification of others is rustls-webpki's work, not ours.

pub mod certificate;
pub mod der;
pub mod handshake;
pub mod key;
pub mod reader;
