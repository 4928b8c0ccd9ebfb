//! Where the next block goes: the segment in use, and those ready behind it.

use std::collections::VecDeque;

use crate::block::{BLOCK_ALIGN_BYTES, block_bytes_for};
use crate::disk::Disk;
use crate::identity::{Identity, Position, SegmentId};
use crate::segment::{FIRST_BLOCK_OFFSET, SegmentHeader};

/// The end of a journal, and the room behind it.
pub(crate) struct Place {
    /// The end of the last block.
    at: Position,
    /// The size of that segment.
    segment_bytes: u64,
    /// The checksum of the last block.
    chain: u64,
    /// Segments ready for use, and their sizes.
    ready: VecDeque<(SegmentId, u64)>,
    /// The next segment to ask of the disk.
    next: SegmentId,
    /// It was asked: one at a time, so that a failure leaves no gap.
    preparing: bool,
    /// The last preparation failed: space may be short.
    short: bool,
}

impl Place {
    /// Continues a journal that ends at `at`, in a segment of `segment_bytes`, with `ready` behind it.
    pub(crate) fn new(
        at: Position,
        segment_bytes: u64,
        chain: u64,
        ready: VecDeque<(SegmentId, u64)>,
    ) -> Place {
        let next = ready.back().map_or(at.segment, |(last, _)| *last).next();
        Place { at, segment_bytes, chain, ready, next, preparing: false, short: false }
    }

    /// The place of a journal that has no segment yet.
    pub(crate) fn before_the_first() -> Place {
        let at = Position { segment: SegmentId(0), offset: 0 };
        Place::new(at, 0, 0, VecDeque::new())
    }

    /// The end of the last block.
    pub(crate) fn at(&self) -> Position {
        self.at
    }

    /// The checksum that the next block chains to.
    pub(crate) fn chain(&self) -> u64 {
        self.chain
    }

    /// How many segments are ready behind the one in use.
    pub(crate) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Whether the last preparation failed.
    pub(crate) fn is_short(&self) -> bool {
        self.short
    }

    /// The size of the segment in use.
    pub(crate) fn segment_bytes(&self) -> u64 {
        self.segment_bytes
    }

    /// Bytes of the segments behind the one in use: those ready, and the one that is being made, of
    /// `segment_bytes`.
    pub(crate) fn bytes_ahead(&self, segment_bytes: u64) -> u64 {
        let ready: u64 = self.ready.iter().map(|(_, bytes)| bytes).sum();
        ready + if self.preparing { segment_bytes } else { 0 }
    }

    /// Whether a block of `bytes` fits the segment in use.
    pub(crate) fn fits(&self, bytes: u64) -> bool {
        self.at.offset + bytes <= self.segment_bytes
    }

    /// Goes on to the next segment, but only when another is ready behind it: recovery relies on it.
    pub(crate) fn advance(&mut self) -> bool {
        if self.ready.len() < 2 {
            return false;
        }
        self.enter_next();
        true
    }

    /// Goes on to the next segment, which is ready.
    pub(crate) fn enter_next(&mut self) {
        let (segment, bytes) = self.ready.pop_front().expect("the caller saw that one is ready");
        self.at = Position { segment, offset: FIRST_BLOCK_OFFSET };
        self.segment_bytes = bytes;
    }

    /// A block of `bytes` with `checksum` took its place. Returns its end.
    pub(crate) fn take(&mut self, bytes: u64, checksum: u64) -> Position {
        self.at.offset += bytes;
        self.chain = checksum;
        self.at
    }

    /// Keeps `ahead` segments of `bytes` ready: asks the disk for the next, if it is not asked already.
    /// In a hurry, where a full segment would have to wait for it.
    /// Returns whether it was asked now.
    pub(crate) fn prepare<D: Disk>(
        &mut self,
        disk: &mut D,
        identity: &Identity,
        bytes: u64,
        ahead: usize,
    ) -> bool {
        let is_wanted = !self.preparing && self.ready.len() < ahead;
        if is_wanted {
            let header = SegmentHeader { identity: *identity, segment: self.next, bytes };
            disk.prepare(header, self.ready.len() < 2);
            self.preparing = true;
        }
        is_wanted
    }

    /// Whether `segment` is the one that the disk was asked for.
    pub(crate) fn is_preparing(&self, segment: SegmentId) -> bool {
        self.preparing && segment == self.next
    }

    /// The disk made the segment that it was asked for.
    pub(crate) fn prepared(&mut self, bytes: u64) {
        self.ready.push_back((self.next, bytes));
        self.next = self.next.next();
        self.preparing = false;
        self.short = false;
    }

    /// The disk could not make it.
    pub(crate) fn failed(&mut self) {
        self.preparing = false;
        self.short = true;
    }

    /// Whether `bytes` of frames surely fit the space that is reserved, with `spare` bytes of it left. The space
    /// may grow by `more` segments of `segment_bytes`, unless the last try to make one failed. One segment stays
    /// unused (see [`advance`](Self::advance)), and where a block would not fit, the end of each is not counted on.
    pub(crate) fn has_reserved(
        &self,
        bytes: usize,
        spare: u64,
        (more, segment_bytes): (u64, u64),
        block_bytes_max: usize,
    ) -> bool {
        let lost = (BLOCK_ALIGN_BYTES + block_bytes_for(bytes).min(block_bytes_max)) as u64;
        let here = (self.segment_bytes - self.at.offset).saturating_sub(lost);
        let ready: u64 = self.ready.iter().skip(1).map(|(_, bytes)| bytes.saturating_sub(lost)).sum();
        let more = match more + u64::from(self.preparing) {
            _ if self.short => 0,
            more if self.ready.is_empty() => more.saturating_sub(1),
            more => more,
        };
        let room = more.saturating_mul(segment_bytes.saturating_sub(lost)).saturating_add(here + ready);
        // A block takes at most twice its frames, but at least one page.
        room >= 2 * bytes as u64 + BLOCK_ALIGN_BYTES as u64 + spare
    }
}
