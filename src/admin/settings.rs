//! The configuration file: reloaded, and edited by commands, with every other byte of it kept.
//!
//! A file with faults changes nothing: the settings in force stay, the faults are told (log, `status`, the answer).

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::rc::Rc;

use log::info;
use log::warn;

use crate::admin::Channel;
use crate::admin::Failure;
use crate::admin::Instance;
use crate::admin::history;
use crate::admin::passwords;
use crate::admin::row;
use crate::admin::wire::AliasRow;
use crate::config::check;
use crate::config::edit;
use crate::config::explain;
use crate::config::fault::Fault;
use crate::config::settings::Settings;
use crate::host::files;
use crate::mail::address::Address;
use crate::net::offload::Priority;
use crate::net::slots::Limits;
use crate::proto::dns::dnssec::anchor::Anchors;
use crate::store::accounts;
use crate::store::accounts::NewAccount;

/// The largest configuration file that is read (`config::check` refuses more).
const MAX_FILE: usize = 1 << 20;
/// A new file is for its owner only: it may hold first passwords.
const FILE_MODE: u32 = 0o600;

/// Faults as one text, a line each.
pub fn sentences(faults: &[Fault]) -> String {
    faults.iter().map(Fault::to_string).collect::<Vec<_>>().join("\n")
}

/// Reads the file; UTF-8 is checked with everything else.
pub fn read_file(file: &Path) -> Result<Vec<u8>, Failure> {
    files::read_bounded(file, MAX_FILE).map_err(|error| {
        let hint = "name the file with --config FILE, or its directory with --dir DIR";
        Failure::new(format!("{} cannot be read: {error}", file.display()), hint)
    })
}

/// Checks the configuration and reads the files that it names for their content. Their faults name the file and its line.
pub fn check_all(bytes: &[u8]) -> Result<Settings, Vec<Fault>> {
    let mut settings = check::check_bytes(bytes)?;
    if let Some(given) = &mut settings.dns.trust_anchor {
        given.anchors = read_anchors(&given.file).map_err(|(what, right)| vec![Fault::new(given.line, "dns.trust-anchor", what, right)])?;
    }
    Ok(settings)
}

/// A file of trust anchors; what is wrong and what to do, where it cannot be read.
pub fn read_anchors(file: &Path) -> Result<Anchors, (String, &'static str)> {
    let shown = file.display();
    let bytes = files::read_bounded(file, MAX_FILE).map_err(|error| {
        let right = "let the server's user read it; a server that runs must be restarted for another file";
        (format!("{shown} cannot be read: {error}"), right)
    })?;
    let text = String::from_utf8(bytes).map_err(|_| (format!("{shown} is not UTF-8"), "write DS or DNSKEY lines, as `dig` shows them"))?;
    Anchors::parse(&text)
        .map_err(|fault| (format!("{shown}: {fault}"), "write lines like `. IN DS 20326 8 2 E06D44B8…`, comments behind `;`"))
}

fn read_text(file: &Path) -> Result<String, Failure> {
    String::from_utf8(read_file(file)?).map_err(|_| Failure::new(format!("{} is not UTF-8", file.display()), "save it as UTF-8"))
}

/// Identity of a version of a file: a replaced file has another inode, an edited one another time or length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    inode: u64,
    modified: (i64, i64),
    length: u64,
}

/// The stamp of the file as it is now; `None` if there is none to be had.
pub fn stamp(file: &Path) -> Option<Stamp> {
    let facts = fs::metadata(file).ok()?;
    Some(Stamp { inode: facts.ino(), modified: (facts.mtime(), facts.mtime_nsec()), length: facts.len() })
}

/// Limits of connections as the settings say them.
pub fn limits(settings: &Settings) -> Limits {
    let trusted = settings.limits.trusted.clone();
    Limits {
        total: settings.limits.connections,
        per_address: settings.limits.connections_per_address,
        per_minute: settings.limits.connections_per_minute,
        burst: settings.limits.burst,
        trusted: Rc::new(move |address| trusted.iter().any(|network| network.contains(address))),
    }
}

