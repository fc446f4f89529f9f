//! Drives `proto::smtp::client` over a socket: connects, greets, takes TLS where it is offered, and carries messages.
//!
//! Every reply has its own patience (RFC 5321 section 4.5.3.2), every transaction a budget on top. A message is read from
//! its `Source` piece by piece and written as fast as the peer takes it; one piece is all that stands in memory.
//! Nothing here decides: replies go to the machine, and outcomes come out of it.
//! Not done here: choosing hosts, reusing connections, storing outcomes.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use crate::mail::domain::Domain;
use crate::mail::received::TlsFacts;
use crate::metrics::Metrics;
use crate::metrics::TlsOutcome;
use crate::net::breathe::breathe;
use crate::net::deadline::Deadline;
use crate::net::deadline::within;
use crate::net::lines::LineRead;
use crate::net::lines::LineStream;
use crate::net::stream::Stream;
use crate::net::tls_client;
use crate::proto::smtp::client::Action;
use crate::proto::smtp::client::DataFault;
use crate::proto::smtp::client::Input;
use crate::proto::smtp::client::Params;
use crate::proto::smtp::client::Session;
use crate::proto::smtp::client::words::Break;
use crate::proto::smtp::client::words::Stage;
use crate::proto::smtp::dot::Stuffer;
use crate::proto::smtp::peer_reply::MAX_LINE;
use crate::proto::smtp::peer_reply::ReplyFault;
use crate::proto::smtp::peer_reply::ReplyReader;
use crate::proto::smtp::timeouts::client;

pub use crate::proto::smtp::client::MAX_RECIPIENTS;
pub use crate::proto::smtp::client::offers::PeerOffers;
pub use crate::proto::smtp::client::words::HostFailure;
pub use crate::proto::smtp::client::words::LACKS_EIGHT_BIT;
pub use crate::proto::smtp::client::words::LACKS_UTF8;
pub use crate::proto::smtp::client::words::Outcome;
pub use crate::proto::smtp::client::words::Outgoing;
pub use crate::proto::smtp::client::words::Security;
pub use crate::proto::smtp::client::words::TOO_BIG;
pub use crate::proto::smtp::client::words::Transaction;
pub use crate::proto::smtp::client::words::Why;
pub use crate::proto::smtp::peer_reply::PeerReply;

/// Octets of the message that are stuffed and written at once: what `LineStream` holds before it flushes.
const PIECE: usize = 16 * 1024;
/// Pieces between two breaths: 64 KiB.
const PIECES_A_BREATH: usize = 4;
/// For a reply that came before the message was whole; it is here already or will not come.
const EARLY_REPLY: Duration = Duration::from_secs(1);

/// Where to.
#[derive(Clone, Debug)]
pub struct Target {
    /// the MX name, or the domain, or a literal; asked for in TLS
    pub host: Domain,
    pub address: SocketAddr,
    pub security: Security,
}

/// Who we are.
#[derive(Clone, Debug)]
pub struct Caller {
    /// for EHLO
    pub name: Domain,
    /// our own names: a host that greets with one is ourselves
    pub greets_as: Vec<Domain>,
}

/// Where the octets of a message come from; a second transaction reads them again.
pub trait Source {
    /// The next octets, cut anywhere; `None` behind the last. An error is a sentence about our own trouble.
    fn next(&mut self) -> impl Future<Output = Option<Result<Vec<u8>, String>>>;
    /// Begins anew; called before every reading.
    fn restart(&mut self);
}

/// How fast the patience runs: tests cannot wait five minutes.
#[derive(Clone, Copy, Debug)]
pub struct Pace(u32);

impl Pace {
    /// The times of RFC 5321.
    pub const USUAL: Pace = Pace(1);

    /// All times divided by `n`, which is not 0.
    pub fn hurried(n: u32) -> Pace {
        Pace(n.max(1))
    }

    fn of(self, patience: Duration) -> Duration {
        patience / self.0
    }
}

/// A session that has been greeted, ready for transactions. Dropping it closes.
pub struct Connection {
    session: Session,
    wire: Wire,
}

/// Connects and greets.
pub async fn connect(target: &Target, caller: &Caller, metrics: &Metrics) -> Result<Connection, HostFailure> {
    metrics.client_connections.add_one();
    let stream = crate::net::connect::connect(target.address, client::CONNECT).await;
    let stream = stream.map_err(|error| HostFailure::Unreachable(error.to_string()))?;
    greet(stream, target, caller, metrics, Pace::USUAL).await
}

