//! One replica of one ring: the protocol, the state machine, and who waits for what.

use std::collections::VecDeque;
use std::sync::Arc;

use annulus_rings::{Ballot, Cut, Frame, FramePool, NodeId, Ring, RingId, Role, Slot, Time};
use annulus_rings::{invariant, mutant, reach, requires};

use super::backlog::{Backlog, BatchLimits, Sealed};
use super::executor::{Executor, SnapshotPiece};
use super::snapshots::Demand;
use super::waiter::Waiter;
use crate::snapshot::SliceFailure;
use crate::status::StatusCell;
use crate::{Rejected, Replies, RestoreFailure, RingStatus, SnapshotStep};

/// A ring as its core hosts it.
pub(crate) struct Replica {
    pub(crate) ring: Ring,
    executor: Executor,
    role: Role,
    backlog: Backlog,
    /// Sealed batches that are not executed yet, by slot.
    flights: VecDeque<Flight>,
    /// Who waits: for the commands in flight, then for those in the backlog, in order.
    waiters: VecDeque<Waiter>,
    /// The time of the last batch that was sealed.
    sealed_time_ns: u64,
    status: Arc<StatusCell>,
    /// Whether it is due for a snapshot.
    pub(crate) demand: Demand,
    /// Where the journal can be cut below each snapshot that is kept, oldest first.
    cuts: VecDeque<Cut>,
    /// The newest snapshot that the ring knows of is damaged: nothing is cut before there is another.
    is_unsaved: bool,
    /// While the state is being replaced: the chosen slots that wait until then.
    waiting: Option<Vec<(Slot, Frame)>>,
    /// Something happened in this turn: the replica is in the core's list of active ones.
    pub(crate) active: bool,
}

/// A sealed batch between its proposal and its execution.
struct Flight {
    slot: Slot,
    ballot: Ballot,
    commands: u32,
}

/// Chosen slots that wait for a reload, at the most: then votes and lessons are refused (M1).
const WAITING_SLOTS_MAX: usize = 1024;

impl Replica {
    pub(crate) fn new(ring: Ring, executor: Executor, limits: BatchLimits) -> Replica {
        let restored = ring.restored_cut();
        let replica = Replica {
            demand: Demand::default(),
            cuts: (restored.slot > Slot(0)).then_some(restored).into_iter().collect(),
            is_unsaved: false,
            waiting: None,
            role: ring.role(),
            ring,
            executor,
            backlog: Backlog::new(limits),
            flights: VecDeque::new(),
            waiters: VecDeque::new(),
            sealed_time_ns: 0,
            status: Arc::default(),
            active: false,
        };
        replica.publish();
        replica
    }

    pub(crate) fn id(&self) -> RingId {
        self.ring.options().ring
    }

    pub(crate) fn is_leader(&self) -> bool {
        self.role == Role::Leader
    }

    /// Takes a command into the batch that is sealed next.
    pub(crate) fn propose(
        &mut self,
        pool: &mut FramePool,
        command: &[u8],
        waiter: impl FnOnce() -> Waiter,
    ) -> Result<(), Rejected> {
        if !self.is_leader() {
            return Err(Rejected::NotLeader(self.leader()));
        }
        self.backlog.push(pool, command)?;
        self.waiters.push_back(waiter());
        Ok(())
    }

    /// Bytes of the batch that can be proposed now, if there is one.
    pub(crate) fn sealable(&self) -> Option<usize> {
        let ready =
            self.is_leader() && !self.is_reloading() && !self.backlog.is_empty() && self.ring.can_propose();
        ready.then(|| self.backlog.front_bytes())
    }

    /// Seals the oldest batch; its place in the log is the next one of the ring.
    pub(crate) fn seal(&mut self, pool: &mut FramePool, wall_ns: u64) -> Option<(Slot, Sealed)> {
        let time_ns = wall_ns.max(self.sealed_time_ns).max(self.executor.time_ns());
        let sealed = self.backlog.seal(pool, time_ns)?;
        self.sealed_time_ns = time_ns;
        let slot = self.ring.progress().proposed;
        invariant!(P6, self.flights.back().is_none_or(|last| last.slot < slot));
        self.flights.push_back(Flight { slot, ballot: self.ring.ballot(), commands: sealed.commands });
        Some((slot, sealed))
    }

    /// Executes the batch of the next slot; true when clients of this core wait for its replies,
    /// which [`answered`](Self::answered) then hands out.
    pub(crate) fn execute(&mut self, slot: Slot, frame: &Frame, replies: &mut Replies) -> bool {
        let wanted = self.flights.front().is_some_and(|flight| flight.slot == slot);
        replies.reset(wanted);
        self.executor.execute(slot, frame, replies);
        wanted
    }

    /// Ends the proposals of the batch in `slot`, which was executed: `end` gets each waiter with the
    /// index of its command, or with none when another leader's batch took the slot.
    pub(crate) fn answered(&mut self, slot: Slot, frame: &Frame, mut end: impl FnMut(Waiter, Option<usize>)) {
        requires!(L5, slot < self.executor.next());

        let flight = self.flights.pop_front().expect("a flight was seen in this slot");
        let ours = frame.header().ballot == flight.ballot;
        for (index, waiter) in self.waiters.drain(..flight.commands as usize).enumerate() {
            end(waiter, ours.then_some(index));
        }
    }

    /// Takes note of a new role. Whoever led until now can no longer tell what becomes of the batches in
    /// flight (P9); what was never sealed certainly has no effect (L7).
    pub(crate) fn change_role(
        &mut self,
        role: Role,
        ballot: Ballot,
        end: impl FnMut(Waiter, Option<Rejected>),
    ) {
        self.role = role;
        self.abandon(Rejected::NotLeader(self.leader()), end);
        self.executor.on_role(role, ballot);
    }

