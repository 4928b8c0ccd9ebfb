//! The ring between leaders: pre-votes, candidacy, and what phase 1 brings to light.

use crate::batch::Commands;
use crate::configuration::Votes;
use crate::election::{Candidate, Follower, Mode, PROMISE_PARTS_MAX, PreCandidate};
use crate::message::carried;
use crate::proposer::Leader;
use crate::{
    Ballot, Frame, FrameHeader, Ignored, Incarnation, Message, NodeId, Outbox, Slot, Time, mutant, reach,
    requires,
};

use super::{Promised, Ring, WINDOW_SLOTS_MAX};

/// How far above its base a promise may report votes: a bound on what is kept on a peer's word (M1), wide
/// enough for members whose windows differ.
const REPORTED_SLOTS_MAX: u64 = 16 * WINDOW_SLOTS_MAX as u64;

impl Ring {
    /// Becomes a follower of nobody, or of `leader` in the ballot promised.
    pub(super) fn follow(&mut self, now: Time, leader: Option<NodeId>, out: &mut Outbox) {
        let deadline = now + self.jitter.once_to_twice(self.options.election_timeout);
        let ballot = self.acceptor.promised();
        self.change_mode(Mode::Follower(Follower { leader, ballot, contact: now, deadline }), out);
    }

    /// The leader of `ballot`, which is not below the promise, was heard.
    pub(super) fn follow_leader(&mut self, now: Time, ballot: Ballot, out: &mut Outbox) {
        requires!(P9, ballot >= self.acceptor.promised());
        let leader = Some(ballot.leader());
        let deadline = now + self.jitter.once_to_twice(self.options.election_timeout);
        let follower = Follower { leader, ballot, contact: now, deadline };
        self.see(ballot);
        match &mut self.mode {
            Mode::Follower(known) if known.leader == leader && known.ballot == ballot => *known = follower,
            _ => self.change_mode(Mode::Follower(follower), out),
        }
    }

    /// Asks for pre-votes when the leader, or the last attempt, has been silent for too long.
    pub(super) fn stand_if_due(&mut self, now: Time, out: &mut Outbox) {
        let deadline = match &self.mode {
            Mode::Follower(follower) => follower.deadline,
            Mode::PreCandidate(candidate) => candidate.deadline,
            Mode::Candidate(_) | Mode::Leader(_) => Time::NEVER,
        };
        if now < deadline {
            return;
        }
        let incarnation =
            if mutant!(OLD_INCARNATION_USED) { Incarnation(0) } else { self.options.incarnation };
        let ballot = self.seen.successor(self.options.node, incarnation);
        let mut votes = Votes::NONE;
        votes.add(self.own);
        let deadline = now + self.jitter.once_to_twice(self.options.election_timeout);
        self.change_mode(Mode::PreCandidate(PreCandidate { ballot, votes, deadline }), out);
        if self.options.configuration.is_quorum(votes) {
            self.stand(now, ballot, out);
        } else {
            let frame = self.encode(ballot, Message::PreVote { prefix: self.log.chosen() }, out);
            self.broadcast(&frame, out);
        }
    }

    /// A candidate asks whether it would win. A replica that hears a leader would not promise, so a node
    /// that comes and goes disturbs nobody.
    pub(super) fn pre_vote(&mut self, now: Time, prefix: Slot, header: &FrameHeader, out: &mut Outbox) {
        let promised = self.acceptor.promised();
        let granted = header.ballot > promised && !self.hears_a_leader(now) && prefix >= self.log.floor();
        reach!(PRE_VOTE_DENIED, self.hears_a_leader(now));
        self.send(header.sender, header.ballot, Message::PreVoted { granted, promised }, out);
        self.want(now, header.chosen, header.sender, out);
    }

