//! What a ring starts from: the newest snapshot that is sound.

use annulus_rings::{RingId, RingOptions, Slot, reach};
use annulus_storage::{
    Expected, SnapshotError, SnapshotExtent, SnapshotHeader, SnapshotName, SnapshotRecords, VaultState,
    read_snapshot,
};

use super::super::executor::{Executor, SnapshotPiece, SnapshotPoint};
use super::Snapshots;
use crate::RestoreFailure;

/// Why a ring has no state to start from.
#[derive(Debug, thiserror::Error)]
pub enum RestoreMachineError {
    /// Its state machine takes no snapshot.
    #[error("the state machine of ring {ring} does not take its snapshot of slot {slot}: {failure}")]
    Machine {
        /// The ring.
        ring: RingId,
        /// The first slot that is not covered.
        slot: Slot,
        /// What the machine said.
        failure: RestoreFailure,
    },
    /// No snapshot is sound, and the state machine was given parts of them.
    #[error(
        "ring {ring} cannot be restored: it needs a snapshot that is missing or damaged. The last one tried is that of slot {slot}: {error}. Put one back, or repair this node from its peers"
    )]
    NoneSound {
        /// The ring.
        ring: RingId,
        /// The first slot that the last one does not cover.
        slot: Slot,
        /// What is wrong with it.
        error: SnapshotError,
    },
    /// The snapshot that was verified at start cannot be read any more.
    #[error("the snapshot of ring {ring} for slot {slot} cannot be read any more: {error}")]
    Lost {
        /// The ring.
        ring: RingId,
        /// The first slot that is not covered.
        slot: Slot,
        /// What is wrong with it.
        error: SnapshotError,
    },
}

/// Why a snapshot was not restored.
#[derive(Debug)]
enum Obstacle {
    File(SnapshotError),
    Machine(RestoreFailure),
}

impl From<SnapshotError> for Obstacle {
    fn from(error: SnapshotError) -> Obstacle {
        Obstacle::File(error)
    }
}

impl Snapshots {
    /// At start, may block: gives the state machine the newest snapshot of the ring that is sound, and tells the
    /// first slot that it does not cover; 0 when there is none.
    pub(crate) fn restore(
        &mut self,
        options: &RingOptions,
        executor: &mut Executor,
    ) -> Result<Slot, RestoreMachineError> {
        let ring = options.ring;
        let mut names = self.newest_first(ring).into_iter().peekable();
        while let Some(name) = names.next() {
            let slot = name.slot;
            // Behind the last one only the journal is left, and that needs a machine which was given nothing yet.
            let is_last = names.peek().is_none() && executor.is_whole();
            let sound = if is_last { self.check(name) } else { Ok(()) };
            match sound.and_then(|()| self.read_into(name, executor)) {
                Ok(()) => return Ok(slot),
                Err(Obstacle::Machine(failure)) => {
                    return Err(RestoreMachineError::Machine { ring, slot, failure });
                }
                Err(Obstacle::File(error)) => {
                    self.refuse(name, &error);
                    if names.peek().is_none() && !executor.is_whole() {
                        return Err(RestoreMachineError::NoneSound { ring, slot, error });
                    }
                }
            }
        }
        Ok(Slot(0))
    }

    /// At start, may block: the first slot that the newest sound snapshot of the ring does not cover.
    pub(crate) fn verify(&mut self, options: &RingOptions) -> Slot {
        for name in self.newest_first(options.ring) {
            match self.check(name) {
                Ok(()) => return name.slot,
                Err(Obstacle::File(error)) => self.refuse(name, &error),
                Err(Obstacle::Machine(_)) => {}
            }
        }
        Slot(0)
    }

    /// May block: gives the state machine the snapshot of slots below `slot`, which was verified at start.
    pub(crate) fn restore_at(
        &mut self,
        options: &RingOptions,
        slot: Slot,
        executor: &mut Executor,
    ) -> Result<(), RestoreMachineError> {
        if slot == Slot(0) {
            return Ok(());
        }
        let ring = options.ring;
        self.read_into(SnapshotName { ring, slot }, executor).map_err(|obstacle| match obstacle {
            Obstacle::File(error) => RestoreMachineError::Lost { ring, slot, error },
            Obstacle::Machine(failure) => RestoreMachineError::Machine { ring, slot, failure },
        })
    }

    fn newest_first(&self, ring: RingId) -> Vec<SnapshotName> {
        self.shelf.snapshots(ring).map(|snapshot| snapshot.header.name()).collect()
    }

    fn refuse(&mut self, name: SnapshotName, error: &SnapshotError) {
        reach!(OLDER_SNAPSHOT_TRIED);
        tracing::error!(ring = %name.ring, slot = name.slot.0, %error, "a snapshot is damaged: an older one is tried");
        self.shelf.found_damaged(name);
    }

    /// Reads a snapshot from front to back for nothing but its soundness.
    fn check(&mut self, name: SnapshotName) -> Result<(), Obstacle> {
        self.read(name, |_, _| Ok(())).map(drop)
    }

    fn read_into(&mut self, name: SnapshotName, executor: &mut Executor) -> Result<(), Obstacle> {
        let mut is_first = true;
        let mut give = |point, is_last, bytes: &[u8]| {
            let piece = SnapshotPiece { point, is_first, is_last, bytes };
            is_first = false;
            executor.restore_piece(&piece).map_err(Obstacle::Machine)
        };
        let (header, _) =
            self.read(name, |header, records| give(point_of(header), false, records.as_bytes()))?;
        give(point_of(&header), true, &[])
    }

    fn read(
        &mut self,
        name: SnapshotName,
        each: impl FnMut(&SnapshotHeader, SnapshotRecords<'_>) -> Result<(), Obstacle>,
    ) -> Result<(SnapshotHeader, SnapshotExtent), Obstacle> {
        read_snapshot(&mut self.vault, name, VaultState::Published, Expected::Own(self.identity), each)
    }
}

fn point_of(header: &SnapshotHeader) -> SnapshotPoint {
    SnapshotPoint { slot: header.slot, time_ns: header.time_ns }
}
