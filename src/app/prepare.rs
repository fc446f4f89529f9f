//! Steps 1 to 5 of the start: files read, listeners bound, privileges dropped, sandbox entered. One thread throughout.

use std::fs;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::path::PathBuf;

use crate::admin::Failure;
use crate::app::certificates;
use crate::app::certificates::External;
use crate::cli::place::Place;
use crate::config::settings::Settings;
use crate::host::memory;
use crate::host::notify::Notifier;
use crate::host::privileges;
use crate::host::privileges::NetBind;
use crate::host::privileges::User;
use crate::host::sandbox;
use crate::host::sandbox::Landlock;
use crate::host::sandbox::Paths;
use crate::host::sandbox::Seccomp;
use crate::net::listen;

/// Who serves when root starts us and the configuration names nobody.
const DEFAULT_USER: &str = "pipit";

/// What the rest of the start works with.
pub struct Prepared {
    pub place: Place,
    pub settings: Settings,
    pub listeners: Vec<TcpListener>,
    pub external: Option<External>,
    /// what could not be done, each a sentence for `status`
    pub problems: Vec<String>,
    pub notifier: Notifier,
}

/// Does steps 1 to 5.
pub fn prepare(place: Place, settings: Settings) -> Result<Prepared, Failure> {
    memory::settle();
    let mut problems = Vec::new();
    let external = settings.tls.as_ref().map(certificates::read_external).transpose()?;
    let notifier = Notifier::from_environment();
    privileges::raise_open_files();
    let listeners = settings.listen.smtp.iter().map(bind).collect::<Result<Vec<_>, _>>()?;
    make_directory(&place.dir)?;
    let user = user(&settings, &place.dir, &mut problems)?;
    drop_privileges(user, &place.dir)?;
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

fn make_directory(dir: &Path) -> Result<(), Failure> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|error| {
        Failure::new(format!("the data directory {} cannot be made: {error}", dir.display()), "change dir, or make it by hand")
    })
}

/// Who will serve. Root without a user to become goes on as root, and says so loudly.
fn user(settings: &Settings, dir: &Path, problems: &mut Vec<String>) -> Result<Option<User>, Failure> {
    if !privileges::is_root() {
        return Ok(None);
    }
    let name = settings.user.as_deref().unwrap_or(DEFAULT_USER);
    match privileges::find_user(name) {
        Ok(user) => Ok(Some(user)),
        Err(error) if settings.user.is_some() => {
            Err(Failure::new(format!("the user {name} of the configuration: {error}"), "make it: useradd --system pipit"))
        }
        Err(_) => {
            problems.push(format!(
                "serving as root: there is no user {DEFAULT_USER}. Make one (useradd --system {DEFAULT_USER}; chown -R {DEFAULT_USER} {}) and restart",
                dir.display()
            ));
            Ok(None)
        }
    }
}

fn drop_privileges(user: Option<User>, dir: &Path) -> Result<(), Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        Failure::new(format!("privileges cannot be dropped: {error}"), "start it as root or as an ordinary user")
    };
    match user {
        Some(user) => {
            std::os::unix::fs::chown(dir, Some(user.uid), Some(user.gid)).map_err(|error| failed(&error))?;
            privileges::drop_to(user, NetBind::Drop).map_err(|error| failed(&error))
        }
        None => privileges::lock_in(NetBind::Drop).map_err(|error| failed(&error)),
    }
}

fn readable(settings: &Settings) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        ["/etc/resolv.conf", "/proc/self", "/sys/class/thermal", "/sys/devices/virtual/thermal"].iter().map(PathBuf::from).collect();
    // resolv.conf is a link into a folder whose file is replaced, not rewritten.
    if let Ok(target) = fs::canonicalize("/etc/resolv.conf")
        && let Some(folder) = target.parent()
    {
        paths.push(folder.to_path_buf());
    }
    if let Some(tls) = &settings.tls {
        paths.extend([tls.certificate.clone(), tls.key.clone()]);
    }
    paths
}

/// Landlock, then seccomp. A kernel without them is no reason to serve no mail, but is said loudly.
fn enter_sandbox(place: &Place, settings: &Settings, problems: &mut Vec<String>) -> Result<(), Failure> {
    let threads = privileges::thread_count().unwrap_or(1);
    if threads != 1 {
        return Err(Failure::new(format!("{threads} threads run before the sandbox; they would stay outside it"), "report this"));
    }
    let mut writable = vec![place.dir.clone()];
    // Aliases are edited in the live file, which is replaced within its folder.
    writable.extend(place.file.parent().filter(|folder| !folder.as_os_str().is_empty()).map(Path::to_path_buf));
    let paths = Paths { writable, readable: readable(settings) };
    match sandbox::landlock(&paths) {
        Ok(Landlock::Enforced { .. }) => {}
        Ok(Landlock::Absent(reason)) => {
            problems.push(format!("the kernel offers no Landlock ({reason}): the server could reach files that are not its own"))
        }
        Err(error) => problems.push(format!("Landlock could not be entered: {error}")),
    }
    match sandbox::seccomp() {
        Ok(Seccomp::Enforced { .. }) => {}
        Ok(Seccomp::Absent(reason)) => problems.push(format!("system calls are not filtered: {reason}")),
        Err(error) => problems.push(format!("system calls are not filtered: {error}")),
    }
    Ok(())
}
