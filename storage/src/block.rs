//! Blocks: one group write.
//!
//! ```text
//!   0  checksum       u64   CRC-64/NVME of bytes 8..128
//!   8  magic          u64   "ANNULBLK"
//!  16  disk_uuid      u128
//!  32  cluster        u64
//!  40  segment        u64   which segment it was written to
//!  48  offset         u64   and where
//!  56  first_lsn      u64   position of the first frame; the others follow without gaps
//!  64  durable_lsn    u64   everything up to here was durable when this block was written
//!  72  chain          u64   `checksum` of the block before it
//!  80  digest         u64   fold of the frames' header checksums, in order
//!  88  bytes          u32   the whole block, a multiple of 4096 (of 256 on memory)
//!  92  frames         u32   0 where only `head` was to be told
//!  96  frames_bytes   u32   frames with their padding to 8 bytes
//! 100  emptiness      u32   sectors of 512 bytes in this block that hold only zeros (on memory, see `Grain`)
//! 104  incarnation    u32
//! 108  node           u16
//! 110  core           u16
//! 112  version        u16
//! 114  reserved       6     zero
//! 120  head           u64   the oldest segment that is still needed: those before it may be gone
//! 128  frames         as they came off the wire, each padded with zeros to 8 bytes
//!      padding        zeros up to the next multiple of 4096 (of 256 on memory)
//! ```
//! All numbers are little-endian. A block is written once, onto zeros, and never again. On a drive the header
//! lies in one sector, so a torn write leaves it whole or absent. `emptiness` tells a torn block from a
//! damaged one: what a torn write did not bring is a sector of zeros that should not be, so a torn block
//! has more of them than its header states, and a block with flipped bits has not.

use annulus_rings::frame::{Frame, checksum};
use annulus_rings::{FrameHeader, Lsn, mutant};
use zerocopy::little_endian::{U16, U32, U64, U128};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::buffer::AlignedBuffer;
use crate::grain::Grain;
use crate::identity::{Identity, Position, SegmentId};

/// Blocks in files start at multiples of this: the largest sector of common devices, and a page.
pub const BLOCK_ALIGN_BYTES: usize = 4096;
/// What a device writes whole or not at all.
pub const SECTOR_BYTES: usize = 512;
/// The size of the header in front of a block's frames.
pub const BLOCK_HEADER_BYTES: usize = 128;
/// The version of the journal's layout.
pub const JOURNAL_VERSION: u16 = 2;

const MAGIC: u64 = u64::from_le_bytes(*b"ANNULBLK");
const FRAME_ALIGN_BYTES: usize = 8;

const _: () = assert!(BLOCK_HEADER_BYTES <= SECTOR_BYTES);
const _: () = assert!(BLOCK_ALIGN_BYTES.is_multiple_of(SECTOR_BYTES));
const _: () = assert!(BLOCK_HEADER_BYTES.is_multiple_of(FRAME_ALIGN_BYTES));

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawBlockHeader {
    checksum: U64,
    magic: U64,
    disk_uuid: U128,
    cluster: U64,
    segment: U64,
    offset: U64,
    first_lsn: U64,
    durable_lsn: U64,
    chain: U64,
    digest: U64,
    bytes: U32,
    frames: U32,
    frames_bytes: U32,
    emptiness: U32,
    incarnation: U32,
    node: U16,
    core: U16,
    version: U16,
    reserved: [u8; 6],
    head: U64,
}

const _: () = assert!(size_of::<RawBlockHeader>() == BLOCK_HEADER_BYTES);

/// The size of the block that holds one frame of `frame_bytes`.
pub(crate) fn block_bytes_for(frame_bytes: usize) -> usize {
    (BLOCK_HEADER_BYTES + padded(frame_bytes)).next_multiple_of(BLOCK_ALIGN_BYTES)
}

/// The room that a frame takes in a block.
pub(crate) fn padded(frame_bytes: usize) -> usize {
    frame_bytes.next_multiple_of(FRAME_ALIGN_BYTES)
}

