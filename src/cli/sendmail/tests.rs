//! The option lists that real programs write.

use super::*;

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

fn sending(line: &str) -> Sending {
    match parse(Dialect::Sendmail, &words(line)) {
        Ok(Task::Send(sending)) => sending,
        other => panic!("{line}: {other:?}"),
    }
}

/// line, -f, -F, recipients, -t, -i
type Row = (&'static str, Option<&'static str>, Option<&'static str>, &'static [&'static str], bool, bool);

#[test]
fn what_programs_write_is_understood() {
    let rows: [Row; 20] = [
        // Debian and Vixie cron, cronie, busybox crond, at, anacron
        ("-FCronDaemon -i -B8BITMIME -oem root", None, Some("CronDaemon"), &["root"], false, true),
        ("-FCronDaemon -odi -oem -oi -t", None, Some("CronDaemon"), &[], true, true),
        ("-FCronDaemon -i -odi -oem -oi -t -f root", Some("root"), Some("CronDaemon"), &[], true, true),
        ("-ti", None, None, &[], true, true),
        ("-i ann@home.test", None, None, &["ann@home.test"], false, true),
        // mutt, neomutt
        ("-oem -oi -f x@home.test -- a@b.test c@d.test", Some("x@home.test"), None, &["a@b.test", "c@d.test"], false, true),
        ("-oem -oi -N failure,delay -R hdrs -f x@home.test -- a@b.test", Some("x@home.test"), None, &["a@b.test"], false, true),
        // git send-email, with and without an envelope sender
        ("-i a@b.test", None, None, &["a@b.test"], false, true),
        ("-f x@home.test -i a@b.test", Some("x@home.test"), None, &["a@b.test"], false, true),
        // php mail(): sendmail_path and the fifth argument
        ("-t -i", None, None, &[], true, true),
        ("-t -i -fnoreply@home.test", Some("noreply@home.test"), None, &[], true, true),
        // s-nail, bsd-mailx, alpine, monit-like
        ("-i -r x@home.test -- a@b.test", Some("x@home.test"), None, &["a@b.test"], false, true),
        ("-i -m a@b.test", None, None, &["a@b.test"], false, true),
        ("-oi -oem -odb -f x@home.test a@b.test", Some("x@home.test"), None, &["a@b.test"], false, true),
        // msmtp-like, Go and Python programs, logwatch, smartd
        ("-f x@home.test a@b.test", Some("x@home.test"), None, &["a@b.test"], false, false),
        ("a@b.test -f x@home.test", Some("x@home.test"), None, &["a@b.test"], false, false),
        ("-bm -q -v -Am -O DeliveryMode=b -X /dev/null a@b.test", None, None, &["a@b.test"], false, false),
        ("-f <> a@b.test", Some("<>"), None, &["a@b.test"], false, false),
        ("-oMrx -d0.1 -q30m -h 3 -pSMTP:host a@b.test", None, None, &["a@b.test"], false, false),
        ("-ti -- -a@b.test", None, None, &["-a@b.test"], true, true),
    ];
    for (line, from, name, to, header, input) in rows {
        let found = sending(line);
        assert_eq!((found.from.as_deref(), found.name.as_deref()), (from, name), "{line}");
        assert_eq!(found.to, to, "{line}");
        assert_eq!((found.recipients == Recipients::InTheHeader, found.end == End::Input), (header, input), "{line}");
    }
}

#[test]
fn delivery_notices_can_be_asked_for() {
    let found = sending("-N success,delay -R full -V id1 a@b.test");
    assert_eq!((found.notify.as_deref(), found.ret.as_deref(), found.envid.as_deref()), (Some("success,delay"), Some("full"), Some("id1")));
}

#[test]
fn the_wish_for_tls_is_an_option() {
    assert_eq!(sending("--tls-not-required a@b.test").tls, TlsWish::Waived);
    let refused = parse(Dialect::Pipit, &words("--require-tls a@b.test")).unwrap_err();
    assert_eq!(refused.fault, Fault::NotYet);
}

#[test]
fn other_tasks_than_sending() {
    for (line, task) in [("-bp", Task::ListQueue), ("-bi", Task::Nothing), ("-I", Task::Nothing)] {
        assert_eq!(parse(Dialect::Sendmail, &words(line)), Ok(task), "{line}");
    }
}

#[test]
fn what_is_not_understood_is_refused_with_a_sentence() {
    for (line, fault) in [
        ("", Fault::Usage),
        ("-i", Fault::Usage),
        ("a@b.test -f", Fault::Usage),
        ("-z a@b.test", Fault::Usage),
        ("--nonsense a@b.test", Fault::Usage),
        ("-bs", Fault::NotYet),
        ("-bd", Fault::NotYet),
    ] {
        let complaint = parse(Dialect::Pipit, &words(line)).unwrap_err();
        assert_eq!(complaint.fault, fault, "{line}");
        assert!(!complaint.error.is_empty() && !complaint.hint.is_empty());
    }
}
