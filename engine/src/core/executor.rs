//! Executes the log of a ring on its state machine: in order, each slot once.

use annulus_rings::{Ballot, Commands, Frame, Role, Slot, ensures, mutant, requires};

use crate::{Committed, Replies, StateMachine};

/// A state machine and how far it is.
pub(crate) struct Executor {
    machine: Box<dyn StateMachine>,
    next: Slot,
    time_ns: u64,
}

impl Executor {
    pub(crate) fn new(machine: Box<dyn StateMachine>) -> Executor {
        Executor { machine, next: Slot(0), time_ns: 0 }
    }

    /// Executes the batch of the next slot.
    pub(crate) fn execute(&mut self, slot: Slot, frame: &Frame, replies: &mut Replies) {
        requires!(L4, slot == self.next);

        let commands = Commands::of(frame);
        // Leaders with unequal clocks follow one another: time is made monotone where the log is read.
        let before = self.time_ns;
        self.time_ns = if mutant!(CLOCK_BELIEVED) { 0 } else { before }.max(commands.time_ns());
        ensures!(S5, self.time_ns >= before);
        self.machine.apply(Committed::new(slot, self.time_ns, commands), replies);
        self.next = slot.next();
    }

    /// First slot not executed.
    pub(crate) fn next(&self) -> Slot {
        self.next
    }

    /// The replicated time of the last slot executed.
    pub(crate) fn time_ns(&self) -> u64 {
        self.time_ns
    }

    pub(crate) fn query(&self, query: &[u8], reply: &mut Vec<u8>) {
        self.machine.query(query, reply);
    }

    pub(crate) fn on_role(&mut self, role: Role, ballot: Ballot) {
        self.machine.on_role(role, ballot);
    }
}
