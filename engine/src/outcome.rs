//! What becomes of a proposal.

use annulus_rings::{NodeId, Slot};

/// The end of a proposal, as a client of another thread sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// A majority holds the command durably, and this replica has executed it.
    Committed {
        /// The slot of its batch.
        slot: Slot,
        /// What the state machine replied.
        reply: Vec<u8>,
    },
    /// The command certainly never takes effect.
    Rejected(Rejected),
    /// The command may or may not take effect: leadership was lost while it was in flight, or the
    /// core stopped.
    Unknown,
}

/// The end of a proposal, as a [`Service`](crate::Service) on the core sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Completion<'a> {
    /// A majority holds the command durably, and this replica has executed it.
    Committed {
        /// The slot of its batch.
        slot: Slot,
        /// What the state machine replied.
        reply: &'a [u8],
    },
    /// The command certainly never takes effect.
    Rejected(Rejected),
    /// The command may or may not take effect.
    Unknown,
}

/// Why a command was refused. It never takes effect (L7).
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Rejected {
    /// This replica does not lead the ring.
    #[error("this replica is not the leader{}", .0.map_or(String::new(), |node| format!(", node {node} is")))]
    NotLeader(
        /// Who leads, as far as this replica knows.
        Option<NodeId>,
    ),
    /// As much waits as may wait: try again when something has completed.
    #[error("{queued_bytes} bytes of commands wait already, no more may")]
    Full {
        /// Bytes that wait.
        queued_bytes: usize,
    },
    /// No space is left for this node's journal: there may be again, when somebody makes room.
    #[error("no space is left for the journal of this node: make room on its disk")]
    NoSpace,
    /// The command does not fit a batch.
    #[error("the command has {bytes} bytes, at most {bytes_max} fit a batch (see batch_bytes_max)")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The largest possible.
        bytes_max: usize,
    },
    /// This core has no such ring.
    #[error("this core has no such ring: create it first, on every node")]
    NoRing,
    /// This node's disk is fresh, and takes no part before enough peers know it: the first start of a cluster
    /// needs most of its nodes once.
    #[error("this node's disk is fresh, and not enough of its peers know it yet: start them")]
    NotReady,
    /// The engine is shutting down, or its core has stopped.
    #[error("the engine is shutting down")]
    ShuttingDown,
}

impl From<Completion<'_>> for Outcome {
    fn from(completion: Completion<'_>) -> Outcome {
        match completion {
            Completion::Committed { slot, reply } => Outcome::Committed { slot, reply: reply.to_vec() },
            Completion::Rejected(why) => Outcome::Rejected(why),
            Completion::Unknown => Outcome::Unknown,
        }
    }
}
