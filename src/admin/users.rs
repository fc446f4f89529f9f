//! Accounts: made, listed, given a new password, removed.

use log::info;

use crate::admin::Channel;
use crate::admin::Failure;
use crate::admin::Instance;
use crate::admin::passwords;
use crate::admin::row;
use crate::admin::wire::UserRow;
use crate::mail::address::Address;
use crate::net::offload::Priority;
use crate::store::AccountId;
use crate::store::accounts;
use crate::store::accounts::NewAccount;

/// Accounts read in one transaction.
const PAGE: usize = 200;
/// States of an account in `user list`.
const ACTIVE: &str = "active";
/// The mail is kept, but none comes in and nobody logs in until the `[[domain]]` is back in the configuration.
const NO_DOMAIN: &str = "no such domain";

async fn hashed(instance: &Instance, password: String) -> Result<String, Failure> {
    let again = "try again in a moment";
    let hash = instance.offload.run(Priority::Other, move || passwords::hash(&password)).await;
    let hash = hash.map_err(|error| Failure::new(format!("the password could not be hashed: {error}"), again))?;
    hash.ok_or_else(|| Failure::new("the password could not be hashed: no memory or no randomness", again))
}

/// The account of an address, or the sentence that says there is none.
pub(crate) fn find(instance: &Instance, address: &Address) -> Result<AccountId, Failure> {
    let found = instance.store.read(|reader| accounts::find(reader, address))?;
    found.ok_or_else(|| Failure::new(format!("there is no account {address}"), "`pipit user list` shows the accounts"))
}

/// Makes an account; its domain must be ours and its address must not be an alias.
pub async fn add(instance: &Instance, address: Address, password: String) -> Result<(), Failure> {
    let settings = instance.live.current();
    if !settings.is_local(&address.domain) {
        let domains: Vec<&str> = settings.local_domains().map(|domain| domain.as_str()).collect();
        let hint = format!(
            "domains of this server: {}; another one is added as a [[domain]] block in {}",
            domains.join(", "),
            instance.file.display()
        );
        return Err(Failure::new(format!("{} is not a domain of this server", address.domain), hint));
    }
    if settings.alias(&address).is_some() {
        return Err(Failure::new(
            format!("{address} is an alias, which would hide the account"),
            format!("remove it first: pipit alias remove {address}"),
        ));
    }
    let new = NewAccount { address: address.clone(), password: hashed(instance, password).await?, created: instance.clock.now() };
    let made = instance.store.write(move |writer| accounts::create(writer, new)).await?;
    if made.is_err() {
        let hint = format!("to change its password: pipit user passwd {address}");
        return Err(Failure::new(format!("the account {address} exists already"), hint));
    }
    info!("account {address} added");
    Ok(())
}

/// One row an account.
pub async fn list<C: Channel>(instance: &Instance, channel: &mut C) -> Result<(), Failure> {
    let settings = instance.live.current();
    let mut after = None;
    loop {
        let page = instance.store.read(|reader| accounts::list(reader, after, PAGE))?;
        let Some((last, _)) = page.last() else { return Ok(()) };
        after = Some(*last);
        for (_, account) in page {
            let fields = UserRow {
                address: account.address.to_string(),
                messages: account.messages,
                bytes: account.used_bytes,
                created: account.created.to_string(),
                state: if settings.is_local(&account.address.domain) { ACTIVE } else { NO_DOMAIN }.to_owned(),
            };
            row(channel, &fields).await?;
        }
    }
}

pub async fn set_password(instance: &Instance, address: &Address, password: String) -> Result<(), Failure> {
    let id = find(instance, address)?;
    let hash = hashed(instance, password).await?;
    let set = instance.store.write(move |writer| accounts::set_password(writer, id, hash)).await?;
    set.map_err(|_| Failure::new(format!("the account {address} was removed meanwhile"), "nothing was changed"))?;
    info!("password of {address} changed");
    Ok(())
}

/// Removes an account with all its mail.
pub async fn remove(instance: &Instance, address: &Address) -> Result<(), Failure> {
    let id = find(instance, address)?;
    let removed = instance.store.write(move |writer| accounts::remove(writer, id)).await?;
    removed.map_err(|_| Failure::new(format!("the account {address} was removed meanwhile"), "nothing was changed"))?;
    info!("account {address} removed with its mail");
    Ok(())
}
