//! Truncation: which segments hold which positions, and how those that nobody needs any more go.
//!
//! A segment is *freed* when everything in it lies below the truncation. Later blocks tell the new *head*, the
//! oldest segment that is still needed. When one of them is durable, the freed segments are removed, oldest
//! first: so a recovery that does not find a segment learns from the blocks whether it may be gone.

use std::collections::VecDeque;
use std::io;

use annulus_rings::{Lsn, ensures, mutant, reach, requires};

use crate::disk::{Disk, DiskKind};
use crate::identity::SegmentId;
use crate::journal::Journal;

/// The segments of a journal that blocks were written to.
pub(crate) struct Truncation {
    /// Those that are needed, oldest first. The last one is in use.
    needed: VecDeque<Held>,
    /// Those that are not, oldest first, until they are gone.
    freed: VecDeque<(SegmentId, u64)>,
    /// The head that a durable block tells: what lies before it may be removed.
    told: SegmentId,
    removing: Option<SegmentId>,
    /// Of all of them.
    bytes: u64,
}

struct Held {
    segment: SegmentId,
    bytes: u64,
    /// Position of its first frame.
    first: Lsn,
}

/// Segments that are listed without asking for memory again: more than `bytes_max` has by default.
const SEGMENTS_MAX: usize = 256;

impl Truncation {
    /// Of a journal whose durable blocks tell `told` at the most, and that finds `freed` before its first segment.
    pub(crate) fn new(told: SegmentId, freed: impl Iterator<Item = (SegmentId, u64)>) -> Truncation {
        let mut truncation = Truncation {
            needed: VecDeque::with_capacity(SEGMENTS_MAX),
            freed: VecDeque::with_capacity(SEGMENTS_MAX),
            told,
            removing: None,
            bytes: 0,
        };
        truncation.freed.extend(freed);
        truncation.bytes = truncation.freed.iter().map(|(_, bytes)| bytes).sum();
        truncation
    }

    /// Whether no segment was entered yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.needed.is_empty()
    }

    /// The next segment is in use, from the frame at `first` on.
    pub(crate) fn enter(&mut self, segment: SegmentId, bytes: u64, first: Lsn) {
        requires!(T2, self.needed.back().is_none_or(|last| last.segment < segment && last.first <= first));
        self.bytes += bytes;
        self.needed.push_back(Held { segment, bytes, first });
    }

    /// The oldest segment that is needed.
    pub(crate) fn head(&self) -> SegmentId {
        self.needed.front().map_or(self.told, |held| held.segment)
    }

    /// The first position that is needed.
    pub(crate) fn first_lsn(&self) -> Lsn {
        self.needed.front().map_or(Lsn(1), |held| held.first)
    }

    /// The first position of the segment in use: what is needed from there on frees nothing more.
    fn last_first_lsn(&self) -> Lsn {
        self.needed.back().map_or(Lsn(1), |held| held.first)
    }

    /// The first position of a segment that is needed.
    pub(crate) fn first_of(&self, segment: SegmentId) -> Option<Lsn> {
        self.held(segment).map(|held| held.first)
    }

    /// The size of a segment that is needed.
    pub(crate) fn bytes_of(&self, segment: SegmentId) -> Option<u64> {
        self.held(segment).map(|held| held.bytes)
    }

    fn held(&self, segment: SegmentId) -> Option<&Held> {
        let index = segment.0.checked_sub(self.head().0)?;
        self.needed.get(index as usize)
    }

    /// Bytes of all segments that are not removed yet.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Frees the segments of which every frame lies below `below`; never the one in use.
    fn free_below(&mut self, below: Lsn) {
        // The frames of a segment end where those of the next one begin.
        while self.needed.get(1).is_some_and(|next| next.first <= below) {
            self.free_first();
        }
        if mutant!(SEGMENT_IN_USE_FREED) && self.needed.len() == 1 && below > self.first_lsn() {
            let Held { segment, bytes, first } = &self.needed[0];
            self.freed.push_back((*segment, *bytes));
            self.needed[0] = Held { segment: segment.next(), bytes: 0, first: *first };
        }
    }

    /// Frees the segments before `head`: the blocks that were read back say so.
    pub(crate) fn free_before(&mut self, head: SegmentId) {
        while self.needed.len() > 1 && self.head() < head {
            self.free_first();
        }
    }

    fn free_first(&mut self) {
        if let Some(Held { segment, bytes, .. }) = self.needed.pop_front() {
            self.freed.push_back((segment, bytes));
        }
    }

    /// A block that tells `head` is durable.
    fn tell(&mut self, head: SegmentId) {
        requires!(T2, head <= self.head());
        // A device that forgets may have gone further.
        self.told = self.told.max(head);
    }

    /// Whether freed segments wait for a durable block that tells of them.
    fn is_untold(&self) -> bool {
        self.told < self.head()
    }

    /// The segment to remove next, unless it is being read.
    fn next_removal(&mut self, read: Option<SegmentId>) -> Option<SegmentId> {
        let (segment, _) = *self.freed.front()?;
        let is_told = segment < self.told || mutant!(REMOVED_BEFORE_DURABLE);
        let may_go = is_told && self.removing.is_none() && read != Some(segment);
        may_go.then(|| *self.removing.insert(segment))
    }

    /// `segment` is gone. A device that forgets takes needed ones too.
    fn removed(&mut self, segment: SegmentId) {
        if self.needed.len() > 1 && self.head() == segment {
            self.free_first();
            self.told = self.head();
        }
        if let Some(index) = self.freed.iter().position(|(freed, _)| *freed == segment) {
            self.bytes -= self.freed.remove(index).map_or(0, |(_, bytes)| bytes);
        }
    }
}

