//! The real program from outside: processes, sockets, files, exit status. One server a test, on a port of its own.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod dns;
mod localserve;
mod rig;
mod send;
mod start;

use std::fs;

use rig::Rig;
use rustix::process::Signal;

const MESSAGE: &str = "From: Ann Friend <x@friend.test>\r\nTo: ann@home.test\r\nSubject: =?utf-8?q?caf=C3=A9?=\r\nMessage-ID: <1@friend.test>\r\n\r\n..stuffed\r\nbody";

#[test]
fn a_message_arrives_once_and_whole() {
    let rig = Rig::serving("");
    let reply = rig.deliver("Ann+tag@HOME.test", MESSAGE);
    let list = rig.fine(&["mail", "list", "ann@home.test", "--json"]);
    assert_eq!(list.lines().count(), 1, "{list}");
    for part in [
        "\"id\":1",
        "\"mailbox\":\"INBOX\"",
        "\"subject\":\"café\"",
        "\"message_id\":\"<1@friend.test>\"",
        "\"require_tls\":\"default\"",
        "\"tls\":\"\"",
    ] {
        assert!(list.contains(part), "{part} not in {list}");
    }
    let raw = rig.fine(&["mail", "show", "ann@home.test", "1", "--raw"]);
    let front = "Return-Path: <x@friend.test>\r\nDelivered-To: Ann+tag@home.test\r\nReceived: from client.test (unknown [127.0.0.1])";
    assert!(raw.starts_with(front), "{raw}");
    let body = MESSAGE.replace("..stuffed", ".stuffed") + "\r\n";
    assert!(raw.ends_with(&body), "{raw}");
    let id = reply.split_whitespace().last().unwrap();
    assert!(raw.contains(id) && rig.log().contains(id), "{reply} {raw}");
    assert!(!rig.log().contains("body") && !rig.log().contains("secret-word"));
    assert_eq!(rig.fine(&["store", "check"]), "");
}

#[test]
fn mail_outlives_the_server_and_first_users_are_consumed() {
    let mut rig = Rig::serving("");
    rig.deliver("bob@home.test", MESSAGE);
    let text = fs::read_to_string(&rig.file).unwrap();
    assert!(text.starts_with("# kept comment\n") && !text.contains("secret-word") && !text.contains("\n[[first-user]]"), "{text}");
    rig.fine(&["stop"]);
    assert!(rig.ended().success());
    // Without a server the command opens the store itself.
    let offline = rig.fine(&["mail", "list", "bob@home.test", "--json"]);
    rig.start();
    assert_eq!(rig.fine(&["mail", "list", "bob@home.test", "--json"]), offline);
    rig.kill();
    rig.start();
    assert_eq!(rig.fine(&["mail", "list", "bob@home.test", "--json"]), offline);
    assert_eq!(rig.fine(&["store", "check"]), "");
}

#[test]
fn recipients_are_refused_in_the_session() {
    let rig = Rig::serving("");
    let mut client = rig.client();
    client.say("EHLO client.test", "250");
    client.say("MAIL FROM:<>", "250");
    client.say("RCPT TO:<nobody@home.test>", "550 5.1.1");
    client.say("RCPT TO:<ann@other.test>", "550 5.7.1");
    client.say("RCPT TO:<ann%other.test@home.test>", "550 5.1.1");
    client.say("RCPT TO:<Postmaster>", "250");
    client.say("DATA", "354");
    client.say("Subject: no from\r\n\r\nx\r\n.", "550 5.6.0");
    client.say("MAIL FROM:<>", "250");
    client.say("RCPT TO:<ann@home.test>", "250");
    client.say("RCPT TO:<ann+2@home.test>", "250");
    client.say("DATA", "354");
    client.say("From: <x@y.test>\r\n\r\nx\r\n.", "250 2.0.0");
    assert_eq!(rig.fine(&["mail", "list", "ann@home.test", "--json"]).lines().count(), 1);
    assert_eq!(rig.fine(&["mail", "list", "bob@home.test", "--json"]), "");
}

