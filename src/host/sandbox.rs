//! What the program may still do once it runs: files by Landlock (its three raw system calls), system calls by seccomp.
//!
//! In goes which paths are read and written; out comes what is in force, because kernels without Landlock exist and
//! `pipit status` says so loudly. Call both with one thread: threads started before stay unrestricted.
//! Sockets are not limited by Landlock: a mail server connects to anybody's port 25.
//! A rule of Landlock names a file or folder as it is at the start, not its name. A file that other programs replace by a
//! rename (`/etc/resolv.conf`) is another one then, and only a rule for the folder lets us read it: see `folders_of`.
//! Calls that are not on the list fail with EPERM instead of killing the process: a library that tries a newer call falls
//! back, and a server that is told "no" goes on delivering mail where a dead one does not.

use std::ffi::c_long;
use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsRawFd;
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

use seccompiler::BpfProgram;
use seccompiler::SeccompAction;
use seccompiler::SeccompFilter;

use crate::host::syscalls;

/// landlock(7), linux/landlock.h: rights of ABI 1, in the order of their bits.
const EXECUTE: u64 = 1 << 0;
const WRITE_FILE: u64 = 1 << 1;
const READ_FILE: u64 = 1 << 2;
const READ_DIR: u64 = 1 << 3;
const REMOVE_DIR: u64 = 1 << 4;
const REMOVE_FILE: u64 = 1 << 5;
const MAKE_DIR: u64 = 1 << 7;
const MAKE_REG: u64 = 1 << 8;
const MAKE_SOCK: u64 = 1 << 9;
const ABI_1: u64 = (1 << 13) - 1;
/// From ABI 2: renaming between directories. Before, it is always refused.
const REFER: u64 = 1 << 13;
/// From ABI 3.
const TRUNCATE: u64 = 1 << 14;
/// From ABI 5: ioctl on devices.
const IOCTL_DEV: u64 = 1 << 15;
/// From ABI 6: no signals to, and no abstract sockets of, processes outside. The supervisor's socket is connected before.
const SCOPE_SIGNAL: u64 = 1 << 1;

const CREATE_RULESET_VERSION: c_long = 1;
const RULE_PATH_BENEATH: c_long = 1;

/// Rights that mean anything for a single file; the kernel refuses the others on one.
const OF_A_FILE: u64 = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV;
const READABLE: u64 = READ_FILE | READ_DIR;
const WRITABLE: u64 = READABLE | WRITE_FILE | TRUNCATE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | MAKE_SOCK | REFER;

/// Links followed from a file: `/etc/resolv.conf` has one or two.
const MAX_LINKS: usize = 8;

/// Which parts of the file system stay open: folders with all below, or single files.
#[derive(Clone, Debug, Default)]
pub struct Paths {
    pub writable: Vec<PathBuf>,
    pub readable: Vec<PathBuf>,
    /// folders whose files can be read, but not listed
    pub openable: Vec<PathBuf>,
}

/// The folders in which others replace a file that we read: its own, and that of each link's target on the way to it.
///
/// For `/etc/resolv.conf` that is all of `/etc`, since Landlock cannot name a file that is not there yet. What it opens are
/// files that any user of the machine may read anyway: the sandbox is entered after the privileges are dropped, groups
/// included, and `/etc/shadow`, private keys and other programs' passwords are closed to us by their modes. It does not open
/// names (no listing). So root, who passes by modes, must not be given `/etc` (`app::prepare`), and reads new
/// resolvers only where a link leads to another folder. The alternative, a second process outside that reads the file for us,
/// would be the more powerful one of the two for a guard over what is public.
pub fn folders_of(file: &Path) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = Vec::new();
    let mut at = file.to_path_buf();
    for _ in 0..MAX_LINKS {
        let Some(folder) = at.parent() else { break };
        // `/run/x/../y`; one that is not there stays as it is, and is among the missing.
        let folder = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_path_buf());
        // The root folder would be everything.
        if folder.parent().is_some() && !folders.contains(&folder) {
            folders.push(folder.clone());
        }
        match fs::read_link(&at) {
            Ok(target) => at = folder.join(target),
            Err(_) => break,
        }
    }
    folders
}

