//! The sending side of SMTP (RFC 5321) as a machine: one `Input` in, one `Action` out.
//!
//! The driver writes what it is told, reads whole replies (`peer_reply`) and hands them in; the machine says what comes
//! next, and in the end what became of each recipient. It never waits and knows no clock: time-outs are inputs.
//! A session greets, takes TLS where it is offered (RFC 3207) and forgets all it had learnt before; then it carries
//! any number of transactions. Failures before the first are the host's (`HostFailure`), later ones each recipient's
//! (`Outcome`). Reading order: words, offers, this file, commands, transaction.
//! Not done here: choosing hosts, judging certificates, reading messages, authentication.

use std::rc::Rc;

use crate::mail::domain::Domain;
use crate::mail::enhanced::EnhancedStatus;
use crate::mail::received::TlsFacts;
use crate::proto::smtp::client::offers::PeerOffers;
use crate::proto::smtp::client::transaction::Running;
use crate::proto::smtp::client::transaction::Standing;
use crate::proto::smtp::client::transaction::Turn;
use crate::proto::smtp::client::words::Break;
use crate::proto::smtp::client::words::HostFailure;
use crate::proto::smtp::client::words::Outcome;
use crate::proto::smtp::client::words::Security;
use crate::proto::smtp::client::words::Stage;
use crate::proto::smtp::client::words::Transaction;
use crate::proto::smtp::dot::NotCanonical;
use crate::proto::smtp::peer_reply::PeerReply;

mod commands;
pub mod offers;
mod transaction;
pub mod words;

/// Recipients of one transaction. RFC 5321 section 4.5.3.1.8: every server takes 100.
pub const MAX_RECIPIENTS: usize = 100;

/// What holds for the whole session.
#[derive(Clone, Debug)]
pub struct Params {
    /// how we greet
    pub name: Domain,
    /// names that a host must not greet with: it would be ourselves (RFC 5321 section 5.1)
    pub own_names: Rc<[Domain]>,
    pub security: Security,
}

/// What happened.
#[derive(Debug)]
pub enum Input<'a> {
    /// the first input
    Connected,
    Reply(PeerReply),
    Broken(Break),
    TlsStarted(TlsFacts),
    TlsFailed(String),
    /// octets waited behind the 220 of STARTTLS
    PlaintextWaits,
    /// after `Ready` or `Done`
    Begin(&'a Transaction<'a>),
    /// everything up to the final dot is with the peer, or the writing of the dot has begun
    DataSent,
    DataFailed(DataFault),
    /// after `Ready` or `Done`
    Quit,
}

/// Why the message cannot be given to the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataFault {
    NotCanonical(NotCanonical),
    /// our own trouble
    Source(String),
}

/// What the driver must do before it may call again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// read a reply
    Read(Stage),
    /// write, flush, read a reply
    Send(Vec<u8>, Stage),
    /// refuse octets that already wait, shake hands; then `TlsStarted`, `TlsFailed` or `PlaintextWaits`
    StartTls,
    /// `Begin` or `Quit`
    Ready,
    /// write the message with stuffed dots and its end; then `DataSent` or `DataFailed`. Where writing fails, a reply that
    /// has come all the same is handed in before `Broken`
    SendData,
    /// one outcome a recipient; if the session is still usable, `Begin` or `Quit`
    Done(Vec<Outcome>),
    /// before the first transaction; say QUIT if the peer may still be there, and close
    Fail(HostFailure),
    Close,
}

/// One connection.
#[derive(Debug)]
pub struct Session {
    params: Params,
    phase: Phase,
    offers: PeerOffers,
    tls: Option<TlsFacts>,
    /// transactions begun
    begun: usize,
}

#[derive(Debug)]
enum Phase {
    Fresh,
    Greeting,
    Hello(Verb),
    StartTls,
    Handshake,
    Ready(Standing),
    Running(Box<Running>),
    Quitting,
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Ehlo,
    Helo,
}

type Step = (Phase, Action);

