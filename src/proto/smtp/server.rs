//! The receiving side of SMTP (RFC 5321) as a machine: one `Input` in, one `Action` out.
//!
//! The driver reads lines, message data and verdicts (is there space, is the recipient ours, was it stored) and hands
//! them in; the machine says what to write and what to find out next. It never waits and knows no clock: time-outs
//! are inputs. The machine does not care how commands are packed (RFC 2920); the driver flushes when no more wait.
//! A transaction lives from MAIL to the verdict on its data; RSET, EHLO, HELO and STARTTLS end it.
//! Counters of abuse outlive everything else that a session knows, STARTTLS included.
//! On a submission listener (RFC 6409) nothing is taken before a login under TLS (`server::auth`, RFC 4954).
//! Not done here: SASL itself (`smtp::sasl`), reading message data (`smtp::dot`), sockets.

use std::rc::Rc;

use crate::mail::domain::Domain;
use crate::mail::envelope::Envelope;
use crate::mail::envelope::Recipient;
use crate::mail::header::HeaderFault;
use crate::mail::path::ReversePath;
use crate::mail::received::TlsFacts;
use crate::mail::received::WithProtocol;
use crate::proto::smtp::dot::Faults;
use crate::proto::smtp::extension::Channel;
use crate::proto::smtp::extension::Offers;
use crate::proto::smtp::parameters::Terms;
use crate::proto::smtp::reply::Reply;
use crate::proto::smtp::sasl::Attempt;
use crate::proto::smtp::sasl::Binding;
use crate::proto::smtp::sasl::Ending;
use crate::proto::smtp::sasl::Exchange;
use crate::proto::smtp::sasl::scram;

pub use crate::proto::smtp::extension::Offer;
pub use crate::proto::smtp::extension::Role;
pub use crate::proto::smtp::parameters::Protocol;

mod answers;
mod auth;
mod commands;

/// Longest command line without CRLF that the driver hands in; over it comes `Input::LineTooLong`. RFC 5321 section
/// 4.5.3.1.4 asks for 512 and more with extensions; 8 KiB is far from any honest line.
pub const MAX_LINE: usize = 8 * 1024;
/// The same while a login may come: RFC 4954 section 4 wants 12,288 octets with CRLF for AUTH and its answers.
pub const MAX_LOGIN_LINE: usize = 12_288 - 2;
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
    pub role: Role,
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
    /// The defaults of reliability.md R6 and R13, for `Role::Exchange`.
    pub fn new(hostname: Domain) -> Params {
        Params {
            hostname,
            role: Role::Exchange,
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
        let Params { role, max_size, max_recipients, starttls, require_tls, .. } = *self;
        Offers { role, max_size, max_recipients, starttls, require_tls }
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
    /// more than `Session::max_line` octets; the driver skipped the whole line
    LineTooLong,
    /// a bare CR, a bare LF or NUL in a command
    LineBroken,
    /// with the session's `tls-exporter` value where a login may come
    TlsStarted(TlsFacts, Option<Binding>),
    TlsFailed,
    Keys(KeysFound),
    Login(LoginVerdict),
    Sender(SenderVerdict),
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
    /// write, then read a line of at most `Session::max_line` octets: it is an answer, not a command
    Challenge(Reply),
    /// find the salt and keys of a login; answer with `Input::Keys`, also for names that nobody has
    FindKeys {
        name: String,
    },
    /// judge, delay and count; answer with `Input::Login`
    CheckLogin(Attempt),
    /// whether the login may send under this address; answer with `Input::Sender`
    CheckSender(ReversePath),
    /// answer with `Input::Space`
    CheckSpace {
        declared: Option<u64>,
    },
    /// answer with `Input::Recipient`
    CheckRecipient(Recipient),
    /// write, flush, read to the true end, judge and store; then `Input::Data`
    ReadData(Reply),
}

/// What the driver found for the name of a SCRAM login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeysFound {
    Found(scram::Credentials),
    TryLater,
}

/// What became of a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginVerdict {
    Accepted,
    /// wrong, unknown or blocked: the client is never told which
    Refused,
    TryLater,
}

/// Whether a reverse-path is the login's own (R15).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SenderVerdict {
    Own,
    Foreign,
    TryLater,
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
    tls: Option<Box<Protection>>,
    login: Login,
    phase: Phase,
    counts: Counts,
}

/// The TLS of a session.
#[derive(Debug)]
struct Protection {
    facts: TlsFacts,
    binding: Option<Binding>,
}

