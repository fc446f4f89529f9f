//! What a listing shows of a message: from, to, subject, date, Message-ID; a few short lines instead of the header.
//!
//! In go header fields one by one; out comes decoded text, each at most `MAX_TEXT` octets, without control characters.
//! Addresses are taken apart *before* encoded words are decoded, so that a name cannot grow an address of its own.
//! A name with brackets, commas or quotes in it comes out quoted. The first field of a name counts.
//! Not done here: checking addresses, and reading the date.

use nanoserde::{DeBin, SerBin};

use crate::mail::words;

/// Octets of each text: a line of a listing, and never a burden in a row of the store.
pub const MAX_TEXT: usize = 255;
/// Addresses of To that are shown; a listing has no room for more.
const MAX_ADDRESSES: usize = 10;
/// Octets of an address field that are looked at, enough for ten names in encoded words.
const MAX_FIELD: usize = 8 * 1024;

/// Texts for a listing; empty where the field is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, SerBin, DeBin)]
pub struct Digest {
    /// `Ann B <ann@example.org>`, or the bare address
    pub from: String,
    /// the first recipients in the same form, separated by `, `
    pub to: String,
    pub subject: String,
    /// as written
    pub date_text: String,
    /// as written, with its angle brackets
    pub message_id: String,
}

impl Digest {
    /// Takes what it needs of a field with this name and raw value.
    pub fn note(&mut self, name: &str, value: &[u8]) {
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted);
        if is("From") && self.from.is_empty() {
            self.from = people(value, 1);
        } else if is("To") && self.to.is_empty() {
            self.to = people(value, MAX_ADDRESSES);
        } else if is("Subject") && self.subject.is_empty() {
            self.subject = words::decode(value, MAX_TEXT);
        } else if is("Date") && self.date_text.is_empty() {
            self.date_text = words::clean(value, MAX_TEXT);
        } else if is("Message-ID") && self.message_id.is_empty() {
            self.message_id = words::clean(value, MAX_TEXT);
        }
    }

    /// The name of the sender, or the address if there is no name.
    pub fn from_name(&self) -> &str {
        match self.from.rsplit_once(" <") {
            Some((name, _)) => name.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(name),
            None => &self.from,
        }
    }
}

/// One mailbox or group of an address field (RFC 5322 section 3.4), its parts still encoded.
#[derive(Default)]
struct Person {
    /// the phrase, or the bare address
    phrase: Vec<u8>,
    comment: Vec<u8>,
    address: Option<Vec<u8>>,
}

/// The first `count` people of an address field.
fn people(value: &[u8], count: usize) -> String {
    let mut shown = String::new();
    let mut scan = Scan { bytes: &value[..value.len().min(MAX_FIELD)] };
    let mut left = count;
    while left > 0
        && let Some(person) = scan.person()
    {
        let text = person.display();
        if text.is_empty() {
            continue;
        }
        let separator = if shown.is_empty() { "" } else { ", " };
        if shown.len() + separator.len() + text.len() > MAX_TEXT {
            break;
        }
        shown.push_str(separator);
        shown.push_str(&text);
        left -= 1;
    }
    shown
}

impl Person {
    fn display(&self) -> String {
        // An address is never decoded (RFC 2047 section 5): `=?utf-8?q?ann=40x.org?=` is not ann@x.org.
        let Some(address) = &self.address else { return words::clean(&self.phrase, MAX_TEXT) };
        // The address is the part that must not be cut: the name takes what is left, quotes and brackets counted.
        let address = words::clean(address, MAX_TEXT - 3).replace(['<', '>'], "");
        let room = (MAX_TEXT - 3).saturating_sub(address.len() + 2);
        let phrase = words::decode(&self.phrase, room);
        let name = if phrase.is_empty() { words::decode(&self.comment, room) } else { phrase };
        let name = name.replace('"', "");
        match name.trim() {
            "" => address,
            name if name.contains(['<', '>', ',', ';', ':', '@', '\\']) => format!("\"{name}\" <{address}>"),
            name => format!("{name} <{address}>"),
        }
    }
}

/// Walks an address field; comments, quotes and angle brackets hide commas.
struct Scan<'a> {
    bytes: &'a [u8],
}