/// Files and hashes take longer than the event loop may wait: they are the offload thread's work. It is one thread, so
/// edits of the file never run into each other.
async fn offloaded<T: Send + 'static>(instance: &Instance, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    let outcome = instance.offload.run(Priority::Other, work).await;
    outcome.map_err(|error| Failure::new(format!("it could not be done now: {error}"), "try again in a moment"))
}

/// Takes the file as it is now; accounts of new `[[first-user]]` blocks are made.
pub async fn reload(instance: &Instance) -> Result<(), Failure> {
    load(instance).await?;
    consume_first_users(instance).await;
    Ok(())
}

async fn load(instance: &Instance) -> Result<(), Failure> {
    let file = instance.file.clone();
    let read = offloaded(instance, move || read_file(&file).map(|bytes| check_all(&bytes))).await?;
    let checked = read.inspect_err(|failure| {
        warn!("{}", failure.error);
        instance.tell("configuration", Some(format!("{}; the last good settings are in force", failure.error)));
    })?;
    instance.tell("configuration", None);
    match checked {
        Ok(settings) => take(instance, settings),
        Err(faults) => {
            warn!("{} has faults, the last good settings stay", instance.file.display());
            for fault in &faults {
                warn!("{fault}");
            }
            let text = sentences(&faults);
            instance.live.refuse(faults);
            return Err(Failure::new(text, "the last good settings stay in force; mend the lines named above"));
        }
    }
    remember(instance).await;
    Ok(())
}

fn take(instance: &Instance, settings: Settings) {
    let restart = explain::restart_needed(&instance.live.current(), &settings);
    log::set_max_level(settings.log_level);
    let problem = (!restart.is_empty()).then(|| format!("needs a restart to take effect: {}", restart.join(", ")));
    if let Some(problem) = &problem {
        warn!("{problem}");
    }
    instance.tell("restart", problem);
    if let Some(serving) = &instance.serving {
        serving.slots.replace_limits(limits(&settings));
        (serving.take_settings)(&settings);
    }
    instance.live.replace(settings);
    info!("settings taken from {}", instance.file.display());
}

/// Keeps the accepted text in the history, without first passwords. That it could not be kept is no reason to refuse it.
pub async fn remember(instance: &Instance) {
    let (file, dir, now) = (instance.file.clone(), instance.store.dir().to_path_buf(), instance.clock.now());
    let kept = offloaded(instance, move || {
        let text = read_text(&file)?;
        let Ok(text) = edit::consume_first_user(&text, now) else { return Ok(()) };
        history::keep(&dir, &text, now).map_err(|error| Failure::new(format!("{}/history: {error}", dir.display()), ""))
    });
    if let Ok(Err(failure)) | Err(failure) = kept.await {
        warn!("the accepted configuration could not be kept: {}", failure.error);
    }
}

/// Makes the accounts of `[[first-user]]` blocks that do not exist yet, then replaces the blocks by a comment. The
/// accounts are on disk before the passwords leave the file. What fails becomes a problem, not the end of the server.
pub async fn consume_first_users(instance: &Instance) {
    let outcome = first_users(instance).await;
    if let Err(failure) = &outcome {
        warn!("[[first-user]]: {}", failure.error);
    }
    let sentence = |failure: Failure| format!("a [[first-user]] block with its password is still in the file: {}", failure.error);
    instance.tell("first-user", outcome.err().map(sentence));
}

