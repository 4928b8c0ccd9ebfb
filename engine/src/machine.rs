//! What is replicated: a state machine, the commands it executes, the replies it gives.

use annulus_rings::{Ballot, Commands, Role, Slot};

/// The state that a ring replicates.
///
/// It lives on the core that owns its ring, is built there, and never crosses a thread, so it needs
/// no lock and need not be `Send`. Every replica executes the same batches in the same order:
/// [`apply`](Self::apply) must depend on nothing else. Time is part of the batch
/// ([`Committed::time_ns`]); randomness belongs in the command.
///
/// ```
/// use annulus::{Committed, Replies, StateMachine};
///
/// #[derive(Default)]
/// struct Sum(u64);
///
/// impl StateMachine for Sum {
///     fn apply(&mut self, committed: Committed<'_>, replies: &mut Replies) {
///         for command in committed.commands() {
///             self.0 += command.len() as u64;
///             replies.push(&self.0.to_le_bytes());
///         }
///     }
/// }
/// ```
pub trait StateMachine: 'static {
    /// Executes the commands of one slot and pushes one reply for each, in order.
    fn apply(&mut self, committed: Committed<'_>, replies: &mut Replies);

    /// Answers from the state as this replica has it, which may lag behind the leader's.
    fn query(&self, query: &[u8], reply: &mut Vec<u8>) {
        let _ = (query, reply);
    }

    /// The replica's role changed. Nothing that `apply` does may depend on it.
    fn on_role(&mut self, role: Role, ballot: Ballot) {
        let _ = (role, ballot);
    }
}

/// The commands of one slot, decided for ever.
#[derive(Clone)]
pub struct Committed<'a> {
    slot: Slot,
    time_ns: u64,
    commands: Commands<'a>,
}

impl<'a> Committed<'a> {
    /// The batch of `slot` at a replicated time that is not before an earlier slot's.
    pub(crate) fn new(slot: Slot, time_ns: u64, commands: Commands<'a>) -> Committed<'a> {
        Committed { slot, time_ns, commands }
    }

    /// Where the batch stands in the log.
    pub fn slot(&self) -> Slot {
        self.slot
    }

    /// The wall clock of the leader that sealed the batch, ns since 1970: the same on every replica,
    /// and never before an earlier slot's.
    pub fn time_ns(&self) -> u64 {
        self.time_ns
    }

    /// The commands, in order. A batch that fills a gap after an election has none.
    pub fn commands(&self) -> impl ExactSizeIterator<Item = &'a [u8]> + use<'a> {
        self.commands.clone()
    }
}

/// The replies to the commands of a slot: one per command, in order. A missing one is empty.
#[derive(Default)]
pub struct Replies {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    wanted: bool,
}

impl Replies {
    /// Replies to the next command.
    pub fn push(&mut self, reply: &[u8]) {
        self.push_with(|buffer| buffer.extend_from_slice(reply));
    }

    /// Replies to the next command with what `write` appends. It always runs, so that a machine whose
    /// state it touches stays equal on every replica.
    pub fn push_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        write(&mut self.bytes);
        if self.wanted {
            self.ends.push(self.bytes.len());
        } else {
            self.bytes.truncate(start);
        }
    }

    /// Whether a client of this replica waits: not on followers, and not while a journal is read back.
    /// A machine may leave out the work of formatting replies, and nothing else.
    pub fn wanted(&self) -> bool {
        self.wanted
    }

    /// Forgets all replies; the next ones are kept only when somebody waits.
    pub(crate) fn reset(&mut self, wanted: bool) {
        self.bytes.clear();
        self.ends.clear();
        self.wanted = wanted;
    }

    /// The reply to the command at `index`.
    pub(crate) fn reply(&self, index: usize) -> &[u8] {
        let Some(&end) = self.ends.get(index) else { return &[] };
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.bytes[start..end]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_come_back_by_position_and_missing_ones_are_empty() {
        let mut replies = Replies::default();
        replies.reset(true);
        replies.push(b"one");
        replies.push(b"");
        replies.push_with(|buffer| buffer.extend_from_slice(b"three"));
        let all: Vec<&[u8]> = (0..4).map(|index| replies.reply(index)).collect();
        assert_eq!(all, [b"one".as_slice(), b"", b"three", b""]);
    }

    #[test]
    fn an_unwanted_reply_is_computed_and_not_kept() {
        let mut replies = Replies::default();
        replies.reset(false);
        let mut ran = false;
        replies.push_with(|buffer| {
            buffer.push(1);
            ran = true;
        });
        assert!(ran && replies.reply(0).is_empty());
    }
}
