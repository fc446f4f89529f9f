//! `pipit clock` on a directory without a server: what is believed, and the way out of a floor in the future.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use pipit::mail::date::UnixTime;
use pipit::store::Options;
use pipit::store::Store;
use pipit::store::meta;
use smol::block_on;

const YEAR: i64 = 366 * 86_400;

struct Place(PathBuf);

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Place {
    /// A directory whose server saw the clock at `saved`.
    fn new(name: &str, saved: UnixTime) -> Place {
        let place = Place(std::env::temp_dir().join(format!("pipit-clock-{}-{name}", std::process::id())));
        fs::create_dir_all(&place.0).unwrap();
        let text = format!("hostname = \"mx.home.test\"\ndir = \"{}\"\n[[domain]]\nname = \"home.test\"\n", place.0.display());
        fs::write(place.0.join("pipit.toml"), text).unwrap();
        let store = Store::open(&place.0, Options { map_size: Some(64 << 20) }).unwrap();
        block_on(store.write(move |w| meta::set_last_good_time(w, saved))).unwrap();
        block_on(store.close());
        place
    }

    fn run(&self, words: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pipit"));
        command.arg("--config").arg(self.0.join("pipit.toml")).args(words.split(' ')).output().unwrap()
    }

    fn fine(&self, words: &str) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "{words}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

fn now() -> UnixTime {
    UnixTime(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().cast_signed())
}

#[test]
fn a_floor_in_the_future_is_forgotten_when_a_person_says_so() {
    let ahead = now().plus(2 * YEAR);
    let place = Place::new("ahead", ahead);
    let shown = place.fine("clock");
    for part in ["no: certainly wrong", &ahead.to_string(), "`pipit clock accept`"] {
        assert!(shown.contains(part), "{part} not in {shown}");
    }
    let status = place.fine("status");
    assert!(status.contains(&format!("but {ahead} was seen already")) && status.contains("`pipit clock accept`"), "{status}");
    assert!(place.fine("clock --json").contains("\"certainty\":\"unknown\""));
    assert!(place.fine("clock accept").contains("yes"));
    let shown = place.fine("clock --json");
    assert!(
        shown.contains("\"certainty\":\"confirmed\"") && shown.contains("\"problem\":\"\"") && !shown.contains(&ahead.to_string()),
        "{shown}"
    );
    assert!(!place.fine("status").contains("clock accept"));
}

#[test]
fn a_clock_above_its_floor_is_believed_and_help_tells_of_the_command() {
    let place = Place::new("fine", UnixTime(0));
    assert!(place.fine("clock").contains("yes"));
    assert!(place.fine("clock --help").contains("accept"));
    assert!(place.fine("clock accept --help").contains("the clock is right now"));
    assert_eq!(place.run("clock set").status.code(), Some(2));
}