impl Session {
    pub fn new(params: Params) -> Session {
        Session { params, phase: Phase::Fresh, offers: PeerOffers::default(), tls: None, begun: 0 }
    }

    /// Takes what happened and says what to do. Behind `Fail` and `Close` it only says `Close` again.
    pub fn handle(&mut self, input: Input<'_>) -> Action {
        let phase = std::mem::replace(&mut self.phase, Phase::Closed);
        let (phase, action) = match (phase, input) {
            (Phase::Fresh, Input::Connected) => (Phase::Greeting, Action::Read(Stage::Greeting)),
            (Phase::Greeting, Input::Reply(reply)) => self.greeting(reply),
            (Phase::Hello(verb), Input::Reply(reply)) => self.hello(verb, reply),
            (Phase::StartTls, Input::Reply(reply)) => start_tls(reply),
            // A close, silence or nonsense instead of the reply counts as a failed handshake (delivery.md section 2).
            (Phase::StartTls, Input::Broken(fault)) => fail(HostFailure::Tls(format!("{fault} instead of answering STARTTLS"))),
            (Phase::Handshake, Input::TlsStarted(facts)) => self.protect(facts),
            (Phase::Handshake, Input::TlsFailed(why)) => fail(HostFailure::Tls(why)),
            (Phase::Handshake, Input::PlaintextWaits) => fail(HostFailure::Tls("the host sent plaintext behind its 220".to_owned())),
            (Phase::Greeting, Input::Broken(fault)) => fail(broken(Stage::Greeting, &fault)),
            (Phase::Hello(_), Input::Broken(fault)) => fail(broken(Stage::Hello, &fault)),
            (Phase::Ready(standing), Input::Begin(transaction)) => self.begin(transaction, standing),
            (Phase::Ready(_), Input::Quit) => (Phase::Quitting, Action::Send(b"QUIT\r\n".to_vec(), Stage::Quit)),
            (Phase::Running(running), input) => during(running, input),
            // Every other pair is the end, or a fault of the driver.
            (_, Input::Begin(transaction)) => (Phase::Closed, Action::Done(vec![unusable(); transaction.recipients.len()])),
            (_, _) => (Phase::Closed, Action::Close),
        };
        self.phase = phase;
        action
    }

    /// Whether `Begin` makes sense: the session stands, and the peer takes another transaction (RFC 9422, MAILMAX).
    pub fn is_usable(&self) -> bool {
        matches!(self.phase, Phase::Ready(_)) && self.offers.mail_max.is_none_or(|most| self.begun < most)
    }

    /// What the peer offers as it holds now: nothing of before TLS.
    pub fn offers(&self) -> &PeerOffers {
        &self.offers
    }

    pub fn tls(&self) -> Option<&TlsFacts> {
        self.tls.as_ref()
    }

    fn greeting(&self, reply: PeerReply) -> Step {
        if reply.class() != 2 {
            return refused(Stage::Greeting, reply);
        }
        // RFC 5321 section 4.2: the first word is the host's name.
        let first = reply.lines.first().and_then(|line| line.split_ascii_whitespace().next());
        let name = first.and_then(|word| Domain::parse(word).ok());
        if name.is_some_and(|name| self.params.own_names.contains(&name)) {
            return fail(HostFailure::Ourselves);
        }
        self.greet(Verb::Ehlo)
    }

    fn greet(&self, verb: Verb) -> Step {
        let word = if verb == Verb::Ehlo { "EHLO" } else { "HELO" };
        (Phase::Hello(verb), Action::Send(format!("{word} {}\r\n", self.params.name).into_bytes(), Stage::Hello))
    }

    fn hello(&mut self, verb: Verb, reply: PeerReply) -> Step {
        match (verb, reply.class()) {
            (Verb::Ehlo, 2) => self.offers = PeerOffers::read(&reply),
            // A host of before RFC 1869. Both kinds of `Security` there are allow plaintext, hence HELO.
            (Verb::Ehlo, 5) if !wants_tls(Stage::Hello, &reply) => return self.greet(Verb::Helo),
            (Verb::Helo, 2) => self.offers = PeerOffers::default(),
            _ => return refused(Stage::Hello, reply),
        }
        match self.params.security {
            Security::Opportunistic if self.tls.is_none() && self.offers.starttls => {
                (Phase::StartTls, Action::Send(b"STARTTLS\r\n".to_vec(), Stage::StartTls))
            }
            Security::Opportunistic | Security::Plaintext => ready(),
        }
    }

