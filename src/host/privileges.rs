//! From root to a plain user for good: groups, group, user, capabilities, no new privileges, in this order.
//!
//! Call with one thread, after the listeners are bound: Linux keeps these per thread, and rustix (unlike libc) changes the
//! calling one only, which is refused here if there are others. Needs no unsafe code.
//! Users are looked up in /etc/passwd itself: a static program has no NSS, and a mail server's user is a local one.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use rustix::process::DumpableBehavior;
use rustix::process::Resource;
use rustix::process::Rlimit;
use rustix::thread::CapabilitySet;
use rustix::thread::CapabilitySets;
use rustix::thread::Gid;
use rustix::thread::Uid;

use crate::host::files;

/// Largest /etc/passwd looked at: some 10,000 users.
const MAX_PASSWD: usize = 1 << 20;

/// Whom to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
}

/// Whether ports below 1024 can still be bound afterwards, for listeners that a reload adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetBind {
    Keep,
    Drop,
}

/// Why privileges were not dropped. The program must end: it has more rights than it should.
#[derive(Debug)]
pub enum PrivilegeFault {
    NoSuchUser(String),
    /// Threads that would keep the old rights.
    ManyThreads(usize),
    /// What was tried, and the kernel's answer.
    Refused(&'static str, io::Error),
    /// Root could be had back.
    StillRoot,
}

impl fmt::Display for PrivilegeFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PrivilegeFault::NoSuchUser(name) => write!(f, "the user {name} is not in /etc/passwd"),
            PrivilegeFault::ManyThreads(count) => write!(f, "privileges must be dropped with one thread; there are {count}"),
            PrivilegeFault::Refused(step, error) => write!(f, "cannot {step}: {error}"),
            PrivilegeFault::StillRoot => f.write_str("root's rights could be taken back after they were dropped"),
        }
    }
}

impl std::error::Error for PrivilegeFault {}

/// The user of a name, or of numbers: `pipit`, `1000`, `1000:1000`. A number alone is its own group.
pub fn find_user(text: &str) -> Result<User, PrivilegeFault> {
    let (user, group) = text.split_once(':').unwrap_or((text, text));
    if let (Ok(uid), Ok(gid)) = (user.parse(), group.parse()) {
        return Ok(User { uid, gid });
    }
    let passwd =
        files::read_bounded(Path::new("/etc/passwd"), MAX_PASSWD).map_err(|error| PrivilegeFault::Refused("read /etc/passwd", error))?;
    find_in(&String::from_utf8_lossy(&passwd), text).ok_or_else(|| PrivilegeFault::NoSuchUser(text.to_owned()))
}

/// passwd(5): `name:password:uid:gid:…`.
fn find_in(passwd: &str, name: &str) -> Option<User> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let found = fields.next()? == name && !name.is_empty();
        let (uid, gid) = (fields.nth(1)?, fields.next()?);
        if found { Some(User { uid: uid.parse().ok()?, gid: gid.parse().ok()? }) } else { None }
    })
}

/// Becomes `user` for good, and gives up everything that `lock_in` does.
pub fn drop_to(user: User, keep: NetBind) -> Result<(), PrivilegeFault> {
    check_single_thread()?;
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    if keep == NetBind::Keep {
        attempt("keep capabilities", rustix::thread::set_keep_capabilities(true))?;
    }
    attempt("give up supplementary groups", rustix::thread::set_thread_groups(&[]))?;
    attempt("change the group", rustix::thread::set_thread_res_gid(gid, gid, gid))?;
    attempt("change the user", rustix::thread::set_thread_res_uid(uid, uid, uid))?;
    lock_in(keep)?;
    if user.uid != 0 && rustix::thread::set_thread_uid(Uid::ROOT).is_ok() {
        return Err(PrivilegeFault::StillRoot);
    }
    Ok(())
}

/// Without changing the user: capabilities down to what is kept, never again more than now, and no core dumps or debuggers
/// of the same user (they would hold keys and mail).
pub fn lock_in(keep: NetBind) -> Result<(), PrivilegeFault> {
    check_single_thread()?;
    let held = attempt("read capabilities", rustix::thread::capabilities(None))?;
    let kept = match keep {
        NetBind::Keep => held.permitted & CapabilitySet::NET_BIND_SERVICE,
        NetBind::Drop => CapabilitySet::empty(),
    };
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    // Kernels without ambient capabilities (before 4.3) have none to clear.
    let _ = rustix::thread::clear_ambient_capability_set();
    attempt("give up capabilities", rustix::thread::set_capabilities(None, sets))?;
    attempt("give up new privileges", rustix::thread::set_no_new_privs(true))?;
    attempt("forbid core dumps", rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable))
}

fn attempt<T>(step: &'static str, outcome: rustix::io::Result<T>) -> Result<T, PrivilegeFault> {
    outcome.map_err(|error| PrivilegeFault::Refused(step, error.into()))
}

fn check_single_thread() -> Result<(), PrivilegeFault> {
    match thread_count() {
        Ok(1) => Ok(()),
        Ok(count) => Err(PrivilegeFault::ManyThreads(count)),
        Err(error) => Err(PrivilegeFault::Refused("count threads", error)),
    }
}

/// Threads of this process. Before the sandbox it must be 1: a thread started earlier stays unrestricted.
pub fn thread_count() -> io::Result<usize> {
    Ok(fs::read_dir("/proc/self/task")?.count())
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Raises the limit of open descriptors to what is allowed and gives it; 1,024 by default, and each session takes one.
pub fn raise_open_files() -> Option<u64> {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    match rustix::process::setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_name_and_number() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\n\n# remark\nbroken:x:\npipit:x:990:980::/var/lib/pipit:/bin/false\nlast:x:no:1::/:\n";
        assert_eq!(find_in(passwd, "pipit"), Some(User { uid: 990, gid: 980 }));
        for absent in ["pip", "", "broken", "# remark", "last"] {
            assert_eq!(find_in(passwd, absent), None, "{absent}");
        }
        assert_eq!(find_user("1000").unwrap(), User { uid: 1000, gid: 1000 });
        assert_eq!(find_user("1000:50").unwrap(), User { uid: 1000, gid: 50 });
        assert_eq!(find_user("root").unwrap(), User { uid: 0, gid: 0 });
        assert!(matches!(find_user("no-such-user-here"), Err(PrivilegeFault::NoSuchUser(_))));
    }

    #[test]
    fn with_several_threads_nothing_is_changed() {
        let (stop, wait) = std::sync::mpsc::channel::<()>();
        let other = std::thread::spawn(move || wait.recv());
        assert!(matches!(drop_to(User { uid: 1, gid: 1 }, NetBind::Drop), Err(PrivilegeFault::ManyThreads(_))));
        drop(stop);
        let _ = other.join();
    }
}
