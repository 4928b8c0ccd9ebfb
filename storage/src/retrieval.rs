//! Reading chosen slots back for peers that lag, a bounded piece at a time.

use std::collections::{BTreeMap, VecDeque};

use annulus_rings::frame::HEADER_BYTES;
use annulus_rings::message::carried;
use annulus_rings::{Frame, Kind, Lsn, RingId, Slot, mutant};

use crate::block::BlockHeader;
use crate::error::Busy;
use crate::grain::Grain;
use crate::identity::{Identity, Position};
use crate::index::{Index, SlotRange, Span};

/// Read-backs that wait their turn.
const WAITING_MAX: usize = 32;
/// Read-backs that fail at one place, after which what it holds is taken for lost: a device may err for a
/// while, or return the bytes of another place, without having lost anything. Askers leave time between them.
pub(crate) const FAULTS_MAX: u32 = 3;
/// Places that are remembered for that.
const FAULTY_PLACES_MAX: usize = 64;
/// Bytes read at once: what one turn verifies and copies.
pub(crate) const READ_BYTES: u64 = 128 << 10;

/// What was read back.
#[derive(Debug)]
pub struct Retrieved {
    /// The caller's.
    pub token: u64,
    /// The ring.
    pub ring: RingId,
    /// The first slot that was asked for.
    pub from: Slot,
    /// Accept frames of `from` and the slots after it without a gap, as many as the journal has and the
    /// bound on bytes allows. For each slot the last one in journal order.
    pub frames: Vec<Frame>,
}

/// A read that the journal should start for a read-back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct WantedRead {
    pub(crate) at: Position,
    pub(crate) bytes: usize,
}

/// The read-backs of a journal, one at work at a time.
#[derive(Default)]
pub(crate) struct Retrievals {
    waiting: VecDeque<Retrieval>,
    done: VecDeque<Retrieved>,
    /// Where reads have brought nothing sound, and how often.
    faults: BTreeMap<Position, u32>,
}

struct Retrieval {
    token: u64,
    slots: SlotRange,
    bytes_max: usize,
    /// Where to look next.
    cursor: Position,
    /// At least this much at the next read: a block is larger than what was read last.
    read_bytes_min: u64,
    /// By slot, from the first one wanted on.
    found: Vec<Option<Frame>>,
    found_bytes: usize,
}

impl Retrievals {
    /// Queues a read-back of slots `from..upto`.
    pub(crate) fn ask(
        &mut self,
        ring: RingId,
        from: Slot,
        upto: Slot,
        bytes_max: usize,
        token: u64,
    ) -> Result<(), Busy> {
        if self.waiting.len() + self.done.len() >= WAITING_MAX {
            return Err(Busy);
        }
        // Each frame has at least a header, so no more slots than this can fit the bound.
        let count_max = (bytes_max / HEADER_BYTES).max(1) as u64;
        let count = upto.0.saturating_sub(from.0).min(count_max);
        self.waiting.push_back(Retrieval {
            token,
            slots: SlotRange { ring, first: from, last: Slot(from.0 + count.saturating_sub(1)) },
            bytes_max,
            cursor: Position { segment: crate::identity::SegmentId(0), offset: 0 },
            read_bytes_min: 0,
            found: vec![None; count as usize],
            found_bytes: 0,
        });
        Ok(())
    }

    /// The next answer.
    pub(crate) fn answer(&mut self) -> Option<Retrieved> {
        self.done.pop_front()
    }

    /// The read that the one at work needs next. Finishes those that need none.
    pub(crate) fn next_read(&mut self, index: &Index, durable_end: Position) -> Option<WantedRead> {
        while let Some(current) = self.waiting.front() {
            let span = current.next_span(index, durable_end);
            if let Some(span) = span {
                let bytes = span.bytes.min(READ_BYTES.max(current.read_bytes_min));
                return Some(WantedRead { at: span.at, bytes: bytes as usize });
            }
            self.finish();
        }
        None
    }

