//! Fuzzing of everything that reads the configuration. `target` is a plain function of bytes; the test runs it on
//! mutations of real files for two seconds. `SEED=…` repeats a run.

use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use pipit::config::check::check;
use pipit::config::check::check_bytes;
use pipit::config::diff::unified;
use pipit::config::edit;
use pipit::config::explain;
use pipit::config::recover;
use pipit::mail::address::Address;
use pipit::mail::date::UnixTime;

const CORPUS: [&str; 3] = [
    include_str!("config/five-faults.toml"),
    "\u{feff}hostname = 'm.example.org'\r\nlimits = { burst = 9 }\r\n[listen]\r\nsmtp = [\r\n\"[::]:25\", # x\r\n]\r\n[[domain]]\r\nname = \"example.org\"\r\n[[first-user]]\r\naddress = \"u@example.org\"\r\npassword = \"\"\"long enough\"\"\"\r\n",
    "hostname = \"m.example.org\"\ndir = \"/d\"\nalias = [{ address = \"a@example.org\", to = \"b@example.org\" }]\n[[domain]]\nname = \"example.org\"\ncatch-all = \"u@example.org\"\n[[quota]]\naddress = \"u@example.org\"\nsize = \"1G\"\n[tls]\nkey = \"/k\"\ncertificate = \"/c\"\n",
];
const WORDS: [&str; 24] = [
    "\"",
    "'",
    "\"\"\"",
    "'''",
    "[",
    "]",
    "[[",
    "]]",
    "{",
    "}",
    "=",
    "#",
    "\n",
    "\r\n",
    "\\",
    ",",
    ".",
    "[[alias]]\n",
    "[limits]\n",
    "a.b",
    "\u{feff}",
    "é",
    "\0",
    "-1",
];
const PATIENCE: Duration = Duration::from_secs(2);
/// What counts as hanging: a debug build on a busy machine does all of `target` in well under a second for a mutation
/// and in a few seconds for the hostile shapes.
const LONGEST: Duration = Duration::from_secs(30);

/// Must not panic nor hang, and what it accepts must keep its promises.
fn target(bytes: &[u8]) {
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

/// SplitMix64 (public domain, Sebastiano Vigna).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % end.max(1) as u64).expect("below a usize")
    }
}

fn mutated(dice: &mut Dice) -> Vec<u8> {
    let mut bytes = CORPUS[dice.below(CORPUS.len())].as_bytes().to_vec();
    for _ in 0..=dice.below(6) {
        let at = dice.below(bytes.len() + 1);
        let end = (at + dice.below(20)).min(bytes.len());
        match dice.below(6) {
            0 => drop(bytes.drain(at..end)),
            1 => drop(bytes.splice(at..at, WORDS[dice.below(WORDS.len())].bytes())),
            2 => drop(bytes.splice(at..end, WORDS[dice.below(WORDS.len())].bytes())),
            3 => {
                let piece = bytes[at..end].to_vec();
                let to = dice.below(bytes.len() + 1);
                bytes.splice(to..to, piece);
            }
            4 if at < bytes.len() => bytes[at] ^= 1 << dice.below(8),
            _ => bytes.truncate(at.max(bytes.len() / 2)),
        }
    }
    bytes
}

#[test]
fn mutations_of_real_files() {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos();
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or((now & u128::from(u64::MAX)) as u64);
    println!("SEED={seed}");
    let mut dice = Dice(seed);
    let start = Instant::now();
    let mut rounds = 0;
    while start.elapsed() < PATIENCE {
        let bytes = mutated(&mut dice);
        let began = Instant::now();
        target(&bytes);
        assert!(began.elapsed() < LONGEST, "{:?} took {:?}", String::from_utf8_lossy(&bytes), began.elapsed());
        rounds += 1;
    }
    println!("{rounds} rounds");
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
