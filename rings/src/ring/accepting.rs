//! The ring as an acceptor: promises and votes, and what leaves once they are durable.

use crate::acceptor::{Due, Vote, VoteRange};
use crate::batch::{BATCH_BYTES_MAX, Commands};
use crate::election::Mode;
use crate::frame::{FRAME_BYTES_MAX, HEADER_BYTES};
use crate::log::Entry;
use crate::{
    Ballot, Frame, FrameHeader, Ignored, Kind, Lsn, Message, NodeId, Outbox, Slot, Time, mutant, reach,
    requires,
};

use super::Ring;

impl Ring {
    /// Phase 1a from the candidate of the frame's ballot.
    pub(super) fn prepare(
        &mut self,
        now: Time,
        from: Slot,
        header: &FrameHeader,
        frame: Frame,
        out: &mut Outbox,
    ) -> Result<(), Ignored> {
        let ballot = header.ballot;
        if ballot.leader() != header.sender {
            return Err(Ignored::Malformed);
        }
        self.refuse_below_promise(header, out)?;
        if ballot == self.acceptor.promised() {
            // Asked again. If the promise is not durable yet, its answer is still to come.
            if self.acceptor.is_promise_durable() {
                reach!(PROMISE_ASKED_AGAIN);
                self.send_promise(ballot, from, out);
            }
            return Err(Ignored::Duplicate);
        }
        reach!(PROMISE_WHILE_LEADING, matches!(self.mode, Mode::Leader(_)));
        reach!(PROMISE_WHILE_CANDIDATE, matches!(self.mode, Mode::Candidate(_)));
        let lsn = self.record_promise(ballot, frame, out);
        if mutant!(PROMISE_BEFORE_DURABLE) {
            self.send_promise(ballot, from, out);
        }
        self.acceptor.owe_promise(ballot, from, lsn);
        if !mutant!(DEPOSED_LEADER_STAYS) {
            self.follow(now, None, out);
        }
        Ok(())
    }

    /// Appends a promise to the journal. What is known to be chosen is marked first: a later leader
    /// proposes in another ballot, so its watermark could not verify those slots after a restart (L3).
    pub(super) fn record_promise(&mut self, ballot: Ballot, prepare: Frame, out: &mut Outbox) -> Lsn {
        self.mark_chosen(out);
        let lsn = self.append(prepare, out);
        self.see(ballot);
        self.acceptor.promise(ballot, lsn);
        for slot in (self.log.chosen().0..self.log.end().0).filter(|_| mutant!(ONE_BALLOT_FIELD)).map(Slot) {
            if let Some(held) = self.log.get_mut(slot) {
                held.ballot = ballot;
            }
        }
        lsn
    }

    /// Phase 2a from the leader of the frame's ballot.
    pub(super) fn accept(
        &mut self,
        now: Time,
        slot: Slot,
        header: &FrameHeader,
        frame: Frame,
        out: &mut Outbox,
    ) -> Result<(), Ignored> {
        let ballot = header.ballot;
        if ballot.leader() != header.sender {
            return Err(Ignored::Malformed);
        }
        self.refuse_below_promise(header, out)?;
        self.follow_leader(now, ballot, out);
        let result = self.vote(now, slot, ballot, frame, out);
        self.observe_watermark(now, header, out);
        result
    }

