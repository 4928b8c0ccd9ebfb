//! The window of slots that a replica holds in memory: open ones, and chosen ones for peers that lag.

use std::collections::VecDeque;

use crate::configuration::Votes;
use crate::frame::ValueId;
use crate::{Ballot, Frame, Lsn, Slot, Time, ensures, invariant, mutant, requires};

/// The slots from `floor` on.
///
/// ```text
///   floor ≤ executed ≤ chosen ≤ end
///   │ retained │ chosen, │ accepted, │ free
///   │ executed │ waiting │ or holes  │
/// ```
#[derive(Clone, Hash)]
pub struct Log {
    floor: Slot,
    executed: Slot,
    chosen: Slot,
    /// First slot whose own write is not durable, or that has none.
    durable: Slot,
    /// How far the journal is durable.
    persisted: Lsn,
    entries: VecDeque<Option<Entry>>,
    retained_bytes: usize,
    retain_bytes_max: usize,
}

/// What this replica holds of one slot.
#[derive(Clone, Hash, Debug)]
pub struct Entry {
    /// The Accept frame: the value, and the ballot of the highest vote.
    pub frame: Frame,
    /// The frame's ballot.
    pub ballot: Ballot,
    /// The frame's value.
    pub value: ValueId,
    /// Where the journal has it; or, once it was written again, a position in front of that.
    pub lsn: Lsn,
    /// Who voted for it, as the leader of `ballot` counts.
    pub votes: Votes,
    /// Whether the value is known to be chosen.
    pub chosen: bool,
    /// When the leader last sent it.
    pub sent: Time,
}

impl Entry {
    /// An accepted value that is not known to be chosen.
    pub fn accepted(frame: Frame, lsn: Lsn, sent: Time) -> Entry {
        let ballot = frame.header().ballot;
        let value = frame.value();
        Entry { frame, ballot, value, lsn, votes: Votes::NONE, chosen: false, sent }
    }

    /// What keeping the frame is taken to cost. A small one lies in a buffer that others share and keeps all
    /// of it, so it counts for more than its size (M1).
    fn retained_bytes(&self) -> usize {
        self.frame.len().max(RETAINED_BYTES_MIN)
    }
}

/// The least that a retained frame counts for.
const RETAINED_BYTES_MIN: usize = 4096;

impl Log {
    /// An empty log that keeps at most `retain_bytes_max` of executed slots. Every slot below `base` is
    /// executed: a snapshot covers it.
    pub fn restored(retain_bytes_max: usize, base: Slot) -> Log {
        Log {
            floor: base,
            executed: base,
            chosen: base,
            durable: base,
            persisted: Lsn(0),
            entries: VecDeque::new(),
            retained_bytes: 0,
            retain_bytes_max,
        }
    }

    /// The first slot retained. All below are chosen and executed.
    pub fn floor(&self) -> Slot {
        self.floor
    }

    /// The first slot not executed.
    pub fn executed(&self) -> Slot {
        self.executed
    }

    /// The first slot not known to be chosen.
    pub fn chosen(&self) -> Slot {
        self.chosen
    }

    /// The first slot whose own write is not known to be durable.
    pub fn durable(&self) -> Slot {
        self.durable
    }

    /// One past the last slot that holds anything.
    pub fn end(&self) -> Slot {
        Slot(self.floor.0 + self.entries.len() as u64)
    }

    /// What is held of `slot`.
    pub fn get(&self, slot: Slot) -> Option<&Entry> {
        self.entries.get(slot.offset_from(self.floor)?)?.as_ref()
    }

    /// What is held of `slot`, to change its votes and times.
    pub fn get_mut(&mut self, slot: Slot) -> Option<&mut Entry> {
        self.entries.get_mut(slot.offset_from(self.floor)?)?.as_mut()
    }

    /// Holds `entry` for `slot`, in place of a vote in a lower or the same ballot.
    pub fn put(&mut self, slot: Slot, entry: Entry) {
        requires!(A8, slot >= self.floor);
        if let Some(held) = self.get(slot) {
            requires!(A3, entry.ballot >= held.ballot || entry.chosen);
            requires!(A5, entry.ballot != held.ballot || entry.value == held.value);
            requires!(L1, !held.chosen || entry.value == held.value);
        }
        let offset = slot.offset_from(self.floor).expect("the slot is not below the floor");
        if offset >= self.entries.len() {
            self.entries.resize_with(offset + 1, || None);
        }
        if mutant!(CHOSEN_ROLLED_BACK) {
            self.chosen = self.chosen.min(slot);
        }
        let chosen = entry.chosen || self.get(slot).is_some_and(|held| held.chosen);
        self.entries[offset] = Some(Entry { chosen, ..entry });
    }

    /// Notes that the value held for `slot` is chosen.
    pub fn choose(&mut self, slot: Slot) {
        self.get_mut(slot).expect("only a value that is held can be marked chosen").chosen = true;
    }

