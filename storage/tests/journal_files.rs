//! The journal on real files, through `io_uring`.

mod common;

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsRawFd as _, FromRawFd as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use annulus_rings::{ClusterId, CoreId, Incarnation, Lsn, NodeId, RingId, Slot};
use annulus_storage::{
    DataDir, Disk, FileDisk, Identity, Journal, JournalInspector, JournalOptions, MemoryDisk, RecoverError,
    SyncMode, Unrecovered,
};
use common::{accept, append, flush, learn, open, options, turn_until};

fn segment(directory: &Path, number: u64) -> PathBuf {
    directory.join("core-0").join(format!("{number:016x}.segment"))
}

#[test]
fn reopening_after_a_clean_close_gives_every_frame_back() {
    for sync in [SyncMode::Dsync, SyncMode::Fdatasync, SyncMode::ODsync] {
        let directory = tempfile::tempdir().unwrap();
        let options = JournalOptions { sync, ..options() };
        let mut written = Vec::new();
        for round in 0..3u64 {
            let (mut journal, frames) = open(directory.path(), &options).unwrap();
            assert_eq!(frames, written);
            for number in 0..300u64 {
                let frame = accept(1, number, &vec![round as u8; (number * 37 % 3000) as usize]);
                append(&mut journal, &frame);
                written.push(frame);
                if number % 7 == 0 {
                    journal.submit();
                    journal.poll().unwrap();
                }
            }
            flush(&mut journal);
            assert_eq!(journal.persisted(), Lsn(written.len() as u64));
        }
    }
}

#[test]
fn slots_are_read_back_with_the_last_accept_of_each() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(directory.path(), &options()).unwrap();
    for slot in 0..400 {
        append(&mut journal, &accept(1, slot, b"first"));
        append(&mut journal, &accept(2, slot, &[7; 500]));
        if slot % 10 == 0 {
            flush(&mut journal);
        }
    }
    append(&mut journal, &accept(1, 30, b"second"));
    append(&mut journal, &learn(1, &[accept(1, 31, b"learned"), accept(1, 32, b"learned")]));
    flush(&mut journal);

    journal.retrieve(RingId(1), Slot(20), Slot(50), 1 << 20, 77).unwrap();
    let mut answer = None;
    turn_until(&mut journal, |journal| {
        answer = journal.retrieved();
        answer.is_some()
    });
    let answer = answer.unwrap();
    assert_eq!((answer.token, answer.ring, answer.from), (77, RingId(1), Slot(20)));
    assert_eq!(answer.frames.len(), 30);
    for (frame, slot) in answer.frames.iter().zip(20..) {
        let payload: &[u8] = match slot {
            30 => b"second",
            31 | 32 => b"learned",
            _ => b"first",
        };
        assert_eq!((frame.header().slot, frame.payload()), (Slot(slot), payload));
    }
}

#[test]
fn dropping_without_a_close_at_any_moment_keeps_everything_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let mut written = Vec::new();
    for round in 0..12u64 {
        let (mut journal, frames) = open(directory.path(), &options()).unwrap();
        assert!(written.starts_with(&frames), "a prefix of what was appended");
        written = frames;
        let mut persisted = journal.persisted();
        for number in 0..20 + round * 5 {
            let frame = accept(1, number, &vec![round as u8; (number * 91 % 4000) as usize]);
            append(&mut journal, &frame);
            written.push(frame);
            if number % 3 == 0 {
                journal.submit();
                persisted = journal.poll().unwrap();
            }
        }
        drop(journal);
        let (_, frames) = open(directory.path(), &options()).unwrap();
        assert!(frames.len() as u64 >= persisted.0, "{} of {persisted:?}", frames.len());
    }
}

#[test]
fn slots_are_read_back_while_the_journal_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(directory.path(), &options()).unwrap();
    for slot in 0..300 {
        append(&mut journal, &accept(1, slot, &[1; 2000]));
    }
    flush(&mut journal);
    let (mut from, mut slot) = (0, 300);
    while from < 300 {
        journal.retrieve(RingId(1), Slot(from), Slot(300), 64 << 10, from).unwrap();
        let mut answer = None;
        turn_until(&mut journal, |journal| {
            append(journal, &accept(2, slot, &[2; 200]));
            slot += 1;
            answer = journal.retrieved();
            answer.is_some()
        });
        let frames = answer.unwrap().frames;
        assert!(
            !frames.is_empty() && frames.iter().map(annulus_rings::Frame::len).sum::<usize>() <= 64 << 10
        );
        from += frames.len() as u64;
    }
    assert_eq!(journal.statistics().retrieval_faults, 0);
}

