//! Blocks: records with checksums, each block chained to the one before; and the trailer behind the last.
//!
//! ```text
//! a block:
//!   0  checksum       u64   CRC-64/NVME of bytes 8..48: verified before `bytes` is believed
//!   8  magic          u64   "ANNULSNB"
//!  16  chain          u64   `checksum` of the block before it; of the first, the header's seed
//!  24  body_checksum  u64   CRC-64/NVME of bytes 48..
//!  32  index          u64   counted from 0
//!  40  bytes          u32   the whole block
//!  44  records        u32
//!  48  records              u32 length and bytes, each
//!
//! the trailer, where the file ends:
//!   0  checksum       u64   CRC-64/NVME of bytes 8..48
//!   8  magic          u64   "ANNULSNE"
//!  16  chain          u64   `checksum` of the last block: it stands for all that was written
//!  24  blocks         u64
//!  32  records        u64
//!  40  bytes          u64   the whole file, this trailer included
//! ```

use annulus_rings::frame::checksum;
use annulus_rings::mutant;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The largest record.
pub const RECORD_BYTES_MAX: usize = 16 << 20;
/// The size of the header of a block, and of the trailer.
pub(crate) const BLOCK_HEADER_BYTES: usize = 48;
/// A block is complete when it has so many bytes.
pub(crate) const BLOCK_BYTES_TARGET: usize = 64 << 10;
/// The largest block: one that was nearly complete, and a record of the largest size.
pub(crate) const BLOCK_BYTES_MAX: usize = BLOCK_BYTES_TARGET + LENGTH_BYTES + RECORD_BYTES_MAX;

const LENGTH_BYTES: usize = size_of::<u32>();
const BLOCK_MAGIC: u64 = u64::from_le_bytes(*b"ANNULSNB");
const TRAILER_MAGIC: u64 = u64::from_le_bytes(*b"ANNULSNE");

const _: () = assert!(BLOCK_BYTES_MAX < u32::MAX as usize);

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawBlock {
    checksum: U64,
    magic: U64,
    chain: U64,
    body_checksum: U64,
    index: U64,
    bytes: U32,
    records: U32,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawTrailer {
    checksum: U64,
    magic: U64,
    chain: U64,
    blocks: U64,
    records: U64,
    bytes: U64,
}

const _: () = assert!(size_of::<RawBlock>() == BLOCK_HEADER_BYTES);
const _: () = assert!(size_of::<RawTrailer>() == BLOCK_HEADER_BYTES);

/// How far a snapshot goes: of a whole one, what its trailer says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SnapshotExtent {
    /// Blocks.
    pub blocks: u64,
    /// Records.
    pub records: u64,
    /// Bytes from the start of the file.
    pub bytes: u64,
    /// The checksum of the last block, which chains to all before it: two snapshots with the same digest are
    /// the same.
    pub digest: u64,
}

/// What stands where a block may start.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    Block { bytes: usize, records: u32, body_checksum: u64, checksum: u64 },
    Trailer,
}

impl Part {
    /// Reads what stands behind `before`. Its size is believed only when its checksum and its place match.
    pub(crate) fn decode(head: &[u8], before: &SnapshotExtent) -> Result<Part, &'static str> {
        let (raw, _) = RawBlock::ref_from_prefix(head).map_err(|_| "a block is cut off")?;
        if raw.checksum.get() != checksum(&raw.as_bytes()[size_of::<u64>()..]) {
            return Err("the checksum of a block's header does not match");
        }
        if raw.chain.get() != before.digest {
            return Err("a block does not follow the one before it");
        }
        match raw.magic.get() {
            BLOCK_MAGIC => Part::block(raw, before),
            TRAILER_MAGIC => Part::trailer(head, before),
            _ => Err("there is no block"),
        }
    }

    fn block(raw: &RawBlock, before: &SnapshotExtent) -> Result<Part, &'static str> {
        let bytes = raw.bytes.get() as usize;
        if raw.index.get() != before.blocks {
            return Err("a block is out of place");
        }
        if !(BLOCK_HEADER_BYTES..=BLOCK_BYTES_MAX).contains(&bytes) || raw.records.get() == 0 {
            return Err("the size of a block is impossible");
        }
        let (records, body_checksum) = (raw.records.get(), raw.body_checksum.get());
        Ok(Part::Block { bytes, records, body_checksum, checksum: raw.checksum.get() })
    }

    fn trailer(head: &[u8], before: &SnapshotExtent) -> Result<Part, &'static str> {
        let (raw, _) = RawTrailer::ref_from_prefix(head).map_err(|_| "the trailer is cut off")?;
        let matches = raw.blocks.get() == before.blocks
            && raw.records.get() == before.records
            && raw.bytes.get() == before.bytes + BLOCK_HEADER_BYTES as u64;
        if matches { Ok(Part::Trailer) } else { Err("the trailer does not match what is before it") }
    }
}

