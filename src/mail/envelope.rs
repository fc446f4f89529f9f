//! The envelope of a message (RFC 5321 section 2.3.1) and the sender's wish for TLS (RFC 8689).

use nanoserde::{DeBin, SerBin};

use crate::mail::notify::{Notify, Ret};
use crate::mail::path::{ForwardPath, ReversePath};

/// What the sender asked for about TLS on every hop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, SerBin, DeBin)]
pub enum RequireTls {
    /// Nothing was asked: opportunistic TLS, and what the recipient domain's policies demand.
    #[default]
    Default,
    /// The REQUIRETLS parameter of MAIL: verified TLS on every hop, or no delivery.
    Required,
    /// The header field `TLS-Required: No`: delivery matters more than policies about TLS.
    Waived,
}

impl RequireTls {
    /// The word used on the command line and in JSON.
    pub fn word(self) -> &'static str {
        match self {
            RequireTls::Default => "default",
            RequireTls::Required => "required",
            RequireTls::Waived => "waived",
        }
    }
}

/// Declared by `BODY=` (RFC 6152). Binary bodies are not accepted (RFC 3030 is not announced).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, SerBin, DeBin)]
pub enum Body {
    #[default]
    SevenBit,
    EightBit,
}

/// One RCPT command that was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    pub path: ForwardPath,
    /// RFC 3461 section 4.1; `Unset` where DSN is not announced
    pub notify: Notify,
    /// `addr-type;xtext` as sent (RFC 3461 section 4.2)
    pub orcpt: Option<String>,
}

impl Recipient {
    /// Octets of the texts, about what it takes in memory.
    pub fn octets(&self) -> usize {
        self.path.octets() + self.orcpt.as_ref().map_or(0, String::len)
    }
}

/// Who sends to whom, as the commands MAIL and RCPT said it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    pub reverse_path: ReversePath,
    /// in the order of the RCPT commands, duplicates kept
    pub recipients: Vec<Recipient>,
    pub require_tls: RequireTls,
    pub body: Body,
    /// MAIL carried SMTPUTF8 (RFC 6531): header and addresses may be UTF-8
    pub smtp_utf8: bool,
    /// octets the client announced with SIZE= (RFC 1870)
    pub declared_size: Option<u64>,
    /// RFC 3461 section 4.3
    pub ret: Ret,
    /// xtext as sent (RFC 3461 section 4.4)
    pub envid: Option<String>,
}
