//! One directory at work: its store, listeners, control sockets, resolver, and the way out, on the event loop of the process.
//!
//! In goes what `prepare` has read and bound; out comes a `Running`, which the end of the process drains and closes. Services
//! know nothing of each other: they share the store, the live settings and the metrics.

use std::cell::RefCell;
use std::net::IpAddr;
use std::path::Path;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use log::info;
use smol::LocalExecutor;
use smol::channel::Receiver;
use smol::channel::Sender;

use crate::admin;
use crate::admin::Failure;
use crate::admin::Instance;
use crate::admin::Serving;
use crate::admin::logins::Logins;
use crate::admin::wire::SEND_SOCKET;
use crate::admin::wire::SOCKET;
use crate::admin::wire::dns::UNFIT;
use crate::admin::wire::dns::UpstreamRow;
use crate::app::anchors;
use crate::app::anchors::Keeper;
use crate::app::certificates;
use crate::app::prepare::Part;
use crate::app::prepare::Problems;
use crate::app::prepare::Sockets;
use crate::app::upkeep;
use crate::cli::ask::not_opened;
use crate::config::live::Live;
use crate::config::settings::Settings;
use crate::control;
use crate::control::Gate;
use crate::host::addresses;
use crate::host::users::Users;
use crate::inbound;
use crate::inbound::Door;
use crate::inbound::Port;
use crate::inbound::Service;
use crate::metrics::Metrics;
use crate::net::breathe::StallMeter;
use crate::net::budget::Budget;
use crate::net::clock::Clock;
use crate::net::clock::RELEASED;
use crate::net::deadline::Deadline;
use crate::net::deadline::sleep;
use crate::net::listen::Listener;
use crate::net::local;
use crate::net::local::LocalListener;
use crate::net::offload::Offload;
use crate::net::resolver::Fitness;
use crate::net::resolver::Resolver;
use crate::net::resolver::UpstreamStatus;
use crate::net::resolver::Upstreams;
use crate::net::slots::Slots;
use crate::net::tasks::Tasks;
use crate::net::tls::Certificates;
use crate::net::tls::Tickets;
use crate::outbound;
use crate::outbound::Busy;
use crate::outbound::Outbound;
use crate::store::OpenError;
use crate::store::Options;
use crate::store::Store;
use crate::store::meta;

/// A command without a server takes moments; what holds the lock for longer is another server.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);
const LOCK_STEP: Duration = Duration::from_millis(100);

/// What the instances of a process share.
pub struct Common {
    pub executor: Rc<LocalExecutor<'static>>,
    pub meter: StallMeter,
    /// a message ends the process
    pub stop: Sender<()>,
    /// closed when the process ends
    pub draining: Receiver<()>,
    pub users: Rc<Users>,
}

/// A started instance.
pub struct Running {
    pub instance: Rc<Instance>,
    pub tasks: Tasks,
    slots: Slots,
    outbound: Rc<Outbound<Resolver>>,
    /// removed at the end
    sockets: Vec<PathBuf>,
}

impl Running {
    /// Whether somebody is in the middle of something.
    pub fn is_busy(&self) -> bool {
        self.slots.load().open > 0 || self.outbound.busy.count() > 0
    }

    pub fn open_sessions(&self) -> usize {
        self.slots.load().open
    }

    pub fn deliveries(&self) -> usize {
        self.outbound.busy.count()
    }

