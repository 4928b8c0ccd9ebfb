//! What executes a log, and takes and restores snapshots of what it made.

use std::cell::RefCell;
use std::rc::Rc;

use annulus_rings::frame::HEADER_BYTES;
use annulus_rings::{ClusterId, ConfigurationId, FrameHeader, Incarnation, Kind, NodeId, RingId};
use bytes::BytesMut;

use super::*;
use crate::snapshot::RECORD_BYTES_MAX;

/// Notes the time of each slot.
struct Times(Rc<RefCell<Vec<u64>>>);

impl StateMachine for Times {
    fn apply(&mut self, committed: Committed<'_>, _replies: &mut Replies) {
        self.0.borrow_mut().push(committed.time_ns());
    }
}

/// A batch without commands, sealed at `time_ns`.
fn sealed_at(slot: Slot, time_ns: u64) -> Frame {
    let header = FrameHeader {
        kind: Kind::Accept,
        cluster: ClusterId(1),
        ring: RingId(1),
        configuration: ConfigurationId(1),
        sender: NodeId(1),
        ballot: Ballot { round: 1, node: NodeId(1), incarnation: Incarnation(1) },
        slot,
        chosen: Slot(0),
        commands: 0,
        words: [0; 4],
    };
    let mut buffer = BytesMut::zeroed(HEADER_BYTES);
    buffer.extend_from_slice(&time_ns.to_le_bytes());
    Frame::seal(buffer, &header)
}

#[test]
fn replicated_time_never_goes_back_when_a_leader_with_a_slower_clock_follows() {
    let times = Rc::new(RefCell::new(Vec::new()));
    let mut executor = Executor::new(Box::new(Times(Rc::clone(&times))));
    for (slot, time_ns) in [(0, 10), (1, 30), (2, 20), (3, 40)] {
        executor.execute(Slot(slot), &sealed_at(Slot(slot), time_ns), &mut Replies::default());
    }
    assert_eq!(*times.borrow(), [10, 30, 30, 40]);
}

/// The times of all slots as records, taken back one by one; a record of one byte is refused.
#[derive(Default)]
struct Copied {
    times: Vec<u64>,
    written: usize,
    end: usize,
    ended: Rc<RefCell<usize>>,
}

impl StateMachine for Copied {
    fn apply(&mut self, committed: Committed<'_>, _replies: &mut Replies) {
        self.times.push(committed.time_ns());
    }

    fn query(&self, _query: &[u8], reply: &mut Vec<u8>) {
        self.times.iter().for_each(|time_ns| reply.push(*time_ns as u8));
    }

    fn snapshot(&mut self, writer: &mut SnapshotWriter<'_>) -> SnapshotStep {
        if writer.is_first() {
            (self.written, self.end) = (0, self.times.len());
            assert_eq!(writer.slot().0 as usize, self.end);
        }
        while self.written < self.end && writer.has_room() {
            writer.record(&self.times[self.written].to_le_bytes());
            self.written += 1;
        }
        if self.written < self.end { SnapshotStep::More } else { SnapshotStep::Done }
    }

    fn snapshot_ended(&mut self) {
        *self.ended.borrow_mut() += 1;
    }

    fn restore(&mut self, reader: &mut SnapshotReader<'_>) -> Result<(), RestoreFailure> {
        if reader.is_first() {
            self.times.clear();
        }
        for record in reader.records() {
            let bytes = record.try_into().map_err(|_| RestoreFailure::unreadable("not 8 bytes"))?;
            self.times.push(u64::from_le_bytes(bytes));
        }
        Ok(())
    }
}

/// An executor that has executed a slot at each of these times, and how many snapshots it gave up.
fn executed(times_ns: &[u64]) -> (Executor, Rc<RefCell<usize>>) {
    let machine = Copied::default();
    let ended = Rc::clone(&machine.ended);
    let mut executor = Executor::new(Box::new(machine));
    for time_ns in times_ns {
        execute(&mut executor, *time_ns);
    }
    (executor, ended)
}

fn execute(executor: &mut Executor, time_ns: u64) {
    let slot = executor.next();
    executor.execute(slot, &sealed_at(slot, time_ns), &mut Replies::default());
}

fn state(executor: &Executor) -> Vec<u8> {
    let mut reply = Vec::new();
    executor.query(b"", &mut reply);
    reply
}

fn piece(slot: u64, is_first: bool, is_last: bool, bytes: &[u8]) -> SnapshotPiece<'_> {
    let point = SnapshotPoint { slot: Slot(slot), time_ns: 10 * slot };
    SnapshotPiece { point, is_first, is_last, bytes }
}

#[test]
fn a_snapshot_is_of_the_point_of_its_first_slice_whatever_is_executed_meanwhile() {
    let (mut executor, ended) = executed(&[10, 20, 30]);
    let point = SnapshotPoint { slot: Slot(3), time_ns: 30 };
    let (mut bytes, mut steps) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        steps.push(executor.snapshot_slice(&mut bytes, 1).unwrap());
        assert_eq!(executor.snapshot(), Some(point).filter(|_| steps.len() < 3));
        execute(&mut executor, 50);
    }
    assert_eq!(steps, [SnapshotStep::More, SnapshotStep::More, SnapshotStep::Done]);
    assert_eq!((executor.next(), *ended.borrow()), (Slot(6), 0));

    let (mut other, _) = executed(&[]);
    for (index, bytes) in bytes.chunks(12).enumerate() {
        let (is_first, is_last) = (index == 0, index == 2);
        other.restore_piece(&SnapshotPiece { point, is_first, is_last, bytes }).unwrap();
    }
    assert_eq!((state(&other), other.next(), other.time_ns()), (vec![10, 20, 30], Slot(3), 30));
}

