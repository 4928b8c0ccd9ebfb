//! Snapshots: the state of a ring up to a slot, in a file that is whole or does not count.
//!
//! ```text
//! header (512 bytes) | block | block | … | trailer (48 bytes)
//! ```
//! Records go into blocks, each chained to the one before it by its checksum, the first to the header. So a
//! block that is verified is the right one at the right place of the right snapshot, and the trailer shows that
//! nothing is missing (T4).
//!
//! A snapshot is written aside, synced, read back from the device and verified, and only then gets its name; the
//! directory is synced last. A crash at any point leaves a whole published file or a partial one, which has
//! another name. A partial file that a peer's snapshot was being received into can be taken up again.
//!
//! # How a core drives it
//! A [`Vault`] holds the snapshots of a core, beside its journal. At start everything may block: the core opens
//! a [`SnapshotShelf`], and reads the newest snapshot of each ring with [`read_snapshot`], an older one if that
//! is damaged. After that nothing blocks: [`SnapshotWriting`], [`SnapshotReading`], [`SnapshotReceiving`] and
//! [`SnapshotSending`] each have a token, never used again, under which the vault answers. A turn of the core
//! polls the vault, hands each completion to whoever has its token (to nobody, if it is gone), and then lets a
//! snapshot that is being written take another slice of the state.
//!
//! ```
//! use annulus_rings::{ClusterId, ConfigurationId, CoreId, Incarnation, NodeId, RingId, Slot};
//! use annulus_storage::*;
//!
//! let identity =
//!     Identity { cluster: ClusterId(7), node: NodeId(1), core: CoreId(0), incarnation: Incarnation(1), disk_uuid: 9 };
//! let mut vault = MemoryVault::new(1 << 20);
//! let (mut shelf, refused) = SnapshotShelf::open(&mut vault, 0, &identity, 2)?;
//! assert!(shelf.newest(RingId(3)).is_none() && refused.is_empty());
//!
//! // The ring has executed every slot below 100: its state is to be kept.
//! let configuration =
//!     SnapshotConfiguration { id: ConfigurationId(1), first_slot: Slot(0), members: vec![NodeId(1)] };
//! let header = SnapshotHeader {
//!     identity, ring: RingId(3), slot: Slot(100), time_ns: 0, origin: NodeId(1), configuration, pending: None,
//! };
//! let mut state = (0..50_000u64).map(|record| record.to_le_bytes());
//! let mut writing = SnapshotWriting::begin(&mut vault, 1, header);
//! let mut completions = Vec::new();
//! let snapshot = loop {
//!     // A turn of the core.
//!     vault.poll(&mut completions);
//!     for completion in completions.drain(..) {
//!         match completion.token {
//!             1 => writing.on(&mut vault, completion),
//!             _ => {} // Of something that is over.
//!         }
//!     }
//!     if let Some(outcome) = writing.outcome() {
//!         break outcome?; // An error is logged and counted; the partial file is gone.
//!     }
//!     let slice_bytes = writing.wants_records().min(64 << 10);
//!     for _ in 0..slice_bytes / 8 {
//!         match state.next() {
//!             Some(record) => writing.record(&mut vault, &record),
//!             None => writing.finish(&mut vault),
//!         }
//!     }
//! };
//! // Now the ring may be told Input::Snapshotted(snapshot.header.slot).
//! shelf.add(snapshot);
//! shelf.tidy(&mut vault, 2, RingId(3));
//!
//! // The next start reads it.
//! let newest = shelf.newest(RingId(3)).expect("it was written").header.name();
//! let mut restored = 0;
//! let (_, extent) = read_snapshot(&mut vault, newest, VaultState::Published, Expected::Own(identity), |_, records| {
//!     restored += records.count() as u64;
//!     Ok::<(), SnapshotError>(())
//! })?;
//! assert_eq!((restored, extent.records), (50_000, 50_000));
//! # Ok::<(), SnapshotError>(())
//! ```
//!
//! # Sending and receiving
//! The sender answers each request with [`SnapshotSending::ask`]; it [`hold`](SnapshotShelf::hold)s the
//! snapshot as long as a peer is at it. The receiver asks for the piece at [`SnapshotReceiving::wanted`] as long
//! as there is one, so that the link's rate and the vault's both bound it. A lost piece is asked for again after
//! a time; a late or doubled one changes nothing. When [`SnapshotReceiving::outcome`] gives a snapshot, it is
//! durable here, and is read with [`SnapshotReading`] to be installed.
//!
//! # Memory
//! Writing: 1 MiB, and one record. Reading: 128 KiB, and one block. Receiving: 4 MiB, the piece at hand, and one
//! block. Sending: one piece. A block is 64 KiB, or as large as the largest record requires: at most 16 MiB.

mod block;
mod decoder;
mod ending;
mod errands;
mod error;
mod file_vault;
mod header;
mod memory_vault;
mod publication;
mod reading;
mod receiving;
mod sending;
mod shelf;
mod vault;
mod vault_files;
mod writing;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod crash_vault;
#[cfg(test)]
mod damage_tests;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;

pub use block::{RECORD_BYTES_MAX, SnapshotExtent, SnapshotRecords};
pub use decoder::{SnapshotDecoder, SnapshotPart};
pub use error::SnapshotError;
pub use file_vault::FileVault;
pub use header::{Expected, SNAPSHOT_HEADER_BYTES, SNAPSHOT_VERSION, SnapshotConfiguration, SnapshotHeader};
pub use memory_vault::MemoryVault;
pub use reading::{SnapshotReading, read_snapshot};
pub use receiving::SnapshotReceiving;
pub use sending::{SnapshotPiece, SnapshotSending};
pub use shelf::{RefusedSnapshot, ShelvedSnapshot, SnapshotShelf};
pub use vault::{SnapshotName, Vault, VaultAnswer, VaultCompletion, VaultFile, VaultOperation, VaultState};
pub use vault_files::VaultFiles;
pub use writing::{SnapshotWriting, WritingStage};
