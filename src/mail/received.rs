//! The trace field `Received:` (RFC 5321 section 4.4) and the words it is made of.
//!
//! In go the facts of one reception; out comes the whole folded field with its CRLF, ready to stand in front of the
//! message. What the peer says of itself is escaped, so that it can add neither fields nor comments.
//! `with` values: RFC 3848, RFC 6531 section 4.3; the `(requiretls)` comment: RFC 8689 section 4.1.
//! Not done here: reading Received fields of others (`mail::header` only counts them).

use std::fmt;
use std::net::IpAddr;

use nanoserde::{DeBin, SerBin};

use crate::mail::address::Address;
use crate::mail::date::UnixTime;
use crate::mail::domain::Domain;
use crate::mail::envelope::RequireTls;
use crate::mail::path::ForwardPath;
use crate::mail::path::ReversePath;

/// Lines are folded before this column where there is a place for it (RFC 5322 section 2.1.1).
const FOLD_AT: usize = 78;
/// A HELO name is cut here: longer than any domain, and far from the 998 octets a line may have.
const MAX_HELO: usize = 255;

/// How the receiving session was protected.
#[derive(Clone, Debug, PartialEq, Eq, SerBin, DeBin)]
pub struct TlsFacts {
    /// e.g. `TLSv1.3`
    pub version: String,
    /// IANA name, e.g. `TLS_AES_128_GCM_SHA256`
    pub cipher: String,
}

/// Value of the `with` clause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WithProtocol {
    /// greeted with HELO; no further kinds are registered for it
    Smtp,
    Esmtp,
    Esmtps,
    Esmtpa,
    Esmtpsa,
    Utf8Smtp,
    Utf8Smtps,
    Utf8Smtpa,
    Utf8Smtpsa,
}

impl fmt::Display for WithProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WithProtocol::Smtp => "SMTP",
            WithProtocol::Esmtp => "ESMTP",
            WithProtocol::Esmtps => "ESMTPS",
            WithProtocol::Esmtpa => "ESMTPA",
            WithProtocol::Esmtpsa => "ESMTPSA",
            WithProtocol::Utf8Smtp => "UTF8SMTP",
            WithProtocol::Utf8Smtps => "UTF8SMTPS",
            WithProtocol::Utf8Smtpa => "UTF8SMTPA",
            WithProtocol::Utf8Smtpsa => "UTF8SMTPSA",
        })
    }
}

/// Who brought the message.
#[derive(Clone, Copy, Debug)]
pub enum From<'a> {
    Client {
        /// the peer's text of HELO or EHLO, not checked
        helo: &'a str,
        /// the name of the address, only if it leads back to the address
        name: Option<&'a Domain>,
        address: IpAddr,
    },
    /// one of our own people, whose network is nobody's business (delivery.md section 1). The clause is written all the
    /// same, since RFC 5321 section 4.4 demands one, with a name that can be nobody's (RFC 6761 section 6.4).
    Hidden,
}

/// The facts of one reception; `to_string()` writes the field.
#[derive(Clone, Debug)]
pub struct Received<'a> {
    pub from: From<'a>,
    /// our own name
    pub by: &'a Domain,
    pub with: WithProtocol,
    pub require_tls: RequireTls,
    pub id: &'a str,
    pub tls: Option<&'a TlsFacts>,
    /// only with a single recipient: more would tell blind copies
    pub for_: Option<&'a ForwardPath>,
    pub date: UnixTime,
}

impl fmt::Display for Received<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut field = Folded { text: "Received:".to_owned(), column: 9 };
        match self.from {
            From::Client { helo, name, address } => {
                field.word(&format!("from {}", escape_helo(helo)));
                let name = name.map_or("unknown", Domain::as_str);
                field.word(&format!("({name} {})", Domain::from_address(address.to_canonical())));
            }
            From::Hidden => field.word("from hidden.invalid"),
        }
        field.word(&format!("by {}", self.by));
        field.word(&format!("with {}", self.with));
        match self.require_tls {
            RequireTls::Required => field.word("(requiretls)"),
            RequireTls::Default | RequireTls::Waived => {}
        }
        field.word(&format!("id {}", escape_atom(self.id)));
        if let Some(tls) = self.tls {
            field.word(&format!("({} {})", escape_atom(&tls.version), escape_atom(&tls.cipher)));
        }
        if let Some(path) = self.for_ {
            // RFC 5321 section 4.4: For = "FOR" FWS ( Path / Mailbox ); a bare Postmaster gets the domain it stands for.
            field.word(&match path {
                ForwardPath::Postmaster => format!("for <postmaster@{}>", self.by),
                ForwardPath::Address(address) => format!("for <{address}>"),
            });
        }
        field.text.push(';');
        field.column += 1;
        field.word(&self.date.rfc5322());
        field.text.push_str("\r\n");
        f.write_str(&field.text)
    }
}

/// Text that grows clause by clause and breaks before a clause that would not fit.
struct Folded {
    text: String,
    column: usize,
}

