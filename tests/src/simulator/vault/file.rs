//! A file of a vault: what reads see of it, what a power failure leaves, and how sure its name is.

use annulus_storage::SECTOR_BYTES;

use crate::chaos::Random;

/// See the module.
#[derive(Clone, Default)]
pub(super) struct File {
    /// What reads see.
    pub(super) bytes: Vec<u8>,
    /// What was synced last.
    durable: Vec<u8>,
    pub(super) name: Name,
    /// Bits of it flipped.
    pub(super) is_rotten: bool,
}

/// How sure the name of a file is before the directory is synced.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) enum Name {
    /// The file is new: it may be gone after a power failure.
    #[default]
    New,
    /// It was published: it may have its earlier name again.
    Renamed,
    /// It keeps its name.
    Sure,
}

impl File {
    pub(super) fn truncate(&mut self, bytes: u64) {
        self.bytes.truncate(bytes as usize);
    }

    /// A write, of which the first `arrived` bytes arrive.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        let start = offset as usize;
        let end = start + bytes.len();
        self.bytes.resize(self.bytes.len().max(end), 0);
        self.bytes[start..end].copy_from_slice(bytes);
    }

    /// At most `bytes_max` bytes from `offset` on.
    pub(super) fn read(&self, offset: u64, bytes_max: usize) -> &[u8] {
        let rest = self.bytes.get(offset as usize..).unwrap_or_default();
        &rest[..rest.len().min(bytes_max)]
    }

    pub(super) fn sync(&mut self) {
        self.durable.clone_from(&self.bytes);
    }

    /// A bit flips.
    pub(super) fn rot(&mut self, random: &mut Random) {
        let bit = random.below(8 * self.bytes.len() as u64) as usize;
        for bytes in [&mut self.bytes, &mut self.durable] {
            bytes.get_mut(bit / 8).into_iter().for_each(|byte| *byte ^= 1 << (bit % 8));
        }
        self.is_rotten = true;
    }

    /// The power fails: what was written since the last sync is there, or gone, or there in part.
    pub(super) fn lose_power(&mut self, random: &mut Random) {
        if self.bytes == self.durable {
            return;
        }
        let share = random.pick(&[0, 500, 1000]);
        let longer = self.bytes.len().max(self.durable.len());
        let bytes = if random.permille(share) { self.bytes.len() } else { self.durable.len() };
        let mut left = vec![0; longer];
        for start in (0..longer).step_by(SECTOR_BYTES) {
            let source = if random.permille(share) { &self.bytes } else { &self.durable };
            let sector = source.get(start..).unwrap_or_default();
            let sector = &sector[..sector.len().min(SECTOR_BYTES)];
            left[start..start + sector.len()].copy_from_slice(sector);
        }
        left.truncate(bytes);
        self.durable.clone_from(&left);
        self.bytes = left;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_synced_stays_and_the_rest_may_go() {
        let mut file = File::default();
        file.write(0, &[1; 1000]);
        file.sync();
        file.write(1000, &[2; 3000]);
        let mut sizes = std::collections::BTreeSet::new();
        for seed in 0..50 {
            let mut left = file.clone();
            left.lose_power(&mut Random::new(seed));
            assert_eq!(left.read(0, 512), [1; 512]);
            assert!(left.bytes.len() == 1000 || left.bytes.len() == 4000);
            let second: usize = left.bytes[1000..].iter().map(|byte| usize::from(*byte == 2)).sum();
            sizes.insert((left.bytes.len(), second));
        }
        assert!(sizes.contains(&(1000, 0)) && sizes.contains(&(4000, 3000)) && sizes.len() > 5, "{sizes:?}");
        file.sync();
        let before = file.bytes.clone();
        file.lose_power(&mut Random::new(1));
        assert_eq!(file.bytes, before);
    }
}
