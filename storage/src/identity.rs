//! Whose journal it is: written in every segment and every block, so that a block read from the wrong
//! file, disk, node or cluster is never taken for one's own.

use annulus_rings::{ClusterId, CoreId, Incarnation, NodeId};

/// The identity of one core's journal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
    /// The core whose journal it is.
    pub core: CoreId,
    /// The life of the node's disk.
    pub incarnation: Incarnation,
    /// Drawn at random when the data directory was made: no client can forge it into a payload.
    pub disk_uuid: u128,
}

/// A segment of a journal, numbered from 1 without gaps.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SegmentId(pub u64);

impl SegmentId {
    /// The first segment of every journal.
    pub const FIRST: SegmentId = SegmentId(1);

    /// The segment after this one.
    #[must_use]
    pub fn next(self) -> SegmentId {
        SegmentId(self.0 + 1)
    }
}

/// A place in a journal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Position {
    /// The segment.
    pub segment: SegmentId,
    /// Bytes from the start of its file.
    pub offset: u64,
}
