//! Passwords for programs: made by us, shown once, kept as SCRAM keys (`setup.md`).
//!
//! 130 random bits as 26 letters in six groups; whoever types one may leave the dashes away and use capitals where the
//! password itself is sent (PLAIN, LOGIN). With SCRAM the program hashes what was typed, so there it must be exact.

use log::info;
use ring::rand::SecureRandom;
use ring::rand::SystemRandom;

use crate::admin::Channel;
use crate::admin::Failure;
use crate::admin::Instance;
use crate::admin::logins;
use crate::admin::row;
use crate::admin::users;
use crate::admin::wire::AppPassRow;
use crate::mail::address::Address;
use crate::net::offload::Priority;
use crate::proto::smtp::sasl::scram;
use crate::store::accounts;
use crate::store::accounts::AppPassword;
use crate::store::accounts::AppPasswordRefused;
use crate::store::accounts::MAX_APP_PASSWORDS;
use crate::store::accounts::Removed;
use crate::store::accounts::ScramSalt;
use crate::store::meta;

/// 32 letters and digits, none of which is mistaken for another when read aloud; five bits each.
const LETTERS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// 130 bits.
const LENGTH: usize = 26;
const GROUPS: [usize; 6] = [5, 5, 4, 4, 4, 4];
/// Longest name of an app password, octets: a line of a listing.
const MAX_NAME: usize = 64;

/// A new one, as it is shown. `None` without randomness.
fn generate() -> Option<String> {
    let mut noise = [0; LENGTH];
    SystemRandom::new().fill(&mut noise).ok()?;
    let letters: String = noise.iter().map(|octet| char::from(LETTERS[usize::from(octet & 31)])).collect();
    Some(grouped(&letters))
}

fn grouped(letters: &str) -> String {
    let mut rest = letters;
    let groups = GROUPS.map(|length| {
        let (group, behind) = rest.split_at(length.min(rest.len()));
        rest = behind;
        group
    });
    groups.join("-")
}

/// The password in the form in which it was shown, if the text can be one.
pub(crate) fn canonical(text: &str) -> Option<String> {
    let letters: String = text.chars().filter(|c| !matches!(c, '-' | ' ')).map(|c| c.to_ascii_lowercase()).collect();
    let ours = letters.len() == LENGTH && letters.bytes().all(|letter| LETTERS.contains(&letter));
    ours.then(|| grouped(&letters))
}

fn check_name(name: &str) -> Result<(), Failure> {
    let fits = !name.trim().is_empty() && name.len() <= MAX_NAME && !name.chars().any(char::is_control);
    let error =
        || Failure::new(format!("{name:?} cannot be the name of an app password"), format!("choose up to {MAX_NAME} letters, e.g. phone"));
    if fits { Ok(()) } else { Err(error()) }
}

/// Makes an app password and shows it in one row.
pub async fn add<C: Channel>(instance: &Instance, channel: &mut C, address: &Address, name: String) -> Result<(), Failure> {
    check_name(&name)?;
    let id = users::find(instance, address)?;
    let again = "try again in a moment";
    let password = generate().ok_or_else(|| Failure::new("there is no randomness", again))?;
    let account = instance.store.read(|reader| accounts::get(reader, id))?;
    let existing = account.as_ref().filter(|account| !account.app_passwords.is_empty());
    let salt = match existing {
        Some(account) => ScramSalt { salt: account.scram_salt.clone(), iterations: account.scram_iterations },
        None => {
            // The salt that this name's challenges have had all along: a new one would tell that the account exists.
            let key = logins::salt_key(&instance.store.read(meta::instance_id)?);
            ScramSalt { salt: logins::salt_for(&key, &address.to_string()), iterations: scram::ITERATIONS }
        }
    };
    let (text, with) = (password.clone(), salt.clone());
    let keys = instance.offload.run(Priority::Other, move || scram::derive(&text, &with.salt, with.iterations)).await;
    let keys = keys.map_err(|error| Failure::new(format!("the password could not be hashed: {error}"), again))?;
    let created = instance.clock.now();
    let new = AppPassword { name: name.clone(), created, stored_key: keys.stored, server_key: keys.server };
    let kept = instance.store.write(move |writer| accounts::add_app_password(writer, id, salt, new)).await?;
    kept.map_err(|refused| refusal(refused, address, &name))?;
    info!("app password {name:?} of {address} made");
    let fields = AppPassRow { name, created: created.to_string(), password: Some(password) };
    row(channel, &fields).await?;
    Ok(())
}

fn refusal(refused: AppPasswordRefused, address: &Address, name: &str) -> Failure {
    match refused {
        AppPasswordRefused::NoSuchAccount => Failure::new(format!("the account {address} was removed meanwhile"), "nothing was changed"),
        AppPasswordRefused::NameTaken => {
            let hint = format!("remove it first: pipit user apppass remove {address} {name}");
            Failure::new(format!("{address} has an app password {name:?} already"), hint)
        }
        AppPasswordRefused::TooMany => {
            let hint = format!("remove those that are not used: pipit user apppass list {address}");
            Failure::new(format!("{address} has {MAX_APP_PASSWORDS} app passwords already"), hint)
        }
        AppPasswordRefused::OtherSalt => Failure::new("another app password was made at the same moment", "try again"),
    }
}

/// One row an app password, oldest first; the passwords themselves are known to nobody.
pub async fn list<C: Channel>(instance: &Instance, channel: &mut C, address: &Address) -> Result<(), Failure> {
    let id = users::find(instance, address)?;
    let account = instance.store.read(|reader| accounts::get(reader, id))?;
    for app in account.map(|account| account.app_passwords).unwrap_or_default() {
        row(channel, &AppPassRow { name: app.name, created: app.created.to_string(), password: None }).await?;
    }
    Ok(())
}

pub async fn remove(instance: &Instance, address: &Address, name: String) -> Result<(), Failure> {
    let id = users::find(instance, address)?;
    let wanted = name.clone();
    let removed = instance.store.write(move |writer| accounts::remove_app_password(writer, id, &wanted)).await?;
    match removed {
        Ok(Removed::One) => {
            info!("app password {name:?} of {address} removed");
            Ok(())
        }
        Ok(Removed::Nothing) => {
            let hint = format!("`pipit user apppass list {address}` shows them");
            Err(Failure::new(format!("{address} has no app password {name:?}"), hint))
        }
        Err(_) => Err(Failure::new(format!("the account {address} was removed meanwhile"), "nothing was changed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_password_has_26_letters_and_survives_how_people_type() {
        let password = generate().unwrap();
        assert_eq!((password.len(), password.split('-').count()), (31, 6));
        assert_ne!(generate().unwrap(), password);
        for typed in [password.clone(), password.to_uppercase(), password.replace('-', ""), password.replace('-', " ")] {
            assert_eq!(canonical(&typed).as_ref(), Some(&password));
        }
        for other in ["", "hunter22", &password[1..], &password.replace(|c: char| c != '-', "l")] {
            assert_eq!(canonical(other), None, "{other}");
        }
    }
}
