//! The journal's device on non-volatile memory: one region per core, stores in place of system calls.
//!
//! ```text
//!      0  header          whose region it is, with a checksum
//!   4096  switch          which of the two copies of the table holds: a corruption-detecting boolean
//!   8192  table, first    which parts of the region are which segments, how far the journal is known durable
//!  24576  table, second
//!  40960  extents         segments, each as a file would hold it
//! ```
//! What a [`Medium`](medium::Medium) is given is durable once it was flushed and a fence followed; until then any
//! of its aligned words of 8 bytes may be, or not. From that follow three ways of writing:
//! - *Blocks* are written onto zeros, and one fence makes all blocks of a turn durable. They need no more:
//!   each says by its checksums, place and chain whether it is whole, and by its emptiness whether a torn write
//!   explains it if not (see [`Grain`](crate::Grain)).
//! - *The table* is written whole, beside the one that holds, and durable before one word switches to it.
//! - *The durable tail*, a place in the table, follows the blocks when there is time, so that recovery knows
//!   even of blocks that left no trace.
//!
//! After "`PoWER` Never Corrupts: Tool-Agnostic Verification of Crash Consistency and Corruption Detection",
//! OSDI 2025.

#[cfg(test)]
mod crash_tests;
mod disk;
mod extents;
mod header;
#[allow(unsafe_code)]
mod mapping;
mod medium;
mod options;
mod persistence;
mod region;
mod region_file;
mod scrub;
#[cfg(test)]
mod shadow;
mod switch;
mod table;

pub use disk::NvmDisk;
pub use options::{NvmBacking, NvmOptions};
pub use region::RegionError;
