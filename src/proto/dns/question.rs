//! A query as it is sent (RFC 1035, 6891, 7873), and whether a message that comes back is its answer.
//!
//! RD, CD and DO are set: we want the records whatever the upstream thinks of them. What makes an answer hard to forge is
//! compared here: ID, the question octet by octet with its random letter case, our cookie. Chance comes in as `Dice`.

use crate::proto::dns::CLASS_IN;
use crate::proto::dns::Rcode;
use crate::proto::dns::RecordType;
use crate::proto::dns::name::Name;
use crate::proto::dns::reader::Message;
use crate::proto::dns::reader::OPTION_COOKIE;

/// The largest answer by UDP that we ask for: fits one packet nearly everywhere (RFC 9715 section 3).
pub const UDP_PAYLOAD: u16 = 1232;
const RD: u16 = 1 << 8;
const AD: u16 = 1 << 5;
const CD: u16 = 1 << 4;
const DO: u16 = 1 << 15;
const HEADER: usize = 12;

/// Octets nobody can guess.
#[derive(Clone, Copy)]
pub struct Dice {
    pub id: u16,
    pub letters: [u8; 32],
}

/// Whether the upstream gives back letters as they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Letters {
    Random,
    /// it folds them
    Small,
}

/// Whether the upstream understands EDNS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extension<'a> {
    /// with the content of COOKIE: 8 octets of ours, and behind them those of the server
    Edns {
        cookie: &'a [u8],
    },
    Plain,
}

/// Whether the upstream shall validate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Checking {
    /// CD: everything, whatever it thinks of it
    Disabled,
    /// AD instead: what it believes, and whether it does (RFC 6840 section 5.7)
    Enabled,
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub name: &'a Name,
    pub kind: RecordType,
    pub checking: Checking,
}

/// A query that waits for its answer.
#[derive(Debug)]
pub struct Query {
    octets: Vec<u8>,
    /// in the letters that the caller gave
    name: Name,
    /// where the question ends
    end: usize,
    cookie: Vec<u8>,
}

/// What a message is to a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    Answer,
    /// All fits but the case of letters: a server that folds them, or a forger with luck.
    OtherCase,
    Foreign,
}

impl Query {
    pub fn new(asked: &Asked<'_>, letters: Letters, extension: Extension<'_>, dice: &Dice) -> Query {
        let Asked { name, kind, checking } = *asked;
        let checking = if checking == Checking::Disabled { CD } else { AD };
        let asked = match letters {
            Letters::Random => name.with_random_case(&dice.letters),
            Letters::Small => name.to_lowercase(),
        };
        let mut octets = Vec::with_capacity(HEADER + asked.as_wire().len() + 48);
        for number in [dice.id, RD | checking, 1, 0, 0, u16::from(extension != Extension::Plain)] {
            octets.extend(number.to_be_bytes());
        }
        octets.extend_from_slice(asked.as_wire());
        octets.extend(kind.0.to_be_bytes());
        octets.extend(CLASS_IN.to_be_bytes());
        let end = octets.len();
        let mut sent = Vec::new();
        if let Extension::Edns { cookie } = extension {
            sent = cookie.to_vec();
            octets.push(0);
            for number in [RecordType::OPT.0, UDP_PAYLOAD, 0, DO, 4 + cookie.len() as u16, OPTION_COOKIE, cookie.len() as u16] {
                octets.extend(number.to_be_bytes());
            }
            octets.extend_from_slice(cookie);
        }
        Query { octets, name: name.clone(), end, cookie: sent }
    }

    pub fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// Whether the first octets could belong to an answer, however broken the rest is.
    pub fn has_id_of(&self, octets: &[u8]) -> bool {
        octets.len() >= 2 && octets[..2] == self.octets[..2]
    }

