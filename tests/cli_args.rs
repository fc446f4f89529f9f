//! The command line as a table: what each argv means, and what is refused with which status.

use std::path::PathBuf;

use pipit::admin::wire::queue::HoldFields;
use pipit::admin::wire::queue::Picked;
use pipit::admin::wire::queue::QueueCommand;
use pipit::admin::wire::queue::Verb;
use pipit::admin::wire::queue::Whom;
use pipit::cli::args::AliasCommand;
use pipit::cli::args::AppPassCommand;
use pipit::cli::args::Command;
use pipit::cli::args::ConfigCommand;
use pipit::cli::args::DnsCommand;
use pipit::cli::args::Globals;
use pipit::cli::args::Invocation;
use pipit::cli::args::MailCommand;
use pipit::cli::args::PasswordFrom;
use pipit::cli::args::Question;
use pipit::cli::args::ShowForm;
use pipit::cli::args::StoreCommand;
use pipit::cli::args::Usage;
use pipit::cli::args::UserCommand;
use pipit::cli::args::as_called;
use pipit::cli::args::parse;
use pipit::cli::sendmail::Dialect;
use pipit::mail::address::Address;
use pipit::mail::date::UnixTime;
use pipit::proto::dns::RecordType;
use pipit::proto::dns::dnssec::anchor::NegativeAnchor;
use pipit::proto::dns::name::Name;
use pipit::proto::dns::upstream::UpstreamAddress;
use pipit::store::HoldId;
use pipit::store::QueueId;
use pipit::store::holds::Sender;

fn run(line: &str) -> Result<Invocation, Usage> {
    let argv: Vec<String> = line.split(' ').filter(|word| !word.is_empty()).map(|word| word.replace('␣', " ")).collect();
    parse(&argv)
}

fn queued() -> QueueId {
    QueueId::parse("1nfm2rbq0a1b2").expect("13 letters are an id")
}

fn steer(verb: Verb, whom: Whom) -> Command {
    Command::Queue(QueueCommand::Steer { verb, whom })
}

fn hold(fields: HoldFields) -> Command {
    Command::Queue(QueueCommand::HoldAdd(fields))
}

fn ann() -> Address {
    Address::parse("ann@example.org").expect("a constant address parses")
}

#[test]
fn app_passwords_are_made_listed_and_removed() {
    let rows = [
        (
            "user apppass add ann@example.org my␣phone",
            Command::User(UserCommand::AppPass(AppPassCommand::Add { address: ann(), name: "my phone".to_owned() })),
        ),
        ("user apppass list ann@example.org", Command::User(UserCommand::AppPass(AppPassCommand::List { address: ann() }))),
        (
            "user apppass remove ann@example.org phone",
            Command::User(UserCommand::AppPass(AppPassCommand::Remove { address: ann(), name: "phone".to_owned() })),
        ),
    ];
    for (line, command) in rows {
        assert_eq!(run(line).map(|invocation| invocation.command), Ok(command), "{line}");
    }
}

