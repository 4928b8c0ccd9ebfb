//! A snapshot map against a plain map, of which a snapshot is a copy.

use std::collections::BTreeMap;

use annulus_rings::Slot;
use proptest::prelude::*;
use proptest::strategy::ValueTree;

use super::{SnapshotMap, SnapshotReader, SnapshotStep, SnapshotWriter};

type Map = SnapshotMap<u8, Vec<u8>>;

/// What happens to a map.
#[derive(Clone, Debug)]
enum Step {
    Insert(u8, Vec<u8>),
    GetOrInsert(u8, Vec<u8>),
    Append(u8, u8),
    Remove(u8),
    RemoveEntry(u8),
    Clear,
    Begin,
    Slice(usize),
    End,
}

fn step() -> impl Strategy<Value = Step> {
    let value = || prop::collection::vec(any::<u8>(), 0..4);
    // Few keys, so that changes meet.
    let key = || 0..16u8;
    prop_oneof![
        6 => (key(), value()).prop_map(|(key, value)| Step::Insert(key, value)),
        4 => (key(), value()).prop_map(|(key, value)| Step::GetOrInsert(key, value)),
        4 => (key(), any::<u8>()).prop_map(|(key, byte)| Step::Append(key, byte)),
        3 => key().prop_map(Step::Remove),
        2 => key().prop_map(Step::RemoveEntry),
        1 => Just(Step::Clear),
        2 => Just(Step::Begin),
        8 => (0..40usize).prop_map(Step::Slice),
        1 => Just(Step::End),
    ]
}

/// A snapshot map and its oracle, and the snapshot under way with its own.
#[derive(Default)]
struct Pair {
    map: Map,
    oracle: BTreeMap<u8, Vec<u8>>,
    snapshot: Option<Copied>,
    finished: usize,
}

/// What the map held when the snapshot began, what is written of it, and how much was changed since.
struct Copied {
    entries: Vec<(u8, Vec<u8>)>,
    bytes: Vec<u8>,
    changed_max: usize,
}

impl Pair {
    fn take(&mut self, step: Step) {
        match step {
            Step::Insert(key, value) => {
                assert_eq!(self.map.insert(key, value.clone()), self.oracle.insert(key, value));
                self.changed(1);
            }
            Step::GetOrInsert(key, value) => {
                self.map.get_or_insert_with(key, || value.clone()).push(7);
                self.oracle.entry(key).or_insert(value).push(7);
                self.changed(1);
            }
            Step::Append(key, byte) => {
                assert_eq!(self.map.get_mut(&key), self.oracle.get_mut(&key));
                self.map.get_mut(&key).into_iter().for_each(|value| value.push(byte));
                self.oracle.get_mut(&key).into_iter().for_each(|value| value.push(byte));
                self.changed(1);
            }
            Step::Remove(key) => {
                assert_eq!(self.map.remove(&key), self.oracle.remove(&key));
                self.changed(1);
            }
            Step::RemoveEntry(key) => {
                assert_eq!(self.map.remove_entry(&key), self.oracle.remove_entry(&key));
                self.changed(1);
            }
            Step::Clear => {
                self.changed(self.oracle.len());
                self.map.clear();
                self.oracle.clear();
            }
            Step::Begin => {
                self.map.begin_snapshot();
                let entries = self.oracle.clone().into_iter().collect();
                self.snapshot = Some(Copied { entries, bytes: Vec::new(), changed_max: 0 });
            }
            Step::Slice(room_bytes) => {
                if self.slice(room_bytes) == SnapshotStep::Done {
                    self.finish();
                }
            }
            Step::End => {
                self.map.end_snapshot();
                self.snapshot = None;
            }
        }
        self.check();
    }

    fn changed(&mut self, entries: usize) {
        if let Some(snapshot) = &mut self.snapshot {
            snapshot.changed_max += entries;
        }
    }

    /// Writes a slice; with room it comes on, or is done.
    fn slice(&mut self, room_bytes: usize) -> SnapshotStep {
        let mut slice = Vec::new();
        let mut writer = SnapshotWriter::new(Slot(0), false, &mut slice, room_bytes);
        let kept = self.map.kept_aside();
        let step = self.map.write_snapshot(&mut writer, |key, value, record| {
            record.push(*key);
            record.extend_from_slice(value);
        });
        writer.finish().expect("slices are small");
        let comes_on = room_bytes == 0 || !slice.is_empty() || self.map.kept_aside() < kept;
        assert!(comes_on || step == SnapshotStep::Done);
        match &mut self.snapshot {
            Some(snapshot) => snapshot.bytes.extend_from_slice(&slice),
            None => assert_eq!((step, slice.len()), (SnapshotStep::Done, 0)),
        }
        step
    }

