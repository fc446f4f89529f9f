//! What the header of a message that our own people hand in needs (RFC 6409 section 8, reliability.md "Message intake").
//!
//! In goes the header block as it was handed in; out comes what is kept of it and what is added: Bcc goes, Date and
//! Message-ID come if they are missing, Authentication-Results in our name are not believed here either. `authors` names
//! all addresses that the message claims to be from; whether they are the sender's own is `intake::senders`' business.

use std::fmt;
use std::ops::Range;

use ring::rand::SecureRandom;

use crate::mail::address::Address;
use crate::mail::addresses;
use crate::mail::addresses::ListFault;
use crate::mail::date::UnixTime;
use crate::mail::digest::Digest;
use crate::mail::domain::Domain;
use crate::mail::envelope::RequireTls;
use crate::mail::header;
use crate::mail::header::Field;
use crate::mail::header::HeaderFault;

/// Octets of randomness in a Message-ID: no two are ever the same.
const UNIQUE: usize = 16;

/// What goes into the lines that are added.
pub struct Facts<'a> {
    pub now: UnixTime,
    /// of the sender, for Message-ID
    pub domain: &'a Domain,
    /// the name in our own Authentication-Results
    pub authserv_id: &'a Domain,
    pub random: &'a dyn SecureRandom,
}

/// A header that may leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// without Bcc
    pub header: Vec<u8>,
    /// whole lines, perhaps none; they belong behind Received, in front of the header
    pub additions: Vec<u8>,
    /// of the header with the additions
    pub digest: Digest,
    /// `Waived` for `TLS-Required: No`, else `Default`
    pub wish: RequireTls,
}

/// Why a header may not leave. The sentence can be shown to the person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    Header(HeaderFault),
    /// From or Sender
    Addresses(&'static str, ListFault),
    /// a From of groups without addresses (RFC 6854), which has its place in notices about lost addresses only
    NoAuthor,
    NoRandomness,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Header(fault) => fault.fmt(f),
            Refusal::Addresses(field, fault) => write!(f, "the field {field} {fault}"),
            Refusal::NoAuthor => f.write_str("the field From has no address"),
            Refusal::NoRandomness => f.write_str("no Message-ID could be made: the system gives no random numbers"),
        }
    }
}

/// Judges and completes a header.
pub fn prepare(header: &[u8], facts: &Facts<'_>) -> Result<Prepared, Refusal> {
    let examined = header::examine(header, facts.authserv_id).map_err(Refusal::Header)?;
    let (mut removed, mut has_date, mut has_id) = (examined.forged, Has::No, Has::No);
    for field in header::fields(header).take(header::MAX_FIELDS) {
        if is_blind(&field) {
            removed.push(field.range.clone());
        } else if field.is("Date") {
            has_date = Has::Yes;
        } else if field.is("Message-ID") {
            has_id = Has::Yes;
        }
    }
    removed.sort_by_key(|range: &Range<usize>| range.start);
    let (mut digest, mut additions) = (examined.digest, String::new());
    let mut add = |name: &str, value: &str| {
        digest.note(name, value.as_bytes());
        additions.push_str(&format!("{name}: {value}\r\n"));
    };
    if has_date == Has::No {
        add("Date", &facts.now.rfc5322());
    }
    if has_id == Has::No {
        let mut unique = [0; UNIQUE];
        facts.random.fill(&mut unique).map_err(|_| Refusal::NoRandomness)?;
        let unique: String = unique.iter().map(|octet| format!("{octet:02x}")).collect();
        add("Message-ID", &format!("<{unique}@{}>", facts.domain));
    }
    Ok(Prepared { header: header::without(header, &removed), additions: additions.into_bytes(), digest, wish: examined.wish })
}

#[derive(Clone, Copy, PartialEq)]
enum Has {
    Yes,
    No,
}

/// RFC 5322 sections 3.6.3 and 3.6.6: the others must not see who is named there.
fn is_blind(field: &Field<'_>) -> bool {
    field.is("Bcc") || field.is("Resent-Bcc")
}

