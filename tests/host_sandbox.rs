//! The start order on a real kernel: each test starts this program again, and the child locks itself in and reports what
//! it still can do. No test harness in the child: its threads would be older than the sandbox.

#![expect(clippy::unwrap_used, reason = "a test, though without the harness that clippy knows tests by")]

use std::fs;
use std::io;
use std::io::Read;
use std::io::Write;
use std::net::TcpListener;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use pipit::host::files;
use pipit::host::memory;
use pipit::host::privileges;
use pipit::host::privileges::NetBind;
use pipit::host::privileges::PrivilegeFault;
use pipit::host::privileges::User;
use pipit::host::sandbox;
use pipit::host::sandbox::Landlock;
use pipit::host::sandbox::Paths;
use pipit::host::sandbox::Seccomp;
use pipit::host::signals::Signal;
use pipit::host::signals::Signals;
use pipit::net;
use pipit::net::offload::Offload;
use pipit::net::offload::Priority;

/// Set in the child: which part it plays.
const PART: &str = "PIPIT_SANDBOX_PART";
const NOBODY: User = User { uid: 65_534, gid: 65_534 };

fn main() {
    let directory = std::env::temp_dir().join(format!("pipit-sandbox-{}", std::process::id()));
    match std::env::var(PART).as_deref() {
        Ok("sandbox") => sandboxed(),
        Ok("privileges") => unprivileged(),
        Ok("resolvers") => resolvers(),
        _ => {
            for part in ["sandbox", "privileges"] {
                fs::create_dir_all(directory.join("data")).unwrap();
                fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
                fs::set_permissions(directory.join("data"), fs::Permissions::from_mode(0o777)).unwrap();
                fs::write(directory.join("readable"), "certificate").unwrap();
                fs::write(directory.join("secret"), "secret").unwrap();
                let child = Command::new(std::env::current_exe().unwrap()).env(PART, part).current_dir(&directory).status().unwrap();
                assert!(child.success(), "{part}: {child}");
                fs::remove_dir_all(&directory).unwrap();
                println!("test {part} ... ok");
            }
            replaced_under_the_sandbox(&directory);
        }
    }
}

fn denied<T>(outcome: io::Result<T>) -> bool {
    matches!(outcome, Err(error) if error.kind() == io::ErrorKind::PermissionDenied)
}

fn sandboxed() {
    let here = std::env::current_dir().unwrap();
    let (data, readable) = (here.join("data"), here.join("readable"));
    let early = TcpListener::bind("127.0.0.1:0").unwrap();
    assert_eq!(privileges::thread_count().unwrap(), 1);
    if privileges::is_root() {
        privileges::drop_to(NOBODY, NetBind::Drop).unwrap();
    } else {
        privileges::lock_in(NetBind::Drop).unwrap();
    }
    let gone = PathBuf::from("/no/such/path");
    let readable_paths = vec![readable.clone(), gone.clone(), PathBuf::from("/proc/self"), PathBuf::from("/sys/class/thermal")];
    let landlock = sandbox::landlock(&Paths { writable: vec![data.clone()], readable: readable_paths, openable: Vec::new() }).unwrap();
    let seccomp = sandbox::seccomp().unwrap();
    assert_eq!(privileges::thread_count().unwrap(), 1);
    if let Landlock::Enforced { missing, .. } = &landlock {
        assert!(missing.contains(&gone) && !missing.contains(&readable));
        assert!(denied(fs::read("/etc/shadow")) && denied(fs::read("/etc/passwd")));
        assert!(denied(fs::read(here.join("secret"))) && denied(fs::read_dir("/")));
        assert!(denied(fs::write(here.join("new"), "x")) && denied(fs::write(&readable, "x")));
        assert!(denied(fs::rename(data.join("nothing"), here.join("out"))) || !here.join("out").exists());
        assert_eq!(fs::read(&readable).unwrap(), b"certificate");
    } else {
        println!("NOT TESTED: {landlock:?}");
    }
    if let Seccomp::Enforced { calls } = seccomp {
        assert!(calls > 72);
        let executed = Command::new("/bin/true").status();
        assert!(executed.is_err(), "exec went through");
        assert!(std::os::unix::fs::symlink("/etc", data.join("link")).is_err());
    } else {
        println!("NOT TESTED: {seccomp:?}");
    }
    what_the_server_needs(&data, early);
}