/// The same over any stream.
pub async fn greet(stream: Stream, target: &Target, caller: &Caller, metrics: &Metrics, pace: Pace) -> Result<Connection, HostFailure> {
    let params = Params { name: caller.name.clone(), own_names: caller.greets_as.as_slice().into(), security: target.security };
    let mut session = Session::new(params);
    let mut wire = Wire { lines: Some(LineStream::new(stream)), pace, deadline: Deadline::after(pace.of(client::DIALOGUE)) };
    let mut action = session.handle(Input::Connected);
    loop {
        let input = match action {
            Action::Read(stage) => wire.heard(stage).await,
            Action::Send(octets, stage) => wire.ask(&octets, stage).await,
            Action::StartTls => wire.start_tls(&target.host, metrics).await,
            Action::Ready => return Ok(Connection { session, wire }),
            Action::Fail(failure) => {
                wire.leave().await;
                return Err(failure);
            }
            Action::SendData | Action::Done(_) | Action::Close => {
                return Err(HostFailure::Refused { stage: Stage::Hello, reply: None, text: "the session ended".to_owned() });
            }
        };
        action = session.handle(input);
    }
}

impl Connection {
    /// Carries one message to its recipients; one outcome for each, in their order.
    pub async fn transact(&mut self, transaction: &Transaction<'_>, source: &mut impl Source) -> Vec<Outcome> {
        self.wire.deadline = Deadline::after(self.wire.pace.of(client::TRANSACTION));
        let mut action = self.session.handle(Input::Begin(transaction));
        loop {
            let input = match action {
                Action::Read(stage) => self.wire.heard(stage).await,
                Action::Send(octets, stage) => self.wire.ask(&octets, stage).await,
                Action::SendData => match self.wire.send(source).await {
                    Sent::AllBut(tail) => {
                        // From here on the peer may have it all, so the machine hears of it before the octets go.
                        action = self.session.handle(Input::DataSent);
                        match self.wire.write(&tail, client::DATA_BLOCK).await {
                            Ok(()) => continue,
                            Err(fault) => self.wire.early_reply_or(fault).await,
                        }
                    }
                    Sent::Broken(fault) => self.wire.early_reply_or(fault).await,
                    Sent::Cut(fault) => {
                        // Without the dot the peer has nothing; it must see the end of the connection, never a QUIT in the text.
                        self.wire.lines = None;
                        Input::DataFailed(fault)
                    }
                },
                Action::Done(outcomes) => return outcomes,
                Action::StartTls | Action::Ready | Action::Fail(_) | Action::Close => {
                    Input::Broken(Break::Lost("the session ended".to_owned()))
                }
            };
            action = self.session.handle(input);
        }
    }

    /// Whether another transaction may go over it, as far as is known here.
    pub fn is_usable(&self) -> bool {
        // Whatever was said unasked, it is no good sign.
        self.session.is_usable() && self.wire.lines.as_ref().is_some_and(|lines| lines.buffered() == 0)
    }

    pub fn tls(&self) -> Option<&TlsFacts> {
        self.session.tls()
    }

    pub fn offers(&self) -> &PeerOffers {
        self.session.offers()
    }

    /// Says goodbye and closes, within seconds.
    pub async fn quit(mut self) {
        self.wire.deadline = Deadline::after(client::QUIT);
        if let Action::Send(octets, stage) = self.session.handle(Input::Quit) {
            let _ = self.wire.ask(&octets, stage).await;
        }
        self.wire.close().await;
    }
}

/// The socket, and how long it may take.
struct Wire {
    /// absent only once the connection is given up
    lines: Option<LineStream>,
    pace: Pace,
    deadline: Deadline,
}

/// How far a message came.
enum Sent {
    /// all but these last octets, the final dot among them
    AllBut(Vec<u8>),
    Cut(DataFault),
    Broken(Break),
}

