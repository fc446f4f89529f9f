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
    let missing = fs::symlink_metadata(&file).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
    if missing {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(failed)?;
        write_file(&file, &configuration(&dir))?;
    }
    let served = place::find(&Globals { config: Some(file), dir: None, json: false }).and_then(|mut place| {
        runtime::note(&dir).map_err(failed)?;
        tell(&dir);
        // To take the note and a temporary directory back at the end.
        place.more_writable.push(runtime::folder());
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
    if runtime::is_owned(dir) {
        return Err(Failure::new(format!("a server is running in {}; nothing was removed", dir.display()), "end it first"));
    }
    let failed = |error: io::Error| Failure::new(format!("{}: {error}", dir.display()), "remove it by hand");
    for entry in fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        // `lock` stays: a file of that name with another inode would let two servers own the directory.
        if path.file_name().is_some_and(|name| name == "lock") {
            continue;
        }
        if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) }.map_err(failed)?;
    }
    Ok(())
}

fn configuration(dir: &Path) -> String {
    let users: String =
        ACCOUNTS.iter().map(|address| format!("\n[[first-user]]\naddress = \"{address}\"\npassword = \"{PASSWORD}\"\n")).collect();
    let dir = PathBuf::from(dir).display().to_string().replace('\\', "\\\\").replace('"', "\\\"");
    format!(
        "# pipit localserve: a demonstration on loopback\nhostname = \"mx.home.test\"\ndir = \"{dir}\"\n\n[listen]\nsmtp = [\"127.0.0.1:1025\"]\nsubmission = [\"127.0.0.1:1587\"]\nsubmissions = [\"127.0.0.1:1465\"]\n\n[[domain]]\nname = \"home.test\"\n{users}"
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
