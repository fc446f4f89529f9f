//! Composition: the start order with privileges and sandbox, the wiring, reload, and the way to a clean end.
//!
//! The order is that of the architecture, and each step relies on the one before: (1) configuration and certificate
//! files are read, (2) listeners bound, (3) privileges dropped, (4) Landlock, (5) seccomp – until here there is one
//! thread, as a thread started earlier would stay unrestricted – (6) store, writer, offload thread, event loop.

pub mod certificates;
#[cfg(feature = "localserve")]
pub mod localserve;
pub mod logger;
pub mod prepare;
pub mod upkeep;

use std::cell::RefCell;
use std::net::TcpListener;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use log::info;
use log::warn;
use smol::LocalExecutor;

use crate::admin;
use crate::admin::Failure;
use crate::admin::Instance;
use crate::admin::Serving;
use crate::admin::wire::SOCKET;
use crate::app::prepare::Prepared;
use crate::cli::ask::not_opened;
use crate::cli::place::Place;
use crate::config::live::Live;
use crate::control;
use crate::host::notify::Notice;
use crate::host::notify::Notifier;
use crate::host::signals::Signal;
use crate::host::signals::Signals;
use crate::inbound;
use crate::inbound::Service;
use crate::metrics::Metrics;
use crate::net::breathe::StallMeter;
use crate::net::budget::Budget;
use crate::net::clock::Clock;
use crate::net::clock::RELEASED;
use crate::net::deadline::Deadline;
use crate::net::deadline::sleep;
use crate::net::deadline::within;
use crate::net::listen::Listener;
use crate::net::local;
use crate::net::local::LocalListener;
use crate::net::offload::Offload;
use crate::net::slots::Slots;
use crate::net::tasks::Tasks;
use crate::net::tls::Tickets;
use crate::store::OpenError;
use crate::store::Options;
use crate::store::Store;
use crate::store::meta;

/// Sessions get this long to finish their message when the server ends; a supervisor waits longer before it kills.
const DRAIN: Duration = Duration::from_secs(10);
/// A command without a server takes moments; what holds the lock for longer is another server.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);
const LOCK_STEP: Duration = Duration::from_millis(100);
/// For replies to commits that outlasted the drain.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How often the drain looks whether everybody is gone.
const DRAIN_STEP: Duration = Duration::from_millis(50);

/// Serves until it is told to stop.
pub fn serve(place: Place) -> Result<(), Failure> {
    let settings = place.settings.clone()?;
    logger::install(settings.log_level);
    let prepared = prepare::prepare(place, settings)?;
    let executor = Rc::new(LocalExecutor::new());
    crate::net::run(&executor.clone(), run(prepared, executor))
}

