//! Segments that are removed: only those that a durable block says nobody needs, and not for good before the
//! directory is durable.

use annulus_storage::SegmentId;

use super::Device;
use crate::world::Violation;

impl Device {
    /// A recovery that misses a segment must find a block that says it may be gone (T6).
    pub(super) fn judge_removal(&self, segment: SegmentId) {
        let head = self.history.last().map_or(SegmentId::FIRST, |last| last.head);
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
