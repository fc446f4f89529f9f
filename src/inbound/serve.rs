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

use crate::admin::logins::Login;
use crate::inbound::Door;
use crate::inbound::Port;
use crate::inbound::Service;
use crate::inbound::data;
use crate::intake::recipients::Destination;
use crate::mail::received::TlsFacts;
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
use crate::proto::smtp::server::Offer;
use crate::proto::smtp::server::Params;
use crate::proto::smtp::server::Role;
use crate::proto::smtp::server::Session;
use crate::proto::smtp::timeouts;
use crate::store::queue::NewRecipient;

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
    pub door: Door,
    pub session: Session,
    pub peer: SocketAddr,
    /// who has logged in
    pub login: Option<Box<Login>>,
    /// who gets the running transaction's message, one entry an account
    pub destinations: Vec<Destination>,
    /// the addresses that led to them and want to hear of it
    pub named: Vec<NewRecipient>,
    /// whom it is sent on to, one entry an address
    pub remote: Vec<NewRecipient>,
    /// our end of the connection: `postmaster@[this address]` is ours (RFC 5321 section 4.5.1)
    pub local: Option<IpAddr>,
    began: Instant,
}

/// Serves one connection to its end.
pub async fn serve(service: Rc<Service>, door: Door, stream: Stream, peer: SocketAddr, slot: Slot) {
    let session = Session::new(Rc::new(params(&service, &door)));
    let began = service.clock.instant();
    let local = stream.local_address().map(|address| address.ip());
    let (destinations, named, remote) = (Vec::new(), Vec::new(), Vec::new());
    let mut conversation = Conversation { service, door, session, peer, login: None, destinations, named, remote, local, began };
    if let Ok(lines) = conversation.begin(stream).await {
        let _ = within(CLOSE_PATIENCE, lines.close()).await;
    }
    drop(slot);
}

fn params(service: &Service, door: &Door) -> Params {
    let settings = service.live.current();
    let offer = |wanted: bool| if wanted { Offer::Offered } else { Offer::Withheld };
    let mut params = Params::new(settings.hostname.clone());
    params.role = door.port.role();
    params.max_size = settings.limits.message_size;
    params.max_recipients = settings.limits.recipients;
    params.starttls = offer(door.tls.is_some());
    // What is sent on cannot be verified on its way yet, so nobody is promised that it is.
    params.require_tls = offer(settings.listen.require_tls && door.port == Port::Exchange);
    params
}

impl Conversation {
    /// Where TLS comes first, it does so before the greeting.
    async fn begin(&mut self, stream: Stream) -> Result<LineStream, Gone> {
        let mut lines = LineStream::new(stream);
        if self.door.port == Port::Submissions {
            lines = Box::pin(self.start_tls(lines)).await?;
        }
        self.converse(lines).await
    }

    async fn converse(&mut self, mut lines: LineStream) -> Result<LineStream, Gone> {
        let mut action = self.session.handle(Input::Connected);
        for count in 1u32.. {
            // A client that pipelines for ever and reads our replies never makes us wait; others must get their turn.
            if count % TURN == 0 {
                breathe().await;
            }
            action = match action {
                Action::Listen => self.listen(&mut lines).await?,
                Action::Reply(reply) | Action::Challenge(reply) => {
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
                    lines = Box::pin(self.start_tls(lines)).await?;
                    Action::Listen
                }
                Action::FindKeys { name } => {
                    let found = self.find_keys(&name);
                    self.session.handle(Input::Keys(found))
                }
                Action::CheckLogin(attempt) => {
                    self.flush(&mut lines).await?;
                    let verdict = Box::pin(self.check_login(attempt)).await;
                    self.session.handle(Input::Login(verdict))
                }
                Action::CheckSender(path) => {
                    let verdict = self.check_sender(&path);
                    self.session.handle(Input::Sender(verdict))
                }
                Action::CheckSpace { declared } => {
                    self.destinations.clear();
                    self.named.clear();
                    self.remote.clear();
                    let verdict = self.space(declared);
                    self.session.handle(Input::Space(verdict))
                }
                Action::CheckRecipient(recipient) => {
                    let verdict = self.recipient(recipient);
                    self.session.handle(Input::Recipient(verdict))
                }
                Action::ReadData(reply) => {
                    self.say(&mut lines, &reply).await?;
                    self.flush(&mut lines).await?;
                    let verdict = Box::pin(data::receive(self, &mut lines)).await?;
                    (self.destinations, self.named, self.remote) = (Vec::new(), Vec::new(), Vec::new());
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
            let longest = self.session.max_line();
            let read = smol::future::or(within(piece, async { Some(lines.next_line(longest).await) }), async {
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

    /// Shakes hands and tells the machine.
    async fn start_tls(&mut self, lines: LineStream) -> Result<LineStream, Gone> {
        let metrics = &self.service.metrics;
        let Ok(stream) = lines.into_stream() else {
            metrics.tls.add_one(TlsOutcome::Injected);
            warn!("{} sent plaintext behind STARTTLS; connection closed", self.peer);
            return Err(Gone);
        };
        let config = self.door.tls.as_ref().ok_or(Gone)?;
        match tls::accept(stream, config, self.patience().min(timeouts::server::HANDSHAKE)).await {
            Ok((stream, handshake)) => {
                metrics.tls.add_one(TlsOutcome::Established);
                let facts = TlsFacts { version: handshake.version, cipher: handshake.cipher };
                let binding = handshake.exporter.filter(|_| self.door.port.role() == Role::Submission);
                self.session.handle(Input::TlsStarted(facts, binding));
                Ok(LineStream::new(stream))
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
}
