//! Durable frames: the journal of a core.
//!
//! A core has one [`Journal`], shared by all its rings. Frames go in as they came off the wire; a group
//! write makes everything durable that arrived during the one before; [`Journal::poll`] says how far.
//! The device behind it is a [`Disk`]: [`FileDisk`] on `io_uring`, [`MemoryDisk`] (volatile), or a
//! simulated one.
//!
//! A [`DataDir`] says whose files these are and keeps other processes out. [`Unrecovered::recover`]
//! reads a journal back, tells a torn tail from lost history, and gives a [`Journal`] that can be
//! appended to. [`JournalInspector`] looks at one without touching it.
//!
//! Beside its journal a core has a [`Vault`] with the snapshots of its rings: [`FileVault`], [`MemoryVault`]
//! (volatile), or a simulated one. [`SnapshotWriting`] fills one, [`SnapshotReceiving`] takes one from a peer
//! that [`SnapshotSending`] sends it, [`SnapshotReading`] reads one, and a [`SnapshotShelf`] says which there
//! are. The module `snapshot` shows how a core drives them.
#![deny(unsafe_code)]

mod block;
#[allow(unsafe_code)]
mod buffer;
#[cfg(test)]
mod crash_disk;
#[cfg(test)]
mod damage_tests;
mod data_dir;
mod disk;
mod error;
mod file_disk;
mod grain;
#[allow(unsafe_code)]
mod helper;
mod identity;
mod index;
mod inspect;
mod journal;
#[cfg(test)]
mod journal_tests;
mod memory_disk;
#[cfg(test)]
mod model_tests;
mod nvm;
mod options;
mod place;
#[allow(unsafe_code)]
mod preparer;
mod progress;
mod reader;
mod recovery;
mod retrieval;
mod scrub;
#[cfg(test)]
mod scrub_tests;
mod segment;
mod segment_files;
mod snapshot;
mod space;
mod statistics;
mod superblock;
mod truncation;
#[cfg(test)]
mod truncation_tests;
#[allow(unsafe_code)]
mod uring;
#[allow(unsafe_code)]
mod wake;
mod walk;

pub use block::{BLOCK_ALIGN_BYTES, BlockHeader, JOURNAL_VERSION, SECTOR_BYTES};
pub use buffer::AlignedBuffer;
pub use data_dir::{CoreDirectory, DataDir, inspect_superblock};
pub use disk::{Completion, Disk, DiskKind, SegmentFile, Segments};
pub use error::{Busy, OpenError, Poisoned, RecoverError};
pub use file_disk::FileDisk;
pub use grain::Grain;
pub use identity::{Identity, Position, SegmentId};
pub use inspect::{BlockReport, JournalInspector, TailReport};
pub use journal::Journal;
pub use memory_disk::MemoryDisk;
pub use nvm::{NvmBacking, NvmDisk, NvmOptions, RegionError};
pub use options::{JournalOptions, SyncMode};
pub use recovery::Unrecovered;
pub use retrieval::Retrieved;
pub use scrub::DamagedPlace;
pub use segment::{FIRST_BLOCK_OFFSET, SegmentHeader};
pub use segment_files::SegmentFiles;
pub use snapshot::{
    Expected, FileVault, MemoryVault, RECORD_BYTES_MAX, RefusedSnapshot, SNAPSHOT_HEADER_BYTES,
    SNAPSHOT_VERSION, ShelvedSnapshot, SnapshotConfiguration, SnapshotDecoder, SnapshotError, SnapshotExtent,
    SnapshotHeader, SnapshotName, SnapshotPart, SnapshotPiece, SnapshotReading, SnapshotReceiving,
    SnapshotRecords, SnapshotSending, SnapshotShelf, SnapshotWriting, Vault, VaultAnswer, VaultCompletion,
    VaultFile, VaultFiles, VaultOperation, VaultState, WritingStage, read_snapshot,
};
pub use statistics::JournalStatistics;
pub use superblock::{DATA_VERSION, Superblock};
