//! Every reply of the receiving side, one function or constant line each, so that codes are read in one place.
//!
//! Codes: RFC 5321 section 4.2.3; enhanced codes: RFC 3463 and RFC 5248. Texts are for the person who reads a bounce.

use crate::mail::domain::Domain;
use crate::mail::enhanced::EnhancedStatus;
use crate::mail::header::HeaderFault;
use crate::mail::path::ReversePath;
use crate::proto::smtp::command::Fault;
use crate::proto::smtp::dot::Faults;
use crate::proto::smtp::extension::Channel;
use crate::proto::smtp::extension::Extension;
use crate::proto::smtp::reply::Reply;
use crate::proto::smtp::sasl::base64;

fn reply(code: u16, (class, subject, detail): (u8, u16, u16), text: &str) -> Reply {
    Reply::new(code, EnhancedStatus::new(class, subject, detail), text)
}

pub fn greeting(host: &Domain) -> Reply {
    Reply::bare(220, &format!("{host} ESMTP Pipit"))
}

pub fn helo(host: &Domain) -> Reply {
    Reply::bare(250, host.as_str())
}

pub fn ehlo(host: &Domain, extensions: &[Extension]) -> Reply {
    let lines: Vec<String> = std::iter::once(host.to_string()).chain(extensions.iter().map(Extension::to_string)).collect();
    Reply::listing(250, &lines)
}

pub fn fault(fault: Fault) -> Reply {
    let enhanced = match fault {
        Fault::NameMissing | Fault::NameTooLong | Fault::ArgumentMissing | Fault::UnwantedArgument => (5, 5, 4),
        Fault::KeywordMissing | Fault::BadParameters => (5, 5, 4),
        Fault::NotUtf8 => (5, 5, 2),
        Fault::ReversePath(_) => (5, 1, 7),
        Fault::ForwardPath(_) => (5, 1, 3),
    };
    reply(501, enhanced, &fault.to_string())
}

pub fn unknown_command() -> Reply {
    reply(500, (5, 5, 2), "this command is not known here")
}

pub fn not_served() -> Reply {
    reply(502, (5, 5, 1), "this command is not implemented")
}

pub fn line_too_long() -> Reply {
    reply(500, (5, 5, 2), "the line is too long")
}

pub fn line_broken() -> Reply {
    // 421: RFC 5321 section 3.8 allows a server to close only behind that code.
    reply(421, (4, 7, 0), "lines end with CR LF; a bare CR, bare LF or NUL is not allowed; closing")
}

pub fn out_of_order(text: &str) -> Reply {
    reply(503, (5, 5, 1), text)
}

pub fn auth_not_here() -> Reply {
    reply(503, (5, 5, 1), "no authentication on this port; use the submission port")
}

/// RFC 4954 section 6; RFC 3207 section 4 has the text.
pub fn auth_needs_tls() -> Reply {
    reply(538, (5, 7, 11), "a login needs encryption: must issue a STARTTLS command first")
}

/// RFC 4954 section 6 (530 5.7.0), RFC 3207 section 4.
pub fn login_first(channel: Channel) -> Reply {
    match channel {
        Channel::Plain => reply(530, (5, 7, 0), "must issue a STARTTLS command first, then AUTH"),
        Channel::Tls => reply(530, (5, 7, 0), "authentication required: this port takes mail from our own users only"),
    }
}

pub fn unknown_mechanism() -> Reply {
    reply(504, (5, 5, 4), "this mechanism is not offered; EHLO lists those that are")
}

pub fn bad_auth_arguments() -> Reply {
    reply(501, (5, 5, 4), "the syntax is AUTH MECHANISM [initial response]")
}

/// RFC 4954 section 4.
pub fn not_base64() -> Reply {
    reply(501, (5, 5, 2), "this is not valid base64")
}

pub fn malformed_login(why: &str) -> Reply {
    reply(501, (5, 5, 2), why)
}

/// RFC 4954 section 4: the client sent `*`.
pub fn login_cancelled() -> Reply {
    reply(501, (5, 7, 0), "the login is cancelled")
}

/// RFC 4954 section 6.
pub fn login_line_too_long() -> Reply {
    reply(500, (5, 5, 6), "the line of the login is too long")
}

pub fn challenge(octets: &[u8]) -> Reply {
    Reply::bare(334, &base64::encode(octets))
}

pub fn logged_in() -> Reply {
    reply(235, (2, 7, 0), "welcome")
}

/// Promise R14: the same words whatever was wrong.
pub fn login_refused() -> Reply {
    reply(535, (5, 7, 8), "name or password is wrong")
}

