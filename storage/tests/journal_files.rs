//! The journal on real files, through io_uring.

mod common;

use annulus_rings::{Lsn, RingId, Slot};
use annulus_storage::{JournalOptions, SyncMode};
use common::{accept, append, flush, learn, open, options, turn_until};

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
