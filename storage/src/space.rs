//! Space: reserved ahead, bounded, and refused before it is promised twice.
//!
//! New work is taken while it surely fits. Records that are not new work, such as those of a truncation, find room
//! in what is spared: a part of a segment, and the last segment that the bound allows.

use std::io;

use annulus_rings::{Lsn, ensures, mutant, reach, requires};

use crate::disk::{Disk, DiskKind};
use crate::identity::{Position, SegmentId};
use crate::journal::Journal;
use crate::options::JournalOptions;

/// Of a segment, one part of so many is kept for records that are not new work, such as those of a truncation.
const SPARE_RATIO: u64 = 4;

/// Of a segment, one part of so many is left to finish what was begun.
const BEGIN_RATIO: u64 = 16;

impl<D: Disk> Journal<D> {
    /// How often another segment was taken into use.
    pub fn segments_entered(&self) -> u64 {
        self.statistics.segments
    }

    /// The most that all its segments may take: the bound, or all that the device can hold.
    pub fn bytes_max(&self) -> u64 {
        self.options.bytes_max.min(self.disk.capacity_bytes())
    }

    /// Bytes of all its segments: with blocks, freed and not yet removed, ready for use.
    pub fn bytes(&self) -> u64 {
        self.truncation.bytes() + self.place.bytes_ahead(self.options.segment_bytes)
    }

    /// Whether the medium refused more space and is too full to begin anything of `bytes`. Nobody knows for how long:
    /// who asks for it should be refused, not wait.
    ///
    /// That comes a little before [`has_room`](Self::has_room) ends: so whoever begins something stops before those
    /// who only take part in it, and leaves nothing begun that too few can take part in.
    pub fn lacks_space(&self, bytes: usize) -> bool {
        let ahead = (self.options.segment_bytes / BEGIN_RATIO) as usize;
        self.place.is_short() && !self.has_space(self.backlog_bytes() + bytes + ahead)
    }

    /// Whether `bytes` of frames fit the medium, now or when more segments are made, without what is kept for
    /// records that are not new work.
    pub(crate) fn has_space(&self, bytes: usize) -> bool {
        let segment_bytes = self.options.segment_bytes;
        let more = self.space_left().saturating_sub(segment_bytes) / segment_bytes;
        let spare = segment_bytes / SPARE_RATIO;
        self.place.has_reserved(bytes, spare, (more, segment_bytes), self.options.block_bytes_max())
    }

    /// What is left of the bytes that all segments may take.
    fn space_left(&self) -> u64 {
        match self.disk.kind() {
            DiskKind::Memory => u64::MAX, // It keeps to a bound by forgetting.
            _ => self.bytes_max().saturating_sub(self.bytes()),
        }
    }

    /// Where a block of `bytes` goes: behind the last one, or at the start of the next segment.
    pub(crate) fn make_place(&mut self, first_lsn: Lsn, bytes: u64) -> Option<Position> {
        if !self.place.fits(bytes) {
            let advanced = self.place.advance();
            reach!(SEGMENT_SWITCHED, advanced);
            if !advanced {
                self.prepare(self.space_left());
                return None;
            }
            self.truncation.enter(self.place.at().segment, self.place.segment_bytes(), first_lsn);
            self.statistics.segments += 1;
            self.prepare_ahead();
        }
        Some(self.place.at())
    }

    /// Keeps segments ready behind the one in use. While space was short at the last try, one more is wanted:
    /// nothing else would show that there is space again.
    pub(crate) fn prepare_ahead(&mut self) {
        // The last segment that the bound allows is made only where a write waits for it.
        self.prepare(self.space_left().saturating_sub(self.options.segment_bytes));
    }

    /// Asks for a segment, if one is wanted and `space` bytes are enough for it.
    fn prepare(&mut self, space: u64) {
        let JournalOptions { segment_bytes, segments_ahead, .. } = self.options;
        if space < segment_bytes && !mutant!(SPACE_BOUND_IGNORED) {
            reach!(SPACE_BOUND_REACHED);
            return;
        }
        let ahead = segments_ahead + usize::from(self.place.is_short());
        let is_asked = self.place.prepare(&mut self.disk, &self.identity, segment_bytes, ahead);
        ensures!(
            M1,
            !is_asked || self.disk.kind() == DiskKind::Memory || self.bytes() <= self.options.bytes_max
        );
    }

    pub(crate) fn prepared(&mut self, segment: SegmentId, result: io::Result<()>) {
        requires!(T7, self.place.is_preparing(segment));
        match result {
            Ok(()) => {
                if self.place.is_short() {
                    tracing::info!(segment = segment.0, "there is room for journal segments again");
                }
                self.place.prepared(self.options.segment_bytes);
            }
            Err(error) => {
                reach!(SPACE_SHORT);
                // Said once: it is tried again several times a second.
                if !self.place.is_short() {
                    tracing::error!(%error, segment = segment.0, "no room for another journal segment: make room, or commands are rejected soon");
                }
                self.place.failed();
                self.statistics.preparation_failures += 1;
            }
        }
        self.prepare_ahead();
    }
}
