//! Snapshots as a state machine sees them: slices that it writes, pieces that it takes back.
//!
//! Both are sequences of **records**, whose bytes mean something to the state machine alone. A writer and a
//! reader lay them one after the other into plain memory:
//!
//! ```text
//!  0  length  u32   of the record's bytes, little-endian
//!  4  bytes         what the state machine wrote
//!     …             the next record
//! ```
//!
//! What becomes of that memory (files, checksums, the way to other nodes) is not seen here.

mod map;
#[cfg(test)]
mod map_tests;
mod reader;
mod writer;
mod writing;

pub use map::SnapshotMap;
pub use reader::SnapshotReader;
pub(crate) use writer::SliceFailure;
pub use writer::SnapshotWriter;

/// Bytes of the longest record: 16 MiB. Whoever reads a snapshot back holds a whole record in memory.
pub const RECORD_BYTES_MAX: usize = 16 << 20;

/// Bytes in front of every record: how long it is.
const LENGTH_BYTES: usize = size_of::<u32>();

/// How far a state machine came with its snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SnapshotStep {
    /// It writes no snapshots: its ring's journal is never cut short.
    Unsupported,
    /// There is more: call again.
    More,
    /// Everything is written, the records of this slice included.
    Done,
}

/// Why a state machine has not taken a snapshot back.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RestoreFailure {
    /// It takes none, and was not changed.
    #[error("this state machine takes no snapshots: implement StateMachine::restore")]
    Unsupported,
    /// The records do not lie whole in their piece.
    #[error("a record at byte {offset} does not end inside its piece of {bytes} bytes")]
    Malformed {
        /// Where the record begins.
        offset: usize,
        /// Bytes of the whole piece.
        bytes: usize,
    },
    /// A record that means nothing to the state machine.
    #[error("a record cannot be understood: {0}")]
    Unreadable(String),
}

impl RestoreFailure {
    /// A record that means nothing, and why.
    pub fn unreadable(why: impl Into<String>) -> RestoreFailure {
        RestoreFailure::Unreadable(why.into())
    }
}