impl Folded {
    fn word(&mut self, word: &str) {
        let width = word.chars().count();
        if self.column + 1 + width > FOLD_AT && self.column > 1 {
            self.text.push_str("\r\n\t");
            self.column = 1;
        } else {
            self.text.push(' ');
            self.column += 1;
        }
        self.text.push_str(word);
        self.column += width;
    }
}

/// The peer's name for itself, as one word without any character that means something in a header field.
fn escape_helo(helo: &str) -> String {
    let word: String = helo.chars().take(MAX_HELO).map(|c| if is_harmless(c) { c } else { '?' }).collect();
    if word.is_empty() { "unknown".to_owned() } else { word }
}

/// Letters of names and literals; neither parentheses, quotes, semicolons, angle brackets, white space nor controls.
fn is_harmless(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-._:[]!#$%&'*+/=^`{|}~".contains(c)
}

fn escape_atom(text: &str) -> String {
    text.chars().map(|c| if is_harmless(c) { c } else { '?' }).collect()
}

/// Return-Path and Delivered-To of one recipient's copy (RFC 5321 section 4.4): put in front of the blob when it is read.
pub fn delivery_lines(return_path: &ReversePath, delivered_to: &Address) -> String {
    format!("Return-Path: {return_path}\r\nDelivered-To: {delivered_to}\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by() -> Domain {
        Domain::parse("mx.example.org").unwrap()
    }

    fn client(address: &str) -> From<'static> {
        From::Client { helo: "client.example.net", name: None, address: address.parse().unwrap() }
    }

    fn plain(by: &Domain) -> Received<'_> {
        Received {
            from: client("192.0.2.7"),
            by,
            with: WithProtocol::Esmtp,
            require_tls: RequireTls::Default,
            id: "4Zq81",
            tls: None,
            for_: None,
            date: UnixTime(1_795_452_194),
        }
    }

    #[test]
    fn a_plain_reception() {
        assert_eq!(
            plain(&by()).to_string(),
            "Received: from client.example.net (unknown [192.0.2.7]) by mx.example.org\r\n\
             \twith ESMTP id 4Zq81; Mon, 23 Nov 2026 16:43:14 +0000\r\n"
        );
    }

    #[test]
    fn every_clause_stands_in_its_place() {
        let name = Domain::parse("client.example.net").unwrap();
        let tls = TlsFacts { version: "TLSv1.3".into(), cipher: "TLS_AES_128_GCM_SHA256".into() };
        let path = ForwardPath::parse("<ann@example.org>").unwrap();
        let text = Received {
            from: From::Client { helo: "client.example.net", name: Some(&name), address: "2001:db8::7".parse().unwrap() },
            with: WithProtocol::Esmtps,
            require_tls: RequireTls::Required,
            tls: Some(&tls),
            for_: Some(&path),
            ..plain(&by())
        }
        .to_string();
        assert_eq!(
            text.replace("\r\n\t", " "),
            "Received: from client.example.net (client.example.net [IPv6:2001:db8::7]) by mx.example.org with ESMTPS \
             (requiretls) id 4Zq81 (TLSv1.3 TLS_AES_128_GCM_SHA256) for <ann@example.org>; Mon, 23 Nov 2026 16:43:14 +0000\r\n"
        );
        assert!(text.lines().all(|line| line.len() <= FOLD_AT), "{text}");
    }

    #[test]
    fn the_peer_cannot_write_fields_or_comments() {
        for helo in ["x\r\nFrom: me", "a (b) c", "a;b", "<a>", "\"q\"", "\u{202e}moc", "\0", "", &"h".repeat(5000)] {
            let address = "192.0.2.7".parse().unwrap();
            let text = Received { from: From::Client { helo, name: None, address }, ..plain(&by()) }.to_string();
            assert_eq!(text.matches('(').count(), 1, "{text}");
            assert_eq!(text.matches(';').count(), 1, "{text}");
            assert!(text.is_ascii() && !text.contains(['"', '<', '\0']), "{text}");
            assert!(text.strip_suffix("\r\n").unwrap().replace("\r\n\t", "").bytes().all(|b| b >= b' '), "{text}");
            assert!(text.lines().all(|line| line.len() < 998));
        }
    }

    #[test]
    fn an_ipv4_client_of_a_dual_stack_socket_is_written_as_ipv4() {
        let from = client("::ffff:192.0.2.7");
        assert!(Received { from, ..plain(&by()) }.to_string().contains("(unknown [192.0.2.7])"));
    }

    #[test]
    fn a_submission_hides_its_client() {
        let text = Received { from: From::Hidden, with: WithProtocol::Esmtpsa, ..plain(&by()) }.to_string();
        assert_eq!(
            text.replace("\r\n\t", " "),
            "Received: from hidden.invalid by mx.example.org with ESMTPSA id 4Zq81; Mon, 23 Nov 2026 16:43:14 +0000\r\n"
        );
    }

    #[test]
    fn the_bare_postmaster_gets_our_domain() {
        let field = Received { for_: Some(&ForwardPath::Postmaster), ..plain(&by()) }.to_string();
        assert!(field.contains("for <postmaster@mx.example.org>;"));
    }
}
