//! Headers with everything that reads them.
//!
//! Gatherer, fields, examination, Authentication-Results, encoded words, digest, and the Received field in front.

use pipit::mail::authres;
use pipit::mail::date::UnixTime;
use pipit::mail::digest;
use pipit::mail::domain::Domain;
use pipit::mail::envelope::RequireTls;
use pipit::mail::header;
use pipit::mail::header::Block;
use pipit::mail::header::Gathered;
use pipit::mail::header::Gatherer;
use pipit::mail::header::HeaderEnd;
use pipit::mail::header::HeaderFault;
use pipit::mail::received::From;
use pipit::mail::received::Received;
use pipit::mail::received::WithProtocol;
use pipit::mail::words;

pub const SEEDS: &[&[u8]] = &[
    b"From: Ann B <ann@example.org>\r\nTo: a@x.org, \"B, C\" <b@x.org>\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?= =?utf-8?B?w7w=?=\r\n\r\nbody\r\n",
    b"Received: from x\r\n\tby y; date\r\nAuthentication-Results: mx.example.org;\r\n spf=pass\r\nFrom: a\r\nTLS-Required: No\r\n\r\n",
    b"Authentication-Results: (a (b) \\)) \"mx.exa\\mple.org\" 1; none\r\nFrom: Team: a@x.org (Ann), b@x.org;\r\nDate: x\r\n\r\n",
    b"From: a\r\nno field\r\nFrom: b\r\n\r\n",
    b"From : a\r\nMessage-ID: <1@x>\r\nDelivered-To: ann@example.org\r\n \r\n folded\r\n\r\n",
    b"Subject: =?iso-2022-jp?B?GyRCRnxLXBsoQg==?= =?utf-8*en?Q?a_b?=\r\n\r\n",
];

pub fn target(data: &[u8]) {
    let ours = Domain::parse("mx.example.org").expect("a plain name");
    let whole = gather(data, data.len().max(1));
    for slice in [1, 7] {
        assert_eq!(gather(data, slice), whole, "slices change nothing");
    }
    let Ok(block) = whole else { return };
    assert_eq!([&block.header[..], &block.rest[..]].concat(), data);

    let mut at = 0;
    for field in header::fields(data) {
        assert_eq!(field.range.start, at, "fields follow each other");
        at = field.range.end;
        assert!(!field.name().is_empty() && field.name().bytes().all(|byte| byte.is_ascii_graphic() && byte != b':'));
        clean(&words::decode(field.value(), 100), 100);
        let _ = authres::authserv_id(field.value());
    }
    let behind = match block.end {
        HeaderEnd::EmptyLine => &[&b"\r\n"[..], b"\n"][..],
        HeaderEnd::NotAField | HeaderEnd::EndOfMessage => &[&b""[..]][..],
    };
    assert!(behind.contains(&&block.header[at..]), "fields and gatherer agree on the end");

    let Ok(examined) = header::examine(&block.header, &ours) else { return };
    for text in [&examined.digest.from, &examined.digest.to, &examined.digest.subject, &examined.digest.date_text] {
        clean(text, digest::MAX_TEXT);
    }
    clean(&examined.digest.message_id, digest::MAX_TEXT);
    clean(examined.digest.from_name(), digest::MAX_TEXT);
    let kept = header::without(&block.header, &examined.forged);
    let again = header::examine(&kept, &ours).expect("what was accepted stays acceptable");
    assert!(again.forged.is_empty() && again.wish == examined.wish && again.digest == examined.digest);

    let stamp = received(&examined.digest.subject, &ours);
    let stamped = [stamp.as_bytes(), &kept].concat();
    assert_eq!(header::fields(&stamped).next().map(|field| field.range), Some(0..stamp.len()), "one field, whatever HELO says");
}

fn gather(data: &[u8], slice: usize) -> Result<Block, HeaderFault> {
    let mut gatherer = Gatherer::new();
    let mut chunks = data.chunks(slice);
    for chunk in chunks.by_ref() {
        if gatherer.push(chunk)? == Gathered::Complete {
            break;
        }
    }
    let mut block = gatherer.finish();
    block.rest.extend(chunks.flatten());
    Ok(block)
}

fn clean(text: &str, max: usize) {
    assert!(text.len() <= max && !text.chars().any(char::is_control), "{text:?}");
}

fn received(helo: &str, by: &Domain) -> String {
    let received = Received {
        from: From::Client { helo, name: None, address: [192, 0, 2, 1].into() },
        by,
        with: WithProtocol::Esmtp,
        require_tls: RequireTls::Default,
        id: helo,
        tls: None,
        for_: None,
        date: UnixTime(0),
    };
    received.to_string()
}
