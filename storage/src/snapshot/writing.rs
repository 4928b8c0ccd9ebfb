//! Writes a snapshot of this node: aside, synced, read back, verified, published.

use super::block::{Filling, RECORD_BYTES_MAX, SnapshotExtent, trailer};
use super::errands::Errands;
use super::error::SnapshotError;
use super::header::SnapshotHeader;
use super::publication::Publication;
use super::shelf::ShelvedSnapshot;
use super::vault::{SnapshotName, Vault, VaultAnswer, VaultCompletion, VaultOperation, VaultState};

/// Bytes of records that wait for the vault, the largest record aside.
const WINDOW_BYTES: usize = 1 << 20;
/// Buffers kept for later blocks.
const SPARE_MAX: usize = 4;

/// A snapshot on its way to the vault. It holds at most 1 MiB of records, one record more, and while it is
/// verified what a [`SnapshotReading`](crate::SnapshotReading) holds.
///
/// Whatever fails, the partial file is removed, and [`outcome`](Self::outcome) says why. One that is no longer
/// wanted is [`abandon`](Self::abandon)ed and driven until it is over. One that is dropped leaves its partial
/// file to the next [`SnapshotShelf::open`](crate::SnapshotShelf::open).
pub struct SnapshotWriting {
    header: SnapshotHeader,
    errands: Errands,
    stage: Stage,
    filling: Filling,
    /// What was handed to the vault.
    extent: SnapshotExtent,
    /// Bytes that the vault has not written yet.
    in_flight_bytes: usize,
    spare: Vec<Vec<u8>>,
}

enum Stage {
    Records,
    Publishing(Publication),
    /// The partial file goes, for that reason.
    Removing(Option<SnapshotError>),
    Over(Option<Result<ShelvedSnapshot, SnapshotError>>),
}

/// What a snapshot that is being written is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WritingStage {
    /// It takes records.
    Records,
    /// All records were handed to the vault, which makes them durable.
    Syncing,
    /// It is read back and verified.
    Verifying,
    /// What was written is being removed.
    Removing,
    /// [`SnapshotWriting::outcome`] says what came of it.
    Over,
}

impl SnapshotWriting {
    /// Starts the snapshot that `header` describes. Its completions carry `token`.
    pub fn begin(vault: &mut impl Vault, token: u64, header: SnapshotHeader) -> SnapshotWriting {
        let mut errands = Errands::new(token);
        let (name, encoded) = (header.name(), header.encode());
        errands.submit(vault, VaultOperation::Begin { name, bytes: 0 });
        errands.submit(vault, VaultOperation::Write { name, offset: 0, bytes: encoded.to_vec() });
        SnapshotWriting {
            extent: SnapshotExtent::begin(header.seed()),
            header,
            errands,
            stage: Stage::Records,
            filling: Filling::new(Vec::new()),
            in_flight_bytes: encoded.len(),
            spare: Vec::new(),
        }
    }

    /// Which snapshot.
    pub fn name(&self) -> SnapshotName {
        self.header.name()
    }

    /// What it is about.
    pub fn stage(&self) -> WritingStage {
        match &self.stage {
            Stage::Records => WritingStage::Records,
            Stage::Publishing(publication) if publication.is_verifying() => WritingStage::Verifying,
            Stage::Publishing(_) => WritingStage::Syncing,
            Stage::Removing(_) => WritingStage::Removing,
            Stage::Over(_) => WritingStage::Over,
        }
    }

    /// How much was handed to the vault.
    pub fn written(&self) -> &SnapshotExtent {
        &self.extent
    }

    /// Bytes of records that it takes now; 0 while the vault is behind. The last record may exceed it.
    pub fn wants_records(&self) -> usize {
        match self.stage {
            Stage::Records => WINDOW_BYTES.saturating_sub(self.in_flight_bytes + self.filling.bytes()),
            _ => 0,
        }
    }