impl Wire {
    /// Writes, then waits for the reply.
    async fn ask(&mut self, octets: &[u8], stage: Stage) -> Input<'static> {
        match self.write(octets, stage.patience()).await {
            Ok(()) => self.heard(stage).await,
            Err(fault) => self.early_reply_or(fault).await,
        }
    }

    async fn heard(&mut self, stage: Stage) -> Input<'static> {
        match self.reply(stage.patience()).await {
            Ok(reply) => Input::Reply(reply),
            Err(fault) => Input::Broken(fault),
        }
    }

    async fn write(&mut self, octets: &[u8], patience: Duration) -> Result<(), Break> {
        let patience = self.deadline.shorten(self.pace.of(patience));
        let lines = self.lines()?;
        let written = within(patience, async {
            lines.write(octets).await?;
            lines.flush().await
        });
        written.await.map_err(|_| Break::TimedOut)?.map_err(|error| Break::Lost(error.to_string()))
    }

    async fn reply(&mut self, patience: Duration) -> Result<PeerReply, Break> {
        let patience = self.deadline.shorten(self.pace.of(patience));
        let lines = self.lines()?;
        let read = within(patience, async {
            let mut reader = ReplyReader::new();
            loop {
                let line = lines.next_line(MAX_LINE).await.map_err(|error| Break::Lost(error.to_string()))?;
                let whole = match line {
                    LineRead::Line(line) => reader.line(line),
                    LineRead::TooLong => Err(ReplyFault::LineTooLong),
                    LineRead::Broken => Err(ReplyFault::LineBroken),
                    LineRead::Closed => return Err(Break::Lost(String::new())),
                };
                if let Some(reply) = whole.map_err(Break::Garbage)? {
                    return Ok(reply);
                }
            }
        });
        read.await.map_err(|_| Break::TimedOut)?
    }

    /// A host that ends the connection amid a message has often said why before.
    async fn early_reply_or(&mut self, fault: Break) -> Input<'static> {
        if let Some(lines) = &mut self.lines {
            lines.forget_output();
        }
        match self.reply(EARLY_REPLY).await {
            // A "yes" to what it has not got whole is none.
            Ok(reply) if reply.class() >= 4 => {
                self.lines = None;
                Input::Reply(reply)
            }
            Ok(_) | Err(_) => Input::Broken(fault),
        }
    }

    async fn start_tls(&mut self, host: &Domain, metrics: &Metrics) -> Input<'static> {
        let stream = match self.lines.take().map(LineStream::into_stream) {
            Some(Ok(stream)) => stream,
            Some(Err(_)) | None => {
                metrics.client_tls.add_one(TlsOutcome::Injected);
                return Input::PlaintextWaits;
            }
        };
        match tls_client::connect(stream, host, self.deadline.shorten(self.pace.of(client::HANDSHAKE))).await {
            Ok((stream, facts)) => {
                metrics.client_tls.add_one(TlsOutcome::Established);
                self.lines = Some(LineStream::new(stream));
                Input::TlsStarted(facts)
            }
            Err(failure) => {
                metrics.client_tls.add_one(TlsOutcome::Failed);
                Input::TlsFailed(failure.to_string())
            }
        }
    }

    /// Writes the message up to its last piece.
    async fn send(&mut self, source: &mut impl Source) -> Sent {
        source.restart();
        let mut stuffer = Stuffer::new();
        // The piece that is written when another follows.
        let mut piece = Vec::new();
        while let Some(chunk) = source.next().await {
            let chunk = match chunk {
                Ok(chunk) => chunk,
                Err(why) => return Sent::Cut(DataFault::Source(why)),
            };
            for (at, octets) in chunk.chunks(PIECE).enumerate() {
                if let Err(fault) = self.write(&piece, client::DATA_BLOCK).await {
                    return Sent::Broken(fault);
                }
                piece.clear();
                if let Err(fault) = stuffer.push(octets, &mut |slice| piece.extend_from_slice(slice)) {
                    return Sent::Cut(DataFault::NotCanonical(fault));
                }
                if at % PIECES_A_BREATH == 0 {
                    breathe().await;
                }
            }
        }
        match stuffer.finish(&mut |slice| piece.extend_from_slice(slice)) {
            Ok(()) => Sent::AllBut(piece),
            Err(fault) => Sent::Cut(DataFault::NotCanonical(fault)),
        }
    }

    /// QUIT without waiting for its answer, where somebody may still listen.
    async fn leave(&mut self) {
        if self.write(b"QUIT\r\n", client::QUIT).await.is_ok() {
            self.close().await;
        }
    }

    async fn close(&mut self) {
        if let Some(lines) = self.lines.take() {
            let _ = within(client::QUIT, lines.close()).await;
        }
    }

    fn lines(&mut self) -> Result<&mut LineStream, Break> {
        self.lines.as_mut().ok_or_else(|| Break::Lost("it was given up here".to_owned()))
    }
}
