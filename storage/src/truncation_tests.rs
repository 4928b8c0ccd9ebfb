//! Truncation: what is freed, when it goes, and what a recovery makes of what is left.

use std::io;

use annulus_rings::{Frame, Lsn, RingId, Slot, reach};

use crate::crash_disk::{CrashDisk, Image};
use crate::disk::{Disk, Segments};
use crate::error::RecoverError;
use crate::identity::SegmentId;
use crate::journal::Journal;
use crate::journal_tests::{IDENTITY, append, frame, write_block};
use crate::memory_disk::MemoryDisk;
use crate::options::JournalOptions;
use crate::recovery::Unrecovered;

/// Segments of eight pages.
pub(crate) fn options() -> JournalOptions {
    JournalOptions {
        segment_bytes: 32 << 10,
        write_bytes_max: 8 << 10,
        frame_bytes_max: 6 << 10,
        backlog_bytes_max: 16 << 10,
        ..JournalOptions::default()
    }
}

/// Frames by position.
pub(crate) type Records = Vec<(Lsn, Frame)>;

pub(crate) fn recover<D: Disk>(
    disk: D,
    options: JournalOptions,
) -> Result<(Journal<D>, Records), RecoverError> {
    let mut records: Records = Vec::new();
    let journal = Unrecovered::open(disk, IDENTITY, options).unwrap().recover(|lsn, frame| {
        assert!(records.last().is_none_or(|(last, _)| last.next() == lsn), "positions have no gaps");
        records.push((lsn, frame));
    })?;
    Ok((journal, records))
}

/// The frame at a position.
pub(crate) fn at(lsn: u64) -> Frame {
    frame(lsn, &vec![lsn as u8; 5000])
}

/// A journal of `count` frames, three to a segment, each in a block of its own.
pub(crate) fn journal_of(count: u64) -> (CrashDisk, Journal<CrashDisk>) {
    let disk = CrashDisk::default();
    let (mut journal, _) = recover(disk.clone(), options()).unwrap();
    grow(&disk, &mut journal, count);
    (disk, journal)
}

pub(crate) fn grow(disk: &CrashDisk, journal: &mut Journal<CrashDisk>, count: u64) {
    for _ in 0..count {
        let lsn = journal.appended().next();
        write_block(disk, journal, &[at(lsn.0)]);
    }
}

pub(crate) fn turn<D: Disk>(journal: &mut Journal<D>, count: usize) {
    for _ in 0..count {
        journal.submit();
        journal.poll().unwrap();
    }
}

fn segments(image: &Image) -> Vec<u64> {
    image.keys().map(|segment| segment.0).collect()
}

/// The positions that a recovery gives back, whose frames are what was written there.
fn positions(records: &Records) -> std::ops::RangeInclusive<u64> {
    assert!(records.iter().all(|(lsn, frame)| *frame == at(lsn.0)));
    records[0].0.0..=records[records.len() - 1].0.0
}

#[test]
fn freed_segments_go_when_a_later_block_is_durable_and_not_before() {
    let (disk, mut journal) = journal_of(10);
    assert_eq!(segments(&disk.image()), [1, 2, 3, 4, 5, 6]);
    let bytes = journal.bytes();
    journal.truncate(Lsn(7));
    assert_eq!(journal.first_lsn(), Lsn(7));
    append(&mut journal, &at(11));
    journal.submit();
    journal.poll().unwrap();
    assert_eq!((segments(&disk.image()).len(), journal.bytes()), (6, bytes), "the block is in flight");
    disk.complete(0);
    turn(&mut journal, 3);
    assert_eq!(segments(&disk.image()), [3, 4, 5, 6]);
    assert_eq!((journal.bytes(), journal.statistics().segments_removed), (bytes - (64 << 10), 2));
    let (mut journal, records) = recover(disk.clone(), options()).unwrap();
    assert_eq!((positions(&records), journal.first_lsn()), (7..=11, Lsn(7)));
    assert!(!journal.was_torn());
    grow(&disk, &mut journal, 9);
    assert_eq!(positions(&recover(disk, options()).unwrap().1), 7..=20);
}

