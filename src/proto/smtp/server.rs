//! The receiving side of SMTP (RFC 5321) as a machine: one `Input` in, one `Action` out.
//!
//! The driver reads lines, message data and verdicts (is there space, is the recipient ours, was it stored) and hands
//! them in; the machine says what to write and what to find out next. It never waits and knows no clock: time-outs
//! are inputs. The machine does not care how commands are packed (RFC 2920); the driver flushes when no more wait.
//! A transaction lives from MAIL to the verdict on its data; RSET, EHLO, HELO and STARTTLS end it.
//! Counters of abuse outlive everything else that a session knows, STARTTLS included.
//! Not done here: authentication, reading message data (`smtp::dot`), sockets.

use std::rc::Rc;

use crate::mail::domain::Domain;
use crate::mail::envelope::Envelope;
use crate::mail::header::HeaderFault;
use crate::mail::path::ForwardPath;
use crate::mail::received::TlsFacts;
use crate::mail::received::WithProtocol;
use crate::proto::smtp::dot::Faults;
use crate::proto::smtp::extension::Channel;
use crate::proto::smtp::extension::Offers;
use crate::proto::smtp::parameters::Terms;
use crate::proto::smtp::reply::Reply;

pub use crate::proto::smtp::extension::Offer;
pub use crate::proto::smtp::parameters::Protocol;

mod answers;
mod commands;

/// Longest command line without CRLF that the driver hands in; over it comes `Input::LineTooLong`. RFC 5321 section
/// 4.5.3.1.4 asks for 512 and more with extensions; 8 KiB is far from any honest line.
pub const MAX_LINE: usize = 8 * 1024;
/// Largest message unless configured otherwise: 25 MB of attachment in base64.
pub const DEFAULT_MAX_SIZE: u64 = 35 * 1024 * 1024;
/// RFC 5321 section 4.5.3.1.8 asks for at least 100.
const DEFAULT_MAX_RECIPIENTS: usize = 500;
/// An honest client makes one or two.
const DEFAULT_MAX_ERRORS: u16 = 10;
/// Clients that keep a connection open send NOOP or RSET now and then.
const DEFAULT_MAX_JUNK: u16 = 100;
/// Octets of all recipients of a message: room for 100 of the longest (RFC 5321 section 4.5.3.1.8), far more than 500
/// ordinary ones need. Envelopes stand outside the shared memory of messages; 200 sessions full of them are 6 MiB.
const MAX_RECIPIENT_OCTETS: usize = 32 * 1024;
/// Temporary refusals are nobody's fault, but a client that pipelines a thousand recipients into them is not listening.
const MAX_DEFERRED: u16 = 1000;
/// A list that is out of date has some; a harvester has all.
const DEFAULT_MAX_UNKNOWN_RECIPIENTS: u16 = 20;

/// What the configuration says; shared by all sessions of a listener.
#[derive(Clone, Debug)]
pub struct Params {
    /// our name in the greeting
    pub hostname: Domain,
    /// octets of a message
    pub max_size: u64,
    /// in one transaction
    pub max_recipients: usize,
    pub starttls: Offer,
    pub require_tls: Offer,
    /// the command that makes this many errors gets 421
    pub max_errors: u16,
    /// the same for commands that lead to no mail
    pub max_junk: u16,
    /// the same for recipients that do not exist
    pub max_unknown_recipients: u16,
}

impl Params {
    /// The defaults of reliability.md R6 and R13.
    pub fn new(hostname: Domain) -> Params {
        Params {
            hostname,
            max_size: DEFAULT_MAX_SIZE,
            max_recipients: DEFAULT_MAX_RECIPIENTS,
            starttls: Offer::Offered,
            require_tls: Offer::Offered,
            max_errors: DEFAULT_MAX_ERRORS,
            max_junk: DEFAULT_MAX_JUNK,
            max_unknown_recipients: DEFAULT_MAX_UNKNOWN_RECIPIENTS,
        }
    }

    fn offers(&self) -> Offers {
        let Params { max_size, max_recipients, starttls, require_tls, .. } = *self;
        Offers { max_size, max_recipients, starttls, require_tls }
    }
}

