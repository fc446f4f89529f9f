//! Ways to a host: order, next hosts, transactions, reuse of connections.

use pipit::metrics::DeliveryOutcome;
use pipit::metrics::DeliveryTls;

use crate::scene::Letter;
use crate::scene::play;

#[test]
fn a_message_goes_to_all_of_a_domain_in_one_transaction() {
    play("", |scene| async move {
        let peer = scene.domain("peer.test", 1);
        scene.send(Letter::to(&["bob@peer.test", "eve@peer.test"])).await;
        scene.quiet().await;
        let messages = peer.messages();
        assert_eq!(messages.len(), 1);
        assert!(messages[0].starts_with("Received: by mx.home.test\r\nFrom: <ann@home.test>\r\n"), "{}", messages[0]);
        assert!(messages[0].ends_with("\r\n\r\n..dot\r\nbody\r\n"), "{}", messages[0]);
        assert_eq!((peer.count("EHLO mx.home.test"), peer.count("MAIL FROM:<ann@home.test>"), peer.count("RCPT TO:")), (1, 1, 2));
        assert_eq!(scene.service.metrics.deliveries.value(DeliveryOutcome::Delivered), 2);
        assert_eq!(scene.service.metrics.delivery_tls.value(DeliveryTls::Plaintext), 2);
        assert_eq!(scene.to_next_due().await, None);
        assert!(scene.inbox().is_empty());
        scene
    });
}

#[test]
fn hosts_are_tried_in_order_until_one_takes_it() {
    play("", |scene| async move {
        for (preference, last) in [(10, 2), (20, 3), (30, 4), (40, 5), (50, 6)] {
            scene.zone.add(&format!("peer.test. MX {preference} mx{last}.peer.test.\nmx{last}.peer.test. A 127.0.0.{last}"));
        }
        // Nobody listens at 2.
        let (busy, closing, later, good) = (scene.peer(3), scene.peer(4), scene.peer(5), scene.peer(6));
        busy.answer("CONNECT", "554 5.3.2 not now");
        closing.answer("MAIL", "close");
        later.answer("MAIL", "451 4.3.0 later");
        scene.send(Letter::to(&["bob@peer.test"])).await;
        scene.quiet().await;
        assert_eq!(good.messages().len(), 1);
        assert_eq!([busy.connections(), closing.connections(), later.count("MAIL")], [1, 1, 1]);
        assert!(scene.inbox().is_empty());
        scene
    });
}

#[test]
fn a_refused_recipient_is_not_taken_elsewhere() {
    play("", |scene| async move {
        scene.zone.add("peer.test. MX 10 a.peer.test.\na.peer.test. A 127.0.0.1\npeer.test. MX 20 b.peer.test.\nb.peer.test. A 127.0.0.2");
        let (first, second) = (scene.peer(1), scene.peer(2));
        first.answer("RCPT TO:<eve@", "550 5.1.1 who?");
        scene.send(Letter::to(&["bob@peer.test", "eve@peer.test"])).await;
        scene.quiet().await;
        assert_eq!((first.messages().len(), second.connections()), (1, 0));
        let inbox = scene.inbox();
        assert_eq!(inbox.len(), 1);
        assert!(inbox[0].contains("a.peer.test answered:\r\n    550 5.1.1 who?\r\n"), "{}", inbox[0]);
        assert!(inbox[0].contains("Final-Recipient: rfc822; eve@peer.test\r\n") && !inbox[0].contains("bob@peer.test"), "{}", inbox[0]);
        scene
    });
}

#[test]
fn a_handshake_that_fails_is_followed_by_plaintext() {
    play("", |scene| async move {
        let peer = scene.domain("peer.test", 1);
        peer.answer("EHLO", "250-peer.test|250 STARTTLS");
        peer.answer("STARTTLS", "220 go|this is no TLS");
        scene.send(Letter::to(&["bob@peer.test"])).await;
        scene.quiet().await;
        assert_eq!((peer.connections(), peer.messages().len()), (2, 1));
        scene
    });
}

#[test]
fn the_rest_after_452_goes_at_once_and_greylisting_is_left_alone() {
    play("", |scene| async move {
        let full = scene.domain("full.test", 1);
        for number in 10..30 {
            full.answer(&format!("RCPT TO:<u{number}@"), "452 4.5.3 too many");
        }
        let to: Vec<String> = (0..30).map(|number| format!("u{number}@full.test")).collect();
        let to: Vec<&str> = to.iter().map(String::as_str).collect();
        scene.send(Letter::to(&to)).await;
        scene.until("a second transaction", || full.count("MAIL") >= 2).await;
        full.forget_rules();
        scene.quiet().await;
        let left = scene.service.store.read(pipit::store::queue::next_due).unwrap();
        assert_eq!((full.connections(), full.messages().len() >= 2), (1, true));
        // Whatever was refused again without any accepted one waits like any other.
        if left.is_some() {
            scene.to_next_due().await;
        }
        assert_eq!(scene.to_next_due().await, None);
        let grey = scene.domain("grey.test", 2);
        grey.answer("RCPT", "450 4.7.1 greylisted");
        grey.answer("RCPT TO:<u0@", "250 fine");
        let to: Vec<String> = (0..50).map(|number| format!("u{number}@grey.test")).collect();
        let to: Vec<&str> = to.iter().map(String::as_str).collect();
        scene.send(Letter::to(&to)).await;
        scene.quiet().await;
        assert_eq!((grey.count("MAIL"), grey.count("RCPT"), grey.messages().len()), (1, 50, 1));
        grey.forget_rules();
        scene.to_next_due().await;
        assert_eq!((grey.count("MAIL"), grey.count("RCPT"), grey.messages().len()), (2, 99, 2));
        assert_eq!(scene.to_next_due().await, None);
        scene
    });
}

#[test]
fn connections_carry_many_messages() {
    play("", |scene| async move {
        // All wait for the name first, so that they are due together.
        scene.zone.add("peer.test. MX SERVFAIL");
        for _ in 0..12 {
            scene.send(Letter::to(&["bob@peer.test"])).await;
        }
        scene.quiet().await;
        scene.zone.set("");
        let peer = scene.domain("peer.test", 1);
        while scene.to_next_due().await.is_some() {}
        assert_eq!(peer.messages().len(), 12);
        assert!(peer.connections() <= 6, "{} connections", peer.connections());
        scene
    });
}

#[test]
fn both_families_are_tried_and_a_policy_of_one_is_not_final() {
    play("", |scene| async move {
        let peer = scene.domain("peer.test", 1);
        let Ok(listener) = std::net::TcpListener::bind(("::1", scene.port)) else { return scene };
        scene.zone.add("mx.peer.test. AAAA ::1");
        let six = crate::peer::Peer::serve(&scene.tasks, listener);
        peer.answer("MAIL", "550 5.7.1 no PTR");
        let id = scene.send(Letter::to(&["bob@peer.test"])).await;
        scene.quiet().await;
        assert_eq!((scene.recipients(id).len(), scene.inbox().len(), six.connections()), (1, 0, 0));
        scene.to_next_due().await;
        assert_eq!((peer.connections(), six.messages().len()), (1, 1));
        six.answer("MAIL", "550 5.7.1 not you either");
        scene.send(Letter::to(&["bob@peer.test"])).await;
        scene.quiet().await;
        scene.to_next_due().await;
        assert_eq!(scene.inbox().len(), 1, "refused over both families");
        assert_eq!(scene.to_next_due().await, None);
        scene
    });
}
