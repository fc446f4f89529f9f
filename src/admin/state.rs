//! How the instance is: status, metrics, the store's invariants and sizes; and the word that ends it.

use crate::admin::Channel;
use crate::admin::Failure;
use crate::admin::Instance;
use crate::admin::anchors;
use crate::admin::clock;
use crate::admin::row;
use crate::admin::wire::StatusRow;
use crate::admin::wire::TableRow;
use crate::admin::wire::TextRow;
use crate::admin::wire::dns::UNFIT;
use crate::config::settings::Settings;
use crate::host::memory;
use crate::mail::date::UnixTime;
use crate::metrics::Gauge;
use crate::metrics::MessageOutcome;
use crate::net::clock::Certainty;
use crate::store::accounts;
use crate::store::check as store_check;
use crate::store::queue;
use crate::store::room;
use crate::store::room::Room;
use crate::store::stat as store_stat;

/// Accounts counted in one read.
const PAGE: usize = 200;

/// One object for machines and people; what needs attention stands in `problems`.
pub async fn status<C: Channel>(instance: &Instance, channel: &mut C) -> Result<(), Failure> {
    let settings = instance.live.current();
    let (accounts, stored_messages) = totals(instance)?;
    let serving = instance.serving.as_ref();
    let queued = instance.store.read(queue::counts)?;
    let now = instance.clock.now();
    let fields = StatusRow {
        version: env!("CARGO_PKG_VERSION").into(),
        hostname: settings.hostname.to_string(),
        dir: instance.store.dir().display().to_string(),
        pid: std::process::id(),
        started: serving.map(|serving| serving.started.to_string()).unwrap_or_default(),
        now: now.to_string(),
        listening: serving.map(|serving| serving.listening.clone()).unwrap_or_default(),
        domains: settings.local_domains().map(ToString::to_string).collect(),
        accounts,
        sessions: serving.map_or(0, |serving| serving.slots.load().open as u64),
        stored_messages,
        received: instance.metrics.messages.value(MessageOutcome::Stored),
        queued_messages: queued.messages,
        queued_recipients: queued.recipients,
        held_recipients: queued.held,
        queue_oldest: queued.oldest.map(|oldest| oldest.to_string()).unwrap_or_default(),
        resident_bytes: memory::resident().unwrap_or(0),
        disk_available_bytes: instance.store.space()?.available,
        clock: clock(instance).into(),
        upstreams: serving.map(|serving| (serving.upstreams)()).unwrap_or_default(),
        anchors: anchors::rows(&settings, &anchors::learnt(&instance.store).unwrap_or_else(|_| anchors::untaught()), now),
        notes: notes(&settings, now),
        problems: problems(instance)?,
    };
    row(channel, &fields).await?;
    Ok(())
}

/// Whether the time counts (`resolver.md`, proving 12).
fn clock(instance: &Instance) -> &'static str {
    match instance.clock.certainty() {
        Certainty::Confirmed => "confirmed",
        Certainty::Plausible => "plausible",
        Certainty::Unknown => "wrong",
    }
}

fn notes(settings: &Settings, now: UnixTime) -> Vec<String> {
    let trusting =
        settings.dns.trust_ad.then(|| "DNS answers are validated by the resolvers of dns.upstream, not here (dns.trust-ad)".to_owned());
    let ended = settings.dns.negative_anchors.iter().filter(|anchor| anchor.has_ended(now));
    let ended = ended.map(|anchor| format!("{} counts as any other zone again: remove it from dns.negative-anchor", anchor.zone));
    trusting.into_iter().chain(ended).collect()
}

fn totals(instance: &Instance) -> Result<(u64, u64), Failure> {
    let (mut accounts, mut messages, mut after) = (0, 0u64, None);
    loop {
        let page = instance.store.read(|reader| accounts::list(reader, after, PAGE))?;
        let Some((last, _)) = page.last() else { return Ok((accounts, messages)) };
        after = Some(*last);
        accounts += page.len() as u64;
        messages += page.iter().map(|(_, account)| account.messages).sum::<u64>();
    }
}

