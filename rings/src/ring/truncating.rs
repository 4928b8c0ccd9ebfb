//! The ring and its snapshots: what may leave the journal, and how a snapshot of a peer takes effect.

use bytes::BytesMut;

use crate::election::Mode;
use crate::frame::HEADER_BYTES;
use crate::keeping::{Base, Cut};
use crate::{
    Event, Frame, FrameHeader, Ignored, Kind, Lsn, Outbox, Slot, Time, ensures, mutant, reach, requires,
};

use super::Ring;

impl Ring {
    /// The first slot that the journal surely gives back. A peer that lacks an earlier one, and finds it in
    /// no memory, needs a snapshot.
    pub fn kept(&self) -> Slot {
        self.keeping.kept()
    }

    /// Everything of this ring below that position may be freed. `Lsn(u64::MAX)` while there is nothing of it.
    pub fn needed(&self) -> Lsn {
        self.keeping.needed()
    }

    /// The first slot that the newest durable snapshot of this replica does not cover; 0 without one.
    pub fn snapshot(&self) -> Slot {
        self.keeping.snapshot()
    }

    /// Where the journal could be cut now, if a snapshot covered every executed slot: for the caller who
    /// begins one and truncates when it is durable. Votes that are cast meanwhile lie behind the cut.
    pub fn cut(&self, out: &Outbox) -> Cut {
        self.cut_at(self.log.executed(), out)
    }

    /// Where the journal can be cut below the snapshot that the ring was restored from: for the caller who
    /// stopped between the publication of that snapshot and its truncation.
    pub fn restored_cut(&self) -> Cut {
        self.keeping.restored()
    }

    /// Whether [`Input::Carry`](super::Input::Carry) is possible: the newest snapshot and what is in memory
    /// make up the whole log.
    pub fn can_carry(&self) -> bool {
        self.log.floor() <= self.keeping.snapshot() && !self.keeping.is_pending()
    }

    /// Bytes of the frames that [`Input::Carry`](super::Input::Carry) would write again.
    pub fn carry_bytes(&self) -> usize {
        self.log.held_bytes(self.keeping.snapshot())
    }

    /// The journal may be cut at `slot`: what is held from there on is recorded at the cut or behind it.
    fn cut_at(&self, slot: Slot, out: &Outbox) -> Cut {
        let is_forgetful = mutant!(OPEN_VOTES_CUT_OFF);
        let lowest = self.log.lowest_lsn(slot).filter(|_| !is_forgetful);
        Cut { slot, lsn: lowest.unwrap_or_else(|| out.appended().next()) }
    }

    /// Appends a record of this ring.
    pub(super) fn append(&mut self, frame: Frame, out: &mut Outbox) -> Lsn {
        let lsn = out.append(self.options.ring, frame);
        self.keeping.recorded(lsn);
        lsn
    }

    /// Appends a record that is a header alone.
    pub(super) fn append_header(&mut self, header: &FrameHeader, out: &mut Outbox) -> Lsn {
        let mut buffer: BytesMut = out.pool.take(HEADER_BYTES);
        buffer.resize(HEADER_BYTES, 0);
        self.append(Frame::seal(buffer, header), out)
    }

    /// Appends the Base of a cut: once it is durable, everything in front of the cut may go. It repeats what
    /// those records said of the ring as a whole: the promise (A1) and the chosen prefix (T2).
    pub(super) fn append_base(&mut self, cut: Cut, own: Slot, out: &mut Outbox) {
        let cut = Cut { lsn: cut.lsn.max(self.keeping.newest().lsn), ..cut };
        let promised = self.acceptor.promised();
        let mut header = self.header(if mutant!(PROMISE_CUT_OFF) { crate::Ballot::ZERO } else { promised });
        Base { cut, own }.fill(&mut header);
        let lsn = self.append_header(&header, out);
        self.marked = self.log.chosen();
        self.keeping.cut(cut, lsn);
        ensures!(A1, header.ballot == self.acceptor.promised());
    }

    /// A snapshot of every slot below `slot` was published here, read back and verified (T1).
    pub(super) fn snapshotted(&mut self, slot: Slot, out: &mut Outbox) -> Result<(), Ignored> {
        requires!(T2, slot <= self.log.executed());
        if slot <= self.keeping.snapshot() && !mutant!(LATE_SNAPSHOT_COUNTS) {
            reach!(SNAPSHOT_TOO_LATE);
            return Err(Ignored::Duplicate);
        }
        self.keeping.published(slot);
        // A snapshot of a peer may be found in the place of this one's records after a restart. If they say
        // themselves how far they are chosen, they can still be taught then.
        if self.marked < slot {
            self.mark_chosen(out);
        }
        Ok(())
    }

    /// Slots below the cut may leave the journal.
    pub(super) fn truncate(&mut self, cut: Cut, out: &mut Outbox) -> Result<(), Ignored> {
        let cut = if mutant!(CUT_BEYOND_SNAPSHOT) { self.cut(out) } else { cut };
        requires!(T1, cut.slot <= self.keeping.snapshot());
        let newest = self.keeping.newest();
        if cut.slot < newest.slot || cut.lsn <= newest.lsn {
            reach!(CUT_TOO_LATE);
            return Err(Ignored::Duplicate);
        }
        requires!(T1, self.log.lowest_lsn(cut.slot).is_none_or(|lsn| lsn >= cut.lsn));
        reach!(CUT_BELOW_AN_OLD_VOTE, self.log.lowest_lsn(cut.slot).is_some_and(|lsn| lsn == cut.lsn));
        self.append_base(cut, self.log.chosen(), out);
        Ok(())
    }

