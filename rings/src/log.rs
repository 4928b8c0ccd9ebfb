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
    /// Where the journal has it.
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
    /// An empty log that keeps at most `retain_bytes_max` of executed slots.
    pub fn new(retain_bytes_max: usize) -> Log {
        let zero = Slot(0);
        Log {
            floor: zero,
            executed: zero,
            chosen: zero,
            durable: zero,
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
mod tests {
    use std::collections::BTreeMap;
    use std::collections::btree_map::Entry;

    use bytes::BytesMut;
    use proptest::prelude::*;

    use super::{Frame, Log, Lsn, Slot, Time};
    use crate::Ballot;
    use crate::batch::Batch;
    use crate::frame::HEADER_BYTES;
    use crate::{ClusterId, ConfigurationId, FrameHeader, FramePool, Incarnation, Kind, NodeId, RingId};

    fn accepted(slot: u64, round: u64, lsn: u64, padding: usize) -> super::Entry {
        let header = FrameHeader {
            kind: Kind::Accept,
            cluster: ClusterId(1),
            ring: RingId(1),
            configuration: ConfigurationId(1),
            sender: NodeId(1),
            ballot: Ballot { round, node: NodeId(1), incarnation: Incarnation(1) },
            slot: Slot(slot),
            chosen: Slot(0),
            commands: 0,
            words: [0; 4],
        };
        let mut buffer = BytesMut::zeroed(HEADER_BYTES);
        buffer.extend_from_slice(&slot.to_le_bytes());
        buffer.resize(buffer.len() + padding, 0);
        super::Entry::accepted(Frame::seal(buffer, &header), Lsn(lsn), Time(0))
    }

    #[derive(Clone, Debug)]
    enum Action {
        Put { ahead: u64, padding: usize },
        Choose { ahead: u64 },
        Persist { ahead: u64 },
        Execute,
    }

    fn action() -> impl Strategy<Value = Action> {
        prop_oneof![
            (0..8u64, 0..200usize).prop_map(|(ahead, padding)| Action::Put { ahead, padding }),
            (0..8u64).prop_map(|ahead| Action::Choose { ahead }),
            (0..4u64).prop_map(|ahead| Action::Persist { ahead }),
            Just(Action::Execute),
        ]
    }

    proptest! {
        /// Whatever happens, the log holds what a map without limits holds, from its floor on.
        #[test]
        fn the_log_agrees_with_a_map(actions in prop::collection::vec(action(), 0..200)) {
            let mut log = Log::new(500);
            let mut model: BTreeMap<u64, (u64, bool)> = BTreeMap::new();
            let (mut lsn, mut persisted) = (0, 0);
            for action in actions {
                match action {
                    Action::Put { ahead, padding } => {
                        let slot = log.chosen().0 + ahead;
                        if let Entry::Vacant(vacant) = model.entry(slot) {
                            lsn += 1;
                            log.put(Slot(slot), accepted(slot, 1, lsn, padding));
                            vacant.insert((lsn, false));
                        }
                    }
                    Action::Choose { ahead } => {
                        let slot = log.chosen().0 + ahead;
                        if let Some(held) = model.get_mut(&slot) {
                            log.choose(Slot(slot));
                            held.1 = true;
                        }
                    }
                    Action::Persist { ahead } => {
                        persisted = (persisted + ahead).min(lsn);
                        log.persisted(Lsn(persisted));
                    }
                    Action::Execute => {
                        if log.executed() < log.chosen() {
                            log.execute(log.executed());
                        }
                    }
                }
                while let Some((slot, frame)) = log.advance() {
                    prop_assert!(model[&slot.0].1);
                    prop_assert_eq!(frame.header().slot, slot);
                }
                log.invariants();
                for (slot, (lsn, chosen)) in model.range(log.floor().0..) {
                    let held = log.get(Slot(*slot)).expect("held");
                    prop_assert_eq!((held.lsn.0, held.chosen), (*lsn, *chosen));
                }
                let prefix = (0..u64::MAX).take_while(|slot| model.get(slot).is_some_and(|held| held.1)).count() as u64;
                prop_assert_eq!(log.chosen().0, prefix);
            }
        }
    }

    #[test]
    fn a_value_leaves_memory_only_when_it_is_itself_durable() {
        let mut log = Log::new(0);
        log.put(Slot(0), accepted(0, 1, 1, 0));
        log.persisted(Lsn(1));
        log.put(Slot(0), super::Entry { chosen: true, ..accepted(0, 2, 2, 9) });
        log.advance().unwrap();
        log.execute(Slot(0));
        assert_eq!(log.floor(), Slot(0), "the journal would teach the vote that was replaced");
        log.put(Slot(1), super::Entry { chosen: true, ..accepted(1, 2, 3, 0) });
        log.advance().unwrap();
        log.persisted(Lsn(3));
        log.execute(Slot(1));
        assert_eq!(log.floor(), Slot(2));
    }

    #[test]
    #[should_panic(expected = "contract L1")]
    fn a_chosen_value_is_never_replaced_by_another() {
        let mut log = Log::new(0);
        log.put(Slot(0), accepted(0, 1, 1, 0));
        log.choose(Slot(0));
        log.put(Slot(0), accepted(0, 2, 2, 9));
    }

    #[test]
    #[should_panic(expected = "contract A5")]
    fn a_second_value_in_one_ballot_is_never_held() {
        let mut log = Log::new(0);
        log.put(Slot(0), accepted(0, 1, 1, 0));
        log.put(Slot(0), accepted(0, 1, 2, 9));
    }

    #[test]
    #[should_panic(expected = "contract A3")]
    fn a_vote_in_a_lower_ballot_never_replaces_a_higher_one() {
        let mut log = Log::new(0);
        log.put(Slot(0), accepted(0, 2, 1, 0));
        log.put(Slot(0), accepted(0, 1, 2, 0));
    }

    #[test]
    #[should_panic(expected = "contract A8")]
    fn nothing_is_held_below_the_floor() {
        let mut log = Log::new(0);
        log.put(Slot(0), accepted(0, 1, 1, 0));
        log.choose(Slot(0));
        log.advance().unwrap();
        log.persisted(Lsn(1));
        log.execute(Slot(0));
        log.put(Slot(0), accepted(0, 2, 2, 0));
    }

    #[test]
    #[should_panic(expected = "contract T2")]
    fn no_slot_is_executed_that_is_not_chosen() {
        let mut log = Log::new(0);
        log.put(Slot(0), accepted(0, 1, 1, 0));
        log.executed = Slot(1);
        log.invariants();
    }

    #[test]
    #[should_panic(expected = "contract L4")]
    fn slots_are_executed_in_order() {
        let mut log = Log::new(0);
        for slot in 0..2 {
            log.put(Slot(slot), accepted(slot, 1, slot + 1, 0));
            log.choose(Slot(slot));
            log.advance().unwrap();
        }
        log.execute(Slot(1));
    }

    #[test]
    fn a_value_proposed_again_keeps_its_identity() {
        let mut pool = FramePool::new(1 << 12);
        let first = accepted(3, 1, 1, 40).frame;
        let again = Batch::copy_of(&first, &mut pool);
        let mut header = first.header();
        header.ballot.round = 9;
        assert_eq!(Frame::seal(again.buffer, &header).value(), first.value());
    }
}
