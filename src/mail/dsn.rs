//! Notices about mail on its way: delivery status notifications (RFC 3464, RFC 3461, RFC 6522, RFC 6533).
//!
//! In go the facts of one message and of the recipients to tell of; out comes a whole message with its header: a text that
//! a tired person understands, the same for machines, and the header of the original (all of it where asked for).
//! The report needs 8 bits where the original, an address or a reply has some; `is_ascii` on the result tells.
//! Not done here: who gets the notice, and whether there is to be one (`intake::bounce`).

use std::fmt::Write;

use crate::mail::address::Address;
use crate::mail::date::UnixTime;
use crate::mail::digest::Digest;
use crate::mail::domain::Domain;
use crate::mail::enhanced::EnhancedStatus;
use crate::mail::envelope::RequireTls;

/// Lines of machine-readable fields are folded here; RFC 5322 section 2.1.1 allows 998 octets.
const FOLD_AT: usize = 200;
/// Lines of a reply that are shown; a server that says more says nothing.
const MAX_REPLY_LINES: usize = 12;

/// What happened to the recipients of one notice (RFC 3464 section 2.3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DsnAction {
    Failed,
    Delayed,
    Delivered,
    /// handed to a server that cannot tell of the delivery
    Relayed,
}

/// One notice.
#[derive(Debug)]
pub struct Report<'a> {
    /// our name: Reporting-MTA, and the domain of the sender
    pub host: &'a Domain,
    /// whoever sent the message
    pub to: &'a Address,
    /// of the notice: the left part of its Message-ID, and the boundary between its parts
    pub id: &'a str,
    pub now: UnixTime,
    pub action: DsnAction,
    pub original: Original<'a>,
    pub recipients: &'a [Told<'a>],
}

/// The message that the notice is about.
#[derive(Debug)]
pub struct Original<'a> {
    /// the 13 letters by which the log and the queue know it
    pub id: &'a str,
    pub arrived: UnixTime,
    /// as xtext
    pub envid: Option<&'a str>,
    pub digest: &'a Digest,
    /// `Waived` is passed on (RFC 8689 section 6)
    pub wish: RequireTls,
    pub returned: Returned<'a>,
}

/// What comes back of the original.
#[derive(Clone, Copy, Debug)]
pub enum Returned<'a> {
    Header(&'a [u8]),
    Whole(&'a [u8]),
    /// it cannot be read any more
    Nothing,
}

/// One recipient, and what happened.
#[derive(Debug)]
pub struct Told<'a> {
    pub address: &'a Address,
    /// as xtext, with its type: `rfc822;ann@example.org`
    pub orcpt: Option<&'a str>,
    pub status: EnhancedStatus,
    pub story: Story<'a>,
    pub last_attempt: Option<UnixTime>,
    /// of a delayed one: when it is given up
    pub retry_until: Option<UnixTime>,
}

/// Who said what happened.
#[derive(Debug)]
pub enum Story<'a> {
    /// this server, in a sentence
    Ours(&'a str),
    /// another one: its name, and its whole reply in one line, lines separated by ` / `
    Theirs { host: &'a str, reply: &'a str },
}

/// The whole notice, with CRLF line breaks.
pub fn write(report: &Report<'_>) -> Vec<u8> {
    let boundary = format!("=_{}", report.id);
    let mut out = String::with_capacity(4096);
    header(&mut out, report, &boundary);
    let _ = write!(out, "\r\nThis is a report about a message that you sent, in the form of RFC 3464.\r\n");
    part(&mut out, &boundary, "text/plain; charset=utf-8", &text(report));
    let global = report.recipients.iter().any(|told| !told.address.local.is_ascii());
    let kind = if global { "message/global-delivery-status" } else { "message/delivery-status" };
    part(&mut out, &boundary, kind, &status_fields(report));
    let mut bytes = out.into_bytes();
    match report.original.returned {
        Returned::Header(header) => returned(&mut bytes, &boundary, header, ["text/rfc822-headers", "message/global-headers"]),
        Returned::Whole(whole) => returned(&mut bytes, &boundary, whole, ["message/rfc822", "message/global"]),
        Returned::Nothing => {}
    }
    bytes.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    bytes
}

