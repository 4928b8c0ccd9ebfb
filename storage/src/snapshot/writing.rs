//! Writes a snapshot of this node: aside, synced, read back, verified, published.

use super::block::{Filling, RECORD_BYTES_MAX, SnapshotExtent, trailer};
use super::ending::Ending;
use super::errands::Errands;
use super::error::SnapshotError;
use super::header::SnapshotHeader;
use super::shelf::ShelvedSnapshot;
use super::vault::{SnapshotName, Vault, VaultAnswer, VaultCompletion, VaultOperation};

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
    /// Once no more records are taken.
    ending: Option<Ending>,
    filling: Filling,
    /// What was handed to the vault.
    extent: SnapshotExtent,
    /// Bytes that the vault has not written yet.
    in_flight_bytes: usize,
    spare: Vec<Vec<u8>>,
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
            ending: None,
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
        match &self.ending {
            None => WritingStage::Records,
            Some(Ending::Publishing(publication)) if publication.is_verifying() => WritingStage::Verifying,
            Some(Ending::Publishing(_)) => WritingStage::Syncing,
            Some(Ending::Removing(_)) => WritingStage::Removing,
            Some(Ending::Over(_)) => WritingStage::Over,
        }
    }

    /// How much was handed to the vault.
    pub fn written(&self) -> &SnapshotExtent {
        &self.extent
    }

    /// Bytes of records that it takes now; 0 while the vault is behind. The last record may exceed it.
    pub fn wants_records(&self) -> usize {
        if self.ending.is_some() {
            return 0;
        }
        WINDOW_BYTES.saturating_sub(self.in_flight_bytes + self.filling.bytes())
    }

    /// Takes the next record. A snapshot that failed takes it and forgets it; so does one that must fail
    /// because the record exceeds [`RECORD_BYTES_MAX`].
    pub fn record(&mut self, vault: &mut impl Vault, record: &[u8]) {
        if self.ending.is_some() {
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
        if self.ending.is_some() {
            return;
        }
        if !self.filling.is_empty() {
            self.write_block(vault);
        }
        let trailer = trailer(&self.extent).to_vec();
        let offset = self.extent.bytes;
        self.extent.bytes += trailer.len() as u64;
        self.write(vault, offset, trailer);
        let ending = Ending::publish(vault, &mut self.errands, self.header.clone(), self.extent);
        self.ending = Some(ending);
    }

    /// Takes a completion of its token.
    pub fn on(&mut self, vault: &mut impl Vault, completion: VaultCompletion) {
        self.errands.answered();
        let VaultCompletion { token, result } = completion;
        match (&mut self.ending, result) {
            (None, Ok(VaultAnswer::Written(bytes))) => {
                self.in_flight_bytes -= bytes.len();
                if self.spare.len() < SPARE_MAX {
                    self.spare.push(bytes);
                }
            }
            (None, Ok(_)) => {}
            (None, Err(source)) => {
                self.fail(vault, SnapshotError::Io { action: "writing a snapshot", source });
            }
            (Some(ending), result) => {
                let name = self.header.name();
                ending.on(vault, &mut self.errands, name, VaultCompletion { token, result });
            }
        }
    }

    /// What came of it, once: a snapshot that is durable and was verified, or why there is none.
    pub fn outcome(&mut self) -> Option<Result<ShelvedSnapshot, SnapshotError>> {
        self.ending.as_mut()?.outcome()
    }

    /// Gives it up: the partial file is removed. One that is being published is over soon, and stays.
    pub fn abandon(&mut self, vault: &mut impl Vault) {
        match &mut self.ending {
            None => self.fail(vault, SnapshotError::Abandoned),
            Some(ending) => ending.abandon(vault, &mut self.errands, self.header.name()),
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

    fn fail(&mut self, vault: &mut impl Vault, error: SnapshotError) {
        self.ending = Some(Ending::fail(vault, &mut self.errands, self.header.name(), error));
    }
}
