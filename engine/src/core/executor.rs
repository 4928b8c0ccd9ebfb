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

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use annulus_rings::frame::HEADER_BYTES;
    use annulus_rings::{ClusterId, ConfigurationId, FrameHeader, Incarnation, Kind, NodeId, RingId};
    use bytes::BytesMut;

    use super::*;

    /// Notes the time of each slot.
    struct Times(Rc<RefCell<Vec<u64>>>);

    impl StateMachine for Times {
        fn apply(&mut self, committed: Committed<'_>, _replies: &mut Replies) {
            self.0.borrow_mut().push(committed.time_ns());
        }
    }

    /// A batch without commands, sealed at `time_ns`.
    fn sealed_at(slot: Slot, time_ns: u64) -> Frame {
        let header = FrameHeader {
            kind: Kind::Accept,
            cluster: ClusterId(1),
            ring: RingId(1),
            configuration: ConfigurationId(1),
            sender: NodeId(1),
            ballot: Ballot { round: 1, node: NodeId(1), incarnation: Incarnation(1) },
            slot,
            chosen: Slot(0),
            commands: 0,
            words: [0; 4],
        };
        let mut buffer = BytesMut::zeroed(HEADER_BYTES);
        buffer.extend_from_slice(&time_ns.to_le_bytes());
        Frame::seal(buffer, &header)
    }

    #[test]
    fn replicated_time_never_goes_back_when_a_leader_with_a_slower_clock_follows() {
        let times = Rc::new(RefCell::new(Vec::new()));
        let mut executor = Executor::new(Box::new(Times(Rc::clone(&times))));
        for (slot, time_ns) in [(0, 10), (1, 30), (2, 20), (3, 40)] {
            executor.execute(Slot(slot), &sealed_at(Slot(slot), time_ns), &mut Replies::default());
        }
        assert_eq!(*times.borrow(), [10, 30, 30, 40]);
    }
}