fn header(out: &mut String, report: &Report<'_>, boundary: &str) {
    let subject = match report.action {
        DsnAction::Failed => "Your message could not be delivered",
        DsnAction::Delayed => "Your message is delayed",
        DsnAction::Delivered => "Your message was delivered",
        DsnAction::Relayed => "Your message was passed on",
    };
    let Report { host, to, id, .. } = report;
    let _ = write!(out, "Date: {}\r\n", report.now.rfc5322());
    let _ = write!(out, "From: Mail Delivery System <mailer-daemon@{host}>\r\nTo: <{to}>\r\nSubject: {subject}\r\n");
    let _ = write!(out, "Message-ID: <{id}@{host}>\r\n");
    // Threads in the sender's program; only what is surely one message id, as it was written by a stranger.
    let original = &report.original.digest.message_id;
    let plain = original.bytes().all(|byte| byte.is_ascii_graphic()) && original.matches(['<', '>']).count() == 2;
    if original.starts_with('<') && original.ends_with('>') && plain {
        let _ = write!(out, "In-Reply-To: {original}\r\nReferences: {original}\r\n");
    }
    if report.original.wish == RequireTls::Waived {
        out.push_str("TLS-Required: No\r\n");
    }
    out.push_str("Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n");
    let _ = write!(out, "Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=\"{boundary}\"\r\n");
}

fn part(out: &mut String, boundary: &str, kind: &str, content: &str) {
    let _ = write!(out, "\r\n--{boundary}\r\nContent-Type: {kind}\r\n");
    if !content.is_ascii() {
        out.push_str("Content-Transfer-Encoding: 8bit\r\n");
    }
    out.push_str("\r\n");
    out.push_str(content);
}

/// What the person reads.
fn text(report: &Report<'_>) -> String {
    let mut out = String::with_capacity(1024);
    out.push_str(match report.action {
        DsnAction::Failed => "Your message could not be delivered to:\r\n",
        DsnAction::Delayed => "Your message has not been delivered yet to:\r\n",
        DsnAction::Delivered => "Your message was delivered to:\r\n",
        DsnAction::Relayed => "Your message was handed over to the next mail server, which will send no further notice, for:\r\n",
    });
    for told in report.recipients {
        let _ = write!(out, "\r\n    {}\r\n", told.address);
        match told.story {
            Story::Ours(sentence) => wrapped(&mut out, &format!("{sentence}.")),
            Story::Theirs { host, reply } => {
                let _ = write!(out, "    {host} answered:\r\n");
                reply.split(" / ").take(MAX_REPLY_LINES).for_each(|line| wrapped(&mut out, line));
            }
        }
        if report.action == DsnAction::Failed {
            if told.status.class == 4 {
                let since = report.original.arrived.rfc5322();
                wrapped(&mut out, &format!("This server kept trying since {since}, and gives up now."));
            }
            wrapped(&mut out, advice(told));
        }
    }
    if report.action == DsnAction::Delayed {
        let until = report.recipients.iter().filter_map(|told| told.retry_until).max();
        let until = until.map(|time| format!(" until {}", time.rfc5322())).unwrap_or_default();
        let _ = write!(out, "\r\nYou need not do anything: this server goes on trying{until}.\r\nYou will be told if it fails.\r\n");
    }
    about_original(&mut out, &report.original);
    let _ = write!(out, "\r\nThis notice was made by the mail server {}.\r\n", report.host);
    out
}

fn about_original(out: &mut String, original: &Original<'_>) {
    let digest = original.digest;
    out.push_str("\r\nThe message:\r\n\r\n");
    for (label, value) in
        [("Subject", &digest.subject), ("To", &digest.to), ("Date", &digest.date_text), ("Message-ID", &digest.message_id)]
    {
        if !value.is_empty() {
            let _ = write!(out, "    {label}: {value}\r\n");
        }
    }
    let _ = write!(out, "    Taken on: {}, as number {}\r\n", original.arrived.rfc5322(), original.id);
    if matches!(original.returned, Returned::Nothing) {
        out.push_str("\r\nYour text cannot be given back: this server cannot read it any more, because its store is damaged.\r\n");
    }
}

