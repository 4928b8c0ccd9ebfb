//! How the rings of a plan save their state, and what befalls their snapshots.

use std::time::Duration;

use annulus::core::SnapshotOptions;

use crate::chaos::Random;

/// What the journals of nodes may take where space is no matter.
const ROOMY_BYTES: u64 = 1 << 30;

/// How often rings are saved, in how much space, and what goes wrong with that.
#[derive(Clone, Debug)]
pub struct SavingPlan {
    /// A ring is saved again when it has written so many bytes; without, it never is.
    pub log_bytes: Option<u64>,
    /// It is saved again after so long, if ever.
    pub interval: Option<Duration>,
    /// Snapshots of each ring that are kept.
    pub kept: usize,
    /// Bytes of a slice.
    pub slice_bytes: usize,
    /// Bytes per second that are fetched of a peer's snapshot.
    pub fetch_bytes_per_second: u64,
    /// Records that each snapshot has beside the state, so that it comes in many slices, blocks and pieces.
    pub ballast_records: u64,
    /// What all segments of a journal may take.
    pub journal_bytes_max: u64,
}

impl SavingPlan {
    pub(super) fn draw(random: &mut Random) -> SavingPlan {
        let is_saved = random.permille(750);
        let log_bytes = random.pick(&[2 << 10, 8 << 10, 64 << 10]);
        let ballast_records = random.pick(&[0, 0, log_bytes / 400, log_bytes / 150]);
        let interval = random.pick(&[None, None, Some(300), Some(2000)]).map(Duration::from_millis);
        let journal_bytes_max = random.pick(&[ROOMY_BYTES, ROOMY_BYTES, 1500 << 10, 2400 << 10]);
        SavingPlan {
            log_bytes: is_saved.then_some(log_bytes),
            interval: interval.filter(|_| is_saved),
            kept: random.pick(&[1, 2, 2, 3]),
            slice_bytes: 4096,
            fetch_bytes_per_second: random.pick(&[256 << 10, 4 << 20, 64 << 20]),
            ballast_records: if is_saved { ballast_records } else { 0 },
            journal_bytes_max: if is_saved { journal_bytes_max } else { ROOMY_BYTES },
        }
    }

    /// Bytes of a journal that are read again per second: nobody looks for damage where nothing is saved.
    pub(super) fn scrub_bytes_per_second(&self) -> u64 {
        if self.log_bytes.is_some() { 256 << 10 } else { 0 }
    }

    pub(super) fn options(&self) -> SnapshotOptions {
        SnapshotOptions {
            log_bytes: self.log_bytes.unwrap_or(u64::MAX),
            interval: self.interval,
            kept: self.kept,
            slice_bytes: self.slice_bytes,
            fetch_bytes_per_second: self.fetch_bytes_per_second,
        }
    }
}
