//! What cores say to one another of snapshots: frames of a ring that the ring itself never sees.
//!
//! | kind | slot | words | payload |
//! |---|---|---|---|
//! | `SnapshotAsk` | the snapshot wanted, or 0 for the newest | the first byte wanted; the first slot that the asker lacks | |
//! | `SnapshotPiece` | the snapshot | the first byte of the piece, the size of the whole, or 0: it is not to be had here | the bytes |

use annulus_rings::frame::HEADER_BYTES;
use annulus_rings::{Ballot, Frame, FrameHeader, FramePool, Kind, RingOptions, Slot};

/// Bytes of one piece: little enough that commits which wait behind it do not notice.
pub(crate) const PIECE_BYTES_MAX: usize = 128 << 10;

/// A wish for a piece of a snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ask {
    /// Which; 0 asks for the newest.
    pub(crate) snapshot: Slot,
    /// The first byte.
    pub(crate) offset: u64,
    /// The first slot that the asker lacks: a snapshot up to there is of no use.
    pub(crate) lacks: Slot,
}

/// Where a piece belongs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Piece {
    /// Of which snapshot.
    pub(crate) snapshot: Slot,
    /// Its first byte.
    pub(crate) offset: u64,
    /// The size of the whole; 0: the snapshot is not to be had here.
    pub(crate) bytes: u64,
}

impl Ask {
    pub(crate) fn frame(&self, ring: &RingOptions, pool: &mut FramePool) -> Frame {
        let words = [self.offset, self.lacks.0, 0, 0];
        seal(Kind::SnapshotAsk, self.snapshot, words, ring, &[], pool)
    }

    pub(crate) fn read(header: &FrameHeader) -> Ask {
        let [offset, lacks, ..] = header.words;
        Ask { snapshot: header.slot, offset, lacks: Slot(lacks) }
    }
}

impl Piece {
    pub(crate) fn frame(&self, bytes: &[u8], ring: &RingOptions, pool: &mut FramePool) -> Frame {
        let words = [self.offset, self.bytes, 0, 0];
        seal(Kind::SnapshotPiece, self.snapshot, words, ring, bytes, pool)
    }

    pub(crate) fn read(header: &FrameHeader) -> Piece {
        let [offset, bytes, ..] = header.words;
        Piece { snapshot: header.slot, offset, bytes }
    }
}

fn seal(
    kind: Kind,
    slot: Slot,
    words: [u64; 4],
    ring: &RingOptions,
    payload: &[u8],
    pool: &mut FramePool,
) -> Frame {
    let header = FrameHeader {
        kind,
        cluster: ring.cluster,
        ring: ring.ring,
        configuration: ring.configuration.id(),
        sender: ring.node,
        ballot: Ballot::ZERO,
        slot,
        chosen: Slot(0),
        commands: 0,
        words,
    };
    let mut buffer = pool.take(HEADER_BYTES + payload.len());
    buffer.resize(HEADER_BYTES, 0);
    buffer.extend_from_slice(payload);
    Frame::seal(buffer, &header)
}