#[test]
fn every_command_of_this_version_parses() {
    let bob = Address::parse("bob@example.org").unwrap();
    let key = || "limits.connections".to_owned();
    let rows = [
        ("serve", Command::Serve),
        ("localserve", Command::Localserve { fresh: false }),
        ("localserve --fresh", Command::Localserve { fresh: true }),
        ("status", Command::Status),
        ("metrics", Command::Metrics),
        ("reload", Command::Reload),
        ("stop", Command::Stop),
        ("config check", Command::Config(ConfigCommand::Check)),
        ("config show", Command::Config(ConfigCommand::Show)),
        ("config explain limits.connections", Command::Config(ConfigCommand::Explain { key: key() })),
        ("config set limits.connections 300", Command::Config(ConfigCommand::Set { key: key(), value: "300".to_owned() })),
        ("config set limits.connections help", Command::Config(ConfigCommand::Set { key: key(), value: "help".to_owned() })),
        ("config set limits.connections -- -", Command::Config(ConfigCommand::Set { key: key(), value: "-".to_owned() })),
        ("config set limits.connections --dir=x -- --json", Command::Config(ConfigCommand::Set { key: key(), value: "--json".to_owned() })),
        ("config diff", Command::Config(ConfigCommand::Diff)),
        ("config reference", Command::Config(ConfigCommand::Reference)),
        ("user add ann@example.org", Command::User(UserCommand::Add { address: ann(), password: PasswordFrom::Terminal })),
        ("user add --password-stdin ann@example.org", Command::User(UserCommand::Add { address: ann(), password: PasswordFrom::Stdin })),
        ("user list", Command::User(UserCommand::List)),
        (
            "user passwd ann@example.org --password-stdin",
            Command::User(UserCommand::Passwd { address: ann(), password: PasswordFrom::Stdin }),
        ),
        ("user remove ann@example.org", Command::User(UserCommand::Remove { address: ann() })),
        ("alias add ann@example.org bob@example.org", Command::Alias(AliasCommand::Add { address: ann(), to: vec![bob.clone()] })),
        (
            "alias add ann@example.org bob@example.org ann@example.org",
            Command::Alias(AliasCommand::Add { address: ann(), to: vec![bob, ann()] }),
        ),
        ("alias list", Command::Alias(AliasCommand::List)),
        ("alias remove ann@example.org", Command::Alias(AliasCommand::Remove { address: ann() })),
        ("mail list ann@example.org", Command::Mail(MailCommand::List { address: ann(), mailbox: None })),
        (
            "mail list ann@example.org --mailbox INBOX",
            Command::Mail(MailCommand::List { address: ann(), mailbox: Some("INBOX".to_owned()) }),
        ),
        (
            "mail list --mailbox=My␣=␣Box ann@example.org",
            Command::Mail(MailCommand::List { address: ann(), mailbox: Some("My = Box".to_owned()) }),
        ),
        ("mail show ann@example.org 7", Command::Mail(MailCommand::Show { address: ann(), id: 7, form: ShowForm::Readable })),
        ("mail show ann@example.org 7 --raw", Command::Mail(MailCommand::Show { address: ann(), id: 7, form: ShowForm::Raw })),
        (
            "mail import ann@example.org a.eml b",
            Command::Mail(MailCommand::Import { address: ann(), files: vec![PathBuf::from("a.eml"), PathBuf::from("b")] }),
        ),
        ("mail export ann@example.org out", Command::Mail(MailCommand::Export { address: ann(), dir: PathBuf::from("out") })),
        ("store check", Command::Store(StoreCommand::Check)),
        ("store stat", Command::Store(StoreCommand::Stat)),
        ("store compact", Command::Store(StoreCommand::Compact)),
    ];
    each_means(rows);
}

#[test]
fn commands_of_app_passwords_parse() {
    let rows = [
        (
            "user apppass add ann@example.org my␣phone",
            Command::User(UserCommand::AppPass(AppPassCommand::Add { address: ann(), name: "my phone".to_owned() })),
        ),
        ("user apppass list ann@example.org", Command::User(UserCommand::AppPass(AppPassCommand::List { address: ann() }))),
        (
            "user apppass remove ann@example.org phone",
            Command::User(UserCommand::AppPass(AppPassCommand::Remove { address: ann(), name: "phone".to_owned() })),
        ),
    ];
    each_means(rows);
}

#[test]
fn lookups_parse() {
    let plain = |upstreams: &[&str], kind| Question {
        upstreams: upstreams.iter().map(|text| UpstreamAddress::parse(text).unwrap()).collect(),
        trust_anchor: None,
        at: None,
        negative_anchors: Vec::new(),
        name: Name::parse("example.org").unwrap(),
        kind,
    };
    let lookup = |question| Command::Dns(DnsCommand::Lookup(question));
    let negative = |text: &str| NegativeAnchor::parse(text).unwrap();
    let full = Question {
        trust_anchor: Some(PathBuf::from("keys")),
        at: Some(UnixTime(1_782_864_000)),
        negative_anchors: vec![negative("a.test"), negative("b.test")],
        ..plain(&["[2001:db8::1]:5353"], RecordType::MX)
    };
    let rows = [
        ("dns lookup example.org mx", lookup(plain(&[], RecordType::MX))),
        ("dns lookup --upstream 192.0.2.1 example.org. TYPE52", lookup(plain(&["192.0.2.1:53"], RecordType::TLSA))),
        (
            "dns lookup example.org A --upstream=127.0.0.1:1053 --upstream 192.0.2.1",
            lookup(plain(&["127.0.0.1:1053", "192.0.2.1:53"], RecordType::A)),
        ),
        (
            "dns lookup --trust-anchor keys --at=1782864000 --negative-anchor a.test --negative-anchor=b.test --upstream [2001:db8::1]:5353 example.org MX",
            lookup(full),
        ),
        ("dns anchors", Command::Dns(DnsCommand::Anchors)),
        ("dns anchors --json", Command::Dns(DnsCommand::Anchors)),
    ];
    each_means(rows);
}