/// Whether the client has proved who it is; the driver knows who.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Login {
    Nobody,
    Known,
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
    /// an answer to a challenge is awaited
    Answering(Greeting, Box<Exchange>),
    FindingKeys(Greeting, Box<scram::Lookup>),
    CheckingLogin(Greeting, Box<Ending>),
    CheckingSender(Greeting, Box<Envelope>),
    CheckingSpace(Greeting, Box<Envelope>),
    CheckingRecipient(Greeting, Box<Envelope>, Box<Recipient>),
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
        Session { params, tls: None, login: Login::Nobody, phase: Phase::Fresh, counts: Counts::default() }
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
            (Phase::Fresh, Input::TlsStarted(facts, binding)) => self.protect(Protection { facts, binding }, Phase::Fresh),
            // RFC 3207 section 4.2: everything learnt before the handshake is forgotten.
            (Phase::StartingTls, Input::TlsStarted(facts, binding)) => {
                self.protect(Protection { facts, binding }, Phase::Ready(Ready::Connected))
            }
            (Phase::Poisoned, Input::Line(_) | Input::LineTooLong | Input::LineBroken) => end(answers::after_broken()),
            (Phase::Ready(ready), Input::Line(line)) => self.command(ready, line),
            (Phase::Ready(ready), Input::LineTooLong) => self.wrong(ready, answers::line_too_long()),
            // Where the next command begins is a guess now, so nothing more is read.
            (Phase::Ready(_) | Phase::Answering(..), Input::LineBroken) => end(answers::line_broken()),
            (Phase::Answering(greeting, exchange), Input::Line(line)) => self.answer(greeting, *exchange, line),
            (Phase::Answering(greeting, _), Input::LineTooLong) => self.wrong(Ready::Greeted(greeting), answers::login_line_too_long()),
            (Phase::FindingKeys(greeting, lookup), Input::Keys(found)) => self.keys(greeting, *lookup, found),
            (Phase::CheckingLogin(greeting, ending), Input::Login(verdict)) => self.login(greeting, *ending, verdict),
            (Phase::CheckingSender(greeting, envelope), Input::Sender(verdict)) => self.sender(greeting, envelope, verdict),
            (Phase::CheckingSpace(greeting, envelope), Input::Space(verdict)) => self.space(greeting, envelope, verdict),
            (Phase::CheckingRecipient(greeting, envelope, recipient), Input::Recipient(verdict)) => {
                self.recipient((greeting, envelope), *recipient, verdict)
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
            Phase::CheckingSender(_, envelope) | Phase::Ready(Ready::Mail(_, envelope)) => Some(envelope),
            Phase::Fresh | Phase::Ready(Ready::Connected | Ready::Greeted(_)) => None,
            Phase::Answering(..) | Phase::FindingKeys(..) | Phase::CheckingLogin(..) => None,
            Phase::StartingTls | Phase::Poisoned | Phase::Closed => None,
        }
    }

    /// HELO or EHLO as it holds now.
    pub fn greeting(&self) -> Option<&Greeting> {
        match &self.phase {
            Phase::CheckingSpace(greeting, _) | Phase::CheckingRecipient(greeting, _, _) | Phase::Receiving(greeting, _) => Some(greeting),
            Phase::Ready(Ready::Greeted(greeting) | Ready::Mail(greeting, _)) | Phase::CheckingSender(greeting, _) => Some(greeting),
            Phase::Answering(greeting, _) | Phase::FindingKeys(greeting, _) | Phase::CheckingLogin(greeting, _) => Some(greeting),
            Phase::Fresh | Phase::Ready(Ready::Connected) | Phase::StartingTls | Phase::Poisoned | Phase::Closed => None,
        }
    }

    pub fn tls(&self) -> Option<&TlsFacts> {
        self.tls.as_deref().map(|tls| &tls.facts)
    }

    /// Octets of the next line without its CRLF that the driver has to take.
    pub fn max_line(&self) -> usize {
        match (self.params.role, self.channel(), self.login) {
            (Role::Submission, Channel::Tls, Login::Nobody) => MAX_LOGIN_LINE,
            (_, _, _) => MAX_LINE,
        }
    }

    /// For the Received field. Behind HELO it is `SMTP` under TLS too: RFC 3848 registers nothing else.
    pub fn with_protocol(&self) -> WithProtocol {
        let protocol = self.greeting().map_or(Protocol::Smtp, |greeting| greeting.protocol);
        let utf8 = self.envelope().is_some_and(|envelope| envelope.smtp_utf8);
        match (protocol, self.channel(), self.login, utf8) {
            (Protocol::Smtp, _, _, _) => WithProtocol::Smtp,
            (Protocol::Esmtp, Channel::Plain, _, false) => WithProtocol::Esmtp,
            (Protocol::Esmtp, Channel::Plain, _, true) => WithProtocol::Utf8Smtp,
            (Protocol::Esmtp, Channel::Tls, Login::Nobody, false) => WithProtocol::Esmtps,
            (Protocol::Esmtp, Channel::Tls, Login::Nobody, true) => WithProtocol::Utf8Smtps,
            (Protocol::Esmtp, Channel::Tls, Login::Known, false) => WithProtocol::Esmtpsa,
            (Protocol::Esmtp, Channel::Tls, Login::Known, true) => WithProtocol::Utf8Smtpsa,
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
        let Params { role, require_tls, max_size, .. } = *self.params;
        Terms { role, protocol, channel: self.channel(), require_tls, max_size }
    }

    fn protect(&mut self, protection: Protection, phase: Phase) -> Step {
        self.tls = Some(Box::new(protection));
        (phase, Action::Listen)
    }

    fn sender(&mut self, greeting: Greeting, envelope: Box<Envelope>, verdict: SenderVerdict) -> Step {
        match verdict {
            SenderVerdict::Own => {
                let declared = envelope.declared_size;
                (Phase::CheckingSpace(greeting, envelope), Action::CheckSpace { declared })
            }
            SenderVerdict::Foreign => self.wrong(Ready::Greeted(greeting), answers::foreign_sender(&envelope.reverse_path)),
            SenderVerdict::TryLater => self.defer(Ready::Greeted(greeting), answers::try_later()),
        }
    }

    fn recipient(&mut self, (greeting, mut envelope): (Greeting, Box<Envelope>), recipient: Recipient, verdict: RecipientVerdict) -> Step {
        let reply = match verdict {
            RecipientVerdict::Accepted => {
                envelope.recipients.push(recipient);
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
            Input::Sender(SenderVerdict::Own),
            Input::Login(LoginVerdict::Accepted),
            Input::Keys(KeysFound::TryLater),
            Input::Data(DataVerdict::Failed),
        ];
        for input in wrong {
            let mut session = Session::new(Rc::clone(&params));
            assert_eq!(session.handle(input), Action::ReplyAndClose(answers::internal_error()));
            assert_eq!(session.handle(Input::Connected), Action::Close);
        }
    }
}
