//! The upstreams of a resolver: which there are, how they have behaved, whom to ask next.
//!
//! The list is configured, or that of /etc/resolv.conf, which is read again when it has changed. Who answers fast is
//! asked first, who is unfit for DNSSEC last; who fails is left alone for a while, and asked all the same when nobody better
//! is there.

use std::collections::HashSet;
use std::collections::VecDeque;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::net::SocketAddrV6;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use ring::rand::SecureRandom;
use ring::rand::SystemRandom;
use smol::channel::Receiver;
use smol::channel::Sender;

use crate::net::resolver::fitness::ADVICE;
use crate::net::resolver::fitness::Fitness;
use crate::net::resolver::fitness::Schedule;
use crate::net::resolver::fitness::UpstreamStatus;
use crate::net::resolver::tcp::Left;
use crate::net::resolver::tcp::Line;
use crate::proto::dns::RecordType;
use crate::proto::dns::name::Name;
use crate::proto::dns::question::Letters;
use crate::proto::dns::resolv_conf;
use crate::proto::dns::resolv_conf::Nameserver;
use crate::proto::dns::upstream::UpstreamAddress;

const DNS_PORT: u16 = 53;
const SYSTEM_FILE: &str = "/etc/resolv.conf";
/// The first wait for an answer is three smoothed round trips within these bounds (`resolver.md`).
const PATIENCE: (Duration, Duration) = (Duration::from_millis(400), Duration::from_millis(1500));
/// Of who has not been asked yet.
const FIRST_ROUND_TRIP: Duration = Duration::from_millis(130);
/// Failures in a row that make an upstream dead until it is tried again.
const DEAD_AFTER: u32 = 2;
/// Longest time that a dead one is left alone.
const MAX_REST: Duration = Duration::from_secs(60);
/// How long it is remembered that an upstream does not understand EDNS.
const PLAIN_FOR: Duration = Duration::from_secs(3600);
/// More than are under way at a time, mostly.
const MAX_UNHEARD: usize = 32;
/// Questions in a row that UDP brought no answer to and TCP did, before UDP is left alone for that time too.
const LOST_FOR_TCP: u32 = 3;
/// An answer as fresh as this shows that an upstream reaches the DNS.
const LATELY: Duration = Duration::from_secs(600);

/// Whom to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upstreams {
    /// those of /etc/resolv.conf
    System,
    /// those of a file of the same form
    File(PathBuf),
    Listed(Vec<UpstreamAddress>),
}

/// One upstream and what is known about it.
#[derive(Clone)]
pub struct Upstream {
    pub address: UpstreamAddress,
    round_trip: Duration,
    /// in a row
    failures: u32,
    rest_until: Option<Instant>,
    last_useful: Option<Instant>,
    complaint: String,
    pub letters: Letters,
    plain_until: Option<Instant>,
    /// ours, 8 octets, and behind them the server's
    pub cookie: Vec<u8>,
    pub line: Rc<Line>,
    pub fitness: Fitness,
    pub schedule: Schedule,
    /// The latest questions that nothing came back for by UDP: each is asked by TCP next time.
    unheard: VecDeque<(Name, RecordType)>,
    /// of these, how many in a row TCP then had an answer for at once
    lost: u32,
    tcp_until: Option<Instant>,
}

impl Upstream {
    fn new(address: UpstreamAddress, wake: Sender<()>) -> Upstream {
        let mut cookie = vec![0; 8];
        // Without chance the cookie proves nothing, and harms nothing.
        let _ = SystemRandom::new().fill(&mut cookie);
        Upstream {
            line: Line::new(address.clone(), wake),
            fitness: Fitness::default(),
            schedule: Schedule::default(),
            unheard: VecDeque::new(),
            lost: 0,
            tcp_until: None,
            address,
            round_trip: FIRST_ROUND_TRIP,
            failures: 0,
            rest_until: None,
            last_useful: None,
            complaint: String::new(),
            letters: Letters::Random,
            plain_until: None,
            cookie,
        }
    }

    pub fn patience(&self) -> Duration {
        (self.round_trip * 3).clamp(PATIENCE.0, PATIENCE.1)
    }

    pub fn is_plain(&self, now: Instant) -> bool {
        self.plain_until.is_some_and(|until| now < until)
    }