#[test]
fn a_segment_with_one_position_that_is_needed_stays_and_so_does_the_one_in_use() {
    for (below, first) in [(1, 1), (3, 1), (4, 4), (6, 4), (7, 7), (10, 10), (12, 10)] {
        let (disk, mut journal) = journal_of(11);
        journal.truncate(Lsn(below));
        assert_eq!(journal.first_lsn(), Lsn(first), "below {below}");
        grow(&disk, &mut journal, 1);
        turn(&mut journal, 4);
        let (journal, records) = recover(disk, options()).unwrap();
        assert_eq!((positions(&records), journal.first_lsn()), (first..=12, Lsn(first)), "below {below}");
    }
}

#[test]
fn a_memory_journal_that_forgets_keeps_to_its_bound_and_says_what_it_still_has() {
    let (mut journal, _) = recover(MemoryDisk::new(128 << 10), options()).unwrap();
    for lsn in 1..=100 {
        append(&mut journal, &at(lsn));
        journal.submit();
        journal.poll().unwrap();
        journal.submit();
        journal.poll().unwrap();
        assert!(journal.has_room(5000) && journal.bytes() <= 4 * (32 << 10));
    }
    assert!(journal.first_lsn() >= Lsn(94), "{:?}", journal.first_lsn());
    let first = journal.first_lsn().0;
    journal.retrieve(RingId(1), Slot(first), Slot(101), 1 << 20, 1).unwrap();
    turn(&mut journal, 10);
    assert_eq!(journal.retrieved().unwrap().frames.len() as u64, 101 - first);
    assert_eq!(journal.statistics().retrieval_faults, 0);
    journal.truncate(Lsn(101));
    append(&mut journal, &at(101));
    journal.submit();
    turn(&mut journal, 3);
    assert_eq!(journal.disk.list().unwrap().len(), 3, "in use, and two ahead");
}

#[test]
fn a_removal_that_fails_is_tried_again() {
    let (disk, mut journal) = journal_of(10);
    disk.hold_removals();
    journal.truncate(Lsn(10));
    grow(&disk, &mut journal, 1);
    assert_eq!(disk.removals(), [SegmentId(1)], "the oldest first, and one at a time");
    disk.complete_removal(Err(io::Error::other("injected")), false);
    journal.poll().unwrap();
    assert_eq!(disk.removals(), [SegmentId(1)]);
    for segment in 1..4 {
        assert_eq!(disk.removals(), [SegmentId(segment)]);
        disk.complete_removal(Ok(()), true);
        journal.poll().unwrap();
    }
    let statistics = journal.statistics();
    assert_eq!((statistics.segments_removed, statistics.removal_failures), (3, 1));
    assert!(reach::count(&reach::SEGMENT_REMOVED) > 0);
    assert!(reach::count(&reach::REMOVAL_FAILED) > 0);
}

#[test]
fn whatever_removals_a_crash_leaves_undone_the_next_start_does_them() {
    let (disk, mut journal) = journal_of(16);
    disk.hold_removals();
    journal.truncate(Lsn(13));
    grow(&disk, &mut journal, 1);
    for subset in 0..16u32 {
        let mut image = disk.image();
        image.retain(|segment, _| segment.0 > 4 || subset & (1 << (segment.0 - 1)) == 0);
        let disk = CrashDisk::of(image);
        let (mut journal, records) = recover(disk.clone(), options()).unwrap();
        assert_eq!(journal.first_lsn(), Lsn(13), "{subset:b}");
        assert_eq!(*positions(&records).end(), 17, "{subset:b}");
        turn(&mut journal, 6);
        assert_eq!(segments(&disk.image())[0], 5, "{subset:b}");
    }
}

#[test]
fn a_segment_that_nobody_freed_is_missed() {
    let (disk, mut journal) = journal_of(13);
    journal.truncate(Lsn(7));
    grow(&disk, &mut journal, 4);
    let image = disk.image();
    assert_eq!(segments(&image), [3, 4, 5, 6, 7, 8]);
    for lost in 3..=6 {
        let mut image = image.clone();
        image.remove(&SegmentId(lost));
        let error = recover(CrashDisk::of(image), options()).err().unwrap();
        assert!(
            matches!(error, RecoverError::MissingSegment(SegmentId(segment)) if segment == lost),
            "{error}"
        );
    }
    assert!(reach::count(&reach::LOST_SEGMENT_REFUSED) > 0);
}

