//! One SMTP session on a socket: obeys the machine of `proto::smtp::server` until it says close.
//!
//! Comes in: a connected stream, its peer and the slot it holds. Goes out: replies, and messages into `intake`.
//! The future is kept small (an idle connection is mostly this): what only a transaction needs is boxed.

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use std::time::Instant;

use log::debug;
use log::info;
use log::warn;

use crate::inbound::Service;
use crate::inbound::data;
use crate::intake::recipients;
use crate::intake::recipients::Destination;
use crate::intake::recipients::Resolved;
use crate::mail::path::ForwardPath;
use crate::mail::received::TlsFacts;
use crate::metrics::RecipientOutcome;
use crate::metrics::TlsOutcome;
use crate::net::breathe::breathe;
use crate::net::deadline::within;
use crate::net::lines::LineRead;
use crate::net::lines::LineStream;
use crate::net::slots::Slot;
use crate::net::stream::Stream;
use crate::net::tls;
use crate::net::tls::TlsError;
use crate::proto::smtp::reply::Reply;
use crate::proto::smtp::server::Action;
use crate::proto::smtp::server::Input;
use crate::proto::smtp::server::MAX_LINE;
use crate::proto::smtp::server::Offer;
use crate::proto::smtp::server::Params;
use crate::proto::smtp::server::RecipientVerdict;
use crate::proto::smtp::server::Session;
use crate::proto::smtp::server::SpaceVerdict;
use crate::proto::smtp::timeouts;
use crate::store::room;
use crate::store::room::Room;

/// A session that lasts longer is no delivery any more: 35 MiB take an hour and a half over a 56k modem.
const LONGEST_SESSION: Duration = Duration::from_secs(4 * 3600);
/// Actions between two turns of the event loop.
const TURN: u32 = 16;
/// To say good-bye.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);

/// The connection is gone; there is nobody left to tell.
pub struct Gone;

impl From<io::Error> for Gone {
    fn from(_: io::Error) -> Gone {
        Gone
    }
}

/// A session and what belongs to it outside the machine.
pub struct Conversation {
    pub service: Rc<Service>,
    pub session: Session,
    pub peer: SocketAddr,
    /// who gets the running transaction's message, one entry an account
    pub destinations: Vec<Destination>,
    /// our end of the connection: `postmaster@[this address]` is ours (RFC 5321 section 4.5.1)
    local: Option<IpAddr>,
    began: Instant,
}

/// Serves one connection to its end.
pub async fn serve(service: Rc<Service>, stream: Stream, peer: SocketAddr, slot: Slot) {
    let session = Session::new(Rc::new(params(&service)));
    let began = service.clock.instant();
    let local = stream.local_address().map(|address| address.ip());
    let mut conversation = Conversation { service, session, peer, destinations: Vec::new(), local, began };
    if let Ok(lines) = conversation.converse(LineStream::new(stream)).await {
        let _ = within(CLOSE_PATIENCE, lines.close()).await;
    }
    drop(slot);
}

fn params(service: &Service) -> Params {
    let settings = service.live.current();
    let offer = |wanted: bool| if wanted { Offer::Offered } else { Offer::Withheld };
    let mut params = Params::new(settings.hostname.clone());
    params.max_size = settings.limits.message_size;
    params.max_recipients = settings.limits.recipients;
    params.starttls = offer(service.tls.is_some());
    params.require_tls = offer(settings.listen.require_tls);
    params
}

