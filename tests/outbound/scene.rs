//! ann@home.test with a store of her own, the sending service, a DNS that is a table, and the hand of its clock.

use std::cell::RefCell;
use std::future::Future;
use std::net::IpAddr;
use std::net::TcpListener;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pipit::config::check::check;
use pipit::config::live::Live;
use pipit::intake::trace::new_trace_id;
use pipit::mail::address::Address;
use pipit::mail::date::UnixTime;
use pipit::mail::digest::Digest;
use pipit::mail::envelope::Body;
use pipit::mail::envelope::RequireTls;
use pipit::mail::header;
use pipit::mail::notify::Notify;
use pipit::mail::notify::Ret;
use pipit::mail::path::ReversePath;
use pipit::metrics::Metrics;
use pipit::net;
use pipit::net::breathe::StallMeter;
use pipit::net::clock::Clock;
use pipit::net::clock::Hand;
use pipit::net::clock::RELEASED;
use pipit::net::deadline::sleep;
use pipit::net::tasks::Tasks;
use pipit::outbound;
use pipit::outbound::Outbound;
use pipit::proto::dns::lookup::Answer;
use pipit::proto::dns::lookup::Lookup;
use pipit::proto::dns::lookup::Record;
use pipit::proto::dns::name::Name;
use pipit::proto::dns::table::Table;
use pipit::store::AccountId;
use pipit::store::BlobId;
use pipit::store::NewAccount;
use pipit::store::Options;
use pipit::store::QueueId;
use pipit::store::Spool;
use pipit::store::Store;
use pipit::store::Topic;
use pipit::store::Uid;
use pipit::store::accounts;
use pipit::store::blobs;
use pipit::store::check as store_check;
use pipit::store::mailboxes;
use pipit::store::messages;
use pipit::store::messages::Reception;
use pipit::store::queue;
use pipit::store::queue::NewQueued;
use pipit::store::queue::NewRecipient;
use pipit::store::queue::Origin;
use pipit::store::queue::QueuedRecipient;
use ring::rand::SystemRandom;
use smol::LocalExecutor;

use crate::peer::Peer;

static NUMBER: AtomicU32 = AtomicU32::new(0);
/// Messages of the INBOX that are looked at.
const MANY: usize = 200;
/// A clock well behind the release, so that times before it are believable.
pub const BEGIN: UnixTime = RELEASED;

/// The DNS of a scene: may be changed while it runs, and has a hole that the program falls into.
#[derive(Clone, Default)]
pub struct Zone(Rc<RefCell<String>>);

impl Zone {
    pub fn set(&self, lines: &str) {
        *self.0.borrow_mut() = lines.to_owned();
    }

    pub fn add(&self, lines: &str) {
        self.0.borrow_mut().push_str(&format!("{lines}\n"));
    }
}

impl Lookup for Zone {
    async fn lookup<R: Record>(&self, name: &Name) -> Answer<R> {
        assert!(!name.to_string().starts_with("panic."), "a fault of the program");
        let table = Table::parse(&self.0.borrow()).unwrap();
        table.lookup(name).await
    }

    fn doubt(&self) -> Option<String> {
        Table::parse(&self.0.borrow()).unwrap().doubt()
    }
}

pub struct Scene {
    pub service: Rc<Outbound<Zone>>,
    pub zone: Zone,
    pub tasks: Tasks,
    pub hand: Hand,
    pub account: AccountId,
    pub port: u16,
    /// taken to begin the drain
    pub drain: Drain,
    /// keeps the port until a peer takes it
    first: RefCell<Option<TcpListener>>,
    numbers: AtomicU32,
}

/// What is sent.
pub struct Letter {
    pub from: &'static str,
    pub to: Vec<(String, Notify, Option<String>)>,
    pub text: String,
    pub wish: RequireTls,
    pub ret: Ret,
    pub smtp_utf8: bool,
    /// declared so, whatever the text is
    pub eight_bit: bool,
}

impl Letter {
    pub fn to(to: &[&str]) -> Letter {
        Letter {
            from: "<ann@home.test>",
            to: to.iter().map(|to| ((*to).to_owned(), Notify::Unset, None)).collect(),
            text: "From: <ann@home.test>\r\nSubject: hello\r\nMessage-ID: <1@home.test>\r\n\r\n.dot\r\nbody\r\n".to_owned(),
            wish: RequireTls::Default,
            ret: Ret::Unset,
            smtp_utf8: false,
            eight_bit: false,
        }
    }
}

