//! Who may connect: so many in all, so many at once and so many a minute from one address (R13 of the reliability spec).
//!
//! In goes a peer's address and the monotonic time; out comes a `Slot`, which frees its place when dropped, or why not.
//! "One address" is an IPv4 address or an IPv6 /64, the least that a provider gives to one customer (RFC 6177).
//! Not done here: accounts, and what a refused peer is told (`421 4.7.0` with the sentence of `Refusal`).

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::net::Ipv6Addr;
use std::rc::Rc;
use std::time::Duration;
use std::time::Instant;

/// Addresses remembered for their rate: four times as many as could fill all slots a minute, about 200 KB when full.
/// Beyond it the longest silent ones are forgotten, which only gives them a fresh burst.
const MAX_ADDRESSES: usize = 4096;
/// A rate is counted in these parts of a connection, so that slow rates refill without floating point.
const PARTS: u64 = 60_000;

/// The numbers of R13; all are settings.
#[derive(Clone)]
pub struct Limits {
    /// Connections at once.
    pub total: usize,
    /// Of these from one address.
    pub per_address: usize,
    /// New ones from one address a minute, in the long run.
    pub per_minute: u32,
    /// New ones from one address in a row.
    pub burst: u32,
    /// Who is exempt from what is counted by address, beside loopback: `limits.trusted`.
    pub trusted: Rc<dyn Fn(IpAddr) -> bool>,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { total: 200, per_address: 30, per_minute: 200, burst: 120, trusted: Rc::new(|_| false) }
    }
}

/// Why a peer gets no slot. The sentence can be shown to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    TooMany,
    TooManyFromAddress,
    TooFast,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::TooMany => "too many connections, try again later",
            Refusal::TooManyFromAddress => "too many connections from your address, try again later",
            Refusal::TooFast => "your address connects too fast, try again in a minute",
        })
    }
}

impl std::error::Error for Refusal {}

/// How full the house is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    pub open: usize,
    pub total: usize,
}

impl Load {
    /// Over 75 %: sessions get 10 to 30 seconds of patience instead of minutes (R5).
    pub fn busy(self) -> bool {
        self.open * 4 > self.total * 3
    }
}

/// The book of open connections. Clones share it.
#[derive(Clone)]
pub struct Slots(Rc<RefCell<Book>>);

struct Book {
    limits: Limits,
    open: usize,
    addresses: HashMap<Ipv6Addr, Account>,
}

/// What is known of one address.
struct Account {
    open: usize,
    /// What it may still open now, in `PARTS` of a connection.
    credit: u64,
    counted: Instant,
}

/// A place; dropping it frees it.
pub struct Slot {
    book: Rc<RefCell<Book>>,
    /// The address it is counted under, `None` for an exempt peer.
    key: Option<Ipv6Addr>,
}

impl Slots {
    pub fn new(limits: Limits) -> Slots {
        Slots(Rc::new(RefCell::new(Book { limits, open: 0, addresses: HashMap::new() })))
    }

    /// A place for a peer that connects at `now` (monotonic).
    pub fn take(&self, peer: IpAddr, now: Instant) -> Result<Slot, Refusal> {
        let mut book = self.0.borrow_mut();
        if book.open >= book.limits.total {
            return Err(Refusal::TooMany);
        }
        let peer = peer.to_canonical();
        let key = if peer.is_loopback() || (book.limits.trusted)(peer) { None } else { Some(address_key(peer)) };
        if let Some(key) = key {
            book.admit(key, now)?;
        }
        book.open += 1;
        Ok(Slot { book: Rc::clone(&self.0), key })
    }

    pub fn load(&self) -> Load {
        let book = self.0.borrow();
        Load { open: book.open, total: book.limits.total }
    }

    /// New limits after a reload; open connections stay.
    pub fn replace_limits(&self, limits: Limits) {
        self.0.borrow_mut().limits = limits;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut book = self.book.borrow_mut();
        book.open -= 1;
        if let Some(account) = self.key.and_then(|key| book.addresses.get_mut(&key)) {
            account.open -= 1;
        }
    }
}

impl Book {
    /// The rules that count by address.
    fn admit(&mut self, key: Ipv6Addr, now: Instant) -> Result<(), Refusal> {
        self.make_room(now);
        let burst = u64::from(self.limits.burst) * PARTS;
        // The last quarter is for those who hold nothing yet, so that a flood from few addresses never shuts others out.
        let reserve = self.open * 4 >= self.limits.total * 3;
        let (per_address, per_minute) = (self.limits.per_address, self.limits.per_minute);
        let account = self.addresses.entry(key).or_insert(Account { open: 0, credit: burst, counted: now });
        account.refill(now, per_minute, burst);
        if account.open >= per_address || (reserve && account.open > 0) {
            return Err(Refusal::TooManyFromAddress);
        }
        if account.credit < PARTS {
            return Err(Refusal::TooFast);
        }
        account.credit -= PARTS;
        account.open += 1;
        Ok(())
    }