#[test]
fn applied_slot_and_time_move_with_the_last_piece_and_time_never_goes_back() {
    let (mut executor, ended) = executed(&[100]);
    executor.snapshot_slice(&mut Vec::new(), 0).unwrap();
    let record = b"\x08\0\0\0\x0a\0\0\0\0\0\0\0";
    executor.restore_piece(&piece(2, true, false, record)).unwrap();
    assert_eq!(*ended.borrow(), 1, "a snapshot of a state that is no more");
    assert_eq!((executor.is_whole(), executor.next(), executor.time_ns()), (false, Slot(1), 100));
    executor.restore_piece(&piece(2, false, true, record)).unwrap();
    assert_eq!((executor.is_whole(), executor.next(), executor.time_ns()), (true, Slot(2), 100));
    assert_eq!(state(&executor), [10, 10]);
    execute(&mut executor, 7);
    assert_eq!((executor.next(), executor.time_ns()), (Slot(3), 100));
}

#[test]
fn a_refused_piece_leaves_a_torn_state_that_another_snapshot_mends() {
    let (mut executor, _) = executed(&[1]);
    let refused = executor.restore_piece(&piece(5, true, false, b"\x01\0\0\0!"));
    assert_eq!(refused, Err(RestoreFailure::unreadable("not 8 bytes")));
    assert!(!executor.is_whole());
    executor.restore_piece(&piece(4, true, true, b"\x08\0\0\0\x02\0\0\0\0\0\0\0")).unwrap();
    assert_eq!((state(&executor), executor.next()), (vec![2], Slot(4)));
}

#[test]
fn a_piece_that_never_reached_the_machine_changes_nothing() {
    let (mut executor, _) = executed(&[1]);
    assert!(executor.restore_piece(&piece(5, true, true, b"\xff\0\0\0!")).is_err());
    assert_eq!((executor.is_whole(), state(&executor)), (true, vec![1]));
    let mut deaf = Executor::new(Box::new(Times(Rc::default())));
    assert_eq!(deaf.restore_piece(&piece(5, true, true, b"")), Err(RestoreFailure::Unsupported));
    assert_eq!((deaf.is_whole(), deaf.next()), (true, Slot(0)));
    assert_eq!(deaf.snapshot_slice(&mut Vec::new(), 1), Ok(SnapshotStep::Unsupported));
    assert_eq!(deaf.snapshot(), None);
}

#[test]
fn a_slice_that_is_no_part_of_a_snapshot_gives_it_up() {
    struct Endless(Rc<RefCell<usize>>);
    impl StateMachine for Endless {
        fn apply(&mut self, _committed: Committed<'_>, _replies: &mut Replies) {}
        fn snapshot(&mut self, writer: &mut SnapshotWriter<'_>) -> SnapshotStep {
            writer.record_with(|record| record.resize(record.len() + RECORD_BYTES_MAX + 1, 0));
            SnapshotStep::More
        }
        fn snapshot_ended(&mut self) {
            *self.0.borrow_mut() += 1;
        }
    }
    let ended = Rc::new(RefCell::new(0));
    let mut executor = Executor::new(Box::new(Endless(Rc::clone(&ended))));
    let failure = executor.snapshot_slice(&mut Vec::new(), 1).unwrap_err();
    assert_eq!(failure, SliceFailure::RecordTooLarge { bytes: RECORD_BYTES_MAX + 1 });
    assert_eq!((executor.snapshot(), *ended.borrow()), (None, 1));
    executor.give_up_snapshot();
    assert_eq!(*ended.borrow(), 1, "there is nothing left to give up");
}

#[test]
fn a_restored_machine_goes_on_where_its_snapshot_ends() {
    let mut executor = Executor::restored(Box::new(Copied::default()), Slot(7), 70);
    execute(&mut executor, 60);
    assert_eq!((executor.next(), executor.time_ns()), (Slot(8), 70));
}

#[test]
#[should_panic(expected = "contract T3")]
fn nothing_is_executed_between_the_pieces_of_a_snapshot() {
    let (mut executor, _) = executed(&[1]);
    executor.restore_piece(&piece(5, true, false, b"")).unwrap();
    execute(&mut executor, 2);
}

#[test]
#[should_panic(expected = "contract T3")]
fn a_piece_of_another_snapshot_is_not_taken_for_the_next_one() {
    let (mut executor, _) = executed(&[1]);
    executor.restore_piece(&piece(5, true, false, b"")).unwrap();
    let _ = executor.restore_piece(&piece(6, false, true, b""));
}

#[test]
#[should_panic(expected = "contract T2")]
fn a_snapshot_of_an_earlier_state_is_not_restored() {
    let (mut executor, _) = executed(&[1, 2, 3]);
    let _ = executor.restore_piece(&piece(2, true, true, b""));
}
