//! Which configuration a command is about: a pure decision, the caller says which paths exist.
//!
//! Never the current directory: a command must mean the same wherever it is typed, and a file that somebody else left
//! there must not become root's configuration.

use std::path::Path;
use std::path::PathBuf;

use crate::cli::args::Globals;

/// Name of the file inside a data directory.
pub const FILE_NAME: &str = "pipit.toml";
/// Where it is looked for when nothing was said: the package's place, then the image's boot partition.
pub const PLACES: [&str; 2] = ["/etc/pipit/pipit.toml", "/boot/pipit.toml"];

/// Where the system's server takes mail from programs of every user, who may read neither its directory nor its configuration.
pub const RUNTIME_FOLDER: &str = "/run/pipit";

/// Whether this is the configuration of the system's server: found without being named.
pub fn is_system_wide(file: &Path) -> bool {
    PLACES.iter().any(|place| file == Path::new(place))
}

/// Where the configuration is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// perhaps without existing, if the user named it
    File(PathBuf),
    /// no file: the running localserve of this user, if there is one; a line on stderr should say so
    RunningLocalserve,
}

/// `--config` counts before `--dir` (which then only moves the data), both before the usual places. A path that the
/// user named is taken even if it does not exist, so that the fault names it.
pub fn configuration(globals: &Globals, exists: impl Fn(&Path) -> bool) -> Found {
    if let Some(config) = &globals.config {
        return Found::File(config.clone());
    }
    if let Some(dir) = &globals.dir {
        return Found::File(dir.join(FILE_NAME));
    }
    let place = PLACES.into_iter().map(Path::new).find(|place| exists(place));
    place.map_or(Found::RunningLocalserve, |place| Found::File(place.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// --config, --dir, what exists, what is taken
    type Row = (Option<&'static str>, Option<&'static str>, &'static [&'static str], Option<&'static str>);

    #[test]
    fn the_first_place_that_fits_is_taken() {
        let rows: [Row; 7] = [
            (Some("/a.toml"), Some("/d"), &["/etc/pipit/pipit.toml"], Some("/a.toml")),
            (Some("a.toml"), None, &[], Some("a.toml")),
            (None, Some("/d"), &["/etc/pipit/pipit.toml"], Some("/d/pipit.toml")),
            (None, None, &["/etc/pipit/pipit.toml", "/boot/pipit.toml"], Some("/etc/pipit/pipit.toml")),
            (None, None, &["/boot/pipit.toml", "pipit.toml"], Some("/boot/pipit.toml")),
            (None, None, &["pipit.toml", "./pipit.toml"], None),
            (None, None, &[], None),
        ];
        for (config, dir, existing, expected) in rows {
            let globals = Globals { config: config.map(PathBuf::from), dir: dir.map(PathBuf::from), json: false };
            let found = configuration(&globals, |path| existing.iter().any(|known| path == Path::new(known)));
            let expected = expected.map_or(Found::RunningLocalserve, |path| Found::File(PathBuf::from(path)));
            assert_eq!(found, expected, "{config:?} {dir:?} {existing:?}");
        }
    }
}
