//! What a replica of a ring is at the moment, readable from any thread.

use annulus_rings::{Ballot, NodeId, Progress, Role, Slot};

use crate::sync::{AtomicU64, Ordering, fence, spin_loop};

/// Where a replica stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RingStatus {
    /// What it is.
    pub role: Role,
    /// Who leads, as far as it knows.
    pub leader: Option<NodeId>,
    /// The ballot that it follows or leads in.
    pub ballot: Ballot,
    /// How far it is.
    pub progress: Progress,
    /// The first slot that its newest durable snapshot does not cover; 0 without one.
    pub snapshot: Slot,
}

/// One writer, the core; readers take a consistent copy without ever making the core wait.
#[derive(Default)]
pub(crate) struct StatusCell {
    /// Odd while the core writes.
    version: AtomicU64,
    words: [AtomicU64; WORDS],
}

const WORDS: usize = 9;

impl StatusCell {
    /// Shows `status` to readers. Only the owning core calls this.
    pub(crate) fn publish(&self, status: &RingStatus) {
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version + 1, Ordering::Relaxed);
        fence(Ordering::Release);
        for (word, value) in self.words.iter().zip(status.words()) {
            word.store(value, Ordering::Relaxed);
        }
        self.version.store(version + 2, Ordering::Release);
    }

    /// The status as it was last published.
    pub(crate) fn read(&self) -> RingStatus {
        loop {
            let before = self.version.load(Ordering::Acquire);
            let words = std::array::from_fn(|index| self.words[index].load(Ordering::Relaxed));
            fence(Ordering::Acquire);
            if before.is_multiple_of(2) && self.version.load(Ordering::Relaxed) == before {
                return RingStatus::from_words(words);
            }
            spin_loop();
        }
    }
}

impl RingStatus {
    fn words(&self) -> [u64; WORDS] {
        let role = match self.role {
            Role::Follower { .. } => 0,
            Role::Candidate => 1,
            Role::Leader => 2,
        };
        let leader = self.leader.map_or(0, |node| u64::from(node.0));
        let Progress { proposed, durable, chosen, executed } = self.progress;
        let ballot = self.ballot;
        let snapshot = self.snapshot;
        [
            role,
            leader,
            ballot.round,
            ballot.owner_word(),
            proposed.0,
            durable.0,
            chosen.0,
            executed.0,
            snapshot.0,
        ]
    }

    fn from_words(words: [u64; WORDS]) -> RingStatus {
        let [role, leader, round, owner, proposed, durable, chosen, executed, snapshot] = words;
        let leader = (leader != 0).then_some(NodeId(leader as u16));
        let role = match role {
            2 => Role::Leader,
            1 => Role::Candidate,
            _ => Role::Follower { leader },
        };
        let [proposed, durable, chosen, executed] = [proposed, durable, chosen, executed].map(Slot);
        RingStatus {
            role,
            leader,
            ballot: Ballot::from_words(round, owner).unwrap_or(Ballot::ZERO),
            progress: Progress { proposed, durable, chosen, executed },
            snapshot: Slot(snapshot),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_is_what_is_read() {
        let cell = StatusCell::default();
        assert_eq!(cell.read().role, Role::Follower { leader: None });
        let status = RingStatus {
            role: Role::Leader,
            leader: Some(NodeId(3)),
            ballot: Ballot { round: 9, node: NodeId(3), ..Ballot::ZERO },
            progress: Progress { proposed: Slot(4), durable: Slot(3), chosen: Slot(2), executed: Slot(1) },
            snapshot: Slot(5),
        };
        cell.publish(&status);
        assert_eq!(cell.read(), status);
    }

    #[test]
    fn a_reader_never_sees_half_a_status() {
        let cell = StatusCell::default();
        let status = |number| RingStatus {
            role: Role::Leader,
            leader: None,
            ballot: Ballot::ZERO,
            progress: Progress {
                proposed: Slot(number),
                durable: Slot(number),
                chosen: Slot(number),
                executed: Slot(number),
            },
            snapshot: Slot(number),
        };
        cell.publish(&status(0));
        let rounds = if cfg!(miri) { 50 } else { 20_000 };
        std::thread::scope(|scope| {
            scope.spawn(|| (0..rounds).for_each(|number| cell.publish(&status(number))));
            for _ in 0..rounds {
                let progress = cell.read().progress;
                assert_eq!(progress.proposed, progress.executed);
            }
        });
    }
}