async fn run(prepared: Prepared, executor: Rc<LocalExecutor<'static>>) -> Result<(), Failure> {
    let Prepared { place, settings, listeners, external, problems, notifier } = prepared;
    let unstartable = |what: &'static str| move |error: std::io::Error| Failure::new(format!("{what}: {error}"), "see the log above");
    let mut signals = Signals::new().map_err(unstartable("signals cannot be received"))?;
    let store = open_store(&place.dir).await?;
    let saved = store.read(meta::last_good_time)?.unwrap_or(RELEASED);
    let clock = Clock::host(saved.max(RELEASED));
    let (metrics, meter) = (Rc::new(Metrics::default()), StallMeter::new());
    let tasks = Tasks::new(executor, meter.clone(), Rc::clone(&metrics));
    let live = Rc::new(Live::new(settings));
    let certificates = certificates::load(&store, &live.current(), external, clock.now()).await?;
    let tls = certificates.server_config(Tickets::None);
    let tls = tls.map_err(|error| Failure::new(format!("TLS cannot be set up: {error}"), "report this"))?;
    let slots = Slots::new(admin::settings::limits(&live.current()));
    let (stop, stopped) = smol::channel::bounded(1);
    let (drain, draining) = smol::channel::bounded::<()>(1);
    let instance = Rc::new(Instance {
        store: store.clone(),
        live: Rc::clone(&live),
        file: place.file,
        metrics: Rc::clone(&metrics),
        clock: clock.clone(),
        offload: Offload::start().map_err(unstartable("the offload thread cannot be started"))?,
        serving: Some(Serving {
            started: clock.now(),
            listening: listeners.iter().filter_map(|listener| listener.local_addr().ok()).map(|address| address.to_string()).collect(),
            slots: slots.clone(),
            problems: RefCell::new(problems),
            stop,
            longest_stall: Box::new(move || meter.longest().map_or(0, |stall| u64::try_from(stall.length.as_micros()).unwrap_or(u64::MAX))),
        }),
    });
    admin::settings::consume_first_users(&instance).await;
    admin::settings::remember(&instance).await;
    let service = Rc::new(Service {
        store: store.clone(),
        live: Rc::clone(&live),
        metrics,
        clock,
        slots: slots.clone(),
        budget: Budget::new(live.current().limits.memory_budget),
        tls: Some(tls),
        draining,
    });
    start_listeners(&tasks, &service, listeners)?;
    start_control(&tasks, &instance)?;
    upkeep::start(&tasks, &instance, place.stamp);
    announce(&notifier, &instance);
    wait_for_the_end(&mut signals, &stopped, &instance, &notifier).await;
    notifier.send(&[Notice::Stopping]);
    drop(drain);
    let stuck = store.counters().must_reopen;
    end(&instance, &slots).await;
    if stuck { Err(Failure::new("the store could not be written any more", "check the disk and its cable")) } else { Ok(()) }
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

fn start_listeners(tasks: &Tasks, service: &Rc<Service>, listeners: Vec<TcpListener>) -> Result<(), Failure> {
    for listener in listeners {
        let listener = Listener::new(listener).map_err(|error| Failure::new(format!("cannot listen: {error}"), "see the log above"))?;
        let (listener, service, tasks) = (Rc::new(listener), Rc::clone(service), tasks.clone());
        tasks
            .clone()
            .spawn_service("smtp listener", move || inbound::listen::accept_all(Rc::clone(&service), tasks.clone(), Rc::clone(&listener)));
    }
    Ok(())
}

fn start_control(tasks: &Tasks, instance: &Rc<Instance>) -> Result<(), Failure> {
    let path = instance.store.dir().join(SOCKET);
    let failed = |error| Failure::new(format!("the control socket {}: {error}", path.display()), "is another server using this directory?");
    let listener = local::bind(&path, control::SOCKET_MODE).and_then(LocalListener::new).map_err(failed)?;
    let (listener, instance, tasks) = (Rc::new(listener), Rc::clone(instance), tasks.clone());
    tasks.clone().spawn_service("control socket", move || control::serve_all(Rc::clone(&instance), tasks.clone(), Rc::clone(&listener)));
    Ok(())
}

fn announce(notifier: &Notifier, instance: &Instance) {
    let Some(serving) = &instance.serving else { return };
    for problem in serving.problems.borrow().values() {
        warn!("{problem}");
    }
    let listening = serving.listening.join(", ");
    info!("{} takes mail on {listening}, data in {}", instance.live.current().hostname, instance.store.dir().display());
    notifier.send(&[Notice::Ready, Notice::Status(&format!("taking mail on {listening}"))]);
}

async fn wait_for_the_end(signals: &mut Signals, stopped: &smol::channel::Receiver<()>, instance: &Instance, notifier: &Notifier) {
    loop {
        let signal = smol::future::or(async { signals.next().await.ok() }, async {
            let _ = stopped.recv().await;
            None
        });
        match signal.await {
            Some(Signal::Reload) => {
                notifier.send(&[Notice::Reloading]);
                // The faults are in the log and in `status`; the old settings stay.
                let _ = admin::settings::reload(instance).await;
                notifier.send(&[Notice::Ready]);
            }
            Some(Signal::Terminate | Signal::Interrupt) => return info!("asked to end by a signal"),
            None => return info!("asked to end by `pipit stop`"),
        }
    }
}

/// Lets sessions finish what they have begun, then closes the store.
async fn end(instance: &Instance, slots: &Slots) {
    let all_gone = async {
        while slots.load().open > 0 {
            sleep(DRAIN_STEP).await;
        }
    };
    if within(DRAIN, all_gone).await.is_err() {
        warn!("{} sessions were cut off; what they had sent was not acknowledged", slots.load().open);
    }
    upkeep::save_time(instance).await;
    let _ = std::fs::remove_file(instance.store.dir().join(SOCKET));
    instance.store.clone().close().await;
    // A commit that took longer than the drain still has a client that waits for its 250.
    let _ = within(LAST_WORDS, async {
        while slots.load().open > 0 {
            sleep(DRAIN_STEP).await;
        }
    })
    .await;
    info!("ended");
}