/// What to do now, by the code of RFC 3463.
fn advice(told: &Told<'_>) -> &'static str {
    let EnhancedStatus { class, subject, detail } = told.status;
    match (class, subject, detail) {
        (4, 7, _) => "Please send the message again later, or reach the recipient by another way.",
        (_, 1, 2 | 10) => "Please check the part behind the @: it is misspelt, or takes no mail.",
        (_, 1, 0 | 1 | 3 | 6) => "Please check the address: nobody has it there, or not any more.",
        (_, 2, 2) => "The mailbox is full. Please tell the recipient by another way, and send the message again later.",
        (_, 3, 4) | (_, 2, 3) => "The message is too large for the recipient. Please send it with smaller attachments, or a link.",
        (_, 4, 6) => "This is a fault in the set-up of mail servers. Please show this notice to your postmaster.",
        (_, 4, _) => "The other server could not be reached. Please check the address, or send the message again later.",
        (4, ..) => "Please send the message again later, or reach the recipient by another way.",
        (_, 6, 7) => "The recipient's server cannot take addresses with these letters. Please use another address of the recipient.",
        (_, 6, _) => "The recipient's server cannot take this kind of message. Please send it in another form.",
        (_, 7, _) => "The recipient's server refuses the message by its rules. Please show this notice to your postmaster.",
        _ => "Please show this notice to your postmaster if you do not understand the reason.",
    }
}

/// Indented lines of at most about 76 columns.
fn wrapped(out: &mut String, sentence: &str) {
    let mut column = 0;
    for word in sentence.split_whitespace().flat_map(pieces) {
        if column > 0 && column + word.len() + 1 > 72 {
            out.push_str("\r\n");
            column = 0;
        }
        out.push_str(if column == 0 { "    " } else { " " });
        out.push_str(word);
        column += word.len() + 1;
    }
    out.push_str("\r\n");
}

/// A word, cut where it is so long that no line could hold it.
fn pieces(word: &str) -> impl Iterator<Item = &str> {
    let mut rest = word;
    std::iter::from_fn(move || {
        let cut = rest.char_indices().map(|(at, _)| at).take_while(|at| *at <= FOLD_AT).last()?;
        let end = if rest.len() <= FOLD_AT { rest.len() } else { cut };
        let (piece, behind) = rest.split_at(end);
        rest = behind;
        Some(piece)
    })
}

/// The fields for machines (RFC 3464 section 2).
fn status_fields(report: &Report<'_>) -> String {
    let mut out = String::with_capacity(1024);
    field(&mut out, "Reporting-MTA", &format!("dns; {}", report.host));
    if let Some(envid) = report.original.envid {
        field(&mut out, "Original-Envelope-Id", &decoded(envid));
    }
    field(&mut out, "Arrival-Date", &report.original.arrived.rfc5322());
    let action = match report.action {
        DsnAction::Failed => "failed",
        DsnAction::Delayed => "delayed",
        DsnAction::Delivered => "delivered",
        DsnAction::Relayed => "relayed",
    };
    for told in report.recipients {
        out.push_str("\r\n");
        if let Some(orcpt) = told.orcpt {
            let shown = orcpt.split_once(';').map_or_else(|| decoded(orcpt), |(kind, address)| format!("{kind}; {}", decoded(address)));
            field(&mut out, "Original-Recipient", &shown);
        }
        // RFC 6533 section 3: an address beyond ASCII has a type of its own.
        let kind = if told.address.local.is_ascii() { "rfc822" } else { "utf-8" };
        field(&mut out, "Final-Recipient", &format!("{kind}; {}", told.address));
        field(&mut out, "Action", action);
        field(&mut out, "Status", &told.status.to_string());
        if let Story::Theirs { host, reply } = told.story {
            field(&mut out, "Remote-MTA", &format!("dns; {host}"));
            field(&mut out, "Diagnostic-Code", &format!("smtp; {reply}"));
        }
        if let Some(at) = told.last_attempt {
            field(&mut out, "Last-Attempt-Date", &at.rfc5322());
        }
        if let Some(until) = told.retry_until {
            field(&mut out, "Will-Retry-Until", &until.rfc5322());
        }
    }
    out
}

/// One field, folded at blanks; what is no text becomes a question mark, so that no value adds a field.
fn field(out: &mut String, name: &str, value: &str) {
    let _ = write!(out, "{name}:");
    let mut column = name.len() + 1;
    let clean: String = value.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    for word in clean.split(' ').filter(|word| !word.is_empty()).flat_map(pieces) {
        if column + word.len() > FOLD_AT {
            out.push_str("\r\n\t");
            column = 0;
        } else {
            out.push(' ');
        }
        out.push_str(word);
        column += word.len() + 1;
    }
    out.push_str("\r\n");
}

/// The meaning of xtext (RFC 3461 section 4); as written where the meaning is no printable text.
fn decoded(xtext: &str) -> String {
    let mut bytes = Vec::with_capacity(xtext.len());
    let mut rest = xtext.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let pair = behind.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
        match (first, pair.and_then(|pair| u8::from_str_radix(pair, 16).ok())) {
            (b'+', Some(byte)) => {
                bytes.push(byte);
                rest = &behind[2..];
            }
            _ => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    match String::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) => text,
        _ => xtext.to_owned(),
    }
}

/// The part that gives the original back.
fn returned(out: &mut Vec<u8>, boundary: &str, bytes: &[u8], [ascii_kind, global_kind]: [&str; 2]) {
    // Only a header beyond ASCII makes a message "global" (RFC 6532); a body of 8 bits is ordinary MIME.
    let header = bytes.windows(4).position(|four| four == b"\r\n\r\n").map_or(bytes, |end| &bytes[..end]);
    let kind = if header.is_ascii() { ascii_kind } else { global_kind };
    let eight = if bytes.is_ascii() { "" } else { "Content-Transfer-Encoding: 8bit\r\n" };
    out.extend_from_slice(format!("\r\n--{boundary}\r\nContent-Type: {kind}\r\n{eight}\r\n").as_bytes());
    out.extend_from_slice(bytes);
    if !bytes.ends_with(b"\r\n") {
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests;
