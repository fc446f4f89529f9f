//! `pipit localserve` from outside: mail between its two servers, names that are proved, and a clean end.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use crate::rig::feed;

const PATIENCE: Duration = Duration::from_secs(40);

/// A running one, with a runtime folder of its own; it ends with its test: one that stayed behind would keep its ports from
/// the next run.
struct Localserve {
    runtime: PathBuf,
    server: Child,
    /// of the server for home.test
    dir: String,
}

impl Drop for Localserve {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.runtime);
        }
    }
}

fn command(runtime: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pipit"));
    command.args(arguments).env("XDG_RUNTIME_DIR", runtime).stdin(Stdio::null());
    command
}

impl Localserve {
    fn start() -> Localserve {
        let runtime = std::env::temp_dir().join(format!("pipit-runtime-{}", std::process::id()));
        fs::create_dir_all(&runtime).unwrap();
        fs::set_permissions(&runtime, fs::Permissions::from_mode(0o700)).unwrap();
        let into = |name: &str| fs::File::create(runtime.join(name)).unwrap();
        let server = command(&runtime, &["localserve"]).stdout(into("told")).stderr(into("log")).spawn().unwrap();
        let mut started = Localserve { runtime, server, dir: String::new() };
        let begun = Instant::now();
        while !started.pipit(&["mail", "list", "ann@home.test", "--json"]).status.success() {
            assert!(begun.elapsed() < PATIENCE, "localserve does not answer");
            assert!(started.server.try_wait().unwrap().is_none(), "localserve ended: {}", started.log());
            std::thread::sleep(Duration::from_millis(50));
        }
        let status = started.fine(&["status", "--json"]);
        started.dir = status.split("\"dir\":\"").nth(1).unwrap().split('"').next().unwrap().to_string();
        started
    }

    fn log(&self) -> String {
        fs::read_to_string(self.runtime.join("log")).unwrap()
    }

    fn told(&self) -> String {
        fs::read_to_string(self.runtime.join("told")).unwrap()
    }

    fn pipit(&self, arguments: &[&str]) -> Output {
        command(&self.runtime, arguments).output().unwrap()
    }

    fn fine(&self, arguments: &[&str]) -> String {
        let output = self.pipit(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}\n{}", self.log());
        String::from_utf8(output.stdout).unwrap()
    }

    fn send(&self, arguments: &[&str], subject: &str) {
        let sent = feed(&mut command(&self.runtime, arguments), &format!("Subject: {subject}\n\nx\n"));
        assert!(sent.status.success(), "{arguments:?}: {sent:?}");
    }

