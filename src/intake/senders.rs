//! As whom an account may send (promise R15): the rule for MAIL FROM and for the authors in a header.
//!
//! Its own address, its address with a tag, and aliases that lead to it. Not a catch-all's addresses, which nobody has,
//! and not a tagged address that is another account or alias of its own: the rule follows the mail (`intake::recipients`).

use crate::config::settings::Settings;
use crate::mail::address::Address;
use crate::store::AccountId;
use crate::store::Error;
use crate::store::Reader;
use crate::store::accounts;

/// Whose an address is, seen from an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    Own,
    Foreign,
}

/// Whether mail of this account may bear the address.
pub fn may_send_as(reader: &Reader<'_>, settings: &Settings, account: AccountId, address: &Address) -> Result<Ownership, Error> {
    // An account that was removed has no address any more, nor one whose domain was taken out of the configuration: a
    // session may have begun before.
    if !accounts::get(reader, account)?.is_some_and(|row| settings.is_local(&row.address.domain)) {
        return Ok(Ownership::Foreign);
    }
    for candidate in [Some(address.clone()), settings.without_tag(address)].into_iter().flatten() {
        if let Some(targets) = settings.alias(&candidate) {
            return leads_to(reader, settings, account, targets);
        }
        if let Some(owner) = accounts::find(reader, &candidate)? {
            return Ok(if owner == account { Ownership::Own } else { Ownership::Foreign });
        }
    }
    Ok(Ownership::Foreign)
}

fn leads_to(reader: &Reader<'_>, settings: &Settings, account: AccountId, targets: &[Address]) -> Result<Ownership, Error> {
    for target in targets {
        let owner = match accounts::find(reader, target)? {
            None => settings.without_tag(target).map(|plain| accounts::find(reader, &plain)).transpose()?.flatten(),
            found => found,
        };
        if owner == Some(account) {
            return Ok(Ownership::Own);
        }
    }
    Ok(Ownership::Foreign)
}
