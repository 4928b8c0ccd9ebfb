//! Scrubbing: all that is durable, no faster than allowed, and what it says of damage.

use annulus_rings::{Lsn, RingId, Slot, reach};

use crate::crash_disk::CrashDisk;
use crate::identity::{Position, SegmentId};
use crate::journal::Journal;
use crate::retrieval::READ_BYTES;
use crate::truncation_tests::{at, grow, journal_of, options, recover, turn};

/// Enough grants for `passes` more passes through a small journal.
fn scrub(journal: &mut Journal<CrashDisk>, passes: u64) {
    let until = journal.statistics().scrub_passes + passes;
    for _ in 0..200 {
        journal.scrub(READ_BYTES);
        turn(journal, 1);
        if journal.statistics().scrub_passes >= until {
            return;
        }
    }
    panic!("a pass comes to an end");
}

/// Where the block of a frame is, in a journal of three frames to a segment, two pages each.
fn place_of(lsn: u64) -> Position {
    Position { segment: SegmentId(1 + (lsn - 1) / 3), offset: 4096 + (lsn - 1) % 3 * 8192 }
}

#[test]
fn a_pass_verifies_every_durable_block_once() {
    let (_, mut journal) = journal_of(16);
    scrub(&mut journal, 1);
    let statistics = journal.statistics();
    assert_eq!((statistics.scrub_pass_bytes, statistics.scrub_faults), (0, 0));
    // Each read goes to the end of its segment, in which a page is left over.
    assert_eq!(statistics.scrubbed_bytes, 5 * (28 << 10) + 8192);
    journal.scrub(READ_BYTES);
    turn(&mut journal, 1);
    assert_eq!(journal.statistics().scrub_pass_bytes, 3 * 8192, "the next one has begun");
}

#[test]
fn nothing_is_read_that_was_not_granted() {
    let (_, mut journal) = journal_of(16);
    turn(&mut journal, 10);
    journal.scrub(READ_BYTES - 1);
    turn(&mut journal, 10);
    assert_eq!(journal.statistics().scrubbed_bytes, 0);
    journal.scrub(1);
    turn(&mut journal, 10);
    assert_eq!(journal.statistics().scrubbed_bytes, 28 << 10);
    for _ in 0..1000 {
        journal.scrub(u64::from(u32::MAX));
    }
    turn(&mut journal, 100);
    assert!(journal.statistics().scrubbed_bytes < 8 * READ_BYTES, "a pause gives no right to a rush");
}

#[test]
fn damage_to_any_block_is_found_by_three_reads_and_the_rest_is_verified_all_the_same() {
    for lsn in 1..=16 {
        for byte in [0, 60, 130, 700, 4500, 8191] {
            let (disk, mut journal) = journal_of(16);
            let Position { segment, offset } = place_of(lsn);
            disk.decay(|image| image.get_mut(&segment).unwrap()[offset as usize + byte] ^= 1);
            scrub(&mut journal, 2);
            let damage = journal.damage().to_vec();
            assert_eq!(damage.len(), 1, "frame {lsn}, byte {byte}: {damage:?}");
            assert_eq!((damage[0].at, damage[0].after), (place_of(lsn), Lsn(lsn - 1)));
            assert_eq!(journal.statistics().scrub_faults, 6, "three in each pass");
            assert!(journal.poll().is_ok());
        }
    }
    assert!(reach::count(&reach::DAMAGE_SCRUBBED) > 0);
}

#[test]
fn blocks_that_became_zeros_are_damage_and_what_was_never_written_is_not() {
    let (disk, mut journal) = journal_of(16);
    disk.decay(|image| {
        image.get_mut(&SegmentId(2)).unwrap()[4096 + 8192..].fill(0);
        image.get_mut(&SegmentId(4)).unwrap()[4096..].fill(0);
    });
    scrub(&mut journal, 1);
    let places: Vec<_> = journal.damage().iter().map(|place| (place.at, place.after)).collect();
    assert_eq!(places, [(place_of(5), Lsn(4)), (place_of(10), Lsn(9))]);
}

#[test]
fn several_damages_in_one_segment_are_told_apart() {
    let (disk, mut journal) = journal_of(16);
    disk.decay(|image| {
        let segment = image.get_mut(&SegmentId(3)).unwrap();
        segment[4096] ^= 1;
        segment[4096 + 2 * 8192 + 300] ^= 1;
    });
    scrub(&mut journal, 1);
    let places: Vec<_> = journal.damage().iter().map(|place| (place.at, place.after)).collect();
    assert_eq!(places, [(place_of(7), Lsn(6)), (place_of(9), Lsn(8))]);
}

#[test]
fn a_device_that_errs_for_a_while_is_not_damaged() {
    let (disk, mut journal) = journal_of(16);
    for _ in 0..20 {
        for _ in 0..2 {
            disk.hold_reads(true);
            journal.scrub(READ_BYTES);
            disk.fail_reads();
            turn(&mut journal, 1);
        }
        disk.hold_reads(false);
        journal.scrub(READ_BYTES);
        turn(&mut journal, 1);
    }
    assert!(journal.damage().is_empty() && journal.statistics().scrub_faults >= 30);
    assert!(journal.statistics().scrub_passes > 1);
}

#[test]
fn a_truncation_beyond_the_damage_makes_it_good() {
    let (disk, mut journal) = journal_of(16);
    disk.decay(|image| image.get_mut(&SegmentId(2)).unwrap()[5000] ^= 1);
    scrub(&mut journal, 1);
    assert_eq!(journal.statistics().damaged_places, 1);
    journal.truncate(Lsn(7));
    assert!(journal.damage().is_empty());
    grow(&disk, &mut journal, 1);
    turn(&mut journal, 6);
    scrub(&mut journal, 2);
    assert!(journal.damage().is_empty());
    assert_eq!(recover(disk, options()).unwrap().1.len(), 11);
}

#[test]
fn a_scrub_in_what_is_freed_meanwhile_goes_on_behind_it() {
    let (disk, mut journal) = journal_of(16);
    disk.hold_reads(true);
    journal.scrub(READ_BYTES);
    assert_eq!(journal.segment_read(), Some(SegmentId(1)));
    journal.truncate(Lsn(7));
    grow(&disk, &mut journal, 1);
    disk.fail_reads();
    turn(&mut journal, 6);
    assert_eq!(disk.image().keys().next(), Some(&SegmentId(3)), "it is removed when it is not read any more");
    disk.hold_reads(false);
    scrub(&mut journal, 2);
    assert_eq!((journal.damage().len(), journal.statistics().scrub_faults), (0, 0));
}

#[test]
fn whoever_wants_slots_back_goes_first() {
    let (disk, mut journal) = journal_of(16);
    disk.hold_reads(true);
    journal.scrub(4 * READ_BYTES);
    journal.retrieve(RingId(1), Slot(7), Slot(9), 1 << 20, 1).unwrap();
    assert_eq!(journal.segment_read(), Some(SegmentId(1)), "of two reads one is at work");
    disk.hold_reads(false);
    turn(&mut journal, 2);
    assert_eq!(journal.retrieved().unwrap().frames, [at(7), at(8)]);
    assert_eq!(journal.statistics().scrubbed_bytes, 28 << 10, "the second was for the slots");
}