    fn until(&self, what: &str, check: impl Fn() -> bool) {
        let begun = Instant::now();
        while !check() {
            assert!(begun.elapsed() < PATIENCE, "never happened: {what}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// localserve uses fixed ports, so everything about it is one test.
#[test]
fn localserve_keeps_its_hands_off_a_running_one_and_cleans_up() {
    let mut local = Localserve::start();
    let dir = local.dir.clone();
    mail_goes_there_and_back(&local);
    names_are_proved(&local);
    others_validate_too(&local);
    what_is_bogus_waits(&local);
    let anchor = fs::read_to_string(format!("{dir}/anchor.ds")).unwrap();
    let fresh = local.pipit(&["--dir", &dir, "localserve", "--fresh"]);
    assert_eq!(fresh.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&fresh.stderr).contains("a server is running"), "{fresh:?}");
    let second = local.pipit(&["--dir", &dir, "localserve"]);
    assert!(String::from_utf8_lossy(&second.stderr).contains("another localserve is running"), "{second:?}");
    assert_eq!(fs::read_to_string(format!("{dir}/anchor.ds")).unwrap(), anchor, "the anchor of the one that runs");
    assert!(Path::new(&dir).join("mail.mdb").exists());
    local.fine(&["stop"]);
    assert!(local.server.wait().unwrap().success());
    assert!(!Path::new(&dir).exists(), "the temporary directory stays");
    assert!(!local.runtime.join("pipit/localserve").exists(), "the note stays");
    assert_eq!(local.pipit(&["status"]).status.code(), Some(1));
    // Without an anchor of its own it would believe the root's, and nothing of this world.
    let old = local.runtime.join("old");
    fs::create_dir(&old).unwrap();
    fs::write(old.join("pipit.toml"), "# pipit localserve: a demonstration on loopback\nhostname = \"mx.home.test\"\n").unwrap();
    let kept = local.pipit(&["--dir", old.to_str().unwrap(), "localserve"]);
    let said = String::from_utf8_lossy(&kept.stderr);
    assert!(kept.status.code() == Some(1) && said.contains("has no trust anchor") && said.contains("--fresh"), "{said}");
}

/// From one server through queue, DNS and SMTP to the other, and back.
fn mail_goes_there_and_back(local: &Localserve) {
    let friend = format!("{}/friend", local.dir);
    local.send(&["send", "-f", "ann@home.test", "bob@friend.test"], "there");
    local.send(&["--dir", &friend, "send", "-f", "bob@friend.test", "ann@home.test"], "back");
    let has = |arguments: &[&str], what: &str| local.fine(arguments).contains(what);
    local.until("mail there and back", || {
        has(&["--dir", &friend, "mail", "list", "bob@friend.test", "--json"], "\"subject\":\"there\"")
            && has(&["mail", "list", "ann@home.test", "--json"], "\"subject\":\"back\"")
            && !has(&["queue", "list", "--json"], "friend.test")
            && !has(&["--dir", &friend, "queue", "list", "--json"], "home.test")
    });
}

/// By our own resolver, with the anchor that localserve wrote.
fn names_are_proved(local: &Localserve) {
    let anchor = format!("{}/anchor.ds", local.dir);
    assert!(local.told().contains(&anchor), "{}", local.told());
    let rows = [
        ("_25._tcp.mx.dane.test", "TLSA", "secure", "NOERROR"),
        ("_25._tcp.mx.home.test", "TLSA", "secure", "NOERROR"),
        ("_25._tcp.mx.opportunistic.test", "TLSA", "secure", "NXDOMAIN"),
        ("plain.test", "MX", "insecure", "NOERROR"),
        ("1.0.0.127.in-addr.arpa", "PTR", "insecure", "NOERROR"),
        ("bogus.test", "MX", "bogus", "SERVFAIL"),
    ];
    for (name, kind, status, rcode) in rows {
        let asked = ["dns", "lookup", "--upstream", "127.0.0.1:1053", "--trust-anchor", &anchor, "--json", name, kind];
        let output = local.pipit(&asked);
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.contains(&format!("\"status\":\"{status}\"")) && said.contains(&format!("\"rcode\":\"{rcode}\"")), "{name}: {said}");
        assert_eq!(output.status.code(), Some(i32::from(status == "bogus")), "{name}");
        assert_eq!(said.contains("\"code\":6"), status == "bogus", "{name}: {said}");
    }
}

/// By BIND's validator, which CI has.
fn others_validate_too(local: &Localserve) {
    let keys = format!("{}/delv.keys", local.dir);
    let rows = [
        ("_25._tcp.mx.dane.test", "TLSA", "; fully validated"),
        ("_25._tcp.mx.friend.test", "TLSA", "; fully validated"),
        ("www.friend.test", "A", "; fully validated"),
        ("missing.test", "A", "; negative response, fully validated"),
        ("_tcp.mx.dane.test", "TLSA", "; negative response, fully validated"),
        ("plain.test", "DS", "; negative response, fully validated"),
        ("plain.test", "MX", "; unsigned answer"),
        ("bogus.test", "MX", "no valid signature found"),
    ];
    for (name, kind, expected) in rows {
        let asked = Command::new("delv").args(["@127.0.0.1", "-p", "1053", "-a", &keys, "+root=test", name, kind]).output();
        let output = match asked {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return println!("delv (bind9-dnsutils) is not installed: nobody else validates");
            }
            asked => asked.unwrap(),
        };
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(said.contains(expected), "{name} {kind}: {said}");
    }
}

/// A downgrade would be to try without proof, or to tell the sender that the domain does not exist.
fn what_is_bogus_waits(local: &Localserve) {
    local.send(&["send", "-f", "ann@home.test", "x@bogus.test"], "who are you?");
    let row = || local.fine(&["queue", "list", "--json"]).lines().find(|line| line.contains("bogus.test")).map(str::to_owned);
    local.until("the reason in the queue", || row().is_some_and(|row| row.contains("signature")));
    let row = row().unwrap();
    let id = row.split("\"id\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let shown = local.fine(&["queue", "show", &id]);
    for part in ["x@bogus.test", "bogus.test.", "DNSSEC Bogus"] {
        assert!(shown.contains(part), "{part} not in {shown}");
    }
}
