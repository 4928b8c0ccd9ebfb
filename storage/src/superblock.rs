//! The superblock: whose data directory this is.
//!
//! ```text
//!   0  checksum     u64   CRC-64/NVME of bytes 8..64
//!   8  magic        u64   "ANNULSUP"
//!  16  disk_uuid    u128
//!  32  cluster      u64
//!  40  incarnation  u32
//!  44  node         u16
//!  46  cores        u16
//!  48  version      u16
//!  50  reserved     14    zero
//! ```
//! It is written once: aside, synced, renamed, and the directory synced, so that it is there whole or
//! not at all.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

use annulus_rings::frame::checksum;
use annulus_rings::{ClusterId, Incarnation, NodeId};
use zerocopy::little_endian::{U16, U32, U64, U128};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The version of the data directory that this build writes and the only one it reads.
pub const DATA_VERSION: u16 = 1;

const SUPERBLOCK_BYTES: usize = 64;
const MAGIC: u64 = u64::from_le_bytes(*b"ANNULSUP");

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawSuperblock {
    checksum: U64,
    magic: U64,
    disk_uuid: U128,
    cluster: U64,
    incarnation: U32,
    node: U16,
    cores: U16,
    version: U16,
    reserved: [u8; 14],
}

const _: () = assert!(size_of::<RawSuperblock>() == SUPERBLOCK_BYTES);

/// The identity of a node's data directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Superblock {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
    /// The life of the disk, drawn with its uuid: a directory that takes this one's place has another.
    pub incarnation: Incarnation,
    /// Drawn at random when the directory was made.
    pub disk_uuid: u128,
    /// Cores that the node runs with: rings are placed by it.
    pub cores: u16,
}

/// Why bytes are not a superblock of this version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SuperblockError {
    Damaged(&'static str),
    Version(u16),
}

impl Superblock {
    /// Reads the bytes of a superblock file.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Superblock, SuperblockError> {
        use SuperblockError::{Damaged, Version};
        let raw = RawSuperblock::ref_from_bytes(bytes).map_err(|_| Damaged("its size is not 64 bytes"))?;
        if raw.magic.get() != MAGIC {
            return Err(Damaged("it is not one of annulus"));
        }
        if raw.checksum.get() != checksum(&bytes[size_of::<u64>()..]) {
            return Err(Damaged("its checksum does not match"));
        }
        if raw.version.get() != DATA_VERSION {
            return Err(Version(raw.version.get()));
        }
        if raw.reserved != [0; 14] {
            return Err(Damaged("reserved bytes are not zero"));
        }
        Ok(Superblock {
            cluster: ClusterId(raw.cluster.get()),
            node: NodeId(raw.node.get()),
            incarnation: Incarnation(raw.incarnation.get()),
            disk_uuid: raw.disk_uuid.get(),
            cores: raw.cores.get(),
        })
    }

    fn encode(&self) -> [u8; SUPERBLOCK_BYTES] {
        let mut raw = RawSuperblock {
            checksum: U64::ZERO,
            magic: U64::new(MAGIC),
            disk_uuid: U128::new(self.disk_uuid),
            cluster: U64::new(self.cluster.0),
            incarnation: U32::new(self.incarnation.0),
            node: U16::new(self.node.0),
            cores: U16::new(self.cores),
            version: U16::new(DATA_VERSION),
            reserved: [0; 14],
        };
        raw.checksum = U64::new(checksum(&raw.as_bytes()[size_of::<u64>()..]));
        zerocopy::transmute!(raw)
    }

    /// Makes the superblock durable at `path`.
    pub(crate) fn publish(&self, path: &Path) -> io::Result<()> {
        let aside = path.with_extension("new");
        let mut file = File::create(&aside)?;
        file.write_all(&self.encode())?;
        file.sync_all()?;
        std::fs::rename(&aside, path)?;
        let directory = path.parent().expect("a superblock lies in a data directory");
        File::open(directory)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUPERBLOCK: Superblock = Superblock {
        cluster: ClusterId(7),
        node: NodeId(2),
        incarnation: Incarnation(1),
        disk_uuid: 99,
        cores: 4,
    };

    #[test]
    fn a_superblock_decodes_to_what_was_encoded() {
        assert_eq!(Superblock::decode(&SUPERBLOCK.encode()), Ok(SUPERBLOCK));
    }

    #[test]
    fn every_flipped_bit_of_a_superblock_is_refused() {
        for bit in 0..SUPERBLOCK_BYTES * 8 {
            let mut bytes = SUPERBLOCK.encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Superblock::decode(&bytes).is_err(), "bit {bit}");
        }
    }
}
