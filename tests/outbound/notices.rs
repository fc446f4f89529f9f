//! Who is told what: notices of failure and relaying, and when there is none.

use pipit::mail::envelope::RequireTls;
use pipit::mail::notify::Notify;
use pipit::mail::notify::Ret;
use pipit::store::queue;
use pipit::store::queue::Event;

use crate::scene::Letter;
use crate::scene::play;

#[test]
fn domains_that_take_no_mail_are_told_at_once() {
    play("", |scene| async move {
        scene.zone.add("nomx.test. MX 0 .\nus.test. MX 10 mx.home.test.\nhidden.test. MX 10 h.test.\nh.test. A 127.9.9.9");
        scene.send(Letter::to(&["a@nomx.test", "b@gone.test", "c@us.test", "d@hidden.test"])).await;
        scene.quiet().await;
        let mut statuses: Vec<String> =
            scene.inbox().iter().map(|text| text.lines().find_map(|line| line.strip_prefix("Status: ")).unwrap().to_owned()).collect();
        statuses.sort();
        assert_eq!(statuses, ["5.1.10", "5.1.2", "5.4.6", "5.4.6"]);
        assert!(scene.inbox().iter().all(|text| !text.contains("Remote-MTA")));
        assert_eq!(scene.to_next_due().await, None);
        scene
    });
}

#[test]
fn a_host_that_greets_with_our_name_is_ourselves() {
    play("", |scene| async move {
        let peer = scene.domain("peer.test", 1);
        peer.answer("CONNECT", "220 mx.home.test ESMTP");
        scene.send(Letter::to(&["bob@peer.test"])).await;
        scene.quiet().await;
        let inbox = scene.inbox();
        assert!(inbox.len() == 1 && inbox[0].contains("Status: 5.4.6\r\n"), "{inbox:?}");
        scene
    });
}

#[test]
fn one_notice_tells_of_all_that_failed_together_and_is_well_made() {
    play("", |scene| async move {
        let peer = scene.domain("peer.test", 1);
        peer.answer("RCPT", "550 5.1.1 nobody|");
        peer.answer("RCPT", "550 5.1.1 nobody");
        let mut letter = Letter::to(&["bob@peer.test", "eve@peer.test"]);
        letter.to[1].2 = Some("rfc822;e+2Bve@peer.test".to_owned());
        scene.send(letter).await;
        scene.quiet().await;
        let inbox = scene.inbox();
        assert_eq!(inbox.len(), 1);
        let text = &inbox[0];
        for piece in [
            "From: Mail Delivery System <mailer-daemon@mx.home.test>\r\nTo: <ann@home.test>\r\n",
            "Auto-Submitted: auto-replied\r\n",
            "Original-Envelope-Id: QQ314159\r\n",
            "Original-Recipient: rfc822; e+ve@peer.test\r\nFinal-Recipient: rfc822; eve@peer.test\r\n",
            "Remote-MTA: dns; mx.peer.test\r\nDiagnostic-Code: smtp; 550 5.1.1 nobody\r\n",
            "Content-Type: text/rfc822-headers\r\n\r\nReceived: by mx.home.test\r\nFrom: <ann@home.test>\r\nSubject: hello\r\n",
            "In-Reply-To: <1@home.test>\r\n",
        ] {
            assert!(text.contains(piece), "{piece}\nis not in\n{text}");
        }
        assert!(!text.contains("body\r\n--") && !text.contains(".dot"));
        assert_eq!(scene.service.metrics.notices.value(), 1);
        scene
    });
}

#[test]
fn those_who_do_not_want_to_know_are_not_told() {
    play("", |scene| async move {
        scene.zone.add("nomx.test. MX 0 .");
        let mut null = Letter::to(&["bob@nomx.test"]);
        null.from = "<>";
        scene.send(null).await;
        let mut never = Letter::to(&["bob@nomx.test"]);
        never.to[0].1 = Notify::Never;
        scene.send(never).await;
        scene.quiet().await;
        assert!(scene.inbox().is_empty());
        assert_eq!(scene.to_next_due().await, None);
        scene
    });
}

#[test]
fn a_peer_that_cannot_tell_of_success_is_spoken_for() {
    play("", |scene| async move {
        let plain = scene.domain("plain.test", 1);
        let able = scene.domain("able.test", 2);
        able.answer("EHLO", "250-able.test|250 DSN");
        let mut letter = Letter::to(&["bob@plain.test", "eve@able.test"]);
        letter.to.iter_mut().for_each(|to| to.1 = Notify::parse("SUCCESS").unwrap());
        scene.send(letter).await;
        scene.quiet().await;
        assert_eq!((plain.messages().len(), able.messages().len()), (1, 1));
        assert!(able.heard.borrow().commands.iter().any(|command| command.contains("NOTIFY=SUCCESS")));
        let inbox = scene.inbox();
        assert_eq!(inbox.len(), 1);
        assert!(inbox[0].contains("Action: relayed\r\n") && inbox[0].contains("bob@plain.test"), "{}", inbox[0]);
        scene
    });
}

