//! A snapshot comes to a node that is stopped: verified, and written only where the operator says so.

use std::fmt;
use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use annulus_rings::CoreId;
use annulus_storage::{
    CoreDirectory, DataDir, Expected, FileVault, SnapshotError, SnapshotHeader, SnapshotReceiving,
    Superblock, Vault as _, VaultFiles, VaultState,
};
use serde::Serialize;

use crate::directory::superblock;
use crate::progress::Progress;
use crate::scan::Scan;
use crate::snapshots::Header;
use crate::transfer::TransferError;

/// Which file goes to which node.
#[derive(clap::Args)]
pub struct Import {
    /// The snapshot: what `annulus snapshot export` made
    file: PathBuf,
    /// The data directory of a node of the same cluster, which is stopped
    directory: PathBuf,
    /// The core that owns the ring; without it, the ring's number modulo the number of cores
    #[arg(long)]
    core: Option<u16>,
    /// Write it. Without this, the snapshot is verified, and what would be done is said
    #[arg(long)]
    write: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// What was done, or would be.
#[derive(Serialize)]
pub struct Imported {
    file: PathBuf,
    header: Header,
    bytes: u64,
    records: u64,
    /// Where it was written, or would be.
    to: PathBuf,
    /// The newest snapshot of the ring that was there before.
    newest_slot_before: Option<u64>,
    written: bool,
}

const PIECE_BYTES: usize = 1 << 20;
const POLL_INTERVAL: Duration = Duration::from_micros(200);

impl Import {
    /// Verifies the file, and writes it if that was asked for.
    pub fn run(&self) -> Result<Imported, TransferError> {
        let superblock = superblock(&self.directory)?;
        // Held to the end: nobody may start the node meanwhile.
        let data = if self.write { Some(lock(&self.directory, &superblock)?) } else { None };
        let mut file = File::open(&self.file).map_err(TransferError::io("opening", &self.file))?;
        let bytes = file.metadata().map_err(TransferError::io("looking at", &self.file))?.len();
        let mut progress = Progress::of_bytes("verifying", bytes);
        let expected = Expected::Cluster(superblock.cluster);
        let scan = Scan::whole(&mut file, expected, None, &mut progress, |_| Ok(()));
        drop(progress);
        let header = match (scan.error, scan.header) {
            (None, Some(header)) => header,
            (Some(error), _) => return Err(TransferError::Snapshot(self.file.clone(), error)),
            (None, None) => return Err(TransferError::Refused("the file is empty".into())),
        };
        let core = self.core_of(&header, &superblock)?;
        let files = VaultFiles::of_core(&self.directory.join(format!("core-{}", core.0)));
        let newest_slot_before = self.refuse_older(&header, &files)?;
        if let Some(data) = &data {
            file.rewind().map_err(TransferError::io("reading", &self.file))?;
            self.write(file, bytes, &header, &data.core(core))?;
        }
        Ok(Imported {
            file: self.file.clone(),
            bytes: scan.verified.bytes,
            records: scan.verified.records,
            to: files.path(header.name(), VaultState::Published),
            header: Header::of(&header),
            newest_slot_before,
            written: self.write,
        })
    }

    fn core_of(&self, header: &SnapshotHeader, superblock: &Superblock) -> Result<CoreId, TransferError> {
        let core = self.core.unwrap_or((header.ring.0 % u32::from(superblock.cores)) as u16);
        if core < superblock.cores {
            return Ok(CoreId(core));
        }
        Err(TransferError::Refused(format!("the node has cores 0 to {}", superblock.cores - 1)))
    }

    /// The newest snapshot of the ring that is there. An older one would change nothing.
    fn refuse_older(
        &self,
        header: &SnapshotHeader,
        files: &VaultFiles,
    ) -> Result<Option<u64>, TransferError> {
        let listed = files.list().map_err(TransferError::io("listing", files.directory()))?;
        let of_ring =
            listed.iter().filter(|file| file.name.ring == header.ring && file.state == VaultState::Published);
        let newest = of_ring.map(|file| file.name.slot).max();
        match newest {
            Some(newest) if newest >= header.slot => Err(TransferError::Refused(format!(
                "{}: ring {} has a snapshot up to slot {newest} already, this one is up to slot {}",
                self.directory.display(),
                header.ring,
                header.slot
            ))),
            newest => Ok(newest.map(|slot| slot.0)),
        }
    }

    /// Writes it the way a node receives one: aside, synced, read back, verified, published.
    fn write(
        &self,
        mut file: File,
        bytes: u64,
        header: &SnapshotHeader,
        directory: &CoreDirectory,
    ) -> Result<(), TransferError> {
        let mut vault = FileVault::open_alone(directory).map_err(TransferError::Open)?;
        let mut receiving =
            SnapshotReceiving::begin(&mut vault, 1, directory.identity(), header.name(), false);
        let mut progress = Progress::of_bytes("importing", bytes);
        let mut buffer = vec![0; PIECE_BYTES];
        let (mut completions, mut failure) = (Vec::new(), None);
        loop {
            vault.poll(&mut completions);
            let is_idle = completions.is_empty();
            for completion in completions.drain(..) {
                receiving.on(&mut vault, completion);
            }
            if let Some(outcome) = receiving.outcome() {
                let outcome = outcome.map_err(|error| failure.unwrap_or(error));
                return outcome.map(drop).map_err(|error| TransferError::Snapshot(self.file.clone(), error));
            }
            if let Some(offset) = receiving.wanted() {
                progress.at(offset);
                // It was verified just now: if it is not whole any more, somebody is writing to it.
                let taken = match file.read(&mut buffer) {
                    Ok(0) => Err(SnapshotError::CutOff { offset }),
                    Ok(read) => receiving.piece(&mut vault, offset, &buffer[..read]),
                    Err(source) => Err(SnapshotError::Io { action: "reading", source }),
                };
                if let Err(error) = taken {
                    failure = Some(error);
                    receiving.abandon(&mut vault);
                }
            } else if is_idle {
                thread::sleep(POLL_INTERVAL);
            }
        }
    }
}

/// Locks the directory of a node, which fails while the node runs.
fn lock(directory: &Path, superblock: &Superblock) -> Result<DataDir, TransferError> {
    DataDir::open(directory, superblock.cluster, superblock.node, superblock.cores)
        .map_err(TransferError::Open)
}

impl fmt::Display for Imported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Imported { file, header, bytes, records, to, newest_slot_before, written } = self;
        writeln!(f, "{}: {bytes} bytes, {records} records, verified", file.display())?;
        write!(f, "{header}")?;
        match newest_slot_before {
            Some(slot) => writeln!(f, "  newest_slot_before {slot}")?,
            None => writeln!(f, "  the ring had no snapshot here")?,
        }
        if *written {
            writeln!(f, "  written to {}: the node starts from it", to.display())
        } else {
            writeln!(f, "  would be written to {}. NOTHING WAS WRITTEN: add --write", to.display())
        }
    }
}
