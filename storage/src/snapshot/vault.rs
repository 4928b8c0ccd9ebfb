//! What snapshots need of a device: blocking calls at start, poll-style ones after.

use std::io;
use std::os::fd::RawFd;

use annulus_rings::{RingId, Slot};

/// Which snapshot: of which ring, and up to which slot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SnapshotName {
    /// The ring.
    pub ring: RingId,
    /// The first slot that is not covered.
    pub slot: Slot,
}

/// How far a file has come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum VaultState {
    /// It is being written or received, or that was interrupted.
    Partial,
    /// It was whole when it got its name.
    Published,
}

/// A file as the vault holds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VaultFile {
    /// Which snapshot.
    pub name: SnapshotName,
    /// How far it has come.
    pub state: VaultState,
    /// Its size.
    pub bytes: u64,
}

/// Something that a vault does in the background.
#[derive(Debug)]
pub enum VaultOperation {
    /// Starts the partial file, or takes up the one that is there: the first `bytes` bytes of it stay.
    Begin {
        /// Which.
        name: SnapshotName,
        /// How much stays.
        bytes: u64,
    },
    /// Writes into the partial file.
    Write {
        /// Which.
        name: SnapshotName,
        /// Where.
        offset: u64,
        /// What. The answer gives the memory back.
        bytes: Vec<u8>,
    },
    /// Makes the partial file durable under its partial name, so that what is read afterwards comes from the
    /// device.
    Sync {
        /// Which.
        name: SnapshotName,
    },
    /// Reads from a file.
    Read {
        /// Which.
        name: SnapshotName,
        /// Which of the two files of that name.
        state: VaultState,
        /// From where.
        offset: u64,
        /// At most so much: the answer has fewer bytes only where the file ends.
        bytes_max: usize,
    },
    /// Gives the partial file, which was synced, its final name, durably.
    Publish {
        /// Which.
        name: SnapshotName,
    },
    /// Removes a file. That there is none is no failure.
    Remove {
        /// Which.
        name: SnapshotName,
        /// Which of the two files of that name.
        state: VaultState,
    },
}

/// What came of an operation.
#[derive(Debug)]
pub enum VaultAnswer {
    /// A partial file was begun or taken up.
    Begun,
    /// All was written. The memory comes back.
    Written(Vec<u8>),
    /// The partial file is durable.
    Synced,
    /// What was read.
    Read(Vec<u8>),
    /// The file has its final name, durably.
    Published,
    /// The file is gone.
    Removed,
}

/// An operation that ended.
#[derive(Debug)]
pub struct VaultCompletion {
    /// The submitter's.
    pub token: u64,
    /// What came of it.
    pub result: io::Result<VaultAnswer>,
}

/// A device that holds the snapshots of one core. What it does after the start never blocks: operations are
/// submitted, and polled for later. They are done in the order in which they were submitted, one by one, and
/// each is answered once.
pub trait Vault {
    /// At start, may block: the files there are, in any order. They keep their names from now on, whatever was
    /// under way when the process before ended.
    ///
    /// # Errors
    /// The device's.
    fn list(&mut self) -> io::Result<Vec<VaultFile>>;

    /// At start, may block: reads from `offset` on as much as there is, up to the size of `buffer`, and says
    /// how much it was.
    ///
    /// # Errors
    /// The device's.
    fn read_at(
        &mut self,
        name: SnapshotName,
        state: VaultState,
        offset: u64,
        buffer: &mut [u8],
    ) -> io::Result<usize>;

    /// Starts an operation.
    fn submit(&mut self, token: u64, operation: VaultOperation);

    /// Collects what has ended. Never blocks, and makes no system call when nothing has.
    fn poll(&mut self, completions: &mut Vec<VaultCompletion>);

    /// Names the eventfd that every later completion signals.
    ///
    /// # Errors
    /// The descriptor is not an eventfd.
    fn register_wake(&mut self, eventfd: RawFd) -> io::Result<()>;
}

impl<V: Vault + ?Sized> Vault for Box<V> {
    fn list(&mut self) -> io::Result<Vec<VaultFile>> {
        (**self).list()
    }

    fn read_at(
        &mut self,
        name: SnapshotName,
        state: VaultState,
        offset: u64,
        buffer: &mut [u8],
    ) -> io::Result<usize> {
        (**self).read_at(name, state, offset, buffer)
    }

    fn submit(&mut self, token: u64, operation: VaultOperation) {
        (**self).submit(token, operation);
    }

    fn poll(&mut self, completions: &mut Vec<VaultCompletion>) {
        (**self).poll(completions);
    }

    fn register_wake(&mut self, eventfd: RawFd) -> io::Result<()> {
        (**self).register_wake(eventfd)
    }
}
