//! A vault of tests that can lose what was not made durable, and fail.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::RawFd;

use super::vault::{
    SnapshotName, Vault, VaultAnswer, VaultCompletion, VaultFile, VaultOperation, VaultState,
};
use crate::block::SECTOR_BYTES;

/// Does one operation at each poll, so that a test can stop between any two.
#[derive(Clone, Default)]
pub(crate) struct CrashVault {
    files: BTreeMap<(SnapshotName, VaultState), File>,
    /// Removed, but the directory was not synced: a crash may bring them back.
    removed: BTreeMap<(SnapshotName, VaultState), File>,
    queue: VecDeque<(u64, VaultOperation)>,
    /// Operations done.
    pub(crate) done: usize,
    /// The operation that fails.
    fails_at: Option<usize>,
    /// The operation after which a bit of what was written flips.
    rots_at: Option<usize>,
}

impl Clone for VaultOperation {
    fn clone(&self) -> VaultOperation {
        match self {
            VaultOperation::Begin { name, bytes } => VaultOperation::Begin { name: *name, bytes: *bytes },
            VaultOperation::Write { name, offset, bytes } => {
                VaultOperation::Write { name: *name, offset: *offset, bytes: bytes.clone() }
            }
            VaultOperation::Sync { name } => VaultOperation::Sync { name: *name },
            VaultOperation::Read { name, state, offset, bytes_max } => {
                VaultOperation::Read { name: *name, state: *state, offset: *offset, bytes_max: *bytes_max }
            }
            VaultOperation::Publish { name } => VaultOperation::Publish { name: *name },
            VaultOperation::Remove { name, state } => VaultOperation::Remove { name: *name, state: *state },
        }
    }
}

#[derive(Clone, Default)]
struct File {
    bytes: Vec<u8>,
    /// As it was synced last.
    durable: Vec<u8>,
    /// Whether a crash leaves its name.
    is_named: bool,
}

impl CrashVault {
    /// A vault that fails the operation of that number, counted from 0.
    pub(crate) fn failing_at(operation: usize) -> CrashVault {
        CrashVault { fails_at: Some(operation), ..CrashVault::default() }
    }

    /// A vault where a bit flips of what that operation writes.
    pub(crate) fn rotting_at(operation: usize) -> CrashVault {
        CrashVault { rots_at: Some(operation), ..CrashVault::default() }
    }

    /// Whether nothing is left to do.
    pub(crate) fn is_idle(&self) -> bool {
        self.queue.is_empty()
    }

    /// What a crash leaves, now or in the middle of the next operation. `chance` decides what arrives of all
    /// that may or may not.
    pub(crate) fn crash(&self, mut chance: impl FnMut() -> bool) -> CrashVault {
        let mut device = self.clone();
        device.fails_at = None;
        device.rots_at = None;
        if let Some((_, operation)) = device.queue.pop_front()
            && chance()
        {
            let _ = device.perform(operation, false);
        }
        let removed = std::mem::take(&mut device.removed);
        device.files.extend(removed.into_iter().filter(|_| chance()));
        let mut after = CrashVault::default();
        for (key, file) in device.files {
            if file.is_named || chance() {
                let bytes = file.crash(&mut chance);
                after.files.insert(key, File { durable: bytes.clone(), bytes, is_named: true });
            }
        }
        after
    }

    fn perform(&mut self, operation: VaultOperation, syncs_directory: bool) -> io::Result<VaultAnswer> {
        use VaultState::{Partial, Published};
        let missing = || io::Error::from(io::ErrorKind::NotFound);
        match operation {
            VaultOperation::Begin { name, bytes } => {
                self.files.entry((name, Partial)).or_default().bytes.truncate(bytes as usize);
                Ok(VaultAnswer::Begun)
            }
            VaultOperation::Write { name, offset, bytes } => {
                let file = self.files.get_mut(&(name, Partial)).ok_or_else(missing)?;
                let end = offset as usize + bytes.len();
                file.bytes.resize(file.bytes.len().max(end), 0);
                file.bytes[offset as usize..end].copy_from_slice(&bytes);
                if self.rots_at == Some(self.done) {
                    file.bytes[offset as usize + bytes.len() / 2] ^= 1;
                }
                Ok(VaultAnswer::Written(bytes))
            }
            VaultOperation::Sync { name } => {
                let file = self.files.get_mut(&(name, Partial)).ok_or_else(missing)?;
                file.durable.clone_from(&file.bytes);
                Ok(VaultAnswer::Synced)
            }
            VaultOperation::Read { name, state, offset, bytes_max } => {
                let file = self.files.get(&(name, state)).ok_or_else(missing)?;
                let rest = file.bytes.get(offset as usize..).unwrap_or_default();
                Ok(VaultAnswer::Read(rest[..rest.len().min(bytes_max)].to_vec()))
            }
            VaultOperation::Publish { name } => {
                let file = self.files.remove(&(name, Partial)).ok_or_else(missing)?;
                self.files.insert((name, Published), File { is_named: true, ..file });
                if syncs_directory {
                    self.files.values_mut().for_each(|file| file.is_named = true);
                    self.removed.clear();
                }
                Ok(VaultAnswer::Published)
            }
            VaultOperation::Remove { name, state } => {
                let removed = self.files.remove(&(name, state));
                self.removed.extend(removed.map(|file| ((name, state), file)));
                Ok(VaultAnswer::Removed)
            }
        }
    }
}

impl File {
    /// The sectors that are durable, and any of those that were written since.
    fn crash(&self, chance: &mut impl FnMut() -> bool) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        bytes.resize(if chance() { self.bytes.len() } else { self.durable.len() }, 0);
        for (old, new) in bytes.chunks_mut(SECTOR_BYTES).zip(self.bytes.chunks(SECTOR_BYTES)) {
            let count = old.len().min(new.len());
            if old[..count] != new[..count] && chance() {
                old[..count].copy_from_slice(&new[..count]);
            }
        }
        bytes
    }
}

impl Vault for CrashVault {
    fn list(&mut self) -> io::Result<Vec<VaultFile>> {
        let file = |(&(name, state), file): (&(SnapshotName, VaultState), &File)| VaultFile {
            name,
            state,
            bytes: file.bytes.len() as u64,
        };
        Ok(self.files.iter().map(file).collect())
    }

    fn read_at(
        &mut self,
        name: SnapshotName,
        state: VaultState,
        offset: u64,
        buffer: &mut [u8],
    ) -> io::Result<usize> {
        let file = self.files.get(&(name, state)).ok_or(io::ErrorKind::NotFound)?;
        let rest = file.bytes.get(offset as usize..).unwrap_or_default();
        let bytes = rest.len().min(buffer.len());
        buffer[..bytes].copy_from_slice(&rest[..bytes]);
        Ok(bytes)
    }

    fn submit(&mut self, token: u64, operation: VaultOperation) {
        self.queue.push_back((token, operation));
    }

    fn poll(&mut self, completions: &mut Vec<VaultCompletion>) {
        if let Some((token, operation)) = self.queue.pop_front() {
            let fails = self.fails_at == Some(self.done);
            let result =
                if fails { Err(io::Error::other("on purpose")) } else { self.perform(operation, true) };
            self.done += 1;
            completions.push(VaultCompletion { token, result });
        }
    }

    fn register_wake(&mut self, _eventfd: RawFd) -> io::Result<()> {
        Ok(())
    }
}
