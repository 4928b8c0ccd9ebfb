//! Numbers from a seed: `SplitMix64`, the same on every machine.

use std::time::Duration;

/// A sequence of numbers that a seed determines.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The sequence of a seed.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// A sequence of its own for each name: what is drawn from one does not change the others.
    pub fn named(seed: u64, name: &str) -> Random {
        let mixed = name.bytes().fold(seed, |mixed, byte| Random(mixed ^ u64::from(byte)).number());
        Random(mixed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 when that is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        let number = self.number();
        number.checked_rem(bound).unwrap_or(0)
    }

    /// True so many times of a thousand.
    pub fn permille(&mut self, permille: u64) -> bool {
        self.below(1000) < permille
    }

    /// A time up to `duration_max`.
    pub fn duration(&mut self, duration_max: Duration) -> Duration {
        Duration::from_nanos(self.below(duration_max.as_nanos() as u64 + 1))
    }

    /// One of `choices`.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    /// Puts `items` in any order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}
