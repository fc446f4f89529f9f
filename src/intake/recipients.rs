//! Whose mailbox a forward-path means here (section 5.1 of RFC 5321 ends where the domain is ours).
//!
//! In goes a forward-path and one read transaction; out come the accounts that get the message. The order of the
//! look-ups is the settings' business (`Settings::lookups`); whether an account exists is the store's.

use crate::config::settings::Lookup;
use crate::config::settings::Settings;
use crate::mail::address::Address;
use crate::mail::path::ForwardPath;
use crate::store::AccountId;
use crate::store::Error;
use crate::store::Reader;
use crate::store::accounts;

/// One copy of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    pub account: AccountId,
    /// for Delivered-To: the address the message was for, after aliases
    pub address: Address,
}

/// What RCPT is answered from.
#[derive(Debug, PartialEq, Eq)]
pub enum Resolved {
    Here(Vec<Destination>),
    /// one of the accounts has no room for the declared size
    Full,
    Unknown,
    NotLocal,
}

/// Finds the accounts behind a forward-path. `declared`: octets of SIZE=, 0 if none.
pub fn resolve(reader: &Reader<'_>, settings: &Settings, path: &ForwardPath, declared: u64) -> Result<Resolved, Error> {
    let Some(lookups) = settings.lookups(path) else { return Ok(Resolved::NotLocal) };
    for lookup in lookups {
        let found = match lookup {
            Lookup::Account(address) => find(reader, settings, &address)?.into_iter().collect(),
            Lookup::Alias(targets) => alias_targets(reader, settings, &targets)?,
            Lookup::FirstAccount => first_account(reader)?.into_iter().collect(),
        };
        if !found.is_empty() {
            return room(reader, settings, found, declared);
        }
    }
    Ok(Resolved::Unknown)
}

fn find(reader: &Reader<'_>, settings: &Settings, address: &Address) -> Result<Option<Destination>, Error> {
    if let Some(account) = accounts::find(reader, address)? {
        return Ok(Some(Destination { account, address: address.clone() }));
    }
    let Some(plain) = settings.without_tag(address) else { return Ok(None) };
    Ok(accounts::find(reader, &plain)?.map(|account| Destination { account, address: address.clone() }))
}

/// Targets whose account is gone are left out: the others still get their mail.
fn alias_targets(reader: &Reader<'_>, settings: &Settings, targets: &[Address]) -> Result<Vec<Destination>, Error> {
    let mut found: Vec<Destination> = Vec::with_capacity(targets.len());
    for target in targets {
        if let Some(destination) = find(reader, settings, target)?
            && !found.iter().any(|other| other.account == destination.account)
        {
            found.push(destination);
        }
    }
    Ok(found)
}

fn first_account(reader: &Reader<'_>) -> Result<Option<Destination>, Error> {
    let first = accounts::list(reader, None, 1)?.into_iter().next();
    Ok(first.map(|(account, row)| Destination { account, address: row.address }))
}

/// A quota stops a message whose declared size would overstep it; one that declares nothing may overstep it once. A
/// full mailbox behind an alias goes without: the others must not wait for its owner.
fn room(reader: &Reader<'_>, settings: &Settings, found: Vec<Destination>, declared: u64) -> Result<Resolved, Error> {
    let mut with_room = Vec::with_capacity(found.len());
    for destination in found {
        let Some(account) = accounts::get(reader, destination.account)? else { continue };
        let after = account.used_bytes.saturating_add(declared.max(1));
        if settings.quota(&account.address).is_none_or(|quota| after <= quota) {
            with_room.push(destination);
        } else {
            log::info!("the mailbox of {} is full; a message for it was refused", account.address);
        }
    }
    if with_room.is_empty() { Ok(Resolved::Full) } else { Ok(Resolved::Here(with_room)) }
}
