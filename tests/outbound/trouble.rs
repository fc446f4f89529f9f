//! Dead destinations beside live ones (R11), and faults of this program (R17).

use std::time::Duration;
use std::time::Instant;

use pipit::net::deadline::sleep;
use pipit::store::queue;
use pipit::store::queue::RecipientState;

use crate::scene::Letter;
use crate::scene::play;

#[test]
fn dead_destinations_do_not_delay_live_ones() {
    play("destinations = 1", |scene| async move {
        // They take the connection and never say a word.
        let silent = scene.peer(2);
        silent.answer("CONNECT", "wait");
        for number in 0..60 {
            scene.zone.add(&format!("dead{number}.test. MX 10 mx.dead{number}.test.\nmx.dead{number}.test. A 127.0.0.2"));
            scene.send(Letter::to(&[&format!("bob@dead{number}.test")])).await;
        }
        scene.until("all of them are dialled", || silent.connections() == 60).await;
        let peers = [scene.domain("one.test", 1), scene.domain("two.test", 3)];
        let began = Instant::now();
        scene.send(Letter::to(&["bob@one.test", "bob@two.test"])).await;
        scene.until("both are delivered", || peers.iter().all(|peer| peer.messages().len() == 1)).await;
        assert!(began.elapsed().as_secs() < 3, "{:?}", began.elapsed());
        silent.answer("CONNECT", "421 4.3.2 never");
        scene.quiet().await;
        scene
    });
}

#[test]
fn an_unreachable_domain_is_dialled_once_for_all_its_mail() {
    play("", |scene| async move {
        let peer = scene.domain("peer.test", 1);
        peer.answer("CONNECT", "wait");
        for _ in 0..30 {
            scene.send(Letter::to(&["bob@peer.test"])).await;
        }
        peer.answer("CONNECT", "421 4.3.2 not now");
        scene.quiet().await;
        assert!(peer.connections() <= 2, "{} connections", peer.connections());
        scene
    });
}

#[test]
fn a_large_queue_of_a_dead_domain_waits_as_one() {
    play("", |scene| async move {
        let peer = scene.domain("peer.test", 1);
        peer.answer("CONNECT", "421 4.3.2 not now");
        let mut ids = Vec::new();
        for letter in 0..3 {
            let to: Vec<String> = (0..500).map(|number| format!("u{letter}x{number}@peer.test")).collect();
            ids.push(scene.send(Letter::to(&to.iter().map(String::as_str).collect::<Vec<_>>())).await);
        }
        scene.quiet().await;
        assert!(peer.connections() <= 2, "{} connections", peer.connections());
        let rows: Vec<_> = ids.iter().flat_map(|id| scene.recipients(*id)).collect();
        let now = scene.service.clock.now();
        assert!(rows.len() == 1500 && rows.iter().all(|row| row.due > now && row.last.as_ref().is_some_and(|last| last.remote)));
        peer.forget_rules();
        while scene.to_next_due().await.is_some() {}
        assert_eq!((peer.count("RCPT"), scene.inbox().len()), (1500, 0));
        scene
    });
}

#[test]
fn a_message_at_which_the_program_fails_twice_is_set_aside() {
    play("", |scene| async move {
        let peer = scene.domain("peer.test", 1);
        let id = scene.send(Letter::to(&["bob@panic.test", "eve@peer.test"])).await;
        scene.quiet().await;
        assert_eq!(peer.messages().len(), 1);
        let row = scene.recipients(id).remove(0);
        assert_eq!((row.crashes, row.state, row.attempts), (1, RecipientState::Waiting, 1));
        scene.to_next_due().await;
        let row = scene.recipients(id).remove(0);
        assert!(matches!(&row.state, RecipientState::Held(why) if why.contains("twice")), "{:?}", row.state);
        assert_eq!((scene.service.metrics.panics.value(), scene.inbox().len()), (2, 0));
        assert_eq!(scene.to_next_due().await, None);
        // The service itself goes on.
        scene.send(Letter::to(&["bob@peer.test"])).await;
        scene.quiet().await;
        assert_eq!(peer.messages().len(), 2);
        scene
    });
}

