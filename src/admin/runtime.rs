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

/// The note's name within the folder.
const NOTE: &str = "localserve";
/// Temporary directories are named after their process.
const TEMPORARY: &str = "data-";
/// Longest path that is believed.
const MAX_NOTE: u64 = 4096;

fn folder() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(base) if Path::new(&base).is_absolute() => Path::new(&base).join("pipit"),
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

/// A new directory for a localserve without `--dir`. What killed ones left behind is removed on the way.
pub fn temporary() -> io::Result<PathBuf> {
    let folder = make_folder()?;
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        let owner = path.file_name().and_then(|name| name.to_str()?.strip_prefix(TEMPORARY)?.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            fs::remove_dir_all(path)?;
        }
    }
    let dir = folder.join(format!("{TEMPORARY}{}", std::process::id()));
    fs::DirBuilder::new().mode(0o700).create(&dir)?;
    Ok(dir)
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
    Some(PathBuf::from(text)).filter(|dir| dir.is_absolute())
}