/// A read-back that meets damage is answered with nothing, and the third one ends the journal: what it lost may
/// be a vote.
fn expect_damage(journal: &mut Journal<FileDisk>) {
    let begin = std::time::Instant::now();
    let poisoned = loop {
        if let Err(poisoned) = journal.poll() {
            break poisoned;
        }
        if let Some(answer) = journal.retrieved() {
            assert!(answer.frames.is_empty());
            journal.retrieve(RingId(1), Slot(0), Slot(1), 1 << 20, 1).unwrap();
        }
        journal.submit();
        assert!(begin.elapsed().as_secs() < 10, "damage ends a journal");
    };
    assert!(poisoned.to_string().contains("is damaged"), "{poisoned}");
    assert_eq!(journal.statistics().retrieval_faults, 3, "it was not given up at the first try");
}

#[test]
fn a_damaged_slot_is_never_served() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(directory.path(), &options()).unwrap();
    append(&mut journal, &accept(1, 0, &[1; 9000]));
    flush(&mut journal);
    let file = File::options().write(true).open(segment(directory.path(), 1)).unwrap();
    file.write_all_at(b"rot", 4096 + 5000).unwrap();
    file.sync_all().unwrap();
    journal.retrieve(RingId(1), Slot(0), Slot(1), 1 << 20, 1).unwrap();
    expect_damage(&mut journal);
}

#[test]
fn a_replaced_vote_is_never_served_for_a_damaged_later_one() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(directory.path(), &options()).unwrap();
    append(&mut journal, &accept(1, 0, &[1; 9000]));
    flush(&mut journal);
    append(&mut journal, &accept(1, 0, &[2; 9000]));
    flush(&mut journal);
    let file = File::options().write(true).open(segment(directory.path(), 1)).unwrap();
    file.write_all_at(b"rot", 4096 + 12288 + 5000).unwrap();
    file.sync_all().unwrap();
    journal.retrieve(RingId(1), Slot(0), Slot(1), 1 << 20, 1).unwrap();
    expect_damage(&mut journal);
}

/// What a core parks on.
fn eventfd() -> File {
    // SAFETY: no memory is passed.
    let eventfd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
    assert!(eventfd >= 0);
    // SAFETY: the descriptor was just made and nothing else owns it.
    unsafe { File::from_raw_fd(eventfd) }
}

#[test]
fn a_completion_wakes_the_core() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, _) = open(directory.path(), &options()).unwrap();
    park_until_done(journal);
}

#[test]
fn a_volatile_completion_wakes_the_core_too() {
    let core = Identity {
        cluster: ClusterId(7),
        node: NodeId(1),
        core: CoreId(0),
        incarnation: Incarnation(1),
        disk_uuid: 5,
    };
    let disk = MemoryDisk::new(4 << 20);
    park_until_done(Unrecovered::open(disk, core, options()).unwrap().recover(|_, _| ()).unwrap());
}

fn park_until_done<D: Disk>(mut journal: Journal<D>) {
    let mut wake = eventfd();
    journal.register_wake(wake.as_raw_fd()).unwrap();
    for slot in 0..5 {
        append(&mut journal, &accept(1, slot, b"parked"));
        journal.submit();
        // A core that parks here sleeps until the write is durable.
        while journal.poll().unwrap() < journal.appended() {
            wake.read_exact(&mut [0; 8]).unwrap();
        }
    }
    journal.retrieve(RingId(1), Slot(0), Slot(5), 1 << 20, 1).unwrap();
    let answer = loop {
        journal.poll().unwrap();
        match journal.retrieved() {
            Some(answer) => break answer,
            None => wake.read_exact(&mut [0; 8]).unwrap(),
        }
    };
    assert_eq!(answer.frames.len(), 5);
}

#[test]
fn an_inspector_sees_what_recovery_would_and_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(directory.path(), &options()).unwrap();
    for slot in 0..10 {
        append(&mut journal, &accept(1, slot, &[3; 700]));
        flush(&mut journal);
    }
    let before = std::fs::read(segment(directory.path(), 1)).unwrap();
    let core = directory.path().join("core-0");
    let mut inspector = JournalInspector::open(&core).unwrap();
    assert_eq!(inspector.identity(), journal.identity());
    let (mut slots, mut last) = (Vec::new(), Lsn(0));
    let tail = inspector
        .blocks(|block| {
            assert_eq!(block.header.first_lsn, last.next());
            last = block.header.last_lsn();
            slots.extend(block.frames.iter().map(|frame| frame.slot.0));
        })
        .unwrap();
    assert_eq!((slots, tail.torn_bytes), ((0..10).collect(), 0));
    assert_eq!(std::fs::read(segment(directory.path(), 1)).unwrap(), before);
}

