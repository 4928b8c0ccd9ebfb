//! A snapshot leaves a node: a verified copy in a file of its own.

use std::fmt;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use annulus_rings::{RingId, Slot};
use annulus_storage::{Expected, VaultFile, VaultFiles, VaultState};
use serde::Serialize;

use crate::directory::{core_directories, identity_of_core};
use crate::progress::Progress;
use crate::scan::Scan;
use crate::transfer::TransferError;

/// Which snapshot goes where.
#[derive(clap::Args)]
pub struct Export {
    /// The data directory of a node, running or not, or the directory of one of its cores
    directory: PathBuf,
    /// The ring
    #[arg(long)]
    ring: u32,
    /// The slot of the snapshot, rather than the newest
    #[arg(long)]
    slot: Option<u64>,
    /// The file to make. It must not exist
    #[arg(long)]
    to: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// A snapshot that was copied.
#[derive(Serialize)]
pub struct Exported {
    from: PathBuf,
    to: PathBuf,
    ring: u32,
    slot: u64,
    bytes: u64,
    records: u64,
}

impl Export {
    /// Copies the snapshot, verified, or leaves nothing.
    pub fn run(&self) -> Result<Exported, TransferError> {
        if self.to.exists() {
            return Err(TransferError::Refused(format!(
                "{} exists: nothing is overwritten",
                self.to.display()
            )));
        }
        let (core, files, chosen) = self.choose()?;
        let from = files.path(chosen.name, chosen.state);
        let aside = self.to.with_added_extension("unfinished");
        let copied = self.copy(&core, &from, &aside, &chosen);
        if copied.is_err() {
            // Best effort: what is left has a name that says so.
            let _ = fs::remove_file(&aside);
        }
        copied
    }

    /// The newest published snapshot of the ring, or the one that was asked for.
    fn choose(&self) -> Result<(PathBuf, VaultFiles, VaultFile), TransferError> {
        let mut found = Vec::new();
        for core in core_directories(&self.directory)? {
            let files = VaultFiles::of_core(&core);
            let listed = files.list().map_err(TransferError::io("listing", files.directory()))?;
            let published = listed.into_iter().filter(|file| file.state == VaultState::Published);
            let asked = published.filter(|file| {
                file.name.ring == RingId(self.ring)
                    && self.slot.is_none_or(|slot| file.name.slot == Slot(slot))
            });
            found.extend(asked.map(|file| (core.clone(), files.clone(), file)));
        }
        found.into_iter().max_by_key(|(_, _, file)| file.name).ok_or_else(|| {
            TransferError::Refused(format!(
                "ring {} has no such snapshot: see `annulus snapshot inspect`",
                self.ring
            ))
        })
    }

    fn copy(
        &self,
        core: &Path,
        from: &Path,
        aside: &Path,
        chosen: &VaultFile,
    ) -> Result<Exported, TransferError> {
        let mut file = File::open(from).map_err(TransferError::io("opening", from))?;
        let mut copy = File::create(aside).map_err(TransferError::io("creating", aside))?;
        let expected = identity_of_core(core).map_or(Expected::Anyone, Expected::Own);
        let mut progress = Progress::of_bytes("exporting", chosen.bytes);
        let each = |bytes: &[u8]| copy.write_all(bytes);
        let scan = Scan::whole(&mut file, expected, Some(chosen.name), &mut progress, each);
        if let Some(error) = scan.error {
            return Err(TransferError::Snapshot(from.to_owned(), error));
        }
        copy.sync_all().map_err(TransferError::io("syncing", aside))?;
        fs::rename(aside, &self.to).map_err(TransferError::io("naming", &self.to))?;
        Ok(Exported {
            from: from.to_owned(),
            to: self.to.clone(),
            ring: self.ring,
            slot: chosen.name.slot.0,
            bytes: scan.verified.bytes,
            records: scan.verified.records,
        })
    }
}

impl fmt::Display for Exported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Exported { from, to, ring, slot, bytes, records } = self;
        writeln!(f, "ring {ring}, slot {slot}: {bytes} bytes, {records} records, verified")?;
        writeln!(f, "  from {}", from.display())?;
        writeln!(f, "  to {}", to.display())
    }
}
