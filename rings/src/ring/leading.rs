//! The ring as a leader: proposals, votes, resends, heartbeats; and as a follower, their answers.

use crate::acceptor::{Vote, VoteRange};
use crate::batch::Batch;
use crate::election::Mode;
use crate::frame::ValueId;
use crate::log::Entry;
use crate::{
    Ballot, Event, Frame, FrameHeader, Ignored, Message, Outbox, Slot, Time, ensures, mutant, reach, requires,
};

use super::Ring;

/// Slots sent again at one time, at the most.
const RESEND_SLOTS_MAX: u64 = 64;

impl Ring {
    /// Proposes the batch that waited for the next slot.
    pub(super) fn propose_batch(&mut self, now: Time, batch: Batch, out: &mut Outbox) -> Result<(), Ignored> {
        if !self.can_propose() {
            return Err(Ignored::NotProposing);
        }
        requires!(P5, matches!(&self.mode, Mode::Leader(leader) if leader.recovered.is_empty()));
        self.propose(now, batch, out);
        Ok(())
    }

    /// Phase 2a: encodes the batch once, and gives the same frame to the journal and to every follower.
    /// It is sent before it is durable here; the own vote counts only when it is.
    fn propose(&mut self, now: Time, batch: Batch, out: &mut Outbox) {
        let Mode::Leader(leader) = &mut self.mode else { return };
        let slot = leader.take_slot(self.log.chosen(), self.options.window_slots);
        let ballot = leader.ballot;
        requires!(P6, self.log.get(slot).is_none_or(|held| held.ballot < ballot));

        let mut header = self.header(ballot);
        header.commands = batch.commands;
        Message::Accept { slot }.fill(&mut header);
        let frame = Frame::seal(batch.buffer, &header);

        let lsn = self.append(frame.clone(), out);
        self.acceptor.vote(Vote { ballot, slot, value: frame.value(), received: now }, lsn);
        self.log.put(slot, Entry::accepted(frame.clone(), lsn, now));
        if mutant!(OWN_VOTE_BEFORE_DURABLE) {
            self.log.get_mut(slot).expect("just put").votes.add(self.own);
        }
        if mutant!(OWN_VOTE_COUNTED_AT_ONCE) {
            self.count_votes(self.own, ballot, slot, slot);
        }
        self.broadcast(&frame, out);
    }

    /// Proposes again, in the own ballot, what earlier leaders left open: the reported value, or a no-op
    /// where nobody reported one (P3, P5).
    fn propose_recovered(&mut self, now: Time, out: &mut Outbox) {
        loop {
            let Mode::Leader(leader) = &mut self.mode else { return };
            let slot = leader.next;
            if leader.is_recovered() || !self.log.is_within(slot, u64::from(self.options.window_slots)) {
                return;
            }
            if mutant!(HOLE_LEFT_OPEN) && !leader.recovered.contains_key(&slot) {
                leader.next = slot.next();
                continue;
            }
            let batch = match leader.recovered.remove(&slot) {
                Some(_) if mutant!(RECOVERED_VALUE_CHANGED) => Batch::no_op(&mut out.pool),
                Some(frame) => {
                    reach!(RECOVERED_VALUE_PROPOSED);
                    Batch::copy_of(&frame, &mut out.pool)
                }
                None => {
                    reach!(HOLE_FILLED);
                    Batch::no_op(&mut out.pool)
                }
            };
            self.propose(now, batch, out);
        }
    }