#[test]
fn a_smuggled_end_is_no_end() {
    let rig = Rig::serving("");
    let mut client = rig.client();
    client.say("EHLO client.test", "250");
    client.say("MAIL FROM:<x@friend.test>", "250");
    client.say("RCPT TO:<ann@home.test>", "250");
    client.say("DATA", "354");
    client.write(b"From: <x@y.test>\r\n\r\nbody\n.\nMAIL FROM:<forged@y.test>\r\nRCPT TO:<bob@home.test>\r\nDATA\r\nFrom: <forged@y.test>\r\n\r\nx\r\n.\r\n");
    client.expect("550 5.6.0");
    client.say("MAIL FROM:<x@friend.test>", "421 4.7.0");
    assert!(client.is_closed());
    for address in ["ann@home.test", "bob@home.test"] {
        assert_eq!(rig.fine(&["mail", "list", address, "--json"]), "");
    }
}

#[test]
fn pipelined_commands_are_answered_in_order() {
    let rig = Rig::serving("");
    let mut client = rig.client();
    client.write(b"EHLO client.test\r\nMAIL FROM:<x@friend.test>\r\nRCPT TO:<ann@home.test>\r\nRCPT TO:<nobody@home.test>\r\nDATA\r\nFrom: <x@friend.test>\r\n\r\npiped\r\n.\r\nMAIL FROM:<x@friend.test>\r\nQUIT\r\n");
    for code in ["220", "250", "250", "250", "550", "354", "250", "250", "221"].iter().skip(1) {
        client.expect(code);
    }
    assert!(client.is_closed());
}

#[test]
fn an_edited_file_is_taken_and_a_broken_one_is_not() {
    let rig = Rig::serving("");
    let text = fs::read_to_string(&rig.file).unwrap();
    let mut client = rig.client();
    fs::write(&rig.file, text.clone() + "\n[[domain]]\nname = \"second.test\"\n").unwrap();
    rig.until("the new domain", || rig.fine(&["status"]).contains("second.test"));
    fs::write(&rig.file, text.replace("hostname", "hostnam")).unwrap();
    rig.until("the fault in status", || rig.fine(&["status"]).contains("hostnam"));
    let status = rig.fine(&["status"]);
    assert!(status.contains("line 2") && status.contains("second.test"), "{status}");
    assert!(rig.refused(&["config", "check"], 1).contains("2 faults") || rig.refused(&["config", "check"], 1).contains("fault"));
    // Connections outlive all of it.
    client.say("NOOP", "250");
    fs::write(&rig.file, text).unwrap();
    rig.until("the old domains", || !rig.fine(&["status"]).contains("second.test"));
    assert_eq!(rig.fine(&["config", "diff"]), "");
}

#[test]
fn signals_reload_and_end() {
    let mut rig = Rig::serving("");
    let text = fs::read_to_string(&rig.file).unwrap();
    fs::write(&rig.file, text + "\n[[domain]]\nname = \"second.test\"\n").unwrap();
    rig.signal(Signal::HUP);
    rig.until("the new domain", || rig.fine(&["status"]).contains("second.test"));
    rig.signal(Signal::TERM);
    assert!(rig.ended().success());
    assert!(rig.log().contains("asked to end by a signal") && !rig.dir.join("pipit.sock").exists());
}

#[test]
fn aliases_and_settings_are_edited_in_the_file() {
    let rig = Rig::serving("");
    rig.fine(&["alias", "add", "info@home.test", "ann@home.test", "bob@home.test"]);
    rig.deliver("info@home.test", MESSAGE);
    for address in ["ann@home.test", "bob@home.test"] {
        assert_eq!(rig.fine(&["mail", "list", address, "--json"]).lines().count(), 1, "{address}");
    }
    assert!(rig.fine(&["alias", "list"]).contains("info@home.test"));
    assert!(rig.refused(&["alias", "add", "info@home.test", "ann@home.test"], 1).contains("info@home.test"));
    rig.fine(&["alias", "remove", "info@home.test"]);
    let mut client = rig.client();
    client.say("HELO x", "250");
    client.say("MAIL FROM:<>", "250");
    client.say("RCPT TO:<info@home.test>", "550 5.1.1");
    rig.fine(&["config", "set", "limits.message-size", "1M"]);
    assert!(fs::read_to_string(&rig.file).unwrap().starts_with("# kept comment\n"));
    let mut client = rig.client();
    client.say("EHLO x", "250-");
    client.say("MAIL FROM:<> SIZE=2000000", "552 5.3.4");
    assert!(rig.refused(&["config", "set", "limits.message-size", "soon"], 1).contains("limits.message-size"));
}

