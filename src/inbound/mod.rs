//! Receives mail: one task a connection, the SMTP machine of `proto::smtp::server` driven over a socket.
//!
//! `serve` obeys the machine's actions; `clients` answers its questions about people (logins, senders, recipients); `data`
//! reads what follows DATA into the spool and `file` files it; `listen` accepts and refuses connections. What is decided lives elsewhere: replies in `proto::smtp`, recipients and filing in `intake`.

mod clients;
pub mod data;
mod file;
pub mod handed_in;
pub mod listen;
pub mod serve;

use std::rc::Rc;
use std::sync::Arc;

use rustls::ServerConfig;

use crate::admin::logins::Logins;
use crate::config::live::Live;
use crate::metrics::Metrics;
use crate::net::budget::Budget;
use crate::net::clock::Clock;
use crate::net::slots::Slots;
use crate::proto::smtp::server::Role;
use crate::store::Store;

/// What a listener is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// 25: other servers bring mail
    Exchange,
    /// 587: our people hand in mail, behind STARTTLS
    Submission,
    /// 465: the same with TLS from the first octet (RFC 8314 section 3.3)
    Submissions,
}

impl Port {
    pub fn role(self) -> Role {
        match self {
            Port::Exchange => Role::Exchange,
            Port::Submission | Port::Submissions => Role::Submission,
        }
    }
}

/// One listener's way in.
#[derive(Clone)]
pub struct Door {
    pub port: Port,
    /// `None`: no certificate could be made; STARTTLS is not offered, and `Port::Submissions` serves nobody
    pub tls: Option<Arc<ServerConfig>>,
}

/// What every session of one instance shares.
pub struct Service {
    pub store: Store,
    pub live: Rc<Live>,
    pub metrics: Rc<Metrics>,
    pub clock: Clock,
    pub slots: Slots,
    pub budget: Budget,
    pub logins: Rc<Logins>,
    /// closed when the server stops: sessions end at their next command
    pub draining: smol::channel::Receiver<()>,
}