    /// Phase 2b: durable votes of one member for a range of slots.
    pub(super) fn accepted(
        &mut self,
        now: Time,
        first: Slot,
        last: Slot,
        digest: u64,
        header: &FrameHeader,
        out: &mut Outbox,
    ) -> Result<(), Ignored> {
        let index = self.member(header.sender).ok_or(Ignored::NotMember)?;
        let Mode::Leader(leader) = &mut self.mode else { return Err(Ignored::Unasked) };
        if header.ballot != leader.ballot && !mutant!(OLDER_BALLOTS_COUNT) {
            reach!(LATE_VOTE);
            return Err(Ignored::Unasked);
        }
        let ballot = leader.ballot;
        leader.hear(index, now);
        if first < leader.base || last >= leader.next {
            return Err(Ignored::OtherValues);
        }
        if first < self.log.floor() {
            return Err(Ignored::BelowFloor);
        }
        if self.digest(ballot, first, last) != Some(digest) && !mutant!(VOTES_FOR_OTHER_VALUES) {
            return Err(Ignored::OtherValues);
        }
        if self.count_votes(index, ballot, first, last) {
            self.progress_made(now, out);
            Ok(())
        } else {
            Err(Ignored::Duplicate)
        }
    }

    /// The values proposed in `ballot` for a range, folded as an acceptor folds its votes (P8).
    fn digest(&self, ballot: Ballot, first: Slot, last: Slot) -> Option<u64> {
        (first.0..=last.0).try_fold(0, |digest, slot| {
            let entry = self.log.get(Slot(slot)).filter(|entry| entry.ballot == ballot)?;
            Some(ValueId::fold(digest, Slot(slot), entry.value))
        })
    }

    /// The own votes of a range are durable: they count now (P8).
    pub(super) fn count_own_votes(&mut self, now: Time, range: &VoteRange, out: &mut Outbox) {
        if !matches!(&self.mode, Mode::Leader(leader) if leader.ballot == range.ballot) {
            reach!(OWN_VOTE_TOO_LATE);
            return; // Stood down since: the vote stands, but nobody here counts.
        }
        self.count_votes(self.own, range.ballot, range.first, range.last);
        self.progress_made(now, out);
    }

    /// Counts the votes of the member at `index`; true when any of them was new.
    fn count_votes(&mut self, index: usize, ballot: Ballot, first: Slot, last: Slot) -> bool {
        let mut news = false;
        for slot in (first.0..=last.0).map(Slot) {
            let persisted = self.acceptor.persisted_lsn();
            let Some(entry) = self.log.get_mut(slot) else { continue };
            requires!(P8, entry.ballot == ballot);
            requires!(P8, index != self.own || entry.lsn <= persisted);
            news |= entry.votes.add(index) || mutant!(VOTE_COUNTS_TWICE) && entry.votes.add(index + 32);
            if mutant!(RANGE_BY_ITS_LAST_SLOT) && slot < last {
                self.log.choose(slot);
                continue;
            }
            if !entry.chosen && self.options.configuration.is_quorum(entry.votes) {
                requires!(
                    L2,
                    self.options.configuration.recount(entry.votes) >= self.options.configuration.quorum()
                );
                self.log.choose(slot);
            }
        }
        news
    }

    /// Reports what the last votes or values decided, and uses the room that they made.
    pub(super) fn progress_made(&mut self, now: Time, out: &mut Outbox) {
        let before = self.log.chosen();
        if mutant!(REPORTED_TOO_SOON)
            && let Some(entry) = self.log.get(before).filter(|entry| entry.votes.has(self.own))
        {
            let frame = entry.frame.clone();
            out.events.push(Event::Chosen { ring: self.options.ring, slot: before, frame });
        }
        while let Some((slot, frame)) = self.log.advance() {
            if mutant!(REPORTED_TWICE) {
                out.events.push(Event::Chosen { ring: self.options.ring, slot, frame: frame.clone() });
            }
            out.events.push(Event::Chosen { ring: self.options.ring, slot, frame });
        }
        ensures!(T2, self.log.chosen() >= before);
        let chosen = self.log.chosen();
        let Mode::Leader(leader) = &mut self.mode else { return };
        leader.skip_to(chosen);
        if chosen > before && chosen == leader.next {
            // Nothing follows that would carry the watermark: let a heartbeat do it soon.
            leader.heartbeat = leader.heartbeat.min(now + self.options.heartbeat_interval / 8);
        }
        self.propose_recovered(now, out);
    }

