//! What `pipit send` does to a message before it goes to the server: line ends, the lone dot, and the recipients of `-t`.
//!
//! Pure. In go the octets of standard input; out come lines that end in CRLF, as SMTP wants them (RFC 5322 section 2.3), and with
//! `-t` the addresses of To, Cc and Bcc. Bcc is removed then: it is what the recipients must not see.
//! A program cannot be asked again, so what SMTP would refuse is mended: a lone CR becomes a line end, NUL goes.

use crate::cli::sendmail::End;
use crate::cli::sendmail::TlsWish;
use crate::mail::address_list;
use crate::mail::header;

/// The input as a message with CRLF at every line's end.
pub fn canonical(input: &[u8], end: End) -> Vec<u8> {
    let mut message = Vec::with_capacity(input.len() + input.len() / 32);
    for (number, line) in input.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if end == End::LoneDot && text == b"." {
            break;
        }
        // The separator of a mailbox file, which mailers of old put in front.
        if number == 0 && text.starts_with(b"From ") {
            continue;
        }
        for part in text.split(|byte| *byte == b'\r') {
            message.extend(part.iter().filter(|byte| **byte != 0));
            message.extend_from_slice(b"\r\n");
        }
    }
    message
}

/// The addresses that the header names (`-t`), and the message without Bcc. Where the message is resent, the Resent fields
/// count alone (RFC 5322 section 3.6.6).
pub fn recipients(message: &[u8]) -> (Vec<String>, Vec<u8>) {
    let resent = header::fields(message).take(header::MAX_FIELDS).any(|field| is_one_of(field.name(), &RESENT));
    let wanted = if resent { &RESENT } else { &PLAIN };
    let (mut to, mut hidden) = (Vec::new(), Vec::new());
    for field in header::fields(message).take(header::MAX_FIELDS) {
        if is_one_of(field.name(), wanted) {
            to.extend(address_list::addresses(field.value()));
        }
        if is_one_of(field.name(), &HIDDEN) {
            hidden.push(field.range.clone());
        }
    }
    to.truncate(address_list::MAX_ADDRESSES);
    (to, header::without(message, &hidden))
}

const PLAIN: [&str; 3] = ["To", "Cc", "Bcc"];
const RESENT: [&str; 3] = ["Resent-To", "Resent-Cc", "Resent-Bcc"];
const HIDDEN: [&str; 2] = ["Bcc", "Resent-Bcc"];

fn is_one_of(name: &str, names: &[&str]) -> bool {
    names.iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// The message with the field that stands for the wish, in place of any it has (RFC 8689 section 5 wants exactly one).
pub fn with_wish(message: Vec<u8>, wish: TlsWish) -> Vec<u8> {
    if wish == TlsWish::Default {
        return message;
    }
    let old: Vec<_> =
        header::fields(&message).take(header::MAX_FIELDS).filter(|field| field.is("TLS-Required")).map(|field| field.range).collect();
    let mut with = b"TLS-Required: No\r\n".to_vec();
    if header::fields(&message).next().is_none() && !message.starts_with(b"\r\n") {
        // A message without a header: its first line must not become one.
        with.extend_from_slice(b"\r\n");
    }
    with.extend_from_slice(&header::without(&message, &old));
    with
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_in_crlf_and_a_lone_dot_ends_the_message() {
        let rows: [(&[u8], End, &[u8]); 8] = [
            (b"a\nb", End::Input, b"a\r\nb\r\n"),
            (b"a\r\nb\r\n", End::Input, b"a\r\nb\r\n"),
            (b"a\n.\nb\n", End::LoneDot, b"a\r\n"),
            (b"a\n.\nb\n", End::Input, b"a\r\n.\r\nb\r\n"),
            (b"a\r\n.\r\nb\n", End::LoneDot, b"a\r\n"),
            (b"From x@y Mon Jan\nSubject: s\n\nFrom here\n", End::Input, b"Subject: s\r\n\r\nFrom here\r\n"),
            (b"10%\r50%\r100%\n", End::Input, b"10%\r\n50%\r\n100%\r\n"),
            (b"a\0b\n", End::Input, b"ab\r\n"),
        ];
        for (input, end, expected) in rows {
            assert_eq!(String::from_utf8_lossy(&canonical(input, end)), String::from_utf8_lossy(expected));
        }
        assert!(canonical(b"", End::Input).is_empty());
    }

    #[test]
    fn the_header_names_recipients_and_bcc_goes() {
        let text =
            b"To: ann@home.test,\r\n b@c.test\r\nbcc: hidden@x.test\r\nSubject: s\r\nCC: Bob <bob@x.test>\r\n\r\nTo: body@x.test\r\n";
        let (to, message) = recipients(text);
        assert_eq!(to, ["ann@home.test", "b@c.test", "hidden@x.test", "bob@x.test"]);
        let kept = "To: ann@home.test,\r\n b@c.test\r\nSubject: s\r\nCC: Bob <bob@x.test>\r\n\r\nTo: body@x.test\r\n";
        assert_eq!(String::from_utf8(message).unwrap(), kept);
        let (to, _) = recipients(b"To: a@b.test\r\nResent-To: c@d.test\r\n\r\n");
        assert_eq!(to, ["c@d.test"]);
    }

    #[test]
    fn the_wish_stands_once() {
        let with = |text: &str| String::from_utf8(with_wish(text.as_bytes().to_vec(), TlsWish::Waived)).unwrap();
        assert_eq!(with("TLS-Required: Yes\r\nSubject: s\r\n\r\nx\r\n"), "TLS-Required: No\r\nSubject: s\r\n\r\nx\r\n");
        assert_eq!(with("no header at all\r\n"), "TLS-Required: No\r\n\r\nno header at all\r\n");
        assert_eq!(with_wish(b"x".to_vec(), TlsWish::Default), b"x");
    }
}
