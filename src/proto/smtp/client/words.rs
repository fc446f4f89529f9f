//! The words between the sending machine, its driver and whoever plans deliveries: what is to be sent, and what became
//! of it, for each recipient.

use std::fmt;
use std::time::Duration;

use crate::mail::address::Address;
use crate::mail::enhanced::EnhancedStatus;
use crate::mail::envelope::Body;
use crate::mail::notify::Notify;
use crate::mail::notify::Ret;
use crate::mail::path::ReversePath;
use crate::proto::smtp::peer_reply::PeerReply;
use crate::proto::smtp::peer_reply::ReplyFault;
use crate::proto::smtp::timeouts::client;

/// A body with 8-bit octets meets a peer without 8BITMIME. `Failed` with this status and no reply is our own finding: a
/// caller that can recode does so before it begins.
pub const LACKS_EIGHT_BIT: EnhancedStatus = EnhancedStatus::new(5, 6, 1);
/// The message is larger than the peer takes.
pub const TOO_BIG: EnhancedStatus = EnhancedStatus::new(5, 3, 4);
/// The message needs SMTPUTF8 and the peer lacks it (RFC 6531 section 3.1 item 8).
pub const LACKS_UTF8: EnhancedStatus = EnhancedStatus::new(5, 6, 7);

/// How the way is to be protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// TLS if offered, certificate not judged; else plaintext
    Opportunistic,
    /// STARTTLS is not tried: its handshake just failed
    Plaintext,
}

/// What the peer's next reply answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Greeting,
    Hello,
    StartTls,
    Reset,
    Mail,
    Recipient,
    /// DATA, up to its 354
    DataStart,
    /// the final dot
    DataEnd,
    Quit,
}

impl Stage {
    /// How long to wait for the reply (RFC 5321 section 4.5.3.2).
    pub fn patience(self) -> Duration {
        match self {
            Stage::Greeting => client::GREETING,
            Stage::Hello | Stage::StartTls | Stage::Reset => client::COMMAND,
            Stage::Mail => client::MAIL,
            Stage::Recipient => client::RECIPIENT,
            Stage::DataStart => client::DATA_START,
            Stage::DataEnd => client::DATA_END,
            Stage::Quit => client::QUIT,
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Greeting => "the connection",
            Stage::Hello => "EHLO",
            Stage::StartTls => "STARTTLS",
            Stage::Reset => "RSET",
            Stage::Mail => "MAIL",
            Stage::Recipient => "RCPT",
            Stage::DataStart => "DATA",
            Stage::DataEnd => "the end of the message",
            Stage::Quit => "QUIT",
        })
    }
}

/// Why the conversation cannot go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Break {
    /// the peer closed, or the network failed; what the system said, if anything
    Lost(String),
    TimedOut,
    Garbage(ReplyFault),
}

impl Break {
    pub(super) fn status(&self) -> EnhancedStatus {
        match self {
            Break::Lost(_) | Break::TimedOut => EnhancedStatus::new(4, 4, 2),
            Break::Garbage(_) => EnhancedStatus::new(4, 5, 0),
        }
    }
}

impl fmt::Display for Break {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Break::Lost(why) if why.is_empty() => f.write_str("the host closed the connection"),
            Break::Lost(why) => write!(f, "the connection was lost ({why})"),
            Break::TimedOut => f.write_str("the host did not answer in time"),
            Break::Garbage(fault) => fault.fmt(f),
        }
    }
}

/// Why a host takes nothing from us now: next host, then retry. Never permanent by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostFailure {
    Unreachable(String),
    /// 4yz, 5yz, 421, nonsense or a lost connection before MAIL
    Refused {
        stage: Stage,
        reply: Option<PeerReply>,
        text: String,
    },
    /// the handshake failed, or plaintext came behind the 220
    Tls(String),
    /// it greets with one of our own names
    Ourselves,
    /// 530, 5.7.0, 5.7.10 or 5.7.30 in a plaintext or unverified session
    WantsTls(PeerReply),
}

impl HostFailure {
    /// The same as the reason of a recipient that met no better host.
    pub fn why(&self) -> Why {
        let (status, reply) = match self {
            HostFailure::Unreachable(_) => (EnhancedStatus::new(4, 4, 1), None),
            HostFailure::Refused { reply, .. } => {
                let said = reply.as_ref().map(PeerReply::status).filter(|status| status.class == 4);
                // "System not accepting network messages": a 5yz here is about us or the host, not about the message.
                (said.unwrap_or(EnhancedStatus::new(4, 3, 2)), reply.clone())
            }
            HostFailure::Tls(_) => (EnhancedStatus::new(4, 7, 5), None),
            HostFailure::Ourselves => (EnhancedStatus::new(4, 4, 6), None),
            HostFailure::WantsTls(reply) => (WANTS_TLS, Some(reply.clone())),
        };
        Why { status, reply, text: self.to_string() }
    }
}

impl fmt::Display for HostFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostFailure::Unreachable(why) => write!(f, "the host cannot be reached: {why}"),
            HostFailure::Refused { stage, reply: Some(reply), text } => write!(f, "{text} {stage}: {reply}"),
            HostFailure::Refused { stage, reply: None, text } => write!(f, "{text} (at {stage})"),
            HostFailure::Tls(why) => write!(f, "no TLS with the host: {why}"),
            HostFailure::Ourselves => f.write_str("the host greets with our own name"),
            HostFailure::WantsTls(reply) => write!(f, "the host wants a protection that this session lacks: {reply}"),
        }
    }
}

/// The host's TLS failure, said about a recipient: temporary.
pub(super) const WANTS_TLS: EnhancedStatus = EnhancedStatus::new(4, 7, 10);

/// One message on its way to one host.
#[derive(Clone, Debug)]
pub struct Transaction<'a> {
    pub reverse_path: &'a ReversePath,
    /// all of one destination; more than the peer takes at once get `NextTransaction`
    pub recipients: Vec<Outgoing>,
    pub body: Body,
    /// the message needs SMTPUTF8
    pub smtp_utf8: bool,
    /// octets, without stuffed dots
    pub size: u64,
    pub ret: Ret,
    /// xtext as it came
    pub envid: Option<&'a str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    pub address: Address,
    pub notify: Notify,
    /// with its type, xtext as it came
    pub orcpt: Option<String>,
}

/// What became of one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Delivered(PeerReply),
    /// with back-off
    Deferred(Why),
    Failed(Why),
    /// 452, or 552 after an accepted RCPT, or over the peer's or our own maximum: the next transaction, at once
    NextTransaction,
    /// trouble of this host or session: nothing was said about the recipient. Temporary if no host helps, but for a
    /// status of class 5 (`LACKS_UTF8`): permanent when every host says so
    NextHost(Why),
}

/// A reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    pub status: EnhancedStatus,
    /// the peer's words, if they are the reason
    pub reply: Option<PeerReply>,
    /// our sentence
    pub text: String,
}

impl Why {
    pub(super) fn ours(status: EnhancedStatus, text: &str) -> Why {
        Why { status, reply: None, text: text.to_owned() }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reply {
            Some(reply) => reply.fmt(f),
            None => write!(f, "{} {}", self.status, self.text),
        }
    }
}