/// The outer half: a file that the sandboxed child reads is replaced as NetworkManager, dhclient and systemd-resolved do it.
fn replaced_under_the_sandbox(directory: &Path) {
    for folder in ["etc", "run/resolved"] {
        fs::create_dir_all(directory.join(folder)).unwrap();
    }
    for (path, mode) in [(".", 0o755), ("etc", 0o755), ("run", 0o755), ("run/resolved", 0o755)] {
        fs::set_permissions(directory.join(path), fs::Permissions::from_mode(mode)).unwrap();
    }
    let plain = directory.join("etc/resolv.conf");
    let target = directory.join("run/resolved/stub.conf");
    files::replace(&plain, b"before", 0o644).unwrap();
    files::replace(&target, b"target before", 0o644).unwrap();
    files::replace(&directory.join("etc/shadow"), b"secret", 0o600).unwrap();
    files::replace(&directory.join("run/other"), b"of others", 0o644).unwrap();
    std::os::unix::fs::symlink("../run/resolved/stub.conf", directory.join("etc/link.conf")).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .env(PART, "resolvers")
        .current_dir(directory)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = [0; 1];
    child.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    files::replace(&plain, b"after", 0o644).unwrap();
    files::replace(&target, b"target after", 0o644).unwrap();
    // And what was a link becomes a file, as when systemd-resolved is taken off the machine.
    child.stdin.as_mut().unwrap().write_all(b"1").unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    files::replace(&directory.join("etc/link.conf"), b"a file now", 0o644).unwrap();
    child.stdin.as_mut().unwrap().write_all(b"2").unwrap();
    let status = child.wait().unwrap();
    assert!(status.success(), "resolvers: {status}");
    fs::remove_dir_all(directory).unwrap();
    println!("test resolvers ... ok");
}

/// The inner half.
fn resolvers() {
    let here = std::env::current_dir().unwrap();
    let (plain, link) = (here.join("etc/resolv.conf"), here.join("etc/link.conf"));
    let openable: Vec<PathBuf> = [&plain, &link].into_iter().flat_map(|file| sandbox::folders_of(file)).collect();
    let dropped = privileges::is_root();
    if dropped {
        privileges::drop_to(NOBODY, NetBind::Drop).unwrap();
    } else {
        privileges::lock_in(NetBind::Drop).unwrap();
    }
    let landlock = sandbox::landlock(&Paths { openable, ..Paths::default() }).unwrap();
    sandbox::seccomp().unwrap();
    let turn = || {
        io::stdout().write_all(b".").unwrap();
        io::stdout().flush().unwrap();
        io::stdin().read_exact(&mut [0]).unwrap();
    };
    assert_eq!((fs::read(&plain).unwrap(), fs::read(&link).unwrap()), (b"before".to_vec(), b"target before".to_vec()));
    turn();
    assert_eq!((fs::read(&plain).unwrap(), fs::read(&link).unwrap()), (b"after".to_vec(), b"target after".to_vec()));
    turn();
    assert_eq!(fs::read(&link).unwrap(), b"a file now");
    assert!(!dropped || denied(fs::read(here.join("etc/shadow"))), "closed by its mode");
    match landlock {
        Landlock::Enforced { .. } => {
            assert!(denied(fs::read(here.join("run/other"))) && denied(fs::read_dir(here.join("etc"))));
            assert!(denied(fs::write(&plain, "x")) && denied(fs::write(here.join("etc/new"), "x")));
        }
        Landlock::Absent(why) => eprintln!("NOT TESTED: {why}"),
    }
}