#[test]
fn hosts_that_stall_amid_a_transaction_give_their_place_to_the_waiting() {
    play("destinations = 1", |scene| async move {
        let tarpit = scene.domain("tarpit.test", 2);
        tarpit.answer("DATA", "wait");
        scene.send(Letter::to(&["bob@tarpit.test"])).await;
        scene.until("the host stalls", || tarpit.count("DATA") == 1).await;
        let live = scene.domain("live.test", 1);
        let id = scene.send(Letter::to(&["bob@live.test"])).await;
        scene.until("the other one is reached", || live.count("EHLO") == 1).await;
        scene.hand.advance(Duration::from_secs(60));
        scene.until("the live one is served", || scene.recipients(id).is_empty()).await;
        // The stalled one goes on all the same, and nothing is sent twice.
        tarpit.answer("DATA", "354 go on");
        scene.quiet().await;
        assert_eq!((tarpit.messages().len(), live.messages().len(), tarpit.connections()), (1, 1, 1));
        scene
    });
}

#[test]
fn a_host_that_closed_while_we_waited_for_our_turn_is_not_dead() {
    play("destinations = 1", |scene| async move {
        let slow = scene.domain("slow.test", 2);
        slow.answer("MAIL", "wait");
        scene.send(Letter::to(&["bob@slow.test"])).await;
        scene.until("it holds the only place", || slow.count("MAIL") == 1).await;
        let peer = scene.domain("peer.test", 1);
        scene.send(Letter::to(&["bob@peer.test"])).await;
        scene.until("the other one is reached", || peer.count("EHLO") == 1).await;
        // Its answer is still on its way.
        sleep(Duration::from_millis(100)).await;
        scene.hand.advance(Duration::from_secs(20));
        peer.answer("MAIL", "close");
        peer.answer("EHLO", "wait");
        slow.forget_rules();
        scene.until("it is dialled again", || peer.connections() == 2).await;
        peer.forget_rules();
        scene.quiet().await;
        assert_eq!((peer.messages().len(), scene.service.store.read(queue::next_due).unwrap()), (1, None));
        scene
    });
}

#[test]
fn a_host_that_takes_one_connection_at_a_time_gets_all_over_it() {
    play("", |scene| async move {
        let peer = scene.domain("peer.test", 1);
        peer.answer("CONNECT", "421 4.3.2 not now");
        for _ in 0..6 {
            scene.send(Letter::to(&["bob@peer.test"])).await;
        }
        scene.quiet().await;
        peer.forget_rules();
        peer.answer("EHLO", "wait");
        let before = peer.connections();
        scene.hand.advance(Duration::from_secs(900));
        scene.wake().await;
        scene.until("it is dialled", || peer.connections() == before + 1).await;
        peer.answer("CONNECT", "421 4.7.0 too many connections from you");
        peer.answer("EHLO", "250 peer.test");
        scene.quiet().await;
        assert_eq!(peer.messages().len(), 6, "{} connections", peer.connections() - before);
        assert_eq!(scene.service.store.read(queue::next_due).unwrap(), None);
        scene
    });
}

#[test]
fn mail_of_a_wrong_future_goes_even_beside_mail_that_waits_rightly() {
    play("", |scene| async move {
        let peer = scene.domain("peer.test", 1);
        peer.answer("RCPT TO:<eve@", "450 4.2.1 later");
        scene.send(Letter::to(&["eve@peer.test"])).await;
        scene.quiet().await;
        // Ten years ahead; nobody believes it, but mail is taken.
        let right = scene.service.clock.now();
        scene.hand.set(right.plus(10 * 365 * 86_400));
        scene.wake().await;
        let id = scene.send(Letter::to(&["bob@peer.test"])).await;
        scene.hand.set(right);
        scene.wake().await;
        for _ in 0..3 {
            scene.to_next_due().await;
        }
        assert_eq!(scene.recipients(id), []);
        scene
    });
}

#[test]
fn a_raised_limit_lets_those_go_on_who_wait_for_a_place() {
    play("destinations = 1", |scene| async move {
        let slow = scene.domain("slow.test", 2);
        slow.answer("MAIL", "wait");
        scene.send(Letter::to(&["bob@slow.test"])).await;
        scene.until("it holds the only place", || slow.count("MAIL") == 1).await;
        let peer = scene.domain("peer.test", 1);
        scene.send(Letter::to(&["bob@peer.test"])).await;
        scene.until("the other one is reached", || peer.count("EHLO") == 1).await;
        sleep(Duration::from_millis(50)).await;
        assert_eq!(peer.count("MAIL"), 0);
        let mut settings = (*scene.service.live.current()).clone();
        settings.outbound.destinations = 2;
        scene.service.busy.settings_changed(settings.outbound.destinations);
        scene.service.live.replace(settings);
        scene.until("it is served beside the slow one", || peer.messages().len() == 1).await;
        slow.forget_rules();
        scene.quiet().await;
        scene
    });
}
