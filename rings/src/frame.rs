//! Frames: one layout for a message on the wire and a record in the journal.
//!
//! ```text
//!   0  checksum           u64   CRC-64/NVME of bytes 8..128
//!   8  payload_checksum   u64   CRC-64/NVME of the payload
//!  16  cluster            u64
//!  24  ballot.round       u64
//!  32  ballot.node        u16
//!  34  sender             u16   the node that encoded the frame
//!  36  ballot.incarnation u32
//!  40  slot               u64
//!  48  chosen             u64   the sender knows every slot below this one to be chosen
//!  56  ring               u32
//!  60  configuration      u32
//!  64  payload_bytes      u32
//!  68  commands           u32   commands of an Accept's batch
//!  72  version            u16
//!  74  kind               u8
//!  75  reserved           5     zero
//!  80  words              4×u64 what else the kind carries: see `message.rs`
//! 112  reserved          16     zero
//! 128  payload            payload_bytes
//! ```
//! All numbers are little-endian. An Accept frame is encoded and checksummed once, by the leader:
//! the same bytes go to every follower, into every journal, and back out for catch-up.

use std::fmt;

use bytes::{Bytes, BytesMut};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{Ballot, ClusterId, ConfigurationId, Incarnation, NodeId, RingId, Slot, mutant};

/// The size of the header in front of every payload.
pub const HEADER_BYTES: usize = 128;
/// The largest frame, header included, that is sent, stored or received.
pub const FRAME_BYTES_MAX: usize = 2 << 20;
/// The version of the layout that this build writes and the only one it reads.
pub const VERSION: u16 = 1;

/// What a frame says.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// The first frame of a connection, either way (transport).
    Hello = 1,
    /// Nothing but a sign of life of an idle connection (transport).
    Ping = 2,
    /// Would you promise this ballot? Changes nothing at the receiver.
    PreVote = 3,
    /// The answer to a `PreVote`.
    PreVoted = 4,
    /// Phase 1a. Also the journal record of a promise.
    Prepare = 5,
    /// Phase 1b: one part of a promise, with accepted values.
    Promise = 6,
    /// Phase 2a: a batch of commands for a slot. Also the journal record of a vote.
    Accept = 7,
    /// Phase 2b: votes for a range of slots, durable.
    Accepted = 8,
    /// The ballot is below a promise.
    Refused = 9,
    /// The slot is below what the acceptor retains: no vote, the value is chosen and can be fetched.
    BelowFloor = 10,
    /// The leader is alive, and how far it is.
    Heartbeat = 11,
    /// The answer to a `Heartbeat`, and how far the follower is.
    Heard = 12,
    /// Asks for chosen slots.
    Fetch = 13,
    /// Chosen slots, as the Accept frames that carry them. Also a journal record.
    Learn = 14,
    /// Journal record only: the writer knows every slot below `chosen` to be chosen.
    Mark = 15,
    /// Between cores, of no ring: which life of its disk the sender runs on, and what it knows of the receiver's.
    Announce = 16,
    /// Journal record of a core, of no ring: the life of a peer's disk, and how far its journal has reached.
    Acquainted = 17,
    /// Journal record of a core, of no ring: enough peers know this disk, it may take part.
    Admitted = 18,
    /// Journal record only: what was recorded before may be gone, up to a cut. See `keeping.rs`.
    Base = 19,
    /// The answer to a `Fetch` of slots that left the journal: a snapshot covers them.
    Truncated = 20,
    /// Between cores, of a ring: asks for a piece of a snapshot.
    SnapshotAsk = 21,
    /// Between cores, of a ring: a piece of a snapshot.
    SnapshotPiece = 22,
}

impl Kind {
    /// Every kind, by its number.
    pub const ALL: [Kind; 22] = [
        Kind::Hello,
        Kind::Ping,
        Kind::PreVote,
        Kind::PreVoted,
        Kind::Prepare,
        Kind::Promise,
        Kind::Accept,
        Kind::Accepted,
        Kind::Refused,
        Kind::BelowFloor,
        Kind::Heartbeat,
        Kind::Heard,
        Kind::Fetch,
        Kind::Learn,
        Kind::Mark,
        Kind::Announce,
        Kind::Acquainted,
        Kind::Admitted,
        Kind::Base,
        Kind::Truncated,
        Kind::SnapshotAsk,
        Kind::SnapshotPiece,
    ];

