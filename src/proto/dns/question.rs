//! A query as it is sent (RFC 1035, 6891, 7873, 7830), and whether a message that comes back is its answer.
//!
//! RD, CD and DO are set: we want the records whatever the upstream thinks of them; a second try may do without CD (RFC 6840
//! appendix B), and then asks for AD too (section 5.7). Under TLS the query is padded (RFC 8467 section 4.1). What makes an answer hard to forge is
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
const OPTION_PADDING: u16 = 12;
/// The length of an encrypted query is a multiple of this (RFC 8467 section 4.1).
const PADDED_TO: usize = 128;

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

/// Who judges signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Checking {
    /// we alone: CD
    Disabled,
    /// the upstream too, and it says so: AD
    Enabled,
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    pub name: &'a Name,
    pub kind: RecordType,
    pub checking: Checking,
}

/// What may stand in the query beside the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extension<'a> {
    /// with the content of COOKIE: 8 octets of ours, and behind them those of the server
    Edns { cookie: &'a [u8] },
    /// For an encrypted connection, which needs no cookie: nobody puts answers into it.
    Padded,
    /// for who does not understand EDNS
    Plain,
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
    pub fn new(question: &Question<'_>, letters: Letters, extension: Extension<'_>, dice: &Dice) -> Query {
        let Question { name, kind, checking } = *question;
        let asked = match letters {
            Letters::Random => name.with_random_case(&dice.letters),
            Letters::Small => name.to_lowercase(),
        };
        let mut octets = Vec::with_capacity(HEADER + asked.as_wire().len() + 48);
        let flags = match checking {
            Checking::Disabled => RD | CD,
            Checking::Enabled => RD | AD,
        };
        for number in [dice.id, flags, 1, 0, 0, u16::from(extension != Extension::Plain)] {
            octets.extend(number.to_be_bytes());
        }
        octets.extend_from_slice(asked.as_wire());
        octets.extend(kind.0.to_be_bytes());
        octets.extend(CLASS_IN.to_be_bytes());
        let end = octets.len();
        let (code, content) = match extension {
            Extension::Edns { cookie } => (OPTION_COOKIE, cookie.to_vec()),
            Extension::Padded => {
                // The root's octet and six numbers of OPT stand before the zeros.
                let length = (end + 1 + 10 + 4).next_multiple_of(PADDED_TO);
                (OPTION_PADDING, vec![0; length - (end + 1 + 10 + 4)])
            }
            Extension::Plain => return Query { octets, name: name.clone(), end, cookie: Vec::new() },
        };
        octets.push(0);
        for number in [RecordType::OPT.0, UDP_PAYLOAD, 0, DO, 4 + content.len() as u16, code, content.len() as u16] {
            octets.extend(number.to_be_bytes());
        }
        octets.extend_from_slice(&content);
        let cookie = if code == OPTION_COOKIE { content } else { Vec::new() };
        Query { octets, name: name.clone(), end, cookie }
    }

    /// On a connection that many queries share, each has an ID of its own (RFC 7766 section 6.2.1).
    pub fn set_id(&mut self, id: u16) {
        self.octets[..2].copy_from_slice(&id.to_be_bytes());
    }

    pub fn id(&self) -> u16 {
        u16::from_be_bytes([self.octets[0], self.octets[1]])
    }

    /// Whether the server has given us a cookie for its answers.
    pub fn has_server_cookie(&self) -> bool {
        self.cookie.len() > 8
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
        Query::new(&Question { name: &name, kind: RecordType::MX, checking: Checking::Disabled }, Letters::Random, extension, &DICE)
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
    fn an_encrypted_query_does_not_show_the_length_of_its_name() {
        for (name, length) in [(".", 128), ("example.org", 128), (&"a.".repeat(60)[..], 256), (&"a.".repeat(127)[..254], 384)] {
            let name = Name::parse(name).unwrap();
            let question = Question { name: &name, kind: RecordType::MX, checking: Checking::Enabled };
            let query = Query::new(&question, Letters::Small, Extension::Padded, &DICE);
            assert_eq!(query.octets().len(), length, "{name}");
            let message = Message::read(query.octets()).unwrap();
            assert!(message.fault().is_none() && message.edns().is_some_and(|edns| edns.dnssec_ok && edns.cookie.is_empty()));
            assert_eq!(query.octets()[2..4], [1, 0x20], "RD and AD");
        }
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