    /// RFC 3207 section 4.2: what was learnt before the handshake is forgotten.
    fn protect(&mut self, facts: TlsFacts) -> Step {
        self.tls = Some(facts);
        self.offers = PeerOffers::default();
        self.greet(Verb::Ehlo)
    }

    fn begin(&mut self, transaction: &Transaction<'_>, standing: Standing) -> Step {
        if let Some(outcome) = commands::lacks(transaction, &self.offers) {
            let outcomes = vec![outcome; transaction.recipients.len()];
            return (Phase::Ready(standing), Action::Done(outcomes));
        }
        self.begun += 1;
        onward(Box::new(Running::new(transaction, &self.offers, standing)).proceed())
    }
}

fn during(mut running: Box<Running>, input: Input<'_>) -> Step {
    onward(match input {
        Input::Reply(reply) => running.reply(reply),
        Input::DataSent if running.is_sending() => running.sent(),
        Input::DataFailed(fault) if running.is_sending() => running.cut(fault),
        Input::Broken(fault) => running.broken(&fault),
        // A fault of the driver.
        _ => running.broken(&Break::Lost("the driver of the session went wrong".to_owned())),
    })
}

fn onward(turn: Turn) -> Step {
    match turn {
        Turn::Go(running, action) => (Phase::Running(running), action),
        Turn::Done(outcomes, standing) => (Phase::Ready(standing), Action::Done(outcomes)),
        Turn::Ended(outcomes) => (Phase::Closed, Action::Done(outcomes)),
    }
}

fn start_tls(reply: PeerReply) -> Step {
    match reply.class() {
        2 => (Phase::Handshake, Action::StartTls),
        _ if reply.code == 421 => refused(Stage::StartTls, reply),
        // RFC 3207 section 4: the session goes on as it was, and both kinds of `Security` allow plaintext.
        4 | 5 => ready(),
        _ => fail(HostFailure::Tls(format!("the host answered STARTTLS with {reply}"))),
    }
}

fn ready() -> Step {
    (Phase::Ready(Standing::Clean), Action::Ready)
}

fn fail(failure: HostFailure) -> Step {
    (Phase::Closed, Action::Fail(failure))
}

fn refused(stage: Stage, reply: PeerReply) -> Step {
    if wants_tls(stage, &reply) {
        return fail(HostFailure::WantsTls(reply));
    }
    fail(HostFailure::Refused { stage, reply: Some(reply), text: "the host refused".to_owned() })
}

fn broken(stage: Stage, fault: &Break) -> HostFailure {
    HostFailure::Refused { stage, reply: None, text: fault.to_string() }
}

/// 530 (RFC 3207 section 4) and the statuses that say "not without (better) TLS" (RFC 3463, RFC 8689, RFC 5248): in a
/// plaintext or unverified session they are the host's TLS failure, and this version verifies none. At the final dot 5.7.0 is
/// about the message: large sites say `552 5.7.0` to content that they block.
fn wants_tls(stage: Stage, reply: &PeerReply) -> bool {
    const STATUSES: [EnhancedStatus; 2] = [EnhancedStatus::new(5, 7, 10), EnhancedStatus::new(5, 7, 30)];
    const OTHER_SECURITY: EnhancedStatus = EnhancedStatus::new(5, 7, 0);
    let is_wish = |status| STATUSES.contains(&status) || (status == OTHER_SECURITY && stage != Stage::DataEnd);
    reply.code == 530 || reply.enhanced.is_some_and(is_wish)
}

fn unusable() -> Outcome {
    Outcome::NextHost(words::Why::ours(EnhancedStatus::new(4, 4, 2), "the session was over already"))
}
