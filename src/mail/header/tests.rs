//! Tests of `mail::header`: where headers end, what fields are, and what is refused.
//!
//! Each table row is a header and its meaning; a new odd header is a row here first.

use super::*;

fn ours() -> Domain {
    Domain::parse("mx.example.org").unwrap()
}

fn gather(message: &[u8], slice: usize) -> Block {
    let mut gatherer = Gatherer::new();
    let mut chunks = message.chunks(slice);
    for chunk in chunks.by_ref() {
        if gatherer.push(chunk).unwrap() == Gathered::Complete {
            break;
        }
    }
    let mut block = gatherer.finish();
    block.rest.extend(chunks.flatten());
    block
}

#[test]
fn the_header_ends_at_the_same_place_however_it_is_sliced() {
    let rows: [(&str, &str, HeaderEnd); 13] = [
        ("A: 1\r\n\r\nbody", "A: 1\r\n\r\n", HeaderEnd::EmptyLine),
        ("A: 1\r\n b\r\n\r\nbody", "A: 1\r\n b\r\n\r\n", HeaderEnd::EmptyLine),
        ("A: 1\n\nbody", "A: 1\n\n", HeaderEnd::EmptyLine),
        ("\r\nA: 1\r\n", "\r\n", HeaderEnd::EmptyLine),
        ("A: 1\r\nno field\r\nFrom: x\r\n\r\n", "A: 1\r\n", HeaderEnd::NotAField),
        ("A: 1\r\nno field", "A: 1\r\n", HeaderEnd::NotAField),
        (" A: 1\r\nB: 2\r\n", "", HeaderEnd::NotAField),
        (": 1\r\n", "", HeaderEnd::NotAField),
        ("From ann Mon\r\nA: 1\r\n", "", HeaderEnd::NotAField),
        ("Ü: 1\r\n", "", HeaderEnd::NotAField),
        ("A: 1\r\nB: 2", "A: 1\r\nB: 2", HeaderEnd::EndOfMessage),
        ("A: 1\r\n", "A: 1\r\n", HeaderEnd::EndOfMessage),
        ("", "", HeaderEnd::EndOfMessage),
    ];
    for (message, header, end) in rows {
        for slice in 1..=message.len().max(1) {
            let block = gather(message.as_bytes(), slice);
            assert_eq!(String::from_utf8_lossy(&block.header), header, "{message:?} by {slice}");
            assert_eq!(block.end, end, "{message:?} by {slice}");
            assert_eq!([block.header, block.rest].concat(), message.as_bytes());
        }
        let read: usize = fields(message.as_bytes()).map(|field| field.range.len()).sum();
        assert!(["", "\n", "\r\n"].contains(&&header[read..]), "{message:?}: both readings end at the same place");
    }
}

#[test]
fn fields_have_names_values_and_ranges() {
    let header = b"Subject : a\r\n\tb \r\nX:\r\nTo:<x>\r\n\r\nCc: body\r\n";
    let found: Vec<Field<'_>> = fields(header).collect();
    assert_eq!(found.iter().map(Field::name).collect::<Vec<_>>(), ["Subject", "X", "To"]);
    assert!(found[0].is("SUBJECT") && found[0].value() == b" a\r\n\tb " && found[0].unfolded() == b"a\tb");
    assert!(found[1].value().is_empty() && found[2].value() == b"<x>");
    assert_eq!(found.iter().map(|field| header[field.range.clone()].to_vec()).collect::<Vec<_>>().concat(), header[..30]);
}

#[test]
fn exactly_one_from_is_asked_for() {
    assert_eq!(examine(b"To: x\r\n\r\n", &ours()), Err(HeaderFault::FromCount(0)));
    assert_eq!(examine(b"From: a\r\nfrom : b\r\n\r\n", &ours()), Err(HeaderFault::FromCount(2)));
    assert_eq!(examine(b"To: x\r\n\r\nFrom: a\r\n", &ours()), Err(HeaderFault::FromCount(0)));
    assert!(examine(b"FROM: a\r\n\r\nFrom: b\r\n", &ours()).is_ok());
}