    pub fn set_plain(&mut self, now: Instant) {
        self.plain_until = Some(now + PLAIN_FOR);
    }

    /// The server's cookie as it came with an answer.
    pub fn keep_cookie(&mut self, cookie: &[u8]) {
        if cookie.len() >= 16 && cookie[..8] == self.cookie[..8] {
            self.cookie = cookie.to_vec();
        }
    }

    /// By TCP it answered without: it has given cookies up.
    pub fn forget_cookie(&mut self) {
        self.cookie.truncate(8);
    }

    /// Whether to ask this by TCP: UDP brings no answers here, or brought none to this question the last time. It may be lost for its
    /// length, or UDP may be blocked.
    pub fn wants_tcp(&mut self, name: &Name, kind: RecordType, now: Instant) -> bool {
        let before = self.unheard.len();
        self.unheard.retain(|unheard| *unheard != (name.clone(), kind));
        self.unheard.len() < before || self.tcp_until.is_some_and(|until| now < until)
    }

    pub fn note_udp_silence(&mut self, name: &Name, kind: RecordType) {
        if self.unheard.len() == MAX_UNHEARD {
            self.unheard.pop_front();
        }
        self.unheard.push_back((name.clone(), kind));
    }

    pub fn note_udp_answer(&mut self) {
        self.lost = 0;
    }

    /// TCP was tried where UDP had brought nothing: did it answer within the time that UDP had?
    pub fn note_tcp_instead(&mut self, answered: Option<Duration>, now: Instant) {
        let quick = answered.is_some_and(|took| took < PATIENCE.0);
        self.lost = if quick { self.lost + 1 } else { 0 };
        if self.lost >= LOST_FOR_TCP {
            self.lost = 0;
            self.tcp_until = Some(now + PLAIN_FOR);
        }
    }

    /// It answered, in this time.
    pub fn note_answer(&mut self, took: Duration) {
        self.round_trip = (self.round_trip * 7 + took) / 8;
    }

    /// It answered as a resolver does, be it that it could not find out; who refuses everything is as good as dead.
    pub fn note_alive(&mut self) {
        self.failures = 0;
        self.rest_until = None;
    }

    /// Its answer told something about the DNS.
    pub fn note_useful(&mut self, now: Instant) {
        self.note_alive();
        self.last_useful = Some(now);
        self.complaint.clear();
    }

    /// It did not answer, or not in a way that is of use.
    pub fn note_failure(&mut self, complaint: String, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        self.round_trip = (self.round_trip * 2).min(PATIENCE.1);
        self.complaint = complaint;
        if self.failures >= DEAD_AFTER {
            let rest = Duration::from_secs(1 << self.failures.min(6)).min(MAX_REST);
            self.rest_until = Some(now + rest);
        }
    }

    /// Whether its last answers were of no use.
    pub fn has_failed(&self) -> bool {
        self.failures > 0
    }

    fn is_unfit(&self) -> bool {
        matches!(self.fitness, Fitness::Unfit(_))
    }

    fn is_dead(&self) -> bool {
        self.failures >= DEAD_AFTER
    }

    fn is_resting(&self, now: Instant) -> bool {
        self.rest_until.is_some_and(|until| now < until)
    }
}

/// What changes with a file: time, length and inode. Two writes within a tick of the clock have the same time.
type Stamp = (SystemTime, u64, u64);

/// All upstreams.
pub struct Pool {
    from: Upstreams,
    stamp: Option<Stamp>,
    list: Vec<Upstream>,
    /// why the file cannot be read; the list is that of before
    unreadable: Option<String>,
    /// wakes the watch
    wake: Sender<()>,
    woken: Receiver<()>,
}

/// Whether the list is another one than before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    Yes,
    No,
}

impl Pool {
    pub fn new(from: Upstreams) -> Pool {
        let (wake, woken) = smol::channel::bounded(1);
        let mut pool = Pool { from, stamp: None, list: Vec::new(), unreadable: None, wake, woken };
        pool.refresh();
        pool
    }

    pub fn replace(&mut self, from: Upstreams) {
        self.from = from;
        self.stamp = None;
        self.unreadable = None;
        self.refresh();
    }

