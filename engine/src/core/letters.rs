//! What other threads ask of the core.

use std::sync::Arc;

use annulus_rings::{RingId, Time};
use annulus_storage::Disk;
use annulus_transport::Network;

use super::replica::Replica;
use super::restoring::{RestoreRoom, Restoring};
use super::{Core, CoreReport, Waiter};
use crate::clock::Clock;
use crate::error::CreateError;
use crate::mailbox::{Letter, MachineFactory};
use crate::status::StatusCell;
use crate::ticket::Promise;
use crate::{Completion, Rejected};

/// Letters of one turn, so that no thread can hold the core.
const TURN_LETTERS_MAX: usize = 4096;

impl<D: Disk, N: Network, C: Clock> Core<D, N, C> {
    /// Takes what waits in the mailbox, up to a bound.
    pub(super) fn read_letters(&mut self, now: Time) -> usize {
        let mut letters = 0;
        while letters < TURN_LETTERS_MAX
            && let Some(letter) = self.mailbox.take()
        {
            self.read_letter(letter, now);
            letters += 1;
        }
        letters
    }

    fn read_letter(&mut self, letter: Letter, now: Time) {
        match letter {
            Letter::Propose { ring, promise } => self.propose_for(ring, promise, now),
            Letter::Query { ring, promise } => self.query_for(ring, promise, now),
            Letter::Create { ring, machine, created } => {
                // Whoever asked may have gone; the ring is there either way.
                let _ = created.send(self.create(ring, machine, now));
            }
            Letter::Find { ring, found } => {
                let index = self.replicas.find(ring);
                let _ = found.send(index.map(|index| self.replicas[index].status_cell()));
            }
            Letter::Snapshot { ring } => self.ask_for_snapshot(ring, now),
            Letter::HoldSnapshots { ring, is_held } => self.hold_snapshots(ring, is_held, now),
            Letter::Report(to) => {
                let _ = to.send(self.report());
            }
            Letter::Stop => self.stopping = true,
        }
    }

    fn propose_for(&mut self, ring: RingId, promise: Promise, now: Time) {
        let (command, submitted) = (promise.command(), promise.submitted());
        let mut promise = Some(promise);
        let taken = self.local(now).submit(ring, submitted, &command, || {
            Waiter::Ticket(promise.take().expect("a waiter is made at most once"))
        });
        if let (Err(why), Some(promise)) = (taken, promise) {
            promise.complete(Completion::Rejected(why));
        }
    }

    fn query_for(&mut self, ring: RingId, promise: Promise, now: Time) {
        let mut reply = std::mem::take(&mut self.query_reply);
        reply.clear();
        let answered = self.local(now).query(ring, &promise.command(), &mut reply);
        promise.complete(match answered {
            // A query has no slot of its own: it reads what is executed.
            Ok(()) => Completion::Committed { slot: annulus_rings::Slot(0), reply: &reply },
            Err(why) => Completion::Rejected(why),
        });
        self.query_reply = reply;
    }

    /// Hosts a ring: what the journal held of it is executed on the fresh state machine.
    fn create(
        &mut self,
        ring: RingId,
        machine: MachineFactory,
        now: Time,
    ) -> Result<Arc<StatusCell>, CreateError> {
        if self.stopping {
            return Err(CreateError::Stopped(ring));
        }
        if self.replicas.find(ring).is_some() {
            return Err(CreateError::Exists(ring));
        }
        let options = self.options.ring(ring);
        let snapshots = &mut self.snapshots;
        let restoring =
            self.restoring.entry(ring).or_insert_with(|| Restoring::undeclared(options, snapshots));
        restoring
            .attach(machine(), snapshots, &mut RestoreRoom::new())
            .map_err(|error| CreateError::Restore { ring, why: error.to_string() })?;
        Ok(self.host(ring, now))
    }

    /// Lets a restored ring live.
    pub(super) fn host(&mut self, ring: RingId, now: Time) -> Arc<StatusCell> {
        let restored = self.restoring.remove(&ring).expect("a ring is restored before it lives");
        let (ring, executor) = restored.finish(now, &self.outbox);
        let (id, window_slots) = (ring.options().ring, ring.options().window_slots);
        let replica = Replica::new(ring, executor, self.options.limits);
        let status = replica.status_cell();
        let index = self.replicas.add(replica);
        self.stages.add_ring(id, window_slots);
        self.replicas.activate(index);
        status
    }

    fn report(&mut self) -> CoreReport {
        self.count();
        CoreReport { statistics: self.statistics.clone(), stages: self.stages.report() }
    }

    /// Brings the statistics up to date with those that other parts keep.
    pub(super) fn count(&mut self) {
        let pulse = self.vitals.pulse();
        self.statistics.turns = pulse.turns;
        self.statistics.parks = pulse.parks;
        self.statistics.rings = self.replicas.count() as u64;
        self.statistics.pool_misses = self.outbox.pool.misses();
        self.statistics.journal = self.journal.statistics();
        self.statistics.network = self.network.statistics();
    }

    /// Ends what still waits in the mailbox, none of which was looked at.
    pub(super) fn refuse_letters(&mut self) {
        while let Some(letter) = self.mailbox.take() {
            if let Letter::Propose { promise, .. } | Letter::Query { promise, .. } = letter {
                promise.complete(Completion::Rejected(Rejected::ShuttingDown));
            }
        }
    }
}
