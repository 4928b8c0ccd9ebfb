//! The state that is replicated: a chain of hashes, so that equal states mean equal histories.

use annulus::{Committed, Replies, StateMachine};
use annulus_rings::frame::checksum;
use annulus_rings::{Ballot, NodeId, RingId, Role};

use super::ledger::{Execution, chain, number_of};
use super::scene::Shared;
use crate::world::Happening;

/// The state machine of one replica. It replies to each command with the state after it.
pub(super) struct ChainMachine {
    scene: Shared,
    ring: RingId,
    node: NodeId,
    state: u64,
    executed: Vec<(u64, u64)>,
}

impl ChainMachine {
    pub(super) fn new(scene: &Shared, ring: RingId, node: NodeId) -> ChainMachine {
        ChainMachine { scene: scene.clone(), ring, node, state: 0, executed: Vec::new() }
    }
}

impl StateMachine for ChainMachine {
    fn apply(&mut self, committed: Committed<'_>, replies: &mut Replies) {
        self.state = chain(self.state, committed.time_ns());
        self.executed.clear();
        let mut of_slot = 0;
        for command in committed.commands() {
            let digest = checksum(command);
            of_slot = chain(of_slot, digest);
            self.state = chain(self.state, digest);
            self.executed.push((number_of(command), self.state));
            replies.push(&self.state.to_le_bytes());
        }
        let execution = Execution {
            ring: self.ring,
            node: self.node,
            slot: committed.slot(),
            commands: &self.executed,
            state: self.state,
        };
        self.scene.borrow_mut().executed(&execution, of_slot);
    }

    fn on_role(&mut self, role: Role, ballot: Ballot) {
        let happening = Happening::Role { node: self.node, role, ballot };
        self.scene.borrow_mut().happen(self.ring, happening);
    }
}