impl Conversation {
    async fn converse(&mut self, mut lines: LineStream) -> Result<LineStream, Gone> {
        let mut action = self.session.handle(Input::Connected);
        for count in 1u32.. {
            // A client that pipelines for ever and reads our replies never makes us wait; others must get their turn.
            if count % TURN == 0 {
                breathe().await;
            }
            action = match action {
                Action::Listen => self.listen(&mut lines).await?,
                Action::Reply(reply) => {
                    self.say(&mut lines, &reply).await?;
                    self.listen(&mut lines).await?
                }
                Action::ReplyAndClose(reply) => {
                    self.say(&mut lines, &reply).await?;
                    return Ok(lines);
                }
                Action::Close => return Ok(lines),
                Action::StartTls(reply) => {
                    self.say(&mut lines, &reply).await?;
                    self.flush(&mut lines).await?;
                    let facts;
                    (lines, facts) = Box::pin(self.start_tls(lines)).await?;
                    self.session.handle(Input::TlsStarted(facts))
                }
                Action::CheckSpace { declared } => {
                    self.destinations.clear();
                    let verdict = self.space(declared);
                    self.session.handle(Input::Space(verdict))
                }
                Action::CheckRecipient(path) => {
                    let verdict = self.recipient(&path);
                    self.session.handle(Input::Recipient(verdict))
                }
                Action::ReadData(reply) => {
                    self.say(&mut lines, &reply).await?;
                    self.flush(&mut lines).await?;
                    let verdict = Box::pin(data::receive(self, &mut lines)).await?;
                    self.destinations = Vec::new();
                    self.session.handle(Input::Data(verdict))
                }
            };
        }
        Err(Gone)
    }

    async fn say(&self, lines: &mut LineStream, reply: &Reply) -> Result<(), Gone> {
        if reply.code >= 400 {
            self.service.metrics.error_replies.add_one();
            debug!("{} answered {reply}", self.peer);
        }
        self.patiently(lines.write(&reply.encode())).await
    }

    /// Replies leave together when the client has pipelined more commands (RFC 2920 section 3.2).
    async fn flush(&self, lines: &mut LineStream) -> Result<(), Gone> {
        self.patiently(lines.flush()).await
    }

    /// A peer that does not take our bytes for as long as we would wait for its own is gone.
    async fn patiently<T>(&self, write: impl Future<Output = io::Result<T>>) -> Result<T, Gone> {
        match within(self.patience(), write).await {
            Ok(done) => Ok(done?),
            Err(_) => Err(Gone),
        }
    }

    /// Others wait for what this session holds: slots or memory for messages.
    pub fn is_wanted(&self) -> bool {
        self.service.slots.load().busy() || self.service.budget.is_scarce(0)
    }

    /// How long to wait for a peer now: short when slots or memory are scarce (promise R5).
    pub fn patience(&self) -> Duration {
        let idle = self.service.live.current().limits.idle_timeout;
        if self.is_wanted() { idle.min(timeouts::server::IDLE_WHEN_BUSY) } else { idle }
    }

    /// The next line as the machine's next input. Waiting is cut into pieces, so that a session that began to idle in
    /// quiet times does not hold its slot for minutes once slots are scarce.
    async fn listen(&mut self, lines: &mut LineStream) -> Result<Action, Gone> {
        if !lines.buffered_line_waits() {
            self.flush(lines).await?;
        }
        if self.service.draining.is_closed() {
            return Ok(self.session.handle(Input::ShuttingDown));
        }
        let waiting_since = self.service.clock.instant();
        if waiting_since.duration_since(self.began) > LONGEST_SESSION {
            return Ok(self.session.handle(Input::TimedOut));
        }
        loop {
            let piece = timeouts::server::IDLE_WHEN_BUSY.min(self.patience());
            let service = Rc::clone(&self.service);
            let read = smol::future::or(within(piece, async { Some(lines.next_line(MAX_LINE).await) }), async {
                let _ = service.draining.recv().await;
                Ok(None)
            });
            match read.await {
                Ok(None) => return Ok(self.session.handle(Input::ShuttingDown)),
                Ok(Some(line)) => return self.obey(line),
                Err(_) => {}
            }
            if self.service.clock.instant().duration_since(waiting_since) >= self.patience() {
                self.service.metrics.timeouts.add_one();
                return Ok(self.session.handle(Input::TimedOut));
            }
        }
    }

