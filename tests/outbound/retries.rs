//! Time: retries, the notice of a delay, the end; clocks and resolvers that cannot be trusted; the drain.

use std::time::Duration;

use pipit::mail::date::UnixTime;
use pipit::metrics::DeliveryOutcome;
use pipit::store::queue::RecipientState;

use crate::scene::BEGIN;
use crate::scene::Letter;
use crate::scene::play;

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

#[test]
fn a_silent_host_is_tried_for_five_days_and_the_sender_hears_twice() {
    play("", |scene| async move {
        // Nobody listens there.
        scene.zone.add("dead.test. MX 10 mx.dead.test.\nmx.dead.test. A 127.0.0.77");
        let id = scene.send(Letter::to(&["bob@dead.test"])).await;
        scene.quiet().await;
        let mut times = vec![BEGIN];
        let mut delay_told = None;
        while let Some(time) = scene.to_next_due().await {
            times.push(time);
            if delay_told.is_none() && !scene.inbox().is_empty() {
                delay_told = Some(time);
            }
        }
        assert_eq!(delay_told, Some(BEGIN.plus(4 * HOUR)));
        assert_eq!(times.last(), Some(&BEGIN.plus(5 * DAY)));
        assert!((300..340).contains(&(times[1].0 - times[0].0)), "{times:?}");
        assert!((30..60).contains(&times.len()), "{} attempts", times.len());
        let inbox = scene.inbox();
        assert_eq!(inbox.len(), 2);
        assert!(inbox[0].contains("Subject: Your message is delayed\r\n") && inbox[0].contains("Action: delayed\r\n"), "{}", inbox[0]);
        assert!(inbox[0].contains(&format!("Will-Retry-Until: {}\r\n", BEGIN.plus(5 * DAY).rfc5322())), "{}", inbox[0]);
        assert!(inbox[1].contains("Action: failed\r\nStatus: 4.4.1\r\n") && !inbox[1].contains("Remote-MTA"), "{}", inbox[1]);
        assert!(inbox[1].contains(&format!("as number {id}\r\n")));
        scene
    });
}

#[test]
fn what_was_tried_is_on_record() {
    play("", |scene| async move {
        let peer = scene.domain("peer.test", 1);
        peer.answer("RCPT", "451 4.2.1 mailbox busy");
        let id = scene.send(Letter::to(&["bob@peer.test"])).await;
        scene.quiet().await;
        let row = scene.recipients(id).remove(0);
        let last = row.last.unwrap();
        assert_eq!((row.attempts, last.host.as_str(), last.address.as_str(), last.remote), (1, "mx.peer.test", "127.0.0.1", true));
        assert_eq!((last.reply.as_str(), last.status.to_string().as_str()), ("451 4.2.1 mailbox busy", "4.2.1"));
        assert!(row.history.last().unwrap().what.starts_with("deferred by mx.peer.test[127.0.0.1]: 451 4.2.1"), "{:?}", row.history);
        assert_eq!(scene.service.metrics.deliveries.value(DeliveryOutcome::Deferred), 1);
        scene
    });
}

#[test]
fn a_wrong_clock_sends_expires_and_bounces_nothing() {
    play("", |scene| async move {
        let peer = scene.domain("peer.test", 1);
        peer.answer("RCPT", "451 4.2.1 later");
        scene.zone.add("nomx.test. MX 0 .");
        let id = scene.send(Letter::to(&["bob@peer.test"])).await;
        scene.quiet().await;
        let before = scene.recipients(id);
        for wrong in [BEGIN.plus(10 * 366 * DAY), UnixTime(0), BEGIN.plus(-10 * 366 * DAY)] {
            scene.hand.set(wrong);
            scene.wake().await;
            scene.send(Letter::to(&["bob@peer.test", "eve@nomx.test"])).await;
            pipit::net::deadline::sleep(Duration::from_millis(50)).await;
            assert_eq!((peer.count("MAIL"), scene.inbox().len()), (1, 0), "{wrong:?}");
            assert_eq!(scene.recipients(id), before);
        }
        scene.hand.set(BEGIN.plus(3600));
        peer.forget_rules();
        scene.wake().await;
        scene.quiet().await;
        let next = || scene.service.store.read(pipit::store::queue::next_due).unwrap();
        while next().is_some() {
            scene.until("dues of the wrong clock are pulled in", || next().is_none_or(|due| due < BEGIN.plus(2 * DAY))).await;
            scene.to_next_due().await;
        }
        assert_eq!((peer.messages().len(), scene.inbox().len()), (4, 3));
        assert!(scene.service.clock.now() < BEGIN.plus(2 * DAY));
        scene
    });
}

