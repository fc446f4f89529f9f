//! One transaction of the sending side: which command goes out next, what each reply says about whom.
//!
//! With PIPELINING (RFC 2920) commands go in groups, DATA with the last; without it one by one. Replies come in the order
//! of the commands, so a queue of what is expected tells them apart. Once the sender was refused, what was sent already
//! is heard to its end, and a 354 that comes all the same gets the lone dot: never a message to nobody.

use std::collections::VecDeque;

use crate::mail::enhanced::EnhancedStatus;
use crate::proto::smtp::client::Action;
use crate::proto::smtp::client::DataFault;
use crate::proto::smtp::client::MAX_RECIPIENTS;
use crate::proto::smtp::client::commands;
use crate::proto::smtp::client::offers::PeerOffers;
use crate::proto::smtp::client::words::Break;
use crate::proto::smtp::client::words::Outcome;
use crate::proto::smtp::client::words::Stage;
use crate::proto::smtp::client::words::Transaction;
use crate::proto::smtp::client::words::WANTS_TLS;
use crate::proto::smtp::client::words::Why;
use crate::proto::smtp::peer_reply::PeerReply;

/// Commands of one group: their replies must fit the peer's and our socket buffers, since nobody reads while both write
/// (RFC 2920 section 3.1).
const GROUP: usize = 50;

/// What the server still holds of the last transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Clean,
    /// MAIL was accepted and no data followed: RSET comes first
    Open,
}

/// How a step of the transaction ends.
#[derive(Debug)]
pub(super) enum Turn {
    Go(Box<Running>, Action),
    Done(Vec<Outcome>, Standing),
    /// the session is of no use any more
    Ended(Vec<Outcome>),
}

/// A command that a reply answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    Reset,
    Mail,
    /// the place in `recipients`
    Recipient(usize),
    Data,
}

#[derive(Debug)]
enum Recipient {
    Undecided,
    Accepted,
    Settled(Outcome),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Commands,
    /// the driver writes the message
    Sending,
    /// the whole message is with the peer
    Ending,
    /// an empty message went out, because 354 came for nobody
    LoneDot,
}

/// From MAIL until an outcome for each recipient.
#[derive(Debug)]
pub(super) struct Running {
    recipients: Vec<Recipient>,
    /// not sent yet
    plan: VecDeque<(Command, Vec<u8>)>,
    /// sent, not answered
    expected: VecDeque<Command>,
    group: usize,
    standing: Standing,
    step: Step,
}

impl Running {
    /// The caller has seen that the peer lacks nothing.
    pub(super) fn new(transaction: &Transaction<'_>, offers: &PeerOffers, standing: Standing) -> Running {
        let at_once = offers.rcpt_max.unwrap_or(MAX_RECIPIENTS).min(MAX_RECIPIENTS);
        let mut plan = VecDeque::new();
        if standing == Standing::Open {
            plan.push_back((Command::Reset, b"RSET\r\n".to_vec()));
        }
        plan.push_back((Command::Mail, commands::mail(transaction, offers)));
        let taken = transaction.recipients.iter().take(at_once).enumerate();
        plan.extend(taken.map(|(at, outgoing)| (Command::Recipient(at), commands::rcpt(outgoing, offers))));
        plan.push_back((Command::Data, b"DATA\r\n".to_vec()));
        let decide = |at| if at < at_once { Recipient::Undecided } else { Recipient::Settled(Outcome::NextTransaction) };
        Running {
            recipients: (0..transaction.recipients.len()).map(decide).collect(),
            plan,
            expected: VecDeque::new(),
            group: if offers.pipelining { GROUP } else { 1 },
            standing: Standing::Clean,
            step: Step::Commands,
        }
    }

    /// The next thing to do while commands go out.
    pub(super) fn proceed(mut self: Box<Self>) -> Turn {
        if let Some(command) = self.expected.front() {
            let stage = command.stage();
            return Turn::Go(self, Action::Read(stage));
        }
        // Nobody to send the message to: DATA would only be refused, or begin an empty message.
        if self.plan.iter().all(|(command, _)| *command == Command::Data) && !self.any_accepted() {
            return self.done();
        }
        let mut octets = Vec::new();
        for (command, line) in self.plan.drain(..self.group.min(self.plan.len())) {
            self.expected.push_back(command);
            octets.extend_from_slice(&line);
        }
        match self.expected.front() {
            Some(first) => {
                let stage = first.stage();
                Turn::Go(self, Action::Send(octets, stage))
            }
            None => self.done(),
        }
    }

