//! The core as its service sees it, for the length of a call.

use annulus_rings::{FramePool, RingId, Time};

use crate::clock::Clock;
use crate::core::{Replicas, Statistics, Waiter};
use crate::stages::{StageReport, Stages};
use crate::{Rejected, RingStatus};

/// Proposes from the core itself: in place, without channel, lock or allocation.
pub struct Local<'a> {
    pub(crate) replicas: &'a mut Replicas,
    pub(crate) stages: &'a mut Stages,
    pub(crate) pool: &'a mut FramePool,
    pub(crate) statistics: &'a Statistics,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) now: Time,
    pub(crate) stopping: bool,
    pub(crate) ready: bool,
    pub(crate) refused_full: bool,
}

impl Local<'_> {
    /// Submits a command. Its outcome comes through [`Service::completed`](crate::Service::completed)
    /// under `tag`, which the service chooses.
    ///
    /// # Errors
    /// The command was refused and certainly never takes effect; `completed` is not called for it.
    pub fn propose(&mut self, ring: RingId, tag: u64, command: &[u8]) -> Result<(), Rejected> {
        self.submit(ring, self.now, command, || Waiter::Service(tag))
    }

    /// Asks this replica, which may lag behind the leader's; the answer is appended to `reply`.
    ///
    /// # Errors
    /// This core does not host the ring, or takes no part yet.
    pub fn query(&mut self, ring: RingId, query: &[u8], reply: &mut Vec<u8>) -> Result<(), Rejected> {
        if !self.ready {
            return Err(Rejected::NotReady);
        }
        let index = self.replicas.find(ring).ok_or(Rejected::NoRing)?;
        if self.replicas[index].is_reloading() {
            return Err(Rejected::NotReady);
        }
        self.replicas[index].query(query, reply);
        Ok(())
    }

    /// Where this replica of the ring stands; `None` when this core does not host it.
    pub fn status(&mut self, ring: RingId) -> Option<RingStatus> {
        let index = self.replicas.find(ring)?;
        Some(self.replicas[index].status())
    }

    /// The rings of this core.
    pub fn rings(&self) -> impl Iterator<Item = RingId> {
        self.replicas.ids()
    }

    /// The time of this turn.
    pub fn now(&self) -> Time {
        self.now
    }

    /// The wall clock, ns since 1970. State machines use the replicated time of the batch instead.
    pub fn wall_ns(&self) -> u64 {
        self.clock.wall_ns()
    }

    /// What this core has counted up to the turn before.
    pub fn statistics(&self) -> &Statistics {
        self.statistics
    }

    /// What this core has measured.
    pub fn stages(&self) -> StageReport {
        self.stages.report()
    }

    /// Whether a proposal of this call was refused because too much waits.
    pub(crate) fn was_refused_full(&self) -> bool {
        self.refused_full
    }

    pub(crate) fn submit(
        &mut self,
        ring: RingId,
        submitted: Time,
        command: &[u8],
        waiter: impl FnOnce() -> Waiter,
    ) -> Result<(), Rejected> {
        if self.stopping {
            return Err(Rejected::ShuttingDown);
        }
        if !self.ready {
            return Err(Rejected::NotReady);
        }
        let index = self.replicas.find(ring).ok_or(Rejected::NoRing)?;
        let taken = self.replicas[index].propose(self.pool, command, waiter);
        match taken {
            Ok(()) => {
                self.replicas.activate(index);
                self.stages.submitted(index, submitted);
            }
            Err(why) => self.refused_full |= matches!(why, Rejected::Full { .. }),
        }
        taken
    }
}
