//! The end of a process, and the beginning of the next: what was in flight arrives in part, and what is found counts.

use annulus_storage::Position;

use super::{Device, Work};

impl Device {
    /// Some sectors of a write arrive in the cache.
    pub(super) fn tear(&mut self, at: Position, bytes: &[u8]) {
        let is_torn = self.streams.tears.permille(self.plan.torn_permille);
        let all = self.streams.tears.permille(500);
        let Device { media, streams, .. } = self;
        let medium = media.get_mut(&at.segment).expect("the journal uses segments that were prepared");
        medium.write_torn(at.offset, bytes, || if is_torn { streams.tears.permille(500) } else { all });
    }

    pub(super) fn abandon(&mut self) {
        let now = self.truth.now();
        let mut operations = std::mem::take(&mut self.in_flight);
        operations.sort_by_key(|operation| operation.due);
        for operation in operations {
            if operation.due <= now {
                drop(self.finish(operation));
                continue;
            }
            match operation.work {
                Work::Write { at, buffer, bytes, .. } => {
                    self.scene
                        .borrow_mut()
                        .fault("writes abandoned", || format!("a write at {at:?} breaks off"));
                    self.tear(at, &buffer[..bytes]);
                }
                Work::Prepare(header) if self.streams.tears.permille(500) => self.prepare(&header),
                Work::Remove(segment) if self.streams.tears.permille(500) => self.unlink(segment),
                Work::Read { .. } | Work::Prepare(_) | Work::Remove(_) => {}
            }
        }
    }

    pub(super) fn recovered(&mut self) {
        self.judge_recovery();
        for block in std::mem::take(&mut self.blocks) {
            let medium = self.media.get(&block.at.segment);
            if !medium.is_some_and(|medium| medium.holds(block.at.offset, &block.image)) {
                break;
            }
            self.is_durable(&block);
        }
        self.is_starting = false;
        for segment in std::mem::take(&mut self.removed_at_start) {
            self.judge_removal(segment);
        }
    }
}
