//! A panic ends one session and nothing else (R17).

use std::net::SocketAddr;
use std::rc::Rc;

use pipit::inbound::Door;
use pipit::inbound::Port;
use pipit::inbound::serve::serve;
use pipit::net::stream::Stream;

use crate::scene::Client;
use crate::scene::PEER;
use crate::scene::play;

#[test]
fn a_panic_in_the_middle_of_a_message_costs_that_message_only() {
    play("", |scene| async move {
        let mut other = scene.client().await;
        other.begin().await;
        other.write(b"From: <bob@peer.test>\r\nSubject: survives\r\n\r\nhalf").await;

        let (near, far) = Stream::memory_pair();
        let (fault, struck) = smol::channel::bounded::<()>(1);
        let peer = SocketAddr::new(PEER.parse().unwrap(), 40_001);
        let slot = scene.service.slots.take(peer.ip(), scene.service.clock.instant()).unwrap();
        let door = Door { port: Port::Exchange, tls: None };
        let session = serve(Rc::clone(&scene.service), door, far, peer, slot);
        scene.tasks.spawn("smtp session", async move {
            smol::future::or(session, async {
                let _ = struck.recv().await;
                panic!("as the test asked");
            })
            .await;
        });
        let mut doomed = Client::greeted(near).await;
        doomed.begin().await;
        doomed.write(b"From: <bob@peer.test>\r\nSubject: lost\r\n\r\n").await;
        doomed.write(&b"line of a body that is long enough to be spooled\r\n".repeat(20_000)).await;
        scene.until("memory is reserved for both", || scene.service.budget.used() > 32 * 1024).await;
        drop(fault);
        while doomed.line().await.is_some() {}
        assert_eq!(scene.service.metrics.panics.value(), 1);
        assert_eq!(scene.service.slots.load().open, 1, "its slot is free");

        other.say(" and whole\r\n.", "250 2.0.0").await;
        scene.client().await.deliver("afterwards", "").await;
        let subjects: Vec<_> = scene.stored().into_iter().map(|(_, message)| message.digest.subject).collect();
        assert_eq!(subjects, ["survives", "afterwards"]);
        scene
    });
}
