//! DNS as octets and text (RFC 1035, 6891, 8914): names, records, a bounded reader, questions, and what an answer means.
//!
//! Read `lookup` first: it is what the rest of the program sees. Nothing here waits, opens a socket or knows the time;
//! `net::resolver` asks, `dnssec` says what the answers prove, `table` answers in tests.

pub mod dnssec;
pub mod ede;
pub mod lookup;
pub mod name;
pub mod presentation;
pub mod question;
pub mod rdata;
pub mod reader;
pub mod reply;
pub mod resolv_conf;
pub mod response;
pub mod table;
mod text;
pub mod upstream;

use std::fmt;

/// The one limit of CNAME links in the whole program (`resolver.md`, proving 7); a twelfth is a failure.
pub const MAX_LINKS: usize = 11;

/// The class of the Internet; no other is used.
pub const CLASS_IN: u16 = 1;

/// A type of records (IANA, "Resource Record (RR) TYPEs").
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordType(pub u16);

macro_rules! numbers {
    ($type:ident, $names:ident, $($name:ident = $number:literal $text:literal),+ $(,)?) => {
        impl $type {
            $(pub const $name: $type = $type($number);)+
        }
        const $names: &[($type, &str)] = &[$(($type::$name, $text)),+];
    };
}

numbers!(RecordType, TYPES,
    A = 1 "A", NS = 2 "NS", CNAME = 5 "CNAME", SOA = 6 "SOA", PTR = 12 "PTR", HINFO = 13 "HINFO", MX = 15 "MX", TXT = 16 "TXT",
    RP = 17 "RP", AFSDB = 18 "AFSDB", AAAA = 28 "AAAA", LOC = 29 "LOC", SRV = 33 "SRV", NAPTR = 35 "NAPTR", CERT = 37 "CERT",
    DNAME = 39 "DNAME", OPT = 41 "OPT", DS = 43 "DS", SSHFP = 44 "SSHFP", RRSIG = 46 "RRSIG", NSEC = 47 "NSEC",
    DNSKEY = 48 "DNSKEY", NSEC3 = 50 "NSEC3", NSEC3PARAM = 51 "NSEC3PARAM", TLSA = 52 "TLSA", SMIMEA = 53 "SMIMEA",
    CDS = 59 "CDS", CDNSKEY = 60 "CDNSKEY", OPENPGPKEY = 61 "OPENPGPKEY", CSYNC = 62 "CSYNC", ZONEMD = 63 "ZONEMD",
    SVCB = 64 "SVCB", HTTPS = 65 "HTTPS", SPF = 99 "SPF", URI = 256 "URI", CAA = 257 "CAA", ANY = 255 "ANY",
);

impl RecordType {
    /// A mnemonic in any case, or `TYPEnn` (RFC 3597 section 5).
    pub fn parse(text: &str) -> Option<RecordType> {
        if let Some((kind, _)) = TYPES.iter().find(|(_, name)| name.eq_ignore_ascii_case(text)) {
            return Some(*kind);
        }
        let number = text.get(..4).filter(|head| head.eq_ignore_ascii_case("TYPE")).map(|_| &text[4..])?;
        if !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        number.parse().ok().map(RecordType)
    }

    /// OPT, TSIG, transfers and other types that exist in messages only, and cannot be looked up (RFC 6895 section 3.1).
    pub fn is_meta(self) -> bool {
        self == RecordType::OPT || (128..=254).contains(&self.0) || self.0 == 0
    }
}

impl fmt::Display for RecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match TYPES.iter().find(|(kind, _)| kind == self) {
            Some((_, name)) => f.write_str(name),
            None => write!(f, "TYPE{}", self.0),
        }
    }
}

impl fmt::Debug for RecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A response code of 12 bits (RFC 6891 section 6.1.3).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rcode(pub u16);

numbers!(Rcode, RCODES,
    NO_ERROR = 0 "NOERROR", FORM_ERR = 1 "FORMERR", SERV_FAIL = 2 "SERVFAIL", NX_DOMAIN = 3 "NXDOMAIN", NOT_IMP = 4 "NOTIMP",
    REFUSED = 5 "REFUSED", YX_DOMAIN = 6 "YXDOMAIN", NOT_AUTH = 9 "NOTAUTH", BAD_VERS = 16 "BADVERS", BAD_COOKIE = 23 "BADCOOKIE",
);

impl fmt::Display for Rcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match RCODES.iter().find(|(code, _)| code == self) {
            Some((_, name)) => f.write_str(name),
            None => write!(f, "RCODE{}", self.0),
        }
    }
}

impl fmt::Debug for Rcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_have_names_or_numbers() {
        for (text, kind) in
            [("mx", RecordType::MX), ("TLSA", RecordType::TLSA), ("type52", RecordType::TLSA), ("TYPE65280", RecordType(65_280))]
        {
            assert_eq!(RecordType::parse(text), Some(kind), "{text}");
        }
        for text in ["", "M", "TYPE", "TYPE65536", "TYPE-1", "TYPE+1", "ÄÄÄ"] {
            assert_eq!(RecordType::parse(text), None, "{text}");
        }
        assert_eq!(RecordType(65_280).to_string(), "TYPE65280");
        assert_eq!(Rcode(11).to_string(), "RCODE11");
    }
}
