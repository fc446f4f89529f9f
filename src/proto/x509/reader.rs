//! Reads from a certificate what its owner must know: from when to when it is valid, its key, its names.
//!
//! A bounded walk forward through the DER; nothing is verified here (rustls does that), and nothing is allocated but names.

use crate::mail::date::UnixTime;
use crate::proto::x509::certificate::SUBJECT_ALT_NAME;
use crate::proto::x509::der;
use crate::proto::x509::der::DerFault;
use crate::proto::x509::der::Element;
use crate::proto::x509::der::Walk;

/// Largest certificate looked at: those of CAs for hundreds of names stay under 32 KiB.
const MAX_CERTIFICATE: usize = 64 * 1024;
/// Names taken from one certificate: Let's Encrypt gives at most 100.
const MAX_NAMES: usize = 100;

/// When a certificate is valid, both ends included (RFC 5280 section 4.1.2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    pub not_before: UnixTime,
    pub not_after: UnixTime,
}

/// The parts of TBSCertificate that matter here.
struct Body<'a> {
    validity: Element<'a>,
    spki: Element<'a>,
    extensions: Option<Element<'a>>,
}

/// From when to when.
pub fn validity(certificate: &[u8]) -> Result<Validity, DerFault> {
    let mut walk = Walk::new(body(certificate)?.validity.content);
    Ok(Validity { not_before: der::read_time(walk.any()?)?, not_after: der::read_time(walk.any()?)? })
}

/// The SubjectPublicKeyInfo as it stands, for `key::spki_sha256`.
pub fn spki(certificate: &[u8]) -> Result<&[u8], DerFault> {
    Ok(body(certificate)?.spki.whole)
}

/// The dNSNames of subjectAltName as they stand (also wildcards); no other field names a server (RFC 9525 section 2).
pub fn names(certificate: &[u8]) -> Result<Vec<String>, DerFault> {
    let Some(extensions) = body(certificate)?.extensions else { return Ok(Vec::new()) };
    let mut walk = Walk::new(Walk::new(extensions.content).expect(der::SEQUENCE)?.content);
    while !walk.is_at_end() {
        let mut extension = Walk::new(walk.expect(der::SEQUENCE)?.content);
        let id = extension.expect(der::OBJECT_IDENTIFIER)?;
        extension.optional(der::BOOLEAN)?;
        let value = extension.expect(der::OCTET_STRING)?;
        if id.content == SUBJECT_ALT_NAME {
            return dns_names(Walk::new(Walk::new(value.content).expect(der::SEQUENCE)?.content));
        }
    }
    Ok(Vec::new())
}

fn dns_names(mut walk: Walk<'_>) -> Result<Vec<String>, DerFault> {
    let mut names = Vec::new();
    while !walk.is_at_end() {
        let name = walk.any()?;
        if name.tag != der::context(2) {
            continue;
        }
        if names.len() == MAX_NAMES {
            return Err(DerFault::TooLarge);
        }
        let text = std::str::from_utf8(name.content).ok().filter(|text| text.is_ascii()).ok_or(DerFault::Unexpected)?;
        names.push(text.to_owned());
    }
    Ok(names)
}

fn body(certificate: &[u8]) -> Result<Body<'_>, DerFault> {
    if certificate.len() > MAX_CERTIFICATE {
        return Err(DerFault::TooLarge);
    }
    let mut outermost = Walk::new(certificate);
    let mut signed = Walk::new(outermost.expect(der::SEQUENCE)?.content);
    if !outermost.is_at_end() {
        return Err(DerFault::Unexpected);
    }
    let mut fields = Walk::new(signed.expect(der::SEQUENCE)?.content);
    fields.optional(der::context_constructed(0))?;
    fields.expect(der::INTEGER)?;
    let _signature_algorithm = fields.expect(der::SEQUENCE)?;
    let _issuer = fields.expect(der::SEQUENCE)?;
    let validity = fields.expect(der::SEQUENCE)?;
    let _subject = fields.expect(der::SEQUENCE)?;
    let spki = fields.expect(der::SEQUENCE)?;
    let _issuer_id = fields.optional(der::context(1))?;
    let _subject_id = fields.optional(der::context(2))?;
    let extensions = fields.optional(der::context_constructed(3))?;
    Ok(Body { validity, spki, extensions })
}