    /// Looks whether the file has changed; costs one system call.
    pub fn refresh(&mut self) -> Changed {
        let path = match &self.from {
            Upstreams::System => PathBuf::from(SYSTEM_FILE),
            Upstreams::File(path) => path.clone(),
            Upstreams::Listed(addresses) => {
                let addresses = addresses.clone();
                return self.take(addresses);
            }
        };
        let stamp = fs::metadata(&path).and_then(|about| Ok((about.modified()?, about.len(), about.ino()))).ok();
        if stamp.is_some() && stamp == self.stamp {
            return Changed::No;
        }
        self.stamp = stamp;
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            // A program replaced the file, and the sandbox knows the former one only: better the former list than none.
            Err(error) => {
                self.unreadable = Some(format!("{} has changed and cannot be read ({error})", path.display()));
                return Changed::No;
            }
        };
        self.unreadable = None;
        let servers = resolv_conf::nameservers(&String::from_utf8_lossy(&text));
        self.take(servers.iter().filter_map(socket_address).map(UpstreamAddress::Plain).collect())
    }

    /// What is known about those that stay, stays.
    fn take(&mut self, mut addresses: Vec<UpstreamAddress>) -> Changed {
        let mut seen = HashSet::new();
        addresses.retain(|address| seen.insert(address.clone()));
        if self.list.iter().map(|upstream| &upstream.address).eq(&addresses) {
            return Changed::No;
        }
        let before = std::mem::take(&mut self.list);
        for address in addresses {
            let known = before.iter().find(|upstream| upstream.address == address).cloned();
            self.list.push(known.unwrap_or_else(|| Upstream::new(address, self.wake.clone())));
        }
        self.wake();
        Changed::Yes
    }

    /// Lets the watch look what there is to do.
    pub fn wake(&self) {
        // Full: it is woken already.
        let _ = self.wake.try_send(());
    }

    pub fn woken(&self) -> Receiver<()> {
        self.woken.clone()
    }

    /// Who is to be probed. Who rests would not answer.
    pub fn due(&self, now: Instant) -> Vec<UpstreamAddress> {
        let due = self.list.iter().filter(|upstream| upstream.schedule.is_due(now) && !upstream.is_resting(now));
        due.map(|upstream| upstream.address.clone()).collect()
    }

    pub fn forget_fitness(&mut self) {
        for upstream in &mut self.list {
            (upstream.fitness, upstream.schedule) = (Fitness::Unknown, Schedule::default());
        }
    }

    pub fn close_idle(&self) -> Left {
        let left = self.list.iter().map(|upstream| upstream.line.close_if_idle());
        left.fold(Left::Closed, |all, one| if one == Left::Open { one } else { all })
    }

    /// In the order to ask.
    pub fn status(&self, now: Instant) -> Vec<UpstreamStatus> {
        let one = |upstream: &&Upstream| UpstreamStatus {
            address: upstream.address.clone(),
            fitness: upstream.fitness.clone(),
            complaint: upstream.is_dead().then(|| upstream.complaint.clone()),
            advice: matches!(upstream.fitness, Fitness::Unfit(_)).then_some(ADVICE),
        };
        self.sorted(now).iter().map(one).collect()
    }

    /// Everybody, in the order to ask: those that answer, fit before unknown before unfit ones, fastest first, then those
    /// that do not.
    pub fn order(&self, now: Instant) -> Vec<UpstreamAddress> {
        self.sorted(now).into_iter().map(|upstream| upstream.address.clone()).collect()
    }

    fn sorted(&self, now: Instant) -> Vec<&Upstream> {
        let rank = |fitness: &Fitness| match fitness {
            Fitness::Fit => 0,
            Fitness::Unknown => 1,
            Fitness::Unfit(_) => 2,
        };
        let mut list: Vec<&Upstream> = self.list.iter().collect();
        list.sort_by_key(|upstream| (upstream.is_resting(now), rank(&upstream.fitness), upstream.round_trip));
        list
    }

    /// `None`: the list has changed meanwhile.
    pub fn get(&mut self, address: &UpstreamAddress) -> Option<&mut Upstream> {
        self.list.iter_mut().find(|upstream| upstream.address == *address)
    }

    /// Whether nobody else than this machine can have made an answer.
    pub fn is_all_loopback(&self) -> bool {
        self.list.iter().all(|upstream| upstream.address.is_loopback())
    }

    pub fn was_useful_lately(&self, now: Instant) -> bool {
        self.list.iter().any(|upstream| upstream.last_useful.is_some_and(|at| now < at + LATELY))
    }

    /// Who is unfit, why, and what to do.
    pub fn unfit_words(&self) -> Option<String> {
        let told = |upstream: &Upstream| match &upstream.fitness {
            Fitness::Unfit(complaints) => {
                Some(format!("the DNS resolver {} is unfit for DNSSEC: it {}", upstream.address, complaints.join(", it ")))
            }
            Fitness::Fit | Fitness::Unknown => None,
        };
        let all: Vec<String> = self.list.iter().filter_map(told).collect();
        (!all.is_empty()).then(|| format!("{}. Names cannot be proved through it: {ADVICE}", all.join("; ")))
    }

    /// As `unfit_words`, if nobody who answers is fit, or may be.
    pub fn none_is_fit(&self) -> Option<String> {
        let mut alive = self.list.iter().filter(|upstream| !upstream.is_dead());
        if alive.all(Upstream::is_unfit) { self.unfit_words() } else { None }
    }

    /// What a person should know, if nobody can be asked, or nobody who is fit.
    pub fn problem(&self) -> Option<String> {
        if let (true, Some(why)) = (self.list.is_empty(), &self.unreadable) {
            return Some(format!("no DNS resolver is known: {why}; restart the server"));
        }
        if self.list.is_empty() {
            return Some(match &self.from {
                Upstreams::Listed(_) => "no DNS resolver is configured (dns.upstream is empty)".to_owned(),
                Upstreams::System => {
                    format!("no DNS resolver is known: {SYSTEM_FILE} has no usable nameserver line, and dns.upstream is not set")
                }
                Upstreams::File(path) => format!("no DNS resolver is known: {} has no usable nameserver line", path.display()),
            });
        }
        if self.list.iter().any(|upstream| !upstream.is_dead()) {
            let unfit = self.none_is_fit();
            let told = |why| format!("{why}: the DNS resolvers of before are asked; restart the server to take the new ones");
            return unfit.or_else(|| self.unreadable.as_ref().map(told));
        }
        let complaints: Vec<String> = self.list.iter().map(|upstream| format!("{} {}", upstream.address, upstream.complaint)).collect();
        Some(format!("no DNS resolver answers: {}", complaints.join("; ")))
    }
}

