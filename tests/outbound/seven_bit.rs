//! 8-bit bodies for hosts without 8BITMIME (delivery.md section 6): recoded where it can be, elsewhere if another host takes
//! them as they are, else told to the sender.

use crate::scene::Letter;
use crate::scene::play;

fn letter(header: &str, body: &str) -> Letter {
    let mut letter = Letter::to(&["bob@peer.test"]);
    letter.text = format!("From: <ann@home.test>\r\nMIME-Version: 1.0\r\n{header}\r\n{body}");
    letter
}

const TEXT: &str = "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n";
const SIGNED: &str = "Content-Type: multipart/signed; boundary=b\r\nContent-Transfer-Encoding: 8bit\r\n";
const SIGNED_BODY: &str = "--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nGrüße\r\n--b--\r\n";

#[test]
fn a_host_without_8bitmime_gets_seven_bits_and_the_true_size() {
    play("", |scene| async move {
        let peer = scene.domain("peer.test", 1);
        peer.answer("EHLO", "250-peer.test|250 SIZE 1000000");
        scene.send(letter(TEXT, "Grüße = x\r\n.\r\n")).await;
        // Several chunks of the store; the second for the same connection must be planned anew.
        let long = "Zeile für Zeile, immer weiter\r\n".repeat(5_000);
        scene.send(letter(TEXT, &long)).await;
        scene.quiet().await;
        let mut messages = peer.messages();
        messages.sort_by_key(String::len);
        assert!(messages.iter().all(|message| message.is_ascii()), "{}", messages[0]);
        let expected = "Received: by mx.home.test\r\nFrom: <ann@home.test>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
            Content-Transfer-Encoding: quoted-printable\r\n\r\nGr=C3=BC=C3=9Fe =3D x\r\n..\r\n";
        assert_eq!(messages[0], expected);
        assert!(messages[1].ends_with(&"Zeile f=C3=BCr Zeile, immer weiter\r\n".repeat(5_000)));
        let heard = peer.heard.borrow();
        let mails: Vec<&String> = heard.commands.iter().filter(|command| command.starts_with("MAIL")).collect();
        for message in &messages {
            // A dot was added on the wire.
            let size = message.len() - usize::from(message.contains("\r\n..\r\n"));
            assert!(mails.iter().any(|mail| **mail == format!("MAIL FROM:<ann@home.test> SIZE={size}")), "{size}: {mails:?}");
        }
        drop(heard);
        assert!(scene.inbox().is_empty());
        scene
    });
}

#[test]
fn a_recoded_message_may_grow_too_large() {
    play("", |scene| async move {
        let peer = scene.domain("peer.test", 1);
        peer.answer("EHLO", "250-peer.test|250 SIZE 1000");
        scene.send(letter(TEXT, &"äöüß und Text\r\n".repeat(30))).await;
        scene.quiet().await;
        assert!(peer.messages().is_empty());
        assert!(scene.inbox()[0].contains("Status: 5.3.4\r\n"), "{:?}", scene.inbox());
        scene
    });
}

/// What it grows by is our doing: another host may take it as it is.
#[test]
fn a_message_that_grows_too_large_goes_to_a_host_that_takes_it_as_it_is() {
    play("", |scene| async move {
        scene.zone.add("peer.test. MX 20 b.peer.test.\nb.peer.test. A 127.0.0.2");
        let (old, other) = (scene.domain("peer.test", 1), scene.peer(2));
        old.answer("EHLO", "250-peer.test|250 SIZE 1000");
        let text = "äöüß und Text\r\n".repeat(30);
        scene.send(letter(TEXT, &text)).await;
        scene.quiet().await;
        assert_eq!((old.count("MAIL"), other.messages().len(), scene.inbox().len()), (0, 1, 0), "{:?}", scene.inbox());
        assert!(other.messages()[0].ends_with(&text));
        // Nobody takes it: then it goes back.
        other.answer("EHLO", "250-peer.test|250 SIZE 1000");
        scene.send(letter(TEXT, &text)).await;
        scene.quiet().await;
        let inbox = scene.inbox();
        assert!(inbox.len() == 1 && inbox[0].contains("Status: 5.3.4\r\n"), "{inbox:?}");
        scene
    });
}

#[test]
fn a_message_that_must_not_change_goes_to_a_host_that_takes_it() {
    play("", |scene| async move {
        scene.zone.add("peer.test. MX 20 b.peer.test.\nb.peer.test. A 127.0.0.2");
        let (old, other) = (scene.domain("peer.test", 1), scene.peer(2));
        old.answer("EHLO", "250 peer.test");
        scene.send(letter(SIGNED, SIGNED_BODY)).await;
        scene.quiet().await;
        assert_eq!((old.count("MAIL"), other.messages().len()), (0, 1));
        assert!(other.messages()[0].ends_with(SIGNED_BODY) && other.count("MAIL FROM:<ann@home.test> BODY=8BITMIME") == 1);
        other.answer("EHLO", "250 peer.test");
        scene.send(letter(SIGNED, SIGNED_BODY)).await;
        scene.quiet().await;
        let inbox = scene.inbox();
        assert!(inbox.len() == 1 && inbox[0].contains("Status: 5.6.1\r\n"), "{inbox:?}");
        assert!(inbox[0].replace("\r\n    ", " ").contains("a signed or encrypted part has 8-bit text"), "{}", inbox[0]);
        scene
    });
}

#[test]
fn it_is_not_given_up_while_a_host_that_may_take_it_is_away() {
    play("", |scene| async move {
        // Nobody listens at 2.
        scene.zone.add("peer.test. MX 20 b.peer.test.\nb.peer.test. A 127.0.0.2");
        let old = scene.domain("peer.test", 1);
        old.answer("EHLO", "250 peer.test");
        let id = scene.send(letter(SIGNED, SIGNED_BODY)).await;
        scene.quiet().await;
        assert_eq!((scene.recipients(id).len(), scene.inbox().len()), (1, 0));
        scene
    });
}

#[test]
fn only_our_own_signature_forbids_it() {
    play("", |scene| async move {
        let peer = scene.domain("peer.test", 1);
        peer.answer("EHLO", "250 peer.test");
        scene.send(letter(&format!("DKIM-Signature: v=1; d=list.test; s=x\r\n{TEXT}"), "Grüße, Bob\r\n")).await;
        scene.quiet().await;
        assert!(peer.messages()[0].contains("Gr=C3=BC=C3=9Fe"));
        scene.send(letter(&format!("DKIM-Signature: v=1; d=home.test; s=x\r\n{TEXT}"), "Grüße, Bob\r\n")).await;
        scene.quiet().await;
        assert_eq!(peer.messages().len(), 1);
        assert!(scene.inbox()[0].contains("Status: 5.6.1\r\n") && scene.inbox()[0].contains("home.test has signed it"));
        scene
    });
}

#[test]
fn ascii_that_was_declared_as_8_bits_goes_as_it_is() {
    play("", |scene| async move {
        let peer = scene.domain("peer.test", 1);
        peer.answer("EHLO", "250 peer.test");
        let mut ascii = letter(SIGNED, "--b\r\nContent-Transfer-Encoding: 8bit\r\n\r\nx\r\n--b--\r\n");
        ascii.eight_bit = true;
        let text = ascii.text.clone();
        scene.send(ascii).await;
        scene.quiet().await;
        assert!(peer.messages()[0].ends_with(&text), "{:?}", peer.messages());
        scene
    });
}
