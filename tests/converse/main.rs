//! The driver of the sending side against a scripted peer: over memory, over a real socket, and under TLS.
//!
//! `peer` plays the other end, `tls` the handshakes, `messages` how data goes and how it breaks. The keys in this folder
//! protect nothing; `rsa-v1.pem`, `p384-ca-odd-extension.pem` and `ed25519.pem` were made with `openssl x509 -req`.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod messages;
mod peer;
mod tls;