    /// Rejects what waits unsealed; what is in flight goes on.
    pub(crate) fn refuse_waiting(&mut self, why: Rejected, mut end: impl FnMut(Waiter, Rejected)) {
        let in_flight = self.in_flight();
        self.backlog.clear();
        self.waiters.drain(in_flight..).for_each(|waiter| end(waiter, why));
    }

    /// Ends every proposal: those in flight as unknown, those that wait as rejected.
    pub(crate) fn abandon(&mut self, why: Rejected, mut end: impl FnMut(Waiter, Option<Rejected>)) {
        let in_flight = self.in_flight();
        reach!(LEFT_IN_FLIGHT, in_flight > 0);
        reach!(LEFT_UNSEALED, !self.backlog.is_empty());
        self.flights.clear();
        self.backlog.clear();
        for (index, waiter) in self.waiters.drain(..).enumerate() {
            end(waiter, (index >= in_flight).then_some(why));
        }
    }

    /// Commands that were sealed and are not executed.
    fn in_flight(&self) -> usize {
        let sealed = self.flights.iter().map(|flight| flight.commands as usize).sum();
        let in_flight = if mutant!(SEALED_REJECTED) { 0 } else { sealed };
        // What may be rejected is what waits unsealed, and nothing else.
        requires!(L7, self.waiters.len() == in_flight + self.backlog.commands());
        in_flight
    }

    /// Appends the next slice of a snapshot to `buffer`.
    pub(crate) fn snapshot_slice(
        &mut self,
        buffer: &mut Vec<u8>,
        room_bytes: usize,
    ) -> Result<SnapshotStep, SliceFailure> {
        self.executor.snapshot_slice(buffer, room_bytes)
    }

    /// The snapshot that was being written is over.
    pub(crate) fn give_up_snapshot(&mut self) {
        self.executor.give_up_snapshot();
    }

    /// The replicated time of the last slot executed, ns since 1970.
    pub(crate) fn time_ns(&self) -> u64 {
        self.executor.time_ns()
    }

    /// Whether a snapshot holds everything that was executed.
    pub(crate) fn is_saved(&self) -> bool {
        !self.is_unsaved && self.ring.progress().executed <= self.ring.snapshot()
    }

    /// A snapshot that allows this cut is kept, one of `kept_max`. Tells the cut below the oldest of them, once
    /// there are so many.
    pub(crate) fn keep_cut(&mut self, cut: Cut, kept_max: usize) -> Option<Cut> {
        self.is_unsaved = false;
        self.cuts.push_back(cut);
        while self.cuts.len() > kept_max {
            self.cuts.pop_front();
        }
        self.cuts.front().copied().filter(|_| self.cuts.len() == kept_max)
    }

    /// The state is a peer's from now on: only its own snapshot counts.
    pub(crate) fn forget_cuts(&mut self) {
        self.cuts.clear();
    }

    /// The snapshot of slots below `slot` is damaged.
    pub(crate) fn lose_snapshot(&mut self, slot: Slot) {
        self.cuts.retain(|cut| cut.slot != slot);
        self.is_unsaved |= slot >= self.ring.snapshot();
        self.demand.ask();
    }

    /// The cut below the newest snapshot, if it would free something.
    pub(crate) fn newest_cut(&self) -> Option<Cut> {
        self.cuts.back().copied().filter(|cut| cut.lsn > self.ring.needed())
    }

    /// The state is replaced from now on: nothing is executed until [`end_reload`](Self::end_reload).
    pub(crate) fn begin_reload(&mut self) {
        self.waiting.get_or_insert_default();
    }

    /// Whether the state is being replaced, or was in part and waits for another snapshot.
    pub(crate) fn is_reloading(&self) -> bool {
        self.waiting.is_some()
    }

    /// Whether the state machine has a part of a snapshot, and waits for a whole one.
    pub(crate) fn is_torn(&self) -> bool {
        !self.executor.is_whole()
    }

    /// A chosen slot waits until the state is replaced.
    pub(crate) fn wait_for_reload(&mut self, slot: Slot, frame: Frame) {
        self.waiting.get_or_insert_default().push((slot, frame));
    }

    /// Whether so much waits that nothing may be added.
    pub(crate) fn is_swamped(&self) -> bool {
        self.waiting.as_ref().is_some_and(|waiting| waiting.len() >= WAITING_SLOTS_MAX)
    }

    /// Takes the next piece of the snapshot that replaces the state.
    pub(crate) fn restore_piece(&mut self, piece: &SnapshotPiece<'_>) -> Result<(), RestoreFailure> {
        self.executor.restore_piece(piece)
    }

    /// The state is replaced: what has waited.
    pub(crate) fn end_reload(&mut self) -> Vec<(Slot, Frame)> {
        self.waiting.take().unwrap_or_default()
    }

    pub(crate) fn query(&self, query: &[u8], reply: &mut Vec<u8>) {
        self.executor.query(query, reply);
    }

    pub(crate) fn status_cell(&self) -> Arc<StatusCell> {
        Arc::clone(&self.status)
    }

    pub(crate) fn status(&self) -> RingStatus {
        RingStatus {
            role: self.role,
            leader: self.leader(),
            ballot: self.ring.ballot(),
            progress: self.ring.progress(),
            snapshot: self.ring.snapshot(),
        }
    }

    /// Shows other threads where the replica stands.
    pub(crate) fn publish(&self) {
        self.status.publish(&self.status());
    }

    pub(crate) fn deadline(&self) -> Time {
        self.ring.deadline()
    }

    fn leader(&self) -> Option<NodeId> {
        match self.role {
            Role::Leader => Some(self.ring.options().node),
            Role::Follower { leader } => leader,
            Role::Candidate => None,
        }
    }
}