/// Status 2, and what to write instead.
#[test]
fn lookups_that_cannot_be_asked_say_what_to_write() {
    let rows = [
        ("dns lookup example.org", "type"),
        ("dns lookup a..b A", "write e.g. example.org"),
        ("dns lookup a AXFR", "write e.g. MX"),
        ("dns lookup a NONSENSE", "TYPEnn"),
        ("dns lookup --upstream nope a A", "write e.g. 192.0.2.53"),
        ("dns lookup --upstream tls://9.9.9.9 a A", "tls://9.9.9.9"),
        ("dns lookup --at yesterday a A", "seconds since 1970"),
        ("dns lookup --at -1 a A", "seconds since 1970"),
        ("dns lookup --negative-anchor . a A", "write the name of a zone"),
        ("dns lookup --at 5 --at 6 a A", "--at"),
        ("dns anchors x", "x"),
        ("dns", "lookup"),
    ];
    for (line, told) in rows {
        let usage = run(line).unwrap_err();
        assert!(usage.exit == 2 && usage.text.contains(told), "{line}: {}", usage.text);
    }
}

fn each_means<const N: usize>(rows: [(&str, Command); N]) {
    for (line, command) in rows {
        let invocation = run(line).unwrap_or_else(|usage| panic!("{line}: {}", usage.text));
        assert_eq!(invocation.command, command, "{line}");
    }
}

#[test]
fn commands_of_the_queue_parse() {
    let rows = [
        ("queue list", Command::Queue(QueueCommand::List)),
        ("queue show 1NFM2RBQ0A1B2", Command::Queue(QueueCommand::Show { id: queued() })),
        ("queue retry 1nfm2rbq0a1b2", steer(Verb::Retry, Whom::Picked(vec![Picked { id: queued(), n: None }]))),
        (
            "queue hold 1nfm2rbq0a1b2/2 1nfm2rbq0a1b2",
            steer(Verb::Hold, Whom::Picked(vec![Picked { id: queued(), n: Some(1) }, Picked { id: queued(), n: None }])),
        ),
        ("queue release --all", steer(Verb::Release, Whom::All)),
        ("queue fail --to=Example.ORG", steer(Verb::Fail, Whom::Domain(ann().domain))),
        ("queue drop --to example.org", steer(Verb::Drop, Whom::Domain(ann().domain))),
        (
            "hold add --from <> --to example.org",
            hold(HoldFields { sender: Some(Sender::Null), recipient_domain: Some(ann().domain), ..HoldFields::default() }),
        ),
        ("hold add --from=", hold(HoldFields { sender: Some(Sender::Null), ..HoldFields::default() })),
        (
            "hold add --from example.org --account=ann@example.org --to ann@example.org",
            hold(HoldFields {
                sender: Some(Sender::Domain(ann().domain)),
                account: Some(ann()),
                recipient: Some(ann()),
                ..HoldFields::default()
            }),
        ),
        ("hold add --all", hold(HoldFields::default())),
        ("hold list", Command::Queue(QueueCommand::HoldList)),
        ("hold remove 3", Command::Queue(QueueCommand::HoldRemove { id: HoldId(3) })),
        ("sendmail -bp", Command::Queue(QueueCommand::List)),
        ("--json sendmail -bi", Command::Nothing),
    ];
    each_means(rows);
}

