//! DNSSEC as pure code (RFC 4033 to 4035, 5155, 6840): what a set of answers proves, starting from trust anchors.
//!
//! Read `walk` first: it asks questions, receives answers, pauses when it has computed for a while, and ends with a verdict.
//! `chain` (its other half) goes from an anchor to a zone: `anchor`, `ds`, `dnskey`. `rrset` puts records together, `rrsig`
//! checks a signature over their `canonical` form; `nsec` and `nsec3` say what does not exist, and `denial` what follows from
//! that. `budget` bounds the work of a whole lookup. No clock: time is a parameter, compared as RFC 1982 says. Nothing is
//! cached here; zones that were proved are handed out for that, and handed in again as `walk::Input::Known`.

pub mod anchor;
pub mod bitmap;
pub mod budget;
pub mod canonical;
pub mod chain;
pub mod denial;
pub mod dnskey;
pub mod ds;
pub mod nsec;
pub mod nsec3;
pub mod presentation;
pub mod rollover;
pub mod rrset;
pub mod rrsig;
pub mod walk;

use crate::mail::date::UnixTime;
use crate::proto::dns::lookup::InfoCode;

/// Codes that a validator gives (RFC 8914 section 4, and 27 of the IANA registry).
impl InfoCode {
    pub const UNSUPPORTED_ALGORITHM: InfoCode = InfoCode(1);
    pub const UNSUPPORTED_DIGEST: InfoCode = InfoCode(2);
    pub const SIGNATURE_EXPIRED: InfoCode = InfoCode(7);
    pub const SIGNATURE_NOT_YET_VALID: InfoCode = InfoCode(8);
    pub const DNSKEY_MISSING: InfoCode = InfoCode(9);
    pub const RRSIGS_MISSING: InfoCode = InfoCode(10);
    pub const NO_ZONE_KEY_BIT: InfoCode = InfoCode(11);
    pub const NSEC_MISSING: InfoCode = InfoCode(12);
    pub const NOT_READY: InfoCode = InfoCode(14);
    pub const EXPIRED_BEFORE_VALID: InfoCode = InfoCode(25);
    pub const UNSUPPORTED_ITERATIONS: InfoCode = InfoCode(27);
}

/// The time of a validation, and how far it can be believed (`resolver.md`, proving 12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct When {
    pub now: UnixTime,
    pub clock: ClockTrust,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockTrust {
    Confirmed,
    /// Not set yet, but not before the newest time that is known: what fails by time only is not called bogus.
    Plausible,
}

/// Whether signatures made with SHA-1 (algorithms 5 and 7) count; RFC 9905 says no.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sha1 {
    #[default]
    Refused,
    Accepted,
}
