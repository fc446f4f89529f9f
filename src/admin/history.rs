//! Accepted versions of the configuration, in `DIR/history/`: what an edit can be compared with and taken back to.
//!
//! A version is kept when it came into force and differs from the newest one; the last 20 stay. First passwords are
//! consumed before a text gets here, so the history holds none.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::path::PathBuf;

use crate::host::files;
use crate::mail::date::UnixTime;

/// Versions that stay (`setup.md`).
const VERSIONS: usize = 20;
/// As large as a configuration file may be.
const MAX_FILE: usize = 1 << 20;

fn folder(dir: &Path) -> PathBuf {
    dir.join("history")
}

/// Names sort by time; foreign files are left alone.
fn versions(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder(dir)) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|end| end == "toml"));
    files.sort();
    files
}

/// The newest version that was in force.
pub fn newest(dir: &Path) -> Option<String> {
    let bytes = files::read_bounded(versions(dir).last()?, MAX_FILE).ok()?;
    String::from_utf8(bytes).ok()
}

/// Keeps a text that came into force now.
pub fn keep(dir: &Path, text: &str, now: UnixTime) -> io::Result<()> {
    if newest(dir).as_deref() == Some(text) {
        return Ok(());
    }
    match fs::DirBuilder::new().mode(0o700).create(folder(dir)) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    // A version never sorts before the newest one, even if the clock went back.
    let latest = versions(dir).last().and_then(|path| path.file_stem()?.to_str()?.parse::<i64>().ok()).unwrap_or(0);
    let name = format!("{:012}.toml", now.0.max(latest + 1));
    files::replace(&folder(dir).join(name), text.as_bytes(), 0o600)?;
    let all = versions(dir);
    for old in all.iter().take(all.len().saturating_sub(VERSIONS)) {
        fs::remove_file(old)?;
    }
    Ok(())
}
