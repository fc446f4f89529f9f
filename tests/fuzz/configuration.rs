//! Everything that reads the configuration: checks, edits, explanations and differences, of any bytes.

use std::time::Duration;
use std::time::Instant;

use pipit::config::check::check;
use pipit::config::check::check_bytes;
use pipit::config::diff::unified;
use pipit::config::edit;
use pipit::config::explain;
use pipit::config::recover;
use pipit::mail::address::Address;
use pipit::mail::date::UnixTime;

pub const SEEDS: &[&[u8]] = &[
    include_bytes!("../config/five-faults.toml"),
    "\u{feff}hostname = 'm.example.org'\r\nlimits = { burst = 9 }\r\n[listen]\r\nsmtp = [\r\n\"[::]:25\", # x\r\n]\r\n[[domain]]\r\nname = \"example.org\"\r\n[[first-user]]\r\naddress = \"u@example.org\"\r\npassword = \"\"\"long enough\"\"\"\r\n".as_bytes(),
    b"hostname = \"m.example.org\"\ndir = \"/d\"\nalias = [{ address = \"a@example.org\", to = \"b@example.org\" }]\n[[domain]]\nname = \"example.org\"\ncatch-all = \"u@example.org\"\n[[quota]]\naddress = \"u@example.org\"\nsize = \"1G\"\n[tls]\nkey = \"/k\"\ncertificate = \"/c\"\n",
    b"[[[[\n]]]] ''' \"\"\" = # \\ , . a.b -1 \xef\xbb\xbf \xc3\xa9 \0",
];
/// What counts as hanging: a debug build on a busy machine does all of `target` in well under a second for a mutation
/// and in a few seconds for the hostile shapes.
const LONGEST: Duration = Duration::from_secs(30);

/// Must not panic nor hang, and what it accepts must keep its promises.
pub fn target(bytes: &[u8]) {
    let verdict = check_bytes(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else {
        assert!(verdict.is_err());
        return;
    };
    recover::parse(text);
    let lines = text.split('\n').count();
    if let Err(faults) = &verdict {
        assert!(!faults.is_empty());
        for fault in faults {
            assert!(fault.line <= lines, "line {} of {lines}: {fault}", fault.line);
            assert!(!fault.to_string().contains('\n'), "{fault:?}");
        }
    }
    assert_eq!(explain::show(text).is_ok(), verdict.is_ok());
    let alias = Address::parse("new@example.org").expect("a constant address parses");
    let edits = [
        edit::set(text, "limits.connections", "77"),
        edit::set(text, "log.level", "warn"),
        edit::add_alias(text, &alias, std::slice::from_ref(&alias)),
        edit::remove_alias(text, &Address::parse("info@example.org").expect("a constant address parses")),
        edit::consume_first_user(text, UnixTime(0)),
    ];
    for edited in edits.into_iter().flatten() {
        unified(text, &edited);
        if verdict.is_ok() {
            assert!(check(&edited).is_ok(), "a fault was added to\n{text}\nby\n{edited}");
        }
    }
}

#[test]
fn hostile_shapes_stay_cheap() {
    let alias = |n: usize, to: usize| format!("[[alias]]\naddress = \"a{n}@example.org\"\nto = \"a{to}@example.org\"\n");
    let head = "hostname = \"m.example.org\"\n[[domain]]\nname = \"example.org\"\n";
    let chain: String = (0..2000).map(|n| alias(n, n + 1)).collect();
    let star: String = (0..300).map(|n| alias(n, 0)).collect();
    for text in [
        head.to_owned() + &chain,
        head.to_owned() + &star,
        "[[[[".repeat(5000),
        "a=[".repeat(5000),
        "\"\"\"\n".repeat(5000),
        "x\n".repeat(20_000),
    ] {
        let began = Instant::now();
        target(text.as_bytes());
        assert!(began.elapsed() < LONGEST, "{}… took {:?}", &text[..20], began.elapsed());
    }
}