    /// Keeps followers and their votes coming, or stands down when a quorum is out of reach.
    pub(super) fn leader_tick(&mut self, now: Time, out: &mut Outbox) {
        let options = &self.options;
        let Mode::Leader(leader) = &mut self.mode else { return };
        if !leader.has_contact(self.own, &options.configuration, 2 * options.election_timeout, now) {
            reach!(LEADER_WITHOUT_QUORUM);
            return self.follow(now, None, out);
        }
        let (ballot, next, sequence) = (leader.ballot, leader.next, leader.sequence + 1);
        let (is_beat, is_resend) = (now >= leader.heartbeat, now >= leader.resend);
        if is_beat {
            leader.sequence = sequence;
            leader.heartbeat = now + options.heartbeat_interval;
        }
        if is_resend {
            leader.resend = now + options.resend_interval;
        }
        if is_beat && options.configuration.members().len() > 1 {
            let frame = self.encode(ballot, Message::Heartbeat { next, sequence }, out);
            self.broadcast(&frame, out);
        }
        if is_resend {
            self.resend_open(now, next, out);
        }
        self.propose_recovered(now, out);
    }

    /// Sends open slots again to those whose vote is missing for too long. The bytes are the same (P6).
    fn resend_open(&mut self, now: Time, next: Slot, out: &mut Outbox) {
        let first = self.log.chosen();
        for slot in (first.0..next.0.min(first.0 + RESEND_SLOTS_MAX)).map(Slot) {
            let Some(entry) = self.log.get_mut(slot) else { continue };
            if entry.chosen || now < entry.sent + self.options.resend_interval {
                continue;
            }
            reach!(RESENT_AFTER_TIMEOUT);
            entry.sent = now;
            let (votes, frame) = (entry.votes, entry.frame.clone());
            for (index, &member) in self.options.configuration.members().iter().enumerate() {
                if index != self.own && !votes.has(index) {
                    out.send(member, frame.clone());
                }
            }
        }
    }

    /// A heartbeat of the leader of the frame's ballot.
    pub(super) fn heartbeat(
        &mut self,
        now: Time,
        sequence: u64,
        header: &FrameHeader,
        out: &mut Outbox,
    ) -> Result<(), Ignored> {
        if header.ballot.leader() != header.sender && !mutant!(FOREIGN_LEADER_BELIEVED) {
            return Err(Ignored::Malformed);
        }
        self.refuse_below_promise(header, out)?;
        self.follow_leader(now, header.ballot, out);
        self.observe_watermark(now, header, out);
        let promised = self.acceptor.promised();
        self.send(header.sender, header.ballot, Message::Heard { sequence, promised }, out);
        Ok(())
    }

    /// A follower's answer to a heartbeat.
    pub(super) fn heard(
        &mut self,
        now: Time,
        promised: Ballot,
        header: &FrameHeader,
        out: &mut Outbox,
    ) -> Result<(), Ignored> {
        self.see(promised);
        let index = self.member(header.sender).ok_or(Ignored::NotMember)?;
        let Mode::Leader(leader) = &mut self.mode else { return Err(Ignored::Unasked) };
        if header.ballot != leader.ballot {
            return Err(Ignored::Unasked);
        }
        if promised > leader.ballot {
            self.follow(now, None, out);
            return Ok(());
        }
        leader.hear(index, now);
        Ok(())
    }

    /// A follower knows every slot below `floor` to be chosen, and has let go of them.
    pub(super) fn below_floor(
        &mut self,
        now: Time,
        floor: Slot,
        header: &FrameHeader,
        out: &mut Outbox,
    ) -> Result<(), Ignored> {
        if floor <= self.log.chosen() {
            return Err(Ignored::Duplicate);
        }
        self.want(now, floor, header.sender, out);
        Ok(())
    }
}
