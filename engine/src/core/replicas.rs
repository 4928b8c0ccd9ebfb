//! The rings of a core: found by id once per frame, touched by index from then on.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use annulus_rings::RingId;

use super::replica::Replica;

/// All replicas of a core, and which of them had something happen in this turn.
#[derive(Default)]
pub(crate) struct Replicas {
    all: Vec<Replica>,
    index: HashMap<RingId, u32, BuildHasherDefault<RingHasher>>,
    active: Vec<u32>,
    last_found: Option<(RingId, u32)>,
}

impl Replicas {
    /// Adds a replica and tells its index, which never changes.
    pub(crate) fn add(&mut self, replica: Replica) -> usize {
        let index = self.all.len();
        self.index.insert(replica.id(), index as u32);
        self.all.push(replica);
        index
    }

    /// Where the ring is. The one asked for last is found without a look at the map.
    pub(crate) fn find(&mut self, ring: RingId) -> Option<usize> {
        if let Some((id, index)) = self.last_found
            && id == ring
        {
            return Some(index as usize);
        }
        let index = *self.index.get(&ring)?;
        self.last_found = Some((ring, index));
        Some(index as usize)
    }

    /// Something happens to the replica in this turn.
    pub(crate) fn activate(&mut self, index: usize) {
        if !self.all[index].active {
            self.all[index].active = true;
            self.active.push(index as u32);
        }
    }

    /// How many replicas had something happen.
    pub(crate) fn active_count(&self) -> usize {
        self.active.len()
    }

    /// The index of the active replica at `position`.
    pub(crate) fn active_at(&self, position: usize) -> usize {
        self.active[position] as usize
    }

    /// Asks of each active replica whether it stays active in the next turn.
    pub(crate) fn settle(&mut self, mut stays: impl FnMut(usize, &mut Replica) -> bool) {
        let all = &mut self.all;
        self.active.retain(|&index| {
            let replica = &mut all[index as usize];
            replica.active = stays(index as usize, replica);
            replica.active
        });
    }

    /// How many replicas there are.
    pub(crate) fn count(&self) -> usize {
        self.all.len()
    }

    /// The rings, in the order in which they were added.
    pub(crate) fn ids(&self) -> impl Iterator<Item = RingId> {
        self.all.iter().map(Replica::id)
    }

    /// Every replica.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Replica> {
        self.all.iter_mut()
    }
}

impl std::ops::Index<usize> for Replicas {
    type Output = Replica;

    fn index(&self, index: usize) -> &Replica {
        &self.all[index]
    }
}

impl std::ops::IndexMut<usize> for Replicas {
    fn index_mut(&mut self, index: usize) -> &mut Replica {
        &mut self.all[index]
    }
}

/// Ring ids are small numbers of the operator's choosing: one multiplication spreads them.
#[derive(Default)]
struct RingHasher(u64);

impl Hasher for RingHasher {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u32(u32::from(byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.0 = (self.0 ^ u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0.rotate_left(32)
    }
}
