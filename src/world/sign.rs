//! Signs sets of records of one zone (RFC 4034 section 3) with a key made for this start: ECDSA P-256 (RFC 6605), one key a zone.
//!
//! In go records and the time, out comes their RRSIG. Signatures are made when they are first asked for and kept, so that
//! a start costs no more than its keys; after a day they are made again, so that a world that runs for months has signatures
//! that hold. The signer of a zone that is to be bogus damages what it made, its keys' signature apart.

use std::cell::RefCell;
use std::collections::HashMap;

use ring::error::Unspecified;
use ring::rand::SecureRandom;
use ring::rand::SystemRandom;
use ring::signature::ECDSA_P256_SHA256_FIXED_SIGNING;
use ring::signature::EcdsaKeyPair;
use ring::signature::KeyPair;

use crate::mail::date::UnixTime;
use crate::proto::dns::Rcode;
use crate::proto::dns::RecordType;
use crate::proto::dns::dnssec::canonical;
use crate::proto::dns::dnssec::dnskey::Algorithm;
use crate::proto::dns::dnssec::dnskey::Dnskey;
use crate::proto::dns::dnssec::ds::Ds;
use crate::proto::dns::dnssec::rrset::Received;
use crate::proto::dns::name::Name;
use crate::proto::dns::reader::RawRecord;
use crate::proto::x509::key::new_key;

/// A zone key that is an entry point (RFC 4034 section 2.1.1): the zone's only one signs keys and data.
const FLAGS: u16 = 0x0101;
const PROTOCOL: u8 = 3;
/// RFC 6605 section 2.
const ECDSA_P256: Algorithm = Algorithm(13);
/// RFC 4509.
const SHA256: u8 = 2;
/// Clocks of those who ask may be behind.
const BACKDATED: i64 = 3600;
const VALID_FOR: i64 = 30 * 86_400;
/// A signature is used for this long, and then made again.
const USED_FOR: i64 = 86_400;

/// Whether what a zone signs holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Honesty {
    Honest,
    /// One bit of each signature is wrong, except over the keys: those are found, and prove nothing.
    Damaging,
}

/// The key of a zone, and what it has signed lately.
pub struct Signer {
    zone: Name,
    pair: EcdsaKeyPair,
    key: Dnskey,
    honesty: Honesty,
    made: RefCell<HashMap<(Name, RecordType), Made>>,
}

struct Made {
    at: UnixTime,
    record: RawRecord,
}

impl Signer {
    /// With a new key.
    pub fn new(zone: &Name, honesty: Honesty, random: &dyn SecureRandom) -> Result<Signer, Unspecified> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &new_key(random)?, random).map_err(|_| Unspecified)?;
        // RFC 6605 section 4 leaves out the octet that says "uncompressed".
        let point = pair.public_key().as_ref().get(1..).ok_or(Unspecified)?;
        let encoded = [&FLAGS.to_be_bytes()[..], &[PROTOCOL, ECDSA_P256.0], point].concat();
        let key = Dnskey::decode(&encoded).ok_or(Unspecified)?;
        Ok(Signer { zone: zone.clone(), pair, key, honesty, made: RefCell::default() })
    }

    /// The key as the zone shows it.
    pub fn dnskey(&self, ttl: u32) -> RawRecord {
        RawRecord { owner: self.zone.clone(), rtype: RecordType::DNSKEY, ttl, rdata: self.key.encode() }
    }

    /// What the zone above shows for the key.
    pub fn ds(&self, ttl: u32) -> RawRecord {
        let Ds { tag, algorithm, digest_type, digest } = Ds::of(&self.zone, &self.key, SHA256).expect("SHA-256 is supported");
        let rdata = [&tag.to_be_bytes()[..], &[algorithm.0, digest_type], &digest].concat();
        RawRecord { owner: self.zone.clone(), rtype: RecordType::DS, ttl, rdata }
    }

    /// The RRSIG over `records`, which are one whole set of the zone; `None` if there are none, or without randomness.
    pub fn sign(&self, records: &[RawRecord], now: UnixTime) -> Option<RawRecord> {
        let first = records.first()?;
        let place = (first.owner.clone(), first.rtype);
        if let Some(made) = self.made.borrow().get(&place)
            && (made.at.0..made.at.0 + USED_FOR).contains(&now.0)
        {
            return Some(made.record.clone());
        }
        let record = self.make(records, now)?;
        // The names of a zone are few and fixed, and so is what is kept.
        self.made.borrow_mut().insert(place, Made { at: now, record: record.clone() });
        Some(record)
    }

    /// RFC 4034 section 3.1.
    fn make(&self, records: &[RawRecord], now: UnixTime) -> Option<RawRecord> {
        let set = Received::new(Rcode::NO_ERROR, records.iter().cloned(), []).answer.into_iter().next()?;
        let mut signed = set.kind.0.to_be_bytes().to_vec();
        // There are no wildcards here, whose label would not count.
        signed.extend([self.key.algorithm.0, canonical::label_count(&set.owner) as u8]);
        // Times are serial numbers of 32 bits (section 3.1.5).
        for number in [set.ttl, now.plus(VALID_FOR).0 as u32, now.plus(-BACKDATED).0 as u32] {
            signed.extend(number.to_be_bytes());
        }
        signed.extend(self.key.tag.to_be_bytes());
        signed.extend(self.zone.as_wire().to_ascii_lowercase());
        let mut rdata = signed.clone();
        set.canonical_form(&set.owner, set.ttl, &mut signed);
        let mut signature = self.pair.sign(&SystemRandom::new(), &signed).ok()?.as_ref().to_vec();
        if self.honesty == Honesty::Damaging && set.kind != RecordType::DNSKEY {
            *signature.last_mut()? ^= 1;
        }
        rdata.extend(signature);
        Some(RawRecord { owner: set.owner, rtype: RecordType::RRSIG, ttl: set.ttl, rdata })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::dns::dnssec::rrsig::Rrsig;

    const NOW: UnixTime = UnixTime(1_793_500_000);

    fn signed(signer: &Signer, now: UnixTime) -> Rrsig {
        Rrsig::decode(&signer.sign(&[signer.dnskey(60)], now).unwrap().rdata).unwrap()
    }

    #[test]
    fn signatures_are_kept_for_a_day_and_never_near_their_end() {
        let signer = Signer::new(&Name::parse("test").unwrap(), Honesty::Honest, &SystemRandom::new()).unwrap();
        let first = signed(&signer, NOW);
        assert_eq!((first.inception, first.expiration), (NOW.0 as u32 - 3600, NOW.0 as u32 + 30 * 86_400));
        assert_eq!(signed(&signer, NOW.plus(USED_FOR - 1)), first);
        // A clock that went back would find it not valid yet.
        for later in [USED_FOR, 400 * USED_FOR, -1, -USED_FOR] {
            let again = signed(&signer, NOW.plus(later));
            assert_eq!(i64::from(again.inception), NOW.0 + later - BACKDATED, "{later}");
            assert_ne!(again.signature, first.signature);
        }
        assert!(signer.sign(&[], NOW).is_none());
    }
}