/// A journal of at most so many segments, filled with new work until it takes no more.
fn full_journal(segments_max: u64) -> (CrashDisk, Journal<CrashDisk>) {
    let disk = CrashDisk::default();
    let options = JournalOptions { bytes_max: segments_max * (32 << 10), ..options() };
    let (mut journal, _) = recover(disk.clone(), options).unwrap();
    while journal.has_room(5200) {
        assert!(journal.persisted() < Lsn(200), "the space ends");
        grow(&disk, &mut journal, 1);
        assert!(journal.bytes() < segments_max * (32 << 10), "the last segment is spared");
    }
    (disk, journal)
}

#[test]
fn a_full_journal_refuses_new_work_still_takes_records_and_recovers_when_truncated() {
    for segments_max in 5..9 {
        let (disk, mut journal) = full_journal(segments_max);
        assert_eq!(journal.bytes(), (segments_max - 1) * (32 << 10));
        // Such as those of a truncation: as many blocks as a segment holds.
        for _ in 0..7 {
            let lsn = journal.appended().next().0;
            write_block(&disk, &mut journal, &[frame(lsn, b"small")]);
            assert!(journal.bytes() <= segments_max * (32 << 10) && !journal.has_room(5200));
        }
        journal.truncate(journal.persisted().next());
        grow(&disk, &mut journal, 1);
        turn(&mut journal, 10);
        assert!(journal.has_room(5200), "{segments_max} segments");
        assert!(reach::count(&reach::SPACE_BOUND_REACHED) > 0);
    }
}

#[test]
fn a_full_journal_in_which_nobody_writes_makes_room_by_itself() {
    let (disk, mut journal) = full_journal(5);
    let (appended, blocks) = (journal.appended(), journal.statistics().blocks);
    journal.truncate(appended.next());
    for _ in 0..10 {
        turn(&mut journal, 1);
        (0..disk.in_flight()).for_each(|_| disk.complete(0));
    }
    assert!(journal.has_room(5200));
    assert_eq!((journal.appended(), journal.persisted()), (appended, appended));
    assert_eq!(journal.statistics().blocks, blocks + 1, "one block, without frames");
    assert!(reach::count(&reach::HEAD_TOLD_ALONE) > 0);
    let first = journal.first_lsn();
    let (mut journal, records) = recover(disk.clone(), options()).unwrap();
    assert_eq!(positions(&records), first.0..=appended.0);
    grow(&disk, &mut journal, 5);
    assert_eq!(positions(&recover(disk, options()).unwrap().1), first.0..=appended.0 + 5);
}

#[test]
fn a_journal_that_is_not_full_and_idle_leaves_its_removals_for_later() {
    let (disk, mut journal) = journal_of(10);
    journal.truncate(Lsn(10));
    turn(&mut journal, 10);
    assert_eq!((disk.in_flight(), segments(&disk.image()).len()), (0, 6));
}

/// Without space for another segment the same holds as at the bound.
#[test]
fn a_full_medium_still_takes_the_records_of_a_truncation_and_recovers_by_it() {
    let (disk, mut journal) = journal_of(10);
    disk.fail_preparations(true);
    while journal.has_room(5200) {
        grow(&disk, &mut journal, 1);
        assert!(journal.persisted() < Lsn(100), "the space ends");
    }
    let lsn = journal.appended().next().0;
    write_block(&disk, &mut journal, &[frame(lsn, b"a small record")]);
    journal.truncate(journal.persisted().next());
    turn(&mut journal, 3);
    (0..disk.in_flight()).for_each(|_| disk.complete(0));
    turn(&mut journal, 10);
    assert!(journal.statistics().segments_removed > 2 && !journal.has_room(5200));
    // What was removed is space for others.
    disk.fail_preparations(false);
    turn(&mut journal, 5);
    assert!(journal.has_room(5200));
}