    /// The kind of a number, if it names one.
    pub fn from_u8(number: u8) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| *kind as u8 == number)
    }

    /// Whether frames of this kind are a core's own: they name no ring, and no ring ever sees them.
    pub fn is_of_core(self) -> bool {
        matches!(self, Kind::Announce | Kind::Acquainted | Kind::Admitted)
    }
}

/// The header as it lies in memory, on the wire and on disk.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawHeader {
    checksum: U64,
    payload_checksum: U64,
    cluster: U64,
    ballot_round: U64,
    ballot_node: U16,
    sender: U16,
    ballot_incarnation: U32,
    slot: U64,
    chosen: U64,
    ring: U32,
    configuration: U32,
    payload_bytes: U32,
    commands: U32,
    version: U16,
    kind: u8,
    reserved: [u8; 5],
    words: [U64; 4],
    reserved_tail: [u8; 16],
}

const _: () = assert!(size_of::<RawHeader>() == HEADER_BYTES);

/// The fields of a header, decoded.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FrameHeader {
    /// What the frame says.
    pub kind: Kind,
    /// The cluster that it belongs to.
    pub cluster: ClusterId,
    /// The ring that it is addressed to.
    pub ring: RingId,
    /// The configuration that owns `slot`.
    pub configuration: ConfigurationId,
    /// The node that encoded it.
    pub sender: NodeId,
    /// The ballot that it speaks in.
    pub ballot: Ballot,
    /// The slot that it speaks of.
    pub slot: Slot,
    /// The sender knows every slot below this one to be chosen.
    pub chosen: Slot,
    /// Commands of the batch in an `Accept`, else 0.
    pub commands: u32,
    /// What else the kind carries.
    pub words: [u64; 4],
}

/// Why bytes are not a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FrameError {
    /// Fewer bytes than a header or than the header promises.
    #[error("truncated: {have} bytes of {need}")]
    Truncated {
        /// Bytes there.
        have: usize,
        /// Bytes needed.
        need: usize,
    },
    /// More payload than [`FRAME_BYTES_MAX`] allows.
    #[error("frame of {0} bytes is larger than {FRAME_BYTES_MAX}")]
    TooLarge(usize),
    /// The header's checksum does not match.
    #[error("header checksum does not match")]
    HeaderChecksum,
    /// The payload's checksum does not match.
    #[error("payload checksum does not match")]
    PayloadChecksum,
    /// Another version of the layout.
    #[error("frame version {0}, this build reads version {VERSION}")]
    Version(u16),
    /// A kind that this version does not know.
    #[error("unknown frame kind {0}")]
    Kind(u8),
    /// Reserved bytes that are not zero.
    #[error("reserved bytes are not zero")]
    Reserved,
}

/// A frame whose header and payload were verified. Clones share the bytes.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Frame(Bytes);

impl Frame {
    /// The size of the frame that starts with `bytes`, from its verified header alone.
    ///
    /// # Errors
    /// The header is short, damaged, of another version, or promises more than [`FRAME_BYTES_MAX`].
    /// Nothing is allocated on its word before its checksum is verified.
    pub fn peek_bytes(bytes: &[u8]) -> Result<usize, FrameError> {
        let raw = RawHeader::verified(bytes)?;
        Ok(HEADER_BYTES + raw.payload_bytes.get() as usize)
    }

    /// Takes bytes that are exactly one frame.
    ///
    /// # Errors
    /// Any [`FrameError`].
    pub fn parse(bytes: Bytes) -> Result<Frame, FrameError> {
        let need = Frame::verified_bytes(&bytes)?;
        if bytes.len() != need {
            return Err(FrameError::Truncated { have: bytes.len(), need });
        }
        Ok(Frame(bytes))
    }

    /// Copies the frame that `bytes` start with; others may follow it.
    ///
    /// # Errors
    /// Any [`FrameError`].
    pub fn copy_first(bytes: &[u8]) -> Result<Frame, FrameError> {
        let need = Frame::verified_bytes(bytes)?;
        Ok(Frame(Bytes::copy_from_slice(&bytes[..need])))
    }

    /// Verifies the frame that `bytes` start with and copies nothing. Returns its size and its checksum.
    ///
    /// # Errors
    /// Any [`FrameError`].
    pub fn verify_first(bytes: &[u8]) -> Result<(usize, u64), FrameError> {
        let need = Frame::verified_bytes(bytes)?;
        Ok((need, RawHeader::of(bytes).checksum.get()))
    }