    /// An idle ring would keep the journal from being cut: writes what it holds above its snapshot again, and
    /// cuts in front of that. The Base comes last, so when it is durable, all of it is.
    pub(super) fn carry(&mut self, out: &mut Outbox) -> Result<(), Ignored> {
        if !self.can_carry() {
            return Err(Ignored::BelowFloor);
        }
        let slot = self.keeping.snapshot();
        let lsn = out.appended().next();
        if self.keeping.needed() >= lsn {
            return Err(Ignored::Duplicate); // There is nothing in front.
        }
        let is_carried = |slot: &Slot| {
            let held = self.log.get(*slot);
            held.is_some_and(|entry| entry.chosen || !mutant!(OPEN_VOTE_NOT_CARRIED))
        };
        let carried: Vec<Slot> = (slot.0..self.log.end().0).map(Slot).filter(is_carried).collect();
        reach!(OPEN_VOTE_CARRIED, carried.last().is_some_and(|last| *last >= self.log.chosen()));
        for slot in &carried {
            let frame = self.log.get(*slot).expect("the slot was found held").frame.clone();
            self.append(frame, out);
        }
        requires!(T1, self.log.held_from(slot) as u64 == out.appended().0 + 1 - lsn.0);
        self.append_base(Cut { slot, lsn }, self.log.chosen(), out);
        Ok(())
    }

    /// The journal holds everything up to `lsn`, maybe the Base of a cut.
    pub(super) fn cut_if_durable(&mut self, lsn: Lsn) {
        if let Some(cut) = self.keeping.persisted(lsn) {
            // What was carried has a record behind the cut now. Which one does not matter: both are durable.
            self.log.rerecord(cut.slot, cut.lsn);
        }
    }

    /// The state of every slot below `slot` was restored from a snapshot that is durable here: it takes the
    /// place of whatever this replica held of them, and of nothing else (T3).
    pub(super) fn installed(&mut self, now: Time, slot: Slot, out: &mut Outbox) -> Result<(), Ignored> {
        if slot <= self.log.chosen() && !mutant!(LATE_SNAPSHOT_MOVES_BACK) {
            reach!(INSTALLED_TOO_LATE);
            return Err(Ignored::Duplicate);
        }
        let (promised, end) = (self.acceptor.promised(), self.log.end());
        reach!(INSTALLED_OVER_VOTES, end > self.log.chosen());
        reach!(INSTALLED_BELOW_VOTES, end > slot);
        let own = self.vouched();
        self.log.install(slot);
        self.keeping.installed(slot);
        self.append_base(self.cut_at(slot, out), own, out);
        ensures!(T3, self.log.floor() == slot && self.log.executed() == slot && self.log.chosen() == slot);
        ensures!(T3, self.acceptor.promised() == promised && self.log.end() == end.max(slot));
        if matches!(self.mode, Mode::Leader(_)) {
            // Slots were chosen in this ballot's place that it does not know: in another, higher one (P9).
            reach!(INSTALLED_WHILE_LEADING);
            self.follow(now, None, out);
        }
        reach!(INSTALLED_WHILE_CANDIDATE, matches!(self.mode, Mode::Candidate(_)));
        self.progress_made(now, out);
        self.fetch_on(now, out);
        self.lead_if_elected(now, out);
        Ok(())
    }

    /// How far the records give back what was chosen, with the snapshot that the last Base names.
    fn vouched(&self) -> Slot {
        if self.marked < self.keeping.restored().slot { self.marked } else { self.log.chosen() }
    }

    /// Writes how far this replica knows the log to be chosen, unless the journal says so already.
    pub(super) fn mark_chosen(&mut self, out: &mut Outbox) {
        if self.log.chosen() <= self.marked {
            return;
        }
        let restored = self.keeping.restored();
        if self.marked < restored.slot {
            // The records in front do not reach up to the snapshot, and a Mark would say that they do.
            reach!(UNVOUCHED_BASE);
            return self.append_base(restored, self.marked, out);
        }
        self.marked = self.log.chosen();
        let header = FrameHeader { kind: Kind::Mark, ..self.header(self.acceptor.promised()) };
        self.append_header(&header, out);
    }

    /// A peer that was asked for slots has them no longer, but a snapshot.
    pub(super) fn truncated(
        &mut self,
        now: Time,
        snapshot: Slot,
        header: &FrameHeader,
        out: &mut Outbox,
    ) -> Result<(), Ignored> {
        if snapshot <= self.log.chosen() {
            return Err(Ignored::Duplicate);
        }
        let (ring, from) = (self.options.ring, header.sender);
        out.events.push(Event::SnapshotWanted { ring, from, slot: snapshot });
        // What is below a snapshot is chosen. Others may still have the slots themselves: they are asked in turn.
        self.want(now, snapshot, from, out);
        Ok(())
    }
}
