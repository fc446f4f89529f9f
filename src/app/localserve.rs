//! `pipit localserve`: the product on loopback, without root, network or configuration.
//!
//! Makes a directory with a configuration for `home.test` and two accounts, notes it for commands without `--config`,
//! says what to try, and serves. Without `--dir` the directory is a temporary one that is removed at the end.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::path::PathBuf;

use crate::admin::Failure;
use crate::admin::runtime;
use crate::admin::settings::write_file;
use crate::cli::args::Globals;
use crate::cli::place;
use crate::cli::place::FILE;

const PASSWORD: &str = "localserve";
const ACCOUNTS: [&str; 2] = ["ann@home.test", "admin@home.test"];

/// Serves until Ctrl-C.
pub fn run(globals: &Globals, fresh: Fresh) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::new(format!("localserve cannot start: {error}"), "choose a directory with --dir DIR");
    let (dir, temporary) = match &globals.dir {
        Some(dir) => (std::path::absolute(dir).map_err(failed)?, None),
        None => {
            let dir = runtime::temporary().map_err(failed)?;
            (dir.clone(), Some(dir))
        }
    };
    if fresh == Fresh::Yes {
        forget_data(&dir)?;
    }
    let file = dir.join(FILE);
    if !file.exists() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(failed)?;
        write_file(&file, &configuration(&dir))?;
    }
    let served = place::find(&Globals { config: Some(file), dir: None, json: false }).and_then(|place| {
        runtime::note(&dir).map_err(failed)?;
        tell(&dir);
        super::serve(place)
    });
    runtime::forget(&dir);
    if let Some(dir) = temporary {
        let _ = fs::remove_dir_all(dir);
    }
    served
}

/// Whether data of an earlier run is removed first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fresh {
    Yes,
    No,
}

/// Removes an earlier localserve's data; a directory that is none of ours is left alone.
fn forget_data(dir: &Path) -> Result<(), Failure> {
    let Ok(text) = fs::read_to_string(dir.join(FILE)) else { return Ok(()) };
    if !text.contains("# pipit localserve") {
        return Err(Failure::new(format!("{} is not a localserve directory; nothing was removed", dir.display()), "choose another --dir"));
    }
    fs::remove_dir_all(dir).map_err(|error| Failure::new(format!("{}: {error}", dir.display()), "remove it by hand"))
}

fn configuration(dir: &Path) -> String {
    let users: String =
        ACCOUNTS.iter().map(|address| format!("\n[[first-user]]\naddress = \"{address}\"\npassword = \"{PASSWORD}\"\n")).collect();
    let dir = PathBuf::from(dir).display().to_string().replace('\\', "\\\\").replace('"', "\\\"");
    format!(
        "# pipit localserve: a demonstration on loopback\nhostname = \"mx.home.test\"\ndir = \"{dir}\"\n\n[listen]\nsmtp = [\"127.0.0.1:1025\"]\n\n[[domain]]\nname = \"home.test\"\n{users}"
    )
}

fn tell(dir: &Path) {
    println!("Pipit serves home.test on this machine. Ctrl-C ends it.\n");
    println!("  SMTP      127.0.0.1:1025 (STARTTLS with a self-signed certificate)");
    println!("  accounts  {} (password {PASSWORD})", ACCOUNTS.join(", "));
    println!("  data      {}\n", dir.display());
    println!("Try, in another terminal:\n");
    println!("  swaks --server 127.0.0.1:1025 --from x@friend.test --to ann@home.test");
    println!("  pipit mail list ann@home.test\n");
}