#[test]
fn a_truncated_or_deleted_segment_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(directory.path(), &options()).unwrap();
    for slot in 0..10 {
        append(&mut journal, &accept(1, slot, &vec![3; 60_000]));
    }
    flush(&mut journal);
    drop(journal);
    let second = segment(directory.path(), 2);
    let whole = std::fs::read(&second).unwrap();
    std::fs::write(&second, &whole[..100_000]).unwrap();
    let error = open(directory.path(), &options()).err().unwrap();
    assert!(matches!(error, RecoverError::Truncated { found: 100_000, .. }), "{error}");
    std::fs::remove_file(&second).unwrap();
    let error = open(directory.path(), &options()).err().unwrap();
    assert!(matches!(error, RecoverError::MissingSegment(_)), "{error}");
    std::fs::write(&second, whole).unwrap();
    assert_eq!(open(directory.path(), &options()).unwrap().1.len(), 10);
}

#[test]
fn a_journal_that_lost_every_segment_is_not_a_new_one() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(directory.path(), &options()).unwrap());
    std::fs::remove_dir_all(directory.path().join("core-0")).unwrap();
    std::fs::create_dir(directory.path().join("core-0")).unwrap();
    let error = open(directory.path(), &options()).err().unwrap();
    assert!(matches!(error, RecoverError::MissingSegment(_)), "{error}");
}

#[test]
fn a_core_directory_of_another_core_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let open_core = |core| {
        let data = DataDir::open(directory.path(), ClusterId(7), NodeId(1), 2).unwrap();
        let core = data.core(CoreId(core));
        let disk = FileDisk::open(&core, SyncMode::default()).unwrap();
        Unrecovered::open(disk, core.identity(), options()).unwrap().recover(|_, _| ()).map(drop)
    };
    open_core(0).unwrap();
    open_core(1).unwrap();
    let [first, second] = [0, 1].map(|core| directory.path().join(format!("core-{core}")));
    let aside = directory.path().join("core-aside");
    std::fs::rename(&first, &aside).unwrap();
    std::fs::rename(&second, &first).unwrap();
    std::fs::rename(&aside, &second).unwrap();
    assert!(matches!(open_core(0), Err(RecoverError::ForeignSegment { .. })));
}

#[test]
fn options_may_change_between_openings() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(directory.path(), &options()).unwrap();
    append(&mut journal, &accept(1, 0, b"small segments"));
    flush(&mut journal);
    drop(journal);
    let larger = JournalOptions { segment_bytes: 512 << 10, sync: SyncMode::Fdatasync, ..options() };
    let (mut journal, frames) = open(directory.path(), &larger).unwrap();
    assert_eq!(frames.len(), 1);
    for slot in 1..40 {
        append(&mut journal, &accept(1, slot, &vec![0; 30_000]));
    }
    flush(&mut journal);
    drop(journal);
    assert_eq!(open(directory.path(), &options()).unwrap().1.len(), 40);
}

#[test]
fn a_torn_tail_is_erased_and_written_over() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(directory.path(), &options()).unwrap();
    for slot in 0..5 {
        append(&mut journal, &accept(1, slot, &[5; 9000]));
        flush(&mut journal);
    }
    drop(journal);
    // Blocks take three pages each: the last one loses a sector, as if it had been in flight.
    let last = 4096 + 4 * 3 * 4096;
    let file = File::options().write(true).open(segment(directory.path(), 1)).unwrap();
    file.write_all_at(&[0; 512], last + 2048).unwrap();
    let mut inspector = JournalInspector::open(&directory.path().join("core-0")).unwrap();
    assert_eq!(inspector.blocks(drop).unwrap().torn_bytes, 3 * 4096);

    let (mut journal, frames) = open(directory.path(), &options()).unwrap();
    assert_eq!(frames.len(), 4);
    assert_eq!(inspector.blocks(drop).unwrap().torn_bytes, 0);
    append(&mut journal, &accept(1, 4, b"again"));
    flush(&mut journal);
    drop(journal);
    let (_, frames) = open(directory.path(), &options()).unwrap();
    assert_eq!(frames[4].payload(), b"again");
}