#[test]
fn time_without_resolvers_does_not_count() {
    play("", |scene| async move {
        scene.zone.add("peer.test. TIMEOUT");
        let id = scene.send(Letter::to(&["bob@peer.test"])).await;
        scene.quiet().await;
        for _ in 0..100 {
            scene.hand.advance(Duration::from_secs(7200));
            scene.wake().await;
            scene.quiet().await;
        }
        assert!(scene.service.clock.now() > BEGIN.plus(8 * DAY));
        assert_eq!((scene.recipients(id).len(), scene.inbox().len()), (1, 0));
        scene.zone.set("");
        let peer = scene.domain("peer.test", 1);
        scene.to_next_due().await;
        assert_eq!(peer.messages().len(), 1);
        scene
    });
}

#[test]
fn days_in_doubt_and_restarts_between_them_count_for_nobody() {
    play("", |scene| async move {
        let peer = scene.domain("peer.test", 1);
        peer.answer("RCPT", "451 4.2.1 later");
        let id = scene.send(Letter::to(&["bob@peer.test"])).await;
        scene.quiet().await;
        scene.hand.set(BEGIN.plus(10 * 366 * DAY));
        let mut scene = scene;
        for _ in 0..3 {
            for _ in 0..8 {
                scene.wake().await;
                pipit::net::deadline::sleep(Duration::from_millis(5)).await;
                scene.hand.advance(Duration::from_secs(6 * 3600));
            }
            scene.wake().await;
            pipit::net::deadline::sleep(Duration::from_millis(5)).await;
            scene = scene.restart().await;
        }
        scene.hand.set(BEGIN.plus(6 * DAY + HOUR));
        scene = scene.restart().await;
        scene.quiet().await;
        assert_eq!((peer.count("RCPT"), scene.recipients(id).len(), scene.inbox().len()), (2, 1, 0));
        // Its days are counted from here on, also after one more restart.
        scene = scene.restart().await;
        while scene.to_next_due().await.is_some() {}
        let over = scene.service.clock.now();
        assert!(over > BEGIN.plus(10 * DAY + 20 * HOUR) && over <= BEGIN.plus(11 * DAY + 2 * HOUR), "{over}");
        assert_eq!(scene.inbox().len(), 2);
        scene
    });
}

#[test]
fn what_came_while_the_clock_was_behind_is_not_old() {
    play("", |scene| async move {
        let peer = scene.domain("peer.test", 1);
        peer.answer("RCPT", "451 4.2.1 later");
        scene.service.clock.raise_floor(BEGIN.plus(300 * DAY));
        scene.hand.set(BEGIN.plus(100 * DAY));
        scene.wake().await;
        pipit::net::deadline::sleep(Duration::from_millis(20)).await;
        let id = scene.send(Letter::to(&["bob@peer.test"])).await;
        let scene = scene.restart().await;
        scene.hand.set(BEGIN.plus(301 * DAY));
        let scene = scene.restart().await;
        scene.quiet().await;
        assert_eq!((scene.recipients(id).len(), scene.inbox().len()), (1, 0));
        while scene.to_next_due().await.is_some() {}
        assert!((20..60).contains(&peer.count("RCPT")), "{}", peer.count("RCPT"));
        scene
    });
}

#[test]
fn a_large_queue_without_resolvers_grows_no_older() {
    play("give-up-after = \"1h\"\ndelay-notice-after = \"30m\"", |scene| async move {
        scene.zone.add("peer.test. TIMEOUT");
        let mut ids = Vec::new();
        for letter in 0..3 {
            let to: Vec<String> = (0..500).map(|number| format!("u{letter}x{number}@peer.test")).collect();
            ids.push(scene.send(Letter::to(&to.iter().map(String::as_str).collect::<Vec<_>>())).await);
        }
        scene.quiet().await;
        for _ in 0..15 {
            scene.to_next_due().await;
        }
        assert!(scene.service.clock.now() > BEGIN.plus(HOUR));
        let blind = |id| scene.service.store.read(|r| pipit::store::queue::get(r, id)).unwrap().unwrap().waited_blind;
        let age = u64::try_from(scene.service.clock.now().0 - BEGIN.0).unwrap();
        assert!(ids.iter().all(|id| blind(*id) >= age), "{age}: {:?}", ids.iter().map(|id| blind(*id)).collect::<Vec<_>>());
        assert!(ids.iter().flat_map(|id| scene.recipients(*id)).all(|row| row.attempts == 0 && row.last.is_some()));
        // The first host that can be asked refuses for a while: that is no reason to give up.
        scene.zone.set("");
        let peer = scene.domain("peer.test", 1);
        peer.answer("RCPT", "451 4.2.1 later");
        scene.to_next_due().await;
        let left: usize = ids.iter().map(|id| scene.recipients(*id).len()).sum();
        assert_eq!((left, scene.inbox().len()), (1500, 0));
        scene
    });
}

