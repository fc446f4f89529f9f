//! Clock jumps (R12): the wall clock is only written down; order comes from counters, intervals from the monotonic clock.

use std::time::Duration;

use pipit::mail::date::UnixTime;
use pipit::net::clock::Certainty;
use pipit::net::clock::RELEASED;
use pipit::net::slots::Refusal;

use crate::scene::PEER;
use crate::scene::play;

const TEN_YEARS: i64 = 10 * 366 * 86_400;
const HOUR: Duration = Duration::from_secs(3600);

/// Where a broken clock may stand: ten years around now, the epoch, before it, and 2100.
fn jumps() -> [UnixTime; 7] {
    [
        RELEASED.plus(-TEN_YEARS),
        RELEASED.plus(TEN_YEARS),
        RELEASED,
        UnixTime(0),
        UnixTime(-TEN_YEARS),
        RELEASED.plus(-1),
        UnixTime(4_102_444_800),
    ]
}

#[test]
fn mail_is_kept_in_order_whatever_the_clock_says() {
    play("", |scene| async move {
        let mut long = scene.client().await;
        let mut expected = Vec::new();
        for (number, time) in jumps().into_iter().cycle().take(3 * jumps().len()).enumerate() {
            // A message that was begun before the jump and ends behind it …
            long.begin().await;
            long.write(format!("From: <bob@peer.test>\r\nSubject: across {number}\r\n").as_bytes()).await;
            scene.hand.set(time);
            // … while another begins and ends behind it.
            let mut short = scene.client().await;
            short.deliver(&format!("behind {number}"), "").await;
            long.say("\r\nbody\r\n.", "250 2.0.0").await;
            expected.extend([(format!("behind {number}"), time), (format!("across {number}"), time)]);
        }
        let stored = scene.stored();
        let seen: Vec<_> = stored.iter().map(|(_, message)| (message.digest.subject.clone(), message.received)).collect();
        assert_eq!(seen, expected);
        assert!(stored.iter().map(|(id, _)| id).is_sorted_by(|a, b| a < b), "numbers of messages grow");
        assert!(stored.iter().map(|(_, message)| message.uid).is_sorted_by(|a, b| a < b), "uids grow");
        assert!(stored.iter().map(|(_, message)| message.modseq).is_sorted_by(|a, b| a < b), "change numbers grow");
        assert!(stored.iter().all(|(_, message)| message.reception.trace_id.len() == 13));
        scene
    });
}

#[test]
fn a_jump_is_no_passing_of_time_for_sessions() {
    play("", |scene| async move {
        let mut idle = scene.client().await;
        let mut receiving = scene.client().await;
        receiving.begin().await;
        for time in jumps() {
            scene.hand.set(time);
            idle.say("NOOP", "250 ").await;
            receiving.write(b"From: <bob@peer.test>\r\n").await;
            idle.say("RSET", "250 ").await;
        }
        assert_eq!(scene.service.clock.certainty(), Certainty::Plausible, "2100");
        // Several From fields: refused at the end, but read to it.
        receiving.say("\r\nbody\r\n.", "550 5.6.0").await;
        assert_eq!(scene.service.metrics.timeouts.value(), 0);
        scene
    });
}

#[test]
fn deadlines_follow_the_monotonic_clock() {
    play("", |scene| async move {
        let mut idle = scene.client().await;
        let mut receiving = scene.client().await;
        receiving.begin().await;
        receiving.write(b"From: <bob@peer.test>\r\n\r\n").await;
        idle.say("NOOP", "250 ").await;
        // Both clocks go on for an hour, and the wall clock back at once: an hour it is.
        scene.hand.advance(HOUR);
        scene.hand.set(RELEASED.plus(-TEN_YEARS));
        idle.say("NOOP", "250 ").await;
        receiving.write(b"still here\r\n").await;
        idle.say("NOOP", "250 ").await;
        // A whole message may take two, a session four.
        scene.hand.advance(HOUR + Duration::from_secs(1));
        receiving.write(b"too late\r\n").await;
        assert_eq!(receiving.line().await, None, "closed without a word in the middle of a message");
        scene.hand.advance(2 * HOUR);
        // It waited for this command before the time was over; the next one is not waited for.
        idle.say("NOOP", "250 ").await;
        idle.expect("421 4.4.2").await;
        assert_eq!(idle.line().await, None);
        assert_eq!(scene.stored().len(), 0);
        scene
    });
}

#[test]
fn slots_refill_by_the_monotonic_clock() {
    play("burst = 2\nconnections-per-minute = 1", |scene| async move {
        let peer = PEER.parse().unwrap();
        let take = || scene.service.slots.take(peer, scene.service.clock.instant());
        assert!(take().is_ok() && take().is_ok());
        for time in jumps() {
            scene.hand.set(time);
            assert_eq!(take().err(), Some(Refusal::TooFast), "{time:?}");
        }
        scene.hand.advance(Duration::from_secs(59));
        assert_eq!(take().err(), Some(Refusal::TooFast));
        scene.hand.advance(Duration::from_secs(1));
        scene.hand.set(UnixTime(0));
        assert!(take().is_ok());
        assert_eq!(take().err(), Some(Refusal::TooFast));
        scene
    });
}