/// Plays `story` on a fresh scene; afterwards the store must be whole, also behind the drain.
pub fn play<F: Future<Output = Scene>>(settings: &str, story: impl FnOnce(Scene) -> F) {
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let dir = std::env::temp_dir().join(format!("pipit-outbound-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let executor = Rc::new(LocalExecutor::new());
    net::run(&executor.clone(), async {
        let scene = story(Scene::new(&dir, settings, executor).await).await;
        drop(scene.drain.take());
        scene.until("all visits have ended", || scene.service.busy.count() == 0).await;
        assert_eq!(scene.service.store.read(store_check::everything).unwrap(), []);
    });
    std::fs::remove_dir_all(&dir).unwrap();
}

fn open(dir: &Path) -> Store {
    Store::open(dir, Options { map_size: Some(64 << 20) }).unwrap()
}

type Drain = RefCell<Option<smol::channel::Sender<()>>>;

/// Starts the service; gives the end of the channel whose drop begins the drain.
fn serve(store: Store, make: impl FnOnce(Store, smol::channel::Receiver<()>) -> Outbound<Zone>) -> (Rc<Outbound<Zone>>, Drain) {
    let (drain, draining) = smol::channel::bounded(1);
    let service = Rc::new(make(store, draining));
    let running = Rc::clone(&service);
    service.tasks.spawn_service("outbound", move || outbound::run(Rc::clone(&running)));
    (service, RefCell::new(Some(drain)))
}

impl Scene {
    async fn new(dir: &Path, settings: &str, executor: Rc<LocalExecutor<'static>>) -> Scene {
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = first.local_addr().unwrap().port();
        let text = format!(
            "hostname = \"mx.home.test\"\ndir = \"{}\"\n[outbound]\nport = {port}\nprivate-addresses = true\n{settings}\n[[domain]]\nname = \"home.test\"\n",
            dir.display()
        );
        let settings = check(&text).unwrap();
        let store = open(dir);
        let new = NewAccount { address: Address::parse("ann@home.test").unwrap(), password: String::new(), created: RELEASED };
        let account = store.write(|w| accounts::create(w, new)).await.unwrap().unwrap();
        let (clock, hand) = Clock::settable(BEGIN);
        let metrics = Rc::new(Metrics::default());
        let tasks = Tasks::new(executor, StallMeter::new(), Rc::clone(&metrics));
        let zone = Zone::default();
        let (live, resolver) = (Rc::new(Live::new(settings)), zone.clone());
        let (service, drain) = serve(store, move |store, draining| Outbound {
            store,
            live,
            metrics,
            clock,
            resolver,
            tasks,
            own_addresses: vec!["127.9.9.9".parse().unwrap()],
            draining,
            busy: Rc::default(),
        });
        let (tasks, first) = (service.tasks.clone(), RefCell::new(Some(first)));
        Scene { service, zone, tasks, hand, account, port, drain, first, numbers: AtomicU32::new(1) }
    }

    /// Stops the server and starts it anew in its directory: it knows what it stored, and the clock that goes on.
    pub async fn restart(self) -> Scene {
        drop(self.drain.take());
        self.until("the service has ended", || Rc::strong_count(&self.service) == 1).await;
        let Scene { service, zone, tasks, hand, account, port, first, numbers, .. } = self;
        let Ok(Outbound { store, live, metrics, clock, resolver, tasks: own, own_addresses, .. }) = Rc::try_unwrap(service) else {
            panic!("somebody holds the service");
        };
        let dir = store.dir().to_owned();
        store.close().await;
        let (service, drain) = serve(open(&dir), move |store, draining| Outbound {
            store,
            live,
            metrics,
            clock,
            resolver,
            tasks: own,
            own_addresses,
            draining,
            busy: Rc::default(),
        });
        Scene { service, zone, tasks, hand, account, port, drain, first, numbers }
    }

    /// Overwrites every occurrence of a text in the store's files, as a broken disk would.
    pub fn damage(&self, text: &str) {
        self.overwrite(text.as_bytes(), &vec![0xff; text.len()]);
    }

    pub fn overwrite(&self, old: &[u8], new: &[u8]) {
        let mut hits = 0;
        for entry in std::fs::read_dir(self.service.store.dir()).unwrap() {
            let path = entry.unwrap().path();
            let Ok(bytes) = std::fs::read(&path) else { continue };
            let places = bytes.windows(old.len()).enumerate().filter(|(_, window)| *window == old);
            for (at, _) in places {
                let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
                file.write_all_at(new, at as u64).unwrap();
                hits += 1;
            }
        }
        assert!(hits > 0, "{old:?} is nowhere");
    }

    /// A peer at 127.0.0.`last`.
    pub fn peer(&self, last: u8) -> Peer {
        match (last, self.first.take()) {
            (1, Some(listener)) => Peer::serve(&self.tasks, listener),
            (_, kept) => {
                *self.first.borrow_mut() = kept;
                Peer::listen(&self.tasks, IpAddr::from([127, 0, 0, last]), self.port)
            }
        }
    }

    /// A domain with one host, and that host.
    pub fn domain(&self, name: &str, last: u8) -> Peer {
        self.zone.add(&format!("{name}. MX 10 mx.{name}.\nmx.{name}. A 127.0.0.{last}"));
        self.peer(last)
    }

    /// Queues a letter as a submission does.
    pub async fn send(&self, letter: Letter) -> QueueId {
        let now = self.service.clock.now();
        let mut spool = Spool::new(&self.service.store, 1 << 20);
        spool.push(letter.text.as_bytes()).await.unwrap();
        let spooled = spool.finish(b"Received: by mx.home.test\r\n".to_vec()).unwrap();
        let mut digest = Digest::default();
        header::fields(letter.text.as_bytes()).for_each(|field| digest.note(field.name(), field.value()));
        // Ids sort by the real second; a number keeps those of one test apart.
        let _ = self.numbers.fetch_add(1, Ordering::Relaxed);
        let id = QueueId::parse(&new_trace_id(RELEASED, &SystemRandom::new()).unwrap()).unwrap();
        let recipients = letter.to.into_iter().map(|(address, notify, orcpt)| NewRecipient {
            address: Address::parse(&address).unwrap(),
            notify,
            orcpt,
        });
        let recipients: Vec<NewRecipient> = recipients.collect();
        let new = move |blob: BlobId, sender: AccountId| NewQueued {
            id,
            blob,
            reverse_path: ReversePath::parse(letter.from).unwrap(),
            sender: Some(sender),
            origin: Origin::Submitted,
            body: if letter.text.is_ascii() && !letter.eight_bit { Body::SevenBit } else { Body::EightBit },
            smtp_utf8: letter.smtp_utf8,
            ret: letter.ret,
            envid: Some("QQ314159".to_owned()),
            arrived: now,
            digest,
            reception: Reception::default(),
            wish: letter.wish,
            recipients,
        };
        let account = self.account;
        let change = move |w: &mut pipit::store::Writer<'_>| {
            let blob = blobs::adopt(w, spooled, 1)?;
            queue::enqueue(w, new(blob, account))
        };
        self.service.store.write(change).await.unwrap();
        id
    }

    /// Waits until everything that is due was tried.
    pub async fn quiet(&self) {
        let due = || {
            let now = self.service.clock.now();
            self.service.store.read(|r| queue::due_destinations(r, now, None, 1)).unwrap().len()
        };
        self.until("everything due was tried", || self.service.busy.count() == 0 && due() == 0).await;
    }

    /// Lets the scheduler see the clock.
    pub async fn wake(&self) {
        let ring = |w: &mut pipit::store::Writer<'_>| {
            w.raise(Topic::Queue);
            Ok(())
        };
        self.service.store.write(ring).await.unwrap();
    }

    /// Goes to the next due, and waits until it was tried. `None`: nothing is due any more.
    pub async fn to_next_due(&self) -> Option<UnixTime> {
        let due = self.service.store.read(queue::next_due).unwrap()?;
        let now = self.service.clock.now();
        self.hand.advance(Duration::from_secs(u64::try_from(due.0 - now.0).unwrap_or(0)));
        self.wake().await;
        self.quiet().await;
        Some(due)
    }

    /// Lets the tasks go on until it holds.
    pub async fn until(&self, what: &str, holds: impl Fn() -> bool) {
        for _ in 0..10_000 {
            if holds() {
                return;
            }
            sleep(Duration::from_millis(1)).await;
        }
        let rows = self.service.store.read(|r| queue::recipients_after(r, None, 20)).unwrap();
        panic!("never happened: {what}; {} visits, now {:?}, {rows:?}", self.service.busy.count(), self.service.clock.now());
    }

    /// What is left of a message in the queue.
    pub fn recipients(&self, id: QueueId) -> Vec<QueuedRecipient> {
        let rows = self.service.store.read(|r| queue::recipients(r, id)).unwrap();
        rows.into_iter().map(|(_, recipient)| recipient).collect()
    }

    /// The blobs there are among these numbers.
    pub fn blobs(&self, numbers: std::ops::Range<u64>) -> Vec<BlobId> {
        let is_there = |blob: &BlobId| self.service.store.read(|r| blobs::length(r, *blob)).unwrap().is_some();
        numbers.map(BlobId).filter(is_there).collect()
    }

    /// The texts in ann's INBOX, oldest first.
    pub fn inbox(&self) -> Vec<String> {
        let read = self.service.store.read(|r| {
            let inbox = mailboxes::inbox(r, self.account)?.unwrap();
            let rows = messages::list(r, self.account, inbox, Uid(0), MANY)?;
            rows.into_iter().map(|(_, row)| self.text(r, row.blob)).collect()
        });
        read.unwrap()
    }

    fn text(&self, r: &pipit::store::Reader<'_>, blob: BlobId) -> Result<String, pipit::store::Error> {
        let mut bytes = Vec::new();
        for number in 0.. {
            match blobs::chunk(r, blob, number)? {
                Some(chunk) => bytes.extend_from_slice(&chunk),
                None => break,
            }
        }
        Ok(String::from_utf8(bytes).unwrap())
    }
}
