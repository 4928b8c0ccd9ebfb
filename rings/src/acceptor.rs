//! The acceptor: what this replica has promised, and what it may say once a write is durable.

use std::collections::VecDeque;

use crate::frame::ValueId;
use crate::{Ballot, Lsn, Slot, Time, ensures, invariant, mutant, requires};

/// The promise of a replica and everything it owes to somebody after a write.
///
/// Nothing here is sent before [`Acceptor::persisted`] hands it out (A2, A4).
#[derive(Clone, Hash)]
pub struct Acceptor {
    promised: Ballot,
    /// Where the journal has the promise, or the vote that implied it.
    promised_lsn: Lsn,
    persisted: Lsn,
    owed: VecDeque<Owed>,
}

/// What may be said once the journal has `lsn`.
#[derive(Clone, Copy, Hash, Debug)]
struct Owed {
    lsn: Lsn,
    what: Due,
}

/// What a durable write allows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Due {
    /// To tell the candidate of `ballot` what was accepted from slot `from` on.
    Promise {
        /// The promise.
        ballot: Ballot,
        /// The first slot that the candidate asked about.
        from: Slot,
    },
    /// To tell the leader of `ballot` that it has this replica's vote.
    Vote(Vote),
}

/// A vote, as it was cast: what is acknowledged later is this, whatever happened since (A6).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Vote {
    /// The ballot that it was cast in.
    pub ballot: Ballot,
    /// The slot.
    pub slot: Slot,
    /// The value.
    pub value: ValueId,
    /// When the Accept arrived.
    pub received: Time,
}

impl Acceptor {
    /// An acceptor that has promised nothing, over a journal that is durable up to `persisted`.
    pub fn new(persisted: Lsn) -> Acceptor {
        Acceptor { promised: Ballot::ZERO, promised_lsn: Lsn(0), persisted, owed: VecDeque::new() }
    }

    /// The highest ballot promised, by a Prepare or by a vote.
    pub fn promised(&self) -> Ballot {
        self.promised
    }

    /// Whether the promise is durable.
    pub fn is_promise_durable(&self) -> bool {
        self.promised_lsn <= self.persisted
    }

    /// How far the journal is durable.
    pub fn persisted_lsn(&self) -> Lsn {
        self.persisted
    }

    /// Notes a promise whose record is at `lsn`.
    pub fn promise(&mut self, ballot: Ballot, lsn: Lsn) {
        requires!(A1, ballot >= self.promised);
        if ballot > self.promised {
            self.promised = ballot;
            self.promised_lsn = lsn;
        }
    }

    /// Owes the candidate of `ballot` a Promise once `lsn` is durable.
    pub fn owe_promise(&mut self, ballot: Ballot, from: Slot, lsn: Lsn) {
        requires!(A2, ballot == self.promised);
        self.owe(lsn, Due::Promise { ballot, from });
    }

    /// Casts a vote whose record is at `lsn`: the leader hears of it once that is durable.
    pub fn vote(&mut self, vote: Vote, lsn: Lsn) {
        requires!(A3, vote.ballot >= self.promised);
        if !mutant!(VOTE_LEAVES_PROMISE) {
            self.promise(vote.ballot, lsn);
        }
        self.owe(lsn, Due::Vote(vote));
        ensures!(A7, self.promised == vote.ballot);
    }

    /// The journal holds everything up to `lsn`.
    pub fn persisted(&mut self, lsn: Lsn) {
        requires!(T7, lsn >= self.persisted);
        self.persisted = lsn;
    }

    /// The next thing that the durable writes allow to be said.
    pub fn due(&mut self) -> Option<Due> {
        let owed = self.owed.pop_front_if(|owed| owed.lsn <= self.persisted)?;
        ensures!(A4, owed.lsn <= self.persisted);
        Some(owed.what)
    }

    /// What must hold between calls, once what was due has been taken.
    pub fn invariants(&self) {
        invariant!(A4, self.owed.front().is_none_or(|owed| owed.lsn > self.persisted));
    }

    fn owe(&mut self, lsn: Lsn, what: Due) {
        requires!(A4, lsn > self.persisted);
        requires!(T7, self.owed.back().is_none_or(|last| last.lsn <= lsn));
        self.owed.push_back(Owed { lsn, what });
    }
}

/// Collects votes of one ballot for adjacent slots into the range that one Accepted frame names.
#[derive(Clone, Copy, Debug)]
pub struct VoteRange {
    /// The ballot that every vote of the range was cast in.
    pub ballot: Ballot,
    /// First slot.
    pub first: Slot,
    /// Last slot.
    pub last: Slot,
    /// The values, folded in slot order.
    pub digest: u64,
    /// When the last of them arrived.
    pub received: Time,
}

