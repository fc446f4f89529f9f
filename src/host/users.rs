//! Names of the machine's users by number, as `/etc/passwd` had them when the program started.
//!
//! Read before the sandbox, which closes `/etc`: a user that is added later is known after the next start. Only local users
//! count, as in `host::privileges`: a static program has no NSS.

use std::collections::HashMap;
use std::path::Path;

use crate::host::files;

/// Largest /etc/passwd looked at: some 10,000 users.
const MAX_PASSWD: usize = 1 << 20;

/// A snapshot of the names.
#[derive(Clone, Debug, Default)]
pub struct Users {
    names: HashMap<u32, String>,
}

impl Users {
    /// The users of this machine; none where the file cannot be read.
    pub fn read() -> Users {
        let passwd = files::read_bounded(Path::new("/etc/passwd"), MAX_PASSWD).unwrap_or_default();
        Users::parse(&String::from_utf8_lossy(&passwd))
    }

    /// passwd(5): `name:password:uid:gid:…`. The first name of a number counts, as for getpwuid(3).
    fn parse(passwd: &str) -> Users {
        let mut names = HashMap::new();
        for line in passwd.lines() {
            let mut fields = line.split(':');
            let (name, uid) = (fields.next().unwrap_or(""), fields.nth(1).and_then(|uid| uid.parse().ok()));
            if let (false, Some(uid)) = (name.is_empty(), uid) {
                names.entry(uid).or_insert_with(|| name.to_owned());
            }
        }
        Users { names }
    }

    /// The name of a user number.
    pub fn name(&self, uid: u32) -> Option<&str> {
        self.names.get(&uid).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_name_of_a_number_counts() {
        let users =
            Users::parse("root:x:0:0::/root:/bin/sh\ntoor:x:0:0::/root:/bin/sh\n\nbroken:x\n:x:5:5\nann:x:1000:1000::/:/\nbad:x:no:1\n");
        assert_eq!(users.name(0), Some("root"));
        assert_eq!(users.name(1000), Some("ann"));
        assert_eq!((users.name(5), users.name(7)), (None, None));
        assert_eq!(Users::read().name(0), Some("root"));
    }
}
