//! Where the running localserve of this user notes its directory, so that commands without `--config` find it.
//!
//! The folder is `$XDG_RUNTIME_DIR/pipit` or `/tmp/pipit-UID`, mode 0700; a folder that somebody else owns or can
//! write is not believed (a stranger could point our commands at a socket of its own).

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::FlockOperation;
use rustix::fs::flock;

/// The note's name within the folder.
const NOTE: &str = "localserve";
/// Temporary directories are named after their process.
const TEMPORARY: &str = "data-";
/// Process numbers repeat in containers; this many of one number are tried.
const MAX_TEMPORARY: u32 = 100;
/// From making a directory to owning it.
const STARTING: Duration = Duration::from_secs(60);
/// Longest path that is believed.
const MAX_NOTE: u64 = 4096;

/// The folder of notes and temporary directories.
pub fn folder() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(base) if Path::new(&base).is_absolute() && Path::new(&base).is_dir() => Path::new(&base).join("pipit"),
        _ => PathBuf::from(format!("/tmp/pipit-{}", rustix::process::getuid().as_raw())),
    }
}

/// Ours alone: a real folder, our uid, no rights for others.
fn is_ours(folder: &Path) -> io::Result<bool> {
    let facts = fs::symlink_metadata(folder)?;
    Ok(facts.is_dir() && facts.uid() == rustix::process::getuid().as_raw() && facts.mode() & 0o077 == 0)
}

fn make_folder() -> io::Result<PathBuf> {
    let folder = folder();
    match fs::DirBuilder::new().mode(0o700).create(&folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    if !is_ours(&folder)? {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("{} belongs to somebody else", folder.display())));
    }
    Ok(folder)
}

/// Whether a process owns this data directory (`flock` on its `lock`).
pub fn is_owned(dir: &Path) -> bool {
    let Ok(file) = fs::File::open(dir.join("lock")) else { return false };
    matches!(flock(&file, FlockOperation::NonBlockingLockShared), Err(rustix::io::Errno::WOULDBLOCK))
}

/// A directory without an owner is stale unless it was made a moment ago by one that has not got that far.
fn is_stale(dir: &Path) -> bool {
    let age = fs::metadata(dir).and_then(|facts| facts.modified()).ok().and_then(|then| then.elapsed().ok());
    !is_owned(dir) && age.is_some_and(|age| age > STARTING)
}

/// A new directory for a localserve without `--dir`. What killed ones left behind is removed on the way.
pub fn temporary() -> io::Result<PathBuf> {
    let folder = make_folder()?;
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        let ours = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(TEMPORARY));
        if ours && is_stale(&path) {
            fs::remove_dir_all(path)?;
        }
    }
    for number in 0..MAX_TEMPORARY {
        let dir = folder.join(format!("{TEMPORARY}{}-{number}", std::process::id()));
        match fs::DirBuilder::new().mode(0o700).create(&dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => return made.map(|()| dir),
        }
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{} is full of directories of other localserves", folder.display())))
}

/// Notes the directory of the localserve that starts now.
pub fn note(dir: &Path) -> io::Result<()> {
    let folder = make_folder()?;
    fs::write(folder.join(NOTE), dir.as_os_str().as_encoded_bytes())
}

/// Takes the note back, if it is still about this directory.
pub fn forget(dir: &Path) {
    if running().is_some_and(|noted| noted == dir) {
        // Nothing depends on its absence: a stale note leads to a socket that nobody answers.
        let _ = fs::remove_file(folder().join(NOTE));
    }
}

/// The directory of the localserve of this user, if one was noted.
pub fn running() -> Option<PathBuf> {
    let folder = folder();
    if !is_ours(&folder).ok()? {
        return None;
    }
    let note = folder.join(NOTE);
    if fs::symlink_metadata(&note).ok()?.len() > MAX_NOTE {
        return None;
    }
    let text = fs::read_to_string(note).ok()?;
    // A note whose directory is gone is left from one that was killed.
    Some(PathBuf::from(text)).filter(|dir| dir.is_absolute() && dir.join("pipit.toml").exists())
}
