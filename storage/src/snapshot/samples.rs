//! Snapshots for tests.

use annulus_rings::{ClusterId, ConfigurationId, CoreId, Incarnation, NodeId, RingId, Slot};

use super::{
    MemoryVault, ShelvedSnapshot, SnapshotConfiguration, SnapshotError, SnapshotHeader, SnapshotWriting,
    Vault, VaultState,
};
use crate::identity::Identity;

/// Whose snapshots they are.
pub(crate) fn identity() -> Identity {
    Identity {
        cluster: ClusterId(7),
        node: NodeId(1),
        core: CoreId(0),
        incarnation: Incarnation(5),
        disk_uuid: 99,
    }
}

/// The same node's, or another one of the cluster.
pub(crate) fn identity_of(node: u16) -> Identity {
    Identity { node: NodeId(node), disk_uuid: 98 + u128::from(node), ..identity() }
}

pub(crate) fn header(ring: u32, slot: u64) -> SnapshotHeader {
    header_of(1, ring, slot)
}

pub(crate) fn header_of(node: u16, ring: u32, slot: u64) -> SnapshotHeader {
    let members = vec![NodeId(1), NodeId(2), NodeId(3)];
    SnapshotHeader {
        identity: identity_of(node),
        ring: RingId(ring),
        slot: Slot(slot),
        time_ns: 1_000_000 * slot,
        origin: NodeId(node),
        configuration: SnapshotConfiguration { id: ConfigurationId(4), first_slot: Slot(0), members },
        pending: None,
    }
}

/// Records of many sizes, the same for a count.
pub(crate) fn records(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|index| vec![index as u8; index * 7919 % 5000]).collect()
}

/// Writes a snapshot to its end, whatever that is.
pub(crate) fn write(
    vault: &mut impl Vault,
    header: SnapshotHeader,
    records: &[Vec<u8>],
) -> Result<ShelvedSnapshot, SnapshotError> {
    let mut writing = SnapshotWriting::begin(vault, 77, header);
    let mut records = records.iter();
    let mut completions = Vec::new();
    loop {
        vault.poll(&mut completions);
        for completion in completions.drain(..) {
            writing.on(vault, completion);
        }
        if let Some(outcome) = writing.outcome() {
            return outcome;
        }
        while writing.wants_records() > 0 {
            match records.next() {
                Some(record) => writing.record(vault, record),
                None => writing.finish(vault),
            }
        }
    }
}

/// The bytes of a snapshot as they lie in its file.
pub(crate) fn bytes(header: SnapshotHeader, records: &[Vec<u8>]) -> Vec<u8> {
    let mut vault = MemoryVault::new(1 << 30);
    let name = header.name();
    let written = write(&mut vault, header, records).expect("memory suffices");
    let mut bytes = vec![0; written.bytes as usize];
    assert_eq!(vault.read_at(name, VaultState::Published, 0, &mut bytes).unwrap(), bytes.len());
    bytes
}
