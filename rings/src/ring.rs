//! The ring: one transition at a time.

use std::time::Duration;

use crate::batch::Batch;
use crate::{
    Ballot, ClusterId, Configuration, Frame, Incarnation, Lsn, NodeId, Outbox, RingId, Role, Slot, Time,
};

/// What a ring is and how it behaves; fixed while it lives.
#[derive(Clone, Debug)]
pub struct RingOptions {
    /// The cluster.
    pub cluster: ClusterId,
    /// The ring.
    pub ring: RingId,
    /// This node.
    pub node: NodeId,
    /// The life of this node's disk.
    pub incarnation: Incarnation,
    /// The members from slot 0.
    pub configuration: Configuration,
    /// α: how many slots may be proposed and not yet chosen.
    pub window_slots: u32,
    /// The shortest silence of a leader after which a follower stands for election; the longest is twice that.
    pub election_timeout: Duration,
    /// The longest silence of a leader that is idle.
    pub heartbeat_interval: Duration,
    /// After this long without an answer, what is unanswered is sent again.
    pub resend_interval: Duration,
    /// Bytes of chosen slots kept in memory for peers that lag a little.
    pub retain_bytes: usize,
    /// The seed of election timeouts. Different on every node.
    pub seed: u64,
}

/// What happened, for [`Ring::step`].
#[derive(Debug)]
pub enum Input {
    /// A verified frame arrived for this ring.
    Frame(Frame),
    /// The batch that waited: the caller saw [`Ring::can_propose`].
    Propose(Batch),
    /// The journal holds everything up to here.
    Persisted(Lsn),
    /// The state machine has executed every slot up to and including this one.
    Executed(Slot),
    /// A deadline may have passed: see [`Ring::deadline`].
    Tick,
    /// The answer to [`Event::Retrieve`](crate::Event::Retrieve): Accept frames from `from` on,
    /// contiguous, all chosen.
    Retrieved {
        /// Who asked.
        to: NodeId,
        /// The first slot asked for.
        from: Slot,
        /// Accept frames in journal order; for one slot the last counts.
        frames: Vec<Frame>,
    },
}

/// Why an input changed nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum Ignored {
    /// The frame speaks in a ballot below the promise.
    #[error("stale ballot")]
    StaleBallot,
}

/// A ring whose journal is being read back. It takes frames in journal order and cannot vote.
pub struct Recovering {
    options: RingOptions,
}

impl Recovering {
    /// A ring with nothing durable yet.
    pub fn new(options: RingOptions) -> Recovering {
        Recovering { options }
    }

    /// Takes the next record of this ring.
    pub fn replay(&mut self, frame: &Frame) {
        let _ = frame;
    }

    /// The ring as the journal leaves it. What is chosen is reported through `out`.
    pub fn recovered(self, now: Time, out: &mut Outbox) -> Ring {
        let _ = (now, out);
        Ring { options: self.options }
    }
}

/// One replica of one Paxos replication group.
pub struct Ring {
    options: RingOptions,
}

impl Ring {
    /// Makes one transition.
    ///
    /// # Errors
    /// [`Ignored`] when the input changed nothing.
    pub fn step(&mut self, now: Time, input: Input, out: &mut Outbox) -> Result<(), Ignored> {
        let _ = (now, input, out);
        Ok(())
    }

    /// Whether a leader has room in its window for another slot.
    pub fn can_propose(&self) -> bool {
        false
    }

    /// When [`Input::Tick`] is due.
    pub fn deadline(&self) -> Time {
        Time::NEVER
    }

    /// What this replica is.
    pub fn role(&self) -> Role {
        Role::Follower { leader: None }
    }

    /// The ballot that it follows or leads in.
    pub fn ballot(&self) -> Ballot {
        Ballot::ZERO
    }

    /// Where the ring stands.
    pub fn progress(&self) -> Progress {
        Progress::default()
    }

    /// Who this ring is.
    pub fn options(&self) -> &RingOptions {
        &self.options
    }
}

/// The ladder of watermarks: each is the first slot that has not reached its stage.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Progress {
    /// First slot not proposed (leader) or not accepted here (follower).
    pub proposed: Slot,
    /// First slot whose own write is not durable.
    pub durable: Slot,
    /// First slot not known to be chosen.
    pub chosen: Slot,
    /// First slot not executed.
    pub executed: Slot,
}