/// Nothing comes back of what was freed, and that is no damage; a segment goes when nothing is read from it.
#[test]
fn slots_are_read_back_while_their_segments_are_freed() {
    let (disk, mut journal) = journal_of(16);
    disk.hold_removals();
    disk.hold_reads(true);
    journal.retrieve(RingId(1), Slot(4), Slot(9), 1 << 20, 1).unwrap();
    assert_eq!(journal.segment_read(), Some(SegmentId(2)));
    journal.truncate(Lsn(13));
    grow(&disk, &mut journal, 1);
    disk.complete_removal(Ok(()), true);
    turn(&mut journal, 2);
    assert_eq!((disk.removals(), segments(&disk.image())[0]), (vec![], 2), "it is being read");
    disk.hold_reads(false);
    turn(&mut journal, 2);
    assert!(journal.retrieved().unwrap().frames.len() <= 3, "those that were read before");
    for segment in 2..5 {
        assert_eq!(disk.removals(), [SegmentId(segment)]);
        disk.complete_removal(Ok(()), true);
        turn(&mut journal, 1);
    }
    for (slots, count) in [((1, 17), 0), ((12, 17), 0), ((13, 17), 4), ((15, 30), 3)] {
        journal.retrieve(RingId(1), Slot(slots.0), Slot(slots.1), 1 << 20, 1).unwrap();
        turn(&mut journal, 3);
        assert_eq!(journal.retrieved().unwrap().frames.len(), count, "{slots:?}");
    }
    assert_eq!(journal.statistics().retrieval_faults, 0);
}

#[test]
fn a_read_that_fails_in_a_freed_segment_is_no_damage() {
    let (disk, mut journal) = journal_of(16);
    for _ in 0..5 {
        disk.hold_reads(true);
        journal.retrieve(RingId(1), Slot(4), Slot(9), 1 << 20, 1).unwrap();
        journal.truncate(Lsn(13));
        disk.fail_reads();
        turn(&mut journal, 2);
        assert!(journal.retrieved().unwrap().frames.is_empty());
    }
    assert_eq!(journal.statistics().retrieval_faults, 0);
}

/// Every whole-or-nothing outcome of a crash after each step of a truncation: what is needed is there, what was
/// durable stays, and the journal goes on.
#[test]
fn a_crash_after_any_step_of_a_truncation_keeps_what_is_needed() {
    type Step = fn(&CrashDisk, &mut Journal<CrashDisk>);
    let append_next: Step = |_, journal| {
        let next = at(journal.appended().next().0);
        append(journal, &next);
    };
    let submit: Step = |_, journal| journal.submit();
    let complete_last: Step = |disk, journal| {
        disk.complete(disk.in_flight() - 1);
        journal.poll().unwrap();
    };
    let truncate: Step = |_, journal| journal.truncate(journal.persisted().next());
    let remove: Step = |disk, journal| {
        if !disk.removals().is_empty() {
            disk.complete_removal(Ok(()), true);
        }
        journal.poll().unwrap();
    };
    let round = [
        append_next,
        submit,
        truncate,
        append_next,
        submit,
        complete_last,
        complete_last,
        remove,
        append_next,
        truncate,
        submit,
        remove,
        complete_last,
        remove,
        remove,
        truncate,
    ];
    let (disk, mut journal) = journal_of(7);
    disk.hold_removals();
    let (mut needed, mut crashes) = (Lsn(1), 0);
    for step in round.iter().chain(&round).chain(&round) {
        if *step as usize == truncate as usize {
            needed = journal.persisted().next();
        }
        step(&disk, &mut journal);
        for (arrived, returned) in (0..4usize).flat_map(|arrived| (0..8u64).map(move |back| (arrived, back)))
        {
            let mut image = disk.crash(|write, _| arrived & (1 << write) != 0);
            let back =
                disk.removed().into_iter().filter(|(segment, _)| returned & (1 << (segment.0 % 3)) != 0);
            image.extend(back);
            let again = CrashDisk::of(image);
            let (mut recovered, records) = recover(again.clone(), options()).unwrap();
            let found = positions(&records);
            assert!(*found.start() <= needed.0 && recovered.first_lsn() <= needed, "{found:?} {needed:?}");
            assert!(*found.end() >= journal.persisted().0 && *found.end() <= journal.appended().0);
            grow(&again, &mut recovered, 4);
            turn(&mut recovered, 6);
            assert!(segments(&again.image())[0] <= 3 + needed.0 / 3);
            assert_eq!(*positions(&recover(again, options()).unwrap().1).end(), found.end() + 4);
            crashes += 1;
        }
    }
    assert!(crashes > 1000 && journal.statistics().segments_removed > 3);
}

