//! The configuration file: reloaded, and edited by commands, with every other byte of it kept.
//!
//! A file with faults changes nothing: the settings in force stay, the faults are told (log, `status`, the answer).

use std::path::Path;

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

fn read_text(instance: &Instance) -> Result<String, Failure> {
    let bytes = read_file(&instance.file)?;
    String::from_utf8(bytes).map_err(|_| Failure::new(format!("{} is not UTF-8", instance.file.display()), "save it as UTF-8"))
}

/// Takes the file as it is now. The answer names what changed only takes effect after a restart.
pub fn reload(instance: &Instance) -> Result<Vec<&'static str>, Failure> {
    let bytes = read_file(&instance.file)?;
    match check::check_bytes(&bytes) {
        Ok(settings) => Ok(take(instance, settings)),
        Err(faults) => {
            let text = sentences(&faults);
            warn!("{} has faults, the last good settings stay", instance.file.display());
            for fault in &faults {
                warn!("{fault}");
            }
            instance.live.refuse(faults);
            Err(Failure::new(text, "the last good settings stay in force; mend the lines named above"))
        }
    }
}

fn take(instance: &Instance, settings: Settings) -> Vec<&'static str> {
    let restart = explain::restart_needed(&instance.live.current(), &settings);
    log::set_max_level(settings.log_level);
    if let Some(serving) = &instance.serving {
        let mut problems = serving.problems.borrow_mut();
        problems.retain(|problem| !problem.starts_with("needs a restart"));
        if !restart.is_empty() {
            let text = format!("needs a restart to take effect: {}", restart.join(", "));
            warn!("{text}");
            problems.push(text);
        }
    }
    instance.live.replace(settings);
    info!("settings taken from {}", instance.file.display());
    remember(instance);
    restart
}

/// Keeps the accepted text in the history. That it could not be kept is no reason to refuse it.
pub fn remember(instance: &Instance) {
    let text = match read_text(instance) {
        Ok(text) => text,
        Err(_) => return,
    };
    if let Err(error) = history::keep(instance.store.dir(), &text, instance.clock.now()) {
        warn!("the accepted configuration could not be kept in {}/history: {error}", instance.store.dir().display());
    }
}

/// Makes the accounts of `[[first-user]]` blocks that do not exist yet, then replaces the blocks by a comment.
/// The accounts are on disk before the passwords leave the file.
pub async fn consume_first_users(instance: &Instance) -> Result<(), Failure> {
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
        let hash = instance.offload.run(Priority::Other, move || passwords::hash(&password)).await;
        let hash = hash.ok().flatten().ok_or_else(|| Failure::new("the first password could not be hashed", "try again"))?;
        let new = NewAccount { address: first.address.clone(), password: hash, created: instance.clock.now() };
        // Already there: somebody else made it in between, which is what was wanted.
        let _ = instance.store.write(move |writer| accounts::create(writer, new)).await?;
        info!("account {} made from the [[first-user]] block", first.address);
    }
    change(instance, |text| edit::consume_first_user(text, instance.clock.now()))
}

/// Replaces the file by an edit of it and takes the result.
fn change(instance: &Instance, edit: impl FnOnce(&str) -> Result<String, Fault>) -> Result<(), Failure> {
    let old = read_text(instance)?;
    let new = edit(&old).map_err(|fault| Failure::new(fault, "nothing was changed"))?;
    if new == old {
        return Ok(());
    }
    write_file(&instance.file, &new)?;
    reload(instance).map(|_| ())
}

/// Writes a configuration file so that a crash leaves the old or the new one (promise R16).
pub fn write_file(file: &Path, text: &str) -> Result<(), Failure> {
    files::replace(file, text.as_bytes(), FILE_MODE).map_err(|error| {
        let hint = "check the rights and the free space of its folder; nothing was changed";
        Failure::new(format!("{} cannot be written: {error}", file.display()), hint)
    })
}

pub fn set(instance: &Instance, key: &str, value: &str) -> Result<(), Failure> {
    change(instance, |text| edit::set(text, key, value))
}

pub fn alias_add(instance: &Instance, address: &Address, to: &[Address]) -> Result<(), Failure> {
    change(instance, |text| edit::add_alias(text, address, to))
}

pub fn alias_remove(instance: &Instance, address: &Address) -> Result<(), Failure> {
    change(instance, |text| edit::remove_alias(text, address))
}

pub async fn alias_list<C: Channel>(instance: &Instance, channel: &mut C) -> Result<(), Failure> {
    for alias in &instance.live.current().aliases {
        let fields = AliasRow { address: alias.address.to_string(), to: alias.to.iter().map(Address::to_string).collect() };
        row(channel, &fields).await?;
    }
    Ok(())
}
