//! A message that was read to its end gets its trace fields and is filed: for people here, and for the queue.
//!
//! In goes the spooled body; out comes the verdict for the machine, `Stored` only after the commit is on disk (promise R1).
//! What our own people hand in shows neither their address nor their program's name for itself (delivery.md section 1).

use log::info;
use log::warn;
use ring::rand::SystemRandom;

use crate::inbound::data::Body;
use crate::inbound::serve::Conversation;
use crate::intake::deliver;
use crate::intake::deliver::Arrival;
use crate::intake::submit;
use crate::intake::submit::Submission;
use crate::intake::trace::new_trace_id;
use crate::mail::date::UnixTime;
use crate::mail::digest::Digest;
use crate::mail::envelope;
use crate::mail::envelope::Envelope;
use crate::mail::envelope::RequireTls;
use crate::mail::received::From;
use crate::mail::received::Received;
use crate::proto::smtp::server::DataVerdict;
use crate::proto::smtp::server::Role;
use crate::store::Error;
use crate::store::QueueId;
use crate::store::Spooled;
use crate::store::messages::Flags;
use crate::store::messages::Reception;
use crate::store::queue::Origin;

/// A message with its trace fields.
struct Traced<'c> {
    envelope: &'c Envelope,
    spooled: Spooled,
    trace_id: String,
    received: UnixTime,
    digest: Digest,
    wish: RequireTls,
    octets: envelope::Body,
}

/// Writes trace lines, commits, and logs.
pub async fn file(conversation: &Conversation, body: Body) -> DataVerdict {
    let Some(envelope) = conversation.session.envelope() else { return DataVerdict::Failed };
    let received = conversation.service.clock.now();
    let Ok(trace_id) = new_trace_id(received, &SystemRandom::new()) else { return DataVerdict::Failed };
    let Body { spool, digest, wish, additions, octets } = body;
    let size = spool.len();
    let mut trace = received_field(conversation, envelope, &trace_id, (received, wish)).into_bytes();
    trace.extend_from_slice(&additions);
    let spooled = match spool.finish(trace) {
        Ok(spooled) => spooled,
        Err(error) => return not_stored(&trace_id, &error),
    };
    let traced = Traced { envelope, spooled, trace_id: trace_id.clone(), received, digest, wish, octets };
    let filed = match conversation.door.port.role() {
        Role::Exchange => deliver(conversation, traced).await,
        Role::Submission => submit(conversation, traced).await,
    };
    match filed {
        Ok(where_to) => {
            conversation.service.metrics.message_bytes.add(size);
            let tls = conversation.session.tls().map_or("no TLS".to_string(), |tls| format!("{} {}", tls.version, tls.cipher));
            let (from, client) = (&envelope.reverse_path, conversation.peer.ip());
            info!("message {trace_id} from {from} stored, {size} octets, {where_to}, client {client}, {tls}");
            DataVerdict::Stored { trace_id }
        }
        Err(error) => not_stored(&trace_id, &error),
    }
}

fn received_field(conversation: &Conversation, envelope: &Envelope, id: &str, (date, require_tls): (UnixTime, RequireTls)) -> String {
    let session = &conversation.session;
    let settings = conversation.service.live.current();
    let helo = helo(conversation);
    let from = match conversation.door.port.role() {
        Role::Exchange => From::Client { helo: &helo, name: None, address: conversation.peer.ip() },
        Role::Submission => From::Hidden,
    };
    let for_ = match envelope.recipients.as_slice() {
        [only] => Some(&only.path),
        _ => None,
    };
    let (by, with, tls) = (&settings.hostname, session.with_protocol(), session.tls());
    Received { from, by, with, require_tls, id, tls, for_, date }.to_string()
}

fn helo(conversation: &Conversation) -> String {
    conversation.session.greeting().map(|greeting| greeting.host.to_string()).unwrap_or_default()
}

/// Shown to the administrator and the mailbox's owner only, so it may name the client.
fn reception(conversation: &Conversation, trace_id: String) -> Reception {
    let (tls, client) = (conversation.session.tls().cloned(), conversation.peer.ip().to_string());
    Reception { tls, client, helo: helo(conversation), trace_id }
}

/// Mail from other servers. Says for the log where it went.
async fn deliver(conversation: &Conversation, traced: Traced<'_>) -> Result<String, Error> {
    let arrival = Arrival {
        spooled: traced.spooled,
        reverse_path: traced.envelope.reverse_path.clone(),
        destinations: conversation.destinations.clone(),
        received: traced.received,
        flags: Flags::default(),
        digest: traced.digest,
        auth_results: String::new(),
        require_tls: traced.wish,
        reception: reception(conversation, traced.trace_id),
    };
    let delivered = deliver::deliver(&conversation.service.store, arrival).await?;
    Ok(format!("{} mailboxes", delivered.copies))
}

/// Mail of our own people.
async fn submit(conversation: &Conversation, traced: Traced<'_>) -> Result<String, Error> {
    let id = QueueId::parse(&traced.trace_id).ok_or_else(|| Error::Withdrawn("the id of the message is none".into()))?;
    let envelope = traced.envelope;
    let login = conversation.login.as_ref();
    let submission = Submission {
        spooled: traced.spooled,
        id,
        reverse_path: envelope.reverse_path.clone(),
        sender: login.map(|login| login.account),
        local: conversation.destinations.clone(),
        named: conversation.named.clone(),
        remote: conversation.remote.clone(),
        body: if envelope.body == envelope::Body::EightBit { envelope.body } else { traced.octets },
        smtp_utf8: envelope.smtp_utf8,
        ret: envelope.ret,
        envid: envelope.envid.clone(),
        received: traced.received,
        digest: traced.digest,
        require_tls: traced.wish,
        reception: reception(conversation, traced.trace_id),
        origin: Origin::Submitted,
    };
    let remote = submission.remote.len();
    let service = &conversation.service;
    let submitted = submit::submit(&service.store, &service.live.current(), submission).await?;
    if submitted.notice.is_some() {
        service.metrics.notices.add_one();
    }
    let who = login.map(|login| login.address.to_string()).unwrap_or_default();
    Ok(format!("{} mailboxes, {remote} to other hosts, login {who}", submitted.copies))
}

fn not_stored(trace_id: &str, error: &Error) -> DataVerdict {
    warn!("message {trace_id} not stored: {error}");
    match error {
        Error::DiskFull => DataVerdict::NoSpace,
        _ => DataVerdict::Failed,
    }
}
