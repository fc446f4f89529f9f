//! A recursive resolver of the really signed zones of `tests/dnssec/answers.txt`, in a thread, for tests of the resolver.
//!
//! What it says can be changed answer by answer. A question that was not recorded is answered SERVFAIL, as one whose answer
//! is bogus is where the query has no CD and the change says so.

use std::collections::HashMap;
use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use pipit::proto::dns::Rcode;
use pipit::proto::dns::RecordType;
use pipit::proto::dns::lookup::ExtendedError;
use pipit::proto::dns::name::Name;
use pipit::proto::dns::reader::Message;
use pipit::proto::dns::reader::RawRecord;
use pipit::proto::dns::reply::Reply;
use pipit::proto::dns::reply::write_reply;

#[path = "../dnssec/world.rs"]
#[allow(dead_code, reason = "scenarios use more of it")]
mod world;

/// 2026-07-01T00:00:00Z, the middle of what the signatures allow.
pub const NOW: i64 = 1_782_864_000;

/// What the resolver under test asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    pub name: Name,
    pub kind: RecordType,
    /// CD
    pub unchecked: bool,
    pub by_tcp: bool,
}

impl Asked {
    pub fn is(&self, name: &str, kind: RecordType) -> bool {
        self.kind == kind && self.name == Name::parse(name).unwrap()
    }
}

/// What is said to one question.
#[derive(Clone, Debug)]
pub struct Said {
    pub rcode: Rcode,
    pub answer: Vec<RawRecord>,
    pub authority: Vec<RawRecord>,
    pub errors: Vec<ExtendedError>,
    /// AD
    pub authentic: bool,
    /// `None`: for ever
    pub delay: Option<Duration>,
}

impl Said {
    pub fn code(rcode: Rcode) -> Said {
        let delay = Some(Duration::ZERO);
        Said { rcode, answer: Vec::new(), authority: Vec::new(), errors: Vec::new(), authentic: false, delay }
    }

    fn recorded(said: &world::Said) -> Said {
        Said { answer: said.answer.clone(), authority: said.authority.clone(), ..Said::code(said.rcode) }
    }

    /// As a server without DNSSEC.
    pub fn strip(&mut self) {
        for section in [&mut self.answer, &mut self.authority] {
            section.retain(|record| !matches!(record.rtype, RecordType::RRSIG | RecordType::NSEC | RecordType::NSEC3));
        }
    }

    /// Turns the last bit of each record of a type in the answer.
    pub fn spoil(&mut self, kind: RecordType) {
        self.answer.iter_mut().filter(|record| record.rtype == kind).for_each(|record| *record.rdata.last_mut().unwrap() ^= 1);
    }
}

/// The anchor of the recorded root, and all answers.
pub fn recorded() -> (String, HashMap<(Name, RecordType), Said>) {
    let world = world::world();
    (world.anchors, world.answers.iter().map(|(question, said)| (question.clone(), Said::recorded(said))).collect())
}

pub struct Signed {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Signed {
    pub fn honest() -> Signed {
        Signed::start(|_, _| {})
    }

    /// `change` sees each question, and what is about to be said.
    pub fn start(change: impl Fn(&Asked, &mut Said) + Send + Sync + 'static) -> Signed {
        let (socket, listener) = bound();
        let signed = Signed { address: socket.local_addr().unwrap(), asked: Arc::default() };
        let (asked, (_, answers)) = (Arc::clone(&signed.asked), recorded());
        let say = move |query: &[u8], by_tcp: bool| {
            let message = Message::read(query).unwrap();
            let question = message.question().unwrap();
            let seen = Asked { name: question.name.clone(), kind: question.rtype, unchecked: query[3] & 0x10 != 0, by_tcp };
            let mut said = answers.get(&(seen.name.clone(), seen.kind)).cloned().unwrap_or(Said::code(Rcode::SERV_FAIL));
            change(&seen, &mut said);
            asked.lock().unwrap().push(seen);
            thread::sleep(said.delay?);
            let reply = Reply { rcode: said.rcode, answers: &said.answer, authority: &said.authority, errors: &said.errors };
            let mut octets = write_reply(&message, &reply, if by_tcp { 65_535 } else { 1232 });
            octets[3] |= u8::from(said.authentic) << 5;
            Some(octets)
        };
        let (say, by_udp) = (Arc::new(say), Arc::new(socket));
        let say_by_tcp = Arc::clone(&say);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            loop {
                let (length, peer) = by_udp.recv_from(&mut buffer).unwrap();
                let (say, socket, query) = (Arc::clone(&say), Arc::clone(&by_udp), buffer[..length].to_vec());
                thread::spawn(move || say(&query, false).map(|octets| socket.send_to(&octets, peer)));
            }
        });
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut length = [0; 2];
                stream.read_exact(&mut length).unwrap();
                let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
                stream.read_exact(&mut query).unwrap();
                if let Some(octets) = say_by_tcp(&query, true) {
                    stream.write_all(&[&(octets.len() as u16).to_be_bytes()[..], &octets].concat()).unwrap();
                }
            }
        });
        signed
    }

    /// Everything that was asked since the last time.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    /// How much was.
    pub fn count(&self) -> usize {
        self.asked().len()
    }
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
