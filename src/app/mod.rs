//! Composition: the start order with privileges and sandbox, one event loop for all instances, and the way to a clean end.
//!
//! The order is that of the architecture, and each step relies on the one before: (1) configuration and certificate
//! files are read, (2) listeners bound, (3) privileges dropped, (4) Landlock, (5) seccomp – until here there is one
//! thread, as a thread started earlier would stay unrestricted – (6) store, writer, offload thread, event loop.
//! A process serves one directory, localserve two: steps 1 to 5 are done for all of them together, the rest one by one
//! (`instance`). What ends one ends all.

pub mod anchors;
pub mod certificates;
pub mod instance;
#[cfg(feature = "localserve")]
pub mod localserve;
pub mod logger;
pub mod prepare;
pub mod upkeep;

use std::rc::Rc;
use std::time::Duration;

use log::info;
use log::warn;
use smol::LocalExecutor;
use smol::channel::Receiver;

use crate::admin::Failure;
use crate::admin::settings;
use crate::app::instance::Common;
use crate::app::instance::Running;
use crate::app::prepare::Prepared;
use crate::cli::place::Place;
use crate::host::notify::Notice;
use crate::host::notify::Notifier;
use crate::host::signals::Signal;
use crate::host::signals::Signals;
use crate::net::breathe::StallMeter;
use crate::net::deadline::sleep;
use crate::net::deadline::within;
use crate::net::tasks::Tasks;

/// Sessions get this long to finish their message when the server ends; a supervisor waits longer before it kills.
const DRAIN: Duration = Duration::from_secs(10);
/// For replies to commits that outlasted the drain.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How often the drain looks whether everybody is gone.
const DRAIN_STEP: Duration = Duration::from_millis(50);

/// Serves one directory until it is told to stop.
pub fn serve(place: Place) -> Result<(), Failure> {
    serve_all(vec![place], |_| Ok(()))
}

/// Serves several directories in one process. `more` starts what else belongs to the process, once tasks can run.
pub fn serve_all(places: Vec<Place>, more: impl FnOnce(&Tasks) -> Result<(), Failure>) -> Result<(), Failure> {
    let prepared = prepare::prepare(places)?;
    let executor = Rc::new(LocalExecutor::new());
    crate::net::run(&executor.clone(), run(prepared, executor, more))
}

async fn run(
    prepared: Prepared,
    executor: Rc<LocalExecutor<'static>>,
    more: impl FnOnce(&Tasks) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let Prepared { parts, notifier, users } = prepared;
    let mut signals = Signals::new().map_err(|error| Failure::new(format!("signals cannot be received: {error}"), "see the log above"))?;
    let (stop, stopped) = smol::channel::bounded(1);
    let (drain, draining) = smol::channel::bounded::<()>(1);
    let common = Common { executor, meter: StallMeter::new(), stop, draining, users: Rc::new(users) };
    let mut running = Vec::with_capacity(parts.len());
    for part in parts {
        running.push(instance::start(part, &common).await?);
    }
    if let Some(first) = running.first() {
        more(&first.tasks)?;
        upkeep::pet_watchdog(&first.tasks);
    }
    announce(&notifier, &running);
    wait_for_the_end(&mut signals, &stopped, &running, &notifier).await;
    notifier.send(&[Notice::Stopping]);
    drop(drain);
    let stuck = running.iter().any(|one| one.instance.store.counters().must_reopen);
    end(&running).await;
    if stuck { Err(Failure::new("the store could not be written any more", "check the disk and its cable")) } else { Ok(()) }
}

fn announce(notifier: &Notifier, running: &[Running]) {
    let mut all = Vec::new();
    for one in running {
        let Some(serving) = &one.instance.serving else { continue };
        for problem in serving.problems.borrow().values() {
            warn!("{problem}");
        }
        let listening = serving.listening.join(", ");
        let (host, dir) = (&one.instance.live.current().hostname, one.instance.store.dir().display());
        info!("{host} takes mail on {listening}, data in {dir}");
        all.push(listening);
    }
    notifier.send(&[Notice::Ready, Notice::Status(&format!("taking mail on {}", all.join(", ")))]);
}

async fn wait_for_the_end(signals: &mut Signals, stopped: &Receiver<()>, running: &[Running], notifier: &Notifier) {
    loop {
        let signal = smol::future::or(async { signals.next().await.ok() }, async {
            let _ = stopped.recv().await;
            None
        });
        match signal.await {
            Some(Signal::Reload) => {
                notifier.send(&[Notice::Reloading]);
                for one in running {
                    // The faults are in the log and in `status`; the old settings stay.
                    let _ = settings::reload(&one.instance).await;
                }
                notifier.send(&[Notice::Ready]);
            }
            Some(Signal::Terminate | Signal::Interrupt) => return info!("asked to end by a signal"),
            None => return info!("asked to end by `pipit stop`"),
        }
    }
}

async fn all_quiet(running: &[Running]) {
    while running.iter().any(Running::is_busy) {
        sleep(DRAIN_STEP).await;
    }
}

/// Lets sessions and deliveries finish what they have begun, then closes the stores.
async fn end(running: &[Running]) {
    if within(DRAIN, all_quiet(running)).await.is_err() {
        let open: usize = running.iter().map(Running::open_sessions).sum();
        let deliveries: usize = running.iter().map(Running::deliveries).sum();
        warn!("{open} sessions were cut off, what they had sent was not acknowledged; {deliveries} deliveries will be tried again");
    }
    for one in running {
        upkeep::save_time(&one.instance).await;
        one.remove_sockets();
        one.instance.store.clone().close().await;
    }
    // A commit that took longer than the drain still has a client that waits for its 250.
    let _ = within(LAST_WORDS, all_quiet(running)).await;
    info!("ended");
}
