//! The log against a map without limits, and what it must never be asked to do.

use std::collections::BTreeMap;

use bytes::BytesMut;
use proptest::prelude::*;

use super::{Frame, Log, Lsn, RETAINED_BYTES_MIN, Slot, Time};
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
    /// A vote, or one in a higher ballot: for the same value where that is chosen.
    Put {
        ahead: u64,
        padding: usize,
        taught: bool,
    },
    Choose {
        ahead: u64,
    },
    Persist {
        ahead: u64,
    },
    Execute,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        3 => (0..8u64, 0..200usize, prop::bool::weighted(0.2))
            .prop_map(|(ahead, padding, taught)| Action::Put { ahead, padding, taught }),
        2 => (0..8u64).prop_map(|ahead| Action::Choose { ahead }),
        2 => (0..4u64).prop_map(|ahead| Action::Persist { ahead }),
        2 => Just(Action::Execute),
    ]
}

/// What a map without limits holds of a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Held {
    round: u64,
    lsn: u64,
    padding: usize,
    chosen: bool,
}

/// A log and the map that it is compared with.
struct Pair {
    log: Log,
    map: BTreeMap<u64, Held>,
    appended: u64,
    persisted: u64,
    durable: u64,
}

/// Two small frames: the third lets the oldest go.
const RETAIN_BYTES_MAX: usize = 2 * RETAINED_BYTES_MIN;

impl Pair {
    fn act(&mut self, action: &Action) {
        let first = self.log.executed().0;
        match *action {
            Action::Put { ahead, padding, taught } => self.put(first + ahead, padding, taught),
            Action::Choose { ahead } => {
                if let Some(held) = self.map.get_mut(&(first + ahead)) {
                    self.log.choose(Slot(first + ahead));
                    held.chosen = true;
                }
            }
            Action::Persist { ahead } => {
                self.persisted = (self.persisted + ahead).min(self.appended);
                self.log.persisted(Lsn(self.persisted));
                while self.map.get(&self.durable).is_some_and(|held| held.lsn <= self.persisted) {
                    self.durable += 1;
                }
            }
            Action::Execute => {
                if self.log.executed() < self.log.chosen() {
                    self.log.execute(self.log.executed());
                }
            }
        }
    }

    fn put(&mut self, slot: u64, padding: usize, taught: bool) {
        self.appended += 1;
        let before = self.map.get(&slot).copied();
        let is_chosen = before.is_some_and(|held| held.chosen);
        let held = Held {
            round: before.map_or(1, |held| held.round + 1),
            lsn: self.appended,
            padding: before.filter(|_| is_chosen).map_or(padding, |held| held.padding),
            chosen: is_chosen || taught,
        };
        let entry = accepted(slot, held.round, held.lsn, held.padding);
        self.log.put(Slot(slot), super::Entry { chosen: taught, ..entry });
        self.map.insert(slot, held);
    }

    fn compare(&mut self, floor_before: u64) {
        while let Some((slot, frame)) = self.log.advance() {
            assert!(self.map[&slot.0].chosen);
            assert_eq!(frame.header().slot, slot);
        }
        let Pair { log, map, persisted, durable, .. } = self;
        log.invariants();
        let floor = log.floor().0;
        let left = map.range(floor_before..floor);
        left.for_each(|(slot, held)| assert!(held.lsn <= *persisted, "slot {slot} left too early"));
        for (slot, model) in map.range(floor..) {
            let entry = log.get(Slot(*slot)).expect("held");
            let (round, lsn, chosen) = (entry.ballot.round, entry.lsn.0, entry.chosen);
            assert_eq!((round, lsn, chosen), (model.round, model.lsn, model.chosen), "slot {slot}");
        }
        let prefix = (0..u64::MAX).take_while(|slot| map.get(slot).is_some_and(|held| held.chosen)).count();
        assert_eq!(log.chosen().0, prefix as u64);
        assert_eq!(log.end().0, map.keys().next_back().map_or(0, |slot| slot + 1));
        *durable = (*durable).max(floor);
        assert_eq!(log.durable().0, *durable);
    }

    /// After an execution no more is kept than is allowed, unless the journal does not have it.
    fn compare_retained(&self) {
        let (floor, executed) = (self.log.floor().0, self.log.executed().0);
        let bytes = (executed - floor) as usize * RETAINED_BYTES_MIN;
        let front = self.map.get(&floor).filter(|_| floor < executed);
        let is_front_volatile = front.is_some_and(|held| held.lsn > self.persisted);
        assert!(bytes <= RETAIN_BYTES_MAX || is_front_volatile, "{bytes} bytes are retained");
    }
}

proptest! {
    /// Whatever happens, the log holds what a map without limits holds, from its floor on.
    #[test]
    fn the_log_agrees_with_a_map(actions in prop::collection::vec(action(), 0..200)) {
        let log = Log::restored(RETAIN_BYTES_MAX, Slot(0));
        let mut pair = Pair { log, map: BTreeMap::new(), appended: 0, persisted: 0, durable: 0 };
        for action in actions {
            let (floor, executed) = (pair.log.floor().0, pair.log.executed());
            pair.act(&action);
            pair.compare(floor);
            if pair.log.executed() > executed {
                pair.compare_retained();
            }
        }
    }
}

#[test]
fn a_value_leaves_memory_only_when_it_is_itself_durable() {
    let mut log = Log::restored(0, Slot(0));
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
    let mut log = Log::restored(0, Slot(0));
    log.put(Slot(0), accepted(0, 1, 1, 0));
    log.choose(Slot(0));
    log.put(Slot(0), accepted(0, 2, 2, 9));
}

#[test]
#[should_panic(expected = "contract A5")]
fn a_second_value_in_one_ballot_is_never_held() {
    let mut log = Log::restored(0, Slot(0));
    log.put(Slot(0), accepted(0, 1, 1, 0));
    log.put(Slot(0), accepted(0, 1, 2, 9));
}

#[test]
#[should_panic(expected = "contract A3")]
fn a_vote_in_a_lower_ballot_never_replaces_a_higher_one() {
    let mut log = Log::restored(0, Slot(0));
    log.put(Slot(0), accepted(0, 2, 1, 0));
    log.put(Slot(0), accepted(0, 1, 2, 0));
}

#[test]
#[should_panic(expected = "contract A8")]
fn nothing_is_held_below_the_floor() {
    let mut log = Log::restored(0, Slot(0));
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
    let mut log = Log::restored(0, Slot(0));
    log.put(Slot(0), accepted(0, 1, 1, 0));
    log.executed = Slot(1);
    log.invariants();
}

#[test]
#[should_panic(expected = "contract L4")]
fn slots_are_executed_in_order() {
    let mut log = Log::restored(0, Slot(0));
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
