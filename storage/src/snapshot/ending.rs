//! How a snapshot on its way to the vault ends: published, or removed.

use super::block::SnapshotExtent;
use super::errands::Errands;
use super::error::SnapshotError;
use super::header::SnapshotHeader;
use super::publication::Publication;
use super::shelf::ShelvedSnapshot;
use super::vault::{SnapshotName, Vault, VaultAnswer, VaultCompletion, VaultOperation, VaultState};

/// From the last byte written, or the first failure, to what came of it.
pub(crate) enum Ending {
    Publishing(Publication),
    /// The partial file goes, for that reason.
    Removing(Option<SnapshotError>),
    Over(Option<Result<ShelvedSnapshot, SnapshotError>>),
}

impl Ending {
    /// All was written: it is published.
    pub(crate) fn publish(
        vault: &mut impl Vault,
        errands: &mut Errands,
        header: SnapshotHeader,
        written: SnapshotExtent,
    ) -> Ending {
        Ending::Publishing(Publication::begin(vault, errands, header, written))
    }

    /// The partial file is removed behind everything that was asked before.
    pub(crate) fn fail(
        vault: &mut impl Vault,
        errands: &mut Errands,
        name: SnapshotName,
        error: SnapshotError,
    ) -> Ending {
        errands.submit(vault, VaultOperation::Remove { name, state: VaultState::Partial });
        Ending::Removing(Some(error))
    }

    /// Takes a completion, which was counted as answered.
    pub(crate) fn on(
        &mut self,
        vault: &mut impl Vault,
        errands: &mut Errands,
        name: SnapshotName,
        completion: VaultCompletion,
    ) {
        match self {
            // Of what was asked before the end began.
            Ending::Publishing(_)
                if matches!(completion.result, Ok(VaultAnswer::Begun | VaultAnswer::Written(_))) => {}
            Ending::Publishing(publication) => match publication.on(vault, errands, completion) {
                Ok(None) => {}
                Ok(Some(shelved)) => *self = Ending::Over(Some(Ok(shelved))),
                Err(error) => *self = Ending::fail(vault, errands, name, error),
            },
            Ending::Removing(error) if errands.is_done() => {
                let error = error.take().unwrap_or(SnapshotError::Abandoned);
                *self = Ending::Over(Some(Err(error)));
            }
            Ending::Removing(_) | Ending::Over(_) => {}
        }
    }

    /// Gives it up, unless that comes too late: what is about to get its name is over soon, and stays.
    pub(crate) fn abandon(&mut self, vault: &mut impl Vault, errands: &mut Errands, name: SnapshotName) {
        if let Ending::Publishing(publication) = self
            && !publication.is_publishing()
        {
            *self = Ending::fail(vault, errands, name, SnapshotError::Abandoned);
        }
    }

    /// What came of it, once.
    pub(crate) fn outcome(&mut self) -> Option<Result<ShelvedSnapshot, SnapshotError>> {
        if let Ending::Over(outcome) = self { outcome.take() } else { None }
    }
}