/// The header of a block, verified.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlockHeader {
    /// Where it was written.
    pub at: Position,
    /// Position of the first frame.
    pub first_lsn: Lsn,
    /// Everything up to here was durable when this block was written.
    pub durable_lsn: Lsn,
    /// The checksum of the block before it.
    pub chain: u64,
    /// Its own checksum: the next block's `chain`.
    pub checksum: u64,
    /// The whole block.
    pub bytes: u32,
    /// How many frames; none where the block only tells `head`.
    pub frames: u32,
    /// The oldest segment that was still needed: those before it may be gone. It never goes back.
    pub head: SegmentId,
    digest: u64,
    frames_bytes: u32,
    emptiness: u32,
    grain: Grain,
}

impl BlockHeader {
    /// The header at the front of `bytes`, if they are a block that was written at `at` by the journal
    /// of `identity`, on a device of that grain.
    pub(crate) fn parse(
        bytes: &[u8],
        grain: Grain,
        identity: &Identity,
        at: Position,
    ) -> Option<BlockHeader> {
        let (raw, _) = RawBlockHeader::ref_from_prefix(bytes).ok()?;
        let is_in_place = raw.segment.get() == at.segment.0 && raw.offset.get() == at.offset;
        let is_of_disk = raw.disk_uuid.get() == identity.disk_uuid;
        let own = raw.magic.get() == MAGIC
            && raw.checksum.get() == checksum(&raw.as_bytes()[size_of::<u64>()..])
            && raw.version.get() == JOURNAL_VERSION
            && raw.reserved == [0; 6]
            && (is_of_disk || mutant!(FOREIGN_BLOCK_READ))
            && raw.cluster.get() == identity.cluster.0
            && raw.node.get() == identity.node.0
            && raw.core.get() == identity.core.0
            && (is_in_place || mutant!(MISDIRECTED_BLOCK_READ));
        let bounded = (raw.bytes.get() as usize).is_multiple_of(grain.block_align_bytes())
            && raw.first_lsn.get() > raw.durable_lsn.get()
            && (SegmentId::FIRST.0..=raw.segment.get()).contains(&raw.head.get())
            && BLOCK_HEADER_BYTES + raw.frames_bytes.get() as usize <= raw.bytes.get() as usize;
        (own && bounded).then(|| BlockHeader {
            at,
            first_lsn: Lsn(raw.first_lsn.get()),
            durable_lsn: Lsn(raw.durable_lsn.get()),
            chain: raw.chain.get(),
            checksum: raw.checksum.get(),
            bytes: raw.bytes.get(),
            frames: raw.frames.get(),
            head: SegmentId(raw.head.get()),
            digest: raw.digest.get(),
            frames_bytes: raw.frames_bytes.get(),
            emptiness: raw.emptiness.get(),
            grain,
        })
    }

    /// Position of the last frame; the one before `first_lsn` in a block without frames.
    pub fn last_lsn(&self) -> Lsn {
        Lsn(self.first_lsn.0 - 1 + u64::from(self.frames))
    }

    /// Where the next block starts, unless it starts the next segment.
    pub fn end(&self) -> Position {
        Position { segment: self.at.segment, offset: self.at.offset + u64::from(self.bytes) }
    }

    /// Verifies everything behind the header and hands out the frames, whole blocks only.
    ///
    /// # Errors
    /// What the block is instead, if not whole.
    pub(crate) fn open(&self, block: &[u8], frames: &mut Vec<Frame>) -> Result<(), Damage> {
        frames.clear();
        let is_whole = self.verify(block, |bytes| {
            let frame = Frame::copy_first(bytes).ok()?;
            let found = (frame.len(), frame.checksum());
            frames.push(frame);
            Some(found)
        });
        if is_whole {
            return Ok(());
        }
        frames.clear();
        Err(self.damage(block))
    }

    /// Verifies everything behind the header and copies nothing.
    pub(crate) fn is_whole(&self, block: &[u8]) -> bool {
        self.verify(block, |bytes| Frame::verify_first(bytes).ok())
    }

