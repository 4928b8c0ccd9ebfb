//! How a journal behaves.

use std::fmt;

use annulus_rings::frame::FRAME_BYTES_MAX;

use crate::block::{BLOCK_ALIGN_BYTES, block_bytes_for};
use crate::error::OpenError;

/// How a group write becomes durable.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum SyncMode {
    /// `O_DIRECT` with `RWF_DSYNC` on each write: one operation, the least CPU.
    #[default]
    Dsync,
    /// A write, and after its completion an `fdatasync`. `O_DIRECT` where the file system has it, else
    /// through the page cache: the mode that works everywhere.
    Fdatasync,
    /// Files opened with `O_DIRECT` and `O_DSYNC`.
    ODsync,
}

impl fmt::Display for SyncMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SyncMode::Dsync => "dsync",
            SyncMode::Fdatasync => "fdatasync",
            SyncMode::ODsync => "odsync",
        })
    }
}

/// Bounds and sizes of a journal; fixed while it is open. They may differ at the next opening, but
/// `write_bytes_max` and `frame_bytes_max` must still cover what the journal holds.
#[derive(Clone, Debug)]
pub struct JournalOptions {
    /// Size of a new segment. A multiple of 4096.
    pub segment_bytes: u64,
    /// Segments kept ready beyond the one in use; at least 2, because a segment is written to only when
    /// the next one exists: so a last segment with blocks in it shows that a file was lost.
    pub segments_ahead: usize,
    /// Bytes of all segments, those ready for use included. Where they are used up, new work has no
    /// [room](crate::Journal::has_room) until something is [truncated](crate::Journal::truncate); the last segment
    /// of them is kept for the records of that. A device in memory has a bound of its own.
    pub bytes_max: u64,
    /// Group writes in flight, 1 to 8. What arrives meanwhile joins the next group.
    pub writes_in_flight_max: usize,
    /// The largest group write, unless one frame alone is larger. A multiple of 4096.
    pub write_bytes_max: usize,
    /// Bytes of frames that are not durable yet: [`has_room`](crate::Journal::has_room) keeps to it.
    pub backlog_bytes_max: usize,
    /// The largest frame that is appended.
    pub frame_bytes_max: usize,
    /// How a write becomes durable.
    pub sync: SyncMode,
}

impl Default for JournalOptions {
    fn default() -> JournalOptions {
        JournalOptions {
            segment_bytes: 64 << 20,
            segments_ahead: 2,
            bytes_max: 8 << 30,
            writes_in_flight_max: 2,
            write_bytes_max: 256 << 10,
            backlog_bytes_max: 16 << 20,
            frame_bytes_max: FRAME_BYTES_MAX,
            sync: SyncMode::default(),
        }
    }
}

impl JournalOptions {
    /// The largest block that these options can write.
    pub fn block_bytes_max(&self) -> usize {
        self.write_bytes_max.max(block_bytes_for(self.frame_bytes_max))
    }

    /// Refuses options that contradict each other.
    pub(crate) fn check(&self) -> Result<(), OpenError> {
        let refuse = |why: String| Err(OpenError::Options(why));
        let aligned = |bytes: u64| bytes.is_multiple_of(BLOCK_ALIGN_BYTES as u64);
        if !aligned(self.segment_bytes) || !aligned(self.write_bytes_max as u64) || self.write_bytes_max == 0
        {
            return refuse("segment_bytes and write_bytes_max must be multiples of 4096".into());
        }
        if self.segment_bytes > u64::from(u32::MAX) {
            return refuse("segment_bytes must be below 4 GiB".into());
        }
        let segment_bytes_min = (BLOCK_ALIGN_BYTES + self.block_bytes_max()) as u64;
        if self.segment_bytes < segment_bytes_min {
            return refuse(format!(
                "segment_bytes must be at least {segment_bytes_min}, to hold the largest block"
            ));
        }
        // In use, ahead, one that can be freed, and one for the records of that.
        let bytes_max_min = (self.segments_ahead as u64 + 3) * self.segment_bytes;
        if self.bytes_max < bytes_max_min {
            return refuse(format!(
                "bytes_max must be at least {bytes_max_min}: segments_ahead + 3 segments"
            ));
        }
        if self.segments_ahead < 2 || !(1..=8).contains(&self.writes_in_flight_max) {
            return refuse("segments_ahead must be at least 2 and writes_in_flight_max 1 to 8".into());
        }
        if self.frame_bytes_max > FRAME_BYTES_MAX || self.backlog_bytes_max < self.frame_bytes_max {
            return refuse(format!(
                "frame_bytes_max must be at most {FRAME_BYTES_MAX} and backlog_bytes_max at least that"
            ));
        }
        Ok(())
    }
}
