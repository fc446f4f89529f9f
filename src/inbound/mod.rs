//! Receives mail: one task a connection, the SMTP machine of `proto::smtp::server` driven over a socket.
//!
//! `serve` obeys the machine's actions; `data` reads what follows DATA into the spool; `listen` accepts and refuses
//! connections. What is decided lives elsewhere: replies in `proto::smtp`, recipients and filing in `intake`.

pub mod data;
pub mod listen;
pub mod serve;

use std::rc::Rc;
use std::sync::Arc;

use rustls::ServerConfig;

use crate::config::live::Live;
use crate::metrics::Metrics;
use crate::net::budget::Budget;
use crate::net::clock::Clock;
use crate::net::slots::Slots;
use crate::store::Store;

/// What every session of one instance shares.
pub struct Service {
    pub store: Store,
    pub live: Rc<Live>,
    pub metrics: Rc<Metrics>,
    pub clock: Clock,
    pub slots: Slots,
    pub budget: Budget,
    /// `None`: no certificate could be made, STARTTLS is not offered
    pub tls: Option<Arc<ServerConfig>>,
    /// closed when the server stops: sessions end at their next command
    pub draining: smol::channel::Receiver<()>,
}