#[test]
fn wishes_are_kept_in_what_comes_back() {
    play("", |scene| async move {
        let peer = scene.domain("peer.test", 1);
        peer.answer("RCPT", "550 5.1.1 nobody");
        let mut waived = Letter::to(&["bob@peer.test"]);
        (waived.wish, waived.ret) = (RequireTls::Waived, Ret::Full);
        scene.send(waived).await;
        scene.quiet().await;
        assert!(scene.inbox()[0].contains("\r\nTLS-Required: No\r\n"));
        assert!(scene.inbox()[0].contains("Content-Type: message/rfc822\r\n\r\nReceived: by mx.home.test\r\n"));
        assert!(scene.inbox()[0].contains("\r\n\r\n.dot\r\nbody\r\n\r\n--=_"));
        let mut required = Letter::to(&["bob@peer.test"]);
        (required.wish, required.ret) = (RequireTls::Required, Ret::Full);
        scene.send(required).await;
        scene.quiet().await;
        assert_eq!(peer.connections(), 1, "nothing may be sent");
        assert!(scene.inbox()[1].contains("Status: 5.7.10\r\n") && scene.inbox()[1].contains("text/rfc822-headers"));
        scene
    });
}

#[test]
fn a_sender_elsewhere_gets_the_notice_by_mail_and_a_failing_notice_is_dropped() {
    play("", |scene| async move {
        scene.zone.add("nomx.test. MX 0 .");
        let peer = scene.domain("friend.test", 1);
        let mut letter = Letter::to(&["bob@nomx.test"]);
        letter.from = "<zoe@friend.test>";
        scene.send(letter).await;
        scene.quiet().await;
        scene.until("the notice has left", || peer.messages().len() == 1).await;
        assert_eq!((peer.count("MAIL FROM:<>"), peer.count("RCPT TO:<zoe@friend.test>")), (1, 1));
        assert!(peer.messages()[0].contains("To: <zoe@friend.test>\r\n"));
        let mut lost = Letter::to(&["bob@nomx.test"]);
        lost.from = "<zoe@nomx.test>";
        scene.send(lost).await;
        scene.quiet().await;
        assert_eq!(scene.to_next_due().await, None);
        assert!(scene.inbox().is_empty());
        scene
    });
}

#[test]
fn letters_beyond_ascii_need_a_peer_that_takes_them() {
    play("", |scene| async move {
        scene.zone.add("peer.test. MX 20 b.peer.test.\nb.peer.test. A 127.0.0.2");
        let (old, other) = (scene.domain("peer.test", 1), scene.peer(2));
        old.answer("EHLO", "250 peer.test");
        let mut letter = Letter::to(&["bjørn@peer.test"]);
        letter.smtp_utf8 = true;
        scene.send(letter).await;
        scene.quiet().await;
        assert_eq!((old.messages().len(), other.messages().len()), (0, 1));
        other.answer("EHLO", "250 peer.test");
        let mut letter = Letter::to(&["bjørn@peer.test"]);
        letter.smtp_utf8 = true;
        scene.send(letter).await;
        scene.quiet().await;
        let inbox = scene.inbox();
        assert!(inbox.len() == 1 && inbox[0].contains("Status: 5.6.7\r\n"), "{inbox:?}");
        assert!(inbox[0].contains("message/global-delivery-status") && inbox[0].contains("Final-Recipient: utf-8; bjørn@peer.test"));
        scene
    });
}

#[test]
fn an_administrator_gives_up_with_a_notice() {
    play("", |scene| async move {
        let peer = scene.domain("peer.test", 1);
        peer.answer("RCPT", "451 4.2.1 later");
        let id = scene.send(Letter::to(&["bob@peer.test"])).await;
        scene.quiet().await;
        let event = Event { at: scene.service.clock.now(), what: "failed by admin".to_owned() };
        scene.service.store.write(move |w| queue::fail(w, id, 0, "no such person".to_owned(), event)).await.unwrap();
        scene.until("it is settled", || scene.recipients(id).is_empty()).await;
        assert_eq!(peer.connections(), 1);
        assert!(scene.inbox()[0].contains("gave up: no such person"), "{}", scene.inbox()[0]);
        scene.quiet().await;
        scene
    });
}