/// Everything the program does, under both.
fn what_the_server_needs(data: &Path, early: TcpListener) {
    files::replace(&data.join("pipit.toml"), b"host = \"a\"", 0o600).unwrap();
    assert_eq!(files::read_bounded(&data.join("pipit.toml"), 100).unwrap(), b"host = \"a\"");
    fs::create_dir_all(data.join("store/sub")).unwrap();
    store_calls(&data.join("store/data.mdb"));
    fs::remove_dir_all(data.join("store")).unwrap();
    drop(UnixListener::bind(data.join("control")).unwrap());
    assert!(memory::resident().unwrap() > 0);
    memory::trim();
    let executor = smol::LocalExecutor::new();
    net::run(&executor, async {
        let offload = Offload::start().unwrap();
        assert_eq!(offload.run(Priority::Login, || vec![0_u8; 8 << 20].len()).await, Ok(8 << 20));
        assert_eq!(offload.run(Priority::Other, || fs::read("/etc/passwd").is_err()).await, Ok(true));
        net::deadline::sleep(Duration::from_millis(5)).await;
        let listener = net::listen::Listener::new(early).unwrap();
        let mut client = TcpStream::connect(listener.local_address().unwrap()).unwrap();
        client.write_all(b"NOOP\r\n").unwrap();
        let mut lines = net::lines::LineStream::new(listener.accept().await.0);
        assert_eq!(lines.next_line(100).await.unwrap(), net::lines::LineRead::Line(b"NOOP"));
        lines.write(b"250 OK\r\n").await.unwrap();
        lines.close().await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "250 OK\r\n");
        net::listen::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        net::listen::bind("[::1]:0".parse().unwrap()).map(drop).unwrap_or_default();
        let mut signals = Signals::new().unwrap();
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::HUP).unwrap();
        assert_eq!(signals.next().await.unwrap(), Signal::Reload);
    });
    assert!(std::panic::catch_unwind(|| panic!("a panic is caught in the sandbox")).is_err());
    let key = pipit::proto::x509::key::new_key(&ring::rand::SystemRandom::new());
    assert!(key.is_ok());
}

/// The file calls that LMDB and the lock of the data directory make.
fn store_calls(path: &Path) {
    use std::os::unix::fs::FileExt;
    let file = fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).unwrap();
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
    let allocated = rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, 65_536);
    assert!(allocated.is_ok() || allocated == Err(rustix::io::Errno::OPNOTSUPP));
    file.set_len(131_072).unwrap();
    file.write_at(b"page", 4096).unwrap();
    rustix::io::pwritev(&file, &[io::IoSlice::new(b"pa"), io::IoSlice::new(b"ge")], 8192).unwrap();
    file.sync_data().unwrap();
    file.sync_all().unwrap();
    assert!(rustix::fs::statvfs(path).unwrap().f_blocks > 0);
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::File::open(path.parent().unwrap()).unwrap().sync_all().unwrap();
}

fn unprivileged() {
    if !privileges::is_root() {
        println!("NOT TESTED: dropping privileges needs root");
        return;
    }
    let open_files = privileges::raise_open_files();
    assert!(open_files.is_none_or(|limit| limit >= 1024));
    privileges::drop_to(NOBODY, NetBind::Keep).unwrap();
    assert!(!privileges::is_root());
    assert!(denied(fs::read("/etc/shadow")));
    assert!(rustix::process::getgroups().unwrap().is_empty());
    assert!(memory::resident().is_some());
    // Kept: a low port. Not kept: anything else, or root itself.
    TcpListener::bind("127.0.0.1:0").unwrap();
    let low = TcpListener::bind("127.0.0.1:26");
    assert!(!denied(low));
    assert!(rustix::thread::set_thread_uid(rustix::process::Uid::ROOT).is_err());
    privileges::lock_in(NetBind::Drop).unwrap();
    assert!(
        denied(TcpListener::bind("127.0.0.1:27"))
            || fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").is_ok_and(|from| from.trim() != "1024")
    );
    assert!(rustix::thread::no_new_privs().unwrap());
    let thread = std::thread::spawn(|| privileges::drop_to(NOBODY, NetBind::Drop));
    assert!(matches!(thread.join().unwrap(), Err(PrivilegeFault::ManyThreads(_))));
}
