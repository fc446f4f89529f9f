//! Mail that programs of the machine hand in: `pipit send`, the name `sendmail`, both sockets, and no server at all.

use std::fs;
use std::io::Read;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::process::Output;
use std::time::Duration;
use std::time::Instant;

use crate::rig::Rig;
use crate::rig::feed;

/// Of Debian's /etc/passwd.
const NOBODY: u32 = 65_534;
const DAEMON: u32 = 1;
const SYS: u32 = 3;

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

fn fed(rig: &Rig, arguments: &[&str], input: &str) -> String {
    let output = rig.pipit_with_input(arguments, input);
    assert!(output.status.success(), "{arguments:?}: {output:?}\n{}", rig.log());
    String::from_utf8(output.stdout).unwrap()
}

fn newest(rig: &Rig, address: &str) -> String {
    let list = rig.fine(&["mail", "list", address, "--json"]);
    let last = list.lines().last().unwrap_or_else(|| panic!("no mail for {address}"));
    let id = last.split("\"id\":").nth(1).unwrap().split(',').next().unwrap();
    rig.fine(&["mail", "show", address, id, "--raw"])
}

#[test]
fn a_message_is_completed_delivered_and_queued() {
    let rig = Rig::serving("");
    let said =
        fed(&rig, &["send", "-f", "ann@home.test", "-F", "Ann B", "bob", "x@elsewhere.test"], "Subject: hello\n\n.dot\n.\nnot read\n");
    assert!(said.contains("1 mailbox and in the queue for 1 recipient"), "{said}");
    let raw = newest(&rig, "bob@home.test");
    for part in [
        "Return-Path: <ann@home.test>\r\n",
        "Delivered-To: bob@home.test\r\n",
        "Received: by mx.home.test (Pipit, handed in by the system)",
        "Date: ",
        "Message-ID: <",
        "From: \"Ann B\" <ann@home.test>\r\n",
        "Subject: hello\r\n\r\n.dot\r\n",
    ] {
        assert!(raw.contains(part), "{part} not in {raw}");
    }
    assert!(!raw.contains("not read"), "{raw}");
    let id = said.split_whitespace().nth(1).unwrap();
    assert!(rig.log().contains(&format!("message {id} from <ann@home.test> handed in")), "{}", rig.log());
    assert!(rig.fine(&["queue", "list"]).contains("elsewhere.test"));
    assert_eq!(rig.fine(&["store", "check"]), "");
}

#[test]
fn the_header_names_the_recipients_and_hides_bcc() {
    let rig = Rig::serving("");
    let text = "From: root (Cron Daemon)\nTo: ann, Bob <bob@home.test>\nBcc: ann+hidden@home.test\nTLS-Required: maybe\n\nhi\n.\nstill\n";
    fed(&rig, &["sendmail", "-t", "-oi", "--tls-not-required", "-FIgnored"], text);
    let raw = newest(&rig, "ann@home.test");
    assert!(raw.contains("From: \"Cron Daemon\" <postmaster@home.test>\r\n") && raw.contains("\r\n.\r\nstill\r\n"), "{raw}");
    assert!(!raw.contains("hidden") && raw.matches("TLS-Required: No\r\n").count() == 1 && !raw.contains("maybe"), "{raw}");
    assert!(rig.fine(&["mail", "list", "bob@home.test", "--json"]).contains("\"require_tls\":\"waived\""));
    assert_eq!(rig.fine(&["mail", "list", "ann@home.test", "--json"]).lines().count(), 1, "one copy an account");
}

/// As cron writes, on a machine whose owner has made one account and no alias.
#[test]
fn what_is_for_root_finds_the_postmaster() {
    let rig = Rig::serving("");
    fed(&rig, &["sendmail", "-i", "-FCronDaemon", "-oem", "root"], "From: root (Cron Daemon)\nTo: root\nSubject: Cron\n\nx\n");
    assert!(newest(&rig, "ann@home.test").contains("Subject: Cron\r\n"));
    rig.fine(&["alias", "add", "root@home.test", "bob@home.test"]);
    fed(&rig, &["sendmail", "-i", "root"], "Subject: for the alias\n\nx\n");
    assert!(newest(&rig, "bob@home.test").contains("Subject: for the alias"));
    assert_eq!(rig.pipit_with_input(&["sendmail", "root@home.test", "roots"], "x\n").status.code(), Some(67));
}

