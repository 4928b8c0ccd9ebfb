//! The journal against a plain vector of what was appended: several rings, any order of completion, failed
//! writes, truncations, removals that fail or come undone, restarts at any moment, and slots read back in between.

use std::collections::BTreeMap;
use std::io;

use annulus_rings::frame::HEADER_BYTES;
use annulus_rings::{Frame, Kind, Lsn, RingId, Slot};
use bytes::BytesMut;
use proptest::prelude::*;

use crate::crash_disk::CrashDisk;
use crate::identity::SegmentId;
use crate::journal::Journal;
use crate::journal_tests::{append, frame};
use crate::options::JournalOptions;
use crate::retrieval::READ_BYTES;
use crate::truncation_tests::recover;

/// Eight segments: a journal that is not truncated is soon full.
const BYTES_MAX: u64 = 8 * (32 << 10);

fn options(writes_in_flight_max: usize) -> JournalOptions {
    JournalOptions {
        segment_bytes: 32 << 10,
        write_bytes_max: 8 << 10,
        frame_bytes_max: 6 << 10,
        backlog_bytes_max: 1 << 20,
        writes_in_flight_max,
        bytes_max: BYTES_MAX,
        ..JournalOptions::default()
    }
}

/// What happens to the journal.
#[derive(Clone, Debug)]
enum Step {
    /// A vote: the slot may have had one before.
    Accept {
        ring: u32,
        slot: u64,
        bytes: usize,
    },
    /// Chosen slots that a peer taught.
    Learn {
        ring: u32,
        first: u64,
        count: u64,
    },
    Submit,
    Complete(usize),
    Fail(usize),
    Poll,
    ReadBack {
        ring: u32,
        from: u64,
        count: u64,
        bytes_max: usize,
    },
    Scrub,
    /// Of what is durable, this much of 255 is needed no longer.
    Truncate(u8),
    /// The oldest removal that waits ends.
    Remove {
        fails: bool,
        is_gone: bool,
    },
    Restart {
        arrived: Vec<bool>,
        /// Of all segments that were ever removed, those that are there again.
        returned: u16,
    },
}

const RINGS: std::ops::Range<u32> = 1..4;
const SLOTS: std::ops::Range<u64> = 0..12;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let bytes_max = prop_oneof![Just(1usize), 500..4000usize, Just(1 << 20)];
    let step = prop_oneof![
        12 => (RINGS, SLOTS, 0usize..3000).prop_map(|(ring, slot, bytes)| Step::Accept { ring, slot, bytes }),
        4 => (RINGS, SLOTS, 1..4u64).prop_map(|(ring, first, count)| Step::Learn { ring, first, count }),
        9 => Just(Step::Submit),
        9 => (0usize..3).prop_map(Step::Complete),
        1 => (0usize..3).prop_map(Step::Fail),
        4 => Just(Step::Poll),
        4 => (RINGS, SLOTS, 0..12u64, bytes_max)
            .prop_map(|(ring, from, count, bytes_max)| Step::ReadBack { ring, from, count, bytes_max }),
        3 => prop_oneof![any::<u8>(), Just(255)].prop_map(Step::Truncate),
        3 => Just(Step::Scrub),
        4 => (any::<bool>(), any::<bool>()).prop_map(|(fails, is_gone)| Step::Remove { fails, is_gone }),
        1 => (prop::collection::vec(any::<bool>(), 64), any::<u16>())
            .prop_map(|(arrived, returned)| Step::Restart { arrived, returned }),
    ];
    prop::collection::vec(step, 1..250)
}

/// A journal, its device, and the model.
struct World {
    disk: CrashDisk,
    journal: Journal<CrashDisk>,
    options: JournalOptions,
    /// What was appended, in order.
    model: Vec<Frame>,
    /// How much of it was reported durable.
    acknowledged: usize,
    /// What is needed begins here.
    needed: Lsn,
    /// A write failed: nothing more may be acknowledged until a restart.
    is_failed: bool,
    /// Makes every frame another one.
    frames: u8,
}

