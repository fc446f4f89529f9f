//! The command line as a table: what each argv means, and what is refused with which status.

use std::path::PathBuf;

use pipit::cli::args::AliasCommand;
use pipit::cli::args::Command;
use pipit::cli::args::ConfigCommand;
use pipit::cli::args::Globals;
use pipit::cli::args::Invocation;
use pipit::cli::args::MailCommand;
use pipit::cli::args::PasswordFrom;
use pipit::cli::args::ShowForm;
use pipit::cli::args::StoreCommand;
use pipit::cli::args::Usage;
use pipit::cli::args::UserCommand;
use pipit::cli::args::parse;
use pipit::mail::address::Address;

fn run(line: &str) -> Result<Invocation, Usage> {
    let argv: Vec<String> = line.split(' ').filter(|word| !word.is_empty()).map(|word| word.replace('␣', " ")).collect();
    parse(&argv)
}

fn ann() -> Address {
    Address::parse("ann@example.org").expect("a constant address parses")
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
    for (line, command) in rows {
        let invocation = run(line).unwrap_or_else(|usage| panic!("{line}: {}", usage.text));
        assert_eq!(invocation.command, command, "{line}");
    }
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
