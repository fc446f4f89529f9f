//! Dead destinations beside live ones (R11), and faults of this program (R17).

use std::time::Instant;

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
