//! The state that is replicated: a chain of hashes, so that equal states mean equal histories, and registers.

use std::collections::BTreeMap;

use annulus::{Committed, Replies, StateMachine};
use annulus_rings::frame::checksum;
use annulus_rings::{Ballot, NodeId, RingId, Role};

use super::command::{Request, read_command, write_reply};
use super::ledger::{Execution, chain};
use super::scene::Shared;
use crate::linearizability::Answer;
use crate::world::Happening;

/// The state machine of one replica. It replies to each command with the state after it, and with what the
/// register says that the command asks for. A query is answered with how many slots it has executed, and the
/// state after them.
pub(super) struct Machine {
    scene: Shared,
    ring: RingId,
    node: NodeId,
    state: u64,
    /// Slots executed.
    slots: u64,
    registers: BTreeMap<u64, u64>,
    executed: Vec<(u64, u64)>,
}

impl Machine {
    pub(super) fn new(scene: &Shared, ring: RingId, node: NodeId) -> Machine {
        Machine {
            scene: scene.clone(),
            ring,
            node,
            state: 0,
            slots: 0,
            registers: BTreeMap::new(),
            executed: Vec::new(),
        }
    }

    fn answer(&mut self, Request { key, operation }: Request) -> Answer {
        let register = self.registers.entry(key).or_default();
        let (value, answer) = operation.apply(*register);
        *register = value;
        answer
    }
}

impl StateMachine for Machine {
    fn apply(&mut self, committed: Committed<'_>, replies: &mut Replies) {
        self.state = chain(self.state, committed.time_ns());
        self.executed.clear();
        let mut of_slot = 0;
        for command in committed.commands() {
            let digest = checksum(command);
            of_slot = chain(of_slot, digest);
            let (number, request) = read_command(command);
            self.state = chain(self.state, digest);
            self.executed.push((number, self.state));
            let answer = request.map(|request| self.answer(request));
            replies.push_with(|buffer| write_reply(buffer, self.state, answer));
        }
        self.slots = committed.slot().0 + 1;
        let execution = Execution {
            ring: self.ring,
            node: self.node,
            slot: committed.slot(),
            commands: &self.executed,
            state: self.state,
        };
        self.scene.borrow_mut().executed(&execution, of_slot);
    }

    fn query(&self, _query: &[u8], reply: &mut Vec<u8>) {
        reply.extend_from_slice(&self.slots.to_le_bytes());
        reply.extend_from_slice(&self.state.to_le_bytes());
    }

    fn on_role(&mut self, role: Role, ballot: Ballot) {
        let happening = Happening::Role { node: self.node, role, ballot };
        self.scene.borrow_mut().happen(self.ring, happening);
    }
}
