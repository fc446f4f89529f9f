//! Fuzz targets on stable Rust: each is a function `target(&[u8])` that panics when a promise is broken.
//!
//! `engine::run` plays the seeds of the target and every file of `tests/fuzz/corpus/NAME/`, then its own mutations of
//! them for `PIPIT_FUZZ_SECONDS` (default 2; 20 in CI). It prints the seed; `PIPIT_FUZZ_SEED` repeats a run.
//! A new target is a module with `SEEDS` and `target`, and one test here. An input that failed once becomes a file of
//! the corpus.

mod addresses;
mod anchors;
mod configuration;
mod control;
mod dns;
mod engine;
mod headers;
mod oracle;
mod proofs;
mod sasl;
mod smtp_client;
mod smtp_session;
#[path = "../dnssec/world.rs"]
mod world;

#[test]
fn smtp_session() {
    engine::run("smtp_session", smtp_session::SEEDS, smtp_session::target);
}

#[test]
fn smtp_client() {
    engine::run("smtp_client", smtp_client::SEEDS, smtp_client::target);
}

#[test]
fn addresses() {
    engine::run("addresses", addresses::SEEDS, addresses::target);
}

#[test]
fn control() {
    engine::run("control", control::SEEDS, control::target);
}

#[test]
fn configuration() {
    engine::run("configuration", configuration::SEEDS, configuration::target);
}

#[test]
fn headers() {
    engine::run("headers", headers::SEEDS, headers::target);
}

#[test]
fn dns() {
    engine::run("dns", dns::SEEDS, dns::target);
}

#[test]
fn anchors() {
    engine::run("anchors", anchors::SEEDS, anchors::target);
}

#[test]
fn oracle() {
    engine::run("oracle", oracle::SEEDS, oracle::target);
}

#[test]
fn proofs() {
    engine::run("proofs", proofs::SEEDS, proofs::target);
}

#[test]
fn proofs_systematically() {
    proofs::systematically();
}

#[test]
fn sasl() {
    engine::run("sasl", sasl::SEEDS, sasl::target);
}
