//! A snapshot of one ring: the state machine writes it slice by slice while it goes on executing.

use annulus_rings::{Cut, Input, RingId, Time, reach};
use annulus_storage::{
    Disk, ShelvedSnapshot, SnapshotConfiguration, SnapshotError, SnapshotHeader, SnapshotWriting, Vault,
    VaultCompletion,
};
use annulus_transport::Network;

use super::super::Core;
use crate::clock::Clock;
use crate::{SnapshotReader, SnapshotStep};

/// The snapshot that is being taken.
pub(super) struct Taking {
    index: usize,
    token: u64,
    /// Where the journal can be cut once it is durable.
    cut: Cut,
    writing: SnapshotWriting,
    /// The state machine has written all.
    is_written: bool,
}

impl Taking {
    pub(super) fn token(&self) -> u64 {
        self.token
    }

    pub(super) fn answered(&mut self, vault: &mut Box<dyn Vault>, completion: VaultCompletion) {
        self.writing.on(vault, completion);
    }

    /// Whether the state machine is asked for a slice in the next turn.
    pub(super) fn wants_records(&self) -> bool {
        !self.is_written && self.writing.wants_records() > 0
    }
}

impl<D: Disk, N: Network, C: Clock> Core<D, N, C> {
    /// Takes the next slice of the snapshot at hand, or begins the next one.
    pub(super) fn take_snapshot(&mut self, now: Time) -> usize {
        let Some(taking) = &mut self.snapshots.taking else { return self.begin_snapshot(now) };
        if let Some(outcome) = taking.writing.outcome() {
            self.snapshot_ended(outcome, now);
            return 1;
        }
        if !taking.wants_records() {
            return 0;
        }
        let index = taking.index;
        self.take_slice(index);
        1
    }

    /// Begins a snapshot of the next ring that is due.
    fn begin_snapshot(&mut self, now: Time) -> usize {
        let Some(index) = self.snapshots.queue.pop_front() else { return 0 };
        let index = index as usize;
        let replica = &mut self.replicas[index];
        replica.demand.is_queued = false;
        if replica.is_reloading() {
            return 1; // It is queued again when that has ended.
        }
        if replica.is_saved() {
            replica.demand.begun();
            return 1;
        }
        if !replica.demand.is_due(now, &self.snapshots.options) {
            return 1; // It was queued while one was taken that failed, or is held off: what it waits for comes.
        }
        replica.demand.begun();
        let cut = replica.ring.cut(&self.outbox);
        let options = replica.ring.options();
        let header = SnapshotHeader {
            identity: self.snapshots.identity,
            ring: options.ring,
            slot: cut.slot,
            time_ns: replica.time_ns(),
            origin: options.node,
            configuration: SnapshotConfiguration {
                id: options.configuration.id(),
                first_slot: options.configuration.first_slot(),
                members: options.configuration.members().to_vec(),
            },
            pending: None,
        };
        let token = self.snapshots.token();
        let writing = SnapshotWriting::begin(&mut self.snapshots.vault, token, header);
        self.snapshots.taking = Some(Taking { index, token, cut, writing, is_written: false });
        self.take_slice(index);
        1
    }

    /// Asks the state machine for a slice and hands its records to the vault.
    fn take_slice(&mut self, index: usize) {
        let snapshots = &mut self.snapshots;
        let Some(taking) = &mut snapshots.taking else { return };
        snapshots.slice.clear();
        let replica = &mut self.replicas[index];
        let step = match replica.snapshot_slice(&mut snapshots.slice, snapshots.options.slice_bytes) {
            Ok(step) => step,
            Err(failure) => {
                tracing::error!(ring = %replica.id(), %failure, "its state machine writes no snapshot");
                SnapshotStep::Unsupported
            }
        };
        if step == SnapshotStep::Unsupported {
            replica.demand.give_up();
            taking.is_written = true;
            taking.writing.abandon(&mut snapshots.vault);
            return;
        }
        let slice = SnapshotReader::new(taking.cut.slot, false, false, &snapshots.slice);
        let slice = slice.expect("the writer lays whole records");
        for record in slice.records() {
            taking.writing.record(&mut snapshots.vault, record);
        }
        if step == SnapshotStep::Done {
            taking.is_written = true;
            taking.writing.finish(&mut snapshots.vault);
        }
    }

    /// A snapshot is durable and verified, or there is none.
    fn snapshot_ended(&mut self, outcome: Result<ShelvedSnapshot, SnapshotError>, now: Time) {
        let Some(Taking { index, cut, .. }) = self.snapshots.taking.take() else { return };
        let replica = &mut self.replicas[index];
        replica.give_up_snapshot();
        let ring = replica.id();
        match outcome {
            Ok(shelved) => {
                self.statistics.snapshots_taken += 1;
                self.statistics.snapshot_bytes_written += shelved.bytes;
                self.snapshots.shelf.add(shelved);
                self.step(index, now, Input::Snapshotted(cut.slot));
                self.cut_journal(index, cut, now);
                self.clear_shelf(ring);
            }
            Err(SnapshotError::Abandoned) => {}
            Err(error) => {
                reach!(SNAPSHOT_FAILED);
                self.statistics.snapshots_failed += 1;
                tracing::warn!(%ring, %error, "no snapshot could be taken");
                replica.demand.failed(now);
                self.snapshots.schedule(index, &self.replicas[index].demand);
            }
        }
    }

    /// Somebody asks for a snapshot of a ring.
    pub fn ask_for_snapshot(&mut self, ring: RingId, now: Time) {
        if let Some(index) = self.replicas.find(ring) {
            let demand = &mut self.replicas[index].demand;
            demand.ask();
            self.snapshots.enqueue(index, demand, now);
        }
    }

    /// Somebody asks that no snapshot of a ring be taken for now, or that they may be again. One that is being
    /// taken is given up: it may be the reason.
    pub fn hold_snapshots(&mut self, ring: RingId, is_held: bool, now: Time) {
        let Some(index) = self.replicas.find(ring) else { return };
        if is_held {
            self.give_up_taking(index);
        }
        let demand = &mut self.replicas[index].demand;
        demand.hold(is_held);
        self.snapshots.enqueue(index, demand, now);
        // What failed shortly before is not due yet, and no time was set for it while it was held off.
        self.snapshots.schedule(index, &self.replicas[index].demand);
    }

    /// Gives up the snapshot of a ring that is being taken.
    pub(super) fn give_up_taking(&mut self, index: usize) {
        let snapshots = &mut self.snapshots;
        if let Some(taking) = snapshots.taking.as_mut().filter(|taking| taking.index == index) {
            taking.is_written = true;
            taking.writing.abandon(&mut snapshots.vault);
            self.replicas[index].give_up_snapshot();
            self.replicas[index].demand.ask();
        }
    }
}
