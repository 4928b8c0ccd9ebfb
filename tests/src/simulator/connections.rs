//! Which processes are connected with which: what a network tells its core of its peers.
//!
//! A connection is between two processes. It ends with either of them, or when it breaks; the next one is
//! another. What is bound to a connection never shows up on the next: see [`Links`](super::network).

use std::collections::BTreeMap;

use annulus_rings::{Incarnation, NodeId, Time};
use annulus_transport::{PeerState, PeerStatus};

/// Every process that is up, and how many connections any two nodes have had.
#[derive(Default)]
pub(super) struct Connections {
    up: BTreeMap<NodeId, Incarnation>,
    /// How many disks each node had had when it was up last.
    disks: BTreeMap<NodeId, u32>,
    counts: BTreeMap<(NodeId, NodeId), u64>,
}

impl Connections {
    /// A process starts; true when it runs on another disk than the one before.
    pub(super) fn join(&mut self, node: NodeId, incarnation: Incarnation, disks: u32) -> bool {
        self.up.insert(node, incarnation);
        for peer in self.peers_up(node) {
            self.renew(node, peer);
        }
        self.disks.insert(node, disks).is_some_and(|before| before != disks)
    }

    /// A process ends.
    pub(super) fn leave(&mut self, node: NodeId) {
        self.up.remove(&node);
    }

    /// The connection of two nodes broke, and another takes its place.
    pub(super) fn renew(&mut self, a: NodeId, b: NodeId) {
        *self.counts.entry((a.min(b), a.max(b))).or_default() += 1;
    }

    /// Who is up but for `node`.
    pub(super) fn peers_up(&self, node: NodeId) -> Vec<NodeId> {
        self.up.keys().copied().filter(|peer| *peer != node).collect()
    }

    /// Brings what `node` knows of its peers up to date.
    pub(super) fn look(&self, node: NodeId, now: Time, states: &mut [PeerState]) {
        for state in states {
            let count = self.counts.get(&(node.min(state.node), node.max(state.node)));
            let count = count.copied().unwrap_or_default();
            let is_new = state.connections != count;
            // One that came and went since the last look was a connection too.
            state.connections = count;
            match self.up.get(&state.node) {
                None => state.status = PeerStatus::Disconnected,
                Some(&incarnation) if is_new || !state.is_connected() => {
                    state.status = PeerStatus::Connected { incarnation, since: now };
                }
                Some(_) => {}
            }
        }
    }
}
