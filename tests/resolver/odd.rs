//! A recursive resolver that misbehaves, in threads: by UDP, TCP and TLS, each in its own way.
//!
//! What it says comes from the really signed zones of `signed`, with what a probe of the root asks beside. `Way` has the faults
//! of transport; faults of content are a closure that changes what is said.

use std::collections::HashMap;
use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread;

use pipit::proto::dns::Rcode;
use pipit::proto::dns::RecordType;
use pipit::proto::dns::name::Name;
use pipit::proto::dns::reader::Message;
use pipit::proto::dns::reply::Reply;
use pipit::proto::dns::reply::write_reply;
use rustls::ServerConfig;
use rustls::ServerConnection;
use rustls::StreamOwned;

use super::signed::Said;
use super::signed::recorded;

/// Fault of the transport.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Way {
    Fine,
    /// no UDP
    OnlyTcp,
    /// no TCP
    OnlyUdp,
    /// UDP is always truncated
    Truncates,
    /// Datagrams longer than this are lost, though they were not asked to be short.
    LosesAbove(usize),
    /// Answers longer than this are lost, by TCP too.
    LosesAllAbove(usize),
    /// from a socket of another port
    OtherPort,
    /// UDP truncated; this many queries are awaited, and answered the last first
    Backwards(usize),
    /// UDP truncated; closes behind the first answer whatever waits
    ClosesAfterOne,
    /// UDP truncated; closes at once
    Closes,
    /// UDP truncated; the answer to another question
    OtherQuestion,
    /// truncated by TCP too
    TruncatesForEver,
    /// Its cookie is right on the second try, or on none.
    CookieOnce,
    CookieNever,
    /// Gives a cookie with the first answer by UDP only.
    CookieLost,
    /// the same without TCP
    CookieLostOnlyUdp,
}

/// What came in.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    pub name: Name,
    pub kind: RecordType,
    pub by: By,
    /// octets
    pub length: usize,
    pub cookie: usize,
    /// as it was written, in its letters
    pub letters: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum By {
    Udp,
    Tcp,
    Tls,
}

type Change = Box<dyn Fn(&Seen, &mut Said) + Send + Sync>;

pub struct Odd {
    pub address: SocketAddr,
    inner: Arc<Inner>,
}

struct Inner {
    way: Way,
    world: HashMap<(Name, RecordType), Said>,
    change: Change,
    seen: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
    by_udp: AtomicUsize,
    tls: Option<Arc<ServerConfig>>,
}

impl Odd {
    pub fn start(way: Way, change: impl Fn(&Seen, &mut Said) + Send + Sync + 'static) -> Odd {
        Odd::begin(way, Box::new(change), None)
    }

    pub fn of(way: Way) -> Odd {
        Odd::start(way, |_, _| {})
    }

    pub fn with_tls(config: ServerConfig) -> Odd {
        Odd::begin(Way::Fine, Box::new(|_, _| {}), Some(Arc::new(config)))
    }

    fn begin(way: Way, change: Change, tls: Option<Arc<ServerConfig>>) -> Odd {
        let (socket, listener) = bound();
        let address = socket.local_addr().unwrap();
        let (world, counts) = (world(), AtomicUsize::default);
        let inner = Inner { way, world, change, seen: Mutex::default(), connections: counts(), by_udp: counts(), tls };
        let odd = Odd { address, inner: Arc::new(inner) };
        let (by_udp, by_tcp) = (Arc::clone(&odd.inner), Arc::clone(&odd.inner));
        thread::spawn(move || by_udp.serve_udp(&socket));
        if !matches!(way, Way::OnlyUdp | Way::CookieLostOnlyUdp) {
            thread::spawn(move || {
                for stream in listener.incoming() {
                    let (inner, stream) = (Arc::clone(&by_tcp), stream.unwrap());
                    inner.connections.fetch_add(1, Ordering::SeqCst);
                    // A client that goes away is no failure of the test.
                    thread::spawn(move || inner.serve_tcp(stream));
                }
            });
        }
        odd
    }

    /// Everything that came in since the last time.
    pub fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.inner.seen.lock().unwrap())
    }

    pub fn connections(&self) -> usize {
        self.inner.connections.load(Ordering::SeqCst)
    }
}

/// The recorded answers, and what a probe of the root asks.
fn world() -> HashMap<(Name, RecordType), Said> {
    let (_, mut world) = recorded();
    let name = |text: &str| Name::parse(text).unwrap();
    let mut signed = world[&(name("test"), RecordType::DS)].clone();
    for record in &mut signed.answer {
        record.owner = name("com");
    }
    world.insert((name("com"), RecordType::DS), signed);
    world
}

impl Inner {
    fn say(&self, query: &[u8], by: By) -> Option<Vec<u8>> {
        let message = Message::read(query).unwrap();
        let question = message.question().unwrap();
        let cookie = message.edns().map_or(&[][..], |edns| &edns.cookie);
        let seen = Seen {
            name: question.name.clone(),
            kind: question.rtype,
            by,
            length: query.len(),
            cookie: cookie.len(),
            letters: question.octets.to_vec(),
        };
        let mut said = self.world.get(&(seen.name.clone(), seen.kind)).cloned().unwrap_or_else(|| self.unrecorded(&seen));
        (self.change)(&seen, &mut said);
        self.seen.lock().unwrap().push(seen.clone());
        let reply = Reply { rcode: said.rcode, answers: &said.answer, authority: &said.authority, errors: &said.errors };
        let octets = write_reply(&message, &reply, 65_535);
        Some(octets).filter(|octets| !matches!(self.way, Way::LosesAllAbove(limit) if octets.len() > limit))
    }

