//! Which snapshots there are, and which may go.

use std::collections::{BTreeMap, BTreeSet};

use annulus_rings::{RingId, Slot, ensures, mutant};

use super::decoder::{SnapshotDecoder, SnapshotPart};
use super::error::SnapshotError;
use super::header::{Expected, SNAPSHOT_HEADER_BYTES, SnapshotHeader};
use super::vault::{SnapshotName, Vault, VaultFile, VaultOperation, VaultState};
use crate::identity::Identity;

/// A snapshot that is durable and whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ShelvedSnapshot {
    /// Whose, and of what.
    pub header: SnapshotHeader,
    /// The size of the file.
    pub bytes: u64,
}

/// The snapshots of one core: those of each ring, newest first.
///
/// It keeps the newest `kept_max` of each ring, and those that somebody [`hold`](Self::hold)s. What is beyond,
/// [`tidy`](Self::tidy) removes, damaged ones too once there are enough sound newer ones.
pub struct SnapshotShelf {
    kept_max: usize,
    /// Ascending by ring, then by slot.
    sound: BTreeMap<SnapshotName, Shelved>,
    /// Published under a name and of no use.
    unsound: BTreeSet<SnapshotName>,
    partials: BTreeMap<SnapshotName, u64>,
}

struct Shelved {
    snapshot: ShelvedSnapshot,
    holders: usize,
}

/// A file that is not used, and why.
#[derive(Debug)]
pub struct RefusedSnapshot {
    /// The file.
    pub file: VaultFile,
    /// What is wrong with it.
    pub error: SnapshotError,
}

impl SnapshotShelf {
    /// At start, may block: looks at the header of every file of `identity`'s vault. Partial files that nobody
    /// can go on with are asked to be removed under `token`; the completions are of no account.
    ///
    /// Published files whose header cannot be read, is damaged or foreign are not used, and are returned: the
    /// operator should know. That the blocks are sound too shows only when a snapshot is read.
    ///
    /// # Errors
    /// The vault cannot be listed.
    pub fn open<V: Vault>(
        vault: &mut V,
        token: u64,
        identity: &Identity,
        kept_max: usize,
    ) -> Result<(SnapshotShelf, Vec<RefusedSnapshot>), SnapshotError> {
        let mut shelf = SnapshotShelf {
            kept_max: kept_max.max(1),
            sound: BTreeMap::new(),
            unsound: BTreeSet::new(),
            partials: BTreeMap::new(),
        };
        let mut refused = Vec::new();
        for file in vault.list().map_err(SnapshotError::io("listing snapshots"))? {
            let VaultFile { name, state, bytes } = file;
            match (state, read_header(vault, &file, identity)) {
                (VaultState::Published, Ok(header)) => shelf.add(ShelvedSnapshot { header, bytes }),
                (VaultState::Published, Err(error)) => {
                    shelf.unsound.insert(name);
                    refused.push(RefusedSnapshot { file, error });
                }
                // What this node was writing itself died with the state that it was written from.
                (VaultState::Partial, Ok(header)) if header.origin != identity.node => {
                    shelf.partials.insert(name, bytes);
                }
                (VaultState::Partial, _) => vault.submit(token, VaultOperation::Remove { name, state }),
            }
        }
        Ok((shelf, refused))
    }

    /// The snapshots of a ring, newest first.
    pub fn snapshots(&self, ring: RingId) -> impl Iterator<Item = &ShelvedSnapshot> {
        self.of_ring(ring).rev().map(|shelved| &shelved.snapshot)
    }

    /// The newest snapshot of a ring.
    pub fn newest(&self, ring: RingId) -> Option<&ShelvedSnapshot> {
        let newest = if mutant!(OLDER_SNAPSHOT_PREFERRED) {
            self.of_ring(ring).next().map(|shelved| &shelved.snapshot)
        } else {
            self.snapshots(ring).next()
        };
        ensures!(
            T2,
            newest.is_none_or(|newest| self
                .snapshots(ring)
                .all(|other| other.header.slot <= newest.header.slot))
        );
        newest
    }

    /// The snapshot of that name.
    pub fn snapshot(&self, name: SnapshotName) -> Option<&ShelvedSnapshot> {
        self.sound.get(&name).map(|shelved| &shelved.snapshot)
    }

    /// Slots of a ring's partial files that a peer's snapshot can be received into, with the sizes of the files.
    pub fn partials(&self, ring: RingId) -> impl Iterator<Item = (Slot, u64)> {
        self.partials.range(range(ring)).map(|(name, bytes)| (name.slot, *bytes))
    }

    /// Bytes of all snapshots together, partial ones aside.
    pub fn bytes(&self) -> u64 {
        self.sound.values().map(|shelved| shelved.snapshot.bytes).sum()
    }

