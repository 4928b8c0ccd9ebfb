//! Blocks as an observer sees them on their way to the disk, and what he remembers of those that arrived.

use annulus_rings::frame::checksum;
use annulus_rings::{Frame, Lsn};
use annulus_storage::{Position, SegmentId};
use bytes::Bytes;

/// The layout of a block, as its documentation states it: an observer reads it on his own.
const BLOCK_HEADER_BYTES: usize = 128;
const FIRST_LSN_OFFSET: usize = 56;
const DURABLE_LSN_OFFSET: usize = 64;
const FRAMES_COUNT_OFFSET: usize = 92;
const FRAMES_BYTES_OFFSET: usize = 96;
const HEAD_OFFSET: usize = 120;

/// A block as it was handed to the disk.
pub(super) struct Block {
    pub(super) token: u64,
    pub(super) at: Position,
    pub(super) image: Bytes,
    pub(super) is_written: bool,
}

/// A block that is durable.
#[derive(Clone, Copy)]
pub(super) struct Held {
    pub(super) at: Position,
    pub(super) bytes: u64,
    pub(super) first: Lsn,
    pub(super) last: Lsn,
    /// Everything up to here was durable when this block was written, as it says itself.
    pub(super) durable: Lsn,
    /// The oldest segment that is still needed, as this block says.
    pub(super) head: SegmentId,
    /// Of all its bytes.
    pub(super) checksum: u64,
}

impl Block {
    pub(super) fn new(token: u64, at: Position, bytes: &[u8]) -> Block {
        Block { token, at, image: Bytes::copy_from_slice(bytes), is_written: false }
    }

    fn number(&self, offset: usize) -> u64 {
        u64::from_le_bytes(*self.image[offset..].first_chunk().expect("a block has a header"))
    }

    fn small_number(&self, offset: usize) -> u32 {
        u32::from_le_bytes(*self.image[offset..].first_chunk().expect("a block has a header"))
    }

    /// Where it is, and which records are in it.
    pub(super) fn held(&self) -> Held {
        let first = self.number(FIRST_LSN_OFFSET);
        let count = u64::from(self.small_number(FRAMES_COUNT_OFFSET));
        Held {
            at: self.at,
            bytes: self.image.len() as u64,
            first: Lsn(first),
            last: Lsn(first - 1 + count),
            durable: Lsn(self.number(DURABLE_LSN_OFFSET)),
            head: SegmentId(self.number(HEAD_OFFSET)),
            checksum: checksum(&self.image),
        }
    }

    /// Its records.
    pub(super) fn frames(&self) -> Vec<(Lsn, Frame)> {
        let end = BLOCK_HEADER_BYTES + self.small_number(FRAMES_BYTES_OFFSET) as usize;
        let mut lsn = self.number(FIRST_LSN_OFFSET);
        let (mut offset, mut frames) = (BLOCK_HEADER_BYTES, Vec::new());
        while offset < end {
            let bytes = Frame::peek_bytes(&self.image[offset..]).expect("a block holds whole frames");
            let frame = Frame::parse(self.image.slice(offset..offset + bytes));
            frames.push((Lsn(lsn), frame.expect("a block holds verified frames")));
            offset += bytes.next_multiple_of(8);
            lsn += 1;
        }
        frames
    }
}

impl Held {
    /// Whether any of `bytes` bytes from `at` on belong to it.
    pub(super) fn overlaps(&self, at: Position, bytes: u64) -> bool {
        self.at.segment == at.segment
            && at.offset < self.at.offset + self.bytes
            && self.at.offset < at.offset + bytes
    }
}
