//! The configuration as its users see it: files with faults and the sentences that name them, and edits that leave
//! every other byte alone.

use proptest::prelude::*;

use pipit::config::check::check;
use pipit::config::check::check_bytes;
use pipit::config::diff::unified;
use pipit::config::edit;
use pipit::config::file;
use pipit::config::file::MAX_TEXT;
use pipit::config::settings::Settings;
use pipit::mail::address::Address;
use pipit::mail::date::UnixTime;

const HEAD: &str = "hostname = \"mail.example.org\"\n";
const DOMAIN: &str = "[[domain]]\nname = \"example.org\"\n";

fn faults(text: &str) -> Vec<String> {
    match check(text) {
        Ok(_) => Vec::new(),
        Err(faults) => faults.iter().map(ToString::to_string).collect(),
    }
}

fn address(text: &str) -> Address {
    Address::parse(text).expect("the tests write valid addresses")
}

#[test]
fn five_faults_are_named_at_once() {
    let expected = [
        "line 2: the value of hostname needs quotes – write key = value, texts in \"quotes\"",
        "line 6: limits.connections: \"many\" is not a number – write e.g. limits.connections = 200",
        "line 7: limits.conections-per-minute: is not a key of this version – did you mean limits.connections-per-minute?",
        "line 11: domain.catch-all: example.net is not one of the domains of this file – use a domain of yours, or add [[domain]] with name = \"example.net\"",
        "line 15: alias.to: friend@elsewhere.example is at another server; this version delivers to its own accounts only – forwarding to other hosts comes with the outgoing queue; until then name a local address",
    ];
    assert_eq!(faults(include_str!("config/five-faults.toml")), expected);
}

#[test]
fn the_smallest_file_is_enough() {
    let settings = check(&format!("{HEAD}{DOMAIN}")).unwrap();
    assert_eq!((settings.limits.connections, settings.limits.message_size), (200, 35 << 20));
    assert_eq!(settings.dir.to_str(), Some("/var/lib/pipit"));
    assert_eq!(settings.listen.smtp.len(), 2);
    assert_eq!(settings.limits.quota, None);
    let text = format!("\u{feff}{HEAD}{DOMAIN}").replace('\n', "\r\n");
    assert_eq!(check_bytes(text.as_bytes()), Ok(settings));
}

/// Text behind the smallest file, and the end of the one fault it makes: (line behind `line `, words).
#[test]
fn each_slip_has_its_sentence() {
    let alias = |address: &str, to: &str| format!("[[alias]]\naddress = \"{address}\"\nto = \"{to}\"\n");
    let rows: [(String, &[&str]); 19] = [
        ("[[domain]]\nname = \"EXAMPLE.org.\"\n".into(), &["line 5: domain.name: example.org stands already in line 3"]),
        ("[[domain]]\n".into(), &["line 4: domain.name: is missing"]),
        ("[[alias]]\naddress = \"a@example.org\"\nto = []\n".into(), &["line 6: alias.to: the list is empty"]),
        (
            alias("a@example.org", "b@example.org") + &alias("A@example.org", "c@example.org"),
            &["line 8: alias.address: A@example.org stands already in line 5"],
        ),
        (
            alias("a@example.org", "b@example.org") + &alias("b@example.org", "A+x@example.org"),
            &[
                "line 6: alias.to: mail for a@example.org comes back to it by way of b@example.org",
                "line 9: alias.to: mail for b@example.org comes back",
            ],
        ),
        (alias("a@example.org", "a@example.org"), &["line 6: alias.to: mail for a@example.org comes back"]),
        (alias("a@example.net", "b@example.org"), &["line 5: alias.address: example.net is not one of the domains"]),
        (
            alias("a@example.org", "b@example.org") + "[[first-user]]\naddress = \"A@example.org\"\npassword = \"long enough\"\n",
            &["line 8: first-user.address: A@example.org is an alias"],
        ),
        (
            "[[first-user]]\naddress = \"a@example.org\"\npassword = \"short\"\n".into(),
            &["line 6: first-user.password: the password has fewer than 8"],
        ),
        ("[[quota]]\naddress = \"a@example.net\"\nsize = \"1G\"\n".into(), &["line 5: quota.address: example.net is not one"]),
        (
            "[listen]\nsmtp = [\"0.0.0.0:25\", \"[::]:25\",\n  \"127.0.0.1:25\"]\n".into(),
            &["line 6: listen.smtp: 127.0.0.1:25 is already part of 0.0.0.0:25"],
        ),
        ("[listen]\nsmtp = [\"127.0.0.1:0\", \"127.0.0.1:0\"]\n".into(), &[]),
        ("[tls]\nkey = \"/k\"\n".into(), &["line 5: tls.key: tls.certificate is missing beside it"]),
        ("[tls]\nkey = \"k\"\ncertificate = \"/c\"\n".into(), &["line 5: tls.key: \"k\" is not an absolute path"]),
        ("[alias]\nto = \"a@example.org\"\n".into(), &["line 5: alias.to: stands outside of a block – begin the block with [[alias]]"]),
        ("[[limits]]\nburst = 1\n".into(), &["line 4: limits: can stand only once – write [limits] with single brackets"]),
        ("[[alais]]\n".into(), &["line 4: alais: [[alais]] is not a block of this version – the blocks are [[domain]], [[alias]]"]),
        ("[limits]\nburst = 9\n[limits]\nburst = 8\n".into(), &["line 6: [limits] stands twice"]),
        ("x = 1\nx.y = 2\n".into(), &["line 4: domain.x: is not a key", "line 5: "]),
    ];
    for (text, expected) in rows {
        let found = faults(&format!("{HEAD}{DOMAIN}{text}"));
        assert_eq!(found.len(), expected.len(), "{text}\n{found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{text}\n{found}");
        }
    }
}

