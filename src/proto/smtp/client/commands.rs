//! MAIL and RCPT as they are sent: parameters only as offered (RFC 5321 section 2.2.1), and what a peer lacks.
//!
//! Nothing that is written here can hold CR, LF or octets that the peer did not agree to: addresses are parsed ones,
//! and of ENVID and ORCPT only xtext is passed on.

use crate::mail::envelope::Body;
use crate::mail::notify::Ret;
use crate::mail::path::ReversePath;
use crate::proto::smtp::client::offers::PeerOffers;
use crate::proto::smtp::client::offers::SizeOffer;
use crate::proto::smtp::client::words::LACKS_EIGHT_BIT;
use crate::proto::smtp::client::words::LACKS_UTF8;
use crate::proto::smtp::client::words::Outcome;
use crate::proto::smtp::client::words::Outgoing;
use crate::proto::smtp::client::words::TOO_BIG;
use crate::proto::smtp::client::words::Transaction;
use crate::proto::smtp::client::words::Why;

/// What all recipients get because the peer lacks what the message needs; nothing is sent then.
pub(super) fn lacks(transaction: &Transaction<'_>, offers: &PeerOffers) -> Option<Outcome> {
    if needs_utf8(transaction) && !offers.smtp_utf8 {
        let why = Why::ours(LACKS_UTF8, "the message needs SMTPUTF8, which the host does not offer");
        return Some(Outcome::NextHost(why));
    }
    if let SizeOffer::AtMost(limit) = offers.size
        && transaction.size > limit
    {
        let text = format!("the message has {} octets, the host takes at most {limit}", transaction.size);
        return Some(Outcome::Failed(Why { status: TOO_BIG, reply: None, text }));
    }
    if transaction.body == Body::EightBit && !offers.eight_bit_mime {
        let why = Why::ours(LACKS_EIGHT_BIT, "the message has 8-bit text, and the host does not offer 8BITMIME");
        return Some(Outcome::Failed(why));
    }
    None
}

fn needs_utf8(transaction: &Transaction<'_>) -> bool {
    let sender = match transaction.reverse_path {
        ReversePath::Null => true,
        ReversePath::Address(address) => address.local.is_ascii(),
    };
    transaction.smtp_utf8 || !sender || transaction.recipients.iter().any(|outgoing| !outgoing.address.local.is_ascii())
}

/// `MAIL FROM:…` with its CRLF.
pub(super) fn mail(transaction: &Transaction<'_>, offers: &PeerOffers) -> Vec<u8> {
    let mut line = format!("MAIL FROM:{}", transaction.reverse_path);
    if offers.size != SizeOffer::No {
        line += &format!(" SIZE={}", transaction.size);
    }
    if transaction.body == Body::EightBit && offers.eight_bit_mime {
        line += " BODY=8BITMIME";
    }
    // RFC 6531 section 3.4: only where it is needed.
    if needs_utf8(transaction) && offers.smtp_utf8 {
        line += " SMTPUTF8";
    }
    if offers.dsn {
        if transaction.ret != Ret::Unset {
            line += &format!(" RET={}", transaction.ret);
        }
        if let Some(envid) = transaction.envid.filter(|envid| is_xtext(envid)) {
            line += &format!(" ENVID={envid}");
        }
    }
    (line + "\r\n").into_bytes()
}

/// `RCPT TO:…` with its CRLF.
pub(super) fn rcpt(outgoing: &Outgoing, offers: &PeerOffers) -> Vec<u8> {
    let mut line = format!("RCPT TO:<{}>", outgoing.address);
    if offers.dsn {
        // `On` without any event would be no parameter at all.
        let notify = outgoing.notify.to_string();
        if !notify.is_empty() {
            line += &format!(" NOTIFY={notify}");
        }
        if let Some(orcpt) = outgoing.orcpt.as_deref().filter(|orcpt| is_xtext(orcpt)) {
            line += &format!(" ORCPT={orcpt}");
        }
    }
    (line + "\r\n").into_bytes()
}

/// Printable ASCII without blanks: what was taken as xtext (RFC 3461 section 4) is again, and nothing else may go out.
fn is_xtext(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}
