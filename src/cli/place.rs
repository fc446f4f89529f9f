//! Which server or directory a command is about: the configuration file, its settings, and the data directory.

use std::path::Path;
use std::path::PathBuf;

use crate::admin::Failure;
use crate::admin::runtime;
use crate::admin::settings;
use crate::admin::settings::Stamp;
use crate::admin::settings::read_file;
use crate::admin::settings::sentences;
use crate::cli::args::Globals;
use crate::cli::find;
use crate::cli::find::Found;
use crate::config::check;
use crate::config::settings::Settings;

/// The live file's name within the data directory.
pub const FILE: &str = "pipit.toml";

/// A configuration file that was found and read.
pub struct Place {
    pub file: PathBuf,
    pub dir: PathBuf,
    /// the faults, if it has some: a running server can be asked all the same
    pub settings: Result<Settings, Failure>,
    /// of the file that was read
    pub stamp: Option<Stamp>,
    /// beside `dir` and the file's folder, what a server may write to
    pub more_writable: Vec<PathBuf>,
}

/// The configuration file that the rules of `cli.md` choose; says on stderr when it is localserve's.
pub fn file(globals: &Globals) -> Result<PathBuf, Failure> {
    match find::configuration(globals, Path::exists) {
        Found::File(file) => Ok(file),
        Found::RunningLocalserve => {
            let Some(dir) = runtime::running() else {
                return Err(Failure::new(
                    "there is no configuration: neither /etc/pipit/pipit.toml nor /boot/pipit.toml exists, and no localserve is running",
                    "name one with --config FILE or --dir DIR, or try `pipit localserve`",
                ));
            };
            eprintln!("pipit: using the running localserve in {}", dir.display());
            Ok(dir.join(FILE))
        }
    }
}

/// Reads and checks the configuration.
pub fn find(globals: &Globals) -> Result<Place, Failure> {
    let file = file(globals)?;
    // The real file, whatever links lead to it: it is replaced within its folder.
    let file = std::fs::canonicalize(&file).or_else(|_| std::path::absolute(&file)).unwrap_or(file);
    let stamp = settings::stamp(&file);
    let bytes = read_file(&file)?;
    let settings = settings::check_all(&bytes).map_err(|faults| {
        let hint = format!("mend the lines above in {}, then `pipit config check`", file.display());
        Failure::new(sentences(&faults), hint)
    });
    let written = || check::dir(&String::from_utf8_lossy(&bytes)).or_else(|| file.parent().map(Path::to_path_buf));
    let dir = match (&globals.dir, &settings) {
        (Some(dir), _) => dir.clone(),
        (None, Ok(settings)) => settings.dir.clone(),
        (None, Err(_)) => written().unwrap_or_default(),
    };
    Ok(Place { file, dir, settings, stamp, more_writable: Vec::new() })
}
