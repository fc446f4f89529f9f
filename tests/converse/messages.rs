//! Messages on their way: octets that arrive as they were, and everything that can end them.

use std::net::TcpListener;

use pipit::metrics::Metrics;
use pipit::net::listen::Listener;
use pipit::net::listen::bind;
use pipit::net::stream::Stream;
use pipit::outbound::converse;
use pipit::outbound::converse::HostFailure;
use pipit::outbound::converse::Outcome;
use pipit::outbound::converse::Pace;
use smol::future::zip;

use crate::peer::Chunks;
use crate::peer::ENVELOPE;
use crate::peer::GREETED;
use crate::peer::HURRIED;
use crate::peer::Seen;
use crate::peer::bob;
use crate::peer::caller;
use crate::peer::greet;
use crate::peer::play;
use crate::peer::target;
use crate::peer::transaction;

/// One message against a script; the session as it is afterwards is the last of the three.
fn send(script: &str, source: &mut Chunks, pace: Pace) -> (Seen, Outcome, bool) {
    let (near, far) = Stream::memory_pair();
    let path = bob();
    let ours = async {
        let mut connection = greet(near, "mx.example.org", pace).await.unwrap();
        let outcome = connection.transact(&transaction(&path), source).await.pop().unwrap();
        let usable = connection.is_usable();
        connection.quit().await;
        (outcome, usable)
    };
    let (seen, (outcome, usable)) = smol::block_on(zip(play(far, script, None), ours));
    (seen, outcome, usable)
}

fn deferred(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Deferred(why) => why.to_string(),
        other => panic!("{other:?}"),
    }
}

