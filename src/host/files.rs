//! Small files that must never be seen half-written: configuration and keys (R16 of the reliability spec).

use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Read;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;

/// Replaces `path` by `bytes` with permission bits `mode`: temporary file beside it, write, sync, rename, sync of the
/// directory. After a crash at any line `path` holds the old bytes or the new ones. On an error the old ones stay.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let temporary = temporary_name(path)?;
    // One writer at a time owns the directory (`DIR/lock`), so what stands there is left from a crash.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let outcome = write_new(&temporary, bytes, mode).and_then(|()| fs::rename(&temporary, path));
    if outcome.is_err() {
        // The first error is the one to tell; a temporary file that cannot be removed either is removed by the next call.
        let _ = fs::remove_file(&temporary);
    }
    outcome?;
    File::open(directory)?.sync_all()
}

/// The bytes of a file of at most `max`; `FileTooLarge` over it, so that no wrong path fills the memory.
pub fn read_bounded(path: &Path, max: usize) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut bytes = Vec::new();
    let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    file.take(limit).read_to_end(&mut bytes)?;
    if bytes.len() > max {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

fn temporary_name(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"))?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(".new");
    Ok(path.with_file_name(hidden))
}

/// Creates the file, which must not exist: O_EXCL also refuses a symbolic link that somebody put there meanwhile.
fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    // The umask has had its say over `mode`; this is the exact one, before the first byte is there.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("pipit-files-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn the_new_bytes_take_the_place_of_the_old_with_their_mode() {
        let dir = directory("replace");
        let path = dir.join("key");
        replace(&path, b"old and longer", 0o644).unwrap();
        replace(&path, b"new", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_link_in_place_of_the_temporary_file_is_not_followed() {
        let dir = directory("link");
        let (path, victim) = (dir.join("key"), dir.join("victim"));
        fs::write(&victim, "untouched").unwrap();
        symlink(&victim, temporary_name(&path).unwrap()).unwrap();
        replace(&path, b"new", 0o600).unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"untouched");
        assert_eq!(fs::read(&path).unwrap(), b"new");
        symlink(&victim, temporary_name(&path).unwrap()).unwrap();
        assert!(write_new(&temporary_name(&path).unwrap(), b"x", 0o600).is_err());
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_failure_leaves_no_temporary_file() {
        let dir = directory("failure");
        let path = dir.join("is-a-directory");
        fs::create_dir_all(path.join("inside")).unwrap();
        assert!(replace(&path, b"x", 0o600).is_err());
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
        assert!(replace(Path::new("/"), b"x", 0o600).is_err());
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn reading_is_bounded() {
        let dir = directory("read");
        let path = dir.join("file");
        fs::write(&path, "12345").unwrap();
        assert_eq!(read_bounded(&path, 5).unwrap(), b"12345");
        assert_eq!(read_bounded(&path, 4).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert!(read_bounded(&dir, 4).is_err());
        assert!(read_bounded(Path::new("/dev/zero"), 4).is_err());
        fs::remove_dir_all(&dir).unwrap();
    }
}