#[test]
fn damage_below_the_durable_tail_is_refused_and_can_be_inspected() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(directory.path(), &options()).unwrap();
    for slot in 0..5 {
        append(&mut journal, &accept(1, slot, b"one page"));
        flush(&mut journal);
    }
    drop(journal);
    let file = File::options().write(true).open(segment(directory.path(), 1)).unwrap();
    file.write_all_at(&[0; 4096], 3 * 4096).unwrap();
    let before = std::fs::read(segment(directory.path(), 1)).unwrap();
    let Err(RecoverError::Corrupt { at, durable, .. }) = open(directory.path(), &options()) else {
        panic!("acknowledged history is gone");
    };
    assert_eq!((at.offset, durable), (3 * 4096, Lsn(2)));
    assert_eq!(std::fs::read(segment(directory.path(), 1)).unwrap(), before, "a refusal changes nothing");
    let mut inspector = JournalInspector::open(&directory.path().join("core-0")).unwrap();
    assert!(matches!(inspector.blocks(drop), Err(RecoverError::Corrupt { .. })));
    let behind: Vec<_> =
        inspector.headers_behind(at).unwrap().iter().map(|header| header.first_lsn).collect();
    assert_eq!(behind, [Lsn(4), Lsn(5)]);
}

#[test]
fn what_is_truncated_leaves_the_directory_and_the_rest_is_found_again() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(directory.path(), &options()).unwrap();
    for slot in 0..40 {
        append(&mut journal, &accept(1, slot, &vec![7; 30_000]));
        flush(&mut journal);
    }
    journal.retrieve(RingId(1), Slot(0), Slot(5), 1 << 20, 1).unwrap();
    turn_until(&mut journal, |journal| journal.retrieved().is_some_and(|answer| answer.frames.len() == 5));
    let before = journal.bytes();
    journal.truncate(Lsn(30));
    append(&mut journal, &accept(1, 40, b"tells it"));
    flush(&mut journal);
    turn_until(&mut journal, |journal| journal.bytes() < before - (768 << 10));
    let first = journal.first_lsn();
    assert!(Lsn(22) < first && first <= Lsn(30), "{first:?}");
    journal.retrieve(RingId(1), Slot(0), Slot(5), 1 << 20, 2).unwrap();
    turn_until(&mut journal, |journal| journal.retrieved().is_some_and(|answer| answer.frames.is_empty()));
    assert_eq!(journal.statistics().retrieval_faults, 0);
    assert!(!segment(directory.path(), 1).exists() && !segment(directory.path(), 2).exists());
    drop(journal);
    let (journal, frames) = open(directory.path(), &options()).unwrap();
    assert_eq!((journal.first_lsn(), journal.appended()), (first, Lsn(41)));
    assert_eq!(frames[0].header().slot.0, first.0 - 1);
    drop(journal);
    let oldest = std::fs::read_dir(directory.path().join("core-0")).unwrap();
    let oldest = oldest.map(|entry| entry.unwrap().path()).min().unwrap();
    std::fs::remove_file(oldest).unwrap();
    let error = open(directory.path(), &options()).err().unwrap();
    assert!(matches!(error, RecoverError::MissingSegment(_)), "{error}");
}

#[test]
fn a_scrub_of_files_finds_a_flipped_bit_and_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(directory.path(), &options()).unwrap();
    for slot in 0..40 {
        append(&mut journal, &accept(1, slot, &vec![7; 30_000]));
        flush(&mut journal);
    }
    let pass = |journal: &mut Journal<FileDisk>| {
        let passes = journal.statistics().scrub_passes;
        turn_until(journal, |journal| {
            journal.scrub(128 << 10);
            journal.statistics().scrub_passes > passes
        });
    };
    pass(&mut journal);
    let statistics = journal.statistics();
    assert_eq!((journal.damage(), statistics.scrub_faults), (&[][..], 0));
    assert!(statistics.scrubbed_bytes >= 40 * 30_000);
    let file = File::options().read(true).write(true).open(segment(directory.path(), 2)).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 4096 + 1000).unwrap();
    file.write_all_at(&[byte[0] ^ 8], 4096 + 1000).unwrap();
    file.sync_all().unwrap();
    pass(&mut journal);
    assert_eq!(journal.damage().len(), 1);
    let at = journal.damage()[0].at;
    assert_eq!((at.segment.0, at.offset), (2, 4096));
    assert!(journal.poll().is_ok() && journal.statistics().scrub_faults == 3);
    journal.truncate(Lsn(30));
    assert!(journal.damage().is_empty());
}
