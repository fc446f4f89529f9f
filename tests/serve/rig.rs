//! A real `pipit` process on a directory and a port of its own, and a client that speaks SMTP line by line.

use std::fs;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use rustix::process::Pid;
use rustix::process::Signal;

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Longest wait for anything that happens at once when all is well.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Rig {
    pub dir: PathBuf,
    pub file: PathBuf,
    pub address: SocketAddr,
    /// where the running server answers commands
    pub socket: PathBuf,
    server: Option<Child>,
}

impl Rig {
    /// Writes a configuration for home.test with ann and bob; starts nothing. `more`: further TOML. No resolver answers: what
    /// this machine knows of other domains is not the test's business.
    pub fn new(more: &str) -> Rig {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("pipit-serve-{}-{number}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let file = dir.join("pipit.toml");
        let text = format!(
            "# kept comment\nhostname = \"mx.home.test\"\ndir = \"{}\"\n{more}\n[listen]\nsmtp = [\"{address}\"]\nsubmission = []\nsubmissions = []\n\n[dns]\nupstream = [\"127.0.0.1:9\"]\n\n[[domain]]\nname = \"home.test\"\n\n\
             [[first-user]]\naddress = \"ann@home.test\"\npassword = \"secret-word\"\n\n[[first-user]]\naddress = \"bob@home.test\"\npassword = \"secret-word\"\n",
            dir.display()
        );
        fs::write(&file, text).unwrap();
        let socket = dir.join("pipit.sock");
        Rig { dir, file, address, socket, server: None }
    }

    pub fn serving(more: &str) -> Rig {
        let mut rig = Rig::new(more);
        rig.start();
        rig
    }

    pub fn start(&mut self) {
        let log = fs::File::options().create(true).append(true).open(self.dir.join("log")).unwrap();
        let server = self.command(&["serve"]).stderr(log).stdout(Stdio::null()).spawn().unwrap();
        self.server = Some(server);
        let begun = Instant::now();
        while TcpStream::connect(self.address).is_err() || !self.socket.exists() {
            assert!(begun.elapsed() < PATIENCE, "the server does not start:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// Not by the program `kill`: a small Debian has none.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(self.server.as_ref().unwrap());
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for the server to end by itself.
    pub fn ended(&mut self) -> std::process::ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.server.as_mut().unwrap().try_wait().unwrap() {
                self.server = None;
                return status;
            }
            assert!(begun.elapsed() < PATIENCE, "the server does not end:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill().unwrap();
            server.wait().unwrap();
        }
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pipit"));
        command.arg("--config").arg(&self.file).args(arguments);
        command
    }

    /// Runs `pipit` on this directory.
    pub fn pipit(&self, arguments: &[&str]) -> Output {
        self.command(arguments).stdin(Stdio::null()).output().unwrap()
    }

    pub fn pipit_with_input(&self, arguments: &[&str], input: &str) -> Output {
        feed(&mut self.command(arguments), input)
    }

    /// The stdout of a command that must succeed.
    pub fn fine(&self, arguments: &[&str]) -> String {
        let output = self.pipit(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}\n{}", self.log());
        String::from_utf8(output.stdout).unwrap()
    }

    /// The stderr of a command that must end with this exit status.
    pub fn refused(&self, arguments: &[&str], exit: i32) -> String {
        let output = self.pipit(arguments);
        assert_eq!(output.status.code(), Some(exit), "{arguments:?}: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    pub fn client(&self) -> Client {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut client = Client { lines: BufReader::new(stream.try_clone().unwrap()), stream };
        client.expect("220 ");
        client
    }

    /// Delivers one message and gives the reply to the final dot.
    pub fn deliver(&self, to: &str, message: &str) -> String {
        let mut client = self.client();
        client.say("EHLO client.test", "250");
        client.say("MAIL FROM:<x@friend.test>", "250");
        client.say(&format!("RCPT TO:<{to}>"), "250");
        client.say("DATA", "354");
        let reply = client.say(&format!("{message}\r\n."), "250");
        client.say("QUIT", "221");
        reply
    }

    /// Repeats a check until it holds.
    pub fn until(&self, what: &str, check: impl Fn() -> bool) {
        let begun = Instant::now();
        while !check() {
            assert!(begun.elapsed() < PATIENCE, "never happened: {what}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Runs a command with this standard input.
pub fn feed(command: &mut Command, input: &str) -> Output {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A command that refuses its arguments does not read.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.kill();
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(Path::new(&self.dir));
        }
    }
}

pub struct Client {
    stream: TcpStream,
    lines: BufReader<TcpStream>,
}

impl Client {
    pub fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Reads one whole reply.
    pub fn expect(&mut self, prefix: &str) -> String {
        let mut reply = String::new();
        loop {
            let at = reply.len();
            assert!(self.lines.read_line(&mut reply).unwrap() > 0, "closed instead of {prefix}: {reply}");
            if reply.as_bytes().get(at + 3) != Some(&b'-') {
                break;
            }
        }
        assert!(reply.starts_with(prefix), "{prefix} expected: {reply}");
        reply
    }

    pub fn say(&mut self, line: &str, prefix: &str) -> String {
        self.write(format!("{line}\r\n").as_bytes());
        self.expect(prefix)
    }

    /// Whether the server has closed, after everything it still said.
    pub fn is_closed(&mut self) -> bool {
        let mut rest = String::new();
        while self.lines.read_line(&mut rest).is_ok_and(|n| n > 0) {}
        self.lines.read_line(&mut rest).is_ok_and(|n| n == 0)
    }
}