fn next_host(outcome: &Outcome) -> String {
    match outcome {
        Outcome::NextHost(why) => why.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_message_arrives_as_it_was_however_it_is_cut() {
    let text = b"From: a\r\n\r\n.\r\n..two\r\nplain\r\n.x\r\n\r\n.\r\n".repeat(3);
    for cut in 0..text.len() {
        let script = format!("{GREETED}{ENVELOPE}message\nS: 250 2.0.0 taken\nC: QUIT\nS: 221 bye\nend\n");
        let (seen, outcome, usable) = send(&script, &mut Chunks::new(&[&text[..cut], &[], &text[cut..]]), Pace::USUAL);
        assert_eq!(seen.messages, std::slice::from_ref(&text), "cut at {cut}");
        assert!(matches!(outcome, Outcome::Delivered(reply) if reply.to_string() == "250 2.0.0 taken"));
        assert!(usable);
    }
}

#[test]
fn a_large_message_meets_back_pressure_and_a_last_line_gets_its_end() {
    let line = b".some line of text that is longer than most\r\n".repeat(30_000);
    let chunks: Vec<&[u8]> = line.chunks(65_520).chain([&b"no end"[..]]).collect();
    let script = format!("{GREETED}{ENVELOPE}message\nS: 250 ok\nC: QUIT\nS: 221 bye\n");
    let (seen, outcome, _) = send(&script, &mut Chunks::new(&chunks), Pace::USUAL);
    assert_eq!(seen.messages[0], [&line[..], b"no end\r\n"].concat());
    assert!(matches!(outcome, Outcome::Delivered(_)));
}

#[test]
fn an_empty_message_is_its_dot() {
    let script = format!("{GREETED}{ENVELOPE}C: .\nS: 250 ok\nC: QUIT\nS: 221 bye\n");
    assert!(matches!(send(&script, &mut Chunks::new(&[]), Pace::USUAL).1, Outcome::Delivered(_)));
}

#[test]
fn a_connection_carries_two_messages_and_the_source_begins_anew() {
    let script = format!("{GREETED}{ENVELOPE}message\nS: 250 one\n{ENVELOPE}message\nS: 250 two\nC: QUIT\nS: 221 bye\nend\n");
    let (near, far) = Stream::memory_pair();
    let path = bob();
    let mut source = Chunks::new(&[b"text\r\n"]);
    let ours = async {
        let mut connection = greet(near, "mx.example.org", Pace::USUAL).await.unwrap();
        for word in ["250 one", "250 two"] {
            let outcomes = connection.transact(&transaction(&path), &mut source).await;
            assert!(matches!(&outcomes[..], [Outcome::Delivered(reply)] if reply.to_string() == word));
            assert!(connection.is_usable());
        }
        connection.quit().await;
    };
    let seen = smol::block_on(zip(play(far, &script, None), ours)).0;
    assert_eq!((seen.messages, source.readings), (vec![b"text\r\n".to_vec(); 2], 2));
}

#[test]
fn a_close_behind_the_final_dot_may_have_been_a_delivery() {
    let (seen, outcome, usable) = send(&format!("{GREETED}{ENVELOPE}message\n"), &mut Chunks::new(&[b"text\r\n"]), Pace::USUAL);
    assert_eq!(seen.messages.len(), 1);
    assert_eq!(deferred(&outcome), "4.4.2 the host closed the connection; the message may have been delivered all the same");
    assert!(!usable);
}

#[test]
fn silence_behind_the_final_dot_may_have_been_a_delivery() {
    let script = format!("{GREETED}{ENVELOPE}message\nsilence\n");
    let (_, outcome, _) = send(&script, &mut Chunks::new(&[b"text\r\n"]), Pace::hurried(HURRIED));
    assert_eq!(deferred(&outcome), "4.4.2 the host did not answer in time; the message may have been delivered all the same");
}

#[test]
fn silence_at_each_step_ends_in_time() {
    for (script, expected) in [
        ("silence\n", "the host did not answer in time (at the connection)"),
        ("S: 220 mx\nC: EHLO…\nsilence\n", "the host did not answer in time (at EHLO)"),
    ] {
        let (near, far) = Stream::memory_pair();
        let (_, outcome) = smol::block_on(zip(play(far, script, None), greet(near, "mx.example.org", Pace::hurried(HURRIED))));
        // The goodbye is heard by the one who was silent.
        assert_eq!(outcome.err().unwrap().to_string(), expected);
    }
    for behind in [
        "C: MAIL…\nsilence\n",
        "C: MAIL…\nC: RCPT…\nC: DATA\nS: 250 ok\nsilence\n",
        "C: MAIL…\nC: RCPT…\nC: DATA\nS: 250 ok\nS: 250 ok\nsilence\n",
    ] {
        let (_, outcome, usable) = send(&format!("{GREETED}{behind}"), &mut Chunks::new(&[b"text\r\n"]), Pace::hurried(HURRIED));
        assert!(next_host(&outcome).contains("4.4.2"), "{outcome:?}");
        assert!(!usable);
    }
}

#[test]
fn a_peer_that_reads_no_further_is_left() {
    let text = b"x\r\n".repeat(200_000);
    let (near, far) = Stream::memory_pair();
    let path = bob();
    let mut source = Chunks::new(&[&text]);
    let peer = async {
        let held = play_and_hold(far, &format!("{GREETED}{ENVELOPE}")).await;
        smol::Timer::after(std::time::Duration::from_secs(4)).await;
        drop(held);
    };
    let ours = async {
        let mut connection = greet(near, "mx.example.org", Pace::hurried(HURRIED)).await.unwrap();
        connection.transact(&transaction(&path), &mut source).await
    };
    let outcomes = smol::block_on(zip(peer, ours)).1;
    assert_eq!(next_host(&outcomes[0]), "4.4.2 the host did not answer in time");
}

/// As `play`, with the connection kept.
async fn play_and_hold(stream: Stream, script: &str) -> pipit::net::lines::LineStream {
    let mut lines = pipit::net::lines::LineStream::new(stream);
    for line in script.lines() {
        match line.strip_prefix("S: ") {
            Some(reply) => lines.write(format!("{reply}\r\n").as_bytes()).await.unwrap(),
            None => assert!(matches!(lines.next_line(1000).await.unwrap(), pipit::net::lines::LineRead::Line(_))),
        }
    }
    lines.flush().await.unwrap();
    lines
}

#[test]
fn a_refusal_amid_the_message_is_heard() {
    let text = b"x\r\n".repeat(200_000);
    for (said, expected) in [("552 5.3.4 too big", "552 5.3.4 too big"), ("421 4.3.2 going down", "421 4.3.2 going down")] {
        let script = format!("{GREETED}{ENVELOPE}S: {said}\n");
        let (_, outcome, usable) = send(&script, &mut Chunks::new(&[&text]), Pace::USUAL);
        assert_eq!(matches!(&outcome, Outcome::Failed(why) if why.to_string() == expected), said.starts_with('5'));
        assert_eq!(matches!(&outcome, Outcome::NextHost(why) if why.to_string() == expected), said.starts_with('4'));
        assert!(!usable);
    }
    let (_, outcome, _) = send(&format!("{GREETED}{ENVELOPE}S: 250 taken, I swear\n"), &mut Chunks::new(&[&text]), Pace::USUAL);
    assert!(next_host(&outcome).starts_with("4.4.2 the connection was lost"), "{outcome:?}");
}

/// As above where the kernel resets the connection, because the peer closes with octets unread.
#[test]
fn a_refusal_amid_the_message_is_heard_over_a_real_socket() {
    let listener = Listener::new(bind("127.0.0.1:0".parse().unwrap()).unwrap()).unwrap();
    let mut there = target("mx.example.org");
    there.address = listener.local_address().unwrap();
    let path = bob();
    let mut source = Chunks::new(&[&b"x\r\n".repeat(3_000_000)]);
    let (metrics, caller) = (Metrics::default(), caller());
    let ours = async {
        let mut connection = converse::connect(&there, &caller, &metrics).await.unwrap();
        connection.transact(&transaction(&path), &mut source).await
    };
    let script = format!("{GREETED}{ENVELOPE}S: 552 5.3.4 too big\n");
    let peer = async { play(listener.accept().await.0, &script, None).await };
    let outcomes = smol::block_on(zip(peer, ours)).1;
    assert!(matches!(&outcomes[..], [Outcome::Failed(why)] if why.to_string() == "552 5.3.4 too big"), "{outcomes:?}");
}

#[test]
fn a_message_that_cannot_go_on_is_never_ended() {
    let mut broken = Chunks::new(&[b"From: a\r\n\r\nhalf"]);
    broken.chunks.push(Err("the disk failed".into()));
    let script = format!("{GREETED}{ENVELOPE}message\n");
    let (seen, outcome, usable) = send(&script, &mut broken, Pace::USUAL);
    assert!(seen.messages.is_empty() && seen.cut.is_some());
    assert_eq!(deferred(&outcome), "4.3.0 the message could not be read here: the disk failed");
    assert!(!usable);
    for odd in [&b"a\nb\r\n"[..], b"a\rb\r\n", b"a\0b\r\n", b"a\r\n\r"] {
        let (seen, outcome, _) = send(&script, &mut Chunks::new(&[b"From: a\r\n", odd]), Pace::USUAL);
        assert!(seen.messages.is_empty() && seen.cut.is_some());
        assert!(matches!(outcome, Outcome::Failed(why) if why.status.to_string() == "5.6.0"));
    }
}

#[test]
fn a_peer_that_speaks_unasked_is_not_used_again() {
    let script = format!("{GREETED}{ENVELOPE}message\nS: 250 ok\\n421 4.4.2 idle\nC: QUIT\n");
    let (_, outcome, usable) = send(&script, &mut Chunks::new(&[b"text\r\n"]), Pace::USUAL);
    assert!(matches!(outcome, Outcome::Delivered(_)));
    assert!(!usable);
}

#[test]
fn a_real_socket_is_reached_or_not() {
    let listener = Listener::new(bind("127.0.0.1:0".parse().unwrap()).unwrap()).unwrap();
    let mut there = target("mx.example.org");
    there.address = listener.local_address().unwrap();
    let path = bob();
    let mut source = Chunks::new(&[b"text\r\n"]);
    let metrics = Metrics::default();
    let caller = caller();
    let ours = async {
        let mut connection = converse::connect(&there, &caller, &metrics).await.unwrap();
        let outcomes = connection.transact(&transaction(&path), &mut source).await;
        connection.quit().await;
        outcomes
    };
    let script = format!("{GREETED}{ENVELOPE}message\nS: 250 ok\nC: QUIT\nS: 221 bye\nend\n");
    let peer = async { play(listener.accept().await.0, &script, None).await };
    let (seen, outcomes) = smol::block_on(zip(peer, ours));
    assert_eq!((seen.messages.len(), outcomes.len()), (1, 1));
    assert_eq!(metrics.client_connections.value(), 1);

    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    there.address = closed;
    let failure = smol::block_on(converse::connect(&there, &caller, &metrics)).err().unwrap();
    assert!(matches!(failure, HostFailure::Unreachable(_)), "{failure}");
    assert_eq!(failure.why().status.to_string(), "4.4.1");
}

#[test]
fn our_own_name_and_refusals_end_with_a_goodbye() {
    for (greeting, expected) in [
        ("220 Sender.example ESMTP", "the host greets with our own name"),
        ("554 5.7.1 no service", "the host refused the connection: 554 5.7.1 no service"),
    ] {
        let (near, far) = Stream::memory_pair();
        let script = format!("S: {greeting}\nC: QUIT\nend\n");
        let (_, outcome) = smol::block_on(zip(play(far, &script, None), greet(near, "mx.example.org", Pace::USUAL)));
        assert_eq!(outcome.err().unwrap().to_string(), expected);
    }
}
