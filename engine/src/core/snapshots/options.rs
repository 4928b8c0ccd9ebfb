//! When snapshots are taken, how many are kept, how fast they travel.

use std::time::Duration;

/// How the rings of a core save their state.
#[derive(Clone, Debug)]
pub struct SnapshotOptions {
    /// A ring is saved again when it has written so many bytes to the journal since the last time.
    pub log_bytes: u64,
    /// A ring that has executed anything is saved again after so long, if ever.
    pub interval: Option<Duration>,
    /// Snapshots of each ring that are kept, at least 1. The journal reaches back to the oldest of them, so
    /// that a damaged one can be replaced by the one before; unless space is short.
    pub kept: usize,
    /// Bytes that a state machine is asked for at a time: what one turn of the core writes or reads.
    pub slice_bytes: usize,
    /// Bytes per second that a core fetches of snapshots from its peers.
    pub fetch_bytes_per_second: u64,
}

impl Default for SnapshotOptions {
    fn default() -> SnapshotOptions {
        SnapshotOptions {
            log_bytes: 256 << 20,
            interval: None,
            kept: 2,
            slice_bytes: 64 << 10,
            fetch_bytes_per_second: 64 << 20,
        }
    }
}