#[test]
fn refusals_have_the_status_of_the_name() {
    let rig = Rig::serving("[limits]\nmessage-size = \"64k\"\n");
    let large = "x\n".repeat(70_000);
    let rows: [(&[&str], &str, i32, i32); 9] = [
        (&["nobody-here"], "x\n", 67, 1),
        (&["bob", "bob@mx.home.test"], "x\n", 67, 1),
        (&["-f", "x@elsewhere.test", "ann"], "x\n", 77, 1),
        (&["ann"], &large, 69, 1),
        (&["-t"], "Subject: nobody\n\nx\n", 64, 2),
        (&["not an address@"], "x\n", 64, 2),
        (&["-N", "sometimes", "ann"], "x\n", 64, 2),
        (&["-V", "a\r\nb", "ann"], "x\n", 64, 2),
        (&["--require-tls", "ann"], "x\n", 69, 1),
    ];
    for (arguments, input, sendmail, pipit) in rows {
        for (name, exit) in [("sendmail", sendmail), ("send", pipit)] {
            let line: Vec<&str> = [name].iter().chain(arguments).copied().collect();
            let output = rig.pipit_with_input(&line, input);
            assert_eq!(output.status.code(), Some(exit), "{line:?}: {output:?}");
            assert!(!output.stderr.is_empty());
        }
    }
    let output = rig.pipit_with_input(&["send", "bob@mx.home.test"], "x\n");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("nobody has mail at mx.home.test, the name of this server") && said.contains("bob@home.test?"), "{said}");
    assert_eq!(rig.fine(&["mail", "list", "ann@home.test", "--json"]), "");
    assert_eq!(rig.fine(&["mail", "list", "bob@home.test", "--json"]), "");
    assert_eq!(rig.fine(&["queue", "list", "--json"]), "");
    assert_eq!(rig.fine(&["store", "check"]), "");
    // The host has a postmaster all the same.
    fed(&rig, &["send", "postmaster@mx.home.test"], "x\n");
}

#[test]
fn success_is_told_where_it_was_asked_for() {
    let rig = Rig::serving("");
    fed(&rig, &["sendmail", "-f", "ann@home.test", "-N", "success", "-V", "e1", "bob"], "From: ann@home.test\nSubject: s\n\nx\n");
    let notice = newest(&rig, "ann@home.test");
    assert!(notice.contains("Final-Recipient: rfc822; bob@home.test\r\nAction: delivered\r\n"), "{notice}");
    assert!(notice.contains("Original-Envelope-Id: e1\r\n"), "{notice}");
    assert_eq!(rig.fine(&["store", "check"]), "");
}

#[test]
fn without_a_server_the_message_waits_in_the_directory() {
    let mut rig = Rig::serving("");
    rig.fine(&["stop"]);
    rig.ended();
    let output = rig.pipit_with_input(&["send", "-f", "ann@home.test", "bob", "x@elsewhere.test"], "From: ann@home.test\n\nx\n");
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("waits in the queue"), "{output:?}");
    assert!(rig.fine(&["queue", "list"]).contains("elsewhere.test"));
    assert_eq!(rig.fine(&["mail", "list", "bob@home.test", "--json"]).lines().count(), 1);
}

/// The link that Debian's alternatives would make.
#[test]
fn the_name_sendmail_is_a_program() {
    let rig = Rig::serving("");
    let link = rig.dir.join("sendmail");
    symlink(env!("CARGO_BIN_EXE_pipit"), &link).unwrap();
    let output = feed(Command::new(&link).arg(format!("-C{}", rig.file.display())).args(["-i", "bob"]), "Subject: by name\n\nx\n");
    assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
    assert!(newest(&rig, "bob@home.test").contains("Subject: by name"));
    assert_eq!(feed(Command::new(&link).arg("-bz"), "").status.code(), Some(69));
    assert_eq!(feed(&mut Command::new(&link), "").status.code(), Some(64));
}

