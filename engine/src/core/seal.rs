//! Sealing: what waited becomes the batch of the next slot.

use annulus_rings::frame::HEADER_BYTES;
use annulus_rings::{Input, Time, ensures};
use annulus_storage::Disk;
use annulus_transport::Network;

use super::Core;
use super::execute::end_of;
use super::waiter::Waiter;
use crate::Rejected;
use crate::clock::Clock;

impl<D: Disk, N: Network, C: Clock> Core<D, N, C> {
    /// Seals and proposes a batch for every ring where commands wait, the window is open and the journal
    /// has room. There is no timer: a batch is what arrived while the one before was on its way.
    pub(super) fn seal(&mut self, now: Time) -> usize {
        let mut clocks = None;
        let mut sealed = 0;
        for position in 0..self.replicas.active_count() {
            let index = self.replicas.active_at(position);
            while let Some(bytes) = self.replicas[index].sealable() {
                let bytes = bytes + HEADER_BYTES;
                if self.journal.lacks_space(self.admitted_bytes + bytes) {
                    self.refuse_without_space(index);
                    break;
                }
                if !self.admit(bytes) {
                    break;
                }
                let clock = &self.clock;
                let (at, wall_ns) = *clocks.get_or_insert_with(|| (clock.now(), clock.wall_ns()));
                self.seal_one(index, now, at, wall_ns);
                sealed += 1;
            }
        }
        sealed
    }

    /// Where the disk is full, what waits would wait for ever: its clients hear that it never takes effect.
    fn refuse_without_space(&mut self, index: usize) {
        let service = &mut self.service;
        let end = |waiter: Waiter, why| waiter.end(service, end_of(Some(why)));
        self.replicas[index].refuse_waiting(Rejected::NoSpace, end);
    }

    fn seal_one(&mut self, index: usize, now: Time, at: Time, wall_ns: u64) {
        let replica = &mut self.replicas[index];
        let Some((slot, sealed)) = replica.seal(&mut self.outbox.pool, wall_ns) else { return };
        self.stages.sealed(index, slot, sealed.commands, at);
        self.statistics.batches_proposed += 1;
        self.statistics.commands_proposed += u64::from(sealed.commands);
        self.step(index, now, Input::Propose(sealed.batch));
        ensures!(P6, self.replicas[index].ring.progress().proposed == slot.next());
    }
}