impl<D: Disk> Journal<D> {
    /// Frees what lies below `below`, as far as it fills whole segments. Nothing of it is read back from now on;
    /// the segments are removed when a later block is durable that tells so.
    ///
    /// Only what is durable may be truncated, and what is truncated must not be needed after a crash at this
    /// moment: whoever needs less because of a record waits until that record is durable.
    pub fn truncate(&mut self, below: Lsn) {
        requires!(T2, below <= self.persisted().next());
        if self.is_poisoned() {
            return;
        }
        self.truncation.free_below(below);
        self.forget_freed();
        self.remove_next();
    }

    fn forget_freed(&mut self) {
        let head = self.truncation.head();
        if !mutant!(FREED_STAY_INDEXED) {
            self.index.forget(head);
        }
        self.scrub.forget(head);
    }

    /// The first position that it surely gives back.
    pub fn first_lsn(&self) -> Lsn {
        self.truncation.first_lsn()
    }

    /// The first position of the segment in use. To need less than what is from there on frees nothing.
    pub fn segment_lsn(&self) -> Lsn {
        self.truncation.last_first_lsn()
    }

    /// Whether freed segments wait for a block, and their space is wanted: new work may be refused for want of it,
    /// so perhaps nobody writes one.
    pub(crate) fn must_tell(&self) -> bool {
        let is_waiting = self.truncation.is_untold() && !self.is_head_in_flight();
        is_waiting && !self.has_space(self.options.backlog_bytes_max) && !mutant!(HEAD_NEVER_TOLD_ALONE)
    }

    /// A block that tells `head` is durable.
    pub(crate) fn head_is_durable(&mut self, head: SegmentId) {
        self.truncation.tell(head);
        self.remove_next();
    }

    /// Goes on with removing what was freed.
    pub(crate) fn remove_next(&mut self) {
        if self.is_poisoned() {
            return;
        }
        let read = self.segment_read();
        if let Some(segment) = self.truncation.next_removal(read) {
            requires!(T6, segment < self.truncation.told);
            self.disk.remove(segment);
        }
    }

    /// A segment is gone, or not.
    pub(crate) fn removed(&mut self, segment: SegmentId, result: io::Result<()>) {
        if self.truncation.removing == Some(segment) {
            self.truncation.removing = None;
        }
        match result {
            Ok(()) => {
                reach!(SEGMENT_REMOVED, self.disk.kind() != DiskKind::Memory);
                self.statistics.segments_removed += 1;
                self.truncation.removed(segment);
                self.forget_freed();
                self.prepare_ahead();
            }
            Err(error) => {
                reach!(REMOVAL_FAILED);
                self.statistics.removal_failures += 1;
                tracing::error!(%error, segment = segment.0, "a segment of the journal cannot be removed");
            }
        }
        self.remove_next();
        ensures!(T2, self.truncation.told <= self.truncation.head());
    }
}
