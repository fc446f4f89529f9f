//! What a quiet server does: notices an edited configuration, gives memory back, remembers the time, pets the watchdog.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use log::debug;
use log::error;
use log::warn;

use crate::admin::Instance;
use crate::admin::settings;
use crate::admin::settings::Stamp;
use crate::host::memory;
use crate::host::notify::Notice;
use crate::host::notify::Notifier;
use crate::metrics::MessageOutcome;
use crate::net::clock::Certainty;
use crate::net::deadline::sleep;
use crate::net::tasks::Tasks;
use crate::store::meta;

/// How often the configuration file is looked at: an edit is taken at the second look, within 2 s (`setup.md`).
const FILE_PERIOD: Duration = Duration::from_secs(1);
/// How often memory is looked at.
const MEMORY_PERIOD: Duration = Duration::from_secs(5);
/// Memory is given back when it grew by this much since it was last given back; less is not worth a walk of the heap.
const WORTH_TRIMMING: u64 = 1 << 20;
/// How often the time is saved as the floor of the next start.
const TIME_PERIOD: Duration = Duration::from_secs(600);

/// Starts the loops.
/// `taken`: the stamp of the configuration that is in force.
pub fn start(tasks: &Tasks, instance: &Rc<Instance>, taken: Option<Stamp>) {
    let (looked_at, taken) = (Rc::clone(instance), Rc::new(Cell::new(taken)));
    tasks.spawn_service("configuration watch", move || watch_file(Rc::clone(&looked_at), Rc::clone(&taken)));
    let trimmed = Rc::clone(instance);
    tasks.spawn_service("memory watch", move || watch_memory(Rc::clone(&trimmed)));
    let timed = Rc::clone(instance);
    tasks.spawn_service("time keeper", move || keep_time(Rc::clone(&timed)));
}

/// Tells the supervisor that the event loop turns, if it wants to know; once a process.
pub fn pet_watchdog(tasks: &Tasks) {
    let notifier = Notifier::from_environment();
    if let Some(period) = notifier.watchdog_period() {
        tasks.spawn("watchdog", async move {
            loop {
                notifier.send(&[Notice::Watchdog]);
                sleep(period / 2).await;
            }
        });
    }
}

/// Takes an edited file once it is the same at two looks: an editor may still be writing it.
async fn watch_file(instance: Rc<Instance>, taken: Rc<Cell<Option<Stamp>>>) {
    let mut seen = taken.get();
    loop {
        sleep(FILE_PERIOD).await;
        let now = settings::stamp(&instance.file);
        // A file that is gone for a moment is being replaced.
        if now.is_none() || now == taken.get() {
            continue;
        }
        if now == seen {
            taken.set(now);
            // Faults are in the log and in `status`.
            let _ = settings::reload(&instance).await;
        }
        seen = now;
    }
}

/// After a burst the heap keeps pages that nobody uses (14 MB, 6 MB after `malloc_trim`).
async fn watch_memory(instance: Rc<Instance>) {
    let mut settled = 0;
    let mut stored = 0;
    loop {
        sleep(MEMORY_PERIOD).await;
        end_if_store_is_stuck(&instance);
        let now = memory::resident().unwrap_or(0);
        let count = instance.metrics.messages.value(MessageOutcome::Stored) + instance.metrics.connections.value();
        let quiet = count == stored;
        stored = count;
        if quiet && now > settled + WORTH_TRIMMING {
            instance.store.trim();
            memory::trim();
            settled = memory::resident().unwrap_or(0);
            debug!("memory {} KiB before, {} KiB after giving back", now / 1024, settled / 1024);
        }
    }
}

/// LMDB refuses every commit after a root page could not be written; only a new process opens it again (promise R17).
fn end_if_store_is_stuck(instance: &Instance) {
    if instance.store.counters().must_reopen
        && let Some(serving) = &instance.serving
    {
        error!("the store takes nothing until it is opened anew; ending, so that the supervisor starts the server again");
        let _ = serving.stop.try_send(());
    }
}

async fn keep_time(instance: Rc<Instance>) {
    loop {
        sleep(TIME_PERIOD).await;
        save_time(&instance).await;
    }
}

/// Saves the time as the floor below which a clock is known to be wrong; a time in doubt is not saved.
pub async fn save_time(instance: &Instance) {
    if !matches!(instance.clock.certainty(), Certainty::Confirmed) {
        return;
    }
    let now = instance.clock.now();
    instance.clock.raise_floor(now);
    if let Err(error) = instance.store.write(move |writer| meta::set_last_good_time(writer, now)).await {
        warn!("the time could not be saved: {error}");
    }
}
