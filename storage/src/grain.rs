//! What a device writes whole or not at all, and how a write that it tore is told from one that changed since.

use crate::block::{BLOCK_ALIGN_BYTES, BLOCK_HEADER_BYTES, SECTOR_BYTES, is_zero};

/// What a device writes whole or not at all.
///
/// Blocks are written onto zeros, so a part that did not arrive is zero. Each block therefore states how
/// empty it is, and one that is torn is emptier than it states; how much emptier it must be depends on what
/// one flipped bit could do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Grain {
    /// Sectors of 512 bytes: drives. Blocks are whole pages, and the header of each lies in one sector.
    Sector,
    /// Aligned words of 8 bytes: memory. Blocks are small, and a header can be torn like everything else.
    Word,
}

/// Where blocks start on memory. No smaller: it is what the media of non-volatile memory write at once.
const WORD_BLOCK_ALIGN_BYTES: usize = 256;
const WORD_BYTES: usize = 8;

const _: () = assert!(BLOCK_ALIGN_BYTES.is_multiple_of(WORD_BLOCK_ALIGN_BYTES));
const _: () = assert!(WORD_BLOCK_ALIGN_BYTES >= BLOCK_HEADER_BYTES);

impl Grain {
    /// Blocks start at multiples of this many bytes, and have as many.
    pub const fn block_align_bytes(self) -> usize {
        match self {
            Grain::Sector => BLOCK_ALIGN_BYTES,
            Grain::Word => WORD_BLOCK_ALIGN_BYTES,
        }
    }

    /// What stands at the front of a block, where nothing of it is absent: the rest may be.
    fn front_bytes(self) -> usize {
        match self {
            Grain::Sector => SECTOR_BYTES,
            Grain::Word => BLOCK_HEADER_BYTES,
        }
    }

    /// Whether nothing of a header arrived at the front of `page`.
    pub(crate) fn is_absent(self, page: &[u8]) -> bool {
        is_zero(&page[..self.front_bytes()])
    }

    /// How empty a block is behind its front.
    ///
    /// On drives, its sectors of zeros. On memory, two for each word of zeros and one for each word with a
    /// single bit: so a flipped bit changes it by one at most.
    pub(crate) fn emptiness(self, block: &[u8]) -> u32 {
        let behind = block.get(self.front_bytes()..).unwrap_or_default();
        match self {
            Grain::Sector => behind.chunks(SECTOR_BYTES).map(|sector| u32::from(is_zero(sector))).sum(),
            Grain::Word => {
                let (words, _) = behind.as_chunks::<WORD_BYTES>();
                words.iter().map(|word| word_emptiness(u64::from_le_bytes(*word))).sum()
            }
        }
    }

    /// Whether a block that states one emptiness and has another was torn: nothing else is that empty.
    ///
    /// A word that is missing and had one bit looks like a flipped bit. What is ambiguous counts as damage:
    /// a torn block was never acknowledged, but a damaged one may have been.
    pub(crate) fn is_torn(self, stated: u32, found: u32) -> bool {
        match self {
            Grain::Sector => found > stated,
            Grain::Word => found > stated.saturating_add(1),
        }
    }
}

fn word_emptiness(word: u64) -> u32 {
    u32::from(word == 0) + u32::from(word & word.wrapping_sub(1) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block() -> Vec<u8> {
        // Words of no bit, of one, and of several.
        let words = [0u64, 1, 0xff, 1 << 40, 0x8000_0000_0000_0001, 0, u64::MAX, 2];
        let mut block = vec![0xa5; BLOCK_HEADER_BYTES];
        block.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        block
    }

    #[test]
    fn no_flipped_bit_looks_torn() {
        let stated = Grain::Word.emptiness(&block());
        for bit in BLOCK_HEADER_BYTES * 8..block().len() * 8 {
            let mut flipped = block();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(!Grain::Word.is_torn(stated, Grain::Word.emptiness(&flipped)), "bit {bit}");
        }
    }

    #[test]
    fn every_set_of_missing_words_looks_torn_unless_it_is_one_flipped_bit() {
        let whole = block();
        let stated = Grain::Word.emptiness(&whole);
        let words = (whole.len() - BLOCK_HEADER_BYTES) / WORD_BYTES;
        for missing in 1..1u32 << words {
            let mut torn = whole.clone();
            for word in (0..words).filter(|word| missing & 1 << word != 0) {
                torn[BLOCK_HEADER_BYTES + word * WORD_BYTES..][..WORD_BYTES].fill(0);
            }
            let bits: u32 = torn.iter().zip(&whole).map(|(torn, whole)| (torn ^ whole).count_ones()).sum();
            let is_torn = Grain::Word.is_torn(stated, Grain::Word.emptiness(&torn));
            assert_eq!(is_torn, bits > 1, "{missing:b}: {bits} bits are missing");
        }
    }
}
