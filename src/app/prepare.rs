//! Steps 1 to 5 of the start: files read, listeners bound, privileges dropped, sandbox entered. One thread throughout.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::path::Path;
use std::path::PathBuf;

use crate::admin::Failure;
use crate::admin::wire::SEND_SOCKET;
use crate::app::certificates;
use crate::app::certificates::External;
use crate::app::logger;
use crate::cli::find;
use crate::cli::owner;
use crate::cli::owner::DEFAULT_USER;
use crate::cli::place::Place;
use crate::config::settings::Settings;
use crate::host::memory;
use crate::host::notify::Notifier;
use crate::host::privileges;
use crate::host::privileges::NetBind;
use crate::host::sandbox;
use crate::host::sandbox::Landlock;
use crate::host::sandbox::Paths;
use crate::host::sandbox::Seccomp;
use crate::host::users::Users;
use crate::net::listen;

/// What could not be done, by what it is about; each a sentence for `status`.
pub type Problems = BTreeMap<&'static str, String>;

/// What the rest of the start works with.
pub struct Prepared {
    pub parts: Vec<Part>,
    pub notifier: Notifier,
    /// of this machine; the sandbox closes the file that says so
    pub users: Users,
}

/// One directory to serve.
pub struct Part {
    pub place: Place,
    pub settings: Settings,
    pub sockets: Sockets,
    pub external: Option<External>,
    pub problems: Problems,
    /// where programs of every user may hand mail in, beside `DIR/send.sock`
    pub send_sockets: Vec<PathBuf>,
}

/// The bound listeners of one instance.
#[derive(Default)]
pub struct Sockets {
    pub smtp: Vec<TcpListener>,
    pub submission: Vec<TcpListener>,
    pub submissions: Vec<TcpListener>,
}

impl Sockets {
    pub fn all(&self) -> impl Iterator<Item = &TcpListener> {
        self.smtp.iter().chain(&self.submission).chain(&self.submissions)
    }

    /// The addresses, for `status`: what is no SMTP from server to server says what it is.
    pub fn names(&self) -> Vec<String> {
        let name = |what: &'static str| {
            move |socket: &TcpListener| {
                socket.local_addr().ok().map(|address| if what.is_empty() { address.to_string() } else { format!("{address} ({what})") })
            }
        };
        let smtp = self.smtp.iter().filter_map(name(""));
        smtp.chain(self.submission.iter().filter_map(name("submission")))
            .chain(self.submissions.iter().filter_map(name("submissions")))
            .collect()
    }
}

/// Does steps 1 to 5 for all of them.
pub fn prepare(places: Vec<Place>) -> Result<Prepared, Failure> {
    let mut parts = Vec::with_capacity(places.len());
    memory::settle();
    let notifier = Notifier::from_environment();
    privileges::raise_open_files();
    let users = Users::read();
    for place in places {
        let settings = place.settings.clone()?;
        if parts.is_empty() {
            logger::install(settings.log_level);
        }
        let external = settings.tls.as_ref().map(certificates::read_external).transpose()?;
        let sockets = bind_all(&settings)?;
        parts.push(Part { place, settings, sockets, external, problems: Problems::new(), send_sockets: Vec::new() });
    }
    let mut problems = Problems::new();
    drop_privileges(&mut parts, &mut problems)?;
    for part in &mut parts {
        look_at_file(&part.place.file, &mut part.problems);
    }
    enter_sandbox(&parts, &mut problems)?;
    for part in &mut parts {
        part.problems.extend(problems.clone());
    }
    Ok(Prepared { parts, notifier, users })
}

fn bind_all(settings: &Settings) -> Result<Sockets, Failure> {
    let all =
        |key: &'static str, addresses: &[SocketAddr]| addresses.iter().map(|address| bind(key, address)).collect::<Result<Vec<_>, _>>();
    Ok(Sockets {
        smtp: all("listen.smtp", &settings.listen.smtp)?,
        submission: all("listen.submission", &settings.listen.submission)?,
        submissions: all("listen.submissions", &settings.listen.submissions)?,
    })
}

fn bind(key: &str, address: &SocketAddr) -> Result<TcpListener, Failure> {
    listen::bind(*address).map_err(|error| {
        let hint = match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                format!("another mail server or another pipit is using it: stop that one, or change {key}")
            }
            std::io::ErrorKind::PermissionDenied => {
                format!("ports below 1024 need root at the start (rights are dropped right after), or choose another in {key}")
            }
            std::io::ErrorKind::AddrNotAvailable => format!("this machine has no such address: change {key}"),
            _ => format!("check {key}"),
        };
        Failure::new(format!("cannot listen on {address}: {error}"), hint)
    })
}