    /// Votes for `frame` if the rules allow it (A3, A5, A8).
    fn vote(
        &mut self,
        now: Time,
        slot: Slot,
        ballot: Ballot,
        frame: Frame,
        out: &mut Outbox,
    ) -> Result<(), Ignored> {
        if slot < self.log.floor() && !mutant!(VOTE_BELOW_FLOOR) {
            reach!(VOTE_BELOW_FLOOR);
            self.send(ballot.leader(), ballot, Message::BelowFloor { floor: self.log.floor() }, out);
            return Err(Ignored::BelowFloor);
        }
        if !self.log.is_within(slot, self.acceptor_window()) && !mutant!(LOG_UNBOUNDED) {
            reach!(VOTE_BEYOND_WINDOW);
            return Err(Ignored::BeyondWindow);
        }
        if let Some(held) = self.log.get(slot) {
            if held.ballot == ballot && !mutant!(SECOND_VALUE_REPLACES) {
                return self.vote_again(now, slot, &frame, out);
            }
            requires!(A3, held.ballot < ballot || mutant!(SECOND_VALUE_REPLACES));
            reach!(VOTE_REPLACED);
        }
        if frame.payload().len() > BATCH_BYTES_MAX {
            return Err(Ignored::Malformed); // It would not fit a promise or a lesson together with its header.
        }
        Commands::parse(frame.payload(), frame.header().commands).map_err(|_| Ignored::Malformed)?;
        requires!(A9, frame.header().configuration == self.options.configuration.id());
        requires!(A9, slot >= self.options.configuration.first_slot());
        if ballot > self.acceptor.promised() {
            self.mark_chosen(out);
        }
        let vote = Vote { ballot, slot, value: frame.value(), received: now };
        let lsn = self.append(frame.clone(), out);
        self.acceptor.vote(vote, lsn);
        self.log.put(slot, Entry::accepted(frame, lsn, now));
        if mutant!(VOTE_BEFORE_DURABLE) {
            self.acknowledge(now, &VoteRange::of(vote), out);
        }
        Ok(())
    }

    /// The leader sent again what this replica holds in the same ballot (A5).
    fn vote_again(&mut self, now: Time, slot: Slot, frame: &Frame, out: &mut Outbox) -> Result<(), Ignored> {
        let held = self.log.get(slot).expect("the caller found the slot held");
        if held.value != frame.value() && !mutant!(SECOND_VALUE_ACKNOWLEDGED) {
            reach!(SECOND_VALUE);
            return Err(Ignored::ConflictingValue);
        }
        if held.lsn <= self.acceptor.persisted_lsn() {
            reach!(VOTE_REPEATED);
            let value = if mutant!(SECOND_VALUE_ACKNOWLEDGED) { frame.value() } else { held.value };
            let vote = Vote { ballot: held.ballot, slot, value, received: now };
            self.acknowledge(now, &VoteRange::of(vote), out);
        }
        Err(Ignored::Duplicate)
    }

    /// Tells a sender whose ballot is below the promise that it is, and what the promise is.
    pub(super) fn refuse_below_promise(&self, header: &FrameHeader, out: &mut Outbox) -> Result<(), Ignored> {
        let promised = self.acceptor.promised();
        if header.ballot < promised && !(mutant!(VOTE_BELOW_PROMISE) && header.kind == Kind::Accept) {
            reach!(VOTE_REFUSED, header.kind == Kind::Accept);
            reach!(PREPARE_REFUSED, header.kind == Kind::Prepare);
            self.send(header.sender, header.ballot, Message::Refused { promised }, out);
            return Err(Ignored::StaleBallot);
        }
        Ok(())
    }

    /// The journal holds every frame up to `lsn`: what waited for that may leave now.
    pub(super) fn persisted(&mut self, now: Time, lsn: Lsn, out: &mut Outbox) -> Result<(), Ignored> {
        if lsn <= self.acceptor.persisted_lsn() && !mutant!(LATE_COMPLETION_COUNTS) {
            reach!(STALE_COMPLETION);
            return Err(Ignored::Duplicate);
        }
        self.acceptor.persisted(lsn);
        self.log.persisted(lsn);
        self.cut_if_durable(lsn);
        let mut range: Option<VoteRange> = None;
        while let Some(due) = self.acceptor.due() {
            match due {
                Due::Vote(vote) => {
                    if range.as_mut().is_some_and(|range| range.extend(vote)) {
                        continue;
                    }
                    self.acknowledge_range(now, range.replace(VoteRange::of(vote)), out);
                }
                Due::Promise { ballot, from } => {
                    self.acknowledge_range(now, range.take(), out);
                    self.promise_is_durable(now, ballot, from, out);
                }
            }
        }
        self.acknowledge_range(now, range, out);
        Ok(())
    }