impl VoteRange {
    /// The range of a single vote.
    pub fn of(vote: Vote) -> VoteRange {
        VoteRange {
            ballot: vote.ballot,
            first: vote.slot,
            last: vote.slot,
            digest: ValueId::fold(0, vote.slot, vote.value),
            received: vote.received,
        }
    }

    /// Adds `vote` if it continues the range.
    pub fn extend(&mut self, vote: Vote) -> bool {
        let is_of_ballot = vote.ballot == self.ballot || mutant!(BALLOTS_MERGED);
        if !is_of_ballot || vote.slot != self.last.next() && !mutant!(ACKNOWLEDGEMENT_COVERS_GAP) {
            return false;
        }
        self.last = vote.slot;
        self.digest = ValueId::fold(self.digest, vote.slot, vote.value);
        self.received = vote.received;
        ensures!(A6, self.ballot == vote.ballot && self.last == vote.slot);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Incarnation, NodeId};

    fn ballot(round: u64) -> Ballot {
        Ballot { round, node: NodeId(2), incarnation: Incarnation(1) }
    }

    fn vote(round: u64, slot: u64) -> Vote {
        Vote { ballot: ballot(round), slot: Slot(slot), value: ValueId(slot), received: Time(0) }
    }

    #[test]
    fn a_vote_is_acknowledged_in_the_ballot_it_was_cast_in() {
        let mut acceptor = Acceptor::new(Lsn(0));
        acceptor.vote(vote(1, 0), Lsn(1));
        acceptor.promise(ballot(5), Lsn(2));
        acceptor.persisted(Lsn(2));
        assert_eq!(acceptor.due(), Some(Due::Vote(vote(1, 0))));
    }

    #[test]
    fn nothing_is_due_before_its_write_is_durable() {
        let mut acceptor = Acceptor::new(Lsn(0));
        acceptor.vote(vote(1, 0), Lsn(1));
        acceptor.vote(vote(1, 1), Lsn(2));
        assert_eq!(acceptor.due(), None);
        acceptor.persisted(Lsn(1));
        assert_eq!(acceptor.due(), Some(Due::Vote(vote(1, 0))));
        assert_eq!(acceptor.due(), None);
    }

    #[test]
    fn accepting_raises_the_promise() {
        let mut acceptor = Acceptor::new(Lsn(0));
        acceptor.vote(vote(7, 0), Lsn(1));
        assert_eq!(acceptor.promised(), ballot(7));
    }

    #[test]
    #[should_panic(expected = "contract A1")]
    fn a_promise_never_goes_back() {
        let mut acceptor = Acceptor::new(Lsn(0));
        acceptor.promise(ballot(5), Lsn(1));
        acceptor.promise(ballot(4), Lsn(2));
    }

    #[test]
    #[should_panic(expected = "contract A3")]
    fn a_vote_below_the_promise_is_never_cast() {
        let mut acceptor = Acceptor::new(Lsn(0));
        acceptor.promise(ballot(5), Lsn(1));
        acceptor.vote(vote(4, 0), Lsn(2));
    }

    #[test]
    #[should_panic(expected = "contract A2")]
    fn no_promise_is_owed_below_the_one_that_was_made() {
        let mut acceptor = Acceptor::new(Lsn(0));
        acceptor.promise(ballot(5), Lsn(1));
        acceptor.owe_promise(ballot(4), Slot(0), Lsn(2));
    }

    #[test]
    #[should_panic(expected = "contract A4")]
    fn nothing_is_owed_to_a_write_that_is_behind_the_durable_ones() {
        let mut acceptor = Acceptor::new(Lsn(5));
        acceptor.vote(vote(1, 0), Lsn(5));
    }

    #[test]
    #[should_panic(expected = "contract T7")]
    fn a_late_completion_never_lowers_progress() {
        let mut acceptor = Acceptor::new(Lsn(5));
        acceptor.persisted(Lsn(4));
    }

    #[test]
    fn votes_for_adjacent_slots_of_one_ballot_share_an_acknowledgement() {
        let mut range = VoteRange::of(vote(1, 4));
        assert!(range.extend(vote(1, 5)));
        assert!(!range.extend(vote(1, 7)), "a gap");
        assert!(!range.extend(vote(2, 6)), "another ballot");
        assert_eq!((range.first, range.last), (Slot(4), Slot(5)));
    }
}
