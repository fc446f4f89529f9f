//! `pipit dns lookup` as a person and as a program use it: the binary against a resolver of really signed zones.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

#[path = "resolver/signed.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod signed;

use std::path::PathBuf;
use std::process::Command;
use std::process::Output;

use pipit::proto::dns::RecordType;
use pipit::proto::dns::lookup::ExtendedError;
use pipit::proto::dns::lookup::InfoCode;
use signed::NOW;
use signed::Signed;

/// A file that goes away.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> File {
        let path = std::env::temp_dir().join(format!("pipit-lookup-{name}-{}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        File(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn pipit(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pipit")).args(words).current_dir("/").output().unwrap()
}

/// Looks up with the recorded anchor at the recorded time.
fn lookup(upstream: &Signed, anchors: &File, words: &[&str]) -> (i32, String, String) {
    let (address, at) = (upstream.address.to_string(), NOW.to_string());
    let fixed = ["dns", "lookup", "--upstream", &address, "--trust-anchor", anchors.path(), "--at", &at];
    let output = pipit(&[&fixed[..], words].concat());
    let text = |octets| String::from_utf8(octets).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// The digits behind `"ms":` are nobody's promise, nor are the tags of keys that are made anew.
fn without_numbers(json: &str) -> String {
    let (mut out, mut hidden) = (String::new(), false);
    for part in json.split_inclusive(['[', ']', ':', '}']) {
        let text = if hidden { part.trim_start_matches(|c: char| c.is_ascii_digit() || c == ',') } else { part };
        out.push_str(text);
        hidden = out.ends_with("\"keys\":[") || out.ends_with("\"ms\":");
    }
    out
}

#[test]
fn the_object_has_these_keys_in_this_order() {
    let (upstream, anchors) = (Signed::honest(), File::new("json", &signed::recorded().0));
    let json = |words: &[&str]| {
        let (exit, out, _) = lookup(&upstream, &anchors, &[words, &["--json"]].concat());
        (exit, without_numbers(out.trim_end()))
    };
    let zone = |name: &str| format!("{{\"zone\":\"{name}\",\"status\":\"secure\",\"keys\":[],\"why\":\"\"}}");
    let secure = [zone("."), zone("test."), zone("p256.test.")].join(",");
    let mx = "\"p256.test. 300 MX 10 mail.p256.test.\"";
    let (exit, out) = json(&["p256.test", "MX"]);
    let expected = format!("{{\"rcode\":\"NOERROR\",\"status\":\"secure\",\"ede\":[],\"answers\":[{mx}],\"chain\":[{secure}],\"ms\":}}");
    assert_eq!((exit, out), (0, expected));
    let (exit, out) = json(&["nothing.p256.test", "TYPE65400"]);
    let expected = "{\"rcode\":\"SERVFAIL\",\"status\":\"indeterminate\",\"ede\":[{\"code\":0,";
    assert!(exit == 1 && out.starts_with(expected), "{out}");
    let (exit, out) = json(&["nothing.p256.test", "A"]);
    let expected = format!("{{\"rcode\":\"NXDOMAIN\",\"status\":\"secure\",\"ede\":[],\"answers\":[],\"chain\":[{secure}],\"ms\":}}");
    assert_eq!((exit, out), (0, expected));
    let (exit, out) = json(&["www.expireda.test", "A"]);
    assert!(exit == 1 && out.starts_with("{\"rcode\":\"SERVFAIL\",\"status\":\"bogus\",\"ede\":[{\"code\":7,\"text\":\""), "{out}");
    let (exit, out) = json(&["www.plain.test", "A"]);
    assert!(exit == 0 && out.contains("\"status\":\"insecure\",\"ede\":[]"), "{out}");
    assert!(out.contains("{\"zone\":\"plain.test.\",\"status\":\"insecure\",\"keys\":[],\"why\":\""), "{out}");
}

#[test]
fn a_person_reads_the_answer_the_chain_and_the_reason() {
    let upstream = Signed::start(|asked, said| {
        if asked.is("www.expireda.test", RecordType::A) {
            said.errors.push(ExtendedError::new(InfoCode(7), "told\u{1b}[2J by it"));
        }
    });
    let anchors = File::new("text", &signed::recorded().0);
    let (exit, out, _) = lookup(&upstream, &anchors, &["p256.test", "MX"]);
    let head = "p256.test. 300 MX 10 mail.p256.test.\n\nstatus  secure, NOERROR in ";
    assert!(exit == 0 && out.starts_with(head), "{out}");
    assert!(out.contains("\nreason  every signature from the trust anchor to the answer holds\nzone    . secure by key "), "{out}");
    let (exit, out, error) = lookup(&upstream, &anchors, &["www.expireda.test", "A"]);
    assert!(exit == 1 && error.starts_with("pipit: www.expireda.test. A: no answer that can be used\n"), "{error}");
    assert!(out.contains("\nreason  the answer is bogus in expireda.test.: Signature Expired (7)"), "{out}");
    assert!(out.contains(&format!("Signature Expired (7): upstream {}: told [2J by it\n", upstream.address)), "{out}");
    let (exit, out, _) = lookup(&upstream, &anchors, &["www.p256.test", "MX"]);
    assert!(exit == 0 && out.starts_with("www.p256.test. has no MX records\n\nstatus  secure, NOERROR"), "{out}");
    let (exit, out, _) = lookup(&upstream, &anchors, &["nothing.p256.test", "A"]);
    assert!(exit == 0 && out.starts_with("nothing.p256.test. does not exist\n"), "{out}");
}

#[test]
fn anchors_and_time_are_those_of_the_command_line() {
    let (upstream, anchors) = (Signed::honest(), File::new("anchors", &signed::recorded().0));
    let status = |words: &[&str]| {
        let (exit, out, _) = lookup(&upstream, &anchors, &[words, &["--json"]].concat());
        let status = out.split("\"status\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
        (exit, status)
    };
    let is = |exit, status: &str| (exit, status.to_owned());
    assert_eq!(status(&["--negative-anchor", "test", "www.expireda.test", "A"]), is(0, "insecure"));
    assert_eq!(
        status(&["--negative-anchor", "other.test", "--negative-anchor", "expireda.test", "www.expireda.test", "A"]),
        is(0, "insecure")
    );
    assert_eq!(status(&["--negative-anchor", "other.test", "www.expireda.test", "A"]), is(1, "bogus"));
    // Without --at the recorded signatures are judged by today, without --trust-anchor by the root's real keys.
    let (address, at) = (upstream.address.to_string(), NOW.to_string());
    let output = pipit(&["dns", "lookup", "--upstream", &address, "--at", &at, "p256.test", "MX", "--json"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("\"status\":\"bogus\",\"ede\":[{\"code\":9,"), "{text}");
    let late = (NOW + 3 * 366 * 86_400).to_string();
    let output =
        pipit(&["dns", "lookup", "--upstream", &address, "--trust-anchor", anchors.path(), "--at", &late, "p256.test", "MX", "--json"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("\"status\":\"bogus\",\"ede\":[{\"code\":7,"), "{text}");
}

/// Beside a server: `--dir` takes its resolvers and anchors.
#[test]
fn a_server_that_is_named_lends_what_it_believes() {
    let (upstream, anchors) = (Signed::honest(), File::new("lent", &signed::recorded().0));
    let text = format!(
        "hostname = \"m.example.org\"\n[dns]\nupstream = \"{}\"\ntrust-anchor = \"{}\"\nnegative-anchor = \"expireda.test\"\n[[domain]]\nname = \"example.org\"\n",
        upstream.address,
        anchors.path()
    );
    let (file, at) = (File::new("lent.toml", &text), NOW.to_string());
    for (name, status) in [("www.p256.test", "secure"), ("www.expireda.test", "insecure"), ("www.expirede.test", "indeterminate")] {
        let output = pipit(&["--config", file.path(), "dns", "lookup", "--at", &at, "--json", name, "A"]);
        let out = String::from_utf8(output.stdout).unwrap();
        assert!(out.contains(&format!("\"status\":\"{status}\"")), "{name}: {out}");
    }
}

#[test]
fn what_cannot_be_asked_so_says_what_to_write() {
    let upstream = Signed::honest();
    let odd = File::new("odd", "; ours\n. IN A 192.0.2.1\n");
    let (exit, out, error) = lookup(&upstream, &odd, &["p256.test", "MX"]);
    assert!(exit == 2 && out.is_empty() && error.contains("line 2: only DS and DNSKEY records can be anchors"), "{error}");
    assert!(error.contains("\n       write lines like"), "{error}");
    let gone = File(PathBuf::from("/nowhere/at/all"));
    let (exit, _, error) = lookup(&upstream, &gone, &["p256.test", "MX"]);
    assert!(exit == 2 && error.contains("--trust-anchor: /nowhere/at/all cannot be read"), "{error}");
    assert!(upstream.asked().is_empty());
}