    /// The size of the frame that starts with `bytes`, after its header and payload were verified.
    fn verified_bytes(bytes: &[u8]) -> Result<usize, FrameError> {
        let raw = RawHeader::verified(bytes)?;
        let need = HEADER_BYTES + raw.payload_bytes.get() as usize;
        let Some(payload) = bytes.get(HEADER_BYTES..need) else {
            return Err(FrameError::Truncated { have: bytes.len(), need });
        };
        if checksum(payload) != raw.payload_checksum.get() && !mutant!(PAYLOAD_CHECKSUM_IGNORED) {
            return Err(FrameError::PayloadChecksum);
        }
        Ok(need)
    }

    /// Completes a frame in place: `buffer` holds [`HEADER_BYTES`] of room and then the payload.
    pub fn seal(mut buffer: BytesMut, header: &FrameHeader) -> Frame {
        assert!(
            buffer.len() >= HEADER_BYTES && buffer.len() <= FRAME_BYTES_MAX,
            "a frame's buffer has room for its header"
        );
        let (room, payload) = buffer.split_at_mut(HEADER_BYTES);
        let raw = RawHeader::encode(header, payload.len() as u32, checksum(payload));
        room.copy_from_slice(raw.as_bytes());
        Frame(buffer.freeze())
    }

    /// The header's fields.
    pub fn header(&self) -> FrameHeader {
        RawHeader::of(&self.0).decode()
    }

    /// What the frame says.
    pub fn kind(&self) -> Kind {
        RawHeader::of(&self.0).kind()
    }

    /// The ring that it is addressed to.
    pub fn ring(&self) -> RingId {
        RingId(RawHeader::of(&self.0).ring.get())
    }

    /// The payload, without the header.
    pub fn payload(&self) -> &[u8] {
        &self.0[HEADER_BYTES..]
    }

    /// The payload, sharing the frame's bytes.
    pub fn payload_bytes(&self) -> Bytes {
        self.0.slice(HEADER_BYTES..)
    }

    /// The identity of the value that an `Accept` proposes: equal values have equal ones, whatever
    /// ballot proposes them.
    pub fn value(&self) -> ValueId {
        ValueId(RawHeader::of(&self.0).payload_checksum.get())
    }

    /// The header's own checksum: it covers the payload's, so it identifies the whole frame.
    pub fn checksum(&self) -> u64 {
        RawHeader::of(&self.0).checksum.get()
    }

    /// The bytes as they are sent and stored.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes as they are sent and stored, shared.
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// The size of header and payload.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Never: a frame has a header.
    pub fn is_empty(&self) -> bool {
        false
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = self.header();
        write!(f, "{:?} {:?} {:?} {:?}", header.kind, header.ring, header.ballot, header.slot)
    }
}

/// What a slot's value is, apart from who proposes it: the checksum of the batch.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord, Default)]
pub struct ValueId(pub u64);

