//! A volatile vault: snapshots in memory.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::RawFd;

use super::vault::{
    SnapshotName, Vault, VaultAnswer, VaultCompletion, VaultFile, VaultOperation, VaultState,
};
use crate::wake::WakeFd;

/// Holds snapshots beside a volatile journal and forgets them with the process: they are **volatile**.
///
/// It is bounded: a write beyond `bytes_max` fails as one to a full disk does.
pub struct MemoryVault {
    files: BTreeMap<(SnapshotName, VaultState), Vec<u8>>,
    bytes: u64,
    bytes_max: u64,
    answers: VecDeque<VaultCompletion>,
    wake: WakeFd,
}

impl MemoryVault {
    /// An empty vault of at most `bytes_max` bytes.
    pub fn new(bytes_max: u64) -> MemoryVault {
        MemoryVault {
            files: BTreeMap::new(),
            bytes: 0,
            bytes_max,
            answers: VecDeque::new(),
            wake: WakeFd::default(),
        }
    }

    fn perform(&mut self, operation: VaultOperation) -> io::Result<VaultAnswer> {
        use VaultState::{Partial, Published};
        match operation {
            VaultOperation::Begin { name, bytes } => {
                let file = self.files.entry((name, Partial)).or_default();
                self.bytes -= (file.len() as u64).saturating_sub(bytes);
                file.truncate(bytes as usize);
                Ok(VaultAnswer::Begun)
            }
            VaultOperation::Write { name, offset, bytes } => {
                self.write(name, offset as usize, &bytes)?;
                Ok(VaultAnswer::Written(bytes))
            }
            VaultOperation::Sync { name } => self.file(name, Partial).map(|_| VaultAnswer::Synced),
            VaultOperation::Read { name, state, offset, bytes_max } => {
                let rest = self.file(name, state)?.get(offset as usize..).unwrap_or_default();
                Ok(VaultAnswer::Read(rest[..rest.len().min(bytes_max)].to_vec()))
            }
            VaultOperation::Publish { name } => {
                let file = self.files.remove(&(name, Partial)).ok_or(io::ErrorKind::NotFound)?;
                let replaced = self.files.insert((name, Published), file);
                self.bytes -= replaced.map_or(0, |file| file.len() as u64);
                Ok(VaultAnswer::Published)
            }
            VaultOperation::Remove { name, state } => {
                let removed = self.files.remove(&(name, state));
                self.bytes -= removed.map_or(0, |file| file.len() as u64);
                Ok(VaultAnswer::Removed)
            }
        }
    }

    fn file(&self, name: SnapshotName, state: VaultState) -> io::Result<&Vec<u8>> {
        self.files.get(&(name, state)).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn write(&mut self, name: SnapshotName, offset: usize, bytes: &[u8]) -> io::Result<()> {
        let file = self.files.get_mut(&(name, VaultState::Partial)).ok_or(io::ErrorKind::NotFound)?;
        let end = offset + bytes.len();
        let more = end.saturating_sub(file.len()) as u64;
        if self.bytes + more > self.bytes_max {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.bytes += more;
        file.resize(file.len().max(end), 0);
        file[offset..end].copy_from_slice(bytes);
        Ok(())
    }
}

impl Vault for MemoryVault {
    fn list(&mut self) -> io::Result<Vec<VaultFile>> {
        let file = |(&(name, state), file): (&(SnapshotName, VaultState), &Vec<u8>)| VaultFile {
            name,
            state,
            bytes: file.len() as u64,
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
        let rest = self.file(name, state)?.get(offset as usize..).unwrap_or_default();
        let bytes = rest.len().min(buffer.len());
        buffer[..bytes].copy_from_slice(&rest[..bytes]);
        Ok(bytes)
    }

    fn submit(&mut self, token: u64, operation: VaultOperation) {
        let result = self.perform(operation);
        self.answers.push_back(VaultCompletion { token, result });
        self.wake.signal();
    }

    fn poll(&mut self, completions: &mut Vec<VaultCompletion>) {
        completions.extend(self.answers.drain(..));
    }

    fn register_wake(&mut self, eventfd: RawFd) -> io::Result<()> {
        self.wake.set(eventfd)
    }
}
