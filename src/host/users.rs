//! Names of the machine's users by number, from `/etc/passwd`.
//!
//! Read before the sandbox, and again when the file has changed, where the sandbox lets us (`host::sandbox`); else a user who
//! is added later is known after the next start. Only local users count, as in `host::privileges`: a static program has no NSS.

use std::cell::Cell;
use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::SystemTime;

use crate::host::files;

/// Largest /etc/passwd looked at: some 10,000 users.
const MAX_PASSWD: usize = 1 << 20;

/// What changes with a file: time, length and inode.
type Stamp = (SystemTime, u64, u64);

/// The names, as the file has them.
#[derive(Debug)]
pub struct Users {
    file: PathBuf,
    stamp: Cell<Option<Stamp>>,
    names: RefCell<HashMap<u32, String>>,
}

impl Users {
    /// The users of this machine; none where the file cannot be read.
    pub fn read() -> Users {
        Users::of(PathBuf::from("/etc/passwd"))
    }

    fn of(file: PathBuf) -> Users {
        let users = Users { file, stamp: Cell::default(), names: RefCell::default() };
        users.refresh();
        users
    }

    /// A number that another user has got since must not send under the name of the one before.
    fn refresh(&self) {
        let Some(stamp) = stamp(&self.file) else { return };
        if self.stamp.get() == Some(stamp) {
            return;
        }
        if let Ok(passwd) = files::read_bounded(&self.file, MAX_PASSWD) {
            *self.names.borrow_mut() = parse(&String::from_utf8_lossy(&passwd));
            self.stamp.set(Some(stamp));
        }
    }

    /// The name of a user number. Costs one system call, and a read when the file has changed.
    pub fn name(&self, uid: u32) -> Option<String> {
        self.refresh();
        self.names.borrow().get(&uid).cloned()
    }
}

fn stamp(file: &Path) -> Option<Stamp> {
    let about = fs::metadata(file).ok()?;
    Some((about.modified().ok()?, about.len(), about.ino()))
}

/// passwd(5): `name:password:uid:gid:…`. The first name of a number counts, as for getpwuid(3).
fn parse(passwd: &str) -> HashMap<u32, String> {
    let mut names = HashMap::new();
    for line in passwd.lines() {
        let mut fields = line.split(':');
        let (name, uid) = (fields.next().unwrap_or(""), fields.nth(1).and_then(|uid| uid.parse().ok()));
        if let (false, Some(uid)) = (name.is_empty(), uid) {
            names.entry(uid).or_insert_with(|| name.to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_name_of_a_number_counts_and_a_changed_file_is_read_again() {
        let file = std::env::temp_dir().join(format!("pipit-passwd-{}", std::process::id()));
        let text = "root:x:0:0::/root:/bin/sh\ntoor:x:0:0::/root:/bin/sh\n\nbroken:x\n:x:5:5\nann:x:1000:1000::/:/\nbad:x:no:1\n";
        fs::write(&file, text).unwrap();
        let users = Users::of(file.clone());
        let name = |uid| users.name(uid).unwrap_or_default();
        assert_eq!((name(0).as_str(), name(1000).as_str()), ("root", "ann"));
        assert_eq!((users.name(5), users.name(7)), (None, None));
        files::replace(&file, b"root:x:0:0::/:/\nanother:x:1000:1000::/:/\nnew:x:7:7::/:/\n", 0o644).unwrap();
        assert_eq!((name(1000).as_str(), name(7).as_str()), ("another", "new"));
        fs::remove_file(&file).unwrap();
        assert_eq!(name(7), "new", "what cannot be read stays as it was");
        assert_eq!(Users::read().name(0).as_deref(), Some("root"));
    }
}