    /// Keeps the table within its bound: first who has nothing to remember, then the longest silent without connection.
    fn make_room(&mut self, now: Instant) {
        if self.addresses.len() < MAX_ADDRESSES {
            return;
        }
        let (per_minute, burst) = (self.limits.per_minute, u64::from(self.limits.burst) * PARTS);
        self.addresses.retain(|_, account| {
            account.refill(now, per_minute, burst);
            account.open > 0 || account.credit < burst
        });
        if self.addresses.len() < MAX_ADDRESSES * 3 / 4 {
            return;
        }
        // By quarters, so that a flood from ever new networks pays for one sort in a thousand connections.
        let mut silent: Vec<(u64, Ipv6Addr)> =
            self.addresses.iter().filter(|(_, account)| account.open == 0).map(|(key, account)| (account.credit, *key)).collect();
        silent.sort_unstable_by(|a, b| b.cmp(a));
        for (_, key) in silent.iter().take(MAX_ADDRESSES / 4) {
            self.addresses.remove(key);
        }
    }
}

impl Account {
    fn refill(&mut self, now: Instant, per_minute: u32, burst: u64) {
        let passed = u64::try_from(now.saturating_duration_since(self.counted).min(HOUR).as_millis()).unwrap_or(0);
        // Connections a minute times milliseconds is exactly 1/60,000 of a connection: one of the PARTS.
        self.credit = (self.credit + passed * u64::from(per_minute)).min(burst);
        self.counted = self.counted.max(now);
    }
}

/// Longer silences refill no more than this; keeps the multiplication far from its end.
const HOUR: Duration = Duration::from_secs(3600);

fn address_key(peer: IpAddr) -> Ipv6Addr {
    match peer {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn thirty_from_one_address_and_the_thirty_first_waits_for_a_free_one() {
        let (slots, now) = (Slots::new(Limits::default()), Instant::now());
        let mut held: Vec<Slot> = (0..30).map(|_| slots.take(address("192.0.2.1"), now).unwrap()).collect();
        assert_eq!(slots.take(address("192.0.2.1"), now).err(), Some(Refusal::TooManyFromAddress));
        assert_eq!(slots.take(address("::ffff:192.0.2.1"), now).err(), Some(Refusal::TooManyFromAddress));
        assert!(slots.take(address("192.0.2.2"), now).is_ok());
        held.pop();
        assert!(slots.take(address("192.0.2.1"), now).is_ok());
        assert_eq!(slots.load(), Load { open: 29, total: 200 });
    }

    #[test]
    fn a_burst_then_so_many_a_minute() {
        let (slots, start) = (Slots::new(Limits::default()), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let count = |now| (0..1000).take_while(|_| slots.take(address("192.0.2.1"), now).is_ok()).count();
        assert_eq!(count(at(0)), 120);
        assert_eq!(slots.take(address("192.0.2.1"), at(0)).err(), Some(Refusal::TooFast));
        assert_eq!(count(at(30)), 100);
        assert_eq!(count(at(3600)), 120);
    }

    #[test]
    fn the_last_quarter_is_for_those_who_hold_none() {
        let (slots, now) = (Slots::new(Limits::default()), Instant::now());
        let flood: Vec<Slot> = (0..150).map(|n| slots.take(IpAddr::from([192, 0, 2, n / 30]), now).unwrap()).collect();
        assert!(!slots.load().busy());
        assert_eq!(slots.take(address("192.0.2.0"), now).err(), Some(Refusal::TooManyFromAddress));
        let newcomers: Vec<Slot> = (0..50).map(|n| slots.take(IpAddr::from([198, 51, 100, n]), now).unwrap()).collect();
        assert!(slots.load().busy());
        assert_eq!(slots.take(address("203.0.113.1"), now).err(), Some(Refusal::TooMany));
        drop((flood, newcomers));
        assert_eq!(slots.load().open, 0);
    }

    #[test]
    fn one_ipv6_customer_is_one_address() {
        let (slots, now) = (Slots::new(Limits::default()), Instant::now());
        let own = |n: u16| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 1, n, n, n, n));
        let _held: Vec<Slot> = (0..30).map(|n| slots.take(own(n), now).unwrap()).collect();
        assert_eq!(slots.take(own(99), now).err(), Some(Refusal::TooManyFromAddress));
        assert!(slots.take(address("2001:db8:0:2::1"), now).is_ok());
    }

    #[test]
    fn loopback_and_trusted_networks_meet_the_total_only() {
        let trusted: Rc<dyn Fn(IpAddr) -> bool> = Rc::new(|peer| peer == IpAddr::from([10, 0, 0, 1]));
        let slots = Slots::new(Limits { trusted, ..Limits::default() });
        let peers = ["127.0.0.1", "::1", "10.0.0.1"].map(address);
        let held: Vec<Slot> = (0..200).map(|n| slots.take(peers[n % 3], Instant::now()).unwrap()).collect();
        assert_eq!(slots.take(peers[0], Instant::now()).err(), Some(Refusal::TooMany));
        drop(held);
        for _ in 0..1000 {
            assert!(slots.take(peers[2], Instant::now()).is_ok());
        }
    }

    #[test]
    fn a_flood_from_ever_new_networks_does_not_grow_the_table() {
        let (slots, now) = (Slots::new(Limits::default()), Instant::now());
        let held = slots.take(address("192.0.2.1"), now).unwrap();
        for n in 0..100_000u128 {
            drop(slots.take(IpAddr::V6(Ipv6Addr::from_bits((0x2001_0db8 << 96) | (n << 64))), now));
        }
        assert!(slots.0.borrow().addresses.len() <= MAX_ADDRESSES);
        drop(held);
        assert_eq!(slots.load().open, 0);
    }
}
