//! Promise R15: without a login nothing goes to other hosts, however the address is written and whatever was tried before.

use pipit::inbound::Door;
use pipit::inbound::Port;
use pipit::store::queue;

use crate::scene::Client;
use crate::scene::Scene;
use crate::scene::play;

/// Forms that were once understood as the way to somebody elsewhere. `192.0.2.7` is the client.
const FORMS: [&str; 20] = [
    "victim@elsewhere.test",
    "victim@ELSEWHERE.TEST",
    "victim%elsewhere.test@home.test",
    "victim%elsewhere.test@mx.home.test",
    "victim%elsewhere.test@[127.0.0.1]",
    "elsewhere.test!victim",
    "elsewhere.test!victim@home.test",
    "elsewhere.test!victim@mx.home.test",
    "\"victim@elsewhere.test\"",
    "\"victim@elsewhere.test\"@home.test",
    "\"victim%elsewhere.test\"@home.test",
    "victim@elsewhere.test@home.test",
    "victim@home.test@elsewhere.test",
    "@home.test:victim@elsewhere.test",
    "@elsewhere.test:victim@home.test",
    "@home.test,@mx.home.test:victim@elsewhere.test",
    "victim@[192.0.2.9]",
    "victim@[IPv6:2001:db8::9]",
    "victim@mx.home.test",
    "victim@elsewhere.home.test",
];
/// Nobody, somebody elsewhere, and one of our own people, whom anybody can name.
const SENDERS: [&str; 3] = ["", "someone@peer.test", "ann@home.test"];
/// Each ends up in a fresh session: errors end those that make many.
const BEFORE: [&[(&str, &str)]; 5] = [
    &[],
    &[("RSET", "250 ")],
    &[("EHLO again.test", "250 ")],
    &[("AUTH PLAIN AGFubgBhbm4=", "5")],
    &[("MAIL FROM:<ann@home.test>", ""), ("RSET", "250 "), ("HELO again.test", "250 ")],
];

fn nothing_was_taken(scene: &Scene) {
    assert_eq!(scene.service.store.read(|r| queue::list(r, None, 10)).unwrap().len(), 0, "the queue is empty");
    assert!(scene.stored().is_empty(), "and the mailbox too");
}

async fn prepared(mut client: Client, before: &[(&str, &str)]) -> Client {
    for (line, begin) in before {
        client.say(line, begin).await;
    }
    client
}

#[test]
fn port_25_sends_nothing_on_for_strangers() {
    play("", |scene| async move {
        for sender in SENDERS {
            for form in FORMS {
                let mut client = scene.client().await;
                client.say(&format!("MAIL FROM:<{sender}>"), "250 ").await;
                client.say(&format!("RCPT TO:<{form}>"), "5").await;
                client.say("DATA", "554 ").await;
                client.say("QUIT", "221 ").await;
            }
        }
        for before in BEFORE {
            let mut client = prepared(scene.client().await, before).await;
            client.say("MAIL FROM:<ann@home.test>", "250 ").await;
            client.say("RCPT TO:<victim@elsewhere.test>", "550 5.7.1").await;
            client.say("DATA", "554 ").await;
            client.say("QUIT", "221 ").await;
        }
        nothing_was_taken(&scene);
        scene
    });
}

#[test]
fn a_submission_port_takes_nothing_before_a_login() {
    play("", |scene| async move {
        let door = || Door { port: Port::Submission, tls: None };
        for sender in SENDERS {
            for form in FORMS {
                let mut client = Client::greeted(scene.at_door(door(), "192.0.2.8")).await;
                client.say(&format!("MAIL FROM:<{sender}>"), "530 ").await;
                client.say(&format!("RCPT TO:<{form}>"), "5").await;
                client.say("DATA", "503 ").await;
                client.say("QUIT", "221 ").await;
            }
        }
        for before in BEFORE {
            let mut client = prepared(Client::greeted(scene.at_door(door(), "192.0.2.8")).await, before).await;
            client.say("MAIL FROM:<ann@home.test>", "530 ").await;
            // Pipelined behind a login that fails: the rest must meet a stranger.
            client.write(b"AUTH PLAIN AGFubgBhbm4=\r\nMAIL FROM:<ann@home.test>\r\nRCPT TO:<victim@elsewhere.test>\r\nDATA\r\n").await;
            for begin in ["5", "530 ", "503 ", "503 "] {
                client.expect(begin).await;
            }
            client.say("QUIT", "221 ").await;
        }
        nothing_was_taken(&scene);
        scene
    });
}
