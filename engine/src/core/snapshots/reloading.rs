//! A ring whose state is replaced by a snapshot while its core goes on: block by block, a few in each turn.
//!
//! Meanwhile the ring votes, and nothing of it is executed: what it reports chosen waits. With the last block it
//! jumps: what waits and is covered counts as executed, what lies above is executed, and the ring learns that
//! its log begins at the snapshot (T3).

use annulus_rings::{Input, Slot, Time, reach};
use annulus_storage::{
    Disk, Expected, SnapshotError, SnapshotName, SnapshotPart, SnapshotReading, VaultCompletion, VaultState,
};
use annulus_transport::Network;

use super::super::Core;
use super::super::executor::{SnapshotPiece, SnapshotPoint};
use crate::RestoreFailure;
use crate::clock::Clock;
use crate::vitals::End;

/// Parts of a snapshot that one turn takes: a block each.
const TURN_PARTS_MAX: usize = 4;

/// The snapshot that is being restored.
pub(super) struct Reloading {
    index: usize,
    token: u64,
    name: SnapshotName,
    reading: SnapshotReading,
    point: SnapshotPoint,
    is_first: bool,
    /// The vault is to answer first.
    awaits_vault: bool,
}

/// Why a reload ended before the snapshot did.
enum Obstacle {
    File(SnapshotError),
    Machine(RestoreFailure),
}

impl Reloading {
    pub(super) fn token(&self) -> u64 {
        self.token
    }

    pub(super) fn answered(&mut self, completion: VaultCompletion) {
        self.reading.on(completion);
        self.awaits_vault = false;
    }

    pub(super) fn is_of(&self, index: usize) -> bool {
        self.index == index
    }

    /// Whether the next turn can go on.
    pub(super) fn is_ready(&self) -> bool {
        !self.awaits_vault
    }
}

impl<D: Disk, N: Network, C: Clock> Core<D, N, C> {
    /// Begins to restore the snapshot of slots below `slot`, which is on the shelf.
    pub(super) fn begin_reload(&mut self, index: usize, slot: Slot) {
        self.give_up_taking(index);
        let replica = &mut self.replicas[index];
        replica.begin_reload();
        let snapshots = &mut self.snapshots;
        let token = snapshots.token();
        let name = SnapshotName { ring: replica.id(), slot };
        let (vault, own) = (&mut snapshots.vault, Expected::Own(snapshots.identity));
        let reading = SnapshotReading::begin(vault, token, name, VaultState::Published, own);
        snapshots.shelf.hold(name);
        snapshots.reloading = Some(Reloading {
            index,
            token,
            name,
            reading,
            point: SnapshotPoint { slot, time_ns: 0 },
            is_first: true,
            awaits_vault: true,
        });
    }

    /// Goes on with the reload at hand.
    pub(super) fn reload(&mut self, now: Time) -> usize {
        let mut work = 0;
        while work < TURN_PARTS_MAX
            && let Some(reloading) =
                self.snapshots.reloading.as_ref().filter(|reloading| reloading.is_ready())
        {
            let index = reloading.index;
            work += 1;
            match self.reload_part() {
                Ok(false) => {}
                Ok(true) => self.reloaded(index, now),
                Err(Obstacle::File(error)) => self.reload_failed(&error, now),
                Err(Obstacle::Machine(failure)) => {
                    let ring = self.replicas[index].id();
                    tracing::error!(%ring, %failure, "its state machine takes no snapshot: this core stops");
                    self.stop(End::Failed(format!("ring {ring} cannot be restored: {failure}")));
                    return work;
                }
            }
        }
        work
    }

    /// Takes the next part; true when it was the last.
    fn reload_part(&mut self) -> Result<bool, Obstacle> {
        let snapshots = &mut self.snapshots;
        let Some(reloading) = &mut snapshots.reloading else { return Ok(false) };
        let replica = &mut self.replicas[reloading.index];
        match reloading.reading.advance(&mut snapshots.vault).map_err(Obstacle::File)? {
            SnapshotPart::More => {
                reloading.awaits_vault = true;
                Ok(false)
            }
            SnapshotPart::Header => {
                let header = reloading.reading.header().expect("the part is its header");
                reloading.point.time_ns = header.time_ns;
                Ok(false)
            }
            part => {
                let is_last = part == SnapshotPart::End;
                let is_first = std::mem::take(&mut reloading.is_first);
                let bytes = if is_last { &[] } else { reloading.reading.records().as_bytes() };
                let piece = SnapshotPiece { point: reloading.point, is_first, is_last, bytes };
                replica.restore_piece(&piece).map_err(Obstacle::Machine)?;
                Ok(is_last)
            }
        }
    }

    /// The state machine has the snapshot's state: the ring jumps there.
    fn reloaded(&mut self, index: usize, now: Time) {
        // What this turn brought to light waits with the rest: it may be covered.
        self.execute(now);
        let Some(Reloading { name, .. }) = self.snapshots.reloading.take() else { return };
        self.snapshots.shelf.release(name);
        let slot = name.slot;
        let waiting = self.replicas[index].end_reload();
        tracing::info!(ring = %name.ring, slot = slot.0, "restored from a snapshot");
        for (chosen, frame) in waiting {
            if chosen >= slot {
                reach!(EXECUTED_AFTER_RELOAD);
                self.execute_slot(index, chosen, &frame);
            }
            self.step(index, now, Input::Executed(chosen));
        }
        if !self.step(index, now, Input::Installed(slot)) {
            self.step(index, now, Input::Snapshotted(slot));
        }
        self.installed(index, now);
        self.snapshots.enqueue(index, &mut self.replicas[index].demand, now);
    }

    /// The file cannot be read after all: the ring finds another. A state machine that was given a part of it waits
    /// until then; one that was given nothing goes on as it is.
    fn reload_failed(&mut self, error: &SnapshotError, now: Time) {
        reach!(RELOAD_FAILED);
        let Some(Reloading { index, name, .. }) = self.snapshots.reloading.take() else { return };
        tracing::error!(ring = %name.ring, slot = name.slot.0, %error, "a snapshot was damaged since it was verified");
        self.snapshots.shelf.release(name);
        self.lose_snapshot(name, now);
        if self.replicas[index].is_torn() {
            return;
        }
        for (slot, frame) in self.replicas[index].end_reload() {
            self.execute_slot(index, slot, &frame);
            self.step(index, now, Input::Executed(slot));
        }
    }
}
