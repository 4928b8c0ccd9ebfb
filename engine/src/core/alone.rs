//! A core without a thread: whoever made it calls its turns.

use std::sync::Arc;

use annulus_rings::RingId;
use annulus_storage::Disk;
use annulus_transport::Network;

use super::{Core, CoreParts, RestoreError};
use crate::clock::Clock;
use crate::mailbox::MailboxReceiver;
use crate::vitals::End;
use crate::{RingStatus, StateMachine};

impl<D: Disk, N: Network, C: Clock> Core<D, N, C> {
    /// Reads the journal back and makes a core that hosts `rings` in the caller's hands. It has no thread,
    /// runner or mailbox, and touches the system through its disk, network, clock and service alone: where
    /// these are simulated, its history is a function of what they answer.
    ///
    /// The caller does what a runner does: takes turns until one finds no work and
    /// [`prepare_park`](Core::prepare_park) is false, then waits for an arrival, a completion or the
    /// [`deadline`](Core::deadline). When a turn panics, the core must be dropped.
    ///
    /// # Errors
    /// The journal does not give the rings back.
    pub fn alone(
        parts: CoreParts<D, N, C>,
        rings: Vec<(RingId, Box<dyn StateMachine>)>,
    ) -> Result<Core<D, N, C>, RestoreError> {
        Core::recover(parts, rings, MailboxReceiver::closed(), Arc::default())
    }

    /// What broke the core, after which it takes no more turns.
    pub fn failure(&self) -> Option<&str> {
        match self.over() {
            Some(End::Failed(why)) => Some(why),
            Some(End::Stopped) | None => None,
        }
    }

    /// Where this core's replica of a ring stands; `None` when it hosts none.
    pub fn status(&mut self, ring: RingId) -> Option<RingStatus> {
        let index = self.replicas.find(ring)?;
        Some(self.replicas[index].status())
    }
}