#[test]
fn global_options_stand_anywhere() {
    let both = Globals { config: Some(PathBuf::from("/a.toml")), dir: Some(PathBuf::from("d=e")), json: true };
    for line in [
        "--config /a.toml --dir=d=e --json user list",
        "user --config=/a.toml list --dir d=e --json",
        "user list --json --dir=d=e --config /a.toml",
    ] {
        let invocation = run(line).unwrap_or_else(|usage| panic!("{line}: {}", usage.text));
        assert_eq!((invocation.globals, invocation.command), (both.clone(), Command::User(UserCommand::List)), "{line}");
    }
}

#[test]
fn behind_send_stands_the_language_of_sendmail() {
    for line in ["send -h 3 -fann@example.org --json -t -- --json", "--json send -fann@example.org -t -h3 -- --json"] {
        let invocation = run(line).unwrap_or_else(|usage| panic!("{line}: {}", usage.text));
        let Command::Send(sending) = invocation.command else { panic!("{line}") };
        assert!(invocation.globals.json, "{line}");
        assert_eq!(
            (sending.dialect, sending.from.as_deref(), sending.to.as_slice()),
            (Dialect::Pipit, Some("ann@example.org"), &["--json".to_owned()][..])
        );
    }
    assert!(matches!(run("sendmail -z").unwrap().command, Command::Complaint(Dialect::Sendmail, _)));
    assert_eq!(run("send --help").unwrap_err().exit, 0);
    let called = |line: &str| as_called(line.split(' ').map(str::to_owned)).join(" ");
    for (line, argv) in [
        ("/usr/sbin/sendmail -t -i", "sendmail -t -i"),
        ("mailq", "sendmail -bp"),
        ("newaliases", "sendmail -bi"),
        ("/usr/bin/pipit send -t", "send -t"),
    ] {
        assert_eq!(called(line), argv);
    }
}

#[test]
fn help_and_version_are_no_errors() {
    for line in [
        "--help",
        "-h",
        "help",
        "config --help",
        "config set --help",
        "mail -h",
        "user add ann@example.org --help",
        "--json --help",
        "help config",
        "--help config set",
        "config --help show",
    ] {
        let usage = run(line).unwrap_err();
        assert_eq!(usage.exit, 0, "{line}: {}", usage.text);
        assert!(usage.text.contains("Usage: pipit"), "{line}: {}", usage.text);
        assert!(usage.text.contains("--config FILE"), "{line}");
    }
    assert_eq!(run("--version"), Err(Usage { text: format!("pipit {}\n", env!("CARGO_PKG_VERSION")), exit: 0 }));
}

#[test]
fn what_cannot_be_obeyed_exits_with_2_and_says_why() {
    let rows = [
        ("", "Usage: pipit"),
        ("--json", "Usage: pipit"),
        ("frobnicate", "frobnicate"),
        ("config", "subcommand"),
        ("config frobnicate", "frobnicate"),
        ("config explain", "key"),
        ("config set limits.connections", "value"),
        ("user add ann", "the address has no @"),
        ("user add", "address"),
        ("user add ann@example.org --password secret", "--password"),
        ("user add ann@example.org --password-stdin=yes", "--password-stdin=yes"),
        ("alias add ann@example.org", "nobody is named"),
        ("mail show ann@example.org seven", "seven"),
        ("mail import ann@example.org", "no file is named"),
        ("queue", "subcommand"),
        ("queue show", "id"),
        ("queue show 17", "13 letters"),
        ("queue retry", "at least one ID"),
        ("queue drop 1nfm2rbq0a1b2/0", "13 letters"),
        ("queue drop 1nfm2rbq0a1b2 --all", "either IDs"),
        ("queue fail --to", "--to"),
        ("queue tls required 1nfm2rbq0a1b2", "tls"),
        ("hold add", "--all holds everything"),
        ("hold add --all --to example.org", "no other option"),
        ("hold remove x", "x"),
        ("mail list ann@example.org --mailbox", "--mailbox"),
        ("serve now", "now"),
        ("serve --config", "--config needs a path"),
        ("serve --config=", "--config needs a path"),
        ("--dir a serve --dir b", "--dir stands twice"),
        ("serve --json=yes", "--json=yes"),
    ];
    for (line, part) in rows {
        let usage = run(line).expect_err(line);
        assert_eq!(usage.exit, 2, "{line}: {}", usage.text);
        assert!(usage.text.contains(part), "{line}: {}", usage.text);
    }
}