/// Becomes who serves: the user that the first configuration names, in all directories. Root without a user to become goes
/// on as root, and says so loudly.
fn drop_privileges(parts: &mut [Part], problems: &mut Problems) -> Result<(), Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        Failure::new(format!("privileges cannot be dropped: {error}"), "start it as root or as an ordinary user")
    };
    let Some(first) = parts.first() else { return Ok(()) };
    let user = owner::service_user(&first.settings)?;
    for part in parts.iter_mut() {
        let dir = &part.place.dir;
        match user {
            Some(user) => owner::hand_over(dir, user)?,
            None => owner::make(dir)?,
        }
        if find::is_system_wide(&part.place.file) {
            part.send_sockets.extend(owner::make_runtime_folder(user).map(|folder| folder.join(SEND_SOCKET)));
        }
    }
    if let Some(user) = user {
        return privileges::drop_to(user, NetBind::Drop).map_err(|error| failed(&error));
    }
    if privileges::is_root() {
        let text = format!(
            "serving as root: there is no user {DEFAULT_USER}. Make one (useradd --system {DEFAULT_USER}) and restart; the directory becomes its own"
        );
        problems.insert("root", text);
    }
    privileges::lock_in(NetBind::Drop).map_err(|error| failed(&error))
}

/// A server that cannot read its own file any more would miss every edit of it.
fn look_at_file(file: &Path, problems: &mut Problems) {
    if let Err(error) = fs::File::open(file) {
        let text = format!(
            "the server's user cannot read {} ({error}): edits take effect only after a restart; chown it to that user",
            file.display()
        );
        problems.insert("file", text);
    }
}

fn readable(parts: &[Part]) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        ["/etc/resolv.conf", "/proc/self", "/sys/class/thermal", "/sys/devices/virtual/thermal"].iter().map(PathBuf::from).collect();
    // Where it is a link, its target is replaced, not rewritten. A plain file's folder would be all of /etc.
    let real = fs::canonicalize("/etc/resolv.conf").ok();
    if let Some(folder) = real.as_deref().filter(|real| *real != Path::new("/etc/resolv.conf")).and_then(Path::parent) {
        paths.push(folder.to_path_buf());
    }
    for tls in parts.iter().filter_map(|part| part.settings.tls.as_ref()) {
        paths.extend([tls.certificate.clone(), tls.key.clone()]);
    }
    paths.extend(parts.iter().filter_map(|part| part.settings.dns.trust_anchor.as_ref()).map(|given| given.file.clone()));
    paths
}

fn writable(parts: &[Part]) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for part in parts {
        paths.push(part.place.dir.clone());
        paths.extend(part.place.more_writable.iter().cloned());
        // Aliases are edited in the live file, which is replaced within its folder.
        paths.extend(part.place.file.parent().map(Path::to_path_buf));
        paths.extend(part.send_sockets.iter().filter_map(|socket| socket.parent()).map(Path::to_path_buf));
    }
    paths
}

/// Landlock, then seccomp. A kernel without them is no reason to serve no mail, but is said loudly.
fn enter_sandbox(parts: &[Part], problems: &mut Problems) -> Result<(), Failure> {
    let threads = privileges::thread_count().unwrap_or(1);
    if threads != 1 {
        return Err(Failure::new(format!("{threads} threads run before the sandbox; they would stay outside it"), "report this"));
    }
    let paths = Paths { writable: writable(parts), readable: readable(parts) };
    let told = match sandbox::landlock(&paths) {
        Ok(Landlock::Enforced { missing, .. }) => unreadable_files(&missing, parts),
        Ok(Landlock::Absent(reason)) => {
            Some(format!("the kernel offers no Landlock ({reason}): the server could reach files that are not its own"))
        }
        Err(error) => Some(format!("Landlock could not be entered: {error}")),
    };
    problems.extend(told.map(|text| ("landlock", text)));
    let told = match sandbox::seccomp() {
        Ok(Seccomp::Enforced { .. }) => None,
        Ok(Seccomp::Absent(reason)) => Some(format!("system calls are not filtered: {reason}")),
        Err(error) => Some(format!("system calls are not filtered: {error}")),
    };
    problems.extend(told.map(|text| ("seccomp", text)));
    Ok(())
}

/// Files that the server's user may not open: they were read before privileges went, and never will be again.
fn unreadable_files(missing: &[PathBuf], parts: &[Part]) -> Option<String> {
    let certificates = parts.iter().filter_map(|part| part.settings.tls.as_ref()).flat_map(|tls| [&tls.certificate, &tls.key]);
    let anchors = parts.iter().filter_map(|part| part.settings.dns.trust_anchor.as_ref()).map(|given| &given.file);
    let closed = certificates.chain(anchors).find(|file| missing.contains(file))?;
    Some(format!("the server's user cannot read {}: restart the server when it has changed", closed.display()))
}
