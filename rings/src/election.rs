//! Elections: who leads, who wants to, and when it is time to.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::configuration::Votes;
use crate::{Ballot, Configuration, Frame, NodeId, Role, Slot, Time, ensures, mutant, reach, requires};

use crate::proposer::Leader;

/// What a replica is doing in its ring. Each mode owns the data that means something only in it.
#[derive(Clone, Hash)]
pub enum Mode {
    /// Follows a leader, or waits for one.
    Follower(Follower),
    /// Asks whether an election could be won, before it disturbs anybody.
    PreCandidate(PreCandidate),
    /// Phase 1 of its own ballot.
    Candidate(Candidate),
    /// Phase 2 of its own ballot.
    Leader(Leader),
}

impl Mode {
    /// What the outside sees of it.
    pub fn role(&self) -> Role {
        match self {
            Mode::Follower(follower) => Role::Follower { leader: follower.leader },
            Mode::PreCandidate(_) => Role::Follower { leader: None },
            Mode::Candidate(_) => Role::Candidate,
            Mode::Leader(_) => Role::Leader,
        }
    }
}

/// A replica that follows.
#[derive(Clone, Hash)]
pub struct Follower {
    /// Who leads, if anybody is known to.
    pub leader: Option<NodeId>,
    /// The ballot that it leads in, or the promise.
    pub ballot: Ballot,
    /// When it was last heard.
    pub contact: Time,
    /// When its silence has lasted too long.
    pub deadline: Time,
}

impl Follower {
    /// A replica that has not looked at the clock yet.
    pub fn new() -> Follower {
        Follower { leader: None, ballot: Ballot::ZERO, contact: Time(0), deadline: Time::NEVER }
    }
}

/// A replica that asks for pre-votes.
#[derive(Clone, Hash)]
pub struct PreCandidate {
    /// The ballot that it would use.
    pub ballot: Ballot,
    /// Who would promise it.
    pub votes: Votes,
    /// When to give up.
    pub deadline: Time,
}

/// A replica in phase 1.
#[derive(Clone, Hash)]
pub struct Candidate {
    /// Its ballot.
    pub ballot: Ballot,
    /// The first slot that it asked about: its chosen prefix when it stood.
    pub from: Slot,
    /// Complete promises.
    pub promises: Votes,
    /// Parts of the promises, by member.
    parts: Vec<Parts>,
    /// Every slot below is chosen (P4).
    pub base: Slot,
    /// Who knows the slots below `base`.
    pub base_source: Option<NodeId>,
    /// The highest vote reported for each slot from `from` on (P3).
    pub reported: BTreeMap<Slot, Frame>,
    /// When to give up.
    pub deadline: Time,
    /// When to ask again.
    pub resend: Time,
}

/// Which parts of one member's promise have arrived.
#[derive(Clone, Default, Hash)]
struct Parts {
    base: Slot,
    seen: Vec<bool>,
}

impl Candidate {
    /// A candidate of `ballot` that knows every slot below `from`.
    pub fn new(ballot: Ballot, from: Slot, members: usize, deadline: Time, resend: Time) -> Candidate {
        Candidate {
            ballot,
            from,
            promises: Votes::NONE,
            parts: vec![Parts::default(); members],
            base: from,
            base_source: None,
            reported: BTreeMap::new(),
            deadline,
            resend,
        }
    }

    /// Takes one reported vote: the highest ballot wins.
    pub fn report(&mut self, frame: Frame) {
        let header = frame.header();
        requires!(P3, header.ballot < self.ballot);
        let held = self.reported.entry(header.slot).or_insert_with(|| frame.clone());
        reach!(SEVERAL_BALLOTS_REPORTED, held.header().ballot != header.ballot);
        if held.header().ballot < header.ballot && !mutant!(FIRST_REPORT_WINS) {
            *held = frame;
        }
        ensures!(P3, self.reported[&header.slot].header().ballot >= header.ballot);
    }

    /// Takes part `part` of `parts` of the promise of the member at `index`, which knows every slot below
    /// `base`; true when it is whole.
    pub fn part(&mut self, index: usize, part: u32, parts: u32, base: Slot) -> bool {
        let held = &mut self.parts[index];
        if held.seen.len() != parts as usize || held.base != base && !mutant!(TWO_ANSWERS_ONE_PROMISE) {
            // The acceptor answered again and learned something in between, so it may have cut its votes
            // differently: parts of two answers never make a promise. Start over.
            *held = Parts { base, seen: vec![false; parts as usize] };
        }
        held.seen[part as usize] = true;
        held.seen.iter().all(|seen| *seen)
    }

    /// Counts the whole promise of the member at `index`, which knows every slot below `base`.
    pub fn promise(&mut self, index: usize, node: NodeId, base: Slot) {
        self.promises.add(index);
        if base > self.base && !mutant!(BASE_IGNORED) {
            self.base = base;
            self.base_source = Some(node);
        }
    }

    /// Whether a quorum has promised.
    pub fn is_elected(&self, configuration: &Configuration) -> bool {
        configuration.is_quorum(self.promises) || mutant!(ELECTED_TOO_SOON) && self.promises.count() > 0
    }
}

/// The most parts of one promise: bounds what a candidate keeps on a peer's word (M1).
pub const PROMISE_PARTS_MAX: u32 = 4096;

/// Draws election timeouts: a fixed sequence for a seed.
#[derive(Clone)]
pub struct Jitter(u64);

impl Jitter {
    /// The sequence of `seed`.
    pub fn new(seed: u64) -> Jitter {
        Jitter(seed)
    }

    /// A duration from `least` up to twice that.
    pub fn once_to_twice(&mut self, least: Duration) -> Duration {
        // SplitMix64: a full-period sequence whose outputs are well mixed for any seed.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        let least_ns = least.as_nanos() as u64;
        least + Duration::from_nanos(z % least_ns.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Incarnation;

    #[test]
    fn parts_of_two_answers_never_make_one_promise() {
        let ballot = Ballot { round: 1, node: NodeId(1), incarnation: Incarnation(1) };
        let mut candidate = Candidate::new(ballot, Slot(0), 3, Time::NEVER, Time::NEVER);
        assert!(!candidate.part(1, 0, 2, Slot(0)));
        assert!(!candidate.part(1, 1, 2, Slot(4)), "the acceptor learned four slots since its first answer");
        assert!(candidate.part(1, 0, 2, Slot(4)));
    }
}
