//! The files of snapshots in one directory, read without changing anything.
//!
//! ```text
//! <ring>-<slot>.snapshot    published: whole
//! <ring>-<slot>.partial     being written or received, or that was interrupted
//! ```
//! The ring has 8 hexadecimal digits, the slot 16.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use annulus_rings::{RingId, Slot};

use super::vault::{SnapshotName, VaultFile, VaultState};

/// The snapshots in a directory, for reading only.
#[derive(Clone, Debug)]
pub struct VaultFiles {
    directory: PathBuf,
}

impl VaultFiles {
    /// The snapshots of a core. Nothing is opened yet.
    pub fn of_core(core_directory: &Path) -> VaultFiles {
        VaultFiles { directory: core_directory.join("snapshots") }
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where a file lies.
    pub fn path(&self, name: SnapshotName, state: VaultState) -> PathBuf {
        let extension = match state {
            VaultState::Partial => "partial",
            VaultState::Published => "snapshot",
        };
        self.directory.join(format!("{:08x}-{:016x}.{extension}", name.ring.0, name.slot.0))
    }

    /// The files there are, in order. None where there is no directory.
    ///
    /// # Errors
    /// The operating system's.
    pub fn list(&self) -> io::Result<Vec<VaultFile>> {
        let entries = match std::fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut files = Vec::new();
        for entry in entries {
            let entry = entry?;
            if let Some((name, state)) = entry.file_name().to_str().and_then(parse) {
                match entry.metadata() {
                    Ok(metadata) => files.push(VaultFile { name, state, bytes: metadata.len() }),
                    // A running node publishes and removes files.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
        }
        files.sort_unstable_by_key(|file| (file.name, file.state));
        Ok(files)
    }

    /// Opens a file for reading.
    ///
    /// # Errors
    /// The operating system's.
    pub fn open(&self, name: SnapshotName, state: VaultState) -> io::Result<File> {
        File::open(self.path(name, state))
    }
}

/// Which file a file name names.
fn parse(file_name: &str) -> Option<(SnapshotName, VaultState)> {
    let (stem, extension) = file_name.split_once('.')?;
    let state = match extension {
        "partial" => VaultState::Partial,
        "snapshot" => VaultState::Published,
        _ => return None,
    };
    let (ring, slot) = stem.split_once('-').filter(|(ring, slot)| ring.len() == 8 && slot.len() == 16)?;
    let ring = RingId(u32::from_str_radix(ring, 16).ok()?);
    let slot = Slot(u64::from_str_radix(slot, 16).ok()?);
    Some((SnapshotName { ring, slot }, state))
}

/// Reads from `offset` on until `buffer` is full or the file ends.
pub(crate) fn read_up_to(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut read = 0;
    while read < buffer.len() {
        match file.read_at(&mut buffer[read..], offset + read as u64) {
            Ok(0) => break,
            Ok(bytes) => read += bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}