fn socket_address(server: &Nameserver) -> Option<SocketAddr> {
    match (server.address, &server.scope) {
        (IpAddr::V6(address), Some(scope)) => {
            let index = scope.parse().ok().or_else(|| interface_index(scope))?;
            Some(SocketAddrV6::new(address, DNS_PORT, 0, index).into())
        }
        (address, _) => Some(SocketAddr::new(address, DNS_PORT)),
    }
}

fn interface_index(name: &str) -> Option<u32> {
    let socket = std::net::UdpSocket::bind((std::net::Ipv6Addr::UNSPECIFIED, 0)).ok()?;
    rustix::net::netdevice::name_to_index(&socket, name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u8) -> UpstreamAddress {
        SocketAddr::from(([192, 0, 2, n], DNS_PORT)).into()
    }

    #[test]
    fn the_fast_come_first_and_the_dead_last_until_their_rest_is_over() {
        let now = Instant::now();
        let mut pool = Pool::new(Upstreams::Listed(vec![address(1), address(2), address(2)]));
        assert_eq!(pool.order(now), [address(1), address(2)]);
        pool.get(&address(2)).unwrap().note_answer(Duration::from_millis(5));
        assert_eq!(pool.order(now), [address(2), address(1)]);
        for _ in 0..2 {
            pool.get(&address(2)).unwrap().note_failure("is silent".into(), now);
        }
        assert_eq!(pool.order(now), [address(1), address(2)]);
        assert_eq!(pool.problem(), None);
        for _ in 0..50 {
            pool.get(&address(1)).unwrap().note_failure("refuses".into(), now);
        }
        assert_eq!(pool.problem().unwrap(), "no DNS resolver answers: 192.0.2.1 refuses; 192.0.2.2 is silent");
        assert!(!pool.list[0].is_resting(now + MAX_REST));
        assert_eq!(pool.list[0].patience(), PATIENCE.1);
        pool.get(&address(1)).unwrap().note_answer(Duration::ZERO);
        assert!(pool.problem().is_some(), "an answer that refuses helps nobody");
        pool.get(&address(1)).unwrap().note_alive();
        assert_eq!(pool.problem(), None);
    }

    #[test]
    fn the_fit_come_before_the_unknown_and_the_unfit_before_the_dead() {
        let now = Instant::now();
        let mut pool = Pool::new(Upstreams::Listed((1..=4).map(address).collect()));
        let unfit = Fitness::Unfit(vec!["gives no signatures".into()]);
        pool.get(&address(1)).unwrap().note_failure("is silent".into(), now);
        pool.get(&address(1)).unwrap().note_failure("is silent".into(), now);
        pool.get(&address(2)).unwrap().fitness = unfit.clone();
        pool.get(&address(4)).unwrap().fitness = Fitness::Fit;
        pool.get(&address(3)).unwrap().note_answer(Duration::ZERO);
        assert_eq!(pool.order(now), [4, 3, 2, 1].map(address));
        assert_eq!(pool.problem(), None);
        assert!(pool.unfit_words().unwrap().starts_with("the DNS resolver 192.0.2.2 is unfit for DNSSEC: it gives no signatures. "));
        // Of those that answer none is fit.
        pool.get(&address(3)).unwrap().fitness = unfit.clone();
        pool.get(&address(4)).unwrap().fitness = unfit;
        assert!(pool.problem().unwrap().contains("tls://9.9.9.9#dns.quad9.net"));
        pool.forget_fitness();
        assert_eq!((pool.problem(), pool.unfit_words()), (None, None));
    }

    #[test]
    fn tcp_takes_over_where_udp_brings_nothing() {
        let now = Instant::now();
        let mut upstream = Pool::new(Upstreams::Listed(vec![address(1)])).list.remove(0);
        let (root, kind) = (Name::root(), RecordType::NS);
        let quick = Some(Duration::from_millis(20));
        // What TCP did for one question that UDP had lost. Others, and the same the next time, are asked by UDP.
        for took in [quick, Some(Duration::from_secs(2)), quick, None] {
            upstream.note_udp_silence(&root, kind);
            assert!(!upstream.wants_tcp(&root, RecordType::SOA, now) && upstream.wants_tcp(&root, kind, now));
            upstream.note_tcp_instead(took, now);
            assert!(!upstream.wants_tcp(&root, kind, now), "{took:?}");
        }
        for _ in 0..LOST_FOR_TCP {
            upstream.note_tcp_instead(quick, now);
        }
        assert!(upstream.wants_tcp(&root, kind, now) && !upstream.wants_tcp(&root, kind, now + PLAIN_FOR));
        (0..100).for_each(|_| upstream.note_udp_silence(&root, kind));
        assert_eq!(upstream.unheard.len(), MAX_UNHEARD);
    }

    #[test]
    fn the_file_is_read_again_when_it_has_changed() {
        let path = std::env::temp_dir().join(format!("pipit-resolv-{}", std::process::id()));
        let _ = fs::remove_file(&path);
        let mut pool = Pool::new(Upstreams::File(path.clone()));
        assert!(pool.problem().unwrap().contains("no usable nameserver line"));
        fs::write(&path, "nameserver 192.0.2.1\n").unwrap();
        assert_eq!((pool.refresh(), pool.refresh()), (Changed::Yes, Changed::No));
        pool.get(&address(1)).unwrap().letters = Letters::Small;
        fs::write(&path, "nameserver 192.0.2.2\nnameserver 192.0.2.1\n").unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_modified(SystemTime::now() + Duration::from_secs(9)).unwrap();
        assert_eq!(pool.refresh(), Changed::Yes);
        assert_eq!(pool.get(&address(1)).unwrap().letters, Letters::Small);
        assert_eq!(pool.get(&address(2)).unwrap().letters, Letters::Random);
        // Replaced by something that cannot be read, as a new file in place of the one that the sandbox allows.
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert_eq!((pool.refresh(), pool.list.len()), (Changed::No, 2));
        assert!(pool.problem().unwrap().contains("restart the server"));
        fs::remove_dir(&path).unwrap();
        assert_eq!(pool.refresh(), Changed::Yes);
    }
}
