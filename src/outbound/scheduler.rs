//! Wakes when something of the queue is due, and begins a visit for each destination that has none (R11).
//!
//! It sleeps until the first due, a change of the queue, or the end of a visit. While the clock is in doubt nothing is
//! begun (R12); when it is believed again, dues that only a wrong clock can have written are pulled in, and the time between
//! counts for nobody (`doubt`).

use std::time::Duration;

use smol::channel::Receiver;
use smol::channel::bounded;

use crate::mail::date::UnixTime;
use crate::mail::domain::Domain;
use crate::net::breathe::breathe;
use crate::net::clock::Certainty;
use crate::net::deadline::sleep;
use crate::net::deadline::within;
use crate::outbound::DRAIN;
use crate::outbound::Outbound;
use crate::outbound::Service;
use crate::outbound::doubt::Doubt;
use crate::outbound::scan::Round;
use crate::outbound::scan::Scan;
use crate::outbound::visit;
use crate::proto::dns::lookup::Lookup;
use crate::store::Error;
use crate::store::Topic;
use crate::store::Watch;
use crate::store::queue;
use crate::store::queue::More;

/// A wall clock may be set without a sign; then dues come earlier or later than was thought.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// After the store refused to say what is due.
const AFTER_ERROR: Duration = Duration::from_secs(5);
/// Between two rounds of a look at more destinations than one round can see: some percent of the processor.
const BETWEEN_ROUNDS: Duration = Duration::from_millis(100);
/// While no visit may begin: one that passes the gate makes room without a ring.
const WHILE_FULL: Duration = Duration::from_secs(1);

/// What the scheduler waits for.
struct Alarms {
    queue: Watch,
    ended: Receiver<()>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Woken {
    Rung,
    Slept,
}

/// The loop. Ends when the server drains, after the transactions under way (at most `DRAIN`).
pub async fn run<L: Lookup + 'static>(service: Service<L>) {
    let (ended, ends) = bounded(1);
    *service.busy.ended.borrow_mut() = Some(ended);
    let mut alarms = Alarms { queue: service.store.watch(Topic::Queue), ended: ends };
    let mut doubt = Doubt::resume(&service);
    let mut scan = Scan::default();
    while !service.is_draining() {
        let patience = match doubt.look(&service).await {
            Certainty::Confirmed => begin_due(&service, &mut scan).await.unwrap_or_else(|error| {
                log::error!("what is due in the queue cannot be read: {error}");
                AFTER_ERROR
            }),
            Certainty::Plausible | Certainty::Unknown => LONGEST_SLEEP,
        };
        if alarms.wait(&service, patience).await == Woken::Rung {
            scan.rings();
        }
    }
    if doubt.is_open() {
        doubt.save(&service).await;
    }
    let all_ended = async {
        while service.busy.count() > 0 {
            let _ = alarms.ended.recv().await;
        }
    };
    if within(DRAIN, all_ended).await.is_err() {
        log::warn!("{} deliveries were cut off; their mail is tried again after the next start", service.busy.count());
    }
}

impl Alarms {
    async fn wait<L: Lookup>(&mut self, service: &Outbound<L>, patience: Duration) -> Woken {
        let rings = async {
            smol::future::or(self.queue.changed(), async {
                let _ = self.ended.recv().await;
            })
            .await;
            Woken::Rung
        };
        let sleeps = async {
            sleep(patience).await;
            Woken::Slept
        };
        service.unless_draining(smol::future::or(rings, sleeps)).await.unwrap_or(Woken::Slept)
    }
}

/// The latest due that a schedule can have given until now.
pub fn latest_due<L: Lookup>(service: &Outbound<L>) -> UnixTime {
    let settings = service.live.current();
    let longest = settings.outbound.longest_retry.max(settings.outbound.first_retry);
    service.clock.now().plus(i64::try_from(longest.as_secs()).unwrap_or(i64::MAX))
}

/// No schedule goes further than the longest interval: a later due was written by a wrong clock (R12).
async fn pull_in<L: Lookup>(service: &Outbound<L>) -> Result<(), Error> {
    let latest = latest_due(service);
    let behind = Some((latest, service.live.current().hostname.clone()));
    while !service.store.read(|r| queue::due_destinations(r, UnixTime(i64::MAX), behind.clone(), 1))?.is_empty() {
        if service.store.write(move |w| queue::pull_in(w, latest)).await? == More::No {
            break;
        }
        breathe().await;
    }
    Ok(())
}

/// Begins what may begin; says how long nothing more is due.
async fn begin_due<L: Lookup + 'static>(service: &Service<L>, scan: &mut Scan) -> Result<Duration, Error> {
    pull_in(service).await?;
    scan.mend(&service.store).await?;
    let now = service.clock.now();
    Ok(match scan.round(&service.store, &service.busy, now, |domain| begin(service, domain)).await? {
        Round::More => BETWEEN_ROUNDS,
        Round::Full => WHILE_FULL,
        Round::Seen(None) => LONGEST_SLEEP,
        Round::Seen(Some(due)) => {
            let seconds = u64::try_from(due.0.saturating_sub(now.0)).unwrap_or(0);
            Duration::from_secs(seconds.max(1)).min(LONGEST_SLEEP)
        }
    })
}

fn begin<L: Lookup + 'static>(service: &Service<L>, domain: &Domain) {
    service.busy.begin(domain);
    let under_way = UnderWay { service: service.clone(), domain: domain.clone() };
    service.tasks.spawn("delivery", async move {
        visit::visit(&under_way.service, &under_way.domain).await;
    });
}

/// A visit that has begun; by its drop the domain is free for the next one, whatever happened.
struct UnderWay<L: Lookup> {
    service: Service<L>,
    domain: Domain,
}

impl<L: Lookup> Drop for UnderWay<L> {
    fn drop(&mut self) {
        self.service.busy.end(&self.domain);
    }
}
