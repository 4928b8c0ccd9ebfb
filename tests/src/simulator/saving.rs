//! How the rings of a plan save their state, and what befalls their snapshots.

use std::time::Duration;

use annulus::core::SnapshotOptions;

use super::plan::{ms, rare, some};
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
    /// The longest that an operation of a vault takes.
    pub latency_max: Duration,
    /// What befalls vaults, and rings on the way to snapshots.
    pub accidents: SavingAccidents,
}

/// What befalls vaults. Intervals are means; zero means never.
#[derive(Clone, Debug, Default)]
pub struct SavingAccidents {
    /// Operations that change something and fail, of 10,000.
    pub write_error_permyriad: u64,
    /// Reads that fail, of 10,000.
    pub read_error_permyriad: u64,
    /// Writes for which there is no space, of 1000.
    pub full_permille: u64,
    /// Between times when bits of a snapshot rot.
    pub rot_interval: Duration,
    /// Between times when somebody asks for a snapshot.
    pub request_interval: Duration,
    /// Between times when somebody holds snapshots off.
    pub hold_interval: Duration,
}

impl SavingPlan {
    pub(super) fn draw(random: &mut Random) -> SavingPlan {
        let is_saved = random.permille(750);
        let accidents = SavingAccidents::draw(random);
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
            latency_max: ms(random.pick(&[0, 5, 50, 300])),
            accidents: if is_saved { accidents } else { SavingAccidents::default() },
        }
    }

    /// Bytes of a journal that are read again per second: nobody looks for damage where nothing is saved.
    pub(super) fn scrub_bytes_per_second(&self) -> u64 {
        if self.log_bytes.is_some() { 256 << 10 } else { 0 }
    }

    /// Everything that comes at intervals.
    pub(super) fn intervals(&mut self) -> impl Iterator<Item = &mut Duration> {
        let SavingAccidents { rot_interval, request_interval, hold_interval, .. } = &mut self.accidents;
        self.interval.iter_mut().chain([rot_interval, request_interval, hold_interval])
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

impl SavingAccidents {
    fn draw(random: &mut Random) -> SavingAccidents {
        SavingAccidents {
            write_error_permyriad: some(random, &[20, 300]),
            read_error_permyriad: some(random, &[20, 300]),
            full_permille: some(random, &[20, 300]),
            rot_interval: ms(rare(random, &[1000, 5000])),
            request_interval: ms(some(random, &[300, 2000])),
            hold_interval: ms(some(random, &[2000, 10_000])),
        }
    }
}