    /// A socket that stays behind is replaced by the next start.
    pub fn remove_sockets(&self) {
        for path in &self.sockets {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn unstartable(what: &str, error: impl std::fmt::Display) -> Failure {
    Failure::new(format!("{what}: {error}"), "see the log above")
}

/// Opens the store and starts everything on it.
pub async fn start(part: Part, common: &Common) -> Result<Running, Failure> {
    let Part { place, settings, sockets, external, problems, send_sockets } = part;
    let store = open_store(&place.dir).await?;
    let saved = store.read(meta::last_good_time)?.unwrap_or(RELEASED);
    let clock = Clock::host(saved.max(RELEASED));
    let metrics = Rc::new(Metrics::default());
    let tasks = Tasks::new(Rc::clone(&common.executor), common.meter.clone(), Rc::clone(&metrics));
    let live = Rc::new(Live::new(settings));
    let certificates = certificates::load(&store, &live.current(), external, clock.now()).await?;
    let slots = Slots::new(admin::settings::limits(&live.current()));
    let resolver = Resolver::new(upstreams(&live.current()), clock.clone(), Rc::clone(&metrics));
    let keeper = Keeper::begin(&store, resolver.clone(), &live.current(), clock.now());
    let budget = Budget::new(live.current().limits.memory_budget);
    let busy = Rc::new(Busy::default());
    let parts = Shared { clock: &clock, slots: &slots, resolver: &resolver, keeper: &keeper, budget: &budget, busy: &busy };
    let instance = Rc::new(Instance {
        store: store.clone(),
        live: Rc::clone(&live),
        file: place.file,
        metrics: Rc::clone(&metrics),
        clock: clock.clone(),
        offload: Offload::start().map_err(|error| unstartable("the offload thread cannot be started", error))?,
        serving: Some(Serving { listening: sockets.names(), ..serving(common, &parts, problems) }),
    });
    admin::settings::consume_first_users(&instance).await;
    admin::settings::remember(&instance).await;
    let watched = resolver.clone();
    let outbound = Rc::new(Outbound {
        store: store.clone(),
        live: Rc::clone(&live),
        metrics: Rc::clone(&metrics),
        clock: clock.clone(),
        resolver,
        tasks: tasks.clone(),
        own_addresses: own_addresses(&sockets),
        draining: common.draining.clone(),
        busy,
    });
    let logins = Rc::new(Logins::new(&store, &live, &instance.offload, &clock, &metrics)?);
    let service = Service { store, live, metrics, clock, slots: slots.clone(), budget, logins, draining: common.draining.clone() };
    open_doors(&tasks, &Rc::new(service), sockets, &certificates)?;
    let delivering = Rc::clone(&outbound);
    tasks.spawn_service("delivery", move || outbound::run(Rc::clone(&delivering)));
    let sockets = start_control(&tasks, &instance, &common.users, &send_sockets)?;
    upkeep::start(&tasks, &instance, place.stamp);
    tasks.spawn_service("DNS upstream watch", move || watched.clone().watch_upstreams());
    let followed = Rc::clone(&instance);
    tasks.spawn_service("trust anchors", move || anchors::follow(Rc::clone(&followed), Rc::clone(&keeper)));
    Ok(Running { instance, tasks, slots, outbound, sockets })
}

/// What sessions, deliveries and commands have in common.
struct Shared<'a> {
    clock: &'a Clock,
    slots: &'a Slots,
    resolver: &'a Resolver,
    keeper: &'a Rc<Keeper>,
    budget: &'a Budget,
    busy: &'a Rc<Busy>,
}

/// What `status` and commands may know and do of the running server.
fn serving(common: &Common, parts: &Shared<'_>, problems: Problems) -> Serving {
    let (meter, asked, steered) = (common.meter.clone(), parts.resolver.clone(), parts.resolver.clone());
    let busy = Rc::clone(parts.busy);
    let (keeper, shown, clock) = (Rc::clone(parts.keeper), parts.resolver.clone(), parts.clock.clone());
    Serving {
        started: parts.clock.now(),
        budget: parts.budget.clone(),
        listening: Vec::new(),
        slots: parts.slots.clone(),
        problems: RefCell::new(problems),
        stop: common.stop.clone(),
        longest_stall: Box::new(move || meter.longest().map_or(0, |stall| u64::try_from(stall.length.as_micros()).unwrap_or(u64::MAX))),
        resolver_problem: Box::new(move || asked.problem()),
        upstreams: Box::new(move || shown.upstreams().into_iter().map(upstream_row).collect()),
        take_settings: Box::new(move |settings: &Settings| {
            steered.set_upstreams(upstreams(settings));
            keeper.take(settings, clock.now());
            busy.settings_changed(settings.outbound.destinations);
        }),
    }
}

/// Accepts on every listener, each kind with its own TLS: who resumes a session must do so where it began.
fn open_doors(tasks: &Tasks, service: &Rc<Service>, sockets: Sockets, certificates: &Certificates) -> Result<(), Failure> {
    let kinds = [
        ("smtp listener", Port::Exchange, Tickets::None, sockets.smtp),
        ("submission listener", Port::Submission, Tickets::Some, sockets.submission),
        ("submissions listener", Port::Submissions, Tickets::Some, sockets.submissions),
    ];
    for (name, port, tickets, listeners) in kinds {
        let tls = certificates.server_config(tickets);
        let tls = tls.map_err(|error| Failure::new(format!("TLS cannot be set up: {error}"), "report this"))?;
        let door = Door { port, tls: Some(tls) };
        for listener in listeners {
            let listener = Rc::new(Listener::new(listener).map_err(|error| unstartable("cannot listen", error))?);
            let (service, own, door) = (Rc::clone(service), tasks.clone(), door.clone());
            let accept = move || inbound::listen::accept_all(Rc::clone(&service), own.clone(), Rc::clone(&listener), door.clone());
            tasks.spawn_service(name, accept);
        }
    }
    Ok(())
}

fn upstream_row(status: UpstreamStatus) -> UpstreamRow {
    let (fitness, mut complaints) = match status.fitness {
        Fitness::Fit => ("fit", Vec::new()),
        Fitness::Unknown => ("unknown", Vec::new()),
        Fitness::Unfit(complaints) => (UNFIT, complaints),
    };
    let answers = status.complaint.is_none();
    complaints.extend(status.complaint);
    let advice = status.advice.unwrap_or_default().to_owned();
    UpstreamRow { address: status.address.to_string(), fitness: fitness.into(), answers, complaints, advice }
}

fn upstreams(settings: &Settings) -> Upstreams {
    settings.upstreams.clone().map_or(Upstreams::System, Upstreams::Listed)
}

/// A command that found no server may be working in the directory right now; it is waited for.
async fn open_store(dir: &Path) -> Result<Store, Failure> {
    let deadline = Deadline::after(LOCK_PATIENCE);
    loop {
        match Store::open(dir, Options::default()) {
            Err(OpenError::Locked { .. }) if !deadline.passed() => sleep(LOCK_STEP).await,
            opened => return opened.map_err(|error| not_opened(dir, error)),
        }
    }
}

/// The sockets for commands and for mail handed in; their paths. Without the first nobody could steer the server; the others
/// are a convenience that another server may have taken.
fn start_control(tasks: &Tasks, instance: &Rc<Instance>, users: &Rc<Users>, more: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let path = instance.store.dir().join(SOCKET);
    let failed = |error| Failure::new(format!("the control socket {}: {error}", path.display()), "is another server using this directory?");
    let mut bound = Vec::new();
    let senders = [instance.store.dir().join(SEND_SOCKET)];
    let everybody = Gate::senders(Rc::clone(users));
    for path in senders.iter().chain(more) {
        match listen(tasks, instance, path, everybody.clone()) {
            Ok(()) => bound.push(path.clone()),
            Err(error) => info!("programs cannot hand mail in at {}: {error}", path.display()),
        }
    }
    // Last: a server that answers commands is wholly there.
    listen(tasks, instance, &path, Gate::Owner).map_err(failed)?;
    bound.push(path);
    Ok(bound)
}

fn listen(tasks: &Tasks, instance: &Rc<Instance>, path: &Path, gate: Gate) -> std::io::Result<()> {
    let listener = Rc::new(local::bind(path, gate.mode()).and_then(LocalListener::new)?);
    let (instance, own) = (Rc::clone(instance), tasks.clone());
    let serve = move || control::serve_all(Rc::clone(&instance), own.clone(), Rc::clone(&listener), gate.clone());
    tasks.spawn_service("control socket", serve);
    Ok(())
}

/// The addresses at which we would meet ourselves: those we listen on, and every interface's where we listen on all.
pub fn own_addresses(sockets: &Sockets) -> Vec<IpAddr> {
    let listening: Vec<IpAddr> = sockets.all().filter_map(|socket| socket.local_addr().ok()).map(|address| address.ip()).collect();
    let mut own: Vec<IpAddr> = listening.iter().copied().filter(|address| !address.is_unspecified()).collect();
    if listening.iter().any(IpAddr::is_unspecified) {
        own.extend(addresses::of_interfaces());
    }
    own.sort_unstable();
    own.dedup();
    own
}
