//! The house rules that a machine can check: ranks, purity, `unsafe`, sizes of files, one import a line.
//!
//! Reads `src/` as text. The rank table here is the one of `src/README.md`; a new folder without a rank fails.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use std::fs;
use std::path::Path;
use std::path::PathBuf;

/// Folder (or file directly under src) and its rank.
const RANKS: &[(&str, u8)] = &[
    ("mail", 0),
    ("metrics", 0),
    ("proto", 1),
    ("trust", 2),
    ("config", 2),
    ("store", 3),
    ("net", 3),
    ("host", 3),
    ("intake", 4),
    ("reach", 4),
    ("admin", 4),
    ("inbound", 5),
    ("outbound", 5),
    ("appliance", 5),
    ("web", 6),
    ("cli", 6),
    ("control", 6),
    ("world", 6),
    ("app", 7),
    ("main", 8),
    ("lib", 8),
];

/// Words that pure ranks may not contain.
const IMPURE: &[&str] =
    &["async_io", "smol", "heed", "std::fs", "std::thread", "SystemTime::now", "Instant::now", "std::net::Tcp", "std::env", "rustix"];

/// The only files that may contain `unsafe`.
const UNSAFE_FILES: &[&str] = &["store/env.rs", "host/sandbox.rs", "host/privileges.rs", "host/memory.rs"];

const MAX_LINES: usize = 600;

struct Source {
    /// below src/, with slashes
    name: String,
    /// without comments
    code: String,
    lines: usize,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    assert!(files.len() > 20, "only {} files found below src/", files.len());
    files
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            let name = path.strip_prefix(&root).unwrap().to_str().unwrap().replace('\\', "/");
            let code = text.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n");
            Source { name, code, lines: text.lines().count() }
        })
        .collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}

fn noun(name: &str) -> &str {
    name.split('/').next().unwrap().trim_end_matches(".rs")
}

fn rank(noun: &str) -> Option<u8> {
    RANKS.iter().find(|(known, _)| *known == noun).map(|(_, rank)| *rank)
}

/// What stands in front of the unit tests of a file.
fn without_tests(code: &str) -> &str {
    code.split("#[cfg(test)]").next().unwrap().split("#[cfg(all(test").next().unwrap()
}

#[test]
fn imports_point_downwards() {
    for source in sources() {
        let own = noun(&source.name);
        let own_rank =
            rank(own).unwrap_or_else(|| panic!("src/{} has no rank: add it to the table here and in src/README.md", source.name));
        for (at, line) in source.code.lines().enumerate() {
            for (position, _) in line.match_indices("crate::") {
                let other: String = line[position + 7..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                if other == own || own_rank == 8 {
                    continue;
                }
                let other_rank = rank(&other).unwrap_or_else(|| panic!("{}:{}: crate::{other} has no rank", source.name, at + 1));
                assert!(other_rank < own_rank, "src/{}:{}: rank {own_rank} imports {other} of rank {other_rank}", source.name, at + 1);
            }
        }
    }
}

#[test]
fn an_import_is_one_plain_line() {
    for source in sources() {
        for (at, line) in source.code.lines().enumerate() {
            let import = line.trim_start().starts_with("use crate::") || line.trim_start().starts_with("pub use crate::");
            assert!(
                !import || (!line.contains("crate::{") && line.trim_end().ends_with([';', '{', ','])),
                "src/{}:{}: {line}",
                source.name,
                at + 1
            );
        }
    }
}

#[test]
fn pure_ranks_are_pure() {
    for source in sources() {
        if rank(noun(&source.name)).is_some_and(|r| r <= 2) {
            for word in IMPURE {
                assert!(!without_tests(&source.code).contains(word), "src/{}: pure rank says {word}", source.name);
            }
        }
    }
}

#[test]
fn each_outside_thing_has_one_folder() {
    for source in sources() {
        let owner = [("heed::", "store"), ("async_io::", "net"), ("futures_rustls::", "net")];
        for (word, folder) in owner {
            // app and main enter the executor with async_io::block_on.
            let allowed = noun(&source.name) == folder || (word == "async_io::" && ["app", "main"].contains(&noun(&source.name)));
            assert!(allowed || !without_tests(&source.code).contains(word), "src/{}: {word} belongs into {folder}/", source.name);
        }
        for word in ["smol::spawn", "smol::unblock", "smol::fs", "ToSocketAddrs", "to_socket_addrs", "tokio"] {
            assert!(!source.code.contains(word), "src/{}: {word}", source.name);
        }
    }
}

#[test]
fn unsafe_only_where_the_architecture_names_it() {
    for source in sources() {
        let has = source.code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe");
        assert!(!has || UNSAFE_FILES.contains(&source.name.as_str()), "src/{} is not one of {UNSAFE_FILES:?}", source.name);
    }
}

#[test]
fn files_are_short_and_begin_with_a_head() {
    for source in sources() {
        let lines = source.lines;
        assert!(lines <= MAX_LINES || source.name.ends_with("/tests.rs"), "src/{} has {lines} lines, more than {MAX_LINES}", source.name);
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(&source.name);
        let text = fs::read_to_string(path).unwrap();
        assert!(text.starts_with("//!"), "src/{} has no //! head", source.name);
    }
}

#[test]
fn unwrap_only_in_tests() {
    for source in sources() {
        // `testing.rs` holds what unit tests of its folder share; it is compiled for them only.
        if !source.name.ends_with("tests.rs") && !source.name.ends_with("/testing.rs") {
            assert!(!without_tests(&source.code).contains(".unwrap()"), "src/{} has unwrap outside tests", source.name);
        }
    }
}
