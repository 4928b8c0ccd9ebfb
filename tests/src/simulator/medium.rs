//! What a disk holds, sector by sector: durable, or only in its cache.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use annulus_storage::SECTOR_BYTES;

use crate::chaos::Random;

type Sector = [u8; SECTOR_BYTES];

/// One segment. Reads see the cache; a power failure takes it.
#[derive(Clone)]
pub(super) struct Medium {
    bytes: u64,
    /// Up to the last sector that was ever written; zeros behind.
    durable: Vec<u8>,
    cached: BTreeMap<u64, Box<Sector>>,
    /// Sectors that give an error instead of bytes, until they are written again.
    unreadable: BTreeSet<u64>,
}

impl Medium {
    /// A segment of zeros.
    pub(super) fn new(bytes: u64) -> Medium {
        Medium { bytes, durable: Vec::new(), cached: BTreeMap::new(), unreadable: BTreeSet::new() }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Fills `buffer` with what a read from `offset` on sees.
    pub(super) fn read(&self, offset: u64, buffer: &mut [u8]) {
        let held = self.durable.get(offset as usize..).unwrap_or_default();
        let held = &held[..held.len().min(buffer.len())];
        buffer[..held.len()].copy_from_slice(held);
        buffer[held.len()..].fill(0);
        let sector_bytes = SECTOR_BYTES as u64;
        let (first, end) = (offset / sector_bytes, (offset + buffer.len() as u64).div_ceil(sector_bytes));
        for (sector, bytes) in self.cached.range(first..end) {
            // Reads start at sectors and may end inside of one.
            let start = (sector * sector_bytes - offset) as usize;
            let count = SECTOR_BYTES.min(buffer.len() - start);
            buffer[start..start + count].copy_from_slice(&bytes[..count]);
        }
    }

    /// Whether a read of `bytes` bytes from `offset` on meets a sector that cannot be read.
    pub(super) fn is_unreadable(&self, offset: u64, bytes: u64) -> bool {
        let sector_bytes = SECTOR_BYTES as u64;
        let asked = offset / sector_bytes..(offset + bytes).div_ceil(sector_bytes);
        self.unreadable.range(asked).next().is_some()
    }

    /// These sectors cannot be read from now on.
    pub(super) fn make_unreadable(&mut self, sectors: Range<u64>) {
        self.unreadable.extend(sectors);
    }

    /// So many bits of a durable sector flip. One that held something never becomes zeros by that.
    pub(super) fn rot(&mut self, sector: u64, flips: u64, random: &mut Random) {
        let mut bytes = [0; SECTOR_BYTES];
        let start = sector as usize * SECTOR_BYTES;
        let held = self.durable.get(start..).unwrap_or_default();
        let held = &held[..held.len().min(SECTOR_BYTES)];
        bytes[..held.len()].copy_from_slice(held);
        let mut bits: Vec<usize> =
            (0..flips).map(|_| random.below(8 * SECTOR_BYTES as u64) as usize).collect();
        bits.sort_unstable();
        bits.dedup();
        for bit in bits {
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        if bytes == [0; SECTOR_BYTES] {
            bytes[0] = 1;
        }
        self.store(sector, &bytes);
    }

    /// Whether a read from `offset` on sees `expected`.
    pub(super) fn holds(&self, offset: u64, expected: &[u8]) -> bool {
        let mut seen = vec![0; expected.len()];
        self.read(offset, &mut seen);
        seen == expected
    }

    /// A write that is durable, whole.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        for (sector, bytes) in sectors(offset, bytes) {
            self.cached.remove(&sector);
            self.persist(sector, bytes);
        }
    }

    /// A write of which `arrives` tells, for each sector, whether it came as far as the cache.
    pub(super) fn write_torn(&mut self, offset: u64, bytes: &[u8], mut arrives: impl FnMut() -> bool) {
        for (sector, bytes) in sectors(offset, bytes) {
            if arrives() {
                self.unreadable.remove(&sector);
                self.cached.insert(sector, Box::new(*bytes));
            }
        }
    }

