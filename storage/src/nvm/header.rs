//! The header of a region: whose it is.
//!
//! ```text
//!   0  checksum       u64   CRC-64/NVME of bytes 8..64
//!   8  magic          u64   "ANNULNVM"
//!  16  disk_uuid      u128
//!  32  cluster        u64
//!  40  region_bytes   u64   the size of the region
//!  48  incarnation    u32
//!  52  node           u16
//!  54  core           u16
//!  56  version        u16
//!  58  reserved       6     zero
//! ```
//! It is written once, after everything else of a new region.

use annulus_rings::frame::checksum;
use zerocopy::little_endian::{U16, U32, U64, U128};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::region::RegionError;
use crate::identity::Identity;

/// The size of a region's header.
pub(crate) const HEADER_BYTES: usize = 64;
/// The version of the region's layout.
const REGION_VERSION: u16 = 1;
const MAGIC: u64 = u64::from_le_bytes(*b"ANNULNVM");

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawHeader {
    checksum: U64,
    magic: U64,
    disk_uuid: U128,
    cluster: U64,
    region_bytes: U64,
    incarnation: U32,
    node: U16,
    core: U16,
    version: U16,
    reserved: [u8; 6],
}

const _: () = assert!(size_of::<RawHeader>() == HEADER_BYTES);

/// The bytes at the front of a region.
pub(crate) fn encode(identity: &Identity, region_bytes: u64) -> [u8; HEADER_BYTES] {
    let mut raw = RawHeader {
        checksum: U64::ZERO,
        magic: U64::new(MAGIC),
        disk_uuid: U128::new(identity.disk_uuid),
        cluster: U64::new(identity.cluster.0),
        region_bytes: U64::new(region_bytes),
        incarnation: U32::new(identity.incarnation.0),
        node: U16::new(identity.node.0),
        core: U16::new(identity.core.0),
        version: U16::new(REGION_VERSION),
        reserved: [0; 6],
    };
    raw.checksum = U64::new(checksum(&raw.as_bytes()[size_of::<u64>()..]));
    zerocopy::transmute!(raw)
}

/// Refuses a region of another journal, size or version.
pub(crate) fn verify(
    bytes: &[u8; HEADER_BYTES],
    identity: &Identity,
    region_bytes: u64,
) -> Result<(), RegionError> {
    let raw: RawHeader = zerocopy::transmute!(*bytes);
    if raw.magic.get() != MAGIC {
        return Err(RegionError::Foreign("it does not begin with the mark of a region"));
    }
    if raw.checksum.get() != checksum(&bytes[size_of::<u64>()..]) {
        return Err(RegionError::Damaged("the checksum of its header does not match"));
    }
    if raw.version.get() != REGION_VERSION || raw.reserved != [0; 6] {
        return Err(RegionError::Foreign("it has another format version: use the matching build"));
    }
    let is_own = raw.disk_uuid.get() == identity.disk_uuid
        && raw.cluster.get() == identity.cluster.0
        && raw.incarnation.get() == identity.incarnation.0
        && raw.node.get() == identity.node.0
        && raw.core.get() == identity.core.0;
    if !is_own {
        return Err(RegionError::Foreign("it belongs to another journal"));
    }
    if raw.region_bytes.get() != region_bytes {
        return Err(RegionError::Damaged("its size is not the one that it was made with"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use annulus_rings::{ClusterId, CoreId, Incarnation, NodeId};

    use super::*;

    const IDENTITY: Identity = Identity {
        cluster: ClusterId(7),
        node: NodeId(1),
        core: CoreId(0),
        incarnation: Incarnation(1),
        disk_uuid: 99,
    };

    #[test]
    fn a_region_is_its_owners_and_nobody_elses() {
        let bytes = encode(&IDENTITY, 1 << 20);
        assert!(verify(&bytes, &IDENTITY, 1 << 20).is_ok());
        let other = Identity { disk_uuid: 98, ..IDENTITY };
        assert!(matches!(verify(&bytes, &other, 1 << 20), Err(RegionError::Foreign(_))));
        assert!(matches!(verify(&bytes, &IDENTITY, 1 << 19), Err(RegionError::Damaged(_))));
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_refused() {
        for bit in 0..HEADER_BYTES * 8 {
            let mut bytes = encode(&IDENTITY, 1 << 20);
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(verify(&bytes, &IDENTITY, 1 << 20).is_err(), "bit {bit}");
        }
    }
}
