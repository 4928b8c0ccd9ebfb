//! What is replicated: a state machine, the commands it executes, the replies it gives.

use annulus_rings::{Ballot, Commands, Role, Slot};

use crate::{RestoreFailure, SnapshotReader, SnapshotStep, SnapshotWriter};

/// The state that a ring replicates.
///
/// It lives on the core that owns its ring, is built there, and never crosses a thread, so it needs
/// no lock and need not be `Send`. Every replica executes the same batches in the same order:
/// [`apply`](Self::apply) must depend on nothing else. Time is part of the batch
/// ([`Committed::time_ns`]); randomness belongs in the command.
///
/// One that writes [snapshots](Self::snapshot) lets its ring's journal be cut short, and restarts and catches
/// up without executing everything again:
///
/// ```
/// use annulus::{
///     Committed, Replies, RestoreFailure, SnapshotReader, SnapshotStep, SnapshotWriter, StateMachine,
/// };
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
///
///     fn snapshot(&mut self, writer: &mut SnapshotWriter<'_>) -> SnapshotStep {
///         writer.record(&self.0.to_le_bytes());
///         SnapshotStep::Done
///     }
///
///     fn restore(&mut self, reader: &mut SnapshotReader<'_>) -> Result<(), RestoreFailure> {
///         for record in reader.records() {
///             let bytes = record.try_into().map_err(|_| RestoreFailure::unreadable("not 8 bytes"))?;
///             self.0 = u64::from_le_bytes(bytes);
///         }
///         Ok(())
///     }
/// }
///
/// let mut bytes = Vec::new();
/// let mut writer = SnapshotWriter::new(annulus::Slot(5), true, &mut bytes, 64 << 10);
/// assert_eq!(Sum(7).snapshot(&mut writer), SnapshotStep::Done);
///
/// let mut restored = Sum::default();
/// restored.restore(&mut SnapshotReader::new(annulus::Slot(5), true, true, &bytes)?)?;
/// assert_eq!(restored.0, 7);
/// # Ok::<(), RestoreFailure>(())
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

    /// Writes the next slice of a snapshot.
    ///
    /// It is called again and again, with slots executed in between. The first call
    /// ([`SnapshotWriter::is_first`]) fixes the state that is written: what is executed after it must not
    /// show in any slice. Write records while there is [room](SnapshotWriter::has_room), at least one, and
    /// return: the ring waits meanwhile. How long the first call takes counts too, so rather than copying a
    /// large state, keep aside what changes while a snapshot is under way.
    ///
    /// Whatever `apply` and `query` depend on belongs into it.
    fn snapshot(&mut self, writer: &mut SnapshotWriter<'_>) -> SnapshotStep {
        let _ = writer;
        SnapshotStep::Unsupported
    }

    /// The snapshot under way was given up before it was [done](SnapshotStep::Done): forget what was kept
    /// for it.
    fn snapshot_ended(&mut self) {}

    /// Takes the next piece of a snapshot, in order; nothing is executed or queried from the first
    /// ([`SnapshotReader::is_first`], where the earlier state is forgotten) to the last. The state is then the
    /// one that the snapshot's writer had. Snapshots of earlier versions of the machine must be understood too.
    ///
    /// # Errors
    /// A record cannot be understood, or the machine takes no snapshots at all.
    fn restore(&mut self, reader: &mut SnapshotReader<'_>) -> Result<(), RestoreFailure> {
        let _ = reader;
        Err(RestoreFailure::Unsupported)
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
