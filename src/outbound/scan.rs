//! The scheduler's look at the destinations that are due: a bounded part of them a round, each round where the last ended.
//!
//! However many dead destinations wait for room, the live ones behind them are reached after a few rounds (R11), and a
//! round costs the same whatever waits. A lap is over when the last destination that is due was seen; what rings meanwhile
//! asks for another one. Not done here: who may begin (`busy`), how long to sleep (`scheduler`).

use crate::mail::date::UnixTime;
use crate::mail::domain::Domain;
use crate::net::breathe::breathe;
use crate::outbound::busy::Busy;
use crate::store::Error;
use crate::store::PAGE;
use crate::store::Store;
use crate::store::queue;

/// Pages of one round: some milliseconds, a page at a time.
const PAGES: usize = 20;

/// Where the look has got to.
#[derive(Default)]
pub struct Scan {
    /// the last destination that was seen; `None`: a lap begins
    after: Option<(UnixTime, Domain)>,
    /// something changed behind the look
    again: bool,
    /// damaged rows of the store that were known when the index was mended last
    mended: u64,
}

/// What a round came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Round {
    /// there is more to look at, soon
    More,
    /// no visit may begin before one ends
    Full,
    /// all was seen; this comes next. `None`: nothing
    Seen(Option<UnixTime>),
}

impl Scan {
    /// Something changed: what this lap has seen already must be seen again.
    pub fn rings(&mut self) {
        self.again |= self.after.is_some();
    }

    /// After damage was seen: it may have hit rows by which destinations are found.
    pub async fn mend(&mut self, store: &Store) -> Result<(), Error> {
        let damaged = store.counters().damaged;
        if damaged == self.mended {
            return Ok(());
        }
        let mut place = Some(Vec::new());
        while let Some(from) = place {
            place = store.write(move |w| queue::mend_dues(w, from)).await?;
        }
        self.mended = damaged;
        Ok(())
    }

    /// Goes on for some pages; `begin` is called for each destination that is due and may begin.
    pub async fn round(&mut self, store: &Store, busy: &Busy, now: UnixTime, mut begin: impl FnMut(&Domain)) -> Result<Round, Error> {
        for _ in 0..PAGES {
            let last = self.after.clone();
            let page = store.read(|r| queue::due_destinations(r, now, last, PAGE))?;
            let is_last = page.len() < PAGE;
            for (due, domain) in page {
                // The one at which it is full is the next one's first.
                if busy.is_full() {
                    return Ok(Round::Full);
                }
                if !busy.is_visited(&domain) && busy.has_room(&domain) {
                    begin(&domain);
                }
                self.after = Some((due, domain));
            }
            if is_last {
                let last = self.after.take();
                if std::mem::take(&mut self.again) {
                    return Ok(Round::More);
                }
                // What is due and could not begin waits for the end of a visit.
                let next = store.read(|r| queue::due_destinations(r, UnixTime(i64::MAX), last, 1))?;
                return Ok(Round::Seen(next.first().map(|(due, _)| *due)));
            }
            breathe().await;
        }
        Ok(Round::More)
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::mail::address::Address;
    use crate::outbound::busy::DIALLING_DEAD;
    use crate::store::Options;
    use crate::store::Spool;
    use crate::store::blobs;
    use crate::store::queue::NewQueued;
    use crate::store::queue::NewRecipient;

    struct Dir(PathBuf);

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    /// A message to one recipient at each domain, due at `at`.
    async fn enqueue(store: &Store, letters: &str, at: i64, domains: impl Iterator<Item = String>) {
        let mut spool = Spool::new(store, 1 << 20);
        spool.push(b"x").await.unwrap();
        let spooled = spool.finish(b"Received: by test\r\n".to_vec()).unwrap();
        let recipients = domains.map(|domain| Address::parse(&format!("bob@{domain}")).unwrap());
        let notify = crate::mail::notify::Notify::Never;
        let recipients = recipients.map(|address| NewRecipient { address, notify, orcpt: None }).collect();
        let id = crate::store::QueueId::parse(letters).unwrap();
        let new = move |blob| NewQueued {
            id,
            blob,
            reverse_path: crate::mail::path::ReversePath::Null,
            sender: None,
            origin: queue::Origin::Submitted,
            body: crate::mail::envelope::Body::SevenBit,
            smtp_utf8: false,
            ret: crate::mail::notify::Ret::Unset,
            envid: None,
            arrived: UnixTime(at),
            digest: crate::mail::digest::Digest::default(),
            reception: crate::store::messages::Reception::default(),
            wish: crate::mail::envelope::RequireTls::Default,
            recipients,
        };
        let change = move |w: &mut crate::store::Writer<'_>| {
            let blob = blobs::adopt(w, spooled, 1)?;
            queue::enqueue(w, new(blob))
        };
        store.write(change).await.unwrap();
    }

    #[test]
    fn live_destinations_behind_thousands_of_dead_ones_are_seen_in_a_few_rounds() {
        const DEAD: usize = 9000;
        let dir = Dir(std::env::temp_dir().join(format!("pipit-scan-{}", std::process::id())));
        std::fs::create_dir_all(&dir.0).unwrap();
        let store = Store::open(&dir.0, Options { map_size: Some(64 << 20) }).unwrap();
        let (busy, mut scan) = (Busy::default(), Scan::default());
        let dead = |n: usize| format!("dead{n}.test");
        async_io::block_on(async {
            enqueue(&store, "0000000000001", 10, (0..DEAD).map(dead)).await;
            enqueue(&store, "0000000000002", 20, std::iter::once("live.test".to_owned())).await;
            (0..DEAD).for_each(|n| busy.found_dead(&Domain::parse(&dead(n)).unwrap()));
            let mut rounds = Vec::new();
            let mut begun = Vec::new();
            let now = UnixTime(100);
            loop {
                let round = scan.round(&store, &busy, now, |domain| {
                    busy.begin(domain);
                    begun.push(domain.to_string());
                });
                rounds.push(round.await.unwrap());
                // Visits end all the time, and each end asks for another look.
                scan.rings();
                if begun.last().is_some_and(|name| name == "live.test") {
                    break;
                }
                assert!(rounds.len() < 10, "{rounds:?}");
            }
            assert_eq!(rounds, [Round::More, Round::More, Round::More], "4,000 a round");
            assert_eq!(begun.len(), DIALLING_DEAD + 1);
            // A lap without a ring ends the look; what comes next is due later.
            enqueue(&store, "0000000000003", 500, std::iter::once("later.test".to_owned())).await;
            let mut last = Round::More;
            for _ in 0..3 {
                last = scan.round(&store, &busy, now, |domain| panic!("{domain} was begun")).await.unwrap();
            }
            assert_eq!(last, Round::Seen(Some(UnixTime(500))));
        });
    }
}