#[test]
fn accounts_come_and_go_with_their_mail() {
    let rig = Rig::serving("");
    let added = rig.pipit_with_input(&["user", "add", "eve@home.test", "--password-stdin"], "word\n");
    assert!(added.status.success(), "{added:?}");
    assert_eq!(rig.pipit_with_input(&["user", "add", "eve@home.test", "--password-stdin"], "word\n").status.code(), Some(1));
    assert_eq!(rig.pipit_with_input(&["user", "add", "eve@other.test", "--password-stdin"], "word\n").status.code(), Some(1));
    assert!(rig.pipit_with_input(&["user", "passwd", "eve@home.test", "--password-stdin"], "other\n").status.success());
    rig.deliver("eve@home.test", MESSAGE);
    assert!(rig.fine(&["user", "list", "--json"]).contains("\"eve@home.test\",\"messages\":1"));
    rig.fine(&["user", "remove", "eve@home.test"]);
    assert!(rig.refused(&["mail", "list", "eve@home.test"], 1).contains("no account"));
    assert_eq!(rig.fine(&["store", "check"]), "");
}

#[test]
fn mail_comes_in_from_files_and_goes_out_to_files() {
    let rig = Rig::serving("");
    let maildir = rig.dir.join("maildir");
    fs::create_dir_all(maildir.join("cur")).unwrap();
    fs::create_dir_all(maildir.join("new")).unwrap();
    fs::write(maildir.join("cur/1.a:2,FS"), "From: a@x.test\nSubject: seen\n\none\n").unwrap();
    fs::write(maildir.join("new/2.b"), "From: b@x.test\nSubject: new\n\ntwo\n").unwrap();
    let mbox = rig.dir.join("mbox");
    fs::write(&mbox, "From a Mon\nFrom: c@x.test\nSubject: three\n\n>From here\n\nFrom b Tue\nSubject: four\n\nlast\n").unwrap();
    rig.fine(&["mail", "import", "ann@home.test", maildir.to_str().unwrap(), mbox.to_str().unwrap()]);
    let list = rig.fine(&["mail", "list", "ann@home.test", "--json"]);
    assert_eq!(list.lines().count(), 4, "{list}");
    assert!(list.lines().next().unwrap().contains("\"flags\":[\"\\\\Seen\",\"\\\\Flagged\"]"), "{list}");
    let out = rig.dir.join("out");
    rig.fine(&["mail", "export", "ann@home.test", out.to_str().unwrap()]);
    let third = fs::read_to_string(out.join("INBOX-3.eml")).unwrap();
    assert_eq!(third, "From: c@x.test\r\nSubject: three\r\n\r\nFrom here\r\n");
    // A file that is there is not overwritten.
    assert!(rig.refused(&["mail", "export", "ann@home.test", out.to_str().unwrap()], 1).contains("INBOX-1.eml"));
    assert!(rig.refused(&["mail", "import", "ann@home.test", "/nonexistent"], 1).contains("/nonexistent"));
    assert_eq!(rig.fine(&["store", "check"]), "");
}

#[test]
fn one_directory_has_one_server() {
    let mut rig = Rig::serving("");
    let second = rig.pipit(&["serve"]);
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("cannot listen"), "{second:?}");
    assert!(rig.refused(&["store", "compact"], 1).contains("running"));
    rig.fine(&["stop"]);
    assert!(rig.ended().success());
    assert!(rig.fine(&["store", "compact"]).contains("MiB"));
    assert!(rig.refused(&["stop"], 1).contains("no server"));
    assert!(rig.fine(&["status"]).contains("no server is running"));
}

#[test]
fn ending_lets_a_running_message_finish() {
    let mut rig = Rig::serving("");
    let mut client = rig.client();
    client.say("EHLO client.test", "250");
    client.say("MAIL FROM:<x@friend.test>", "250");
    client.say("RCPT TO:<ann@home.test>", "250");
    client.say("DATA", "354");
    client.write(b"From: <x@friend.test>\r\n\r\nhalf");
    let mut idle = rig.client();
    rig.fine(&["stop"]);
    idle.expect("421 4.3.2");
    client.say(" and whole\r\n.", "250 2.0.0");
    client.expect("421 4.3.2");
    assert!(rig.ended().success());
    assert_eq!(rig.fine(&["mail", "list", "ann@home.test", "--json"]).lines().count(), 1);
}

