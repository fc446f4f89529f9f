//! The `pipit.toml` that a new installation begins with: what must be set is set, all else stands there as a comment
//! with its default, made from the table of keys.

use crate::config::file::quoted;
use crate::config::keys::BLOCKS;
use crate::config::keys::Key;
use crate::config::keys::TABLE;
use crate::config::keys::Without;
use crate::config::settings::FirstUser;
use crate::mail::domain::Domain;

/// What differs from one installation to the next.
pub struct Beginning<'a> {
    pub hostname: &'a Domain,
    pub domain: &'a Domain,
    /// an absolute path; `None` leaves the default
    pub dir: Option<&'a str>,
    pub first_user: Option<&'a FirstUser>,
}

const HEAD: &str = "\
# Configuration of Pipit. Check it with `pipit config check`, apply it with `pipit reload`.
# A line that begins with # is a comment; the values shown in comments are the defaults.
# `pipit config explain KEY` tells more about a key.
";

/// The whole text. It passes the check if the names in it are valid.
pub fn write(beginning: &Beginning<'_>) -> String {
    let mut out = HEAD.to_owned();
    let mut section = "";
    for key in TABLE.iter().filter(|key| key.block().is_none()) {
        let first = key.name.split_once('.').map_or("", |(first, _)| first);
        if first != section {
            out.push_str(&format!("\n[{first}]\n"));
            section = first;
        }
        write_key(&mut out, key, set_value(beginning, key.name));
    }
    write_block(&mut out, "domain", &[("name", quoted(beginning.domain.as_str()))]);
    match beginning.first_user {
        Some(user) => {
            let address = quoted(&user.address.to_string());
            write_block(&mut out, "first-user", &[("address", address), ("password", quoted(user.password.expose()))]);
        }
        None => write_block(&mut out, "first-user", &[]),
    }
    for block in BLOCKS.into_iter().filter(|block| !["domain", "first-user"].contains(block)) {
        write_block(&mut out, block, &[]);
    }
    out
}

fn set_value(beginning: &Beginning<'_>, name: &str) -> Option<String> {
    match name {
        "hostname" => Some(quoted(beginning.hostname.as_str())),
        "dir" => beginning.dir.map(quoted),
        _ => None,
    }
}

fn write_key(out: &mut String, key: &Key, value: Option<String>) {
    let name = key.name.rsplit('.').next().unwrap_or(key.name);
    if key.name == name {
        out.push('\n');
    }
    out.push_str(&format!("# {}\n", key.help));
    match (value, key.without) {
        (Some(value), _) => out.push_str(&format!("{name} = {value}\n")),
        (None, Without::Value(default)) => out.push_str(&format!("# {name} = {default}\n")),
        (None, Without::Nothing(words)) => out.push_str(&format!("# {name} = {}  # not set: {words}\n", key.example)),
        (None, Without::Fault) => out.push_str(&format!("# {name} = {}\n", key.example)),
    }
}

/// A block with its keys set, or all of it as a comment.
fn write_block(out: &mut String, block: &str, set: &[(&str, String)]) {
    let mark = if set.is_empty() { "# " } else { "" };
    let own = || TABLE.iter().filter(|key| key.block() == Some(block));
    out.push('\n');
    for key in own() {
        out.push_str(&format!("# {}: {}\n", key.written(), key.help));
    }
    out.push_str(&format!("{mark}[[{block}]]\n"));
    for key in own() {
        match set.iter().find(|(name, _)| *name == key.written()) {
            Some((name, value)) => out.push_str(&format!("{name} = {value}\n")),
            None => out.push_str(&format!("# {} = {}\n", key.written(), key.example)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::check::check;
    use crate::config::settings::Secret;
    use crate::mail::address::Address;

    #[test]
    fn the_template_is_sound_and_complete() {
        let names = (Domain::parse("mail.example.org").unwrap(), Domain::parse("example.org").unwrap());
        let user = FirstUser { address: Address::parse("ann@example.org").unwrap(), password: Secret::new("say \"friend\"".to_owned()) };
        for first_user in [None, Some(&user)] {
            let text = write(&Beginning { hostname: &names.0, domain: &names.1, dir: Some("/srv/mail"), first_user });
            let settings = check(&text).unwrap_or_else(|faults| panic!("{faults:#?}\n{text}"));
            assert_eq!(settings.hostname, names.0);
            assert_eq!(settings.first_users.first(), first_user);
            assert_eq!(settings.dir.to_str(), Some("/srv/mail"));
            for key in TABLE {
                let written = format!("{} = ", key.name.rsplit('.').next().unwrap());
                assert!(text.lines().any(|line| line.trim_start_matches("# ").starts_with(&written)), "{}", key.name);
            }
        }
    }

    #[test]
    fn every_default_that_is_shown_is_the_default() {
        let names = (Domain::parse("mail.example.org").unwrap(), Domain::parse("example.org").unwrap());
        let text = write(&Beginning { hostname: &names.0, domain: &names.1, dir: None, first_user: None });
        let plain = check(&text).unwrap();
        let uncommented: String = text
            .lines()
            .map(|line| line.strip_prefix("# ").filter(|line| line.contains(" = ") && !line.contains("not set")).unwrap_or(line))
            .fold(String::new(), |all, line| all + line + "\n");
        let top = &uncommented[..uncommented.find("[[").unwrap()];
        let all = check(&format!("{top}\n[[domain]]\nname = \"example.org\"\n")).unwrap_or_else(|faults| panic!("{faults:#?}\n{top}"));
        assert_eq!(plain, all);
    }
}