    /// The answer to a pre-vote.
    pub(super) fn pre_voted(
        &mut self,
        now: Time,
        granted: bool,
        promised: Ballot,
        header: &FrameHeader,
        out: &mut Outbox,
    ) -> Result<(), Ignored> {
        self.see(promised);
        self.want(now, header.chosen, header.sender, out);
        let index = self.member(header.sender).ok_or(Ignored::NotMember)?;
        let Mode::PreCandidate(candidate) = &mut self.mode else { return Err(Ignored::Unasked) };
        if header.ballot != candidate.ballot || !granted {
            return Err(Ignored::Unasked);
        }
        candidate.votes.add(index);
        let (ballot, votes) = (candidate.ballot, candidate.votes);
        // What was seen since may have outbid the ballot: then the next attempt takes a higher one.
        if self.options.configuration.is_quorum(votes) && ballot > self.acceptor.promised() {
            self.stand(now, ballot, out);
        }
        Ok(())
    }

    /// Whether there is a leader that this replica hears, itself included.
    fn hears_a_leader(&self, now: Time) -> bool {
        match &self.mode {
            Mode::Leader(_) => true,
            Mode::Follower(follower) => {
                let is_heard = now.since(follower.contact) < self.options.election_timeout;
                follower.leader.is_some() && (is_heard || mutant!(SILENT_LEADER_HEARD))
            }
            Mode::PreCandidate(_) | Mode::Candidate(_) => false,
        }
    }

    /// Becomes a candidate: promises its own ballot first, and asks the others once that is durable (P1).
    fn stand(&mut self, now: Time, ballot: Ballot, out: &mut Outbox) {
        requires!(P1, ballot > self.acceptor.promised());
        requires!(P1, ballot.node == self.options.node && ballot.incarnation == self.options.incarnation);
        let from = self.log.chosen();
        let prepare = self.encode(ballot, Message::Prepare { from }, out);
        let lsn = self.record_promise(ballot, prepare, out);
        self.acceptor.owe_promise(ballot, from, lsn);
        let members = self.options.configuration.members().len();
        let deadline = now + self.jitter.once_to_twice(self.options.election_timeout);
        let candidate = Candidate::new(ballot, from, members, deadline, now + self.options.resend_interval);
        self.change_mode(Mode::Candidate(candidate), out);
    }

    /// The own promise is durable: count it, and ask the others.
    pub(super) fn own_promise_is_durable(&mut self, now: Time, ballot: Ballot, out: &mut Outbox) {
        let own_votes: Vec<Frame> = match &self.mode {
            Mode::Candidate(candidate) if candidate.ballot == ballot => (candidate.from.0..self.log.end().0)
                .filter_map(|slot| self.log.get(Slot(slot)).map(|entry| entry.frame.clone()))
                .collect(),
            _ => return,
        };
        let (own, node) = (self.own, self.options.node);
        let Mode::Candidate(candidate) = &mut self.mode else { return };
        for frame in own_votes.into_iter().filter(|_| !mutant!(OWN_VOTES_NOT_REPORTED)) {
            candidate.report(frame);
        }
        let from = candidate.from;
        candidate.promise(own, node, from);
        let frame = self.encode(ballot, Message::Prepare { from }, out);
        self.broadcast(&frame, out);
        self.lead_if_elected(now, out);
    }

    /// Phase 1b: one part of a promise for exactly the own ballot (P2).
    pub(super) fn promise(
        &mut self,
        now: Time,
        promised: Promised,
        header: &FrameHeader,
        frame: &Frame,
        out: &mut Outbox,
    ) -> Result<(), Ignored> {
        let index = self.member(header.sender).ok_or(Ignored::NotMember)?;
        let Mode::Candidate(candidate) = &self.mode else { return Err(Ignored::Unasked) };
        let is_of_ballot = header.ballot == candidate.ballot || mutant!(PROMISE_OF_ANY_BALLOT);
        if !is_of_ballot || promised.from != candidate.from {
            return Err(Ignored::Unasked);
        }
        if promised.parts > PROMISE_PARTS_MAX {
            return Err(Ignored::Malformed);
        }
        let first = candidate.from.max(promised.base);
        let votes = self.reported_votes(frame, first, candidate.ballot)?;
        let Mode::Candidate(candidate) = &mut self.mode else { return Err(Ignored::Unasked) };
        for vote in votes {
            if mutant!(MINORITY_VOTE_IGNORED) && !candidate.reported.contains_key(&vote.header().slot) {
                continue;
            }
            candidate.report(vote);
        }
        if candidate.part(index, promised.part, promised.parts, promised.base) {
            candidate.promise(index, header.sender, promised.base);
        }
        self.lead_if_elected(now, out);
        Ok(())
    }

