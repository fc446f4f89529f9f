//! Damaged rows and octets: what concerns them is set aside by name, everything else goes on, and nobody waits for an hour.

use std::time::Instant;

use pipit::mail::date::UnixTime;
use pipit::store::blobs;
use pipit::store::queue;
use pipit::store::queue::Event;
use pipit::store::queue::RecipientState;

use crate::scene::Letter;
use crate::scene::play;

fn event(at: UnixTime) -> Event {
    Event { at, what: "by the test".to_owned() }
}

#[test]
fn a_row_that_breaks_during_the_attempt_stops_neither_its_batch_nor_its_destination() {
    play("connections-per-destination = 1", |scene| async move {
        let peer = scene.domain("peer.test", 1);
        peer.answer(".", "wait");
        let id = scene.send(Letter::to(&["ann@peer.test", "damagedbob@peer.test", "eve@peer.test"])).await;
        scene.until("all was said but the last word", || peer.count("DATA") == 1).await;
        scene.damage("damagedbob");
        scene.send(Letter::to(&["next@peer.test"])).await;
        let began = Instant::now();
        peer.forget_rules();
        scene.quiet().await;
        assert!(began.elapsed().as_secs() < 3, "{:?}", began.elapsed());
        assert_eq!((peer.messages().len(), scene.inbox().len()), (2, 0));
        let store = &scene.service.store;
        let left = store.read(|r| queue::listed_recipients(r, id)).unwrap();
        assert!(left.len() == 1 && left[0].0 == 1 && left[0].1.is_err(), "{left:?}");
        assert_eq!(store.read(queue::aside).unwrap()[0].0, id);
        assert!(store.counters().damaged > 0);
        // It is not tried again, not even after a restart; a person takes it away.
        let scene = scene.restart().await;
        assert_eq!(scene.to_next_due().await, None);
        assert_eq!(scene.service.store.read(queue::aside).unwrap()[0].0, id);
        scene.service.store.write(move |w| queue::remove(w, id, 1)).await.unwrap();
        assert_eq!(scene.service.store.read(queue::aside).unwrap(), []);
        scene
    });
}

#[test]
fn a_message_that_is_damaged_while_it_waits_is_set_aside_and_its_neighbours_go() {
    play("", |scene| async move {
        scene.zone.add("peer.test. MX SERVFAIL");
        let mut letter = Letter::to(&["bob@peer.test"]);
        letter.from = "<ann+damagedpath@home.test>";
        let id = scene.send(letter).await;
        scene.send(Letter::to(&["eve@peer.test"])).await;
        scene.quiet().await;
        scene.damage("damagedpath");
        scene.zone.set("");
        let peer = scene.domain("peer.test", 1);
        while scene.to_next_due().await.is_some() {}
        assert_eq!((peer.messages().len(), scene.inbox().len()), (1, 0));
        let state = scene.recipients(id).remove(0).state;
        assert!(matches!(&state, RecipientState::Held(why) if why.starts_with(queue::SET_ASIDE)), "{state:?}");
        let listed = scene.service.store.read(|r| queue::list(r, None, 9)).unwrap();
        assert!(listed.len() == 1 && listed[0].1.is_err());
        // Which octets were its own nobody knows any more: the check at the end would say so.
        let blobs = scene.blobs(0..9);
        scene.service.store.write(move |w| queue::remove(w, id, 0)).await.unwrap();
        scene.service.store.write(move |w| blobs.into_iter().try_for_each(|blob| blobs::release(w, blob))).await.unwrap();
        scene
    });
}

#[test]
fn a_message_whose_octets_are_gone_is_set_aside_and_can_be_given_back_without_them() {
    play("", |scene| async move {
        scene.zone.add("peer.test. MX SERVFAIL");
        let id = scene.send(Letter::to(&["bob@peer.test"])).await;
        scene.quiet().await;
        let blob = scene.service.store.read(|r| queue::get(r, id)).unwrap().unwrap().blob;
        scene.service.store.write(move |w| blobs::release(w, blob)).await.unwrap();
        scene.zone.set("");
        let peer = scene.domain("peer.test", 1);
        scene.to_next_due().await;
        let state = scene.recipients(id).remove(0).state;
        assert!(matches!(&state, RecipientState::Held(why) if why.contains("octets are not in the store")), "{state:?}");
        assert_eq!((peer.count("MAIL"), scene.to_next_due().await), (0, None));
        assert_eq!(scene.service.store.read(queue::aside).unwrap()[0].0, id);
        let now = scene.service.clock.now();
        scene.service.store.write(move |w| queue::fail(w, id, 0, "gone".into(), event(now))).await.unwrap();
        scene.quiet().await;
        let inbox = scene.inbox();
        assert_eq!((inbox.len(), scene.recipients(id).len()), (1, 0));
        assert!(inbox[0].contains("Your text cannot be given back: this server cannot read it any more"), "{}", inbox[0]);
        assert!(inbox[0].contains("Action: failed") && !inbox[0].contains("text/rfc822-headers") && !inbox[0].contains("message/rfc822"));
        assert!(inbox[0].contains("Subject: hello"), "what the queue itself knows is told");
        scene
    });
}

#[test]
fn a_message_that_lost_a_part_is_never_sent_as_half_of_one() {
    play("", |scene| async move {
        scene.zone.add("peer.test. MX SERVFAIL");
        scene.send(Letter::to(&["first@peer.test"])).await;
        let id = scene.send(Letter::to(&["bob@peer.test"])).await;
        scene.quiet().await;
        // The key of chunk 1 of the second blob becomes that of chunk 9.
        let (is, becomes) = ([0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 9]);
        scene.overwrite(&is, &becomes);
        scene.zone.set("");
        let peer = scene.domain("peer.test", 1);
        while scene.to_next_due().await.is_some() {}
        assert_eq!((peer.messages().len(), peer.count("DATA"), scene.inbox().len()), (1, 2, 0));
        let row = scene.recipients(id).remove(0);
        assert!(matches!(&row.state, RecipientState::Held(why) if why.contains("octets are there")), "{:?}", row.state);
        assert_eq!(scene.service.store.read(queue::aside).unwrap()[0].0, id);
        // Mended, it goes.
        scene.overwrite(&becomes, &is);
        let now = scene.service.clock.now();
        scene.service.store.write(move |w| queue::release(w, id, 0, event(now))).await.unwrap();
        scene.quiet().await;
        assert_eq!((peer.messages().len(), scene.recipients(id).len()), (2, 0));
        assert_eq!(scene.service.store.read(queue::aside).unwrap(), []);
        scene
    });
}
