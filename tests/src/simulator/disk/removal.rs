//! Segments that are removed: only those that a durable block says nobody needs, and not for good before the
//! directory is durable.

use annulus_storage::SegmentId;

use super::block::Held;
use super::{Device, Operation, Work};
use crate::simulator::medium::Medium;
use crate::world::Violation;

impl Device {
    /// The oldest segment that is needed, as the last durable block says.
    pub(super) fn head(&self) -> SegmentId {
        self.history.last().map_or(SegmentId::FIRST, |last| last.head)
    }

    /// The durable blocks that a recovery reads.
    pub(super) fn needed(&self) -> impl Iterator<Item = &Held> {
        let head = self.head();
        self.history.iter().filter(move |held| held.at.segment >= head)
    }

    /// No recovery reads again what lies below the head, whether it is removed or not.
    pub(super) fn frees_what_is_below(&self) {
        let first = self.needed().next();
        if let Some(held) = first {
            self.scene.borrow_mut().freed(self.node, held.first);
        }
    }

    /// All segments stay inside of their bound, one of `bytes` more included (G12).
    pub(super) fn judge_bound(&self, bytes: u64) {
        let asked: u64 = self.in_flight.iter().map(Operation::segment_bytes).sum();
        let held: u64 = self.media.values().map(Medium::bytes).sum();
        let bytes = bytes + asked + held;
        if bytes > self.bytes_max {
            let what =
                format!("the journal of {:?} takes {bytes} bytes, at most {}", self.node, self.bytes_max);
            self.scene.borrow_mut().judge(Err(Violation { rule: "G12", what }));
        }
    }

    /// A recovery that misses a segment must find a block that says it may be gone (T6).
    pub(super) fn judge_removal(&mut self, segment: SegmentId) {
        if self.is_starting {
            return self.removed_at_start.push(segment);
        }
        let head = self.head();
        if segment >= head {
            let node = self.node;
            let what =
                format!("{node:?} removes {segment:?}, and durable blocks say that {head:?} is needed");
            self.scene.borrow_mut().judge(Err(Violation { rule: "T6", what }));
        }
    }

    /// It is gone, and what was unlinked before too: one directory holds them all.
    pub(super) fn remove(&mut self, segment: SegmentId) {
        self.unlink(segment);
        self.unlinked.clear();
    }

    /// It is gone unless the power fails.
    pub(super) fn unlink(&mut self, segment: SegmentId) {
        self.history.retain(|held| held.at.segment != segment);
        if let Some(medium) = self.media.remove(&segment) {
            self.unlinked.insert(segment, medium);
        }
    }

    /// The power fails: some of what was not gone for good is there again.
    pub(super) fn bring_back(&mut self) {
        for (segment, medium) in std::mem::take(&mut self.unlinked) {
            if self.streams.tears.permille(500) {
                self.media.insert(segment, medium);
            }
        }
    }
}

impl Operation {
    /// What it adds to the disk.
    fn segment_bytes(&self) -> u64 {
        if let Work::Prepare(header) = &self.work { header.bytes } else { 0 }
    }
}
