//! From the last byte written to a snapshot that counts: sync, read back, verify, publish.

use annulus_rings::{mutant, requires};

use super::block::SnapshotExtent;
use super::decoder::SnapshotPart;
use super::errands::Errands;
use super::error::SnapshotError;
use super::header::{Expected, SnapshotHeader};
use super::reading::SnapshotReading;
use super::shelf::ShelvedSnapshot;
use super::vault::{Vault, VaultAnswer, VaultCompletion, VaultOperation, VaultState};

/// Publishes a partial file that was written to its end.
pub(crate) struct Publication {
    header: SnapshotHeader,
    written: SnapshotExtent,
    is_synced: bool,
    stage: Stage,
}

enum Stage {
    Syncing,
    Verifying(Box<SnapshotReading>),
    Publishing,
}

impl Publication {
    /// Starts behind the last write.
    pub(crate) fn begin(
        vault: &mut impl Vault,
        errands: &mut Errands,
        header: SnapshotHeader,
        written: SnapshotExtent,
    ) -> Publication {
        let mut publication = Publication { header, written, is_synced: false, stage: Stage::Syncing };
        if mutant!(SNAPSHOT_PUBLISHED_UNSYNCED) {
            publication.publish(vault, errands, &written);
        } else {
            errands.submit(vault, VaultOperation::Sync { name: publication.header.name() });
        }
        publication
    }

    /// Whether the file is being read back.
    pub(crate) fn is_verifying(&self) -> bool {
        matches!(self.stage, Stage::Verifying(_))
    }

    /// Whether it is about to get its name.
    pub(crate) fn is_publishing(&self) -> bool {
        matches!(self.stage, Stage::Publishing)
    }

    /// Takes the completion of what was asked last. Gives the snapshot when it is published.
    pub(crate) fn on(
        &mut self,
        vault: &mut impl Vault,
        errands: &mut Errands,
        completion: VaultCompletion,
    ) -> Result<Option<ShelvedSnapshot>, SnapshotError> {
        match &mut self.stage {
            Stage::Syncing => {
                completion.result.map_err(SnapshotError::io("syncing a snapshot"))?;
                self.is_synced = true;
                if mutant!(SNAPSHOT_NOT_READ_BACK) {
                    let written = self.written;
                    self.publish(vault, errands, &written);
                    return Ok(None);
                }
                let (name, own) = (self.header.name(), Expected::Own(self.header.identity));
                let reading = SnapshotReading::begin(vault, errands.token(), name, VaultState::Partial, own);
                errands.began_elsewhere();
                self.stage = Stage::Verifying(Box::new(reading));
                Ok(None)
            }
            Stage::Verifying(reading) => {
                reading.on(completion);
                self.verify(vault, errands)?;
                Ok(None)
            }
            Stage::Publishing => {
                let answer = completion.result.map_err(SnapshotError::io("publishing a snapshot"))?;
                let is_published = matches!(answer, VaultAnswer::Published);
                let (header, bytes) = (self.header.clone(), self.written.bytes);
                Ok(is_published.then_some(ShelvedSnapshot { header, bytes }))
            }
        }
    }

    /// Verifies what the last read brought.
    fn verify(&mut self, vault: &mut impl Vault, errands: &mut Errands) -> Result<(), SnapshotError> {
        let Stage::Verifying(reading) = &mut self.stage else { return Ok(()) };
        loop {
            match reading.advance(vault)? {
                SnapshotPart::Header | SnapshotPart::Block => {}
                SnapshotPart::More => {
                    errands.began_elsewhere();
                    return Ok(());
                }
                SnapshotPart::End => break,
            }
        }
        let (header, read_back) = (reading.header().cloned(), *reading.verified());
        if header.as_ref() != Some(&self.header) || read_back != self.written {
            return Err(SnapshotError::NotWhatWasWritten);
        }
        self.publish(vault, errands, &read_back);
        Ok(())
    }

    /// Gives the file its name, which says that it is whole.
    fn publish(&mut self, vault: &mut impl Vault, errands: &mut Errands, verified: &SnapshotExtent) {
        requires!(T4, self.is_synced);
        requires!(T4, *verified == self.written && self.has_been_read());

        errands.submit(vault, VaultOperation::Publish { name: self.header.name() });
        self.stage = Stage::Publishing;
    }

    /// Whether the file was read back to its end.
    fn has_been_read(&self) -> bool {
        matches!(&self.stage, Stage::Verifying(reading) if *reading.verified() == self.written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::MemoryVault;
    use crate::snapshot::samples::header;

    /// What was synced, or not, and not read back.
    fn publication(is_synced: bool) -> Publication {
        let written = SnapshotExtent::begin(header(3, 100).seed());
        Publication { header: header(3, 100), written, is_synced, stage: Stage::Syncing }
    }

    #[test]
    #[should_panic(expected = "contract T4")]
    fn what_was_not_synced_is_not_published() {
        let mut publication = publication(false);
        let written = publication.written;
        publication.publish(&mut MemoryVault::new(0), &mut Errands::new(1), &written);
    }

    #[test]
    #[should_panic(expected = "contract T4")]
    fn what_was_not_read_back_is_not_published() {
        let mut publication = publication(true);
        let written = publication.written;
        publication.publish(&mut MemoryVault::new(0), &mut Errands::new(1), &written);
    }
}
