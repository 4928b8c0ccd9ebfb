//! The header of a snapshot: whose file it is, and of what.
//!
//! ```text
//!   0  checksum        u64   CRC-64/NVME of bytes 8..512
//!   8  magic           u64   "ANNULSNP"
//!  16  disk_uuid       u128  of the disk that holds the file
//!  32  cluster         u64
//!  40  slot            u64   the first slot that is not covered
//!  48  time_ns         u64   the replicated time at that slot
//!  56  sessions_bytes  u64   0: there are no sessions yet
//!  64  ring            u32
//!  68  incarnation     u32   of the disk
//!  72  node            u16   that holds the file
//!  74  core            u16   of that node
//!  76  version         u16
//!  78  origin          u16   the node that wrote the state; a copy of its snapshot keeps it
//!  80  reserved        16    zero
//!  96  current         144   the configuration that owns the slot
//! 240  pending         144   the one that was decided to follow, or zero
//! 384  reserved        128   zero
//! 512  the first block
//!
//! a configuration:
//!   0  id              u32
//!   4  members         u16   how many
//!   6  reserved        u16   zero
//!   8  first_slot      u64
//!  16  member ids      63 × u16
//! 142  reserved        u16   zero
//! ```
//! All numbers are little-endian. The header lies in one sector. What a peer receives differs from the
//! sender's file in the fields of the disk and node only, so offsets are the same in every copy.

use annulus_rings::frame::checksum;
use annulus_rings::{ClusterId, ConfigurationId, CoreId, Incarnation, NodeId, RingId, Slot, mutant};
use zerocopy::little_endian::{U16, U32, U64, U128};
use zerocopy::{FromBytes, FromZeros as _, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::error::SnapshotError;
use super::vault::SnapshotName;
use crate::identity::Identity;

/// The version of the layout of snapshots.
pub const SNAPSHOT_VERSION: u16 = 1;
/// The size of the header.
pub const SNAPSHOT_HEADER_BYTES: usize = 512;

const MAGIC: u64 = u64::from_le_bytes(*b"ANNULSNP");
/// As many as a configuration has.
const MEMBERS_MAX: usize = 63;

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawConfiguration {
    id: U32,
    count: U16,
    reserved: U16,
    first_slot: U64,
    members: [U16; MEMBERS_MAX],
    reserved_behind: U16,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawHeader {
    checksum: U64,
    magic: U64,
    disk_uuid: U128,
    cluster: U64,
    slot: U64,
    time_ns: U64,
    sessions_bytes: U64,
    ring: U32,
    incarnation: U32,
    node: U16,
    core: U16,
    version: U16,
    origin: U16,
    reserved: [u8; 16],
    current: RawConfiguration,
    pending: RawConfiguration,
    reserved_behind: [u8; 128],
}

const _: () = assert!(size_of::<RawConfiguration>() == 144);
const _: () = assert!(size_of::<RawHeader>() == SNAPSHOT_HEADER_BYTES);
const _: () = assert!(SNAPSHOT_HEADER_BYTES <= crate::block::SECTOR_BYTES);

/// The members that own the slots from one on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SnapshotConfiguration {
    /// Its generation.
    pub id: ConfigurationId,
    /// The first slot that it owns.
    pub first_slot: Slot,
    /// Its members, ascending: 1 to 63.
    pub members: Vec<NodeId>,
}

/// Whose snapshot it is, and of what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SnapshotHeader {
    /// The disk and core that hold the file.
    pub identity: Identity,
    /// The ring whose state it is.
    pub ring: RingId,
    /// The first slot that is not covered: the state is that of the slots before it.
    pub slot: Slot,
    /// The replicated time at that slot, in nanoseconds.
    pub time_ns: u64,
    /// The node that wrote the state. A copy that a peer received keeps it.
    pub origin: NodeId,
    /// The configuration that owns the slot.
    pub configuration: SnapshotConfiguration,
    /// The configuration that was decided to follow, if one was.
    pub pending: Option<SnapshotConfiguration>,
}

/// What a reader takes for its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expected {
    /// A file of this disk and core.
    Own(Identity),
    /// A file of any node of the cluster: one that a peer sends.
    Cluster(ClusterId),
    /// Any file at all, for inspection.
    Anyone,
}

