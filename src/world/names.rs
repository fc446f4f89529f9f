//! Who lives in the small internet of localserve: zones, hosts and their policies, and the keys of hosts.
//!
//! The policies are those of `cli.md`. A host with a TLSA record has its key here, made at each start, or is one of our own
//! servers, whose key comes from outside. Hosts other than ours do not listen yet: mail to them waits.

use ring::rand::SecureRandom;

use crate::proto::dns::name::Name;
use crate::proto::x509::key::new_key;
use crate::proto::x509::key::spki_of_key;
use crate::proto::x509::key::spki_sha256;
use crate::world::tree::Draft;
use crate::world::tree::Tree;

/// The zone below which everything is proved, and whose key is the trust anchor. The root is signed too, as a resolver shows
/// it, with a key that nobody believes.
pub const ANCHOR: &str = "test";

/// All that is known when the program is made.
pub const LOCALSERVE: &str = "
$SIGNED    test
ns.test                 A    127.0.0.1
; ourselves
$SIGNED    home.test
home.test               MX   10 mx.home.test
home.test               TXT  \"v=spf1 mx -all\"
_dmarc.home.test        TXT  \"v=DMARC1; p=reject\"
mx.home.test            A    127.0.0.1
; the second instance
$SIGNED    friend.test
friend.test             MX   10 mx.friend.test
friend.test             TXT  \"v=spf1 ip4:127.0.0.0/8 -all\"
_dmarc.friend.test      TXT  \"v=DMARC1; p=none\"
mx.friend.test          A    127.0.1.2
; names that lead there in other ways
www.friend.test         CNAME mx.friend.test
direct.test             A    127.0.1.2
; DANE; the TLSA record is made with the key
$SIGNED    dane.test
dane.test               MX   10 mx.dane.test
mx.dane.test            A    127.0.1.3
; MTA-STS, without DNSSEC
$UNSIGNED  sts.test
sts.test                MX   10 mx.sts.test
mx.sts.test             A    127.0.1.4
; both
$SIGNED    both.test
both.test               MX   10 mx.both.test
mx.both.test            A    127.0.1.5
; neither, and no TLS
$UNSIGNED  plain.test
plain.test              MX   10 mx.plain.test
mx.plain.test           A    127.0.1.6
; TLS that nobody vouches for: it is proved that there is no TLSA record
$SIGNED    opportunistic.test
opportunistic.test      MX   10 mx.opportunistic.test
mx.opportunistic.test   A    127.0.1.7
; a TLSA record that is not of the host's key
$SIGNED    broken.test
broken.test             MX   10 mx.broken.test
mx.broken.test          A    127.0.1.8
; signatures that do not hold
$BOGUS     bogus.test
bogus.test              MX   10 mx.bogus.test
mx.bogus.test           A    127.0.1.9
; what goes wrong: nobody listens, no mail is taken, the host has no address. missing.test does not exist
dead.test               MX   10 mx.dead.test
mx.dead.test            A    127.0.1.99
nullmx.test             MX   0 .
nohost.test             MX   10 gone.nohost.test
; addresses to names, outside of what is proved
$UNSIGNED  127.in-addr.arpa
1.0.0.127.in-addr.arpa  PTR  mx.home.test
2.1.0.127.in-addr.arpa  PTR  mx.friend.test
3.1.0.127.in-addr.arpa  PTR  mx.dane.test
4.1.0.127.in-addr.arpa  PTR  mx.sts.test
5.1.0.127.in-addr.arpa  PTR  mx.both.test
6.1.0.127.in-addr.arpa  PTR  mx.plain.test
7.1.0.127.in-addr.arpa  PTR  mx.opportunistic.test
8.1.0.127.in-addr.arpa  PTR  mx.broken.test
9.1.0.127.in-addr.arpa  PTR  mx.bogus.test
";

/// Hosts whose TLSA record is of their key.
const DANE_HOSTS: [&str; 2] = ["mx.dane.test", "mx.both.test"];
/// Whose TLSA record is of a key that nobody has.
const BROKEN_HOST: &str = "mx.broken.test";

/// A host that is played here, once it listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    pub name: &'static str,
    /// P-256, PKCS#8
    pub key: Vec<u8>,
}

/// The small internet, before our own servers' keys are known.
pub struct World {
    draft: Draft,
    pub hosts: Vec<Host>,
}

impl World {
    /// With new keys everywhere.
    pub fn new(random: &dyn SecureRandom) -> Result<World, String> {
        let unmade = |_| "a host's key cannot be made".to_owned();
        let mut world = World { draft: Draft::parse(LOCALSERVE, random)?, hosts: Vec::new() };
        for name in DANE_HOSTS {
            let key = new_key(random).map_err(unmade)?;
            world.publish(name, &spki_of_key(&key, random).map_err(unmade)?)?;
            world.hosts.push(Host { name, key });
        }
        let lost = new_key(random).map_err(unmade)?;
        world.publish(BROKEN_HOST, &spki_of_key(&lost, random).map_err(unmade)?)?;
        Ok(world)
    }

    /// Adds a host's TLSA record `3 1 1` (RFC 7672 section 3.1.1) for port 25, which stands for every port of this world.
    pub fn publish(&mut self, host: &str, spki: &[u8]) -> Result<(), String> {
        let hex: String = spki_sha256(spki).iter().map(|octet| format!("{octet:02x}")).collect();
        self.add(&format!("_25._tcp.{host} TLSA 3 1 1 {hex}"))
    }

    /// Adds a record, in the form of `LOCALSERVE`.
    pub fn add(&mut self, line: &str) -> Result<(), String> {
        self.draft.add(line)
    }

    /// The trust anchor, for `dns.trust-anchor`.
    pub fn anchor(&self) -> String {
        self.draft.anchor(&anchor()).expect("the zone of the anchor is signed")
    }

    /// The trust anchor, for BIND's `delv -a`.
    pub fn delv_anchor(&self) -> String {
        self.draft.delv_anchor(&anchor()).expect("the zone of the anchor is signed")
    }

    pub fn finish(self) -> Tree {
        self.draft.finish()
    }
}

fn anchor() -> Name {
    Name::parse(ANCHOR).expect("a plain name")
}

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;

    use super::*;
    use crate::mail::date::UnixTime;
    use crate::proto::dns::RecordType;
    use crate::world::zone::Proofs;

    #[test]
    fn hosts_have_the_keys_that_are_published_but_one() {
        let random = SystemRandom::new();
        let mut world = World::new(&random).unwrap();
        let own = spki_of_key(&new_key(&random).unwrap(), &random).unwrap();
        world.publish("mx.home.test", &own).unwrap();
        let mut keys: Vec<(&str, Vec<u8>)> = world.hosts.iter().map(|host| (host.name, spki_of_key(&host.key, &random).unwrap())).collect();
        keys.push(("mx.home.test", own));
        let tree = world.finish();
        let published = |host: &str| {
            let name = Name::parse(&format!("_25._tcp.{host}")).unwrap();
            let found = tree.answer((&name, RecordType::TLSA), Proofs::Unwanted, UnixTime(0));
            found.answers.iter().map(|record| record.rdata.clone()).collect::<Vec<_>>()
        };
        for (host, spki) in &keys {
            assert_eq!(published(host), [[&[3, 1, 1][..], &spki_sha256(spki)].concat()], "{host}");
        }
        assert_eq!(published(BROKEN_HOST).len(), 1);
        assert!(!keys.iter().any(|(host, _)| published(host) == published(BROKEN_HOST)));
        assert!(published("mx.opportunistic.test").is_empty());
    }
}