/// More than one visit looks at one by one: nobody's notice waits behind the others, and nobody is kept longer.
#[test]
fn each_sender_to_a_dead_host_hears_in_time_however_many_wait() {
    play("", |scene| async move {
        scene.zone.add("dead.test. MX 10 mx.dead.test.\nmx.dead.test. A 127.0.0.77");
        let mut ids = Vec::new();
        for letter in 0..6 {
            let to: Vec<String> = (0..500).map(|number| format!("u{letter}x{number}@dead.test")).collect();
            ids.push(scene.send(Letter::to(&to.iter().map(String::as_str).collect::<Vec<_>>())).await);
        }
        scene.quiet().await;
        let left = || ids.iter().flat_map(|id| scene.recipients(*id)).collect::<Vec<_>>();
        let (mut visits, mut told) = (0, None);
        while let Some(time) = scene.to_next_due().await {
            visits += 1;
            if time == BEGIN.plus(4 * HOUR) {
                told = Some(left().iter().filter(|recipient| recipient.delay_told).count());
            }
            assert!(time <= BEGIN.plus(5 * DAY), "{} wait for longer", left().len());
        }
        assert_eq!(told, Some(3000), "of the delay");
        assert!(visits < 100, "{visits}: they still wait together");
        scene
    });
}

#[test]
fn a_clock_that_went_ahead_and_was_set_right_is_believed_on_a_word() {
    play("", |scene| async move {
        let peer = scene.domain("peer.test", 1);
        peer.answer("RCPT", "451 4.2.1 later");
        scene.hand.set(BEGIN.plus(700 * DAY));
        let id = scene.send(Letter::to(&["bob@peer.test"])).await;
        scene.quiet().await;
        // Believed, and saved.
        scene.service.clock.raise_floor(scene.service.clock.now());
        scene.hand.set(BEGIN.plus(HOUR));
        scene.send(Letter::to(&["eve@peer.test"])).await;
        pipit::net::deadline::sleep(Duration::from_millis(50)).await;
        assert_eq!(peer.count("RCPT"), 1, "mail waits");
        scene.service.clock.lower_floor(scene.service.clock.now());
        scene.wake().await;
        scene.quiet().await;
        assert_eq!((peer.count("RCPT"), scene.recipients(id)[0].due <= BEGIN.plus(6 * HOUR)), (2, true));
        peer.forget_rules();
        while scene.to_next_due().await.is_some() {}
        assert_eq!((peer.messages().len(), scene.inbox().len()), (2, 0));
        scene
    });
}

#[test]
fn a_drain_lets_transactions_end_and_takes_nothing_new() {
    play("connections-per-destination = 1", |scene| async move {
        scene.zone.add("peer.test. MX SERVFAIL");
        let ids = [scene.send(Letter::to(&["bob@peer.test"])).await, scene.send(Letter::to(&["bob@peer.test"])).await];
        scene.quiet().await;
        scene.zone.set("");
        let peer = scene.domain("peer.test", 1);
        peer.answer(".", "wait");
        scene.hand.advance(Duration::from_secs(400));
        scene.wake().await;
        scene.until("one message was sent", || peer.messages().len() == 1).await;
        drop(scene.drain.take());
        pipit::net::deadline::sleep(Duration::from_millis(20)).await;
        peer.forget_rules();
        scene.until("the visit has ended", || scene.service.busy.count() == 0).await;
        assert_eq!(peer.messages().len(), 1);
        let left: Vec<_> = ids.iter().flat_map(|id| scene.recipients(*id)).collect();
        assert_eq!(left.len(), 1);
        assert_eq!((left[0].attempts, left[0].due <= scene.service.clock.now()), (1, true));
        assert_eq!(left[0].state, RecipientState::Waiting);
        scene
    });
}

#[test]
fn bogus_answers_defer_and_say_which_zone_is_to_blame() {
    play("", |scene| async move {
        let peer = scene.peer(2);
        scene.zone.add("mx.test. MX BOGUS\nmx.test. A 127.0.0.2");
        scene.zone.add("host.test. MX 10 in.host.test.\nin.host.test. A BOGUS\nin.host.test. AAAA BOGUS");
        // A host that cannot be trusted is no reason to pass over one that can.
        scene.zone.add("some.test. MX 10 in.host.test.\nsome.test. MX 20 ok.some.test.\nok.some.test. A 127.0.0.2");
        let id = scene.send(Letter::to(&["bob@mx.test", "bob@host.test", "bob@some.test"])).await;
        scene.quiet().await;
        assert_eq!((peer.connections(), peer.messages().len()), (1, 1));
        let rows = scene.recipients(id);
        for (row, zone) in rows.iter().zip(["mx.test.", "in.host.test."]) {
            let last = row.last.as_ref().unwrap();
            assert_eq!((row.attempts, last.status.to_string().as_str(), last.remote), (1, "4.4.3", false));
            assert!(last.reply.contains(&format!("the answer is bogus in {zone}: DNSSEC Bogus (6)")), "{last:?}");
        }
        assert_eq!(rows.len(), 2);
        // It is the zone's fault: the mail grows old, and comes back.
        while scene.to_next_due().await.is_some() {}
        assert!(scene.recipients(id).is_empty());
        let told = |notice: &&String| notice.contains("could not be delivered") && notice.contains("the answer is bogus in");
        assert_eq!(scene.inbox().iter().filter(told).count(), 2);
        assert_eq!(peer.connections(), 1);
        scene
    });
}
