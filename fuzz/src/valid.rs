//! Valid frames and batches, for edits to start from.

use annulus_rings::frame::HEADER_BYTES;
use annulus_rings::{
    Ballot, ClusterId, ConfigurationId, Frame, FrameHeader, Incarnation, Kind, NodeId, RingId, Slot,
};
use bytes::BytesMut;

/// The cluster of everything here.
pub(crate) const CLUSTER: ClusterId = ClusterId(7);
/// The ring of everything here.
pub(crate) const RING: RingId = RingId(1);
/// The configuration of the members 1, 2 and 3.
pub(crate) const CONFIGURATION: ConfigurationId = ConfigurationId(1);

/// The ballot of a node.
pub(crate) fn ballot(round: u64, node: u16) -> Ballot {
    Ballot { round, node: NodeId(node), incarnation: Incarnation(1) }
}

/// The header of a frame from a node in its own ballot.
pub(crate) fn header(kind: Kind, sender: u16, round: u64, slot: u64) -> FrameHeader {
    FrameHeader {
        kind,
        cluster: CLUSTER,
        ring: RING,
        configuration: CONFIGURATION,
        sender: NodeId(sender),
        ballot: ballot(round, sender),
        slot: Slot(slot),
        chosen: Slot(0),
        commands: 0,
        words: [0; 4],
    }
}

/// A whole frame.
pub(crate) fn seal(header: &FrameHeader, payload: &[u8]) -> Frame {
    let mut buffer = BytesMut::zeroed(HEADER_BYTES);
    buffer.extend_from_slice(payload);
    Frame::seal(buffer, header)
}

/// A batch of commands, as an Accept carries it.
pub(crate) fn batch(commands: &[&[u8]]) -> Vec<u8> {
    let mut payload = 1_700_000_000_000_000_000u64.to_le_bytes().to_vec();
    for command in commands {
        payload.extend_from_slice(&(command.len() as u32).to_le_bytes());
        payload.extend_from_slice(command);
    }
    payload
}

/// An Accept of two commands for a slot.
pub(crate) fn accept(ring: RingId, sender: u16, round: u64, slot: u64, filling: &[u8]) -> Frame {
    let header = FrameHeader { ring, commands: 2, ..header(Kind::Accept, sender, round, slot) };
    seal(&header, &batch(&[b"first", filling]))
}

/// A frame of any kind from a node, with fields that mean something where the kind has any.
pub(crate) fn of_kind(kind: Kind, sender: u16, round: u64) -> Frame {
    let accepts: Vec<Frame> = (0..2).map(|slot| accept(RING, 1, round.max(1) - 1, slot, b"second")).collect();
    let carried: Vec<u8> = accepts.iter().flat_map(|frame| frame.as_bytes().to_vec()).collect();
    let (words, payload) = match kind {
        Kind::Accept => return accept(RING, sender, round, 0, b"second"),
        Kind::PreVoted => ([1, 0, 0, 0], Vec::new()),
        Kind::Promise => ([0, 1, 0, 0], carried),
        Kind::Refused => ([round + 1, ballot(0, 3).owner_word(), 0, 0], Vec::new()),
        Kind::Fetch => ([2, 0, 0, 0], Vec::new()),
        Kind::Learn => ([2, 0, 0, 0], carried),
        _ => ([0; 4], Vec::new()),
    };
    seal(&FrameHeader { words, ..header(kind, sender, round, 0) }, &payload)
}
