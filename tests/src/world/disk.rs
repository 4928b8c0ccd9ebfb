//! What the oracle knows to be on one node's disk: which records, and what they are worth.

use std::collections::{BTreeMap, BTreeSet};

use annulus_rings::{Ballot, Frame, Kind, Lsn, Slot, message};

/// The journal of one node's ring, and its newest snapshot.
#[derive(Default)]
pub(super) struct Disk {
    records: BTreeMap<Lsn, Record>,
    /// What they hold.
    votes: BTreeSet<(Slot, Ballot)>,
    /// The highest promise that was ever durable. Of what is taught only news promises anything.
    pub(super) promised: Ballot,
    /// A durable snapshot covers every slot below.
    pub(super) covered: Slot,
    /// The first record that was not freed.
    first: Lsn,
}

/// What one record says.
struct Record {
    is_durable: bool,
    /// What it promises; zero if it says nothing of that.
    promise: Ballot,
    /// The votes, and the values taught, that it holds.
    votes: Vec<(Slot, Ballot)>,
}

impl Disk {
    /// Notes a record that is not durable. Of what a peer teaches only slots from `chosen` on are news.
    pub(super) fn append(&mut self, lsn: Lsn, frame: &Frame, chosen: Slot) {
        let header = frame.header();
        let mut votes = Vec::new();
        let mut promise = Ballot::ZERO;
        match header.kind {
            Kind::Prepare | Kind::Base => promise = header.ballot,
            Kind::Accept => {
                promise = header.ballot;
                votes.push((header.slot, header.ballot));
            }
            Kind::Learn => message::carried(frame, |inner| {
                let inner = inner.header();
                if inner.slot >= chosen {
                    promise = promise.max(inner.ballot);
                    votes.push((inner.slot, inner.ballot));
                }
            })
            .expect("a record of the journal is well formed"),
            _ => {}
        }
        self.votes.extend(&votes);
        self.records.insert(lsn, Record { is_durable: false, promise, votes });
    }

    /// A record became durable.
    pub(super) fn persist(&mut self, lsn: Lsn) {
        if let Some(record) = self.records.get_mut(&lsn) {
            record.is_durable = true;
            self.promised = self.promised.max(record.promise);
        }
    }

    /// Whether a record holds that vote already: then another one carries it on.
    pub(super) fn holds(&self, vote: (Slot, Ballot)) -> bool {
        self.votes.contains(&vote)
    }

    fn gather(&mut self) {
        self.votes = self.records.values().flat_map(|record| record.votes.iter().copied()).collect();
    }

    /// What was not durable is gone.
    pub(super) fn restart(&mut self, covered: Slot) {
        self.records.retain(|_, record| record.is_durable);
        self.covered = covered;
        self.gather();
    }

    /// Everything below `first` is freed. What is lost by that, if it is still needed: the promise must stay on
    /// the disk, and no slot above the snapshot may lose its highest vote.
    pub(super) fn free(&mut self, first: Lsn) -> Result<(), String> {
        let before = self.highest_votes();
        self.records = self.records.split_off(&first);
        self.first = self.first.max(first);
        self.gather();
        let durable = self.records.values().filter(|record| record.is_durable);
        let left = durable.map(|record| record.promise).max().unwrap_or_default();
        if left < self.promised {
            return Err(format!("the promise of {} is freed, and {left} left", self.promised));
        }
        let after = self.highest_votes();
        let lost = before.iter().find(|(slot, ballot)| after.get(slot) != Some(ballot));
        match lost {
            Some((slot, ballot)) => Err(format!(
                "the vote for {slot:?} in {ballot} is freed, and the snapshot covers the slots below {:?}",
                self.covered
            )),
            None => Ok(()),
        }
    }

    /// Whether records that some snapshot does not cover may be missing.
    pub(super) fn is_cut(&self) -> bool {
        self.first > Lsn(1)
    }

    /// The highest durable vote of each slot above the snapshot.
    fn highest_votes(&self) -> BTreeMap<Slot, Ballot> {
        let mut highest = BTreeMap::new();
        let durable = self.records.values().filter(|record| record.is_durable);
        for &(slot, ballot) in durable.flat_map(|record| &record.votes).filter(|vote| vote.0 >= self.covered)
        {
            let held = highest.entry(slot).or_insert(ballot);
            *held = ballot.max(*held);
        }
        highest
    }
}