/// How the client introduced itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    pub protocol: Protocol,
    /// the peer's text, at most 255 octets as sent, not checked
    pub host: Box<str>,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Input<'a> {
    /// the first input; where TLS comes first, `TlsStarted` stands before it
    Connected,
    /// instead of `Connected`
    TooManyConnections,
    /// a command without its CRLF
    Line(&'a [u8]),
    /// more than `MAX_LINE` octets; the driver skipped the whole line
    LineTooLong,
    /// a bare CR, a bare LF or NUL in a command
    LineBroken,
    TlsStarted(TlsFacts),
    TlsFailed,
    Space(SpaceVerdict),
    Recipient(RecipientVerdict),
    Data(DataVerdict),
    TimedOut,
    ShuttingDown,
}

/// What the driver must do before it may call again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// read the next command
    Listen,
    /// write, then read the next command
    Reply(Reply),
    ReplyAndClose(Reply),
    Close,
    /// write, flush, refuse octets that already wait, shake hands; then `TlsStarted` or `TlsFailed`
    StartTls(Reply),
    /// answer with `Input::Space`
    CheckSpace {
        declared: Option<u64>,
    },
    /// answer with `Input::Recipient`
    CheckRecipient(ForwardPath),
    /// write, flush, read to the true end, judge and store; then `Input::Data`
    ReadData(Reply),
}

/// Whether a message of the declared size can be stored (R7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpaceVerdict {
    Enough,
    Short,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecipientVerdict {
    Accepted,
    UnknownUser,
    /// the domain is not ours
    NotLocal,
    MailboxFull,
    TryLater,
}

/// What became of the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataVerdict {
    /// on stable storage for every recipient
    Stored {
        trace_id: String,
    },
    TooBig,
    /// octets that have no place in a message; the true end was read all the same
    Broken(Faults),
    BadHeader(HeaderFault),
    NoSpace,
    /// the memory for messages in flight stays used up (R8)
    Overloaded,
    Failed,
    /// refused by a rule that words its own reply
    Refused(Reply),
}

/// One connection.
#[derive(Debug)]
pub struct Session {
    params: Rc<Params>,
    tls: Option<Box<TlsFacts>>,
    phase: Phase,
    counts: Counts,
}

/// Signs of abuse so far.
#[derive(Debug, Default)]
struct Counts {
    errors: u16,
    junk: u16,
    unknown_recipients: u16,
    /// temporary refusals since the last stored message
    deferred: u16,
}

/// Where the conversation is.
#[derive(Debug)]
enum Phase {
    /// nothing was sent
    Fresh,
    Ready(Ready),
    StartingTls,
    CheckingSpace(Greeting, Box<Envelope>),
    CheckingRecipient(Greeting, Box<Envelope>, Box<ForwardPath>),
    Receiving(Greeting, Box<Envelope>),
    /// malformed data was read: whatever comes next may be smuggled
    Poisoned,
    Closed,
}

/// A command is expected.
#[derive(Debug)]
enum Ready {
    /// no HELO or EHLO yet, or forgotten after STARTTLS
    Connected,
    Greeted(Greeting),
    Mail(Greeting, Box<Envelope>),
}

/// The new phase, and what to do.
type Step = (Phase, Action);

impl Session {
    pub fn new(params: Rc<Params>) -> Session {
        Session { params, tls: None, phase: Phase::Fresh, counts: Counts::default() }
    }

