//! The store as a replicated state machine.

use annulus::{
    Committed, Replies, RestoreFailure, SnapshotReader, SnapshotStep, SnapshotWriter, StateMachine,
};

use crate::command::Command;
use crate::store::Store;

/// What every replica executes.
#[derive(Default)]
pub(crate) struct Machine {
    store: Store,
}

impl StateMachine for Machine {
    fn apply(&mut self, committed: Committed<'_>, replies: &mut Replies) {
        self.store.begin_slot(committed.time_ns());
        let is_wanted = replies.wanted();
        for command in committed.commands() {
            // To skip what cannot be read would let this replica's data differ from the others' for ever.
            let command = Command::decode(command)
                .expect("a chosen command is of this version or an earlier one: upgrade this replica");
            replies.push_with(|reply| {
                if is_wanted || !command.is_read() {
                    self.store.execute(&command, reply);
                }
            });
        }
    }

    fn query(&self, query: &[u8], reply: &mut Vec<u8>) {
        match Command::decode(query) {
            Ok(command) if command.is_read() => self.store.read(&command, reply),
            _ => unreachable!("the server asks only what it encoded, and only to read"),
        }
    }

    fn snapshot(&mut self, writer: &mut SnapshotWriter<'_>) -> SnapshotStep {
        self.store.snapshot(writer)
    }

    fn snapshot_ended(&mut self) {
        self.store.snapshot_ended();
    }

    fn restore(&mut self, reader: &mut SnapshotReader<'_>) -> Result<(), RestoreFailure> {
        self.store.restore(reader)
    }
}