impl Scan<'_> {
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(*first)
    }

    /// Up to the next comma or semicolon; the name of a group is dropped.
    fn person(&mut self) -> Option<Person> {
        if self.bytes.is_empty() {
            return None;
        }
        let mut person = Person::default();
        while let Some(byte) = self.next() {
            match byte {
                b',' | b';' => break,
                b':' => person = Person::default(),
                b'"' => self.until(b'"', &mut person.phrase),
                b'(' => self.comment(&mut person.comment),
                b'<' => {
                    let mut address = Vec::new();
                    self.until(b'>', &mut address);
                    person.address.get_or_insert(address);
                }
                byte => person.phrase.push(byte),
            }
        }
        // `ann@example.org (Ann)`: the old way to write a name.
        if person.address.is_none() && person.phrase.contains(&b'@') && !person.comment.is_empty() {
            person.address = Some(std::mem::take(&mut person.phrase));
        }
        Some(person)
    }

    fn until(&mut self, end: u8, into: &mut Vec<u8>) {
        while let Some(byte) = self.next() {
            match byte {
                b'\\' => into.extend(self.next()),
                byte if byte == end => return,
                byte => into.push(byte),
            }
        }
    }

    fn comment(&mut self, into: &mut Vec<u8>) {
        let mut depth = 1;
        while let Some(byte) = self.next() {
            match byte {
                b'\\' => into.extend(self.next()),
                b'(' => depth += 1,
                b')' if depth == 1 => return,
                b')' => depth -= 1,
                byte => into.push(byte),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::header;

    fn digest(text: &str) -> Digest {
        let mut digest = Digest::default();
        for field in header::fields(text.as_bytes()) {
            digest.note(field.name(), field.value());
        }
        digest
    }

    #[test]
    fn senders_are_shown_with_name_and_address() {
        let rows = [
            ("ann@x.org", "ann@x.org", "ann@x.org"),
            ("<ann@x.org>", "ann@x.org", "ann@x.org"),
            ("Ann B <ann@x.org>", "Ann B <ann@x.org>", "Ann B"),
            ("\"B, Ann\" <ann@x.org>", "\"B, Ann\" <ann@x.org>", "B, Ann"),
            ("=?utf-8?q?P=C3=A4ivi?= <p@x.org>", "Päivi <p@x.org>", "Päivi"),
            ("=?utf-8?q?bank=40b.org_=3Ca=40b.org=3E?= <evil@x.org>", "\"bank@b.org <a@b.org>\" <evil@x.org>", "bank@b.org <a@b.org>"),
            ("ann@x.org (Ann)", "Ann <ann@x.org>", "Ann"),
            ("Team: ann@x.org, bob@x.org;", "ann@x.org", "ann@x.org"),
            ("Nobody:;", "", ""),
            ("=?utf-8?q?ann=40x.org?=", "=?utf-8?q?ann=40x.org?=", "=?utf-8?q?ann=40x.org?="),
            ("Ann <=?utf-8?q?ann=40x.org?=>", "Ann <=?utf-8?q?ann=40x.org?=>", "Ann"),
            ("ann@x.org, bob@x.org", "ann@x.org", "ann@x.org"),
            ("Ann\r\n <ann@x.org>", "Ann <ann@x.org>", "Ann"),
            ("", "", ""),
        ];
        for (value, shown, name) in rows {
            let found = digest(&format!("From: {value}\r\n"));
            assert_eq!(found.from, shown, "{value}");
            assert_eq!(found.from_name(), name, "{value}");
        }
    }

    #[test]
    fn recipients_are_listed_and_bounded() {
        assert_eq!(digest("To: a@x.org, B <b@x.org>\r\n").to, "a@x.org, B <b@x.org>");
        let many = digest(&format!("To: {}\r\n", "someone@example.org, ".repeat(1000))).to;
        assert_eq!(many.matches("someone").count(), MAX_ADDRESSES);
        assert!(digest(&format!("To: {} <a@x.org>\r\n", "=?utf-8?q?=C3=BC?=".repeat(400))).to.len() <= MAX_TEXT);
    }

    #[test]
    fn the_first_field_counts_and_texts_are_clean() {
        let found = digest("Subject: =?utf-8?q?one=0Atwo?=\r\nSubject: b\r\nDATE: Mon, 1 Jan\r\nmessage-id: <1@x>\r\n\r\nTo: body@x\r\n");
        assert_eq!(
            found,
            Digest { subject: "onetwo".into(), date_text: "Mon, 1 Jan".into(), message_id: "<1@x>".into(), ..Digest::default() }
        );
        assert_eq!(digest(&format!("Subject: {}\r\n", "ü".repeat(900))).subject.len(), 254);
    }
}
