//! Which messages replicas were handed in which state: what a run of seeds has tried, and what never.
//!
//! No pair is impossible by design. Answers come when nobody waits for them any more, because frames of old
//! connections arrive late, and a replica may have changed its role several times since it asked.

use std::fmt;

use annulus_rings::{Ballot, Kind, Role};

/// What a replica is when it is handed a message, as an observer sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// It follows nobody.
    Alone,
    /// It follows a leader.
    Follows,
    /// It follows nobody, and has asked for pre-votes in a ballot above its promise.
    Asks,
    /// It stands for election.
    Stands,
    /// It leads.
    Leads,
}

const STATES: [(State, &str); 5] = [
    (State::Alone, "alone"),
    (State::Follows, "follows"),
    (State::Asks, "asks"),
    (State::Stands, "stands"),
    (State::Leads, "leads"),
];

/// What members of a ring say to each other. The other kinds are the transport's, the cores', or records.
const KINDS: [Kind; 12] = [
    Kind::PreVote,
    Kind::PreVoted,
    Kind::Prepare,
    Kind::Promise,
    Kind::Accept,
    Kind::Accepted,
    Kind::Refused,
    Kind::BelowFloor,
    Kind::Heartbeat,
    Kind::Heard,
    Kind::Fetch,
    Kind::Learn,
];

/// How often each message was handed to a replica in each state.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Coverage([[u64; STATES.len()]; KINDS.len()]);

impl Coverage {
    /// A replica is handed a message.
    pub(super) fn delivered(&mut self, state: State, kind: Kind) {
        if let Some(row) = KINDS.iter().position(|known| *known == kind) {
            self.0[row][state as usize] += 1;
        }
    }

    /// Adds what other histories reached.
    pub(super) fn add(&mut self, other: &Coverage) {
        let counts = self.0.iter_mut().flatten().zip(other.0.iter().flatten());
        counts.for_each(|(count, other)| *count += other);
    }

    /// Every pair that was never reached.
    pub fn missing(&self) -> Vec<(State, Kind)> {
        let pairs = KINDS.iter().zip(&self.0).flat_map(|(kind, row)| {
            STATES.iter().zip(row).map(move |((state, _), count)| (*state, *kind, *count))
        });
        pairs.filter(|(.., count)| *count == 0).map(|(state, kind, _)| (state, kind)).collect()
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<12}", "message to")?;
        STATES.iter().try_for_each(|(_, name)| write!(f, "{name:>12}"))?;
        for (kind, row) in KINDS.iter().zip(&self.0) {
            write!(f, "\n{:<12}", format!("{kind:?}"))?;
            row.iter().try_for_each(|count| write!(f, "{count:>12}"))?;
        }
        let pairs = STATES.len() * KINDS.len();
        write!(f, "\n{} of {pairs} pairs reached", pairs - self.missing().len())
    }
}

/// A replica's state, worked out from what it does.
#[derive(Clone, Copy)]
pub(super) struct Standing {
    role: Role,
    ballot: Ballot,
    asked: Ballot,
}

impl Standing {
    /// A replica that has just started.
    pub(super) const NEW: Standing =
        Standing { role: Role::Follower { leader: None }, ballot: Ballot::ZERO, asked: Ballot::ZERO };

    /// It takes a role.
    pub(super) fn takes(&mut self, role: Role, ballot: Ballot) {
        (self.role, self.ballot) = (role, ballot);
    }

    /// It asks for pre-votes.
    pub(super) fn asks(&mut self, ballot: Ballot) {
        self.asked = ballot;
    }

    pub(super) fn state(&self) -> State {
        match self.role {
            Role::Follower { leader: Some(_) } => State::Follows,
            Role::Follower { leader: None } if self.asked > self.ballot => State::Asks,
            Role::Follower { leader: None } => State::Alone,
            Role::Candidate => State::Stands,
            Role::Leader => State::Leads,
        }
    }
}

#[cfg(test)]
mod tests {
    use annulus_rings::{Incarnation, NodeId};

    use super::*;

    #[test]
    fn a_replica_asks_until_it_is_outbid_or_takes_a_role() {
        let ballot = |round| Ballot { round, node: NodeId(1), incarnation: Incarnation(1) };
        let mut standing = Standing::NEW;
        assert_eq!(standing.state(), State::Alone);
        standing.asks(ballot(3));
        standing.takes(Role::Follower { leader: None }, ballot(2));
        assert_eq!(standing.state(), State::Asks);
        standing.takes(Role::Candidate, ballot(3));
        assert_eq!(standing.state(), State::Stands);
        standing.takes(Role::Follower { leader: None }, ballot(4));
        assert_eq!(standing.state(), State::Alone);
    }

    #[test]
    fn what_was_never_reached_is_named() {
        let mut coverage = Coverage::default();
        coverage.delivered(State::Leads, Kind::Accepted);
        let missing = coverage.missing();
        assert_eq!(missing.len(), 59);
        assert!(!missing.contains(&(State::Leads, Kind::Accepted)));
        assert!(coverage.to_string().ends_with("1 of 60 pairs reached"));
    }
}
