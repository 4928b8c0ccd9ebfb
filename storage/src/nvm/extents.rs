//! Extents: the parts of a region that are segments, and those that are free.

use std::ops::Range;

use crate::identity::SegmentId;

/// A part of a region that is a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Extent {
    pub(crate) segment: SegmentId,
    /// Bytes from the start of the region.
    pub(crate) start: u64,
    pub(crate) bytes: u64,
}

impl Extent {
    fn range(&self) -> Range<u64> {
        self.start..self.start + self.bytes
    }
}

/// The extents of a region, in the order of segments. They do not overlap.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Extents(Vec<Extent>);

impl Extents {
    pub(crate) fn list(&self) -> &[Extent] {
        &self.0
    }

    /// The extent of a segment.
    pub(crate) fn find(&self, segment: SegmentId) -> Option<Extent> {
        // The newest are asked for most.
        self.0.iter().rfind(|extent| extent.segment == segment).copied()
    }

    /// Adds an extent; false where it overlaps another, or its segment has one.
    pub(crate) fn insert(&mut self, extent: Extent) -> bool {
        let place = self.0.partition_point(|other| other.segment < extent.segment);
        let is_known = self.0.get(place).is_some_and(|other| other.segment == extent.segment);
        let overlaps = self.0.iter().any(|other| overlap(&other.range(), &extent.range()));
        if is_known || overlaps {
            return false;
        }
        self.0.insert(place, extent);
        true
    }

    /// Takes the extent of a segment out.
    pub(crate) fn remove(&mut self, segment: SegmentId) -> Option<Extent> {
        let place = self.0.iter().position(|extent| extent.segment == segment)?;
        Some(self.0.remove(place))
    }

    /// The parts of `whole` that are neither extents nor in `others`, in order.
    pub(crate) fn gaps(&self, whole: Range<u64>, others: &[Range<u64>]) -> Vec<Range<u64>> {
        let mut taken: Vec<Range<u64>> =
            self.0.iter().map(Extent::range).chain(others.iter().cloned()).collect();
        taken.sort_unstable_by_key(|range| range.start);
        let mut gaps = Vec::new();
        let mut free = whole.start;
        for range in taken {
            let end = range.start.min(whole.end);
            if end > free {
                gaps.push(free..end);
            }
            free = free.max(range.end);
        }
        if free < whole.end {
            gaps.push(free..whole.end);
        }
        gaps
    }
}

fn overlap(one: &Range<u64>, other: &Range<u64>) -> bool {
    one.start < other.end && other.start < one.end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_what_nothing_takes() {
        let mut extents = Extents::default();
        assert!(extents.insert(Extent { segment: SegmentId(2), start: 10, bytes: 10 }));
        assert!(extents.insert(Extent { segment: SegmentId(1), start: 40, bytes: 10 }));
        assert_eq!(extents.gaps(0..100, &[]), [0..10, 20..40, 50..100]);
        assert_eq!(extents.gaps(10..50, &[25..30, 60..70]), [20..25, 30..40]);
        assert_eq!(extents.find(SegmentId(1)).unwrap().start, 40);
        assert_eq!(extents.remove(SegmentId(2)).unwrap().start, 10);
        assert_eq!(extents.gaps(0..45, &[0..30, 20..45]), []);
    }
}