    /// Takes what was read at `at`. Only blocks up to `durable` count. Returns whether it was sound.
    pub(crate) fn take(
        &mut self,
        grain: Grain,
        identity: &Identity,
        at: Position,
        bytes: &[u8],
        durable: Lsn,
    ) -> bool {
        let current = self.waiting.front_mut().expect("a read belongs to the one at work");
        let is_sound = current.take(grain, identity, at, bytes, durable);
        if is_sound {
            self.faults.remove(&at);
        }
        is_sound
    }

    /// The read at `at` for the one at work was not sound: it is answered with nothing. Returns whether what is
    /// there must be taken for lost.
    pub(crate) fn failed(&mut self, at: Position) -> bool {
        self.abandon();
        if self.faults.len() == FAULTY_PLACES_MAX {
            self.faults.clear();
        }
        let faults = self.faults.entry(at).or_default();
        *faults += 1;
        *faults == FAULTS_MAX
    }

    /// Answers the one at work with nothing: part of what it wanted cannot be read. What was found may be
    /// votes that were replaced in the part that is missing, and must not be taught; the asker goes to the
    /// next member by itself.
    pub(crate) fn abandon(&mut self) {
        if let Some(current) = self.waiting.front_mut() {
            current.found.clear();
        }
        self.finish();
    }

    /// Answers the one at work with what was found.
    fn finish(&mut self) {
        if let Some(current) = self.waiting.pop_front() {
            let Retrieval { token, slots, found, .. } = current;
            let frames = found.into_iter().map_while(|frame| frame).collect();
            self.done.push_back(Retrieved { token, ring: slots.ring, from: slots.first, frames });
        }
    }
}

impl Retrieval {
    fn next_span(&self, index: &Index, durable_end: Position) -> Option<Span> {
        if self.found.is_empty() {
            return None;
        }
        let mut span = index.find(&self.slots, self.cursor)?;
        if span.at.segment == durable_end.segment {
            span.bytes = span.bytes.min(durable_end.offset.saturating_sub(span.at.offset));
        }
        (span.at < durable_end && span.bytes > 0).then_some(span)
    }

    fn take(
        &mut self,
        grain: Grain,
        identity: &Identity,
        at: Position,
        mut bytes: &[u8],
        durable: Lsn,
    ) -> bool {
        self.cursor = at;
        let asked_bytes_min = std::mem::take(&mut self.read_bytes_min);
        let mut frames = Vec::new();
        while bytes.len() >= grain.block_align_bytes() {
            let Some(header) = BlockHeader::parse(bytes, grain, identity, self.cursor) else { return false };
            let Some((block, rest)) = bytes.split_at_checked(header.bytes as usize) else {
                // The block goes on behind what was read: it is read whole next, but only once.
                self.read_bytes_min = u64::from(header.bytes);
                return self.cursor > at || asked_bytes_min < self.read_bytes_min;
            };
            if header.last_lsn() > durable || header.open(block, &mut frames).is_err() {
                return false;
            }
            frames.drain(..).for_each(|frame| self.add_record(frame));
            self.cursor = header.end();
            bytes = rest;
        }
        true
    }

    fn add_record(&mut self, frame: Frame) {
        if frame.ring() != self.slots.ring {
            return;
        }
        match frame.kind() {
            Kind::Accept => self.add(frame),
            // A Learn that was appended was understood; if not, its slots stay missing here.
            Kind::Learn => drop(carried(&frame, |accept| self.add(accept))),
            _ => {}
        }
    }

    /// Notes an Accept, and gives up the highest slots where the bound on bytes is passed.
    fn add(&mut self, frame: Frame) {
        let Some(place) = frame.header().slot.offset_from(self.slots.first) else { return };
        let Some(found) = self.found.get_mut(place) else { return };
        if found.is_some() && mutant!(OLDEST_VOTE_READ_BACK) {
            return;
        }
        self.found_bytes += frame.len();
        let before = found.replace(frame);
        self.found_bytes -= before.map_or(0, |frame| frame.len());
        while self.found_bytes > self.bytes_max && self.found.len() > 1 {
            let highest = self.found.pop().expect("more than one");
            self.found_bytes -= highest.map_or(0, |frame| frame.len());
        }
        self.slots.last = Slot(self.slots.first.0 + self.found.len() as u64 - 1);
    }
}
