//! Which part of the journal holds which slots of which ring: sparse, bounded, in memory.
//!
//! The journal is cut into spans of adjacent blocks of one segment. For each ring with slots in a span
//! there is one entry: the lowest and the highest. When there are too many entries, neighbouring spans
//! are joined, so that the index keeps its size while the journal grows and a read-back reads more.

use std::collections::{HashMap, VecDeque};

use annulus_rings::{Frame, Kind, RingId, Slot};

use crate::identity::{Position, SegmentId};

/// Bytes of a span at first.
const SPAN_BYTES: u64 = 128 << 10;
/// Entries, of 24 bytes each, before spans are joined. A journal with more rings than this per segment
/// keeps one entry per ring and segment.
const ENTRIES_MAX: usize = 1 << 16;

/// Slots of one ring, both ends included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SlotRange {
    pub(crate) ring: RingId,
    pub(crate) first: Slot,
    pub(crate) last: Slot,
}

impl SlotRange {
    fn widen(&mut self, other: &SlotRange) {
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
    }
}

/// The slots of blocks that have no place yet, in the order of the blocks.
#[derive(Default)]
pub(crate) struct PendingRanges(VecDeque<SlotRange>);

/// How far back a range of the same ring is looked for. What is not found costs an entry, no more.
const LOOK_BACK: usize = 8;

impl PendingRanges {
    /// Notes the slots of a frame for the newest block, which has `count` ranges so far.
    pub(crate) fn note(&mut self, count: &mut usize, frame: &Frame) {
        let Some(slots) = slots_of(frame) else { return };
        let recent = (*count).min(LOOK_BACK);
        let mut recent = self.0.iter_mut().rev().take(recent);
        if let Some(range) = recent.find(|range| range.ring == slots.ring) {
            range.widen(&slots);
        } else {
            self.0.push_back(slots);
            *count += 1;
        }
    }

    /// Takes the ranges of the oldest block, which has `count`.
    pub(crate) fn take(&mut self, count: usize) -> impl Iterator<Item = SlotRange> {
        self.0.drain(..count)
    }
}

/// Adjacent blocks of one segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Span {
    pub(crate) at: Position,
    pub(crate) bytes: u64,
}

impl Span {
    pub(crate) fn end(&self) -> Position {
        Position { segment: self.at.segment, offset: self.at.offset + self.bytes }
    }
}

#[derive(Clone, Copy)]
struct Entry {
    /// Number of the span: its index, and how many were forgotten before it; both may wrap.
    span: u32,
    slots: SlotRange,
}

/// The index of one core's journal.
pub(crate) struct Index {
    spans: VecDeque<Span>,
    /// How many spans were forgotten.
    spans_forgotten: u32,
    /// In order of their spans.
    entries: VecDeque<Entry>,
    entries_forgotten: usize,
    /// Entries of the last span, by ring: their index, and how many were forgotten before.
    open: HashMap<RingId, usize>,
    span_bytes: u64,
    entries_max: usize,
}

impl Index {
    /// An empty index. Its memory is reserved here and touched as it fills.
    pub(crate) fn new() -> Index {
        Index::bounded(SPAN_BYTES, ENTRIES_MAX)
    }

    fn bounded(span_bytes: u64, entries_max: usize) -> Index {
        Index {
            spans: VecDeque::with_capacity(entries_max),
            spans_forgotten: 0,
            entries: VecDeque::with_capacity(entries_max),
            entries_forgotten: 0,
            open: HashMap::new(),
            span_bytes,
            entries_max,
        }
    }

    /// Adds a block, which follows all others.
    pub(crate) fn add(&mut self, at: Position, bytes: u64, ranges: impl IntoIterator<Item = SlotRange>) {
        let room = self.span_bytes;
        match self.spans.back_mut() {
            Some(span) if span.end() == at && span.bytes + bytes <= room => span.bytes += bytes,
            _ => {
                self.spans.push_back(Span { at, bytes });
                self.open.clear();
            }
        }
        let span = self.spans_forgotten.wrapping_add(self.spans.len() as u32 - 1);
        for slots in ranges {
            self.add_entry(Entry { span, slots });
        }
        if self.entries.len() > self.entries_max || self.spans.len() > self.entries_max {
            self.coarsen();
        }
    }

    /// Forgets what lies in segments before `head`. Costs what it forgets.
    pub(crate) fn forget(&mut self, head: SegmentId) {
        while self.spans.pop_front_if(|span| span.at.segment < head).is_some() {
            let span = self.spans_forgotten;
            while self.entries.pop_front_if(|entry| entry.span == span).is_some() {
                self.entries_forgotten += 1;
            }
            self.spans_forgotten = span.wrapping_add(1);
        }
        if self.spans.is_empty() {
            self.open.clear();
        }
    }

    fn span(&self, entry: &Entry) -> &Span {
        &self.spans[entry.span.wrapping_sub(self.spans_forgotten) as usize]
    }