impl SnapshotHeader {
    /// The name of the file.
    pub fn name(&self) -> SnapshotName {
        SnapshotName { ring: self.ring, slot: self.slot }
    }

    /// The header of a copy that `identity` holds.
    #[must_use]
    pub fn copied_to(&self, identity: Identity) -> SnapshotHeader {
        SnapshotHeader { identity, ..self.clone() }
    }

    /// The bytes at the front of the file.
    pub fn encode(&self) -> [u8; SNAPSHOT_HEADER_BYTES] {
        let mut raw = RawHeader {
            checksum: U64::ZERO,
            magic: U64::new(MAGIC),
            disk_uuid: U128::new(self.identity.disk_uuid),
            cluster: U64::new(self.identity.cluster.0),
            slot: U64::new(self.slot.0),
            time_ns: U64::new(self.time_ns),
            sessions_bytes: U64::ZERO,
            ring: U32::new(self.ring.0),
            incarnation: U32::new(self.identity.incarnation.0),
            node: U16::new(self.identity.node.0),
            core: U16::new(self.identity.core.0),
            version: U16::new(SNAPSHOT_VERSION),
            origin: U16::new(self.origin.0),
            reserved: [0; 16],
            current: RawConfiguration::of(Some(&self.configuration)),
            pending: RawConfiguration::of(self.pending.as_ref()),
            reserved_behind: [0; 128],
        };
        raw.checksum = U64::new(checksum(&raw.as_bytes()[size_of::<u64>()..]));
        zerocopy::transmute!(raw)
    }

    /// Reads the first [`SNAPSHOT_HEADER_BYTES`] of a file.
    ///
    /// # Errors
    /// It is damaged, of another version, or not what is `expected`.
    pub fn decode(bytes: &[u8], expected: &Expected) -> Result<SnapshotHeader, SnapshotError> {
        let damaged = |why| SnapshotError::Damaged { offset: 0, why };
        let (raw, _) = RawHeader::ref_from_prefix(bytes).map_err(|_| SnapshotError::CutOff { offset: 0 })?;
        if raw.magic.get() != MAGIC {
            return Err(damaged("this is not a snapshot"));
        }
        let sum = checksum(&raw.as_bytes()[size_of::<u64>()..]);
        if raw.checksum.get() != sum && !mutant!(SNAPSHOT_HEADER_UNVERIFIED) {
            return Err(damaged("the checksum of the header does not match"));
        }
        if raw.version.get() != SNAPSHOT_VERSION {
            return Err(SnapshotError::Version { found: raw.version.get(), expected: SNAPSHOT_VERSION });
        }
        if raw.reserved != [0; 16] || raw.reserved_behind != [0; 128] || raw.sessions_bytes.get() != 0 {
            return Err(damaged("reserved bytes of the header are not zero"));
        }
        let wrong = "a configuration in the header makes no sense";
        let configuration = raw.current.read().map_err(|()| damaged(wrong))?;
        let header = SnapshotHeader {
            identity: Identity {
                cluster: ClusterId(raw.cluster.get()),
                node: NodeId(raw.node.get()),
                core: CoreId(raw.core.get()),
                incarnation: Incarnation(raw.incarnation.get()),
                disk_uuid: raw.disk_uuid.get(),
            },
            ring: RingId(raw.ring.get()),
            slot: Slot(raw.slot.get()),
            time_ns: raw.time_ns.get(),
            origin: NodeId(raw.origin.get()),
            configuration: configuration.ok_or_else(|| damaged(wrong))?,
            pending: raw.pending.read().map_err(|()| damaged(wrong))?,
        };
        header.check(expected)?;
        Ok(header)
    }

    fn check(&self, expected: &Expected) -> Result<(), SnapshotError> {
        let foreign = |why| Err(SnapshotError::Foreign { why });
        let cluster = match expected {
            Expected::Own(identity) => identity.cluster,
            Expected::Cluster(cluster) => *cluster,
            Expected::Anyone => return Ok(()),
        };
        if self.identity.cluster != cluster {
            return foreign("it belongs to another cluster");
        }
        match expected {
            Expected::Own(own) if own.node != self.identity.node => foreign("it belongs to another node"),
            Expected::Own(own) if *own != self.identity => {
                foreign("it was written to another disk or core of this node")
            }
            _ => Ok(()),
        }
    }