    /// Takes what happened and says what to do. Behind `Close` and `ReplyAndClose` it only says `Close` again.
    pub fn handle(&mut self, input: Input<'_>) -> Action {
        let phase = std::mem::replace(&mut self.phase, Phase::Closed);
        let (phase, action) = match (phase, input) {
            (Phase::Closed, _) => (Phase::Closed, Action::Close),
            // Between the 220 of STARTTLS and the end of the handshake nothing can be said.
            (Phase::StartingTls, Input::TlsFailed | Input::TimedOut | Input::ShuttingDown) => (Phase::Closed, Action::Close),
            (Phase::Fresh, Input::TlsFailed | Input::TimedOut) => (Phase::Closed, Action::Close),
            (_, Input::TimedOut) => end(answers::timed_out()),
            (_, Input::ShuttingDown) => end(answers::shutting_down()),
            (Phase::Fresh, Input::Connected) => (Phase::Ready(Ready::Connected), Action::Reply(answers::greeting(&self.params.hostname))),
            (Phase::Fresh, Input::TooManyConnections) => end(answers::too_many_connections()),
            (Phase::Fresh, Input::TlsStarted(facts)) => self.protect(facts, Phase::Fresh),
            // RFC 3207 section 4.2: everything learnt before the handshake is forgotten.
            (Phase::StartingTls, Input::TlsStarted(facts)) => self.protect(facts, Phase::Ready(Ready::Connected)),
            (Phase::Poisoned, Input::Line(_) | Input::LineTooLong | Input::LineBroken) => end(answers::after_broken()),
            (Phase::Ready(ready), Input::Line(line)) => self.command(ready, line),
            (Phase::Ready(ready), Input::LineTooLong) => self.wrong(ready, answers::line_too_long()),
            // Where the next command begins is a guess now, so nothing more is read.
            (Phase::Ready(_), Input::LineBroken) => end(answers::line_broken()),
            (Phase::CheckingSpace(greeting, envelope), Input::Space(verdict)) => self.space(greeting, envelope, verdict),
            (Phase::CheckingRecipient(greeting, envelope, path), Input::Recipient(verdict)) => {
                self.recipient((greeting, envelope), *path, verdict)
            }
            (Phase::Receiving(greeting, _), Input::Data(verdict)) => self.data(greeting, verdict),
            // Every pair that is not above is a fault of the driver.
            (_, _) => end(answers::internal_error()),
        };
        self.phase = phase;
        action
    }

    /// The running transaction: from MAIL until the verdict on the data is handed in.
    pub fn envelope(&self) -> Option<&Envelope> {
        match &self.phase {
            Phase::CheckingSpace(_, envelope) | Phase::CheckingRecipient(_, envelope, _) | Phase::Receiving(_, envelope) => Some(envelope),
            Phase::Ready(Ready::Mail(_, envelope)) => Some(envelope),
            Phase::Fresh | Phase::Ready(Ready::Connected | Ready::Greeted(_)) => None,
            Phase::StartingTls | Phase::Poisoned | Phase::Closed => None,
        }
    }

    /// HELO or EHLO as it holds now.
    pub fn greeting(&self) -> Option<&Greeting> {
        match &self.phase {
            Phase::CheckingSpace(greeting, _) | Phase::CheckingRecipient(greeting, _, _) | Phase::Receiving(greeting, _) => Some(greeting),
            Phase::Ready(Ready::Greeted(greeting) | Ready::Mail(greeting, _)) => Some(greeting),
            Phase::Fresh | Phase::Ready(Ready::Connected) | Phase::StartingTls | Phase::Poisoned | Phase::Closed => None,
        }
    }

    pub fn tls(&self) -> Option<&TlsFacts> {
        self.tls.as_deref()
    }

    /// For the Received field. Behind HELO it is `SMTP` under TLS too: RFC 3848 registers nothing else.
    pub fn with_protocol(&self) -> WithProtocol {
        let protocol = self.greeting().map_or(Protocol::Smtp, |greeting| greeting.protocol);
        let utf8 = self.envelope().is_some_and(|envelope| envelope.smtp_utf8);
        match (protocol, self.channel(), utf8) {
            (Protocol::Smtp, _, _) => WithProtocol::Smtp,
            (Protocol::Esmtp, Channel::Plain, false) => WithProtocol::Esmtp,
            (Protocol::Esmtp, Channel::Plain, true) => WithProtocol::Utf8Smtp,
            (Protocol::Esmtp, Channel::Tls, false) => WithProtocol::Esmtps,
            (Protocol::Esmtp, Channel::Tls, true) => WithProtocol::Utf8Smtps,
        }
    }

    /// Whether no transaction runs: ending now costs nobody anything.
    pub fn is_idle(&self) -> bool {
        self.envelope().is_none()
    }

