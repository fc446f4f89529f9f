//! Addresses, paths, domains, and the commands that carry them.
//!
//! What parses survives `Display` and comes back equal, and nothing that ends a line or a path comes out.

use pipit::mail::address::Address;
use pipit::mail::domain::Domain;
use pipit::mail::path::ForwardPath;
use pipit::mail::path::ReversePath;
use pipit::mail::path::path_end;
use pipit::proto::smtp::command;

pub const SEEDS: &[&[u8]] = &[
    b"<ann@example.org>",
    b"<>",
    b"<Postmaster>",
    b"<@a.example,@b.example:ann@example.org>",
    b"<\"a \\\"b\\\" c\"@example.org>",
    b"<a@[192.0.2.1]>",
    b"<a@[IPv6:2001:db8::1]>",
    b"<p\xc3\xa4ivi@b\xc3\xbccher.example>",
    b"<a@xn--bcher-kva.example.>",
    b"<a@example.org> SIZE=10 BODY=8BITMIME SMTPUTF8 REQUIRETLS",
];

pub fn target(data: &[u8]) {
    let _ = command::parse(data);
    let _ = command::parse(&[b"MAIL FROM:", data].concat());
    let _ = command::parse(&[b"RCPT TO:", data].concat());
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(end) = path_end(text) {
        assert!(text[..end].starts_with('<') && text[..end].ends_with('>'));
    }
    if let Ok(path) = ReversePath::parse(text) {
        assert_eq!(ReversePath::parse(&path.to_string()).as_ref(), Ok(&path));
        assert_eq!(path_end(text), Some(text.len()), "both readings of a path end at the same place");
        visible(&path.to_string());
    }
    if let Ok(path) = ForwardPath::parse(text) {
        assert_eq!(ForwardPath::parse(&path.to_string()).as_ref(), Ok(&path));
        visible(&path.to_string());
        visible(&path.local().to_string());
    }
    let inner = text.trim_start_matches('<').trim_end_matches('>');
    if let Ok(address) = Address::parse(inner) {
        assert_eq!(Address::parse(&address.to_string()).as_ref(), Ok(&address));
        visible(&address.folded());
    }
    if let Ok(domain) = Domain::parse(inner) {
        assert_eq!(Domain::parse(domain.as_str()).as_ref(), Ok(&domain));
        assert!(domain.as_str().is_ascii() && domain.as_str().len() <= 255);
        assert_eq!(domain.literal().is_some(), domain.as_str().starts_with('['));
        visible(&domain.to_unicode());
    }
}

fn visible(text: &str) {
    assert!(!text.chars().any(char::is_control), "{text:?}");
}
