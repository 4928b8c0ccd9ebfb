//! The handle of a ring for other threads.

use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use annulus_rings::{NodeId, RingId};

use crate::clock::{Clock, SystemClock};
use crate::mailbox::{Letter, Mailbox};
use crate::status::StatusCell;
use crate::{Completion, Proposal, Query, RingStatus, ticket};

/// Proposes to one ring from any thread. Cheap to clone.
#[derive(Clone)]
pub struct RingHandle {
    ring: RingId,
    mailbox: Mailbox,
    status: Arc<StatusCell>,
}

/// How often [`RingHandle::wait_for_leader`] looks.
const LEADER_LOOK_INTERVAL: Duration = Duration::from_millis(1);

impl RingHandle {
    pub(crate) fn new(ring: RingId, mailbox: Mailbox, status: Arc<StatusCell>) -> RingHandle {
        RingHandle { ring, mailbox, status }
    }

    /// The ring.
    pub fn id(&self) -> RingId {
        self.ring
    }

    /// Submits a command. Never blocks: what cannot be taken is rejected through the proposal.
    pub fn propose(&self, command: &[u8]) -> Proposal {
        let (ticket, promise) = ticket::issue(command.to_vec(), SystemClock.now());
        self.post(command.len(), Letter::Propose { ring: self.ring, promise });
        Proposal(ticket)
    }

    /// Asks this node's replica, which may lag behind the leader's.
    pub fn query(&self, query: &[u8]) -> Query {
        let (ticket, promise) = ticket::issue(query.to_vec(), SystemClock.now());
        self.post(query.len(), Letter::Query { ring: self.ring, promise });
        Query(ticket)
    }

    /// Asks this node's replica for a snapshot, whatever else speaks for one. It is taken beside the commits;
    /// [`RingStatus::snapshot`] tells when it is durable. A replica that is gone, or whose state machine writes
    /// none, takes none.
    pub fn snapshot(&self) {
        // A core that has ended needs no snapshot.
        let _ = self.mailbox.post_surely(Letter::Snapshot { ring: self.ring });
    }

    /// Holds snapshots of this node's replica off, or lets them be taken again: a gate for times at which they
    /// would harm. One that is being taken is given up, and taken later. The journal grows meanwhile; when it
    /// has reached its bound, commands are rejected as full. Not remembered over a restart.
    pub fn hold_snapshots(&self, is_held: bool) {
        let _ = self.mailbox.post_surely(Letter::HoldSnapshots { ring: self.ring, is_held });
    }

    /// Where this node's replica stands.
    pub fn status(&self) -> RingStatus {
        self.status.read()
    }

    /// Blocks until this node's replica knows who leads, `timeout` at the most; tells who does.
    pub fn wait_for_leader(&self, timeout: Duration) -> Option<NodeId> {
        let deadline = Instant::now() + timeout;
        loop {
            let leader = self.status().leader;
            if leader.is_some() || Instant::now() >= deadline {
                return leader;
            }
            thread::sleep(LEADER_LOOK_INTERVAL);
        }
    }

    fn post(&self, bytes: usize, letter: Letter) {
        let Err((why, letter)) = self.mailbox.post(bytes, letter) else { return };
        if let Letter::Propose { promise, .. } | Letter::Query { promise, .. } = letter {
            promise.complete(Completion::Rejected(why));
        }
    }
}

impl fmt::Debug for RingHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RingHandle({:?}, {:?})", self.ring, self.status())
    }
}

/// A handle crosses threads.
const _: fn() = || {
    fn crosses<T: Send + Sync + Clone>() {}
    crosses::<RingHandle>();
};