    fn channel(&self) -> Channel {
        if self.tls.is_some() { Channel::Tls } else { Channel::Plain }
    }

    fn terms(&self, protocol: Protocol) -> Terms {
        Terms { protocol, channel: self.channel(), require_tls: self.params.require_tls, max_size: self.params.max_size }
    }

    fn protect(&mut self, facts: TlsFacts, phase: Phase) -> Step {
        self.tls = Some(Box::new(facts));
        (phase, Action::Listen)
    }

    fn recipient(&mut self, (greeting, mut envelope): (Greeting, Box<Envelope>), path: ForwardPath, verdict: RecipientVerdict) -> Step {
        let reply = match verdict {
            RecipientVerdict::Accepted => {
                envelope.recipients.push(path);
                answers::recipient_accepted()
            }
            RecipientVerdict::UnknownUser => {
                self.counts.unknown_recipients += 1;
                if self.counts.unknown_recipients >= self.params.max_unknown_recipients {
                    return end(answers::too_many_unknown_recipients());
                }
                answers::unknown_user()
            }
            RecipientVerdict::NotLocal => return self.wrong(Ready::Mail(greeting, envelope), answers::not_local()),
            RecipientVerdict::MailboxFull => return self.defer(Ready::Mail(greeting, envelope), answers::mailbox_full()),
            RecipientVerdict::TryLater => return self.defer(Ready::Mail(greeting, envelope), answers::try_later()),
        };
        (Phase::Ready(Ready::Mail(greeting, envelope)), Action::Reply(reply))
    }

    fn data(&mut self, greeting: Greeting, verdict: DataVerdict) -> Step {
        let reply = match verdict {
            DataVerdict::Stored { trace_id } => {
                // Mail that arrives makes up for clumsiness, not for guessing addresses.
                self.counts.errors = 0;
                self.counts.junk = 0;
                self.counts.deferred = 0;
                return (Phase::Ready(Ready::Greeted(greeting)), Action::Reply(answers::stored(&trace_id)));
            }
            DataVerdict::Broken(faults) => return (Phase::Poisoned, Action::Reply(answers::broken(faults))),
            DataVerdict::TooBig => return self.wrong(Ready::Greeted(greeting), answers::too_big(self.params.max_size)),
            DataVerdict::BadHeader(fault) => return self.wrong(Ready::Greeted(greeting), answers::bad_header(fault)),
            DataVerdict::Refused(reply) => return self.wrong(Ready::Greeted(greeting), reply),
            DataVerdict::NoSpace => answers::no_space(),
            DataVerdict::Overloaded => answers::overloaded(),
            DataVerdict::Failed => answers::try_later(),
        };
        self.defer(Ready::Greeted(greeting), reply)
    }

    fn space(&mut self, greeting: Greeting, envelope: Box<Envelope>, verdict: SpaceVerdict) -> Step {
        match verdict {
            SpaceVerdict::Enough => (Phase::Ready(Ready::Mail(greeting, envelope)), Action::Reply(answers::mail_accepted())),
            // A refused MAIL leaves no transaction.
            SpaceVerdict::Short => self.defer(Ready::Greeted(greeting), answers::no_space()),
        }
    }
}

fn end(reply: Reply) -> Step {
    (Phase::Closed, Action::ReplyAndClose(reply))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_session_is_small() {
        println!("Session: {} octets", size_of::<Session>());
        assert!(size_of::<Session>() <= 200);
    }

    #[test]
    fn a_driver_out_of_turn_ends_the_session() {
        let params = Rc::new(Params::new(Domain::parse("mx.example.org").unwrap()));
        let wrong = [
            Input::Line(b"EHLO x"),
            Input::Space(SpaceVerdict::Enough),
            Input::Recipient(RecipientVerdict::Accepted),
            Input::Data(DataVerdict::Failed),
        ];
        for input in wrong {
            let mut session = Session::new(Rc::clone(&params));
            assert_eq!(session.handle(input), Action::ReplyAndClose(answers::internal_error()));
            assert_eq!(session.handle(Input::Connected), Action::Close);
        }
    }
}
