//! How far a recovery is, told while it lasts.

use std::time::{Duration, Instant};

/// Between two words of it.
const INTERVAL: Duration = Duration::from_secs(1);
/// Between two looks at the clock.
const LOOK_BYTES: u64 = 16 << 20;

/// The progress of reading a journal back. What ends within a second says nothing.
pub(crate) struct Progress {
    begun: Instant,
    told: Instant,
    bytes: u64,
    bytes_max: u64,
    next_look: u64,
}

impl Progress {
    /// Of a journal whose segments have `bytes_max` bytes; those ready for use are never read.
    pub(crate) fn of(bytes_max: u64) -> Progress {
        let now = Instant::now();
        Progress { begun: now, told: now, bytes: 0, bytes_max, next_look: LOOK_BYTES }
    }

    /// So many more bytes were read.
    pub(crate) fn advance(&mut self, bytes: u64) {
        self.bytes += bytes;
        if self.bytes < self.next_look {
            return;
        }
        self.next_look = self.bytes + LOOK_BYTES;
        if self.told.elapsed() >= INTERVAL {
            self.told = Instant::now();
            tracing::info!(bytes = self.bytes, bytes_max = self.bytes_max, "the journal is being read back");
        }
    }

    /// All was read.
    pub(crate) fn end(&self) {
        let elapsed = self.begun.elapsed();
        if elapsed >= INTERVAL {
            let elapsed_ms = elapsed.as_millis() as u64;
            tracing::info!(bytes = self.bytes, elapsed_ms, "the journal was read back");
        }
    }
}