/// One request by hand.
fn ask(rig: &Rig, socket: &str, request: &str) -> String {
    let mut stream = UnixStream::connect(rig.dir.join(socket)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn the_send_socket_does_nothing_else() {
    let rig = Rig::serving("");
    assert_eq!(fs::metadata(rig.dir.join("send.sock")).unwrap().permissions().mode() & 0o777, 0o666);
    for request in ["{\"do\":\"status\"}\n", "{\"do\":\"user.list\"}\n", "{\"do\":\"stop\"}\n"] {
        assert!(ask(&rig, "send.sock", request).contains("takes mail and nothing else"));
    }
    let message = "From: ann@home.test\r\n\r\nby hand\r\n";
    let head = |bytes: usize| format!("{{\"do\":\"send\",\"from\":\"ann@home.test\",\"to\":[\"bob\"],\"bytes\":{bytes}}}\n");
    assert!(ask(&rig, "send.sock", &(head(message.len()) + message)).contains("\"ok\":true"));
    // What another server would take for the end of a message.
    for bad in [
        "From: ann@home.test\r\n\r\na\n.\r\nb\r\n",
        "From: ann@home.test\r\n\r\na\rb\r\n",
        "From: ann@home.test\r\n\r\nno end",
        "From: a\0\r\n",
    ] {
        assert!(ask(&rig, "send.sock", &(head(bad.len()) + bad)).contains("CRLF"), "{bad:?}");
    }
    assert_eq!(rig.fine(&["mail", "list", "bob@home.test", "--json"]).lines().count(), 1);
    assert_eq!(rig.fine(&["store", "check"]), "");
}

/// Connections of another user of the machine; nothing is said on them. The kernel's ids are those of the thread.
fn connections(rig: &Rig, uid: u32, count: usize) -> Vec<UnixStream> {
    let path = rig.dir.join("send.sock");
    let thread = std::thread::spawn(move || {
        rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(uid)).unwrap();
        (0..count).map(|_| UnixStream::connect(&path).unwrap()).collect()
    });
    thread.join().unwrap()
}

fn told(mut stream: UnixStream) -> String {
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    said
}

/// A server whose sockets the machine's users can reach. Needs root, which CI is.
fn rig_for_users() -> Option<Rig> {
    if !is_root() {
        println!("not root: there is only one user to send as");
        return None;
    }
    let rig = Rig::serving("local-senders = [\"daemon\"]\n");
    fs::set_permissions(&rig.dir, fs::Permissions::from_mode(0o711)).unwrap();
    fs::set_permissions(&rig.file, fs::Permissions::from_mode(0o644)).unwrap();
    let added = rig.pipit_with_input(&["user", "add", "nobody@home.test", "--password-stdin"], "secret-word\n");
    assert!(added.status.success(), "{added:?}");
    Some(rig)
}

#[test]
fn a_user_who_holds_the_send_socket_takes_nothing_from_the_others() {
    let Some(rig) = rig_for_users() else { return };
    // Four have places, as many as may wait do so, and the next is told.
    let mut held = connections(&rig, DAEMON, 4 + 32);
    for one in connections(&rig, DAEMON, 20) {
        let said = told(one);
        assert!(said.contains("too many messages of this user") && said.contains("\"exit\":75"), "{said}");
    }
    let begun = Instant::now();
    let output = as_user(&rig, DAEMON, &["sendmail", "bob"], "From: shop@home.test\n\nx\n");
    assert_eq!(output.status.code(), Some(75), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("try again in a minute"), "{output:?}");
    // Neither is anybody else.
    assert!(as_user(&rig, NOBODY, &["sendmail", "bob"], "Subject: in between\n\nx\n").status.success());
    let message = "From: ann@home.test\r\n\r\nfrom root\r\n";
    let head = format!("{{\"do\":\"send\",\"from\":\"ann@home.test\",\"to\":[\"bob\"],\"bytes\":{}}}\n", message.len());
    assert!(ask(&rig, "send.sock", &(head + message)).contains("\"ok\":true"));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    held.clear();
    rig.until("a place for the user", || as_user(&rig, DAEMON, &["sendmail", "bob"], "From: shop@home.test\n\nx\n").status.success());
    assert_eq!(rig.fine(&["store", "check"]), "");
}

#[test]
fn a_burst_of_one_user_waits_its_turn() {
    let Some(rig) = rig_for_users() else { return };
    let senders: Vec<_> = (0..12)
        .map(|_| {
            let mut command = rig.command(&["sendmail", "bob"]);
            std::thread::spawn(move || feed(command.uid(DAEMON).gid(DAEMON), "From: shop@home.test\n\nburst\n"))
        })
        .collect();
    for sender in senders {
        let output = sender.join().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    assert_eq!(rig.fine(&["mail", "list", "bob@home.test", "--json"]).lines().count(), 12);
}

#[test]
fn who_may_not_send_is_told_at_once_and_holds_nothing() {
    let Some(rig) = rig_for_users() else { return };
    let before = rig.log().lines().count();
    // More than there are places, and more than may wait; not one says a word.
    for one in connections(&rig, SYS, 200) {
        let said = told(one);
        assert!(said.contains("the user sys has no account here") && said.contains("\"exit\":77"), "{said}");
    }
    for one in connections(&rig, 54_321, 5) {
        assert!(told(one).contains("the user number 54321 has no name here"));
    }
    assert!(rig.log().lines().count() - before < 20, "{}", rig.log());
    let output = as_user(&rig, SYS, &["send", "bob"], &"x\n".repeat(1 << 20));
    assert!(String::from_utf8_lossy(&output.stderr).contains("has no account here"), "{output:?}");
    assert!(as_user(&rig, NOBODY, &["sendmail", "bob"], "Subject: mine\n\nx\n").status.success());
}

/// As another user of the machine.
fn as_user(rig: &Rig, uid: u32, arguments: &[&str], input: &str) -> Output {
    feed(rig.command(arguments).uid(uid).gid(uid), input)
}

/// Needs root, which CI is.
#[test]
fn other_users_send_under_their_own_addresses_only() {
    if !is_root() {
        println!("not root: there is only one user to send as");
        return;
    }
    let rig = Rig::serving("local-senders = [\"daemon\"]\n");
    fs::set_permissions(&rig.dir, fs::Permissions::from_mode(0o711)).unwrap();
    fs::set_permissions(&rig.file, fs::Permissions::from_mode(0o644)).unwrap();
    let refused = |uid, arguments: &[&str], input: &str, exit| {
        let output = as_user(&rig, uid, arguments, input);
        assert_eq!(output.status.code(), Some(exit), "{arguments:?}: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(refused(NOBODY, &["send", "bob"], "x\n", 1).contains("the user nobody has no account"));
    assert!(refused(NOBODY, &["user", "list"], "", 1).contains("not for this user"));
    let added = rig.pipit_with_input(&["user", "add", "nobody@home.test", "--password-stdin"], "secret-word\n");
    assert!(added.status.success(), "{added:?}");
    let sent = as_user(&rig, NOBODY, &["send", "bob"], "Subject: mine\n\nx\n");
    assert!(sent.status.success(), "{sent:?}");
    let raw = newest(&rig, "bob@home.test");
    assert!(raw.contains("From: nobody@home.test\r\n") && raw.contains("handed in by nobody)"), "{raw}");
    // Neither the envelope nor the header may show somebody else.
    refused(NOBODY, &["sendmail", "-f", "ann@home.test", "bob"], "x\n", 77);
    refused(NOBODY, &["sendmail", "bob"], "From: ann@home.test\n\nx\n", 77);
    refused(NOBODY, &["sendmail", "bob"], "From: nobody@home.test, ann@home.test\n\nx\n", 77);
    assert!(as_user(&rig, NOBODY, &["sendmail", "-fnobody+tag@home.test", "bob"], "From: N <nobody@home.test>\n\nx\n").status.success());
    // Who is listed has no address, and is trusted with all of ours.
    assert!(as_user(&rig, DAEMON, &["sendmail", "bob"], "From: shop@home.test\n\nx\n").status.success());
    refused(DAEMON, &["sendmail", "bob"], "From: visitor@elsewhere.test\n\nx\n", 77);
    assert_eq!(rig.fine(&["mail", "list", "bob@home.test", "--json"]).lines().count(), 3);
    assert_eq!(rig.fine(&["store", "check"]), "");
}