    /// A label of 16 letters is a probe's: it is denied as a recorded name below the root is.
    fn unrecorded(&self, seen: &Seen) -> Said {
        let denied = self.world.iter().find(|((name, _), said)| said.rcode == Rcode::NX_DOMAIN && name.labels().count() == 1);
        match denied {
            Some((_, said)) if seen.name.labels().next().is_some_and(|label| label.len() == 16) => said.clone(),
            _ if seen.kind == RecordType::SOA || seen.kind == RecordType::NS => Said::code(Rcode::NO_ERROR),
            _ => Said::code(Rcode::SERV_FAIL),
        }
    }

    fn serve_udp(&self, socket: &UdpSocket) {
        let mut buffer = [0; 4096];
        let other = UdpSocket::bind("127.0.0.1:0").unwrap();
        loop {
            let (length, peer) = socket.recv_from(&mut buffer).unwrap();
            let before = self.by_udp.fetch_add(1, Ordering::SeqCst);
            let Some(mut answer) = self.say(&buffer[..length], By::Udp) else { continue };
            match self.way {
                Way::OnlyTcp => continue,
                Way::LosesAbove(limit) if answer.len() > limit => continue,
                Way::Truncates | Way::Backwards(_) | Way::ClosesAfterOne | Way::Closes | Way::OtherQuestion | Way::TruncatesForEver => {
                    answer = cut(&buffer[..length])
                }
                Way::CookieOnce | Way::CookieNever | Way::CookieLost | Way::CookieLostOnlyUdp => {
                    answer = self.with_cookie(&buffer[..length], answer, before);
                }
                Way::Fine | Way::OnlyUdp | Way::LosesAbove(_) | Way::LosesAllAbove(_) | Way::OtherPort => {}
            }
            if answer.len() > 1232 && !matches!(self.way, Way::LosesAbove(_)) {
                answer = cut(&buffer[..length]);
            }
            let from = if self.way == Way::OtherPort { &other } else { socket };
            from.send_to(&answer, peer).unwrap();
        }
    }

    /// RFC 7873. `write_reply` gives a cookie to who sends one; BADCOOKIE is for who has not got it.
    fn with_cookie(&self, query: &[u8], mut answer: Vec<u8>, before: usize) -> Vec<u8> {
        let message = Message::read(query).unwrap();
        let has_it = message.edns().unwrap().cookie.len() == 16;
        match self.way {
            Way::CookieOnce if !has_it => write_reply(&message, &Reply::of(Rcode::BAD_COOKIE), 1232),
            Way::CookieNever => write_reply(&message, &Reply::of(Rcode::BAD_COOKIE), 1232),
            Way::CookieLost | Way::CookieLostOnlyUdp if before > 0 => {
                // The option is the last thing: 4 octets and 16.
                answer.truncate(answer.len() - 20);
                let length = answer.len() - 2;
                answer[length..].copy_from_slice(&[0, 0]);
                answer
            }
            _ => answer,
        }
    }

    fn serve_tcp(&self, stream: TcpStream) -> Option<()> {
        match &self.tls {
            Some(config) => {
                let session = ServerConnection::new(Arc::clone(config)).unwrap();
                self.converse(StreamOwned::new(session, stream), By::Tls)
            }
            None => self.converse(stream, By::Tcp),
        }
    }

    fn converse(&self, mut stream: impl Read + Write, by: By) -> Option<()> {
        let await_first = if let Way::Backwards(count) = self.way { count } else { 1 };
        loop {
            if self.way == Way::Closes {
                let _ = read_query(&mut stream)?;
                return None;
            }
            let mut queries = Vec::new();
            for _ in 0..await_first {
                queries.push(read_query(&mut stream)?);
            }
            for query in queries.iter().rev() {
                let Some(mut answer) = self.say(query, by) else { continue };
                match self.way {
                    Way::OtherQuestion => answer[13] ^= 3,
                    Way::TruncatesForEver => answer[2] |= 2,
                    _ => {}
                }
                stream.write_all(&[&(answer.len() as u16).to_be_bytes()[..], &answer].concat()).ok()?;
                if self.way == Way::ClosesAfterOne {
                    return None;
                }
            }
        }
    }
}

fn read_query(stream: &mut impl Read) -> Option<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).ok()?;
    let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut query).ok()?;
    Some(query)
}

fn cut(query: &[u8]) -> Vec<u8> {
    let mut answer = write_reply(&Message::read(query).unwrap(), &Reply::of(Rcode::NO_ERROR), 1232);
    answer[2] |= 2;
    answer
}

/// The same free port for both.
fn bound() -> (UdpSocket, TcpListener) {
    loop {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        if let Ok(listener) = TcpListener::bind(socket.local_addr().unwrap()) {
            return (socket, listener);
        }
    }
}
