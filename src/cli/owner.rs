//! Who works in a data directory: root never does where it can be helped, so that no file of root stays behind.
//!
//! A directory that belongs to an ordinary user is worked on as that user. One that is missing, or still root's, is made
//! over to the service user (`user` of the configuration, else `pipit`), if the system has that user.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::lchown;
use std::path::Path;
use std::path::PathBuf;

use crate::admin::Failure;
use crate::cli::find::RUNTIME_FOLDER;
use crate::config::settings::Settings;
use crate::host::privileges;
use crate::host::privileges::User;
use crate::store;

/// Who serves when root starts us and the configuration names nobody.
pub const DEFAULT_USER: &str = "pipit";
/// What Pipit keeps in its directory; the socket is made anew.
const OURS: [&str; 7] = ["lock", "mail.mdb", "mail.mdb-lock", "mail.mdb.new", "mail.mdb.new-lock", "history", "pipit.toml"];

/// Whom root becomes. `None`: we are not root, or there is no such user and none was asked for.
pub fn service_user(settings: &Settings) -> Result<Option<User>, Failure> {
    if !privileges::is_root() {
        return Ok(None);
    }
    let name = settings.user.as_deref().unwrap_or(DEFAULT_USER);
    match privileges::find_user(name) {
        Ok(user) => Ok(Some(user)),
        Err(error) if settings.user.is_some() => {
            Err(Failure::new(format!("the user {name} of the configuration: {error}"), format!("make it: useradd --system {name}")))
        }
        Err(_) => Ok(None),
    }
}

fn failed(dir: &Path) -> impl Fn(io::Error) -> Failure {
    move |error| Failure::new(format!("the data directory {}: {error}", dir.display()), "change dir, or make it by hand")
}

/// Makes the directory if it is not there.
pub fn make(dir: &Path) -> Result<(), Failure> {
    store::create_dir(dir).map_err(failed(dir))
}

/// Makes the directory over to the user, with what Pipit has in it. A directory that holds other things of root, or
/// belongs to a third user, is none to take.
pub fn hand_over(dir: &Path, user: User) -> Result<(), Failure> {
    make(dir)?;
    let owner = fs::metadata(dir).map_err(failed(dir))?.uid();
    if owner == user.uid {
        return Ok(());
    }
    let names = fs::read_dir(dir).map_err(failed(dir))?.collect::<io::Result<Vec<_>>>().map_err(failed(dir))?;
    let known = |name: &str| OURS.contains(&name) || name == "pipit.sock" || name == "send.sock";
    let foreign = names.iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).find(|name| !known(name));
    if owner != 0 || foreign.is_some() {
        let why = foreign.map_or("it belongs to another user".into(), |name| format!("it holds {name}, which is not Pipit's"));
        let hint = "give Pipit a directory of its own (the key dir), or chown it by hand";
        return Err(Failure::new(format!("{} is not taken over: {why}", dir.display()), hint));
    }
    for name in OURS {
        let path = dir.join(name);
        give(&path, user).map_err(failed(dir))?;
        if name == "history" {
            for entry in fs::read_dir(&path).into_iter().flatten().filter_map(Result::ok) {
                give(&entry.path(), user).map_err(failed(dir))?;
            }
        }
    }
    give(dir, user).map_err(failed(dir))
}

/// The folder of the system's socket for handing mail in, if there can be one: made by root, or by systemd for its user
/// (`RuntimeDirectory=pipit`). `None` is no fault: the socket in the data directory is there in any case.
pub fn make_runtime_folder(user: Option<User>) -> Option<PathBuf> {
    let folder = PathBuf::from(RUNTIME_FOLDER);
    let made = fs::DirBuilder::new().mode(0o755).create(&folder);
    if let (Ok(()), Some(user)) = (made, user) {
        give(&folder, user).ok()?;
    }
    let facts = fs::symlink_metadata(&folder).ok()?;
    let own = user.map_or_else(|| rustix::process::getuid().as_raw(), |user| user.uid);
    (facts.is_dir() && facts.uid() == own).then_some(folder)
}

fn give(path: &Path, user: User) -> io::Result<()> {
    match lchown(path, Some(user.uid), Some(user.gid)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// For a command that opens the store itself: root becomes the directory's owner, or the service user.
pub fn become_owner(dir: &Path, settings: &Settings) -> Result<(), Failure> {
    if !privileges::is_root() {
        return Ok(());
    }
    let owner = fs::metadata(dir).ok().filter(|facts| facts.uid() != 0).map(|facts| User { uid: facts.uid(), gid: facts.gid() });
    let user = match owner {
        Some(user) => user,
        None => match service_user(settings)? {
            Some(user) => {
                hand_over(dir, user)?;
                user
            }
            None => return Ok(()),
        },
    };
    // A configuration may name root itself (localserve's does). There is nobody to become then, and a second attempt, after
    // a wait for the lock, would find its capabilities gone.
    if user.uid == 0 {
        return Ok(());
    }
    privileges::drop_to(user, privileges::NetBind::Drop)
        .map_err(|error| Failure::new(format!("cannot become the owner of {}: {error}", dir.display()), "run the command as that user"))
}