impl World {
    fn new(options: JournalOptions) -> World {
        let disk = CrashDisk::default();
        disk.hold_removals();
        let (journal, _) = recover(disk.clone(), options.clone()).unwrap();
        World {
            disk,
            journal,
            options,
            model: Vec::new(),
            acknowledged: 0,
            needed: Lsn(1),
            is_failed: false,
            frames: 0,
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Accept { ring, slot, bytes } => {
                let accept = self.accept(ring, slot, bytes);
                self.append(accept);
            }
            Step::Learn { ring, first, count } => {
                let accepts: Vec<Frame> =
                    (first..first + count).map(|slot| self.accept(ring, slot, 100)).collect();
                self.append(learn(&accepts));
            }
            Step::Submit => self.journal.submit(),
            Step::Complete(index) if index < self.disk.in_flight() => self.disk.complete(index),
            Step::Fail(index) if index < self.disk.in_flight() => {
                self.disk.fail(index);
                self.is_failed = true;
                assert!(self.journal.poll().is_err(), "a failed write is told at once");
            }
            Step::Complete(_) | Step::Fail(_) => {}
            Step::Poll => self.poll(),
            Step::ReadBack { ring, from, count, bytes_max } => self.read_back(ring, from, count, bytes_max),
            Step::Scrub => self.journal.scrub(READ_BYTES),
            Step::Truncate(share) => self.truncate(share),
            Step::Remove { fails, is_gone } => self.remove(fails, is_gone),
            Step::Restart { arrived, returned } => self.restart(&arrived, returned),
        }
        assert_eq!(self.journal.statistics().scrub_faults, 0, "nothing is damaged");
        assert!(self.journal.bytes() <= BYTES_MAX, "the space is bounded");
        let held: usize = self.disk.image().values().map(Vec::len).sum();
        assert!(held as u64 <= self.journal.bytes(), "no segment is left uncounted");
    }

    fn accept(&mut self, ring: u32, slot: u64, bytes: usize) -> Frame {
        self.frames = self.frames.wrapping_add(1);
        let frame = frame(slot, &vec![self.frames; bytes]);
        let mut header = frame.header();
        header.ring = RingId(ring);
        header.words[3] = u64::from(self.frames);
        Frame::seal(BytesMut::from(frame.as_bytes()), &header)
    }

    fn append(&mut self, frame: Frame) {
        // The turn had room when it began, and appended one more.
        if !self.journal.has_room(frame.len()) {
            return;
        }
        append(&mut self.journal, &frame);
        self.model.push(frame);
    }

    fn poll(&mut self) {
        match self.journal.poll() {
            Ok(lsn) => {
                assert!(!self.is_failed, "nothing is acknowledged after a failure");
                assert!(lsn.0 as usize >= self.acknowledged, "what was durable stays so");
                assert!(lsn <= self.journal.appended());
                self.acknowledged = lsn.0 as usize;
            }
            Err(_) => assert!(self.is_failed, "nothing failed"),
        }
    }

    /// What is read back is, for each slot, the last frame that is durable.
    fn read_back(&mut self, ring: u32, from: u64, count: u64, bytes_max: usize) {
        self.poll();
        if self.is_failed {
            return;
        }
        let expected = self.expected(ring, from, count);
        self.journal.retrieve(RingId(ring), Slot(from), Slot(from + count), bytes_max, 9).unwrap();
        let answer = std::iter::repeat_with(|| {
            self.journal.poll().unwrap();
            self.journal.retrieved()
        });
        let answer = answer.take(1000).flatten().next().expect("an answer comes").frames;
        assert!(expected.starts_with(&answer), "ring {ring}: {answer:?} instead of {expected:?}");
        let bytes: usize = answer.iter().map(Frame::len).sum();
        assert!(answer.len() <= 1 || bytes <= bytes_max);
        assert_eq!(answer.is_empty(), expected.is_empty());
        if bytes_max == 1 << 20 {
            assert_eq!(answer, expected);
        }
    }