/// The first block that is left tells position and chain of what follows: it must be whole.
#[test]
fn a_damaged_first_block_of_what_is_left_is_refused() {
    let (disk, mut journal) = journal_of(13);
    journal.truncate(Lsn(7));
    grow(&disk, &mut journal, 4);
    let image = disk.image();
    let refusal = |change: &dyn Fn(&mut [u8])| {
        let mut image = image.clone();
        change(&mut image.get_mut(&SegmentId(3)).unwrap()[4096..12288]);
        recover(CrashDisk::of(image), options()).err().unwrap()
    };
    for byte in (0..8192).step_by(97) {
        let error = refusal(&|block| block[byte] ^= 1);
        assert!(
            matches!(error, RecoverError::Corrupt { at, .. } if at.offset == 4096),
            "byte {byte}: {error}"
        );
    }
    for lost in [0..8192usize, 0..512, 512..1024, 4096..8192] {
        let error = refusal(&|block| block[lost.clone()].fill(0));
        assert!(
            matches!(error, RecoverError::Corrupt { .. } | RecoverError::MissingSegment(_)),
            "{lost:?}: {error}"
        );
    }
}

/// The block that told the head is gone with all behind it: then nobody says that the first segments may be.
#[test]
fn a_head_that_is_not_told_any_more_is_missed() {
    let (disk, mut journal) = journal_of(10);
    journal.truncate(Lsn(10));
    grow(&disk, &mut journal, 1);
    turn(&mut journal, 6);
    let mut image = disk.image();
    assert_eq!(segments(&image)[0], 4);
    image.get_mut(&SegmentId(4)).unwrap()[12288..].fill(0);
    let error = recover(CrashDisk::of(image.clone()), options()).err().unwrap();
    assert!(matches!(error, RecoverError::MissingSegment(SegmentId(3))), "{error}");
    image.get_mut(&SegmentId(4)).unwrap()[4096..].fill(0);
    let error = recover(CrashDisk::of(image), options()).err().unwrap();
    assert!(matches!(error, RecoverError::MissingSegment(SegmentId(3))), "{error}");
}

/// Every bit of what is left of a truncated journal, the block without frames included.
#[test]
fn any_flipped_bit_of_a_truncated_journal_is_noticed_or_harmless() {
    let (disk, mut journal) = full_journal(5);
    journal.truncate(Lsn(journal.appended().0 - 3));
    for _ in 0..10 {
        turn(&mut journal, 1);
        (0..disk.in_flight()).for_each(|_| disk.complete(0));
    }
    grow(&disk, &mut journal, 2);
    let image = disk.image();
    let (_, whole) = recover(CrashDisk::of(image.clone()), options()).unwrap();
    let mut noticed = 0;
    for (segment, bytes) in &image {
        for offset in (0..bytes.len()).step_by(61) {
            let mut image = image.clone();
            image.get_mut(segment).unwrap()[offset] ^= 1 << (offset % 8);
            match recover(CrashDisk::of(image), options()) {
                Ok((_, records)) => assert!(records == whole, "segment {}, byte {offset}", segment.0),
                Err(_) => noticed += 1,
            }
        }
    }
    assert!(noticed > 500, "{noticed}");
}

/// Whoever is truncated as it grows is never larger than its bound, is never refused for long, and what it remembers
/// of its blocks does not grow either.
#[test]
fn a_long_load_stays_within_the_bound() {
    let disk = CrashDisk::default();
    let bytes_max = 8 * (32 << 10);
    let (mut journal, _) = recover(disk.clone(), JournalOptions { bytes_max, ..options() }).unwrap();
    let mut refused = 0;
    while journal.statistics().segments < 2000 {
        if journal.has_room(5200) {
            grow(&disk, &mut journal, 1);
        } else {
            refused += 1;
        }
        // A snapshot every twelve segments or so is more than there is room for.
        if refused > 0 || journal.appended().0 % 36 == 0 {
            journal.truncate(Lsn(journal.appended().0.saturating_sub(4)));
        }
        turn(&mut journal, 1);
        (0..disk.in_flight()).for_each(|_| disk.complete(0));
        assert!(refused < 20, "truncated, and still full");
        refused = if journal.has_room(5200) { 0 } else { refused };
        let held: usize = disk.image().values().map(Vec::len).sum();
        assert!(held as u64 <= bytes_max && journal.bytes() <= bytes_max);
    }
    let statistics = journal.statistics();
    assert!(statistics.segments_removed > 1900 && statistics.segments_removed <= statistics.segments);
}