    /// The peer's next reply.
    pub(super) fn reply(mut self: Box<Self>, reply: PeerReply) -> Turn {
        // RFC 5321 section 3.8: the host ends the session whatever was asked.
        if reply.code == 421 {
            let status = EnhancedStatus { class: 4, ..reply.enhanced.unwrap_or(EnhancedStatus::new(4, 3, 2)) };
            return self.end(Why { status, reply: Some(reply), text: "the host ended the session".to_owned() });
        }
        match self.step {
            Step::Sending => return self.interrupted(reply),
            Step::Ending => return self.verdict(reply),
            Step::LoneDot => return self.done(),
            Step::Commands => {}
        }
        let Some(command) = self.expected.pop_front() else {
            return self.end(misplaced(Stage::Mail, reply));
        };
        if command == Command::Data && reply.class() == 3 {
            return self.go_ahead();
        }
        if reply.class() == 3 || (command == Command::Data && reply.class() == 2) {
            return self.end(misplaced(command.stage(), reply));
        }
        match command {
            Command::Reset if reply.class() != 2 => return self.end(misplaced(Stage::Reset, reply)),
            Command::Reset => {}
            Command::Mail if reply.class() == 2 => self.standing = Standing::Open,
            Command::Mail => self.sender_refused(reply),
            Command::Recipient(at) => self.recipient(at, reply),
            Command::Data => self.settle_accepted(|| judge(Stage::DataStart, &reply)),
        }
        self.proceed()
    }

    /// The whole message and its dot are handed over.
    pub(super) fn sent(mut self: Box<Self>) -> Turn {
        self.step = Step::Ending;
        Turn::Go(self, Action::Read(Stage::DataEnd))
    }

    pub(super) fn is_sending(&self) -> bool {
        self.step == Step::Sending
    }

    /// The message could not be given whole; the driver drops the connection, and the peer has nothing.
    pub(super) fn cut(&mut self, fault: DataFault) -> Turn {
        self.settle_accepted(|| match &fault {
            DataFault::NotCanonical(fault) => {
                Outcome::Failed(Why { status: EnhancedStatus::new(5, 6, 0), reply: None, text: fault.to_string() })
            }
            DataFault::Source(why) => {
                let text = format!("the message could not be read here: {why}");
                Outcome::Deferred(Why { status: EnhancedStatus::new(4, 3, 0), reply: None, text })
            }
        });
        self.end(Why::ours(EnhancedStatus::new(4, 3, 0), "the transaction was given up here"))
    }

    pub(super) fn broken(&mut self, fault: &Break) -> Turn {
        if self.step == Step::Ending {
            return self.end_unknown(fault.status(), &fault.to_string());
        }
        self.end(Why { status: fault.status(), reply: None, text: fault.to_string() })
    }

    fn any_accepted(&self) -> bool {
        self.recipients.iter().any(|recipient| matches!(recipient, Recipient::Accepted))
    }

    fn sender_refused(&mut self, reply: PeerReply) {
        self.plan.clear();
        let outcome = match judge(Stage::Mail, &reply) {
            // Delivery.md section 2: 4yz to MAIL is about the host.
            Outcome::Deferred(why) => Outcome::NextHost(why),
            other => other,
        };
        self.settle_undecided(&outcome);
    }

    fn recipient(&mut self, at: usize, reply: PeerReply) {
        if matches!(self.recipients[at], Recipient::Settled(_)) {
            return;
        }
        self.recipients[at] = match reply.code {
            200..=299 => Recipient::Accepted,
            // RFC 5321 section 4.5.3.1.10: 552 is what old servers say for 452.
            452 | 552 if self.any_accepted() => {
                self.leave_the_rest(&reply);
                Recipient::Settled(Outcome::NextTransaction)
            }
            _ => Recipient::Settled(judge(Stage::Recipient, &reply)),
        };
    }

    /// "Too many recipients" holds for all that are not sent yet; a full mailbox (X.2.X) only for its own.
    fn leave_the_rest(&mut self, reply: &PeerReply) {
        if reply.enhanced.is_some_and(|status| status.subject == 2) {
            return;
        }
        for (command, _) in &self.plan {
            if let Command::Recipient(at) = command {
                self.recipients[*at] = Recipient::Settled(Outcome::NextTransaction);
            }
        }
        self.plan.retain(|(command, _)| !matches!(command, Command::Recipient(_)));
    }

