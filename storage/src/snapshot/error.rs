//! What can be wrong with a snapshot.

use std::io;

/// Why a snapshot is not written, not read, or not taken from a peer. The ring goes on without it.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The vault failed.
    #[error("{action}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The vault's answer.
        source: io::Error,
    },
    /// Some bytes are not what was written.
    #[error("damaged at offset {offset}: {why}")]
    Damaged {
        /// Where the damaged header, block or trailer starts. Everything before it was verified.
        offset: u64,
        /// What does not match.
        why: &'static str,
    },
    /// The file ends before its trailer.
    #[error("cut off at offset {offset}")]
    CutOff {
        /// Everything before it was verified.
        offset: u64,
    },
    /// It is whole and somebody else's.
    #[error("foreign: {why}")]
    Foreign {
        /// What does not match.
        why: &'static str,
    },
    /// A format of another version.
    #[error("format version {found}, this build reads version {expected}: use the matching build")]
    Version {
        /// Its version.
        found: u16,
        /// This build's version.
        expected: u16,
    },
    /// A record larger than [`RECORD_BYTES_MAX`](crate::RECORD_BYTES_MAX).
    #[error("a record of {bytes} bytes: at most {} are possible", crate::RECORD_BYTES_MAX)]
    RecordTooLarge {
        /// Its size.
        bytes: usize,
    },
    /// What was read back is whole, and not what was written.
    #[error("what was read back is another snapshot than the one written")]
    NotWhatWasWritten,
    /// It was given up.
    #[error("given up")]
    Abandoned,
}

impl SnapshotError {
    /// An answer of the vault, with what was tried.
    pub(crate) fn io(action: &'static str) -> impl FnOnce(io::Error) -> SnapshotError {
        move |source| SnapshotError::Io { action, source }
    }
}