/// All addresses of From, which must stand once, and of Sender.
pub fn authors(header: &[u8]) -> Result<Vec<Address>, Refusal> {
    let (mut authors, mut froms) = (Vec::new(), 0);
    for field in header::fields(header).take(header::MAX_FIELDS) {
        let name = match () {
            () if field.is("From") => "From",
            () if field.is("Sender") => "Sender",
            () => continue,
        };
        let found = addresses::parse_list(field.value()).map_err(|fault| Refusal::Addresses(name, fault))?;
        if name == "From" {
            froms += 1;
            if found.is_empty() {
                return Err(Refusal::NoAuthor);
            }
        }
        authors.extend(found);
        // Sender may stand once only; who writes a thousand must not make us look up all that fits into a header.
        if authors.len() > addresses::MAX_ADDRESSES {
            return Err(Refusal::Addresses(name, ListFault::TooLong));
        }
    }
    if froms == 1 { Ok(authors) } else { Err(Refusal::Header(HeaderFault::FromCount(froms))) }
}

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;

    use super::*;

    fn prepared(header: &str) -> Result<Prepared, Refusal> {
        let domain = Domain::parse("home.test").unwrap();
        let facts = Facts { now: UnixTime(1_795_452_194), domain: &domain, authserv_id: &domain, random: &SystemRandom::new() };
        prepare(header.as_bytes(), &facts)
    }

    #[test]
    fn date_and_message_id_come_only_where_they_are_missing() {
        let both = prepared("From: a@home.test\r\n\r\n").unwrap();
        let text = String::from_utf8(both.additions).unwrap();
        let id =
            text.strip_prefix("Date: Mon, 23 Nov 2026 16:43:14 +0000\r\nMessage-ID: <").and_then(|id| id.strip_suffix("@home.test>\r\n"));
        assert_eq!(id.unwrap().len(), 32, "{text}");
        assert_eq!(both.digest.date_text, "Mon, 23 Nov 2026 16:43:14 +0000");
        assert!(both.digest.message_id.starts_with('<'));
        let other = prepared("From: a@home.test\r\n\r\n").unwrap();
        assert_ne!(other.digest.message_id, both.digest.message_id);
        let none = prepared("date:\r\nFROM: a@home.test\r\nmessage-id: <x@y>\r\n\r\n").unwrap();
        assert_eq!((none.additions.as_slice(), none.digest.message_id.as_str()), (b"".as_slice(), "<x@y>"));
    }

    #[test]
    fn blind_copies_and_forged_results_are_taken_out() {
        let header = "Bcc: x@y.org\r\nFrom: a@home.test\r\nAuthentication-Results: home.test; dkim=pass\r\nbcc:\r\n z@y.org\r\n\
            Resent-Bcc: w@y.org\r\nTLS-Required: No\r\nSubject: s\r\n\r\n";
        let prepared = prepared(header).unwrap();
        assert_eq!(String::from_utf8(prepared.header).unwrap(), "From: a@home.test\r\nTLS-Required: No\r\nSubject: s\r\n\r\n");
        assert_eq!(prepared.wish, RequireTls::Waived);
    }

    #[test]
    fn authors_are_all_of_from_and_sender() {
        let all = |header: &str| {
            let found = authors(header.as_bytes()).map_err(|refusal| refusal.to_string())?;
            Ok::<String, String>(found.iter().map(Address::to_string).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(all("From: A <a@x.org>, b@x.org\r\nsender: c@x.org\r\n\r\nFrom: d@x.org").as_deref(), Ok("a@x.org b@x.org c@x.org"));
        for (header, why) in [
            ("Subject: x\r\n", "0 From"),
            ("From: a@x.org\r\nfrom: b@x.org\r\n", "2 From"),
            (&format!("From: a@x.org\r\n{}", "Sender: a@x.org, a@x.org\r\n".repeat(600)), "field Sender is too long"),
            ("From: nobody:;\r\n", "no address"),
            ("From:\r\n", "no address"),
            ("From: a@x.org b@x.org\r\n", "field From is not a list"),
            ("From: a@x.org\r\nSender: <\r\n", "field Sender has a quote"),
        ] {
            let refusal = all(header).unwrap_err();
            assert!(refusal.contains(why), "{refusal}");
        }
    }
}