#[test]
fn what_is_missing_or_no_text_is_told() {
    assert_eq!(faults("").len(), 2);
    assert!(faults(DOMAIN)[0].starts_with("hostname: is missing – write e.g. hostname = "));
    assert!(faults(HEAD)[0].starts_with("domain: no domain is written"));
    let bad = check_bytes(b"# a\n# \xe4\n").unwrap_err();
    assert_eq!((bad.len(), bad[0].line), (1, 2));
    assert!(faults(&"#".repeat(MAX_TEXT + 1))[0].contains("larger than 1 MiB"));
}

#[test]
fn a_password_appears_in_no_fault() {
    for line in [
        "password = \"hunter2\"",
        "password = hunter2",
        "password = \"hunter2",
        "password = 'hunter2\"",
        "password = [\"hunter2\"]",
        "passwort = \"hunter2\"",
        "password = \"hunter2\\q\"",
    ] {
        let text = format!("{HEAD}{DOMAIN}[[first-user]]\naddress = \"a@example.org\"\n{line}\n");
        let found = faults(&text);
        assert!(!found.is_empty() && !found.concat().contains("hunter2"), "{line}: {found:#?}");
    }
}

/// A file that a person might write: comments, blanks, both line ends, sections in any order, with or without BOM.
fn any_file() -> impl Strategy<Value = String> {
    let noise = prop_oneof![Just(""), Just("\n"), Just("# a comment with = and [x] and \"\n"), Just("   \n\n"), Just("\t# burst = 1\n")];
    let limits = prop_oneof![
        Just(""),
        Just("[limits]\nburst=9#x\n"),
        Just(" [ limits ] # l\n  burst   =   0x9\n"),
        Just("[limits]\ntrusted = [\n  \"::1\", # me\n  # \"::2\"\n]\n"),
        Just("limits = { burst = 9 }\n"),
        Just("limits.burst = 9\n"),
    ];
    let alias = prop_oneof![
        Just(""),
        Just("[[alias]]\naddress = \"x@example.org\"\nto = [\n\"y@example.org\",\n]\n"),
        Just("[[alias]] # old\nto = 'y@example.org'\n\naddress = \"\"\"x@example.org\"\"\" # end\n"),
        Just("[[first-user]]\naddress = \"u@example.org\"\npassword = '[[alias]]###'\n"),
    ];
    let tail = prop_oneof![Just(""), Just("# end"), Just("[[domain]]\nname = \"example.net\""), Just("[log]\nlevel = \"warn\"\n")];
    let parts = (proptest::collection::vec(noise, 5), limits, alias, tail, any::<bool>(), any::<bool>());
    parts.prop_map(|(noise, limits, alias, tail, crlf, bom)| {
        let (top, below) = if limits.trim_start().starts_with('[') { ("", limits) } else { (limits, "") };
        let text = [noise[0], HEAD, noise[1], top, noise[2], DOMAIN, noise[3], below, alias, noise[4], tail].concat();
        let text = if crlf { text.replace('\n', "\r\n") } else { text };
        if bom { format!("\u{feff}{text}") } else { text }
    })
}