    /// Checks every frame, and what binds them to this header: count, digest, zeros between them. `verify` gives
    /// size and checksum of the frame that bytes start with.
    fn verify(&self, block: &[u8], mut verify: impl FnMut(&[u8]) -> Option<(usize, u64)>) -> bool {
        let (frames, padding) = block[BLOCK_HEADER_BYTES..].split_at(self.frames_bytes as usize);
        let mut rest = frames;
        let mut digest = 0;
        for _ in 0..self.frames {
            let Some((bytes, checksum)) = verify(rest) else { return false };
            let Some((room, after)) = rest.split_at_checked(padded(bytes)) else { return false };
            if !is_zero(&room[bytes..]) {
                return false;
            }
            digest = fold(digest, checksum);
            rest = after;
        }
        rest.is_empty() && digest == self.digest && is_zero(padding)
    }

    /// What a block is that has this header but not its frames.
    fn damage(&self, block: &[u8]) -> Damage {
        let found = self.grain.emptiness(block);
        if self.grain.is_torn(self.emptiness, found) { Damage::Torn } else { Damage::Rotten }
    }
}

/// What is at a place where a block is not whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Damage {
    /// The first sector holds only zeros: no header arrived.
    Absent,
    /// The header arrived, some sector behind it did not.
    Torn,
    /// Something arrived and is not what was written: no torn write looks like this.
    Rotten,
}

/// What stands at a place for a block whose header is not whole there, although something is.
///
/// A drive writes the header whole or not at all. Memory may bring any of its words: what is there then is
/// what the header says, or zeros. But what one flipped bit explains is damage, as it may have been acknowledged.
pub(crate) fn damage_of_header(bytes: &[u8], grain: Grain, identity: &Identity, at: Position) -> Damage {
    let mut header = *bytes.first_chunk::<BLOCK_HEADER_BYTES>().expect("the caller read a place of a block");
    let is_flipped = (0..BLOCK_HEADER_BYTES * 8).any(|bit| {
        header[bit / 8] ^= 1 << (bit % 8);
        let is_whole = BlockHeader::parse(&header, grain, identity, at).is_some();
        header[bit / 8] ^= 1 << (bit % 8);
        is_whole
    });
    let says = |(word_at, expected): (usize, u64)| {
        let word = header[word_at..].first_chunk().map(|word| u64::from_le_bytes(*word));
        word == Some(0) || word == Some(expected)
    };
    let owner = u64::from(identity.core.0) << 48 | u64::from(identity.node.0) << 32;
    let known = [
        (8, MAGIC),
        (16, identity.disk_uuid as u64),
        (24, (identity.disk_uuid >> 64) as u64),
        (32, identity.cluster.0),
        (40, at.segment.0),
        (48, at.offset),
        (104, owner | u64::from(identity.incarnation.0)),
        (112, u64::from(JOURNAL_VERSION)),
    ];
    let is_torn = grain == Grain::Word && !is_flipped && known.into_iter().all(says);
    if is_torn { Damage::Torn } else { Damage::Rotten }
}

/// Frames on their way into one group write. The only copy of a frame's bytes happens here.
pub(crate) struct BlockBuilder {
    buffer: AlignedBuffer,
    grain: Grain,
    bytes_max: usize,
    /// Where the next frame goes.
    end: usize,
    frames: u32,
    digest: u64,
}

impl BlockBuilder {
    /// An empty block of at most `bytes_max` bytes in `buffer`.
    pub(crate) fn new(buffer: AlignedBuffer, grain: Grain, bytes_max: usize) -> BlockBuilder {
        assert!(bytes_max <= buffer.len(), "the buffer was taken for this block");
        BlockBuilder { buffer, grain, bytes_max, end: BLOCK_HEADER_BYTES, frames: 0, digest: 0 }
    }

    /// Whether a frame of `frame_bytes` still fits.
    pub(crate) fn fits(&self, frame_bytes: usize) -> bool {
        self.end + padded(frame_bytes) <= self.bytes_max
    }

