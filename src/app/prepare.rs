//! Steps 1 to 5 of the start: files read, listeners bound, privileges dropped, sandbox entered. One thread throughout.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::path::Path;
use std::path::PathBuf;

use crate::admin::Failure;
use crate::app::certificates;
use crate::app::certificates::External;
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
use crate::net::listen;

/// What could not be done, by what it is about; each a sentence for `status`.
pub type Problems = BTreeMap<&'static str, String>;

/// What the rest of the start works with.
pub struct Prepared {
    pub place: Place,
    pub settings: Settings,
    pub listeners: Vec<TcpListener>,
    pub external: Option<External>,
    pub problems: Problems,
    pub notifier: Notifier,
}

/// Does steps 1 to 5.
pub fn prepare(place: Place, settings: Settings) -> Result<Prepared, Failure> {
    memory::settle();
    let mut problems = Problems::new();
    let external = settings.tls.as_ref().map(certificates::read_external).transpose()?;
    let notifier = Notifier::from_environment();
    privileges::raise_open_files();
    let listeners = settings.listen.smtp.iter().map(bind).collect::<Result<Vec<_>, _>>()?;
    drop_privileges(&settings, &place.dir, &mut problems)?;
    look_at_file(&place.file, &mut problems);
    enter_sandbox(&place, &settings, &mut problems)?;
    Ok(Prepared { place, settings, listeners, external, problems, notifier })
}

fn bind(address: &SocketAddr) -> Result<TcpListener, Failure> {
    listen::bind(*address).map_err(|error| {
        let hint = match error.kind() {
            std::io::ErrorKind::AddrInUse => "another mail server or another pipit is using it: stop that one, or change listen.smtp",
            std::io::ErrorKind::PermissionDenied => {
                "ports below 1024 need root at the start (rights are dropped right after), or choose another in listen.smtp"
            }
            std::io::ErrorKind::AddrNotAvailable => "this machine has no such address: change listen.smtp",
            _ => "check listen.smtp",
        };
        Failure::new(format!("cannot listen on {address}: {error}"), hint)
    })
}

/// Becomes who serves. Root without a user to become goes on as root, and says so loudly.
fn drop_privileges(settings: &Settings, dir: &Path, problems: &mut Problems) -> Result<(), Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        Failure::new(format!("privileges cannot be dropped: {error}"), "start it as root or as an ordinary user")
    };
    let Some(user) = owner::service_user(settings)? else {
        if privileges::is_root() {
            let dir = dir.display();
            let text = format!(
                "serving as root: there is no user {DEFAULT_USER}. Make one (useradd --system {DEFAULT_USER}) and restart; {dir} becomes its own"
            );
            problems.insert("root", text);
        }
        owner::make(dir)?;
        return privileges::lock_in(NetBind::Drop).map_err(|error| failed(&error));
    };
    owner::hand_over(dir, user)?;
    privileges::drop_to(user, NetBind::Drop).map_err(|error| failed(&error))
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

fn readable(settings: &Settings) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        ["/etc/resolv.conf", "/proc/self", "/sys/class/thermal", "/sys/devices/virtual/thermal"].iter().map(PathBuf::from).collect();
    // Where it is a link, its target is replaced, not rewritten. A plain file's folder would be all of /etc.
    let real = fs::canonicalize("/etc/resolv.conf").ok();
    if let Some(folder) = real.as_deref().filter(|real| *real != Path::new("/etc/resolv.conf")).and_then(Path::parent) {
        paths.push(folder.to_path_buf());
    }
    if let Some(tls) = &settings.tls {
        paths.extend([tls.certificate.clone(), tls.key.clone()]);
    }
    paths
}

/// Landlock, then seccomp. A kernel without them is no reason to serve no mail, but is said loudly.
fn enter_sandbox(place: &Place, settings: &Settings, problems: &mut Problems) -> Result<(), Failure> {
    let threads = privileges::thread_count().unwrap_or(1);
    if threads != 1 {
        return Err(Failure::new(format!("{threads} threads run before the sandbox; they would stay outside it"), "report this"));
    }
    let mut writable = vec![place.dir.clone()];
    writable.extend(place.more_writable.iter().cloned());
    // Aliases are edited in the live file, which is replaced within its folder.
    writable.extend(place.file.parent().map(Path::to_path_buf));
    let paths = Paths { writable, readable: readable(settings) };
    let told = match sandbox::landlock(&paths) {
        Ok(Landlock::Enforced { missing, .. }) => unreadable_files(&missing, settings),
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

/// Certificate files that the server's user may not open: they were read before privileges went, and never will be again.
fn unreadable_files(missing: &[PathBuf], settings: &Settings) -> Option<String> {
    let tls = settings.tls.as_ref()?;
    let closed = missing.iter().find(|path| **path == tls.certificate || **path == tls.key)?;
    Some(format!("the server's user cannot read {}: restart the server when the certificate was renewed", closed.display()))
}