    /// Takes the next record. A snapshot that failed takes it and forgets it; so does one that must fail
    /// because the record exceeds [`RECORD_BYTES_MAX`].
    pub fn record(&mut self, vault: &mut impl Vault, record: &[u8]) {
        if !matches!(self.stage, Stage::Records) {
            return;
        }
        if record.len() > RECORD_BYTES_MAX {
            return self.fail(vault, SnapshotError::RecordTooLarge { bytes: record.len() });
        }
        self.filling.push(record);
        if self.filling.is_complete() {
            self.write_block(vault);
        }
    }

    /// There are no more records.
    pub fn finish(&mut self, vault: &mut impl Vault) {
        if !matches!(self.stage, Stage::Records) {
            return;
        }
        if !self.filling.is_empty() {
            self.write_block(vault);
        }
        let trailer = trailer(&self.extent).to_vec();
        let offset = self.extent.bytes;
        self.extent.bytes += trailer.len() as u64;
        self.write(vault, offset, trailer);
        let publication = Publication::begin(vault, &mut self.errands, self.header.clone(), self.extent);
        self.stage = Stage::Publishing(publication);
    }

    /// Takes a completion of its token.
    pub fn on(&mut self, vault: &mut impl Vault, completion: VaultCompletion) {
        self.errands.answered();
        match (&mut self.stage, completion.result) {
            (Stage::Records | Stage::Publishing(_), Ok(VaultAnswer::Written(bytes))) => {
                self.in_flight_bytes -= bytes.len();
                if self.spare.len() < SPARE_MAX {
                    self.spare.push(bytes);
                }
            }
            (Stage::Records, Ok(_)) | (Stage::Publishing(_), Ok(VaultAnswer::Begun)) => {}
            (Stage::Records, Err(source)) => {
                self.fail(vault, SnapshotError::Io { action: "writing a snapshot", source });
            }
            (Stage::Publishing(publication), result) => {
                let completion = VaultCompletion { token: completion.token, result };
                match publication.on(vault, &mut self.errands, completion) {
                    Ok(false) => {}
                    Ok(true) => {
                        let bytes = self.extent.bytes;
                        let shelved = ShelvedSnapshot { header: self.header.clone(), bytes };
                        self.stage = Stage::Over(Some(Ok(shelved)));
                    }
                    Err(error) => self.fail(vault, error),
                }
            }
            (Stage::Removing(error), _) if self.errands.is_done() => {
                let error = error.take().unwrap_or(SnapshotError::Abandoned);
                self.stage = Stage::Over(Some(Err(error)));
            }
            (Stage::Removing(_) | Stage::Over(_), _) => {}
        }
    }

    /// What came of it, once: a snapshot that is durable and was verified, or why there is none.
    pub fn outcome(&mut self) -> Option<Result<ShelvedSnapshot, SnapshotError>> {
        match &mut self.stage {
            Stage::Over(outcome) => outcome.take(),
            _ => None,
        }
    }

    /// Gives it up: the partial file is removed. One that is being published is over soon, and stays.
    pub fn abandon(&mut self, vault: &mut impl Vault) {
        match &self.stage {
            Stage::Publishing(publication) if publication.is_publishing() => {}
            Stage::Records | Stage::Publishing(_) => self.fail(vault, SnapshotError::Abandoned),
            Stage::Removing(_) | Stage::Over(_) => {}
        }
    }

    fn write_block(&mut self, vault: &mut impl Vault) {
        let next = Filling::new(self.spare.pop().unwrap_or_default());
        let filling = std::mem::replace(&mut self.filling, next);
        let offset = self.extent.bytes;
        let block = filling.seal(&mut self.extent);
        self.write(vault, offset, block);
    }

    fn write(&mut self, vault: &mut impl Vault, offset: u64, bytes: Vec<u8>) {
        self.in_flight_bytes += bytes.len();
        self.errands.submit(vault, VaultOperation::Write { name: self.header.name(), offset, bytes });
    }

    /// The file is removed behind everything that was asked before.
    fn fail(&mut self, vault: &mut impl Vault, error: SnapshotError) {
        let name = self.header.name();
        self.errands.submit(vault, VaultOperation::Remove { name, state: VaultState::Partial });
        self.stage = Stage::Removing(Some(error));
    }
}