    /// What the first block chains to: the same in every copy, and another for any other state.
    pub(crate) fn seed(&self) -> u64 {
        let cluster = self.identity.cluster;
        let nobody =
            Identity { cluster, node: NodeId(0), core: CoreId(0), incarnation: Incarnation(0), disk_uuid: 0 };
        checksum(&self.copied_to(nobody).encode())
    }
}

impl RawConfiguration {
    fn of(configuration: Option<&SnapshotConfiguration>) -> RawConfiguration {
        let mut raw = RawConfiguration::new_zeroed();
        if let Some(SnapshotConfiguration { id, first_slot, members }) = configuration {
            assert!((1..=MEMBERS_MAX).contains(&members.len()), "a configuration has 1 to 63 members");
            raw.id = U32::new(id.0);
            raw.count = U16::new(members.len() as u16);
            raw.first_slot = U64::new(first_slot.0);
            for (raw, member) in raw.members.iter_mut().zip(members) {
                *raw = U16::new(member.0);
            }
        }
        raw
    }

    /// The configuration, or none where there are only zeros.
    fn read(&self) -> Result<Option<SnapshotConfiguration>, ()> {
        if self.as_bytes().iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let (members, rest) = self.members.split_at_checked(usize::from(self.count.get())).ok_or(())?;
        let is_ascending = members.windows(2).all(|pair| pair[0].get() < pair[1].get());
        let is_named = members.first().is_some_and(|first| first.get() != 0);
        let is_zero = self.reserved.get() == 0 && self.reserved_behind.get() == 0;
        if !is_ascending || !is_named || !is_zero || rest.iter().any(|member| member.get() != 0) {
            return Err(());
        }
        Ok(Some(SnapshotConfiguration {
            id: ConfigurationId(self.id.get()),
            first_slot: Slot(self.first_slot.get()),
            members: members.iter().map(|member| NodeId(member.get())).collect(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::samples::{header, identity};

    #[test]
    fn a_header_decodes_to_what_was_encoded() {
        let mut header = header(3, 77);
        let own = Expected::Own(identity());
        assert_eq!(SnapshotHeader::decode(&header.encode(), &own).unwrap(), header);
        let members = vec![NodeId(4), NodeId(5)];
        header.pending =
            Some(SnapshotConfiguration { id: ConfigurationId(9), first_slot: Slot(90), members });
        assert_eq!(SnapshotHeader::decode(&header.encode(), &own).unwrap(), header);
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_refused() {
        let encoded = header(3, 77).encode();
        for bit in 0..encoded.len() * 8 {
            let mut bytes = encoded;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(SnapshotHeader::decode(&bytes, &Expected::Anyone).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_file_of_another_cluster_node_disk_or_core_is_foreign() {
        let refused = |change: fn(&mut Identity), why: &str| {
            let mut header = header(3, 77);
            change(&mut header.identity);
            let error = SnapshotHeader::decode(&header.encode(), &Expected::Own(identity())).unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        };
        refused(|identity| identity.cluster.0 += 1, "another cluster");
        refused(|identity| identity.node.0 += 1, "another node");
        refused(|identity| identity.disk_uuid += 1, "another disk");
        refused(|identity| identity.core.0 += 1, "another disk or core");
        let mut peer = header(3, 77);
        peer.identity.node.0 += 1;
        let expected = Expected::Cluster(identity().cluster);
        assert!(SnapshotHeader::decode(&peer.encode(), &expected).is_ok(), "a peer may send it");
    }

    #[test]
    fn a_copy_chains_like_the_original_and_another_state_does_not() {
        let header = header(3, 77);
        let mut elsewhere = identity();
        elsewhere.node = NodeId(9);
        assert_eq!(header.copied_to(elsewhere).seed(), header.seed());
        assert_ne!(SnapshotHeader { slot: Slot(78), ..header.clone() }.seed(), header.seed());
        assert_ne!(SnapshotHeader { origin: NodeId(9), ..header.clone() }.seed(), header.seed());
    }
}