    /// Copies a frame behind the others. The caller asked [`fits`](Self::fits) first.
    pub(crate) fn push(&mut self, frame: &Frame) {
        let room = &mut self.buffer[self.end..][..padded(frame.len())];
        let (bytes, zeros) = room.split_at_mut(frame.len());
        bytes.copy_from_slice(frame.as_bytes());
        zeros.fill(0);
        self.end += padded(frame.len());
        self.frames += 1;
        self.digest = fold(self.digest, frame.checksum());
    }

    /// How many frames wait in it.
    pub(crate) fn frames(&self) -> u32 {
        self.frames
    }

    /// The bytes that the block will take on the medium.
    pub(crate) fn bytes(&self) -> usize {
        self.end.next_multiple_of(self.grain.block_align_bytes())
    }

    /// Completes the block for the place where it will be written.
    pub(crate) fn seal(mut self, identity: &Identity, seal: &BlockSeal) -> SealedBlock {
        let bytes = self.bytes();
        let end = self.end;
        self.buffer[end..bytes].fill(0);
        let emptiness = self.grain.emptiness(&self.buffer[..bytes]);
        let mut raw = RawBlockHeader {
            checksum: U64::ZERO,
            magic: U64::new(MAGIC),
            disk_uuid: U128::new(identity.disk_uuid),
            cluster: U64::new(identity.cluster.0),
            segment: U64::new(seal.at.segment.0),
            offset: U64::new(seal.at.offset),
            first_lsn: U64::new(seal.first_lsn.0),
            durable_lsn: U64::new(seal.durable_lsn.0),
            chain: U64::new(seal.chain),
            digest: U64::new(self.digest),
            bytes: U32::new(bytes as u32),
            frames: U32::new(self.frames),
            frames_bytes: U32::new((end - BLOCK_HEADER_BYTES) as u32),
            emptiness: U32::new(emptiness),
            incarnation: U32::new(identity.incarnation.0),
            node: U16::new(identity.node.0),
            core: U16::new(identity.core.0),
            version: U16::new(JOURNAL_VERSION),
            reserved: [0; 6],
            head: U64::new(seal.head.0),
        };
        let checksum = checksum(&raw.as_bytes()[size_of::<u64>()..]);
        raw.checksum = U64::new(checksum);
        self.buffer[..BLOCK_HEADER_BYTES].copy_from_slice(raw.as_bytes());
        SealedBlock { buffer: self.buffer, bytes, checksum }
    }
}

/// What a block's place in the journal adds to its frames.
pub(crate) struct BlockSeal {
    /// Where it will be written.
    pub(crate) at: Position,
    /// Position of its first frame.
    pub(crate) first_lsn: Lsn,
    /// What is known durable now.
    pub(crate) durable_lsn: Lsn,
    /// The checksum of the block before it.
    pub(crate) chain: u64,
    /// The oldest segment that is still needed.
    pub(crate) head: SegmentId,
}

/// A block ready to be written.
pub(crate) struct SealedBlock {
    /// Holds it at the front.
    pub(crate) buffer: AlignedBuffer,
    /// How many bytes of the buffer.
    pub(crate) bytes: usize,
    /// The next block's chain.
    pub(crate) checksum: u64,
}

/// The headers of the frames of a block that was verified.
pub(crate) fn frame_headers(frames: &[Frame]) -> Vec<FrameHeader> {
    frames.iter().map(Frame::header).collect()
}

/// Whether all bytes are zero. Looks at 64 at a time without a branch among them, so that the compiler
/// uses vector instructions.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    let (lines, rest) = bytes.as_chunks::<64>();
    let union = |line: &[u8; 64]| line.iter().fold(0, |union, byte| union | byte);
    lines.iter().all(|line| union(line) == 0) && rest.iter().all(|byte| *byte == 0)
}

fn fold(digest: u64, checksum: u64) -> u64 {
    (digest.rotate_left(29) ^ checksum).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
