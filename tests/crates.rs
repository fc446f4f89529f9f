//! The crate budget of the architecture: what the release build is made of.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use std::collections::BTreeSet;
use std::process::Command;

/// `cargo tree -e normal`, our own crate included.
const MAX_CRATES: usize = 125;

#[test]
fn the_crate_budget_holds() {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--locked", "-e", "normal", "--prefix", "none", "--format", "{p}"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let crates: BTreeSet<&str> = text.lines().map(|line| line.split(" (").next().unwrap().trim()).filter(|line| !line.is_empty()).collect();
    println!("{} crates", crates.len());
    assert!(crates.len() > 30 && crates.len() <= MAX_CRATES, "{} crates, at most {MAX_CRATES}", crates.len());
    for unwanted in ["tokio ", "openssl-sys ", "aws-lc-sys ", "hickory"] {
        assert!(!crates.iter().any(|name| name.starts_with(unwanted)), "{unwanted} is in the tree");
    }
}
