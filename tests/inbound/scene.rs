//! A service on a store of its own, and a client that speaks SMTP to it line by line.

use std::net::IpAddr;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pipit::admin::logins::Logins;
use pipit::admin::passwords;
use pipit::admin::settings;
use pipit::config::check::check;
use pipit::config::live::Live;
use pipit::inbound::Door;
use pipit::inbound::Port;
use pipit::inbound::Service;
use pipit::inbound::serve::serve;
use pipit::mail::address::Address;
use pipit::metrics::Metrics;
use pipit::net;
use pipit::net::breathe::StallMeter;
use pipit::net::budget::Budget;
use pipit::net::clock::Clock;
use pipit::net::clock::Hand;
use pipit::net::clock::RELEASED;
use pipit::net::deadline::sleep;
use pipit::net::deadline::within;
use pipit::net::lines::LineRead;
use pipit::net::lines::LineStream;
use pipit::net::offload::Offload;
use pipit::net::slots::Slots;
use pipit::net::stream::Stream;
use pipit::net::tasks::Tasks;
use pipit::store::AccountId;
use pipit::store::MailboxId;
use pipit::store::MessageId;
use pipit::store::NewAccount;
use pipit::store::Options;
use pipit::store::Store;
use pipit::store::Uid;
use pipit::store::accounts;
use pipit::store::check;
use pipit::store::mailboxes;
use pipit::store::messages;
use pipit::store::messages::Message;
use smol::LocalExecutor;

static NUMBER: AtomicU32 = AtomicU32::new(0);
/// Of `PASSWORD`; made once, since it takes a while in a debug build.
static HASH: OnceLock<String> = OnceLock::new();

/// Longest wait for a reply, on the real clock.
const PATIENCE: Duration = Duration::from_secs(20);
/// Messages of a mailbox that are looked at.
const MANY: usize = 10_000;
/// Of ann@home.test.
pub const PASSWORD: &str = "localserve";
pub const PEER: &str = "192.0.2.7";

/// ann@home.test (and info@, her alias, and bob@, who cannot log in), a service for them, and the hand of its clock.
pub struct Scene {
    pub service: Rc<Service>,
    pub tasks: Tasks,
    pub hand: Hand,
    pub account: AccountId,
    pub inbox: MailboxId,
    /// dropping it lets the service drain
    _drain: smol::channel::Sender<()>,
}

