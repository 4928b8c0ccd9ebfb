//! What a ring wants done: memory of the caller, filled by [`Ring::step`](crate::Ring::step).

use crate::{Ballot, Frame, FramePool, Lsn, NodeId, RingId, Slot};

/// The effects of one or more steps, of one or more rings of a core, in order.
///
/// The caller performs and clears them. Frames in `transmits` depend on no write that is not durable:
/// the ring holds back what must wait until the caller reports [`Input::Persisted`](crate::Input::Persisted).
pub struct Outbox {
    /// Frames to send.
    pub transmits: Vec<Transmit>,
    /// Frames to write to the journal, numbered without gaps from the position after the last one.
    pub appends: Vec<Append>,
    /// Everything else.
    pub events: Vec<Event>,
    /// Where rings take the buffers of their frames.
    pub pool: FramePool,
    appended: Lsn,
}

/// A frame to send to one node.
#[derive(Clone, Debug)]
pub struct Transmit {
    /// The receiver; never the sender itself.
    pub to: NodeId,
    /// The frame.
    pub frame: Frame,
}

/// A frame to make durable.
#[derive(Clone, Debug)]
pub struct Append {
    /// Its position in the core's journal.
    pub lsn: Lsn,
    /// The ring that reported it.
    pub ring: RingId,
    /// The frame, stored as it is.
    pub frame: Frame,
}

/// What a replica is in its ring at the moment.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Role {
    /// Follows a leader, known or not.
    Follower {
        /// Who leads, as far as this replica knows.
        leader: Option<NodeId>,
    },
    /// Asks for votes, or recovers what earlier leaders left.
    Candidate,
    /// Proposes.
    Leader,
}

/// What happened in a ring that its core acts on.
#[derive(Clone, Debug)]
pub enum Event {
    /// The value of a slot is decided and every slot below it was reported before: execute it.
    /// The frame is the Accept that carries the batch.
    Chosen {
        /// The ring.
        ring: RingId,
        /// The slot; the caller sees them in order without gaps.
        slot: Slot,
        /// The batch.
        frame: Frame,
    },
    /// The replica's role changed. When it was leader before, everything that it proposed and that was
    /// not reported chosen yet has an unknown outcome.
    RoleChanged {
        /// The ring.
        ring: RingId,
        /// The new role.
        role: Role,
        /// The ballot that it follows or leads in.
        ballot: Ballot,
    },
    /// A peer asks for chosen slots that this ring no longer holds in memory: read the Accept and Learn
    /// frames of `from..upto` from the journal and answer with [`Input::Retrieved`](crate::Input::Retrieved).
    Retrieve {
        /// The ring.
        ring: RingId,
        /// Who asks.
        to: NodeId,
        /// First slot.
        from: Slot,
        /// First slot not asked for.
        upto: Slot,
    },
    /// A peer no longer has slots that this replica lacks, but a snapshot of them. When one is restored and
    /// durable, answer with [`Input::Installed`](crate::Input::Installed). Reported again as long as slots
    /// are missing.
    SnapshotWanted {
        /// The ring.
        ring: RingId,
        /// Who has a snapshot.
        from: NodeId,
        /// The first slot that it does not cover, when it was told.
        slot: Slot,
    },
}

impl Outbox {
    /// An empty outbox for a journal whose last record is `appended`.
    pub fn new(appended: Lsn, pool: FramePool) -> Outbox {
        Outbox { transmits: Vec::new(), appends: Vec::new(), events: Vec::new(), pool, appended }
    }

    /// The position of the last frame appended.
    pub fn appended(&self) -> Lsn {
        self.appended
    }

    /// Queues a frame for the journal and tells its position. Rings do so as they step, and the core for its
    /// own records, under a ring that it has none of.
    pub fn append(&mut self, ring: RingId, frame: Frame) -> Lsn {
        self.appended = self.appended.next();
        self.appends.push(Append { lsn: self.appended, ring, frame });
        self.appended
    }

    /// Queues a frame for a peer.
    pub(crate) fn send(&mut self, to: NodeId, frame: Frame) {
        self.transmits.push(Transmit { to, frame });
    }
}