/// Whether files are restricted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Landlock {
    /// By this version of the interface; `missing` were not there and stay closed even if they appear.
    Enforced { abi: i32, missing: Vec<PathBuf> },
    /// The sentence says why not.
    Absent(String),
}

/// Whether system calls are restricted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seccomp {
    Enforced { calls: usize },
    Absent(String),
}

/// struct landlock_ruleset_attr; older kernels take it while the fields they do not know are zero.
#[repr(C)]
struct RulesetAttributes {
    handled_access_fs: u64,
    handled_access_net: u64,
    scoped: u64,
}

/// struct landlock_path_beneath_attr, which is packed.
#[repr(C, packed)]
struct PathBeneath {
    allowed_access: u64,
    parent: i32,
}

/// Closes the file system except for `paths`. For good: also for threads started later.
pub fn landlock(paths: &Paths) -> io::Result<Landlock> {
    let abi = match create_ruleset(None, CREATE_RULESET_VERSION) {
        Ok(abi) => abi,
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => return Ok(absent("this kernel was built without Landlock")),
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
            return Ok(absent("Landlock is switched off; add it to the kernel's lsm= list"));
        }
        Err(error) => return Err(error),
    };
    let handled = handled_by(abi);
    let scoped = if abi >= 6 { SCOPE_SIGNAL } else { 0 };
    let attributes = RulesetAttributes { handled_access_fs: handled, handled_access_net: 0, scoped };
    let ruleset = own(create_ruleset(Some(&attributes), 0)?);
    let mut missing = Vec::new();
    for (list, rights) in [(&paths.writable, WRITABLE), (&paths.readable, READABLE), (&paths.openable, READ_FILE)] {
        for path in list {
            if !allow(&ruleset, path, rights & handled)? {
                missing.push(path.clone());
            }
        }
    }
    rustix::thread::set_no_new_privs(true)?;
    call(libc::SYS_landlock_restrict_self, [c_long::from(ruleset.as_raw_fd()), 0, 0, 0])?;
    Ok(Landlock::Enforced { abi, missing })
}

fn absent(why: &str) -> Landlock {
    Landlock::Absent(why.to_owned())
}

/// The rights that a version of the interface knows; all of them are taken away where no rule gives them.
fn handled_by(abi: i32) -> u64 {
    [(2, REFER), (3, TRUNCATE), (5, IOCTL_DEV)].iter().filter(|(from, _)| abi >= *from).fold(ABI_1, |rights, (_, right)| rights | right)
}

/// Whether the path was there.
fn allow(ruleset: &OwnedFd, path: &Path, rights: u64) -> io::Result<bool> {
    let parent = match OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path) {
        Ok(file) => file,
        // What we may not open now is closed by its own rights, too.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => return Ok(false),
        Err(error) => return Err(error),
    };
    let rights = if parent.metadata()?.is_dir() { rights } else { rights & OF_A_FILE };
    add_rule(ruleset, &parent, rights)?;
    Ok(true)
}

fn create_ruleset(attributes: Option<&RulesetAttributes>, flags: c_long) -> io::Result<i32> {
    let (at, size) = attributes.map_or((0, 0), |found| (std::ptr::from_ref(found) as c_long, size_of::<RulesetAttributes>() as c_long));
    call(libc::SYS_landlock_create_ruleset, [at, size, flags, 0])
}

fn add_rule(ruleset: &OwnedFd, parent: &File, rights: u64) -> io::Result<()> {
    let rule = PathBeneath { allowed_access: rights, parent: parent.as_raw_fd() };
    let at = std::ptr::from_ref(&rule) as c_long;
    call(libc::SYS_landlock_add_rule, [c_long::from(ruleset.as_raw_fd()), RULE_PATH_BENEATH, at, 0])?;
    Ok(())
}

