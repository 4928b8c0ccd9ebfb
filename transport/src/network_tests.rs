//! What tests of several modules share.

use annulus_rings::frame::HEADER_BYTES;
use annulus_rings::{Ballot, ClusterId, ConfigurationId, Frame, FrameHeader, Kind, NodeId, RingId, Slot};
use bytes::BytesMut;

/// A frame of cluster 7 from `sender`, with a payload that differs from slot to slot.
pub(crate) fn frame_of(sender: u16, slot: u64, payload_bytes: usize) -> Frame {
    let header = FrameHeader {
        kind: Kind::Accept,
        cluster: ClusterId(7),
        ring: RingId(1),
        configuration: ConfigurationId(1),
        sender: NodeId(sender),
        ballot: Ballot::ZERO,
        slot: Slot(slot),
        chosen: Slot(0),
        commands: 0,
        words: [0; 4],
    };
    let mut buffer = BytesMut::zeroed(HEADER_BYTES);
    buffer.extend((0..payload_bytes).map(|index| (index as u64).wrapping_mul(31).wrapping_add(slot) as u8));
    Frame::seal(buffer, &header)
}