#[test]
fn limits_hold() {
    let many = |count: usize, line: &str| [b"From: a\r\n".to_vec(), line.repeat(count).into_bytes()].concat();
    assert!(examine(&many(MAX_FIELDS - 1, "X: 1\r\n"), &ours()).is_ok());
    assert_eq!(examine(&many(MAX_FIELDS, "X: 1\r\n"), &ours()), Err(HeaderFault::TooManyFields));
    assert_eq!(examine(&many(MAX_RECEIVED, "Received: x\r\n"), &ours()).unwrap().received, MAX_RECEIVED);
    assert_eq!(examine(&many(MAX_RECEIVED + 1, "Received: x\r\n"), &ours()), Err(HeaderFault::Loop));

    let mut gatherer = Gatherer::new();
    assert_eq!(gatherer.push(&many(1, &"a".repeat(MAX_HEADER))), Err(HeaderFault::TooBig));
    let mut gatherer = Gatherer::new();
    let line = format!("X: {}\r\n", "a".repeat(1000));
    let mut verdicts = (0..MAX_HEADER / 1000).map(|_| gatherer.push(line.as_bytes()));
    assert!(verdicts.any(|verdict| verdict == Err(HeaderFault::TooBig)));
}

#[test]
fn a_big_body_behind_the_header_is_no_big_header() {
    let mut gatherer = Gatherer::new();
    let message = [b"From: a\r\n\r\n".to_vec(), vec![b'x'; 2 * MAX_HEADER]].concat();
    assert_eq!(gatherer.push(&message), Ok(Gathered::Complete));
    assert_eq!(gatherer.finish().rest.len(), 2 * MAX_HEADER);
}

#[test]
fn tls_required_counts_once_and_only_as_no() {
    let rows = [
        ("", RequireTls::Default),
        ("TLS-Required: No\r\n", RequireTls::Waived),
        ("tls-required:\r\n no \r\n", RequireTls::Waived),
        ("TLS-Required: Yes\r\n", RequireTls::Default),
        ("TLS-Required: No (comment)\r\n", RequireTls::Default),
        ("TLS-Required: No\r\nTLS-Required: No\r\n", RequireTls::Default),
        ("TLS-Required:\r\n", RequireTls::Default),
    ];
    for (line, wish) in rows {
        let examined = examine(format!("From: a\r\n{line}\r\n").as_bytes(), &ours()).unwrap();
        assert_eq!(examined.wish, wish, "{line}");
        assert_eq!(examined.wish_with(RequireTls::Required), RequireTls::Required, "the parameter wins");
        assert_eq!(examined.wish_with(RequireTls::Default), wish);
    }
}

#[test]
fn authentication_results_in_our_name_go_and_others_stay() {
    let header = b"Authentication-Results: mx.example.org;\r\n spf=pass\r\nFrom: a\r\nAuthentication-Results: other.org; none\r\n\
        AUTHENTICATION-RESULTS : (x) MX.example.org 1; none\r\nARC-Authentication-Results: i=1; mx.example.org\r\n\r\n";
    let examined = examine(header, &ours()).unwrap();
    let kept = without(header, &examined.forged);
    assert_eq!(
        String::from_utf8_lossy(&kept),
        "From: a\r\nAuthentication-Results: other.org; none\r\nARC-Authentication-Results: i=1; mx.example.org\r\n\r\n"
    );
    assert_eq!(without(header, &[]), header);
}

#[test]
fn delivered_to_knows_spellings_of_an_address() {
    let header = b"Delivered-To: Ann@Example.ORG\r\nX: bob@example.org\r\n\r\n";
    assert!(delivered_to(header, &Address::parse("ann@example.org").unwrap()));
    assert!(!delivered_to(header, &Address::parse("bob@example.org").unwrap()));
    assert!(delivered_to(b"Delivered-To: <a@x.org>\r\n", &Address::parse("a@x.org").unwrap()));
}