    fn expected(&self, ring: u32, from: u64, count: u64) -> Vec<Frame> {
        let mut latest = BTreeMap::new();
        let freed = self.journal.first_lsn().0 as usize - 1;
        let durable = self.model[freed.min(self.acknowledged)..self.acknowledged]
            .iter()
            .filter(|frame| frame.ring() == RingId(ring));
        for record in durable {
            if record.kind() == Kind::Accept {
                latest.insert(record.header().slot.0, record.clone());
            } else {
                let note = |accept: Frame| drop(latest.insert(accept.header().slot.0, accept));
                annulus_rings::message::carried(record, note).unwrap();
            }
        }
        (from..from + count).map_while(|slot| latest.remove(&slot)).collect()
    }

    fn truncate(&mut self, share: u8) {
        if self.is_failed {
            return;
        }
        let below = Lsn(1 + self.acknowledged as u64 * u64::from(share) / 255);
        self.journal.truncate(below);
        self.needed = self.needed.max(below);
        assert!(self.journal.first_lsn() <= self.needed);
    }

    fn remove(&mut self, fails: bool, is_gone: bool) {
        if !self.disk.removals().is_empty() {
            let result = if fails { Err(io::Error::other("injected")) } else { Ok(()) };
            self.disk.complete_removal(result, !fails || is_gone);
        }
    }

    /// The process ends while writes are in flight, of which these sectors arrive.
    fn restart(&mut self, arrived: &[bool], returned: u16) {
        let mut image = self.disk.crash(|write, sector| arrived[(write * 23 + sector) % arrived.len()]);
        let removed = self.disk.removed();
        let is_back = |segment: &SegmentId| returned & (1 << (segment.0 % 16)) != 0;
        image.extend(removed.into_iter().filter(|(segment, _)| is_back(segment)));
        self.disk = CrashDisk::of(image);
        self.disk.hold_removals();
        let (journal, records) = recover(self.disk.clone(), self.options.clone()).unwrap();
        let end = journal.persisted().0 as usize;
        assert!(end >= self.acknowledged && end <= self.model.len(), "everything that was reported durable");
        self.model.truncate(end);
        for (lsn, frame) in &records {
            assert_eq!(*frame, self.model[lsn.0 as usize - 1]);
        }
        let first = records.first().map_or(end as u64 + 1, |(lsn, _)| lsn.0);
        assert!(first <= self.needed.0, "from what is needed on: {first}, {:?}", self.needed);
        assert_eq!(records.len(), end + 1 - first as usize);
        assert!(first <= journal.first_lsn().0 && journal.first_lsn() <= self.needed);
        self.acknowledged = end;
        self.journal = journal;
        self.is_failed = false;
    }

    /// Nothing fails any more, and everything durable is truncated: there is room again.
    fn settle(&mut self) {
        self.restart(&[true], 0);
        for _ in 0..40 {
            self.journal.submit();
            (0..self.disk.in_flight()).for_each(|_| self.disk.complete(0));
            self.poll();
            self.truncate(255);
            self.remove(false, true);
        }
        for _ in 0..20 {
            self.journal.scrub(READ_BYTES);
            self.poll();
        }
        assert!(self.model.is_empty() || self.journal.statistics().scrub_passes > 0);
        assert_eq!(self.journal.statistics().scrub_faults, 0);
        assert!(self.journal.has_room(4 << 10), "room came back");
        assert!(
            self.disk.image().len() <= 5,
            "one in use, two ahead, one to remove: {:?}",
            self.disk.image().keys()
        );
    }
}

/// A Learn of Accepts of one ring.
fn learn(accepts: &[Frame]) -> Frame {
    let mut header = accepts[0].header();
    header.kind = Kind::Learn;
    header.words = [accepts.len() as u64, 0, 0, 0];
    let mut buffer = BytesMut::zeroed(HEADER_BYTES);
    for accept in accepts {
        buffer.extend_from_slice(accept.as_bytes());
    }
    Frame::seal(buffer, &header)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_journal_agrees_with_a_vector(steps in steps(), writes_in_flight_max in 1usize..4) {
        let mut world = World::new(options(writes_in_flight_max));
        for step in steps {
            world.step(step);
        }
        world.restart(&[true, false, true], 0x5a5a);
        world.settle();
    }
}
