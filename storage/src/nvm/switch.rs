//! A boolean whose corruption is detected: one word that names one of two copies.

use annulus_rings::mutant;

/// One of two copies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    First,
    Second,
}

/// The two values that a switch may have. They differ in every bit: no fewer than 64 flipped bits turn one
/// into the other, and any other value is damage.
const FIRST: u64 = 0x9d3c_5a17_e682_4bf0;
const SECOND: u64 = !FIRST;

const _: () = assert!((FIRST ^ SECOND).count_ones() == u64::BITS);

impl Side {
    /// The side that a word names; none where it is damaged.
    pub(crate) fn decode(word: u64) -> Option<Side> {
        match word {
            FIRST => Some(Side::First),
            SECOND => Some(Side::Second),
            _ if mutant!(SWITCH_OF_ANY_VALUE) => Some(Side::Second),
            _ => None,
        }
    }

    /// The word that names it.
    pub(crate) fn encode(self) -> u64 {
        match self {
            Side::First => FIRST,
            Side::Second => SECOND,
        }
    }

    /// The other one.
    pub(crate) fn other(self) -> Side {
        match self {
            Side::First => Side::Second,
            Side::Second => Side::First,
        }
    }

    /// Its number, 0 or 1.
    pub(crate) fn index(self) -> u64 {
        u64::from(self == Side::Second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_two_words_are_a_side() {
        for side in [Side::First, Side::Second] {
            assert_eq!(Side::decode(side.encode()), Some(side));
            for bit in 0..u64::BITS {
                assert_eq!(Side::decode(side.encode() ^ 1 << bit), None, "bit {bit}");
            }
        }
        assert_eq!((Side::decode(0), Side::decode(1)), (None, None));
    }
}
