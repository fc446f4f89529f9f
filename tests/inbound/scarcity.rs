//! When memory for messages is scarce (R5, R8): who is slow goes, who gathers a header does not wait, who begins gets some.

use std::time::Duration;
use std::time::Instant;

use crate::scene::play;

/// The least that can be configured.
const BUDGET: &str = "memory-budget = \"1M\"";
/// Longer than a message is given before its speed is judged.
const A_WHILE: Duration = Duration::from_secs(61);
const FRONT: &[u8] = b"From: <bob@peer.test>\r\n\r\n";

#[test]
fn a_message_that_trickles_goes_when_others_want_its_memory() {
    play(BUDGET, |scene| async move {
        let budget = &scene.service.budget;
        let mut slow = scene.client().await;
        slow.begin().await;
        slow.write(FRONT).await;
        // A burst at first is no excuse for ever: each minute is judged by itself.
        slow.write(&b"a fast line of the body\r\n".repeat(8_000)).await;
        let mut watch = scene.client().await;
        for _ in 0..5 {
            scene.hand.advance(A_WHILE);
            slow.write(b"x\r\n").await;
            watch.say("NOOP", "250 ").await;
        }
        assert_eq!(scene.service.metrics.timeouts.value(), 0, "as long as there is enough for all, it may take its time");
        let all_that_is_left = || budget.try_take(budget.capacity() - budget.used()).unwrap();
        let mut others = all_that_is_left();
        // It writes to the disk what it can, which others take at once.
        slow.write(b"just waiting\r\n").await;
        watch.say("NOOP", "250 ").await;
        others.absorb(all_that_is_left());
        assert!(budget.is_scarce(0));
        scene.hand.advance(A_WHILE);
        slow.write(b"x\r\n").await;
        assert_eq!(slow.line().await, None, "closed");
        assert_eq!(scene.service.metrics.timeouts.value(), 1);
        assert_eq!(budget.used(), others.bytes(), "what it held is free");
        scene
    });
}

#[test]
fn a_fast_message_stays_while_memory_is_scarce() {
    play(BUDGET, |scene| async move {
        let budget = &scene.service.budget;
        let _others = budget.try_take(budget.capacity() * 3 / 4 + 1).unwrap();
        let mut client = scene.client().await;
        client.begin().await;
        client.write(FRONT).await;
        for _ in 0..5 {
            client.write(&b"1,000 lines of thirty octets.\r\n".repeat(4_000)).await;
            scene.hand.advance(A_WHILE);
        }
        client.say(".", "250 2.0.0").await;
        assert!(scene.service.metrics.memory_waits.value() > 0, "it was written ahead");
        assert_eq!(scene.stored().len(), 1);
        scene
    });
}

#[test]
fn a_header_is_put_off_at_once_where_memory_for_it_is_missing() {
    play(BUDGET, |scene| async move {
        let budget = &scene.service.budget;
        let others = budget.try_take(budget.capacity() - 32 * 1024).unwrap();
        let mut client = scene.client().await;
        client.begin().await;
        let began = Instant::now();
        client.write(b"From: <bob@peer.test>\r\n").await;
        let filler = format!("X-Filler: {}\r\n", "f".repeat(900));
        client.say(&format!("{}\r\nbody\r\n.", filler.repeat(100)), "452 4.3.2").await;
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        // A small one finds room beside the others, and a large one once they are gone.
        client.deliver("small", "").await;
        drop(others);
        client.deliver("large", &filler.repeat(100)).await;
        assert_eq!(scene.stored().len(), 2);
        scene
    });
}

#[test]
fn who_begins_waits_for_memory_that_comes_free() {
    play(BUDGET, |scene| async move {
        let budget = &scene.service.budget;
        let others = budget.try_take(budget.capacity()).unwrap();
        let mut client = scene.client().await;
        client.begin().await;
        client.write(b"From: <bob@peer.test>\r\n\r\nbody\r\n.\r\n").await;
        pipit::net::deadline::sleep(Duration::from_millis(50)).await;
        assert_eq!(scene.stored().len(), 0, "nothing is read without memory for it");
        drop(others);
        client.expect("250 2.0.0").await;
        scene
    });
}
