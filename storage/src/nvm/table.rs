//! The table of a region: which parts of it are which segments, and how far the journal is known durable.
//!
//! ```text
//!   0  checksum       u64   CRC-64/NVME of bytes 8..64 + 24 × count
//!   8  sequence       u64   counts the tables that held; its last bit names the copy
//!  16  disk_uuid      u128
//!  32  tail_segment   u64   everything before this place is durable; 0: nothing is known
//!  40  tail_offset    u64
//!  48  count          u64
//!  56  reserved       u64   zero
//!  64  extents        24 each: segment u64, start u64, bytes u64, in the order of segments
//! ```

use annulus_rings::frame::checksum;
use zerocopy::little_endian::{U64, U128};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::extents::{Extent, Extents};
use super::region::EXTENTS_OFFSET;
use super::switch::Side;
use crate::block::BLOCK_ALIGN_BYTES;
use crate::identity::{Position, SegmentId};

/// Room for one copy.
pub(crate) const TABLE_BYTES_MAX: usize = 16 << 10;
/// Segments that a region can hold.
pub(crate) const EXTENTS_MAX: usize = (TABLE_BYTES_MAX - HEAD_BYTES) / ENTRY_BYTES;

const HEAD_BYTES: usize = 64;
const ENTRY_BYTES: usize = 24;

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawHead {
    checksum: U64,
    sequence: U64,
    disk_uuid: U128,
    tail_segment: U64,
    tail_offset: U64,
    count: U64,
    reserved: U64,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawExtent {
    segment: U64,
    start: U64,
    bytes: U64,
}

const _: () = assert!(size_of::<RawHead>() == HEAD_BYTES);
const _: () = assert!(size_of::<RawExtent>() == ENTRY_BYTES);

/// What a region holds.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Table {
    /// Everything before this place is durable.
    pub(crate) tail: Option<Position>,
    /// Where the segments are.
    pub(crate) extents: Extents,
}

impl Table {
    /// The bytes of the copy on `side`, the `sequence`th table of the region, in place of what `bytes` holds.
    pub(crate) fn encode(&self, sequence: u64, disk_uuid: u128, bytes: &mut Vec<u8>) {
        let tail = self.tail.unwrap_or(Position { segment: SegmentId(0), offset: 0 });
        let extents = self.extents.list();
        let mut head = RawHead {
            checksum: U64::ZERO,
            sequence: U64::new(sequence),
            disk_uuid: U128::new(disk_uuid),
            tail_segment: U64::new(tail.segment.0),
            tail_offset: U64::new(tail.offset),
            count: U64::new(extents.len() as u64),
            reserved: U64::ZERO,
        };
        bytes.clear();
        bytes.extend_from_slice(head.as_bytes());
        for extent in extents {
            let raw = RawExtent {
                segment: U64::new(extent.segment.0),
                start: U64::new(extent.start),
                bytes: U64::new(extent.bytes),
            };
            bytes.extend_from_slice(raw.as_bytes());
        }
        head.checksum = U64::new(checksum(&bytes[size_of::<u64>()..]));
        bytes[..size_of::<u64>()].copy_from_slice(head.checksum.as_bytes());
    }

    /// Reads the copy on `side` of a region of `region_bytes`, and its sequence.
    ///
    /// # Errors
    /// What does not match, in words.
    pub(crate) fn decode(
        bytes: &[u8],
        side: Side,
        disk_uuid: u128,
        region_bytes: u64,
    ) -> Result<(u64, Table), &'static str> {
        let (head, rest) = RawHead::ref_from_prefix(bytes).map_err(|_| "its table is missing")?;
        let count = usize::try_from(head.count.get()).unwrap_or(usize::MAX);
        let end = count.checked_mul(ENTRY_BYTES).filter(|end| *end <= rest.len());
        let Some(end) = end else { return Err("its table is longer than there is room") };
        if head.checksum.get() != checksum(&bytes[size_of::<u64>()..HEAD_BYTES + end]) {
            return Err("the checksum of its table does not match");
        }
        if head.disk_uuid.get() != disk_uuid || head.sequence.get() % 2 != side.index() {
            return Err("its table belongs elsewhere");
        }
        let mut extents = Extents::default();
        let (entries, _) = rest[..end].as_chunks::<ENTRY_BYTES>();
        for entry in entries {
            let raw: RawExtent = zerocopy::transmute!(*entry);
            let extent = Extent {
                segment: SegmentId(raw.segment.get()),
                start: raw.start.get(),
                bytes: raw.bytes.get(),
            };
            if !is_inside(&extent, region_bytes) || !extents.insert(extent) {
                return Err("its table contradicts itself");
            }
        }
        let tail = Position { segment: SegmentId(head.tail_segment.get()), offset: head.tail_offset.get() };
        let tail = (tail.segment != SegmentId(0)).then_some(tail);
        Ok((head.sequence.get(), Table { tail, extents }))
    }
}

fn is_inside(extent: &Extent, region_bytes: u64) -> bool {
    let is_aligned =
        [extent.start, extent.bytes].iter().all(|number| number.is_multiple_of(BLOCK_ALIGN_BYTES as u64));
    let end = extent.start.checked_add(extent.bytes);
    is_aligned && extent.start >= EXTENTS_OFFSET && end.is_some_and(|end| end <= region_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGION_BYTES: u64 = 1 << 20;

    fn table() -> Table {
        let mut table = Table {
            tail: Some(Position { segment: SegmentId(3), offset: 4352 }),
            extents: Extents::default(),
        };
        for (segment, page) in [(3, 10), (4, 30), (5, 20)] {
            let extent = Extent { segment: SegmentId(segment), start: page << 12, bytes: 8 << 12 };
            assert!(table.extents.insert(extent));
        }
        table
    }

    #[test]
    fn a_table_decodes_to_what_was_encoded() {
        let mut bytes = vec![1; 9];
        table().encode(5, 99, &mut bytes);
        assert_eq!(Table::decode(&bytes, Side::Second, 99, REGION_BYTES), Ok((5, table())));
        assert!(Table::decode(&bytes, Side::First, 99, REGION_BYTES).is_err(), "another copy");
        assert!(Table::decode(&bytes, Side::Second, 98, REGION_BYTES).is_err(), "another region");
        assert!(Table::decode(&bytes, Side::Second, 99, 1 << 17).is_err(), "a smaller region");
    }

    #[test]
    fn every_flipped_bit_of_a_table_is_refused() {
        let mut bytes = Vec::new();
        table().encode(4, 99, &mut bytes);
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Table::decode(&bytes, Side::First, 99, REGION_BYTES).is_err(), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn extents_that_overlap_are_refused() {
        let mut extents = table().extents;
        assert!(!extents.insert(Extent { segment: SegmentId(6), start: 12 << 12, bytes: 1 << 12 }));
        assert!(!extents.insert(Extent { segment: SegmentId(4), start: 40 << 12, bytes: 1 << 12 }));
    }
}