    /// 354.
    fn go_ahead(mut self: Box<Self>) -> Turn {
        self.standing = Standing::Clean;
        if self.any_accepted() {
            self.step = Step::Sending;
            return Turn::Go(self, Action::SendData);
        }
        self.step = Step::LoneDot;
        Turn::Go(self, Action::Send(b".\r\n".to_vec(), Stage::DataEnd))
    }

    /// The reply to the final dot.
    fn verdict(&mut self, reply: PeerReply) -> Turn {
        if reply.class() == 3 {
            let text = format!("the host answered the end of the message with {reply}");
            return self.end_unknown(EnhancedStatus::new(4, 5, 0), &text);
        }
        self.settle_accepted(|| match reply.class() {
            2 => Outcome::Delivered(reply.clone()),
            _ => judge(Stage::DataEnd, &reply),
        });
        self.done()
    }

    /// The peer answered before it had the whole message; the driver can write no more.
    fn interrupted(&mut self, reply: PeerReply) -> Turn {
        if reply.class() >= 4 {
            self.settle_accepted(|| judge(Stage::DataEnd, &reply));
        }
        self.end(misplaced(Stage::DataEnd, reply))
    }

    fn settle_accepted(&mut self, outcome: impl Fn() -> Outcome) {
        for recipient in &mut self.recipients {
            if matches!(recipient, Recipient::Accepted) {
                *recipient = Recipient::Settled(outcome());
            }
        }
    }

    fn settle_undecided(&mut self, outcome: &Outcome) {
        for recipient in &mut self.recipients {
            if matches!(recipient, Recipient::Undecided | Recipient::Accepted) {
                *recipient = Recipient::Settled(outcome.clone());
            }
        }
    }

    fn done(&mut self) -> Turn {
        let standing = self.standing;
        match self.end(Why::ours(EnhancedStatus::new(4, 3, 0), "the recipient was passed over")) {
            Turn::Ended(outcomes) => Turn::Done(outcomes, standing),
            other => other,
        }
    }

    /// Whoever is not settled meets the next host.
    fn end(&mut self, why: Why) -> Turn {
        self.settle_undecided(&Outcome::NextHost(why));
        let outcome = |recipient| match recipient {
            Recipient::Settled(outcome) => Some(outcome),
            Recipient::Undecided | Recipient::Accepted => None,
        };
        Turn::Ended(std::mem::take(&mut self.recipients).into_iter().filter_map(outcome).collect())
    }

    /// The peer has the whole message and did not say what became of it: another host now would make two of it surely, so
    /// it waits.
    fn end_unknown(&mut self, status: EnhancedStatus, what: &str) -> Turn {
        let text = format!("{what}; the message may have been delivered all the same");
        self.settle_accepted(|| Outcome::Deferred(Why { status, reply: None, text: text.clone() }));
        self.end(Why { status, reply: None, text: text.clone() })
    }
}

impl Command {
    fn stage(self) -> Stage {
        match self {
            Command::Reset => Stage::Reset,
            Command::Mail => Stage::Mail,
            Command::Recipient(_) => Stage::Recipient,
            Command::Data => Stage::DataStart,
        }
    }
}

/// What a refusal, 4yz or 5yz, means for the recipients it is about.
fn judge(stage: Stage, reply: &PeerReply) -> Outcome {
    let why = |status, text| Why { status, reply: Some(reply.clone()), text };
    if super::wants_tls(stage, reply) {
        return Outcome::NextHost(why(WANTS_TLS, format!("the host wants a protection for {stage} that this session lacks")));
    }
    match reply.class() {
        5 => Outcome::Failed(why(reply.status(), format!("the host refused {stage} for good"))),
        _ => Outcome::Deferred(why(reply.status(), format!("the host refused {stage} for now"))),
    }
}

/// A reply of a class that cannot answer what was said.
fn misplaced(stage: Stage, reply: PeerReply) -> Why {
    Why {
        status: EnhancedStatus::new(4, 5, 0),
        reply: Some(reply),
        text: format!("the host answered {stage} with a reply that does not belong there"),
    }
}