/// Plays `story` on a fresh scene; afterwards the store must be whole.
pub fn play<F: Future<Output = Scene>>(limits: &str, story: impl FnOnce(Scene) -> F) {
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let dir = std::env::temp_dir().join(format!("pipit-inbound-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let executor = Rc::new(LocalExecutor::new());
    net::run(&executor.clone(), async {
        let scene = story(Scene::new(&dir, limits, executor).await).await;
        scene.until("all sessions have ended", || scene.service.slots.load().open == 0).await;
        assert_eq!(scene.service.store.read(check::everything).unwrap(), []);
        assert_eq!(scene.service.budget.used(), 0, "all memory is given back");
    });
    std::fs::remove_dir_all(&dir).unwrap();
}

async fn make_account(store: &Store, address: &str, password: String) -> AccountId {
    let new = NewAccount { address: Address::parse(address).unwrap(), password, created: RELEASED };
    store.write(|w| accounts::create(w, new)).await.unwrap().unwrap()
}

impl Scene {
    async fn new(dir: &Path, limits: &str, executor: Rc<LocalExecutor<'static>>) -> Scene {
        let text = format!(
            "hostname = \"mx.home.test\"\ndir = \"{}\"\n[listen]\nsmtp = [\"127.0.0.1:2525\"]\n[limits]\n{limits}\n[[domain]]\nname = \"home.test\"\n\
             [[alias]]\naddress = \"info@home.test\"\nto = [\"ann@home.test\"]\n",
            dir.display()
        );
        let settings = check(&text).unwrap();
        let store = Store::open(dir, Options { map_size: Some(64 << 20) }).unwrap();
        let account = make_account(&store, "ann@home.test", HASH.get_or_init(|| passwords::hash(PASSWORD).unwrap()).clone()).await;
        make_account(&store, "bob@home.test", String::new()).await;
        let inbox = store.read(|r| mailboxes::inbox(r, account)).unwrap().unwrap();
        let (clock, hand) = Clock::settable(RELEASED);
        let metrics = Rc::new(Metrics::default());
        let (drain, draining) = smol::channel::bounded(1);
        let (slots, budget) = (Slots::new(settings::limits(&settings)), Budget::new(settings.limits.memory_budget));
        let live = Rc::new(Live::new(settings));
        let logins = Logins::new(&store, &live, &Offload::start().unwrap(), &clock, &metrics).unwrap();
        let service =
            Rc::new(Service { store, slots, budget, live, metrics: Rc::clone(&metrics), clock, logins: Rc::new(logins), draining });
        let tasks = Tasks::new(executor, StallMeter::new(), metrics);
        Scene { service, tasks, hand, account, inbox, _drain: drain }
    }

    /// A session as the listener begins it.
    pub async fn client(&self) -> Client {
        let (near, far) = Stream::memory_pair();
        let peer: IpAddr = PEER.parse().unwrap();
        let slot = self.service.slots.take(peer, self.service.clock.instant()).unwrap();
        let door = Door { port: Port::Exchange, tls: None };
        self.tasks.spawn("smtp session", serve(Rc::clone(&self.service), door, far, SocketAddr::new(peer, 40_000), slot));
        Client::greeted(near).await
    }

    /// A session at another kind of listener; nothing was read or said yet.
    pub fn at_door(&self, door: Door, peer: &str) -> Stream {
        let (near, far) = Stream::memory_pair();
        let peer: IpAddr = peer.parse().unwrap();
        let slot = self.service.slots.take(peer, self.service.clock.instant()).unwrap();
        self.tasks.spawn("smtp session", serve(Rc::clone(&self.service), door, far, SocketAddr::new(peer, 40_000), slot));
        near
    }

    /// Lets the sessions go on until it holds.
    pub async fn until(&self, what: &str, holds: impl Fn() -> bool) {
        for _ in 0..5000 {
            if holds() {
                return;
            }
            sleep(Duration::from_millis(1)).await;
        }
        panic!("never happened: {what}");
    }

    /// What stands in the INBOX, in the order of uids.
    pub fn stored(&self) -> Vec<(MessageId, Message)> {
        self.service.store.read(|r| messages::list(r, self.account, self.inbox, Uid(0), MANY)).unwrap()
    }
}

/// The other end of a session.
pub struct Client(LineStream);

impl Client {
    /// Hears the greeting and says EHLO.
    pub async fn greeted(stream: Stream) -> Client {
        let mut client = Client(LineStream::new(stream));
        client.expect("220 ").await;
        client.say("EHLO client.test", "250 ").await;
        client
    }

    /// The bare connection, for what comes behind STARTTLS.
    pub fn into_stream(self) -> Stream {
        self.0.into_stream().ok().unwrap()
    }

    pub async fn write(&mut self, bytes: &[u8]) {
        within(PATIENCE, async {
            self.0.write(bytes).await.unwrap();
            self.0.flush().await.unwrap();
        })
        .await
        .unwrap();
    }

    /// The next line; `None` where the server has closed.
    pub async fn line(&mut self) -> Option<String> {
        match within(PATIENCE, self.0.next_line(4096)).await.unwrap() {
            Ok(LineRead::Line(line)) => Some(String::from_utf8(line.to_vec()).unwrap()),
            _ => None,
        }
    }

    /// The last line of the next reply.
    pub async fn expect(&mut self, begin: &str) -> String {
        loop {
            let line = self.line().await.unwrap_or_else(|| panic!("closed instead of {begin}"));
            if line.as_bytes().get(3) != Some(&b'-') {
                assert!(line.starts_with(begin), "{begin} expected: {line}");
                return line;
            }
        }
    }

    pub async fn say(&mut self, line: &str, begin: &str) -> String {
        self.write(format!("{line}\r\n").as_bytes()).await;
        self.expect(begin).await
    }

    /// MAIL, RCPT and DATA.
    pub async fn begin(&mut self) {
        self.say("MAIL FROM:<bob@peer.test>", "250 ").await;
        self.say("RCPT TO:<ann@home.test>", "250 ").await;
        self.say("DATA", "354 ").await;
    }

    /// One whole message with these further header lines.
    pub async fn deliver(&mut self, subject: &str, more: &str) {
        self.begin().await;
        self.say(&format!("From: <bob@peer.test>\r\nSubject: {subject}\r\n{more}\r\nbody\r\n."), "250 2.0.0").await;
    }
}
