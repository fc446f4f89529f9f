//! DS records (RFC 4034 section 5): which of them can be used, and which keys they stand for.
//!
//! This is the only place where a zone may become insecure because of what its signer uses: a validated DS set of which no
//! record has an algorithm and a digest that are supported (RFC 4035 section 5.2). Digests 1, 2 and 4 are supported; SHA-1
//! is ignored as soon as a usable record has SHA-2 (RFC 4509 section 3).

use ring::digest;

use crate::proto::dns::dnssec::Sha1;
use crate::proto::dns::dnssec::dnskey::Algorithm;
use crate::proto::dns::dnssec::dnskey::Dnskey;
use crate::proto::dns::lookup::ExtendedError;
use crate::proto::dns::lookup::InfoCode;
use crate::proto::dns::name::Name;
use crate::proto::dns::rdata::Rdata;

const SHA1: u8 = 1;

/// One DS record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ds {
    pub tag: u16,
    pub algorithm: Algorithm,
    /// number of the registry "Digest Algorithms"
    pub digest_type: u8,
    pub digest: Box<[u8]>,
}

impl Ds {
    pub fn decode(rdata: &[u8]) -> Option<Ds> {
        let mut cursor = Rdata::alone(rdata).cursor();
        let (tag, algorithm, digest_type) = (cursor.u16()?, Algorithm(cursor.u8()?), cursor.u8()?);
        Some(Ds { tag, algorithm, digest_type, digest: cursor.rest().into() })
    }

    pub fn encode(&self) -> Vec<u8> {
        [&self.tag.to_be_bytes()[..], &[self.algorithm.0, self.digest_type], &self.digest].concat()
    }

    /// The record that stands for `key` of `zone`; `None` if the digest is not supported.
    pub fn of(zone: &Name, key: &Dnskey, digest_type: u8) -> Option<Ds> {
        let mut context = digest::Context::new(hash(digest_type)?);
        context.update(&zone.as_wire().to_ascii_lowercase());
        context.update(&key.encode());
        Some(Ds { tag: key.tag, algorithm: key.algorithm, digest_type, digest: context.finish().as_ref().into() })
    }

    /// Whether it may stand for `key`: what can be seen without computing the digest.
    pub fn may_stand_for(&self, key: &Dnskey) -> bool {
        self.tag == key.tag && self.algorithm == key.algorithm
    }

    /// Whether it stands for `key` of `zone` (RFC 4034 section 5.1.4).
    pub fn stands_for(&self, zone: &Name, key: &Dnskey) -> bool {
        self.may_stand_for(key) && Ds::of(zone, key, self.digest_type).is_some_and(|other| other == *self)
    }

    fn is_supported(&self, sha1: Sha1) -> bool {
        self.algorithm.is_supported(sha1) && hash(self.digest_type).is_some()
    }
}

fn hash(digest_type: u8) -> Option<&'static digest::Algorithm> {
    match digest_type {
        SHA1 => Some(&digest::SHA1_FOR_LEGACY_USE_ONLY),
        2 => Some(&digest::SHA256),
        4 => Some(&digest::SHA384),
        _ => None,
    }
}

/// The records that can be used, or why there are none: the zone is insecure then.
pub fn usable(set: Vec<Ds>, sha1: Sha1) -> Result<Vec<Ds>, ExtendedError> {
    let error = match set.iter().find(|ds| ds.algorithm.is_supported(sha1)) {
        Some(ds) => ExtendedError::new(InfoCode::UNSUPPORTED_DIGEST, format!("digest type {} of the DS record", ds.digest_type)),
        None => {
            let numbers: Vec<String> = set.iter().map(|ds| ds.algorithm.0.to_string()).collect();
            ExtendedError::new(InfoCode::UNSUPPORTED_ALGORITHM, format!("algorithm {} of the DS record", numbers.join(", ")))
        }
    };
    let mut usable: Vec<Ds> = set.into_iter().filter(|ds| ds.is_supported(sha1)).collect();
    if usable.iter().any(|ds| ds.digest_type != SHA1) {
        usable.retain(|ds| ds.digest_type != SHA1);
    }
    if usable.is_empty() { Err(error) } else { Ok(usable) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Algorithm and digest type of some records.
    type Kinds<'a> = &'a [(u8, u8)];

    fn ds(algorithm: u8, digest_type: u8) -> Ds {
        Ds { tag: 1, algorithm: Algorithm(algorithm), digest_type, digest: [0; 32].into() }
    }

    #[test]
    fn what_is_not_supported_is_dropped() {
        let rows: [(Kinds<'_>, Result<Kinds<'_>, u16>); 9] = [
            (&[(13, 2)], Ok(&[(13, 2)])),
            (&[(13, 2), (13, 1)], Ok(&[(13, 2)])),
            (&[(13, 4), (8, 1)], Ok(&[(13, 4)])),
            (&[(13, 1)], Ok(&[(13, 1)])),
            // SHA-2 that cannot be used does not displace SHA-1 that can.
            (&[(16, 2), (13, 1)], Ok(&[(13, 1)])),
            (&[(13, 3), (13, 1)], Ok(&[(13, 1)])),
            (&[(13, 3), (16, 2)], Err(2)),
            (&[(16, 2), (3, 1)], Err(1)),
            (&[(5, 2), (7, 2)], Err(1)),
        ];
        for (set, expected) in rows {
            let got = usable(set.iter().map(|(algorithm, digest)| ds(*algorithm, *digest)).collect(), Sha1::Refused);
            let got =
                got.map(|set| set.iter().map(|ds| (ds.algorithm.0, ds.digest_type)).collect::<Vec<_>>()).map_err(|error| error.code.0);
            assert_eq!(got, expected.map(<[(u8, u8)]>::to_vec), "{set:?}");
        }
        assert_eq!(usable(vec![ds(7, 2)], Sha1::Accepted).unwrap().len(), 1);
    }
}
