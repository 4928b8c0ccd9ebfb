//! What the state machine of a world knows: which values it was given, in which order. And its snapshots.

use annulus_rings::frame::ValueId;
use annulus_rings::{Cut, Slot};

/// The state after every slot below `slot`; a copy of it is a snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct State {
    /// The first slot that was not executed.
    pub slot: Slot,
    /// The values, in the order in which they were executed.
    pub digest: u64,
}

impl State {
    /// Executes the next slot.
    pub(crate) fn execute(&mut self, slot: Slot, value: ValueId) {
        assert_eq!(slot, self.slot, "L4: slots are executed in order, each once");
        self.digest = ValueId::fold(self.digest, slot, value);
        self.slot = slot.next();
    }
}

/// How far a snapshot is that a node takes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum SnapshotStage {
    /// It is being written.
    Begun,
    /// It is durable; the ring was not told.
    Published,
    /// The ring knows, and may be truncated.
    Told,
}

/// A snapshot that a node takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taking {
    pub(super) state: State,
    /// Where the journal may be cut when it is durable.
    pub(super) cut: Cut,
    pub(super) stage: SnapshotStage,
}
