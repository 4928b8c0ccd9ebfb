//! Why a snapshot was not copied.

use std::io;
use std::path::{Path, PathBuf};

use annulus_storage::{OpenError, SnapshotError};

use crate::directory::DirectoryError;

/// Why a snapshot was not copied.
#[derive(Debug)]
pub enum TransferError {
    /// The directory cannot be used.
    Directory(DirectoryError),
    /// The data directory cannot be locked or opened.
    Open(OpenError),
    /// A snapshot is damaged or foreign.
    Snapshot(PathBuf, SnapshotError),
    /// The operating system refused something.
    Io(PathBuf, &'static str, io::Error),
    /// It makes no sense, and here is why.
    Refused(String),
}

impl TransferError {
    /// An answer of the operating system, with what was tried where.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> TransferError {
        let path = path.to_owned();
        move |error| TransferError::Io(path, action, error)
    }

    /// Whether a snapshot is damaged, rather than the command wrong.
    pub fn is_damage(&self) -> bool {
        use SnapshotError::{CutOff, Damaged, NotWhatWasWritten};
        matches!(self, TransferError::Snapshot(_, Damaged { .. } | CutOff { .. } | NotWhatWasWritten))
    }
}

impl From<DirectoryError> for TransferError {
    fn from(error: DirectoryError) -> TransferError {
        TransferError::Directory(error)
    }
}

impl std::fmt::Display for TransferError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            TransferError::Directory(error) => error.fmt(f),
            TransferError::Open(error) => error.fmt(f),
            TransferError::Snapshot(path, error) => write!(f, "{}: {error}", path.display()),
            TransferError::Io(path, action, error) => write!(f, "{}: {action}: {error}", path.display()),
            TransferError::Refused(why) => f.write_str(why),
        }
    }
}
