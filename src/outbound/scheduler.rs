//! Wakes when something of the queue is due, and begins a visit for each destination that has none (R11).
//!
//! It sleeps until the first due, a change of the queue, or the end of a visit. While the clock is in doubt nothing is
//! begun (R12); when it is believed again, dues that only a wrong clock can have written are pulled in, and the time between
//! counts for nobody.

use std::time::Duration;
use std::time::Instant;

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
use crate::outbound::visit;
use crate::proto::dns::lookup::Lookup;
use crate::store::Error;
use crate::store::PAGE;
use crate::store::Topic;
use crate::store::Watch;
use crate::store::queue;
use crate::store::queue::More;

/// A wall clock may be set without a sign; then dues come earlier or later than was thought.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// After the store refused to say what is due.
const AFTER_ERROR: Duration = Duration::from_secs(5);
/// Dead destinations that are passed over in one look; those behind them are seen in a later one.
const PAGES: usize = 20;

/// What the scheduler waits for.
struct Alarms {
    queue: Watch,
    ended: Receiver<()>,
    /// since when the clock is in doubt
    doubt: Option<Instant>,
}

/// The loop. Ends when the server drains, after the transactions under way (at most `DRAIN`).
pub async fn run<L: Lookup + 'static>(service: Service<L>) {
    let (ended, ends) = bounded(1);
    *service.busy.ended.borrow_mut() = Some(ended);
    let mut alarms = Alarms { queue: service.store.watch(Topic::Queue), ended: ends, doubt: None };
    while !service.is_draining() {
        let patience = match alarms.doubt(&service) {
            Certainty::Confirmed => begin_due(&service).await.unwrap_or_else(|error| {
                log::error!("what is due in the queue cannot be read: {error}");
                AFTER_ERROR
            }),
            Certainty::Plausible | Certainty::Unknown => LONGEST_SLEEP,
        };
        alarms.wait(&service, patience).await;
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
    async fn wait<L: Lookup>(&mut self, service: &Outbound<L>, patience: Duration) {
        let rings = async {
            smol::future::or(self.queue.changed(), async {
                let _ = self.ended.recv().await;
            })
            .await;
        };
        let _ = service.unless_draining(smol::future::or(rings, sleep(patience))).await;
    }

    /// How far the time may be believed; notes begin and end of a doubt.
    fn doubt<L: Lookup>(&mut self, service: &Outbound<L>) -> Certainty {
        let certainty = service.clock.certainty();
        match (certainty, self.doubt) {
            (Certainty::Confirmed, Some(since)) => {
                let seconds = service.clock.instant().duration_since(since).as_secs();
                log::info!("the clock is believed again after {seconds} s; mail goes out");
                service.busy.was_blind(service.clock.now(), seconds);
                self.doubt = None;
            }
            (Certainty::Plausible | Certainty::Unknown, None) => {
                log::warn!("the clock says {}, which cannot be believed; mail waits until it is right", service.clock.now());
                self.doubt = Some(service.clock.instant());
            }
            (Certainty::Confirmed, None) | (Certainty::Plausible | Certainty::Unknown, Some(_)) => {}
        }
        certainty
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
async fn begin_due<L: Lookup + 'static>(service: &Service<L>) -> Result<Duration, Error> {
    pull_in(service).await?;
    let now = service.clock.now();
    let mut after: Option<(UnixTime, Domain)> = None;
    for _ in 0..PAGES {
        let last = after.clone();
        let page = service.store.read(|r| queue::due_destinations(r, now, last, PAGE))?;
        let full = page.len() == PAGE;
        for (due, domain) in page {
            if !service.busy.is_visited(&domain) && service.busy.has_room(&domain) {
                begin(service, &domain);
            }
            after = Some((due, domain));
        }
        if !full || service.busy.is_full() {
            break;
        }
        breathe().await;
    }
    // What is due and could not begin waits for the end of a visit.
    let next = service.store.read(|r| queue::due_destinations(r, UnixTime(i64::MAX), after, 1))?;
    let next = next.first().map(|(due, _)| u64::try_from(due.0.saturating_sub(now.0)).unwrap_or(0));
    Ok(next.map_or(LONGEST_SLEEP, |seconds| Duration::from_secs(seconds.max(1))).min(LONGEST_SLEEP))
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
