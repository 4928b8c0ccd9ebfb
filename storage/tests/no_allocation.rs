//! M2: a steady turn of the journal allocates nothing.

#[path = "../../fuzz/src/allocation.rs"]
mod allocation;
mod common;

use std::time::Duration;

use allocation::{Counting, Tally};
use annulus_rings::Frame;
use annulus_storage::{Disk, Journal, JournalOptions, NvmDisk, Unrecovered};
use common::{accept, append, flush, open, options, turn_until};

#[global_allocator]
static COUNTING: Counting = Counting;

/// One test: what another one allocates beside it would be counted too.
#[test]
fn a_steady_load_allocates_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let options = JournalOptions { segment_bytes: 16 << 20, backlog_bytes_max: 128 << 10, ..options() };
    let (mut journal, _) = open(directory.path(), &options).unwrap();
    // The segments ahead are made in the background: that is over before the count begins.
    let ahead = directory.path().join("core-0/0000000000000003.segment");
    turn_until(&mut journal, |_| ahead.exists());
    std::thread::sleep(Duration::from_millis(100));
    journal.poll().unwrap();
    assert_steady(&mut journal);

    let identity = *journal.identity();
    let disk = NvmDisk::emulated(&identity, 96 << 20).unwrap();
    let mut journal = Unrecovered::open(disk, identity, options).unwrap().recover(|_, _| {}).unwrap();
    turn_until(&mut journal, |journal| !journal.is_ready());
    assert_steady(&mut journal);
}

fn assert_steady<D: Disk>(journal: &mut Journal<D>) {
    let frames: Vec<Frame> = (0..64).map(|slot| accept(slot % 4, u64::from(slot), &[1; 300])).collect();
    // Each round fills the backlog to its bound, so that the first ones see the peak.
    let mut rounds = |count: usize| {
        for _ in 0..count {
            for frame in frames.iter().cycle() {
                if !journal.has_room(frame.len()) {
                    break;
                }
                append(journal, frame);
            }
            flush(journal);
        }
    };
    rounds(3);
    let before = Tally::now();
    rounds(30);
    assert_eq!(before.elapsed().allocations, 0);
}