async fn first_users(instance: &Instance) -> Result<(), Failure> {
    let settings = instance.live.current();
    if settings.first_users.is_empty() {
        return Ok(());
    }
    for first in &settings.first_users {
        if instance.store.read(|reader| accounts::find(reader, &first.address))?.is_some() {
            info!("account {} exists already, its [[first-user]] block changes nothing", first.address);
            continue;
        }
        let password = first.password.expose().to_string();
        let hash = offloaded(instance, move || passwords::hash(&password)).await?;
        let hash = hash.ok_or_else(|| Failure::new("the first password could not be hashed", "try again"))?;
        let new = NewAccount { address: first.address.clone(), password: hash, created: instance.clock.now() };
        // Already there: somebody else made it in between, which is what was wanted.
        let _ = instance.store.write(move |writer| accounts::create(writer, new)).await?;
        info!("account {} made from the [[first-user]] block", first.address);
    }
    let now = instance.clock.now();
    change(instance, move |text| edit::consume_first_user(text, now)).await
}

/// Replaces the file by an edit of it and takes the result.
async fn change(instance: &Instance, edit: impl FnOnce(&str) -> Result<String, Fault> + Send + 'static) -> Result<(), Failure> {
    let file = instance.file.clone();
    offloaded(instance, move || {
        let before = stamp(&file);
        let old = read_text(&file)?;
        let new = edit(&old).map_err(|fault| Failure::new(fault, "nothing was changed"))?;
        if new == old {
            return Ok(());
        }
        if stamp(&file) != before {
            return Err(Failure::new(format!("{} was saved by somebody else at this moment", file.display()), "try again"));
        }
        write_file(&file, &new)
    })
    .await??;
    load(instance).await
}

/// Writes a configuration file so that a crash leaves the old or the new one (promise R16).
pub fn write_file(file: &Path, text: &str) -> Result<(), Failure> {
    files::replace(file, text.as_bytes(), FILE_MODE).map_err(|error| {
        let hint = "check the rights and the free space of its folder; nothing was changed";
        Failure::new(format!("{} cannot be written: {error}", file.display()), hint)
    })
}

pub async fn set(instance: &Instance, key: String, value: String) -> Result<(), Failure> {
    change(instance, move |text| edit::set(text, &key, &value)).await
}

pub async fn alias_add(instance: &Instance, address: Address, to: Vec<Address>) -> Result<(), Failure> {
    change(instance, move |text| edit::add_alias(text, &address, &to)).await
}

pub async fn alias_remove(instance: &Instance, address: Address) -> Result<(), Failure> {
    change(instance, move |text| edit::remove_alias(text, &address)).await
}

pub async fn alias_list<C: Channel>(instance: &Instance, channel: &mut C) -> Result<(), Failure> {
    for alias in &instance.live.current().aliases {
        let fields = AliasRow { address: alias.address.to_string(), to: alias.to.iter().map(Address::to_string).collect() };
        row(channel, &fields).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::dns::name::Name;

    #[test]
    fn a_file_of_anchors_is_read_with_the_configuration() {
        let file = std::env::temp_dir().join(format!("pipit-anchors-{}", std::process::id()));
        let text =
            format!("hostname = \"m.example.org\"\n[dns]\ntrust-anchor = \"{}\"\n[[domain]]\nname = \"example.org\"\n", file.display());
        let fault = |text: &str| check_all(text.as_bytes()).unwrap_err()[0].to_string();
        assert!(fault(&text).starts_with("line 3: dns.trust-anchor: ") && fault(&text).contains("No such file"), "{}", fault(&text));
        fs::write(&file, "; ours\n\ntest. DS 1 13\n").unwrap();
        assert!(fault(&text).contains(": line 3: this is no DS or DNSKEY record"), "{}", fault(&text));
        fs::write(&file, "test. DS 1 13 2 aabb\n").unwrap();
        let settings = check_all(text.as_bytes()).unwrap();
        let anchors = settings.dns.trust_anchor.unwrap().anchors;
        fs::remove_file(&file).unwrap();
        assert_eq!(anchors.positive(&Name::parse("test").unwrap()).unwrap().ds[0].tag, 1);
    }
}