fn problems(instance: &Instance) -> Result<Vec<String>, Failure> {
    let mut problems = Vec::new();
    for fault in instance.live.faults() {
        problems.push(format!("{}: {fault}; the last good settings are in force", instance.file.display()));
    }
    let settings = instance.live.current();
    if let Room::Short { available } = room::in_store(&instance.store, None, settings.limits.min_free)? {
        problems.push(format!("the disk is nearly full ({available} octets left): mail is refused for now; free some space"));
    }
    let counters = instance.store.counters();
    if counters.failed_commits > 0 {
        problems.push(format!("{} commits failed since the start: check the disk and the log", counters.failed_commits));
    }
    if counters.damaged > 0 {
        let count = counters.damaged;
        problems.push(format!("{count} rows of the store could not be read since the start: `pipit store check` names them"));
    }
    for (id, why) in instance.store.read(queue::aside)? {
        problems.push(format!("message {id} of the queue is set aside ({why}): `pipit queue show {id}`, then release, fail or drop it"));
    }
    problems.extend(clock::problem(instance));
    match &instance.serving {
        Some(serving) => {
            problems.extend(serving.problems.borrow().values().cloned());
            let stuck = (serving.upstreams)().iter().all(|upstream| !upstream.answers || upstream.fitness == UNFIT);
            let told = |problem| if stuck { format!("mail to other servers waits: {problem}") } else { problem };
            problems.extend((serving.resolver_problem)().map(told));
        }
        None => problems.push("no server is running on this directory: start it with `pipit serve`".into()),
    }
    Ok(problems)
}

/// The text exposition, a line a row.
pub async fn metrics<C: Channel>(instance: &Instance, channel: &mut C) -> Result<(), Failure> {
    for line in exposition(instance)?.lines() {
        row(channel, &TextRow { text: line.to_string() }).await?;
    }
    Ok(())
}

/// Prometheus text of this instance.
pub fn exposition(instance: &Instance) -> Result<String, Failure> {
    let counters = instance.store.counters();
    let queued = instance.store.read(queue::counts)?;
    let oldest = queued.oldest.map_or(0, |oldest| instance.clock.now().0.saturating_sub(oldest.0));
    let gauge = |name, help, value| Gauge { name, help, value };
    let mut gauges = vec![
        gauge("store_commits", "synced batches since the start", counters.commits),
        gauge("store_jobs", "jobs of the store's writer since the start", counters.jobs),
        gauge("store_failed_commits", "commits that failed since the start", counters.failed_commits),
        gauge("store_longest_batch_microseconds", "longest batch with its sync", micros(counters.longest_batch)),
        gauge("queue_messages", "messages that wait to be delivered elsewhere", queued.messages),
        gauge("queue_recipients", "their recipients that are not done", queued.recipients),
        gauge("queue_held", "recipients that are held", queued.held),
        gauge("queue_oldest_seconds", "time since the oldest message of the queue arrived", u64::try_from(oldest).unwrap_or(0)),
        gauge("store_damaged_rows", "rows that could not be read and were passed over since the start", counters.damaged),
        gauge("resident_bytes", "memory of the process", memory::resident().unwrap_or(0)),
        gauge("disk_available_bytes", "free space where the store is", instance.store.space()?.available),
    ];
    if let Some(serving) = &instance.serving {
        gauges.push(gauge("smtp_sessions", "open connections", serving.slots.load().open as u64));
        gauges.push(gauge("longest_stall_microseconds", "longest time one task held the event loop", (serving.longest_stall)()));
    }
    Ok(instance.metrics.expose(&gauges))
}

fn micros(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// A row a finding; any finding is exit status 1.
pub async fn check<C: Channel>(instance: &Instance, channel: &mut C) -> Result<(), Failure> {
    let store = instance.store.clone();
    let work = move || store.read(store_check::everything);
    // Minutes on a large store: not in the line in which logins wait.
    let findings = instance.offload.run_alone(work).await;
    let findings = findings.map_err(|error| Failure::new(error, "try again"))??;
    for finding in &findings {
        row(channel, &TextRow { text: finding.to_string() }).await?;
    }
    match findings.len() {
        0 => Ok(()),
        n => Err(Failure::new(format!("{n} findings"), "restore the last backup, or ask for help with the lines above")),
    }
}

/// A row a table, then the file.
pub async fn stat<C: Channel>(instance: &Instance, channel: &mut C) -> Result<(), Failure> {
    let stat = instance.store.read(store_stat::tables)?;
    for table in stat.tables {
        row(channel, &TableRow { table: table.name.to_string(), rows: table.rows, bytes: table.bytes }).await?;
    }
    row(channel, &TableRow { table: "(file)".into(), rows: 0, bytes: stat.file_bytes }).await?;
    row(channel, &TableRow { table: "(free in file)".into(), rows: 0, bytes: stat.free_bytes }).await?;
    Ok(())
}

/// Lets the server finish what it began and end.
pub fn stop(instance: &Instance) -> Result<(), Failure> {
    let serving = instance.serving.as_ref().ok_or_else(|| Failure::new("no server is running on this directory", "nothing to stop"))?;
    // A second `stop` while the first is under way finds the channel full, which is as good.
    let _ = serving.stop.try_send(());
    Ok(())
}