    /// Makes the cache durable.
    pub(super) fn sync(&mut self) {
        for (sector, bytes) in std::mem::take(&mut self.cached) {
            self.persist(sector, &bytes);
        }
    }

    /// Makes some of the cache durable; the rest stays where it is.
    pub(super) fn sync_some(&mut self, random: &mut Random) {
        for (sector, bytes) in std::mem::take(&mut self.cached) {
            if random.permille(500) {
                self.persist(sector, &bytes);
            } else {
                self.cached.insert(sector, bytes);
            }
        }
    }

    /// The power fails: of the cache some sectors are durable already, the others are lost.
    pub(super) fn lose_power(&mut self, random: &mut Random) {
        for (sector, bytes) in std::mem::take(&mut self.cached) {
            if random.permille(500) {
                self.persist(sector, &bytes);
            }
        }
    }

    fn persist(&mut self, sector: u64, bytes: &Sector) {
        self.unreadable.remove(&sector);
        self.store(sector, bytes);
    }

    fn store(&mut self, sector: u64, bytes: &Sector) {
        let start = sector as usize * SECTOR_BYTES;
        if self.durable.len() < start + SECTOR_BYTES {
            self.durable.resize(start + SECTOR_BYTES, 0);
        }
        self.durable[start..start + SECTOR_BYTES].copy_from_slice(bytes);
    }
}

/// The sectors of a write, which starts and ends at sectors.
fn sectors(offset: u64, bytes: &[u8]) -> impl Iterator<Item = (u64, &Sector)> {
    let (sectors, rest) = bytes.as_chunks::<SECTOR_BYTES>();
    assert!(rest.is_empty() && offset.is_multiple_of(SECTOR_BYTES as u64), "writes are of whole sectors");
    let first = offset / SECTOR_BYTES as u64;
    sectors.iter().enumerate().map(move |(index, bytes)| (first + index as u64, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_seen_by_reads_and_lost_with_the_power_unless_synced() {
        let mut medium = Medium::new(8192);
        medium.write(0, &[1; 1024]);
        medium.write_torn(512, &[2; 1024], || true);
        assert!(medium.holds(0, &[1; 512]) && medium.holds(512, &[2; 1024]));
        let mut lost = 0;
        for seed in 0..20 {
            let mut copy = Medium {
                bytes: 8192,
                durable: medium.durable.clone(),
                cached: medium.cached.clone(),
                unreadable: BTreeSet::new(),
            };
            copy.lose_power(&mut Random::new(seed));
            lost += u32::from(!copy.holds(512, &[2; 1024]));
            assert!(copy.holds(0, &[1; 512]));
        }
        assert!(lost > 5);
        medium.sync();
        medium.lose_power(&mut Random::new(1));
        assert!(medium.holds(512, &[2; 1024]) && medium.holds(1536, &[0; 512]));
    }

    #[test]
    fn a_sector_is_unreadable_until_it_is_written_again() {
        let mut medium = Medium::new(8192);
        medium.write(0, &[1; 2048]);
        medium.make_unreadable(1..3);
        assert!(medium.is_unreadable(0, 4096) && medium.is_unreadable(1000, 30));
        assert!(!medium.is_unreadable(0, 512) && !medium.is_unreadable(1536, 512));
        medium.write_torn(512, &[2; 512], || true);
        medium.write(1024, &[3; 512]);
        assert!(!medium.is_unreadable(0, 4096));
    }

    #[test]
    fn rotten_sectors_change_and_never_become_zeros() {
        for seed in 0..100 {
            let mut medium = Medium::new(8192);
            let mut sector = [0; SECTOR_BYTES];
            sector[5] = 1;
            medium.write(0, &sector);
            medium.rot(0, 1 + seed % 3, &mut Random::new(seed));
            assert!(!medium.holds(0, &[0; SECTOR_BYTES]) && !medium.holds(0, &sector));
        }
    }
}