    /// A snapshot was published: the outcome of writing or receiving it.
    pub fn add(&mut self, snapshot: ShelvedSnapshot) {
        let name = snapshot.header.name();
        self.partials.remove(&name);
        self.unsound.remove(&name);
        let holders = self.sound.get(&name).map_or(0, |shelved| shelved.holders);
        self.sound.insert(name, Shelved { snapshot, holders });
    }

    /// Reading showed that a snapshot is damaged: it is used no more.
    pub fn found_damaged(&mut self, name: SnapshotName) {
        if self.sound.remove(&name).is_some() {
            self.unsound.insert(name);
        }
    }

    /// A partial file was left by a reception that ended before its snapshot was whole: it holds `bytes`.
    pub fn left_partial(&mut self, name: SnapshotName, bytes: u64) {
        self.partials.insert(name, bytes);
    }

    /// Keeps a snapshot, whatever its age, until it was released as often: it is being sent.
    pub fn hold(&mut self, name: SnapshotName) {
        if let Some(shelved) = self.sound.get_mut(&name) {
            shelved.holders += 1;
        }
    }

    /// Ends a [`hold`](Self::hold).
    pub fn release(&mut self, name: SnapshotName) {
        if let Some(shelved) = self.sound.get_mut(&name) {
            shelved.holders = shelved.holders.saturating_sub(1);
        }
    }

    /// Asks the vault, under `token`, to remove what a ring needs no more: snapshots older than the newest
    /// `kept_max`, and damaged and partial files that a newer snapshot makes useless. Returns how many. The
    /// completions are of no account: what could not be removed is found again by the next
    /// [`open`](Self::open).
    pub fn tidy(&mut self, vault: &mut impl Vault, token: u64, ring: RingId) -> usize {
        let kept = |(index, shelved): &(usize, &Shelved)| *index >= self.kept_max && shelved.holders == 0;
        let old = self.of_ring(ring).rev().enumerate().filter(kept);
        let old: Vec<SnapshotName> = old.map(|(_, shelved)| shelved.snapshot.header.name()).collect();
        for name in &old {
            self.sound.remove(name);
            vault.submit(token, VaultOperation::Remove { name: *name, state: VaultState::Published });
        }
        old.len() + self.tidy_unsound(vault, token, ring) + self.tidy_partials(vault, token, ring)
    }

    /// A damaged file may be of use to a person as long as there are not enough sound ones.
    fn tidy_unsound(&mut self, vault: &mut impl Vault, token: u64, ring: RingId) -> usize {
        let Some(oldest) = self.snapshots(ring).nth(self.kept_max - 1) else { return 0 };
        let below = range(ring).start..oldest.header.name();
        let names: Vec<SnapshotName> = self.unsound.range(below).copied().collect();
        for name in &names {
            self.unsound.remove(name);
            vault.submit(token, VaultOperation::Remove { name: *name, state: VaultState::Published });
        }
        names.len()
    }

    fn tidy_partials(&mut self, vault: &mut impl Vault, token: u64, ring: RingId) -> usize {
        let Some(newest) = self.newest(ring) else { return 0 };
        let below = range(ring).start..newest.header.name();
        let names: Vec<SnapshotName> = self.partials.range(below).map(|(name, _)| *name).collect();
        for name in &names {
            self.partials.remove(name);
            vault.submit(token, VaultOperation::Remove { name: *name, state: VaultState::Partial });
        }
        names.len()
    }

    fn of_ring(&self, ring: RingId) -> impl DoubleEndedIterator<Item = &Shelved> {
        self.sound.range(range(ring)).map(|(_, shelved)| shelved)
    }
}

/// The names of a ring's snapshots. No state is that of all slots, so the last name is never used.
fn range(ring: RingId) -> std::ops::Range<SnapshotName> {
    SnapshotName { ring, slot: Slot(0) }..SnapshotName { ring, slot: Slot(u64::MAX) }
}

/// The header of a file, or what is wrong with it.
fn read_header<V: Vault>(
    vault: &mut V,
    file: &VaultFile,
    identity: &Identity,
) -> Result<SnapshotHeader, SnapshotError> {
    let mut buffer = [0; SNAPSHOT_HEADER_BYTES];
    let read = vault.read_at(file.name, file.state, 0, &mut buffer);
    let bytes = read.map_err(SnapshotError::io("reading the header of a snapshot"))?;
    let mut decoder = SnapshotDecoder::new(Expected::Own(*identity), Some(file.name));
    decoder.push(&buffer[..bytes]);
    match decoder.advance()? {
        SnapshotPart::Header => Ok(decoder.header().expect("it was verified now").clone()),
        _ => Err(SnapshotError::CutOff { offset: 0 }),
    }
}
