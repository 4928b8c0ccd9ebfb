//! The proposer: what a leader knows of its own ballot.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use crate::configuration::Votes;
use crate::{Ballot, Configuration, Frame, Slot, Time, mutant, requires};

/// Phase 2 of a ballot.
#[derive(Clone)]
pub struct Leader {
    /// Its ballot.
    pub ballot: Ballot,
    /// Every slot below is chosen already; never proposed for (P4).
    pub base: Slot,
    /// The first slot that has not been proposed in this ballot.
    pub next: Slot,
    /// What phase 1 reported and has not been proposed again yet.
    pub recovered: BTreeMap<Slot, Frame>,
    /// The first slot that is free for new commands.
    pub recovered_end: Slot,
    /// When each member was last heard in this ballot.
    heard: Vec<Time>,
    /// Numbers the heartbeats.
    pub sequence: u64,
    /// When followers must hear something again.
    pub heartbeat: Time,
    /// When to look for what is unanswered.
    pub resend: Time,
}

impl Leader {
    /// The leader of `ballot` after phase 1: `recovered` holds the highest votes of slots from `base` on.
    pub fn new(
        ballot: Ballot,
        base: Slot,
        mut recovered: BTreeMap<Slot, Frame>,
        members: usize,
        now: Time,
    ) -> Leader {
        let recovered = recovered.split_off(&base);
        let recovered_end = recovered.last_key_value().map_or(base, |(slot, _)| slot.next());
        Leader {
            ballot,
            base,
            next: base,
            recovered,
            recovered_end,
            heard: vec![now; members],
            sequence: 0,
            heartbeat: now,
            resend: now,
        }
    }

    /// Whether everything that earlier leaders left has been proposed again.
    pub fn is_recovered(&self) -> bool {
        self.next >= self.recovered_end || mutant!(NEW_BEFORE_RECOVERED)
    }

    /// Takes the next slot of the ballot: each is used once (P6), in order (P5), within the window (P7).
    pub fn take_slot(&mut self, chosen: Slot, window_slots: u32) -> Slot {
        requires!(P7, self.next.0 < chosen.0 + u64::from(window_slots));
        requires!(P4, self.next >= self.base);
        let slot = self.next;
        if !mutant!(SLOT_TAKEN_TWICE) {
            self.next = slot.next();
        }
        slot
    }

    /// Slots below `chosen` turned out to be decided: nothing is proposed for them any more.
    pub fn skip_to(&mut self, chosen: Slot) {
        if self.next < chosen {
            self.next = chosen;
            self.recovered = self.recovered.split_off(&chosen);
        }
    }

    /// Notes a sign of life of the member at `index`.
    pub fn hear(&mut self, index: usize, now: Time) {
        self.heard[index] = now;
    }

    /// Whether a quorum, this node included, was heard within `timeout`.
    pub fn has_contact(
        &self,
        own: usize,
        configuration: &Configuration,
        timeout: Duration,
        now: Time,
    ) -> bool {
        let mut votes = Votes::NONE;
        for (index, heard) in self.heard.iter().enumerate() {
            if index == own || now.since(*heard) <= timeout {
                votes.add(index);
            }
        }
        configuration.is_quorum(votes)
    }
}

/// Leaders are alike when they decide alike: how often each has called does not matter.
impl Hash for Leader {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.ballot, self.base, self.next, &self.recovered, self.recovered_end).hash(state);
        (&self.heard, self.heartbeat, self.resend).hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ConfigurationId, Incarnation, NodeId};

    fn leader(base: u64) -> Leader {
        let ballot = Ballot { round: 1, node: NodeId(1), incarnation: Incarnation(1) };
        Leader::new(ballot, Slot(base), BTreeMap::new(), 3, Time(0))
    }

    #[test]
    fn each_slot_is_taken_once_and_in_order() {
        let mut leader = leader(5);
        assert_eq!(leader.take_slot(Slot(5), 4), Slot(5));
        assert_eq!(leader.take_slot(Slot(5), 4), Slot(6));
    }

    #[test]
    #[should_panic(expected = "contract P7")]
    fn no_slot_beyond_the_window_is_taken() {
        let mut leader = leader(5);
        for _ in 0..5 {
            leader.take_slot(Slot(5), 4);
        }
    }

    #[test]
    #[should_panic(expected = "contract P4")]
    fn no_slot_below_the_base_is_taken() {
        let mut leader = leader(5);
        leader.next = Slot(4);
        leader.take_slot(Slot(5), 4);
    }

    #[test]
    fn contact_is_lost_when_a_quorum_is_silent() {
        let members: Vec<NodeId> = (1..=3).map(NodeId).collect();
        let configuration = Configuration::new(ConfigurationId(1), Slot(0), &members).unwrap();
        let timeout = Duration::from_millis(10);
        let late = Time(0) + Duration::from_millis(11);
        let mut leader = leader(0);
        assert!(!leader.has_contact(0, &configuration, timeout, late));
        leader.hear(2, late);
        assert!(leader.has_contact(0, &configuration, timeout, late));
    }
}