/// The trailer behind `extent`, which does not count it yet.
pub(crate) fn trailer(extent: &SnapshotExtent) -> [u8; BLOCK_HEADER_BYTES] {
    let mut raw = RawTrailer {
        checksum: U64::ZERO,
        magic: U64::new(TRAILER_MAGIC),
        chain: U64::new(extent.digest),
        blocks: U64::new(extent.blocks),
        records: U64::new(extent.records),
        bytes: U64::new(extent.bytes + BLOCK_HEADER_BYTES as u64),
    };
    raw.checksum = U64::new(checksum(&raw.as_bytes()[size_of::<u64>()..]));
    zerocopy::transmute!(raw)
}

/// Whether `body` is what a block's header says.
pub(crate) fn verify_body(body: &[u8], records: u32, body_checksum: u64) -> Result<(), &'static str> {
    if checksum(body) != body_checksum && !mutant!(SNAPSHOT_BLOCK_UNVERIFIED) {
        return Err("the checksum of a block does not match");
    }
    let mut rest = SnapshotRecords(body);
    let count = rest.by_ref().count();
    if count != records as usize || !rest.0.is_empty() {
        return Err("the records of a block do not fill it");
    }
    Ok(())
}

/// The records of a block that was verified.
#[derive(Clone, Debug)]
pub struct SnapshotRecords<'a>(pub(crate) &'a [u8]);

impl<'a> SnapshotRecords<'a> {
    /// The records as they lie in the block, each behind its length.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.0
    }
}

impl<'a> Iterator for SnapshotRecords<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first_chunk()?;
        let (record, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        self.0 = rest;
        Some(record)
    }
}

/// Records on their way into a block.
pub(crate) struct Filling {
    bytes: Vec<u8>,
    records: u32,
}

impl Filling {
    /// An empty block in `buffer`, whose content is of no account.
    pub(crate) fn new(mut buffer: Vec<u8>) -> Filling {
        buffer.clear();
        buffer.resize(BLOCK_HEADER_BYTES, 0);
        Filling { bytes: buffer, records: 0 }
    }

    /// Adds a record of at most [`RECORD_BYTES_MAX`].
    pub(crate) fn push(&mut self, record: &[u8]) {
        self.bytes.extend_from_slice(&(record.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(record);
        self.records += 1;
    }

    /// Bytes until now.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Whether no record is in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Whether it should be written now.
    pub(crate) fn is_complete(&self) -> bool {
        self.bytes.len() >= BLOCK_BYTES_TARGET
    }

    /// Completes the block behind `extent`, which counts it from then on.
    pub(crate) fn seal(mut self, extent: &mut SnapshotExtent) -> Vec<u8> {
        let (head, body) = self.bytes.split_at_mut(BLOCK_HEADER_BYTES);
        let mut raw = RawBlock {
            checksum: U64::ZERO,
            magic: U64::new(BLOCK_MAGIC),
            chain: U64::new(extent.digest),
            body_checksum: U64::new(checksum(body)),
            index: U64::new(extent.blocks),
            bytes: U32::new((BLOCK_HEADER_BYTES + body.len()) as u32),
            records: U32::new(self.records),
        };
        raw.checksum = U64::new(checksum(&raw.as_bytes()[size_of::<u64>()..]));
        head.copy_from_slice(raw.as_bytes());
        extent.count(self.bytes.len(), self.records, raw.checksum.get());
        self.bytes
    }
}

impl SnapshotExtent {
    /// Nothing but a header, whose seed the first block chains to.
    pub(crate) fn begin(seed: u64) -> SnapshotExtent {
        let bytes = super::header::SNAPSHOT_HEADER_BYTES as u64;
        SnapshotExtent { blocks: 0, records: 0, bytes, digest: seed }
    }

    /// Counts a block.
    pub(crate) fn count(&mut self, bytes: usize, records: u32, checksum: u64) {
        self.blocks += 1;
        self.records += u64::from(records);
        self.bytes += bytes as u64;
        self.digest = checksum;
    }
}
