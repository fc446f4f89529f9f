//! A mail server that does as it is told: rules map the begin of a command to a reply; everything is written down.

use std::cell::RefCell;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::rc::Rc;

use async_io::Async;
use pipit::net::lines::LineRead;
use pipit::net::lines::LineStream;
use pipit::net::stream::Stream;
use pipit::net::tasks::Tasks;

/// What was heard.
#[derive(Default)]
pub struct Heard {
    pub connections: usize,
    /// commands without their line end
    pub commands: Vec<String>,
    /// messages with CRLF, dots as they were sent
    pub messages: Vec<String>,
}

/// A listening peer; clones share it.
#[derive(Clone)]
pub struct Peer {
    pub heard: Rc<RefCell<Heard>>,
    /// begin of a command (`CONNECT` and `.` for greeting and end of data) and the reply; `close` hangs up, `wait` says
    /// nothing until the rule is gone. The first that fits counts.
    rules: Rc<RefCell<Vec<(String, String)>>>,
}

impl Peer {
    pub fn listen(tasks: &Tasks, address: IpAddr, port: u16) -> Peer {
        let listener = TcpListener::bind(SocketAddr::new(address, port)).unwrap();
        Peer::serve(tasks, listener)
    }

    pub fn serve(tasks: &Tasks, listener: TcpListener) -> Peer {
        let peer = Peer { heard: Rc::default(), rules: Rc::default() };
        let (server, tasks_of_it) = (peer.clone(), tasks.clone());
        let listener = Async::new(listener).unwrap();
        tasks.spawn("peer", async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                server.heard.borrow_mut().connections += 1;
                let stream = Stream::plain(socket.into_inner().unwrap()).unwrap();
                let session = server.clone();
                tasks_of_it.spawn("peer session", async move {
                    let _ = session.session(stream).await;
                });
            }
        });
        peer
    }

    /// A rule before the others.
    pub fn answer(&self, begin: &str, reply: &str) {
        self.rules.borrow_mut().insert(0, (begin.to_owned(), reply.to_owned()));
    }

    pub fn forget_rules(&self) {
        self.rules.borrow_mut().clear();
    }

    pub fn connections(&self) -> usize {
        self.heard.borrow().connections
    }

    pub fn messages(&self) -> Vec<String> {
        self.heard.borrow().messages.clone()
    }

    /// How many commands began like this.
    pub fn count(&self, begin: &str) -> usize {
        self.heard.borrow().commands.iter().filter(|command| command.starts_with(begin)).count()
    }

    async fn reply_to(&self, command: &str) -> Option<String> {
        loop {
            let rule = self.rules.borrow().iter().find(|(begin, _)| command.starts_with(begin)).map(|(_, reply)| reply.clone());
            match rule.as_deref() {
                Some("close") => return None,
                Some("wait") => pipit::net::deadline::sleep(std::time::Duration::from_millis(2)).await,
                Some(reply) => return Some(reply.replace('|', "\r\n")),
                None => break,
            }
        }
        let verb = command.split([' ', ':']).next().unwrap_or_default();
        Some(
            match verb {
                "CONNECT" => "220 peer.test ESMTP",
                "EHLO" => "250-peer.test|250-8BITMIME|250 SMTPUTF8",
                "DATA" => "354 go on",
                "." => "250 2.0.0 taken",
                "QUIT" => "221 bye",
                _ => "250 2.1.0 fine",
            }
            .replace('|', "\r\n"),
        )
    }

    async fn session(&self, stream: Stream) -> Option<()> {
        let mut lines = LineStream::new(stream);
        let mut command = "CONNECT".to_owned();
        loop {
            let reply = self.reply_to(&command).await?;
            lines.write(format!("{reply}\r\n").as_bytes()).await.ok()?;
            lines.flush().await.ok()?;
            if command == "DATA" && reply.starts_with("354") {
                let message = read_message(&mut lines).await?;
                self.heard.borrow_mut().messages.push(message);
                command = ".".to_owned();
                continue;
            }
            if command == "QUIT" {
                return Some(());
            }
            command = read_line(&mut lines).await?;
            self.heard.borrow_mut().commands.push(command.clone());
        }
    }
}

async fn read_line(lines: &mut LineStream) -> Option<String> {
    match lines.next_line(8192).await {
        Ok(LineRead::Line(line)) => Some(String::from_utf8_lossy(line).into_owned()),
        _ => None,
    }
}

async fn read_message(lines: &mut LineStream) -> Option<String> {
    let mut message = String::new();
    loop {
        let line = read_line(lines).await?;
        if line == "." {
            return Some(message);
        }
        message.push_str(&line);
        message.push_str("\r\n");
    }
}
