//! Rows about the DNS: what is believed, and who is asked.

use nanoserde::DeJson;
use nanoserde::SerJson;

/// One trust anchor of `dns anchors`, or one zone that is never believed.
#[derive(Clone, Debug, Default, PartialEq, Eq, SerJson, DeJson)]
pub struct AnchorRow {
    pub zone: String,
    /// of the key; 0 of a negative anchor
    pub tag: u16,
    pub algorithm: u8,
    /// `valid`, `pending`, `missing` (believed all the same), `revoked`, `removed`; `fixed` from a file; `negative`, `ended`
    pub state: String,
    /// since when, RFC 3339; empty: from the beginning
    pub since: String,
    /// until when at least, RFC 3339; empty: without an end
    pub until: String,
    /// `built-in`, `learnt`, `file` or `configuration`
    pub source: String,
}

/// What `fitness` says of a resolver through which nothing can be proved.
pub const UNFIT: &str = "unfit";

/// One recursive resolver of `status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, SerJson, DeJson)]
pub struct UpstreamRow {
    pub address: String,
    /// `fit`, `unfit` or `unknown`: whether answers can be proved through it
    pub fitness: String,
    pub answers: bool,
    /// why it is unfit, or does not answer
    pub complaints: Vec<String>,
    /// what to do about one that is unfit
    pub advice: String,
}
