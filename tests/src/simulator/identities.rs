//! What an observer knows of the lives of disks: who takes part, who remembers whom, and who has forgotten.

use std::collections::{BTreeMap, BTreeSet};

use annulus_rings::{Frame, Incarnation, Kind, Lsn, NodeId};

use crate::world::Violation;

/// See the module.
#[derive(Default)]
pub(super) struct Identities {
    /// Nodes whose journals say that they take part.
    admitted: BTreeSet<NodeId>,
    /// What the journal of one node says of another's: its life, and how far it has reached.
    remembered: BTreeMap<(NodeId, NodeId), (u64, Lsn)>,
    /// Nodes that took part on a disk that was replaced by an empty one.
    wiped: BTreeSet<NodeId>,
    /// Nodes on an old copy of their disk.
    restored: BTreeSet<NodeId>,
    /// Those of them that were started since: until then frames of the disk before are still on their way.
    started: BTreeSet<NodeId>,
}

impl Identities {
    /// A core's own record is durable.
    pub(super) fn durable(&mut self, node: NodeId, frame: &Frame) {
        match frame.kind() {
            Kind::Admitted => _ = self.admitted.insert(node),
            Kind::Acquainted => {
                let [peer, incarnation, watermark, _] = frame.header().words;
                let known = (incarnation, Lsn(watermark));
                self.remembered.insert((node, NodeId(peer as u16)), known);
            }
            _ => {}
        }
    }

    /// Whether the node takes part, on a disk that remembers it.
    pub(super) fn is_admitted(&self, node: NodeId) -> bool {
        self.admitted.contains(&node)
    }

    /// How far the journal of `node` durably remembers that of `peer` to have reached, in this life.
    pub(super) fn remembers(&self, node: NodeId, peer: NodeId, incarnation: Incarnation) -> Lsn {
        let known = self.remembered.get(&(node, peer));
        known.filter(|(life, _)| *life == u64::from(incarnation.0)).map_or(Lsn(0), |(_, reached)| *reached)
    }

    pub(super) fn wiped(&mut self, node: NodeId) {
        self.forgets(node);
        self.restored.remove(&node);
        if self.admitted.remove(&node) {
            self.wiped.insert(node);
        }
    }

    pub(super) fn restored(&mut self, node: NodeId) {
        self.forgets(node);
        self.restored.insert(node);
    }

    /// A process starts, on whatever disk.
    pub(super) fn started(&mut self, node: NodeId) {
        if self.wiped.contains(&node) || self.restored.contains(&node) {
            self.started.insert(node);
        }
    }

    /// What its journal said is gone, or may be.
    fn forgets(&mut self, node: NodeId) {
        self.started.remove(&node);
        self.remembered.retain(|(owner, _), _| *owner != node);
    }

    /// Judges a frame between nodes: whoever forgot votes helps nobody, and is helped by nobody. One on an old
    /// copy may ask for votes before it hears that it is one; nobody answers.
    pub(super) fn sent(&self, from: NodeId, to: NodeId, frame: &Frame) -> Result<(), Violation> {
        let kind = frame.kind();
        let broken = |rule, what| Err(Violation { rule, what });
        if kind.is_of_core() {
            return Ok(());
        }
        if self.wiped.contains(&from) {
            return broken("R6", format!("{from:?} takes part on an empty disk: {frame:?}"));
        }
        if self.restored.contains(&from) && kind != Kind::PreVote {
            return broken("A10", format!("{from:?} takes part on an old copy of its disk: {frame:?}"));
        }
        if kind == Kind::PreVoted && self.started.contains(&to) {
            return broken("A10", format!("{from:?} hears {to:?}, which has forgotten votes"));
        }
        Ok(())
    }

    /// A node stops because a peer remembers more than its disk does.
    pub(super) fn stopped(node: NodeId, is_damaged: bool) -> Result<(), Violation> {
        if is_damaged {
            return Ok(());
        }
        let what = format!("{node:?} stops, and its disk has forgotten nothing");
        Err(Violation { rule: "R6", what })
    }
}
