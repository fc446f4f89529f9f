//! Accepts connections within the limits of R13 and starts a session for each.
//!
//! A connection over a limit gets `421 4.7.0` as its greeting and costs no task.

use std::rc::Rc;
use std::time::Duration;
use std::time::Instant;

use log::info;

use crate::inbound::Door;
use crate::inbound::Port;
use crate::inbound::Service;
use crate::inbound::serve;
use crate::mail::enhanced::EnhancedStatus;
use crate::metrics::TurnedAway;
use crate::net::breathe::breathe;
use crate::net::deadline::within;
use crate::net::lines::LineStream;
use crate::net::listen::Listener;
use crate::net::slots::Refusal;
use crate::net::stream::Stream;
use crate::net::tasks::Tasks;
use crate::proto::smtp::reply::Reply;

/// One reply fits into a fresh socket's buffer at once; a peer for whom it does not is not worth the wait.
const REFUSAL_PATIENCE: Duration = Duration::from_millis(200);

/// One line in the log about refused connections in this time; the metric counts them all.
const LOG_PERIOD: Duration = Duration::from_secs(10);
/// Connections between two turns of the event loop: while the backlog is full, nothing here ever waits.
const TURN: u32 = 16;

/// Accepts until the server drains.
pub async fn accept_all(service: Rc<Service>, tasks: Tasks, listener: Rc<Listener>, door: Door) {
    let mut logged: Option<Instant> = None;
    for count in 1u32.. {
        if count % TURN == 0 {
            breathe().await;
        }
        let accepted = smol::future::or(async { Some(listener.accept().await) }, async {
            let _ = service.draining.recv().await;
            None
        });
        let Some((stream, peer)) = accepted.await else { return };
        match service.slots.take(peer.ip(), service.clock.instant()) {
            Ok(slot) => {
                service.metrics.connections.add_one();
                tasks.spawn("smtp session", serve::serve(Rc::clone(&service), door.clone(), stream, peer, slot));
            }
            Err(refusal) => {
                let now = service.clock.instant();
                if logged.is_none_or(|before| now.duration_since(before) > LOG_PERIOD) {
                    logged = Some(now);
                    info!("{peer} turned away: {refusal}");
                }
                turn_away(&service, door.port, stream, refusal).await;
            }
        }
    }
}

async fn turn_away(service: &Service, port: Port, stream: Stream, refusal: Refusal) {
    service.metrics.turned_away.add_one(match refusal {
        Refusal::TooMany => TurnedAway::Total,
        Refusal::TooManyFromAddress => TurnedAway::Address,
        Refusal::TooFast => TurnedAway::Rate,
    });
    // A client that waits for a TLS handshake could not read it.
    if port == Port::Submissions {
        return;
    }
    let reply = Reply::new(421, EnhancedStatus::new(4, 7, 0), &refusal.to_string());
    let mut lines = LineStream::new(stream);
    let _ = within(REFUSAL_PATIENCE, async {
        lines.write(&reply.encode()).await?;
        lines.flush().await
    })
    .await;
}