    fn finish(&mut self) {
        let Some(snapshot) = self.snapshot.take() else { return };
        let reader = SnapshotReader::new(Slot(0), true, true, &snapshot.bytes).expect("whole records");
        let records = reader.records().map(|record| (record[0], record[1..].to_vec()));
        // By ascending key: the order of the oracle.
        assert_eq!(records.collect::<Vec<_>>(), snapshot.entries);
        assert_eq!(self.map.kept_aside(), 0);
        self.finished += 1;
    }

    fn check(&self) {
        assert!(self.map.iter().eq(self.oracle.iter()));
        assert_eq!((self.map.len(), self.map.is_empty()), (self.oracle.len(), self.oracle.is_empty()));
        let changed_max = self.snapshot.as_ref().map_or(0, |snapshot| snapshot.changed_max);
        assert!(self.map.kept_aside() <= changed_max, "more is kept than was changed");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_snapshot_is_the_state_at_its_beginning_whatever_changes_meanwhile(
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let mut pair = Pair::default();
        for step in steps {
            pair.take(step);
        }
        while pair.snapshot.is_some() {
            pair.take(Step::Slice(9));
        }
    }
}

#[test]
fn the_steps_of_the_test_finish_snapshots_among_changes() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut pair, mut kept, mut cleared) = (Pair::default(), 0, 0);
    for _ in 0..20_000 {
        let step = step().new_tree(&mut runner).expect("steps are never rejected").current();
        cleared += usize::from(matches!(step, Step::Clear) && pair.snapshot.is_some());
        pair.take(step);
        kept = kept.max(pair.map.kept_aside());
    }
    assert!(pair.finished > 100 && kept > 10 && cleared > 50, "{} {kept} {cleared}", pair.finished);
}

/// A slice that has room for everything.
fn slice_of(map: &mut SnapshotMap<u32, u32>) -> (SnapshotStep, usize) {
    let mut bytes = Vec::new();
    let mut writer = SnapshotWriter::new(Slot(0), false, &mut bytes, usize::MAX);
    let step =
        map.write_snapshot(&mut writer, |_, value, record| record.extend_from_slice(&value.to_le_bytes()));
    writer.finish().expect("slices are small");
    (step, bytes.len() / 8)
}

#[test]
fn a_slice_that_writes_nothing_is_bounded_too() {
    let mut map: SnapshotMap<u32, u32> = [(u32::MAX, 1)].into_iter().collect();
    map.begin_snapshot();
    for key in 0..10_000 {
        map.insert(key, 0);
    }
    let steps = [slice_of(&mut map), slice_of(&mut map), slice_of(&mut map)];
    assert_eq!(steps, [(SnapshotStep::More, 0), (SnapshotStep::More, 0), (SnapshotStep::Done, 1)]);
}

#[test]
fn entries_that_were_written_before_a_clear_are_passed_in_bounded_slices() {
    let mut map: SnapshotMap<u32, u32> = (0..10_000).map(|key| (key, key)).collect();
    map.begin_snapshot();
    let mut bytes = Vec::new();
    let mut writer = SnapshotWriter::new(Slot(0), true, &mut bytes, 8 * 9_000);
    map.write_snapshot(&mut writer, |_, value, record| record.extend_from_slice(&value.to_le_bytes()));
    assert_eq!(bytes.len(), 8 * 9_000);
    map.clear();
    map.insert(9_500, 0);
    let steps = [slice_of(&mut map), slice_of(&mut map), slice_of(&mut map)];
    assert_eq!(steps, [(SnapshotStep::More, 0), (SnapshotStep::More, 0), (SnapshotStep::Done, 1_000)]);
}

#[test]
fn an_entry_that_is_written_is_changed_without_a_copy() {
    let mut map: SnapshotMap<u32, u32> = (0..10).map(|key| (key, key)).collect();
    map.begin_snapshot();
    let mut bytes = Vec::new();
    let mut writer = SnapshotWriter::new(Slot(0), true, &mut bytes, 8 * 5);
    map.write_snapshot(&mut writer, |_, value, record| record.extend_from_slice(&value.to_le_bytes()));
    for key in 0..5 {
        map.insert(key, 0);
    }
    assert_eq!(map.kept_aside(), 0);
    for _ in 0..2 {
        *map.get_mut(&7).expect("it is there") = 1;
    }
    map.remove(&100);
    assert_eq!(map.kept_aside(), 1);
}
