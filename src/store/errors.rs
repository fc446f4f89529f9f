//! What can go wrong in the store, as sentences.
//!
//! `Error` is for work on an open store, `OpenError` for opening one. Whoever turns an error into an answer
//! (452 4.3.1, 451 4.3.0) logs it; nothing is logged here.

use std::fmt;
use std::io;
use std::path::Path;
use std::path::PathBuf;

/// Why a read or a write did not happen. After any of them nothing of the job is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// no room in the file system or in the map: 452 4.3.1, and the owner must hear of it
    DiskFull,
    /// the batch could not be written or synced: 451 4.3.0
    NotCommitted(String),
    /// a row is not what it should be: `pipit store check` tells more
    Damaged(String),
    /// the job panicked; its rows were taken back
    Panicked,
    Lmdb(String),
    /// the store is closing
    Closed,
    /// the job itself asked for its rows to be taken back
    Withdrawn(String),
}

impl Error {
    /// Whether the same work may succeed later without anybody mending the store.
    pub fn is_temporary(&self) -> bool {
        match self {
            Error::DiskFull | Error::NotCommitted(_) | Error::Closed => true,
            Error::Damaged(_) | Error::Panicked | Error::Lmdb(_) | Error::Withdrawn(_) => false,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::DiskFull => f.write_str("the disk is full; nothing was stored"),
            Error::NotCommitted(why) => write!(f, "the change could not be written to the disk, nothing was stored: {why}"),
            Error::Damaged(what) => write!(f, "the store is damaged: {what}"),
            Error::Panicked => f.write_str("the change failed by a fault in this program; nothing was stored"),
            Error::Lmdb(why) => write!(f, "the database refused: {why}"),
            Error::Closed => f.write_str("the store is closed"),
            Error::Withdrawn(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Error {}

/// Without the disk's numbers, which only a commit needs (`Core::judge`).
impl From<heed::Error> for Error {
    fn from(error: heed::Error) -> Error {
        match &error {
            heed::Error::Mdb(heed::MdbError::MapFull) => Error::DiskFull,
            heed::Error::Io(io) if is_full(io) => Error::DiskFull,
            heed::Error::Mdb(heed::MdbError::Corrupted | heed::MdbError::PageNotFound) => Error::Damaged(error.to_string()),
            _ => Error::Lmdb(error.to_string()),
        }
    }
}

pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}

/// Why a directory could not be opened as a store. Nothing in it was changed.
#[derive(Debug)]
pub enum OpenError {
    /// another process owns the directory
    Locked {
        /// the process number it wrote into the lock file
        holder: Option<u32>,
    },
    /// written by a later version of this program
    Newer {
        found: u32,
        known: u32,
    },
    Damaged(String),
    Io(PathBuf, io::Error),
    Lmdb(String),
}

impl OpenError {
    pub(super) fn io(path: &Path, error: impl Into<io::Error>) -> OpenError {
        OpenError::Io(path.to_owned(), error.into())
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Locked { holder: Some(pid) } => write!(f, "the directory is in use by process {pid}"),
            OpenError::Locked { holder: None } => f.write_str("the directory is in use by another process"),
            OpenError::Newer { found, known } => {
                write!(
                    f,
                    "the store was written by a later version of this program (it has version {found}, this program knows {known}); nothing was changed"
                )
            }
            OpenError::Damaged(what) => write!(f, "the store is damaged: {what}"),
            OpenError::Io(path, error) => write!(f, "{}: {error}", path.display()),
            OpenError::Lmdb(why) => write!(f, "the database cannot be opened: {why}"),
        }
    }
}

impl std::error::Error for OpenError {}

impl From<heed::Error> for OpenError {
    fn from(error: heed::Error) -> OpenError {
        use heed::MdbError::{Corrupted, Invalid, PageNotFound, VersionMismatch};
        match &error {
            heed::Error::Mdb(Corrupted | Invalid | PageNotFound | VersionMismatch) => OpenError::Damaged(error.to_string()),
            _ => OpenError::Lmdb(error.to_string()),
        }
    }
}

impl From<Error> for OpenError {
    fn from(error: Error) -> OpenError {
        match error {
            Error::Damaged(what) => OpenError::Damaged(what),
            other => OpenError::Lmdb(other.to_string()),
        }
    }
}