impl ValueId {
    /// Folds the value of `slot` into a digest of a range, so that a vote for many slots names them all.
    #[must_use]
    pub fn fold(digest: u64, slot: Slot, value: ValueId) -> u64 {
        digest.rotate_left(5) ^ value.0 ^ slot.0.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

impl RawHeader {
    /// The header at the front of bytes that were verified before.
    fn of(bytes: &[u8]) -> &RawHeader {
        RawHeader::ref_from_prefix(bytes).expect("a frame has a header").0
    }

    /// The header at the front of foreign bytes, after everything that can be checked of it alone.
    fn verified(bytes: &[u8]) -> Result<&RawHeader, FrameError> {
        let Ok((raw, _)) = RawHeader::ref_from_prefix(bytes) else {
            return Err(FrameError::Truncated { have: bytes.len(), need: HEADER_BYTES });
        };
        let is_sound = checksum(&bytes[size_of::<u64>()..HEADER_BYTES]) == raw.checksum.get();
        if !is_sound && !mutant!(HEADER_CHECKSUM_IGNORED) {
            return Err(FrameError::HeaderChecksum);
        }
        if raw.version.get() != VERSION {
            return Err(FrameError::Version(raw.version.get()));
        }
        if raw.reserved != [0; 5] || raw.reserved_tail != [0; 16] {
            return Err(FrameError::Reserved);
        }
        if Kind::from_u8(raw.kind).is_none() {
            return Err(FrameError::Kind(raw.kind));
        }
        let bytes_total = HEADER_BYTES + raw.payload_bytes.get() as usize;
        if bytes_total > FRAME_BYTES_MAX {
            return Err(FrameError::TooLarge(bytes_total));
        }
        Ok(raw)
    }

    fn encode(header: &FrameHeader, payload_bytes: u32, payload_checksum: u64) -> RawHeader {
        let mut raw = RawHeader {
            checksum: U64::ZERO,
            payload_checksum: U64::new(payload_checksum),
            cluster: U64::new(header.cluster.0),
            ballot_round: U64::new(header.ballot.round),
            ballot_node: U16::new(header.ballot.node.0),
            sender: U16::new(header.sender.0),
            ballot_incarnation: U32::new(header.ballot.incarnation.0),
            slot: U64::new(header.slot.0),
            chosen: U64::new(header.chosen.0),
            ring: U32::new(header.ring.0),
            configuration: U32::new(header.configuration.0),
            payload_bytes: U32::new(payload_bytes),
            commands: U32::new(header.commands),
            version: U16::new(VERSION),
            kind: header.kind as u8,
            reserved: [0; 5],
            words: header.words.map(U64::new),
            reserved_tail: [0; 16],
        };
        raw.checksum = U64::new(checksum(&raw.as_bytes()[size_of::<u64>()..]));
        raw
    }

    fn decode(&self) -> FrameHeader {
        FrameHeader {
            kind: self.kind(),
            cluster: ClusterId(self.cluster.get()),
            ring: RingId(self.ring.get()),
            configuration: ConfigurationId(self.configuration.get()),
            sender: NodeId(self.sender.get()),
            ballot: Ballot {
                round: self.ballot_round.get(),
                node: NodeId(self.ballot_node.get()),
                incarnation: Incarnation(self.ballot_incarnation.get()),
            },
            slot: Slot(self.slot.get()),
            chosen: Slot(self.chosen.get()),
            commands: self.commands.get(),
            words: self.words.map(U64::get),
        }
    }

    fn kind(&self) -> Kind {
        Kind::from_u8(self.kind).expect("a frame's kind was verified")
    }
}

/// The checksum of frames and of everything else that is stored: CRC-64/NVME.
pub fn checksum(bytes: &[u8]) -> u64 {
    crc_fast::crc64_nvme(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> FrameHeader {
        FrameHeader {
            kind: Kind::Accept,
            cluster: ClusterId(7),
            ring: RingId(3),
            configuration: ConfigurationId(1),
            sender: NodeId(2),
            ballot: Ballot { round: 9, node: NodeId(2), incarnation: Incarnation(4) },
            slot: Slot(11),
            chosen: Slot(10),
            commands: 1,
            words: [1, 2, 3, 4],
        }
    }

    fn frame(payload: &[u8]) -> Frame {
        let mut buffer = BytesMut::zeroed(HEADER_BYTES);
        buffer.extend_from_slice(payload);
        Frame::seal(buffer, &header())
    }

    #[test]
    fn a_sealed_frame_parses_back_to_the_same_header_and_payload() {
        let frame = frame(b"payload");
        let parsed = Frame::parse(frame.bytes().clone()).unwrap();
        assert_eq!(parsed.header(), header());
        assert_eq!(parsed.payload(), b"payload");
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let good = frame(b"0123456789");
        for bit in (0..good.len() * 8).step_by(if cfg!(miri) { 97 } else { 1 }) {
            let mut bytes = BytesMut::from(good.as_bytes());
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Frame::parse(bytes.freeze()).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn every_truncation_is_refused() {
        let good = frame(b"0123456789");
        for end in (0..good.len()).step_by(if cfg!(miri) { 17 } else { 1 }) {
            assert!(Frame::parse(good.bytes().slice(..end)).is_err(), "{end} bytes");
        }
    }

    #[test]
    fn a_value_keeps_its_identity_across_ballots() {
        let mut other = header();
        other.ballot.round += 1;
        let mut buffer = BytesMut::zeroed(HEADER_BYTES);
        buffer.extend_from_slice(b"payload");
        assert_eq!(frame(b"payload").value(), Frame::seal(buffer, &other).value());
    }
}
