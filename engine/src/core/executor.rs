//! Executes the log of a ring on its state machine: in order, each slot once.

use annulus_rings::{Ballot, Commands, Frame, Role, Slot, ensures, mutant, requires};

use crate::snapshot::SliceFailure;
use crate::{Committed, Replies, RestoreFailure, SnapshotReader, SnapshotStep, SnapshotWriter, StateMachine};

/// A state machine and how far it is.
pub(crate) struct Executor {
    machine: Box<dyn StateMachine>,
    next: Slot,
    time_ns: u64,
    stage: Stage,
}

/// What is under way beside execution, or in its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Executing,
    /// A snapshot is being written, and slots are executed.
    Writing(SnapshotPoint),
    /// A snapshot is being restored: the state is neither the earlier one nor that one.
    Restoring(SnapshotPoint),
    /// A snapshot was restored in part: only another one helps.
    Torn,
}

/// The moment whose state a snapshot holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SnapshotPoint {
    /// The first slot that is not in the state.
    pub(crate) slot: Slot,
    /// The replicated time of the last slot that is, ns since 1970.
    pub(crate) time_ns: u64,
}

/// A part of a snapshot, verified by whoever read it.
pub(crate) struct SnapshotPiece<'a> {
    pub(crate) point: SnapshotPoint,
    pub(crate) is_first: bool,
    pub(crate) is_last: bool,
    /// Whole records.
    pub(crate) bytes: &'a [u8],
}

impl Executor {
    pub(crate) fn new(machine: Box<dyn StateMachine>) -> Executor {
        Executor::restored(machine, Slot(0), 0)
    }

    /// A machine whose state is that after all slots below `slot`, the last of them at `time_ns`.
    pub(crate) fn restored(machine: Box<dyn StateMachine>, slot: Slot, time_ns: u64) -> Executor {
        Executor { machine, next: slot, time_ns, stage: Stage::Executing }
    }

    /// Executes the batch of the next slot.
    pub(crate) fn execute(&mut self, slot: Slot, frame: &Frame, replies: &mut Replies) {
        requires!(L4, slot == self.next);
        requires!(T3, self.is_whole());

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

    /// Whether the state is that after all slots below [`next`](Self::next): not when a snapshot was restored
    /// in part.
    pub(crate) fn is_whole(&self) -> bool {
        matches!(self.stage, Stage::Executing | Stage::Writing(_))
    }

    pub(crate) fn query(&self, query: &[u8], reply: &mut Vec<u8>) {
        requires!(T3, self.is_whole());

        self.machine.query(query, reply);
    }

    pub(crate) fn on_role(&mut self, role: Role, ballot: Ballot) {
        self.machine.on_role(role, ballot);
    }
}

/// Snapshots.
#[allow(dead_code, reason = "the core does not drive them yet")]
impl Executor {
    /// The snapshot that is being written.
    pub(crate) fn snapshot(&self) -> Option<SnapshotPoint> {
        if let Stage::Writing(point) = self.stage { Some(point) } else { None }
    }

    /// Appends the next slice of a snapshot, about `room_bytes` of whole records, to `buffer`. The first slice
    /// fixes the point that the snapshot is of; slots executed from then on do not show in it. After any answer
    /// but `More` the next slice begins a new snapshot.
    ///
    /// # Errors
    /// What the machine wrote cannot be part of a snapshot, which is given up.
    pub(crate) fn snapshot_slice(
        &mut self,
        buffer: &mut Vec<u8>,
        room_bytes: usize,
    ) -> Result<SnapshotStep, SliceFailure> {
        requires!(T3, self.is_whole());

        let here = SnapshotPoint { slot: self.next, time_ns: self.time_ns };
        let (point, is_first) = self.snapshot().map_or((here, true), |point| (point, false));
        self.stage = Stage::Writing(point);
        let mut writer = SnapshotWriter::new(point.slot, is_first, buffer, room_bytes);
        let step = self.machine.snapshot(&mut writer);
        if let Err(failure) = writer.finish() {
            self.give_up_snapshot();
            return Err(failure);
        }
        match step {
            SnapshotStep::More => {}
            SnapshotStep::Done => self.stage = Stage::Executing,
            SnapshotStep::Unsupported => self.give_up_snapshot(),
        }
        Ok(step)
    }

    /// Ends a snapshot that is being written, if there is one, before it is done.
    pub(crate) fn give_up_snapshot(&mut self) {
        if let Stage::Writing(_) = self.stage {
            self.stage = Stage::Executing;
            self.machine.snapshot_ended();
        }
    }

    /// Takes the next piece of a snapshot of a later state. Applied slot and time move with the last piece,
    /// which completes the state; in between nothing is executed. A snapshot may begin anew at any time.
    ///
    /// # Errors
    /// The machine has not taken the piece. The state is as it was if nothing touched it; otherwise it is torn,
    /// no longer [whole](Self::is_whole), and waits for the first piece of some snapshot.
    pub(crate) fn restore_piece(&mut self, piece: &SnapshotPiece<'_>) -> Result<(), RestoreFailure> {
        let SnapshotPiece { point, is_first, is_last, bytes } = *piece;
        requires!(T3, is_first || self.stage == Stage::Restoring(point));
        requires!(T2, point.slot > self.next);

        let mut reader = SnapshotReader::new(point.slot, is_first, is_last, bytes)?;
        self.give_up_snapshot();
        if let Err(failure) = self.machine.restore(&mut reader) {
            if failure != RestoreFailure::Unsupported {
                self.stage = Stage::Torn;
            }
            return Err(failure);
        }
        self.stage = Stage::Restoring(point);
        if is_last || mutant!(HALF_RESTORED) {
            self.stage = Stage::Executing;
            self.next = point.slot;
            self.time_ns = self.time_ns.max(point.time_ns);
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "executor_tests.rs"]
mod tests;