/// `new` is `old` with one stretch replaced; gives what was taken out and what was put in.
fn one_change<'a>(old: &'a str, new: &'a str) -> (&'a str, &'a str) {
    let shorter = old.len().min(new.len());
    let mut head = old.bytes().zip(new.bytes()).take_while(|(o, n)| o == n).count();
    while !old.is_char_boundary(head) {
        head -= 1;
    }
    let tail = old.bytes().rev().zip(new.bytes().rev()).take(shorter - head).take_while(|(o, n)| o == n).count();
    (&old[head..old.len() - tail], &new[head..new.len() - tail])
}

fn settings(text: &str) -> Settings {
    check(text).unwrap_or_else(|faults| panic!("{faults:#?}\n{text}"))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_set_changes_one_stretch_and_one_meaning(text in any_file()) {
        let before = settings(&text);
        let rows = [("limits.burst", "77"), ("hostname", "mx.example.org"), ("log.level", "debug"), ("limits.trusted", "10.0.0.0/8"), ("dir", "/d")];
        for (key, words) in rows {
            let new = edit::set(&text, key, words).unwrap();
            let (removed, added) = one_change(&text, &new);
            let ends = |text: &str| text.matches('\n').count();
            let old_value = file::read(&text).pairs.iter().find(|pair| pair.key == key).map_or(0, |pair| pair.place.len());
            prop_assert!(removed.len() <= old_value, "{removed:?}");
            prop_assert!(ends(added) <= 4, "{added:?}");
            prop_assert_eq!(new.matches("\r\n").count() == ends(&new), text.matches("\r\n").count() == ends(&text));
            let mut after = settings(&new);
            prop_assert_ne!(&after, &before);
            match key {
                "limits.burst" => after.limits.burst = before.limits.burst,
                "hostname" => after.hostname = before.hostname.clone(),
                "log.level" => after.log_level = before.log_level,
                "limits.trusted" => after.limits.trusted = before.limits.trusted.clone(),
                _ => after.dir = before.dir.clone(),
            }
            // A new line moves the lines of aliases.
            after.aliases.iter_mut().zip(&before.aliases).for_each(|(after, before)| after.line = before.line);
            prop_assert_eq!(&after, &before);
            prop_assert_eq!(edit::set(&new, key, words).unwrap(), new);
        }
    }

    #[test]
    fn an_alias_that_comes_and_goes_leaves_no_trace(text in any_file()) {
        let (info, ann) = (address("info@example.org"), address("ann@example.org"));
        let with = edit::add_alias(&text, &info, std::slice::from_ref(&ann)).unwrap();
        prop_assert_eq!(one_change(&text, &with).0, "");
        let meant = settings(&with);
        prop_assert_eq!(meant.alias(&info), Some(&[ann][..]));
        let without = edit::remove_alias(&with, &info).unwrap();
        let whole = if without == text { without } else { without.trim_end_matches(['\r', '\n']).to_owned() };
        prop_assert_eq!(whole, text);
    }

    #[test]
    fn a_first_user_is_replaced_by_one_line(text in any_file()) {
        let new = edit::consume_first_user(&text, UnixTime(0)).unwrap();
        prop_assert!(settings(&new).first_users.is_empty());
        if text.contains("first-user") {
            let (removed, added) = one_change(&text, &new);
            prop_assert!(removed.lines().count() == 3 && added.lines().count() == 1, "{removed:?} {added:?}");
            prop_assert!(!new.contains("###'"));
        } else {
            prop_assert_eq!(new, text);
        }
    }

    #[test]
    fn a_diff_rebuilds_the_new_text(old in proptest::collection::vec(0u8..4, 0..12), new in proptest::collection::vec(0u8..4, 0..12)) {
        let text = |lines: &[u8]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
        let shown = unified(&text(&old), &text(&new));
        let added = shown.lines().filter(|line| line.starts_with('+')).count();
        let removed = shown.lines().filter(|line| line.starts_with('-')).count();
        prop_assert_eq!(old.len() + added, new.len() + removed);
    }
}
