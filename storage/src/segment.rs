//! Segments: files of a fixed size that blocks fill from the front.
//!
//! ```text
//!   0  checksum       u64   CRC-64/NVME of bytes 8..96
//!   8  magic          u64   "ANNULSEG"
//!  16  disk_uuid      u128
//!  32  cluster        u64
//!  40  segment        u64
//!  48  bytes          u64   the size of the file
//!  56  incarnation    u32
//!  60  node           u16
//!  62  core           u16
//!  64  version        u16
//!  66  reserved       30    zero
//!  96  zeros up to 4096, where the first block starts
//! ```
//! A segment is written with its header and zeros, synced, and only then gets its name: a file with a
//! segment's name is whole. The size in the header detects a file that was truncated later, and lets the
//! size be another one for new segments.

use annulus_rings::frame::checksum;
use annulus_rings::{ClusterId, CoreId, Incarnation, NodeId};
use zerocopy::little_endian::{U16, U32, U64, U128};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::block::{BLOCK_ALIGN_BYTES, JOURNAL_VERSION};
use crate::identity::{Identity, SegmentId};

/// Where the first block of a segment starts.
pub const FIRST_BLOCK_OFFSET: u64 = BLOCK_ALIGN_BYTES as u64;

const HEADER_BYTES: usize = 96;
const MAGIC: u64 = u64::from_le_bytes(*b"ANNULSEG");

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawSegmentHeader {
    checksum: U64,
    magic: U64,
    disk_uuid: U128,
    cluster: U64,
    segment: U64,
    bytes: U64,
    incarnation: U32,
    node: U16,
    core: U16,
    version: U16,
    reserved: [u8; 30],
}

const _: () = assert!(size_of::<RawSegmentHeader>() == HEADER_BYTES);

/// The header of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentHeader {
    /// Whose journal it is.
    pub identity: Identity,
    /// Which segment.
    pub segment: SegmentId,
    /// The size of the file.
    pub bytes: u64,
}

impl SegmentHeader {
    /// The bytes at the front of the file.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut raw = RawSegmentHeader {
            checksum: U64::ZERO,
            magic: U64::new(MAGIC),
            disk_uuid: U128::new(self.identity.disk_uuid),
            cluster: U64::new(self.identity.cluster.0),
            segment: U64::new(self.segment.0),
            bytes: U64::new(self.bytes),
            incarnation: U32::new(self.identity.incarnation.0),
            node: U16::new(self.identity.node.0),
            core: U16::new(self.identity.core.0),
            version: U16::new(JOURNAL_VERSION),
            reserved: [0; 30],
        };
        raw.checksum = U64::new(checksum(&raw.as_bytes()[size_of::<u64>()..]));
        zerocopy::transmute!(raw)
    }

    /// Reads the bytes at the front of a file.
    ///
    /// # Errors
    /// What does not match, in words.
    pub fn decode(bytes: &[u8]) -> Result<SegmentHeader, &'static str> {
        let (raw, _) =
            RawSegmentHeader::ref_from_prefix(bytes).map_err(|_| "the segment header is missing")?;
        if raw.magic.get() != MAGIC {
            return Err("this is not a segment of a journal");
        }
        if raw.checksum.get() != checksum(&raw.as_bytes()[size_of::<u64>()..]) {
            return Err("the segment header is damaged");
        }
        if raw.version.get() != JOURNAL_VERSION {
            return Err("the segment has another format version: use the matching build");
        }
        if raw.reserved != [0; 30] {
            return Err("reserved bytes of the segment header are not zero");
        }
        Ok(SegmentHeader {
            identity: Identity {
                cluster: ClusterId(raw.cluster.get()),
                node: NodeId(raw.node.get()),
                core: CoreId(raw.core.get()),
                incarnation: Incarnation(raw.incarnation.get()),
                disk_uuid: raw.disk_uuid.get(),
            },
            segment: SegmentId(raw.segment.get()),
            bytes: raw.bytes.get(),
        })
    }
}

/// The name of a segment's file.
pub(crate) fn file_name(segment: SegmentId) -> String {
    format!("{:016x}.segment", segment.0)
}

/// The segment that a file name names.
pub(crate) fn parse_file_name(name: &str) -> Option<SegmentId> {
    let digits = name.strip_suffix(".segment")?;
    (digits.len() == 16).then(|| u64::from_str_radix(digits, 16).ok()).flatten().map(SegmentId)
}
