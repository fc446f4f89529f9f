//! Mail leaves: what is due in the queue goes to the servers of its domains, and what cannot go comes back as a notice.
//!
//! `scheduler` waits for dues and begins a `visit` for each destination; a visit claims its mail, finds the hosts (`reach`)
//! and lets a few `worker`s carry it over connections (`converse`), with 7 bits where it must be (`recoded`); `settle` writes
//! down how it ended. `schedule` and `candidates` decide when and in which order; `busy` holds the limits, `ledger` what a
//! visit has taken on, `scan` who is looked at next, `doubt` the times in which the clock was wrong.
//! Only the store connects this with the rest of the server: its queue is the order book, a bell its alarm.

mod busy;
mod candidates;
pub mod converse;
mod doubt;
mod ledger;
mod recoded;
mod scan;
mod schedule;
mod scheduler;
mod settle;
mod source;
mod visit;
mod worker;

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

pub use crate::outbound::busy::Busy;
pub use crate::outbound::scheduler::run;

use crate::config::live::Live;
use crate::metrics::Metrics;
use crate::net::clock::Clock;
use crate::net::tasks::Tasks;
use crate::proto::dns::lookup::Lookup;
use crate::store::Store;

/// Transactions under way get this long to end when the server stops: less than the whole server's drain.
pub const DRAIN: Duration = Duration::from_secs(8);

/// The sending service of one instance.
pub struct Outbound<L: Lookup> {
    pub store: Store,
    pub live: Rc<Live>,
    pub metrics: Rc<Metrics>,
    pub clock: Clock,
    pub resolver: L,
    pub tasks: Tasks,
    /// of the interfaces, and what else is known to be this server
    pub own_addresses: Vec<IpAddr>,
    /// closed when the server stops
    pub draining: smol::channel::Receiver<()>,
    pub busy: Rc<Busy>,
}

impl<L: Lookup> Outbound<L> {
    fn is_draining(&self) -> bool {
        self.draining.is_closed()
    }

    /// What `work` gives, or `None` once the server drains; then the work is dropped where it waits.
    async fn unless_draining<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let drained = async {
            let _ = self.draining.recv().await;
            None
        };
        smol::future::or(drained, async { Some(work.await) }).await
    }
}

/// Shared by the scheduler and its tasks.
type Service<L> = Rc<Outbound<L>>;