    fn obey(&mut self, line: io::Result<LineRead<'_>>) -> Result<Action, Gone> {
        self.service.metrics.commands.add_one();
        Ok(match line? {
            LineRead::Line(text) => self.session.handle(Input::Line(text)),
            LineRead::TooLong => self.session.handle(Input::LineTooLong),
            LineRead::Broken => self.session.handle(Input::LineBroken),
            LineRead::Closed => return Err(Gone),
        })
    }

    async fn start_tls(&mut self, lines: LineStream) -> Result<(LineStream, TlsFacts), Gone> {
        let metrics = &self.service.metrics;
        let Ok(stream) = lines.into_stream() else {
            metrics.tls.add_one(TlsOutcome::Injected);
            warn!("{} sent plaintext behind STARTTLS; connection closed", self.peer);
            return Err(Gone);
        };
        let config = self.service.tls.as_ref().ok_or(Gone)?;
        match tls::accept(stream, config, self.patience().min(timeouts::server::HANDSHAKE)).await {
            Ok((stream, handshake)) => {
                metrics.tls.add_one(TlsOutcome::Established);
                Ok((LineStream::new(stream), TlsFacts { version: handshake.version, cipher: handshake.cipher }))
            }
            Err(error) => {
                metrics.tls.add_one(TlsOutcome::Failed);
                match error {
                    TlsError::Aborted => debug!("{} ended the TLS handshake", self.peer),
                    error => info!("TLS handshake with {} failed: {error}", self.peer),
                }
                Err(Gone)
            }
        }
    }

    fn space(&self, declared: Option<u64>) -> SpaceVerdict {
        let min_free = self.service.live.current().limits.min_free;
        match room::in_store(&self.service.store, declared, min_free) {
            Ok(Room::Enough) => SpaceVerdict::Enough,
            Ok(Room::Short { available }) => {
                warn!("low disk: {available} octets left, refusing mail for now");
                SpaceVerdict::Short
            }
            Err(error) => {
                warn!("free space of the store's disk is unknown: {error}");
                SpaceVerdict::Enough
            }
        }
    }

    /// `postmaster@[our address]` is the postmaster; nobody else has a mailbox at an address.
    fn meant(&self, path: &ForwardPath) -> ForwardPath {
        match path {
            ForwardPath::Address(address)
                if address.domain.literal().is_some_and(|literal| self.local == Some(literal))
                    && address.local.as_str().eq_ignore_ascii_case("postmaster") =>
            {
                ForwardPath::Postmaster
            }
            other => other.clone(),
        }
    }

    fn recipient(&mut self, path: &ForwardPath) -> RecipientVerdict {
        let settings = self.service.live.current();
        let declared = self.session.envelope().and_then(|envelope| envelope.declared_size).unwrap_or(0);
        let meant = self.meant(path);
        let resolved = self.service.store.read(|reader| recipients::resolve(reader, &settings, &meant, declared));
        let (outcome, verdict) = match resolved {
            Ok(Resolved::Here(found)) => {
                for destination in found {
                    // One copy an account, however many of its addresses were named.
                    if !self.destinations.iter().any(|other| other.account == destination.account) {
                        self.destinations.push(destination);
                    }
                }
                (RecipientOutcome::Accepted, RecipientVerdict::Accepted)
            }
            Ok(Resolved::Full) => (RecipientOutcome::Full, RecipientVerdict::MailboxFull),
            Ok(Resolved::Unknown) => (RecipientOutcome::Unknown, RecipientVerdict::UnknownUser),
            Ok(Resolved::NotLocal) => (RecipientOutcome::NotLocal, RecipientVerdict::NotLocal),
            Err(error) => {
                warn!("recipient {path} could not be looked up: {error}");
                (RecipientOutcome::Later, RecipientVerdict::TryLater)
            }
        };
        self.service.metrics.recipients.add_one(outcome);
        if outcome != RecipientOutcome::Accepted {
            let sender = self.session.envelope().map(|envelope| envelope.reverse_path.to_string()).unwrap_or_default();
            info!("{} refused recipient {path} from {sender}: {outcome:?}", self.peer.ip());
        }
        verdict
    }
}