    /// Puts the caller's letters into an answer's question: names of records that are compressed point there, and would show
    /// our random ones to people.
    pub fn restore_letters(&self, answer: &mut [u8]) {
        let wire = self.name.as_wire();
        if let Some(question) = answer.get_mut(HEADER..HEADER + wire.len())
            && question.eq_ignore_ascii_case(wire)
        {
            question.copy_from_slice(wire);
        }
    }

    pub fn judge(&self, message: &Message<'_>) -> Relation {
        let cookie = message.edns().map_or(&[][..], |edns| &edns.cookie);
        let own_cookie = cookie.is_empty() || (self.cookie.len() >= 8 && cookie[..8] == self.cookie[..8]);
        if !message.is_response() || message.opcode() != 0 || message.id().to_be_bytes() != self.octets[..2] || !own_cookie {
            return Relation::Foreign;
        }
        let question = &self.octets[HEADER..self.end];
        match message.question() {
            Some(asked) if asked.octets == question => Relation::Answer,
            Some(asked) if asked.octets.eq_ignore_ascii_case(question) => Relation::OtherCase,
            // Who cannot read a query may answer with the header alone.
            None if matches!(message.rcode(), Rcode::FORM_ERR | Rcode::NOT_IMP) => Relation::Answer,
            _ => Relation::Foreign,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::dns::reply::Reply;
    use crate::proto::dns::reply::write_reply;

    const DICE: Dice = Dice { id: 0x1234, letters: [0b0101_0101; 32] };

    fn query(extension: Extension<'_>) -> Query {
        let name = Name::parse("example.org").unwrap();
        Query::new(&Asked { name: &name, kind: RecordType::MX, checking: Checking::Disabled }, Letters::Random, extension, &DICE)
    }

    #[test]
    fn a_query_reads_back() {
        let query = query(Extension::Edns { cookie: b"12345678" });
        let message = Message::read(query.octets()).unwrap();
        assert!(!message.is_response() && message.wants_recursion() && message.fault().is_none());
        assert_eq!(query.octets()[3], 0x10);
        let asked = message.question().unwrap();
        assert_eq!((asked.name.to_string().as_str(), asked.rtype, asked.class), ("eXaMpLe.oRg.", RecordType::MX, CLASS_IN));
        let edns = message.edns().unwrap();
        assert_eq!((edns.udp_payload, edns.dnssec_ok, &edns.cookie[..], edns.version), (UDP_PAYLOAD, true, &b"12345678"[..], 0));
    }

    #[test]
    fn only_the_answer_to_the_query_is_one() {
        let ours = query(Extension::Edns { cookie: b"12345678" });
        let answer = write_reply(&Message::read(ours.octets()).unwrap(), &Reply::of(Rcode::NO_ERROR), 1232);
        let judged = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut octets = answer.clone();
            change(&mut octets);
            ours.judge(&Message::read(&octets).unwrap())
        };
        assert_eq!(judged(&|_| {}), Relation::Answer);
        assert_eq!(judged(&|octets| octets[0] ^= 1), Relation::Foreign);
        assert_eq!(judged(&|octets| octets[2] ^= 0x80), Relation::Foreign);
        assert_eq!(judged(&|octets| octets[13] ^= 0x20), Relation::OtherCase);
        assert_eq!(judged(&|octets| octets[13] = b'x'), Relation::Foreign);
        assert_eq!(judged(&|octets| octets[26] ^= 1), Relation::Foreign);
        let other = query(Extension::Edns { cookie: b"abcdefgh" });
        let other = write_reply(&Message::read(other.octets()).unwrap(), &Reply::of(Rcode::NO_ERROR), 1232);
        assert_eq!(ours.judge(&Message::read(&other).unwrap()), Relation::Foreign);
        let header_only = [&answer[..2], &[0x81, 0x91, 0, 0, 0, 0, 0, 0, 0, 0]].concat();
        assert_eq!(ours.judge(&Message::read(&header_only).unwrap()), Relation::Answer);
    }
}
