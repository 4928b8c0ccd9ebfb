//! What a `SnapshotMap` costs beside other maps, without a snapshot and while one is written.
//!
//! ```text
//! cargo run --release -p annulus --example snapshot_map -- 1000000 5     a million entries, five rounds
//! ```
//! Keys are random words, values 64 bytes. Each round asks every map for the same changes in turn, three of
//! four of a value in place, the others a removal and an insertion. Printed are medians over the rounds, and
//! of a snapshot in slices of 64 KiB how long slices take and how much it keeps aside at the most. All times
//! are CPU times, since other programs on the machine would only blur the cost.

use std::collections::{BTreeMap, HashMap};
use std::hint::black_box;
use std::time::Duration;

use annulus::{Slot, SnapshotMap, SnapshotStep, SnapshotWriter};
use rustix::time::{ClockId, clock_gettime};

type Value = [u8; 64];

/// Changes between two slices of a snapshot: what a core executes in a turn under load.
const CHANGES_PER_SLICE: usize = 1000;
/// Bytes of a slice.
const SLICE_BYTES: usize = 64 << 10;

/// What all of them can do.
trait Map {
    fn change(&mut self, key: u64) -> bool;
    fn take(&mut self, key: u64) -> Option<Value>;
    fn put(&mut self, key: u64, value: Value);
}

macro_rules! is_map {
    ($($map:ty)*) => {
        $(impl Map for $map {
            fn change(&mut self, key: u64) -> bool {
                let Some(value) = self.get_mut(&key) else { return false };
                value[0] = value[0].wrapping_add(1);
                true
            }

            fn take(&mut self, key: u64) -> Option<Value> {
                self.remove(&key)
            }

            fn put(&mut self, key: u64, value: Value) {
                self.insert(key, value);
            }
        })*
    };
}

is_map!(HashMap<u64, Value> BTreeMap<u64, Value> SnapshotMap<u64, Value>);

/// Words that look random, the same in every run.
struct Words(u64);

impl Words {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word ^ (word >> 31)
    }
}

/// Changes the entries of `keys`, in their order.
fn change(map: &mut impl Map, keys: &[u64]) {
    for (index, &key) in keys.iter().enumerate() {
        if index % 4 < 3 {
            black_box(map.change(key));
        } else if let Some(value) = map.take(key) {
            map.put(key, value);
        }
    }
}

/// The CPU time of this thread so far.
fn cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
}

/// The CPU time since `start`.
fn since(start: Duration) -> Duration {
    cpu_time().saturating_sub(start)
}

/// Nanoseconds per change.
fn cost_ns(took: Duration, changes: usize) -> f64 {
    took.as_nanos() as f64 / changes as f64
}

fn timed(map: &mut impl Map, keys: &[u64]) -> f64 {
    let start = cpu_time();
    change(map, keys);
    cost_ns(since(start), keys.len())
}

/// A whole snapshot among changes.
struct Snapshot {
    change_ns: f64,
    slices: Vec<Duration>,
    bytes: usize,
    kept_max: usize,
}

fn snapshot(map: &mut SnapshotMap<u64, Value>, keys: &[u64]) -> Snapshot {
    let mut result = Snapshot { change_ns: 0.0, slices: Vec::new(), bytes: 0, kept_max: 0 };
    let (mut changing, mut changes) = (Duration::ZERO, 0);
    let mut buffer = Vec::with_capacity(2 * SLICE_BYTES);
    let mut turns = keys.chunks(CHANGES_PER_SLICE).cycle();
    map.begin_snapshot();
    loop {
        buffer.clear();
        let start = cpu_time();
        let mut writer = SnapshotWriter::new(Slot(0), result.slices.is_empty(), &mut buffer, SLICE_BYTES);
        let step = map.write_snapshot(&mut writer, |key, value, record| {
            record.extend_from_slice(&key.to_le_bytes());
            record.extend_from_slice(value);
        });
        result.slices.push(since(start));
        result.bytes += black_box(&buffer).len();
        if step == SnapshotStep::Done {
            result.change_ns = cost_ns(changing, changes.max(1));
            result.slices.sort_unstable();
            return result;
        }
        let turn = turns.next().expect("a cycle does not end");
        let start = cpu_time();
        change(map, turn);
        changing += since(start);
        changes += turn.len();
        result.kept_max = result.kept_max.max(map.kept_aside());
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let numbers: Vec<usize> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    let entries = numbers.first().copied().unwrap_or(1_000_000).max(1);
    let rounds = numbers.get(1).copied().unwrap_or(5).max(1);
    let mut words = Words(1);
    let keys: Vec<u64> = (0..entries).map(|_| words.next()).collect();
    let filled = || keys.iter().map(|&key| (key, [0; 64]));
    let mut hash: HashMap<u64, Value> = filled().collect();
    let mut tree: BTreeMap<u64, Value> = filled().collect();
    let mut ours: SnapshotMap<u64, Value> = filled().collect();
    let changed: Vec<u64> =
        (0..entries.min(1_000_000)).map(|_| keys[words.next() as usize % entries]).collect();

    let mut costs: [Vec<f64>; 4] = Default::default();
    let mut last = None;
    for _ in 0..rounds {
        costs[0].push(timed(&mut hash, &changed));
        costs[1].push(timed(&mut tree, &changed));
        costs[2].push(timed(&mut ours, &changed));
        let snapshot = snapshot(&mut ours, &changed);
        costs[3].push(snapshot.change_ns);
        last = Some(snapshot);
    }
    let names = ["HashMap", "BTreeMap", "SnapshotMap", "SnapshotMap during a snapshot"];
    let tree_ns = median(&mut costs[1].clone());
    println!("{entries} entries, median of {rounds} rounds");
    for (name, costs) in names.iter().zip(&mut costs) {
        let cost_ns = median(costs);
        println!("{name:<30} {cost_ns:>6.0} ns a change, {:.2} × BTreeMap", cost_ns / tree_ns);
    }
    let last = last.expect("there is a round");
    let at = |percent: usize| last.slices[(last.slices.len() - 1) * percent / 100];
    println!(
        "the last snapshot: {} MiB in {} slices, p50 {:.0?}, p99 {:.0?}, longest {:.0?}; kept aside {} entries",
        last.bytes >> 20,
        last.slices.len(),
        at(50),
        at(99),
        at(100),
        last.kept_max
    );
}