    /// Extends the chosen prefix by one slot if the next one is chosen, and tells its frame.
    pub fn advance(&mut self) -> Option<(Slot, Frame)> {
        let is_chosen = |slot: &u64| self.get(Slot(*slot)).is_some_and(|entry| entry.chosen);
        let skipped = mutant!(HOLE_SKIPPED).then(|| (self.chosen.0..self.end().0).find(is_chosen)).flatten();
        let slot = skipped.map_or(self.chosen, Slot);
        let frame = self.get(slot).filter(|entry| entry.chosen)?.frame.clone();
        self.chosen = slot.next();
        ensures!(T2, self.chosen <= self.end());
        Some((slot, frame))
    }

    /// Notes that the journal holds everything up to `lsn`.
    pub fn persisted(&mut self, lsn: Lsn) {
        self.persisted = lsn;
        while self.get(self.durable).is_some_and(|entry| entry.lsn <= lsn) {
            self.durable = self.durable.next();
        }
    }

    /// Notes that `slot` was executed, and lets go of what is no longer worth keeping.
    pub fn execute(&mut self, slot: Slot) {
        requires!(L4, slot == self.executed);
        requires!(L4, slot < self.chosen);
        self.executed = slot.next();
        self.retained_bytes += self.get(slot).map_or(0, Entry::retained_bytes);
        while self.retained_bytes > self.retain_bytes_max && self.is_front_in_journal() {
            self.drop_front();
        }
    }

    /// A snapshot took the place of everything below `slot`: what was held there goes, chosen or not, and what
    /// is held from there on stays (T3).
    pub fn install(&mut self, slot: Slot) {
        requires!(T3, slot > self.chosen);
        let gone = self.entries.len().min((slot.0 - self.floor.0) as usize);
        if !mutant!(SUPERSEDED_VOTES_STAY) {
            self.entries.drain(..gone);
            self.floor = slot;
        }
        (self.executed, self.chosen, self.durable) = (slot, slot, self.durable.max(slot));
        self.retained_bytes = 0; // Nothing that was executed here is held any more.
        self.persisted(self.persisted);
    }

    /// Lets go of a vote for `slot` that is not known to be for the chosen value, if there is one.
    pub fn forget(&mut self, slot: Slot) {
        requires!(T3, slot >= self.chosen);
        if let Some(held) = slot.offset_from(self.floor).and_then(|offset| self.entries.get_mut(offset)) {
            held.take_if(|entry| !entry.chosen);
        }
    }

    /// The lowest position at which the journal has anything that is held of `from` and later slots.
    pub fn lowest_lsn(&self, from: Slot) -> Option<Lsn> {
        self.held(from).map(|entry| entry.lsn).min()
    }

    /// How many slots from `from` on anything is held of.
    pub fn held_from(&self, from: Slot) -> usize {
        self.held(from).count()
    }

    /// Bytes of the frames held from `from` on.
    pub fn held_bytes(&self, from: Slot) -> usize {
        self.held(from).map(|entry| entry.frame.len()).sum()
    }

    /// What is held from `from` on is recorded again at `lsn` or behind, durably.
    pub fn rerecord(&mut self, from: Slot, lsn: Lsn) {
        requires!(A4, lsn <= self.persisted);
        let below = from.offset_from(self.floor).unwrap_or(0);
        for entry in self.entries.iter_mut().skip(below).flatten() {
            entry.lsn = entry.lsn.max(lsn);
        }
    }

    fn held(&self, from: Slot) -> impl Iterator<Item = &Entry> {
        let below = from.offset_from(self.floor).unwrap_or(0);
        self.entries.iter().skip(below).flatten()
    }

    /// Whether `slot` may be taken at all: the log is bounded by `slots` beyond the chosen prefix.
    pub fn is_within(&self, slot: Slot, slots: u64) -> bool {
        slot.0 < self.chosen.0.saturating_add(slots)
    }

    /// What must hold between calls.
    pub fn invariants(&self) {
        invariant!(T2, self.floor <= self.executed);
        invariant!(T2, self.executed <= self.chosen);
        invariant!(T2, self.chosen <= self.end());
    }

    /// Whether the first slot is executed, and the very value held for it durable. A durable older vote is
    /// not enough: peers are taught from the journal what memory no longer holds, and they must not be
    /// taught a vote that was replaced (T5).
    fn is_front_in_journal(&self) -> bool {
        if mutant!(REPLACED_VOTE_TAUGHT) {
            return self.floor < self.executed.min(self.durable);
        }
        self.floor < self.executed && self.get(self.floor).is_some_and(|entry| entry.lsn <= self.persisted)
    }

    fn drop_front(&mut self) {
        let entry = self.entries.pop_front().flatten().expect("no holes below the executed slot");
        self.retained_bytes -= entry.retained_bytes();
        self.floor = self.floor.next();
        self.durable = self.durable.max(self.floor);
    }
}

#[cfg(test)]
mod tests;
