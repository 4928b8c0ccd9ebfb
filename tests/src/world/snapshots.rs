//! Snapshots of a world: each is taken in stages, and between any two a node may stop.

use annulus_rings::{Input, NodeId};

use super::state::{SnapshotStage, Taking};
use super::{Happening, World, judge};

/// A replica's wish for a peer's snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wish {
    /// The replica.
    pub node: NodeId,
    /// The peer.
    pub from: NodeId,
}

impl World {
    /// A node begins a snapshot of what it has executed, unless it takes one or has it.
    pub fn begin_snapshot(&mut self, id: NodeId) {
        let node = self.node(id);
        let executed = node.progress().executed;
        let is_news = node.snapshot().is_none_or(|newest| newest.slot < executed) && executed.0 > 0;
        if node.taking().is_none() && is_news {
            let taking = self.node_mut(id).begin_snapshot().expect("what has executed is up");
            self.observe(Happening::Begun { node: id, slot: taking.state.slot });
        }
    }

    /// The snapshot that a node takes reaches its next stage: it is durable; its ring is told; the journal is cut
    /// below it. False when there is nothing to be done any more.
    pub fn continue_snapshot(&mut self, id: NodeId) -> bool {
        let Some(taking) = self.node(id).taking() else { return false };
        let Taking { state, cut, stage } = taking;
        match stage {
            SnapshotStage::Begun => {
                self.node_mut(id).publish(state, false);
                self.node_mut(id).set_taking(Some(Taking { stage: SnapshotStage::Published, ..taking }));
                self.observe(Happening::Published { node: id, state });
            }
            SnapshotStage::Published => {
                self.node_mut(id).set_taking(Some(Taking { stage: SnapshotStage::Told, ..taking }));
                self.step(id, Input::Snapshotted(state.slot));
            }
            SnapshotStage::Told => {
                self.node_mut(id).set_taking(None);
                self.step(id, Input::Truncate(cut));
            }
        }
        true
    }

    /// A node takes a snapshot as far as `stage`.
    pub fn take_snapshot(&mut self, id: NodeId, stage: SnapshotStage) {
        self.begin_snapshot(id);
        while self.node(id).taking().is_some_and(|taking| taking.stage < stage) {
            self.continue_snapshot(id);
        }
    }

    /// A node's journal is cut below the snapshot that it takes, or below the one that it started from.
    pub fn truncate(&mut self, id: NodeId) {
        if self.node(id).taking().is_none() {
            return self.truncate_restored(id);
        }
        while self.continue_snapshot(id) {}
    }

    /// Gives up the snapshot that a node takes.
    pub fn abandon_snapshot(&mut self, id: NodeId) {
        if self.node(id).taking().is_some() {
            self.node_mut(id).set_taking(None);
        }
    }

    /// Cuts a node's journal below the snapshot that it started from.
    pub fn truncate_restored(&mut self, id: NodeId) {
        if let Some(cut) = self.node(id).ring().map(annulus_rings::Ring::restored_cut) {
            self.step(id, Input::Truncate(cut));
        }
    }

    /// A ring writes what it holds again, if it can.
    pub fn carry(&mut self, id: NodeId) {
        if self.node(id).ring().is_some_and(annulus_rings::Ring::can_carry) {
            self.step(id, Input::Carry);
        }
    }

    /// Frees at most so many records that the ring of a node no longer needs.
    pub fn free(&mut self, id: NodeId, records: usize) {
        if let Some(below) = self.node_mut(id).free(records) {
            self.observe(Happening::Freed { node: id, below });
        }
    }

    /// The newest snapshot of a peer arrives and is durable, if it is of use; false when it is not.
    pub fn transfer(&mut self, wish: Wish) -> bool {
        let Wish { node, from } = wish;
        let linked = !self.cuts.contains(&(node, from)) && !self.cuts.contains(&(from, node));
        let can_be = linked && self.node(node).is_up() && self.node(from).is_up();
        let Some(state) = self.node(from).snapshot().filter(|_| can_be) else { return false };
        let known = self
            .node(node)
            .snapshot()
            .map_or(self.node(node).progress().chosen, |own| own.slot.max(self.node(node).progress().chosen));
        if state.slot <= known {
            return false;
        }
        self.node_mut(node).publish(state, true);
        self.observe(Happening::Published { node, state });
        true
    }

    /// The snapshot that has arrived at a node takes effect.
    pub fn install(&mut self, id: NodeId) {
        let now = self.now;
        match self.node_mut(id).install(now) {
            Some((state, Ok(()))) => self.observe(Happening::Installed { node: id, state }),
            Some((_, Err(why))) => self.observe(Happening::Ignored { node: id, why }),
            None => return,
        }
        self.perform(id, usize::MAX);
        let state = self.node(id).state().expect("what installs is up");
        judge(self.oracle.executed(id, state));
    }
}