#[expect(unsafe_code, reason = "rustix and libc have no safe form of Landlock's system calls")]
fn call(number: c_long, arguments: [c_long; 4]) -> io::Result<i32> {
    let [a, b, c, d] = arguments;
    // SAFETY: only Landlock's three calls come here; they read the structs above, whose addresses and sizes are those of
    // live values, and write nothing.
    let outcome = unsafe { libc::syscall(number, a, b, c, d) };
    if outcome < 0 { Err(io::Error::last_os_error()) } else { i32::try_from(outcome).map_err(io::Error::other) }
}

#[expect(unsafe_code, reason = "the descriptor comes from a raw system call")]
fn own(descriptor: i32) -> OwnedFd {
    // SAFETY: landlock_create_ruleset has just made it, and nobody else knows of it.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

/// Allows the system calls of `host::syscalls` and no others.
pub fn seccomp() -> io::Result<Seccomp> {
    let Some(allowed) = syscalls::allowed() else {
        return Ok(Seccomp::Absent(format!("there is no list of system calls for {}", std::env::consts::ARCH)));
    };
    let calls = allowed.len();
    let program = filter(allowed).map_err(io::Error::other)?;
    match seccompiler::apply_filter(&program) {
        Ok(()) => Ok(Seccomp::Enforced { calls }),
        Err(seccompiler::Error::Seccomp(error)) if error.raw_os_error() == Some(libc::EINVAL) => {
            Ok(Seccomp::Absent("this kernel was built without seccomp filters".to_owned()))
        }
        Err(error) => Err(io::Error::other(error)),
    }
}

fn filter(allowed: Vec<i64>) -> Result<BpfProgram, seccompiler::BackendError> {
    let rules = allowed.into_iter().map(|number| (number, Vec::new())).collect();
    let refuse = SeccompAction::Errno(libc::EPERM as u32);
    let filter = SeccompFilter::new(rules, refuse, SeccompAction::Allow, std::env::consts::ARCH.try_into()?)?;
    filter.try_into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_of_the_interface_adds_its_rights() {
        assert_eq!(handled_by(1), ABI_1);
        assert_eq!(handled_by(2), ABI_1 | REFER);
        assert_eq!(handled_by(4), ABI_1 | REFER | TRUNCATE);
        assert_eq!(handled_by(7), ABI_1 | REFER | TRUNCATE | IOCTL_DEV);
        assert_eq!(WRITABLE & EXECUTE, 0);
        assert_eq!((size_of::<PathBeneath>(), size_of::<RulesetAttributes>()), (12, 24));
    }

    #[test]
    fn the_folders_of_a_file_are_those_on_the_way_through_its_links() {
        let root = std::env::temp_dir().join(format!("pipit-folders-{}", std::process::id()));
        for folder in ["etc", "run/resolved", "lib"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        let root = fs::canonicalize(root).unwrap();
        let file = root.join("etc/resolv.conf");
        let link = |target: &str| {
            let _ = fs::remove_file(&file);
            std::os::unix::fs::symlink(target, &file).unwrap();
        };
        assert_eq!(folders_of(&file), [root.join("etc")]);
        fs::write(&file, "").unwrap();
        assert_eq!(folders_of(&file), [root.join("etc")]);
        // As systemd-resolved has it; the target need not be there yet.
        link("../run/resolved/stub-resolv.conf");
        assert_eq!(folders_of(&file), [root.join("etc"), root.join("run/resolved")]);
        std::os::unix::fs::symlink(root.join("lib/resolv.conf"), root.join("run/resolved/stub-resolv.conf")).unwrap();
        assert_eq!(folders_of(&file), [root.join("etc"), root.join("run/resolved"), root.join("lib")]);
        link("resolv.conf");
        assert_eq!(folders_of(&file), [root.join("etc")], "a link to itself ends");
        link("/resolv.conf");
        assert_eq!(folders_of(&file), [root.join("etc")], "never everything");
        fs::remove_dir_all(&root).unwrap();
    }
}