#[test]
fn quota_and_size_are_limits() {
    let rig = Rig::serving("[limits]\nmessage-size = \"64k\"\nquota = \"10k\"\n");
    let mut client = rig.client();
    client.say("EHLO client.test", "250");
    client.say("MAIL FROM:<x@friend.test> SIZE=20000", "250");
    client.say("RCPT TO:<ann@home.test>", "452 4.2.2");
    client.say("RSET", "250");
    client.say("MAIL FROM:<x@friend.test>", "250");
    client.say("RCPT TO:<ann@home.test>", "250");
    client.say("DATA", "354");
    let line = "x".repeat(98) + "\r\n";
    client.say(&format!("From: <x@friend.test>\r\n\r\n{}.", line.repeat(1000)), "552 5.3.4");
    assert_eq!(rig.fine(&["mail", "list", "ann@home.test", "--json"]), "");
}

#[test]
fn a_new_size_holds_from_the_next_session_on() {
    let rig = Rig::serving("[limits]\nmessage-size = \"64k\"\n");
    let mut early = rig.client();
    assert!(early.say("EHLO client.test", "250").contains("SIZE 65536"));
    let text = fs::read_to_string(&rig.file).unwrap();
    fs::write(&rig.file, text.replace("64k", "128k")).unwrap();
    rig.signal(Signal::HUP);
    rig.until("the new size", || rig.client().say("EHLO client.test", "250").contains("SIZE 131072"));
    // A session goes by what it was told in its EHLO.
    early.say("MAIL FROM:<x@friend.test> SIZE=100000", "552 5.3.4");
    let body = ("x".repeat(98) + "\r\n").repeat(1000);
    rig.deliver("ann@home.test", &format!("From: <x@friend.test>\r\n\r\n{body}"));
    assert_eq!(rig.fine(&["mail", "list", "ann@home.test", "--json"]).lines().count(), 1);
}

#[test]
fn the_postmaster_of_our_address_is_the_first_account() {
    let rig = Rig::serving("");
    rig.deliver("Postmaster@[127.0.0.1]", MESSAGE);
    rig.deliver("postmaster@home.test", MESSAGE);
    rig.deliver("postmaster", MESSAGE);
    assert_eq!(rig.fine(&["mail", "list", "ann@home.test", "--json"]).lines().count(), 3);
    assert_eq!(rig.fine(&["mail", "list", "bob@home.test", "--json"]), "");
    let mut client = rig.client();
    client.say("EHLO client.test", "250");
    client.say("MAIL FROM:<>", "250");
    client.say("RCPT TO:<ann@[127.0.0.1]>", "550 5.7.1");
    client.say("RCPT TO:<postmaster@[127.0.0.2]>", "550 5.7.1");
    client.say("RCPT TO:<postmaster@[192.0.2.1]>", "550 5.7.1");
    client.say("RCPT TO:<postmaster@[IPv6:::1]>", "550 5.7.1");
    client.say("RCPT TO:<postmaster@localhost>", "550 5.7.1");
}

#[test]
fn a_full_mailbox_behind_an_alias_costs_the_others_nothing() {
    let more = "[[alias]]\naddress = \"both@home.test\"\nto = [\"ann@home.test\", \"bob@home.test\"]\n\n\
                [[quota]]\naddress = \"ann@home.test\"\nsize = \"2k\"\n";
    let rig = Rig::serving(more);
    let counts = || ["ann@home.test", "bob@home.test"].map(|who| rig.fine(&["mail", "list", who, "--json"]).lines().count());
    let filling = format!("From: <x@friend.test>\r\n\r\n{}", "x\r\n".repeat(1000));
    rig.deliver("both@home.test", &filling);
    assert_eq!(counts(), [1, 1], "there was room when RCPT was answered");
    rig.deliver("both@home.test", MESSAGE);
    assert_eq!(counts(), [1, 2]);
    let mut client = rig.client();
    client.say("EHLO client.test", "250");
    client.say("MAIL FROM:<x@friend.test>", "250");
    client.say("RCPT TO:<ann@home.test>", "452 4.2.2");
    client.say("RCPT TO:<bob@home.test>", "250");
    assert_eq!(rig.fine(&["store", "check"]), "");
}

#[test]
fn usage_is_explained() {
    let rig = Rig::new("");
    assert!(rig.fine(&["--help"]).contains("localserve"));
    assert!(rig.fine(&["mail", "--help"]).contains("import"));
    assert!(!rig.refused(&["nonsense"], 2).is_empty());
    assert!(!rig.refused(&["mail", "list"], 2).is_empty());
    assert!(rig.fine(&["--version"]).contains(env!("CARGO_PKG_VERSION")));
    assert!(rig.fine(&["config", "explain", "limits.connections"]).contains("200"));
}