pub fn login_later() -> Reply {
    reply(454, (4, 7, 0), "logins cannot be checked now, try again later")
}

/// Promise R15.
pub fn foreign_sender(path: &ReversePath) -> Reply {
    reply(550, (5, 7, 1), &format!("{path} is not an address of the account that logged in"))
}

pub fn starttls_ready() -> Reply {
    reply(220, (2, 0, 0), "ready to start TLS")
}

pub fn starttls_not_available() -> Reply {
    reply(454, (4, 7, 0), "TLS is not available")
}

/// RFC 6531 section 3.4: code and text for a path that needs SMTPUTF8.
pub fn needs_utf8() -> Reply {
    reply(553, (5, 6, 7), "an address that is not ASCII needs MAIL with SMTPUTF8")
}

pub fn mail_accepted() -> Reply {
    reply(250, (2, 1, 0), "sender accepted")
}

pub fn no_space() -> Reply {
    reply(452, (4, 3, 1), "not enough storage now, try again later")
}

pub fn overloaded() -> Reply {
    reply(452, (4, 3, 2), "too many messages at once, try again later")
}

pub fn recipient_accepted() -> Reply {
    reply(250, (2, 1, 5), "recipient accepted")
}

pub fn unknown_user() -> Reply {
    reply(550, (5, 1, 1), "there is no such address here")
}

pub fn not_local() -> Reply {
    reply(550, (5, 7, 1), "relaying denied: the domain is not one of ours")
}

pub fn mailbox_full() -> Reply {
    reply(452, (4, 2, 2), "the mailbox is full")
}

pub fn try_later() -> Reply {
    reply(451, (4, 3, 0), "local trouble, try again later")
}

/// RFC 5321 section 4.5.3.1.10: 452, so that the client sends the rest in a next transaction.
pub fn too_many_recipients() -> Reply {
    reply(452, (4, 5, 3), "no more recipients in this transaction; send the rest in the next one")
}

pub fn no_recipients() -> Reply {
    reply(554, (5, 5, 1), "no valid recipients")
}

pub fn send_data() -> Reply {
    Reply::bare(354, "send the message, end with a line of one dot")
}

pub fn stored(trace_id: &str) -> Reply {
    reply(250, (2, 0, 0), &format!("stored as {trace_id}"))
}

pub fn too_big(limit: u64) -> Reply {
    reply(552, (5, 3, 4), &format!("messages may have at most {limit} octets here"))
}

pub fn broken(faults: Faults) -> Reply {
    reply(550, (5, 6, 0), &format!("the message has octets that are not allowed: {faults}"))
}

pub fn after_broken() -> Reply {
    reply(421, (4, 7, 0), "closing the connection after a malformed message")
}

pub fn bad_header(fault: HeaderFault) -> Reply {
    let (code, enhanced) = match fault {
        HeaderFault::FromCount(_) | HeaderFault::TooManyFields => (550, (5, 6, 0)),
        HeaderFault::TooBig => (552, (5, 3, 4)),
        HeaderFault::Loop => (554, (5, 4, 6)),
    };
    reply(code, enhanced, &fault.to_string())
}

pub fn reset() -> Reply {
    reply(250, (2, 0, 0), "forgotten")
}

pub fn noop() -> Reply {
    reply(250, (2, 0, 0), "fine")
}

/// RFC 5321 section 7.3: VRFY need not tell who exists.
pub fn vrfy() -> Reply {
    reply(252, (2, 5, 2), "not verified; send a message and see")
}

pub fn help() -> Reply {
    reply(214, (2, 0, 0), "EHLO HELO STARTTLS MAIL RCPT DATA RSET NOOP VRFY HELP QUIT; see RFC 5321")
}

pub fn bye() -> Reply {
    reply(221, (2, 0, 0), "bye")
}

pub fn too_many_connections() -> Reply {
    reply(421, (4, 7, 0), "too many connections, try again later")
}

pub fn too_many_errors() -> Reply {
    reply(421, (4, 7, 0), "too many errors, closing the connection")
}

pub fn too_much_junk() -> Reply {
    reply(421, (4, 7, 0), "too many commands without mail, closing the connection")
}

pub fn too_many_unknown_recipients() -> Reply {
    reply(421, (4, 7, 0), "too many unknown recipients, closing the connection")
}

pub fn timed_out() -> Reply {
    reply(421, (4, 4, 2), "waited too long, closing the connection")
}

pub fn shutting_down() -> Reply {
    reply(421, (4, 3, 2), "shutting down, try again later")
}

/// The driver broke the rules of the machine; nothing the peer could have done.
pub fn internal_error() -> Reply {
    reply(421, (4, 3, 0), "internal error, closing the connection")
}
