//! Accepts connections within the limits of R13 and starts a session for each.
//!
//! A connection over a limit gets `421 4.7.0` as its greeting and costs no task.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use log::debug;
use log::info;

use crate::inbound::Service;
use crate::inbound::serve;
use crate::mail::enhanced::EnhancedStatus;
use crate::metrics::TurnedAway;
use crate::net::deadline::within;
use crate::net::lines::LineStream;
use crate::net::listen::Listener;
use crate::net::slots::Refusal;
use crate::net::stream::Stream;
use crate::net::tasks::Tasks;
use crate::proto::smtp::reply::Reply;

/// One reply fits into a fresh socket's buffer at once; a peer for whom it does not is not worth the wait.
const REFUSAL_PATIENCE: Duration = Duration::from_millis(200);

/// Accepts until the server drains.
pub async fn accept_all(service: Rc<Service>, tasks: Tasks, listener: Rc<Listener>) {
    loop {
        let accepted = smol::future::or(async { Some(listener.accept().await) }, async {
            let _ = service.draining.recv().await;
            None
        });
        let Some((stream, peer)) = accepted.await else { return };
        match service.slots.take(peer.ip(), service.clock.instant()) {
            Ok(slot) => {
                service.metrics.connections.add_one();
                tasks.spawn("smtp session", serve::serve(Rc::clone(&service), stream, peer, slot));
            }
            Err(refusal) => turn_away(&service, stream, peer, refusal).await,
        }
    }
}

async fn turn_away(service: &Service, stream: Stream, peer: SocketAddr, refusal: Refusal) {
    service.metrics.turned_away.add_one(match refusal {
        Refusal::TooMany => TurnedAway::Total,
        Refusal::TooManyFromAddress => TurnedAway::Address,
        Refusal::TooFast => TurnedAway::Rate,
    });
    // One line in the log tells of a flood; the metric counts the rest.
    let level_info = service.metrics.turned_away.value(TurnedAway::Total) % 100 == 1;
    if level_info {
        info!("{peer} turned away: {refusal}")
    } else {
        debug!("{peer} turned away: {refusal}")
    }
    let reply = Reply::new(421, EnhancedStatus::new(4, 7, 0), &refusal.to_string());
    let mut lines = LineStream::new(stream);
    let _ = within(REFUSAL_PATIENCE, async {
        lines.write(&reply.encode()).await?;
        lines.flush().await
    })
    .await;
}
