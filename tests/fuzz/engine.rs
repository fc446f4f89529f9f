//! Runs one target: seeds, corpus, then mutations of both until the time is up.
//!
//! Blind mutation finds less than coverage guidance, but needs no nightly compiler; cargo-fuzz can call the same
//! functions. Failing inputs are written to `target/fuzz-NAME-failed` and shown escaped, with the seed.

use std::hash::BuildHasher;
use std::hash::RandomState;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;

/// For a developer's `cargo test`; CI sets 20.
const DEFAULT_SECONDS: u64 = 2;
/// Mutations grow inputs no further; limits of the parsers that lie higher have tests of their own.
const MAX_INPUT: usize = 16 * 1024;
/// One input takes microseconds; this much, on a busy machine and without optimisation, is a parser that is not linear.
const TOO_SLOW: Duration = Duration::from_secs(5);
/// Octets that end, open, close or escape something somewhere.
const INTERESTING: &[u8] = b"\r\n\0.<>@:;,=?()[]\"\\ \t\xff\xc3\x80%+-_{}#'";
/// Pieces that no chain of single octets would find soon.
const PIECES: &[&[u8]] =
    &[b"\r\n.\r\n", b"\n.\n", b"\r\n", b"\r\n\r\n", b"\r\n ", b"=?utf-8?q?=", b"?=", b"xn--", b"[IPv6:", b"\xf0\x9f\x98\x80"];

/// xorshift64*: small, and the same everywhere.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed | 1)
    }

    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// 0 to `bound` - 1; 0 if the bound is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.roll() >> 16) as usize % bound.max(1)
    }
}

/// Plays `target`; panics with everything that is needed to repeat it.
pub fn run(name: &str, seeds: &[&[u8]], target: fn(&[u8])) {
    let seconds = number("PIPIT_FUZZ_SECONDS").unwrap_or(DEFAULT_SECONDS);
    let seed = number("PIPIT_FUZZ_SEED").unwrap_or_else(|| RandomState::new().hash_one(name));
    println!("fuzz {name}: PIPIT_FUZZ_SEED={seed} PIPIT_FUZZ_SECONDS={seconds}");
    let mut pool: Vec<Vec<u8>> = seeds.iter().map(|seed| seed.to_vec()).collect();
    pool.extend(corpus(name));
    assert!(!pool.is_empty(), "{name} has nothing to begin with");
    for input in &pool {
        play(name, seed, input, target);
    }
    let mut dice = Dice::new(seed);
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut count = 0u64;
    while Instant::now() < until {
        let mut input = pool[dice.below(pool.len())].clone();
        for _ in 0..=dice.below(6) {
            mutate(&mut input, &pool, &mut dice);
        }
        input.truncate(MAX_INPUT);
        play(name, seed, &input, target);
        count += 1;
    }
    println!("fuzz {name}: {count} inputs");
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(name);
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths.iter().filter_map(|path| std::fs::read(path).ok()).collect()
}

fn play(name: &str, seed: u64, input: &[u8], target: fn(&[u8])) {
    let begin = Instant::now();
    let outcome = catch_unwind(AssertUnwindSafe(|| target(input)));
    let slow = begin.elapsed() > TOO_SLOW;
    if outcome.is_ok() && !slow {
        return;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target").join(format!("fuzz-{name}-failed"));
    let kept = std::fs::write(&path, input).map_or_else(|error| error.to_string(), |()| path.display().to_string());
    let what = if slow { "is slow" } else { "failed" };
    panic!("fuzz {name} {what} with PIPIT_FUZZ_SEED={seed} on \"{}\" (kept: {kept})", input.escape_ascii());
}

fn mutate(input: &mut Vec<u8>, pool: &[Vec<u8>], dice: &mut Dice) {
    let at = dice.below(input.len() + 1);
    let end = at + dice.below((input.len() - at).min(64) + 1);
    match dice.below(10) {
        0 if at < input.len() => input[at] ^= 1 << dice.below(8),
        1 if at < input.len() => input[at] = INTERESTING[dice.below(INTERESTING.len())],
        0..=2 => input.insert(at, INTERESTING[dice.below(INTERESTING.len())]),
        3 => {
            input.drain(at..end);
        }
        4 => {
            let piece = input[at..end].to_vec();
            let times = 1 + dice.below(40);
            input.splice(at..at, piece.repeat(times));
        }
        5 | 6 => {
            input.splice(at..at, PIECES[dice.below(PIECES.len())].iter().copied());
        }
        7 => input.truncate(at),
        8 => {
            let other = &pool[dice.below(pool.len())];
            let from = dice.below(other.len() + 1);
            input.splice(at..end, other[from..].iter().copied());
        }
        _ => input.insert(at, dice.below(256) as u8),
    }
}