    /// The first span at or behind `from` that may hold one of `slots`, cut to start at `from`.
    pub(crate) fn find(&self, slots: &SlotRange, from: Position) -> Option<Span> {
        let behind = self.entries.partition_point(|entry| self.span(entry).end() <= from);
        let matches = |entry: &&Entry| {
            entry.slots.ring == slots.ring
                && entry.slots.first <= slots.last
                && slots.first <= entry.slots.last
        };
        let span = self.span(self.entries.range(behind..).find(matches)?);
        let at = span.at.max(from);
        Some(Span { at, bytes: span.end().offset - at.offset })
    }

    fn add_entry(&mut self, entry: Entry) {
        if let Some(index) = self.open.get(&entry.slots.ring) {
            self.entries[*index - self.entries_forgotten].slots.widen(&entry.slots);
        } else {
            self.open.insert(entry.slots.ring, self.entries_forgotten + self.entries.len());
            self.entries.push_back(entry);
        }
    }

    /// Joins neighbouring spans up to twice the size so far, and the entries of one ring in them.
    fn coarsen(&mut self) {
        self.span_bytes *= 2;
        let mut target = Vec::with_capacity(self.spans.len());
        let mut joined: VecDeque<Span> = VecDeque::with_capacity(self.spans.capacity());
        for span in self.spans.drain(..) {
            match joined.back_mut() {
                Some(last) if last.end() == span.at && last.bytes + span.bytes <= self.span_bytes => {
                    last.bytes += span.bytes;
                }
                _ => joined.push_back(span),
            }
            target.push(joined.len() as u32 - 1);
        }
        self.spans = joined;
        self.join_entries(&target);
        // Where little could be joined, trying again at once would be for nothing.
        self.entries_max = self.entries_max.max(2 * self.entries.len());
    }

    fn join_entries(&mut self, target: &[u32]) {
        let room = VecDeque::with_capacity(self.entries.capacity());
        let old = std::mem::replace(&mut self.entries, room);
        let forgotten = std::mem::take(&mut self.spans_forgotten);
        self.entries_forgotten = 0;
        let mut span = u32::MAX;
        for mut entry in old {
            entry.span = target[entry.span.wrapping_sub(forgotten) as usize];
            if entry.span != span {
                self.open.clear();
                span = entry.span;
            }
            self.add_entry(entry);
        }
        if self.spans.len() as u32 - 1 != span {
            self.open.clear();
        }
    }
}

/// The slots whose values a frame holds, if any.
pub(crate) fn slots_of(frame: &Frame) -> Option<SlotRange> {
    let header = frame.header();
    let count = match header.kind {
        Kind::Accept => 1,
        Kind::Learn => header.words[0].max(1),
        _ => return None,
    };
    let last = Slot(header.slot.0.saturating_add(count - 1));
    Some(SlotRange { ring: header.ring, first: header.slot, last })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::SegmentId;
    use proptest::prelude::*;

    fn slots(ring: u32, first: u64, last: u64) -> SlotRange {
        SlotRange { ring: RingId(ring), first: Slot(first), last: Slot(last) }
    }

    proptest! {
        #[test]
        fn every_block_with_a_wanted_slot_is_found_however_coarse_the_index(
            blocks in prop::collection::vec((1u64..4, prop::collection::vec((0u32..3, 0u64..50, 0u64..5), 0..4)), 1..80),
            ring in 0u32..3, first in 0u64..50, width in 0u64..10,
        ) {
            let mut index = Index::bounded(16384, 8);
            let (mut at, mut model) = (Position { segment: SegmentId(1), offset: 4096 }, Vec::new());
            for (pages, touched) in blocks {
                let bytes = pages * 4096;
                if at.offset + bytes > 10 * 4096 {
                    at = Position { segment: at.segment.next(), offset: 4096 };
                }
                let ranges: Vec<_> = touched.iter().map(|(r, s, w)| slots(*r, *s, s + w)).collect();
                index.add(at, bytes, ranges.clone());
                model.push((at, ranges));
                at.offset += bytes;
            }
            let wanted = slots(ring, first, first + width);
            let mut found = Vec::new();
            let mut cursor = Position { segment: SegmentId(0), offset: 0 };
            while let Some(span) = index.find(&wanted, cursor) {
                prop_assert!(span.at >= cursor);
                cursor = span.end();
                found.push(span);
            }
            for (at, ranges) in model {
                let wants = ranges.iter().any(|r| r.ring == wanted.ring && r.first <= wanted.last && wanted.first <= r.last);
                let covered = found.iter().any(|span| span.at <= at && at < span.end());
                prop_assert!(!wants || covered, "{at:?}");
            }
        }
    }

    #[test]
    fn the_index_stops_growing_when_its_bound_is_reached() {
        let mut index = Index::bounded(4096, 64);
        for block in 0..if cfg!(miri) { 200 } else { 10_000 } {
            let at = Position { segment: SegmentId(1), offset: 4096 + block * 4096 };
            index.add(at, 4096, [slots(1, block, block)]);
        }
        assert!(index.entries.len() <= 128, "{}", index.entries.len());
    }
}
