//! Who may hand mail in without a login, and as whom: the rules of `pipit send` and the name `sendmail`.
//!
//! Root and the server's own user (`Caller::Owner`) may use every address of our domains. Another user of the machine must
//! have an account of the same name, and then uses that account's own addresses (promise R15), or stand in
//! `local-senders`, which is the administrator's word that this user (a web server, say) may use our domains' addresses.
//! A name without a domain, as cron writes it, is completed by the first domain of the configuration.
//! Not done here: recipients, the header, and filing (`inbound::handed_in`).

use crate::admin::Failure;
use crate::config::settings::Settings;
use crate::mail::address::Address;
use crate::mail::address::AddressError;
use crate::mail::address::LocalPart;
use crate::mail::domain::Domain;
use crate::mail::path::ReversePath;
use crate::store::AccountId;
use crate::store::Error;
use crate::store::Reader;
use crate::store::accounts;

/// Exit statuses of sysexits.h, which programs that call `sendmail` know; `pipit send` makes 1 or 2 of them.
pub const BAD_USAGE: u32 = 64;
pub const BAD_DATA: u32 = 65;
pub const NO_USER: u32 = 67;
pub const UNAVAILABLE: u32 = 69;
pub const TRY_LATER: u32 = 75;
pub const NO_PERMISSION: u32 = 77;
pub const BAD_CONFIGURATION: u32 = 78;

/// Who hands mail in, as the kernel says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// root, or the user that owns the directory
    Owner,
    User(String),
}

/// As whom a message is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sender {
    pub path: ReversePath,
    /// for the From field of a message that has none
    pub address: Address,
    pub account: Option<AccountId>,
    pub rule: Rule,
}

/// Which addresses the From field may show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// the owner forwards what it wants
    Any,
    /// of our domains
    OurDomains,
    /// of the account
    Own(AccountId),
}

/// A refusal with its status of sysexits.h.
pub fn refused(error: impl Into<String>, hint: &str, exit: u32) -> Failure {
    Failure { error: error.into(), hint: hint.to_owned(), exit }
}

/// The domain of names without one.
pub fn home_domain(settings: &Settings) -> &Domain {
    settings.local_domains().next().unwrap_or(&settings.hostname)
}

/// An address as people and programs write it: with its domain, or a name that is one of ours.
pub fn complete(settings: &Settings, text: &str) -> Result<Address, AddressError> {
    let text = text.trim();
    let text = text.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')).unwrap_or(text);
    match Address::parse(text) {
        Err(AddressError::NoAt) => Ok(Address { local: LocalPart::parse(text)?, domain: home_domain(settings).clone() }),
        parsed => parsed,
    }
}

fn stranger(name: &str) -> Failure {
    let hint = "make one of this name (pipit user add), or list the user in local-senders";
    refused(format!("the user {name} has no account here"), hint, NO_PERMISSION)
}

/// Whether the caller may hand in anything at all; the inner error is the refusal. As `sender` decides, before there is a
/// request.
pub fn admit(reader: &Reader<'_>, settings: &Settings, caller: &Caller) -> Result<Result<(), Failure>, Error> {
    Ok(match caller {
        Caller::Owner => Ok(()),
        Caller::User(name) if settings.local_senders.contains(name) || account_of(reader, settings, name)?.is_some() => Ok(()),
        Caller::User(name) => Err(stranger(name)),
    })
}

/// Decides as whom the caller sends. `from`: what `-f` said. The inner error is the refusal.
pub fn sender(reader: &Reader<'_>, settings: &Settings, caller: &Caller, from: Option<&str>) -> Result<Result<Sender, Failure>, Error> {
    let (account, rule, fallback) = match caller {
        Caller::Owner => (None, Rule::Any, fallback(reader, settings, "root")?),
        Caller::User(name) => match account_of(reader, settings, name)? {
            Some((id, address)) => (Some(id), Rule::Own(id), address),
            None if settings.local_senders.contains(name) => (None, Rule::OurDomains, fallback(reader, settings, name)?),
            None => return Ok(Err(stranger(name))),
        },
    };
    let Some(from) = from else {
        return Ok(Ok(Sender { path: ReversePath::Address(fallback.clone()), address: fallback, account, rule }));
    };
    if matches!(from.trim(), "" | "<>") {
        return Ok(Ok(Sender { path: ReversePath::Null, address: fallback, account, rule }));
    }
    let address = match complete(settings, from) {
        Ok(address) => address,
        Err(error) => return Ok(Err(refused(format!("{from:?} is no sender's address: {error}"), "-f NAME@DOMAIN", BAD_USAGE))),
    };
    if !settings.is_local(&address.domain) {
        let hint = "mail leaves under addresses of our own domains only";
        return Ok(Err(refused(format!("{address} is not an address of this server"), hint, NO_PERMISSION)));
    }
    // `-f root` where nobody is called root: a notice about the message must find somebody.
    let address = if from.contains('@') { address } else { self::fallback(reader, settings, from)? };
    Ok(Ok(Sender { path: ReversePath::Address(address.clone()), address, account, rule }))
}

/// The account of a user of the machine: the same name, in the first of our domains that has it.
fn account_of(reader: &Reader<'_>, settings: &Settings, name: &str) -> Result<Option<(AccountId, Address)>, Error> {
    let Ok(local) = LocalPart::parse(name) else { return Ok(None) };
    for domain in settings.local_domains() {
        let address = Address { local: local.clone(), domain: domain.clone() };
        if let Some(id) = accounts::find(reader, &address)? {
            return Ok(Some((id, address)));
        }
    }
    Ok(None)
}

/// The name in our first domain if it is an account or an alias there, else the postmaster, whose mail is always read.
fn fallback(reader: &Reader<'_>, settings: &Settings, name: &str) -> Result<Address, Error> {
    if let Ok(address) = complete(settings, name)
        && (settings.alias(&address).is_some() || accounts::find(reader, &address)?.is_some())
    {
        return Ok(address);
    }
    if let Some((_, address)) = account_of(reader, settings, name)? {
        return Ok(address);
    }
    postmaster(settings)
}

/// Who reads what nobody else does: `Settings::lookups` finds somebody in any case.
pub fn postmaster(settings: &Settings) -> Result<Address, Error> {
    let local = LocalPart::parse("postmaster").map_err(|_| Error::Withdrawn("postmaster is a name".into()))?;
    Ok(Address { local, domain: home_domain(settings).clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::check::check;

    #[test]
    fn names_are_completed_and_addresses_stay() {
        let settings =
            check("hostname = \"mx.home.test\"\n[[domain]]\nname = \"home.test\"\n[[domain]]\nname = \"second.test\"\n").unwrap();
        for (text, expected) in [
            ("root", "root@home.test"),
            ("<ann@Second.test>", "ann@second.test"),
            (" bob@x.example ", "bob@x.example"),
            ("\"a b\"", "\"a b\"@home.test"),
        ] {
            assert_eq!(complete(&settings, text).unwrap().to_string(), expected);
        }
        for text in ["", "a b", "a@", "@b.test", "a@b@c"] {
            assert!(complete(&settings, text).is_err(), "{text}");
        }
    }
}