    fn acknowledge_range(&mut self, now: Time, range: Option<VoteRange>, out: &mut Outbox) {
        match range {
            Some(range) if range.ballot.leader() == self.options.node => {
                self.count_own_votes(now, &range, out);
            }
            Some(range) => self.acknowledge(now, &range, out),
            None => {}
        }
    }

    /// Tells the leader of the votes' ballot that they are durable (A6).
    fn acknowledge(&self, now: Time, range: &VoteRange, out: &mut Outbox) {
        let durable_ns = now.since(range.received).as_nanos() as u64;
        let message =
            Message::Accepted { first: range.first, last: range.last, digest: range.digest, durable_ns };
        let ballot =
            if mutant!(ACKNOWLEDGED_IN_PROMISED_BALLOT) { self.acceptor.promised() } else { range.ballot };
        self.send(range.ballot.leader(), ballot, message, out);
    }

    /// A promise is durable: the candidate hears it, unless it was outbid in the meantime (A7).
    fn promise_is_durable(&mut self, now: Time, ballot: Ballot, from: Slot, out: &mut Outbox) {
        requires!(A2, self.acceptor.is_promise_durable() || ballot < self.acceptor.promised());
        if ballot < self.acceptor.promised() {
            reach!(PROMISE_OUTBID);
            return;
        }
        if ballot.leader() == self.options.node {
            self.own_promise_is_durable(now, ballot, out);
        } else {
            self.send_promise(ballot, from, out);
        }
    }

    /// Sends the promise of `ballot`, in parts that fit frames: every vote from `from` on that is not
    /// covered by the base (A2).
    fn send_promise(&self, ballot: Ballot, from: Slot, out: &mut Outbox) {
        let base = self.log.chosen();
        let Some(parts) = self.votes_below(ballot, from.max(base)) else {
            return; // This replica voted in `ballot` already: its leader has its quorum.
        };
        let count = parts.len() as u32;
        reach!(PROMISE_IN_PARTS, count > 1);
        for (part, votes) in parts.iter().enumerate() {
            let message = Message::Promise { base, part: part as u32, parts: count, from };
            self.send_carrying(ballot.leader(), ballot, message, votes, out);
        }
    }

    /// The votes for slots from `first` on, cut into parts that fit a frame; at least one part.
    /// `None` when one of them is in `ballot` itself.
    fn votes_below(&self, ballot: Ballot, first: Slot) -> Option<Vec<Vec<Frame>>> {
        let mut parts = vec![Vec::new()];
        let mut bytes = HEADER_BYTES;
        let end = self.log.end().0 - u64::from(mutant!(PROMISE_OMITS_LAST_VOTE) && self.log.end() > first);
        for entry in (first.0..end).filter_map(|slot| self.log.get(Slot(slot))) {
            if entry.ballot >= ballot {
                return None;
            }
            requires!(A2, entry.lsn <= self.acceptor.persisted_lsn());
            if bytes + entry.frame.len() > FRAME_BYTES_MAX {
                parts.push(Vec::new());
                bytes = HEADER_BYTES;
            }
            bytes += entry.frame.len();
            parts.last_mut().expect("there is a part").push(entry.frame.clone());
        }
        Some(parts)
    }

    /// Sends a message whose payload is other frames.
    pub(super) fn send_carrying(
        &self,
        to: NodeId,
        ballot: Ballot,
        message: Message,
        frames: &[Frame],
        out: &mut Outbox,
    ) {
        let bytes: usize = frames.iter().map(Frame::len).sum();
        let buffer = out.pool.take(HEADER_BYTES + bytes);
        let frame = message.encode(self.header(ballot), buffer, frames);
        out.send(to, frame);
    }

    /// Notes a ballot that exists somewhere.
    pub(super) fn see(&mut self, ballot: Ballot) {
        self.seen = self.seen.max(ballot);
    }
}