    /// The votes that a promise carries, each checked as if it had come alone.
    fn reported_votes(&self, frame: &Frame, first: Slot, below: Ballot) -> Result<Vec<Frame>, Ignored> {
        let mut votes = Vec::new();
        carried(frame, |vote| votes.push(vote)).map_err(|_| Ignored::Malformed)?;
        for vote in &votes {
            let header = vote.header();
            let is_ours = header.cluster == self.options.cluster && header.ring == self.options.ring;
            let is_due = header.slot >= first && header.ballot < below;
            let is_near = header.slot.0 < first.0.saturating_add(REPORTED_SLOTS_MAX);
            let is_batch = Commands::parse(vote.payload(), header.commands).is_ok();
            if !(is_ours && is_due && is_near && is_batch) {
                return Err(Ignored::Malformed);
            }
        }
        Ok(votes)
    }

    /// Starts phase 2 when a quorum has promised and every slot below the base is known (P2, P4).
    pub(super) fn lead_if_elected(&mut self, now: Time, out: &mut Outbox) {
        let Mode::Candidate(candidate) = &mut self.mode else { return };
        if !candidate.is_elected(&self.options.configuration) {
            return;
        }
        let (base, source) = (candidate.base, candidate.base_source);
        if base > self.log.chosen() {
            reach!(BASE_ABOVE_PREFIX);
            candidate.deadline = now + 2 * self.options.election_timeout;
            self.want(now, base, source.expect("a base above the own prefix was reported"), out);
            return;
        }
        let (ballot, promises) = (candidate.ballot, candidate.promises);
        let recovered = std::mem::take(&mut candidate.reported);
        requires!(P2, self.options.configuration.is_quorum(promises));
        requires!(P4, self.log.chosen() >= base);
        let members = self.options.configuration.members().len();
        let leader = Leader::new(ballot, self.log.chosen(), recovered, members, now);
        self.change_mode(Mode::Leader(leader), out);
        self.leader_tick(now, out);
    }

    /// Asks again those that have not promised yet, or gives up.
    pub(super) fn candidate_tick(&mut self, now: Time, out: &mut Outbox) {
        let Mode::Candidate(candidate) = &mut self.mode else { return };
        if now >= candidate.deadline {
            reach!(CANDIDATE_GIVES_UP);
            return self.follow(now, None, out);
        }
        if now < candidate.resend {
            return;
        }
        candidate.resend = now + self.options.resend_interval;
        let (ballot, from, promises) = (candidate.ballot, candidate.from, candidate.promises);
        if !promises.has(self.own) {
            return; // Its own promise is not durable yet, so nobody was asked.
        }
        let frame = self.encode(ballot, Message::Prepare { from }, out);
        for (index, &member) in self.options.configuration.members().iter().enumerate() {
            if !promises.has(index) {
                out.send(member, frame.clone());
            }
        }
    }

    /// Somebody has promised a higher ballot than the own one (P9).
    pub(super) fn refused(
        &mut self,
        now: Time,
        promised: Ballot,
        header: &FrameHeader,
        out: &mut Outbox,
    ) -> Result<(), Ignored> {
        self.see(promised);
        let own = match &self.mode {
            Mode::Leader(leader) => leader.ballot,
            Mode::Candidate(candidate) => candidate.ballot,
            Mode::Follower(_) | Mode::PreCandidate(_) => return Err(Ignored::Unasked),
        };
        if header.ballot != own || promised <= own {
            return Err(Ignored::Unasked);
        }
        if mutant!(REFUSAL_IS_PROMISE) {
            let index = self.member(header.sender).ok_or(Ignored::NotMember)?;
            if let Mode::Candidate(candidate) = &mut self.mode {
                candidate.promise(index, header.sender, Slot(0));
                self.lead_if_elected(now, out);
                return Ok(());
            }
        }
        self.follow(now, None, out);
        Ok(())
    }
}
