//! What the kinds of frames carry: the typed view of a frame between members of a ring.
//!
//! The four words of the header, by kind; what is not named is zero:
//!
//! | kind | slot | words |
//! |---|---|---|
//! | `PreVote` | the candidate's chosen prefix | |
//! | `PreVoted` | | granted 0/1, promised round, promised owner |
//! | `Prepare` | first slot to report | |
//! | `Promise` | base: every slot below is chosen | part, parts, first slot that was asked |
//! | `Accept` | the slot | |
//! | `Accepted` | last slot of the range | first slot, digest of the values, receive-to-durable ns |
//! | `Refused` | | promised round, promised owner |
//! | `BelowFloor` | first slot retained | |
//! | `Heartbeat` | first slot not proposed yet | sequence |
//! | `Heard` | | sequence, promised round, promised owner |
//! | `Fetch` | first slot wanted | first slot not wanted |
//! | `Learn` | first slot | count |
//! | `Truncated` | first slot that the newest snapshot does not cover | |

use bytes::BytesMut;

use crate::frame::HEADER_BYTES;
use crate::{Ballot, Frame, FrameHeader, Kind, Slot};

/// What one member says to another. The common fields (ring, configuration, ballot, sender, chosen
/// watermark) stay in the frame's header.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Message {
    /// Would you promise the header's ballot?
    PreVote {
        /// The candidate knows every slot below to be chosen.
        prefix: Slot,
    },
    /// The answer to a `PreVote` in the same ballot.
    PreVoted {
        /// Whether the sender would.
        granted: bool,
        /// The highest ballot that the sender has promised.
        promised: Ballot,
    },
    /// Phase 1a.
    Prepare {
        /// Report accepted values from here on.
        from: Slot,
    },
    /// Phase 1b, one part.
    Promise {
        /// Every slot below is chosen, and known to the sender to be.
        base: Slot,
        /// Which part, counted from 0.
        part: u32,
        /// How many parts make the promise.
        parts: u32,
        /// The `from` of the Prepare that it answers.
        from: Slot,
    },
    /// Phase 2a. The batch is the payload.
    Accept {
        /// The slot proposed for.
        slot: Slot,
    },
    /// Phase 2b: the sender holds durable votes in the header's ballot for every slot of the range.
    Accepted {
        /// First slot of the range.
        first: Slot,
        /// Last slot of the range.
        last: Slot,
        /// The values, folded in slot order by [`crate::frame::ValueId::fold`].
        digest: u64,
        /// From receiving the last of them to its being durable, ns of the sender's clock.
        durable_ns: u64,
    },
    /// The header's ballot is below a promise.
    Refused {
        /// The promise.
        promised: Ballot,
    },
    /// The slot that was proposed is below what the sender retains.
    BelowFloor {
        /// First slot retained: all below are chosen.
        floor: Slot,
    },
    /// The leader of the header's ballot is alive.
    Heartbeat {
        /// First slot that it has not proposed.
        next: Slot,
        /// Numbers the heartbeats of a ballot.
        sequence: u64,
    },
    /// The answer to a `Heartbeat`.
    Heard {
        /// The heartbeat's number.
        sequence: u64,
        /// The highest ballot that the sender has promised.
        promised: Ballot,
    },
    /// Send me chosen slots.
    Fetch {
        /// First slot wanted.
        from: Slot,
        /// First slot not wanted.
        upto: Slot,
    },
    /// Chosen slots: the payload is their Accept frames, contiguous, in order.
    Learn {
        /// First slot.
        first: Slot,
        /// How many.
        count: u32,
    },
    /// The answer to a `Fetch` of slots that the journal no longer has.
    Truncated {
        /// The newest snapshot of the sender covers every slot below.
        snapshot: Slot,
    },
}

/// A frame whose fields contradict its kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a {0:?} frame with fields that mean nothing")]
pub struct Malformed(pub Kind);

impl Message {
    /// The kind of frame that carries it.
    pub fn kind(&self) -> Kind {
        match self {
            Message::PreVote { .. } => Kind::PreVote,
            Message::PreVoted { .. } => Kind::PreVoted,
            Message::Prepare { .. } => Kind::Prepare,
            Message::Promise { .. } => Kind::Promise,
            Message::Accept { .. } => Kind::Accept,
            Message::Accepted { .. } => Kind::Accepted,
            Message::Refused { .. } => Kind::Refused,
            Message::BelowFloor { .. } => Kind::BelowFloor,
            Message::Heartbeat { .. } => Kind::Heartbeat,
            Message::Heard { .. } => Kind::Heard,
            Message::Fetch { .. } => Kind::Fetch,
            Message::Learn { .. } => Kind::Learn,
            Message::Truncated { .. } => Kind::Truncated,
        }
    }

    /// Writes the message into `header`, whose common fields the caller has filled.
    pub(crate) fn fill(&self, header: &mut FrameHeader) {
        header.kind = self.kind();
        let ballot_words = |ballot: Ballot| (ballot.round, ballot.owner_word());
        (header.slot, header.words) = match *self {
            Message::PreVote { prefix } => (prefix, [0; 4]),
            Message::PreVoted { granted, promised } => {
                let (round, owner) = ballot_words(promised);
                (Slot(0), [u64::from(granted), round, owner, 0])
            }
            Message::Prepare { from } => (from, [0; 4]),
            Message::Promise { base, part, parts, from } => {
                (base, [u64::from(part), u64::from(parts), from.0, 0])
            }
            Message::Accept { slot } => (slot, [0; 4]),
            Message::Accepted { first, last, digest, durable_ns } => (last, [first.0, digest, durable_ns, 0]),
            Message::Refused { promised } => {
                let (round, owner) = ballot_words(promised);
                (Slot(0), [round, owner, 0, 0])
            }
            Message::BelowFloor { floor } => (floor, [0; 4]),
            Message::Heartbeat { next, sequence } => (next, [sequence, 0, 0, 0]),
            Message::Heard { sequence, promised } => {
                let (round, owner) = ballot_words(promised);
                (Slot(0), [sequence, round, owner, 0])
            }
            Message::Fetch { from, upto } => (from, [upto.0, 0, 0, 0]),
            Message::Learn { first, count } => (first, [u64::from(count), 0, 0, 0]),
            Message::Truncated { snapshot } => (snapshot, [0; 4]),
        };
    }

    /// Reads a frame between members.
    ///
    /// # Errors
    /// [`Malformed`] when the kind is not one between members or a field is out of its range.
    pub fn decode(header: &FrameHeader) -> Result<Message, Malformed> {
        let malformed = Malformed(header.kind);
        let [word0, word1, word2, _] = header.words;
        let slot = header.slot;
        let small = |word: u64| u32::try_from(word).map_err(|_| malformed);
        let ballot = |round, owner| Ballot::from_words(round, owner).ok_or(malformed);
        let message = match header.kind {
            Kind::PreVote => Message::PreVote { prefix: slot },
            Kind::PreVoted if word0 <= 1 => {
                Message::PreVoted { granted: word0 == 1, promised: ballot(word1, word2)? }
            }
            Kind::Prepare => Message::Prepare { from: slot },
            Kind::Promise if word0 < word1 => {
                Message::Promise { base: slot, part: small(word0)?, parts: small(word1)?, from: Slot(word2) }
            }
            Kind::Accept if slot.0 < u64::MAX => Message::Accept { slot },
            Kind::Accepted if word0 <= slot.0 => {
                Message::Accepted { first: Slot(word0), last: slot, digest: word1, durable_ns: word2 }
            }
            Kind::Refused => Message::Refused { promised: ballot(word0, word1)? },
            Kind::BelowFloor => Message::BelowFloor { floor: slot },
            Kind::Heartbeat => Message::Heartbeat { next: slot, sequence: word0 },
            Kind::Heard => Message::Heard { sequence: word0, promised: ballot(word1, word2)? },
            Kind::Fetch if slot.0 < word0 => Message::Fetch { from: slot, upto: Slot(word0) },
            Kind::Learn if word0 > 0 && slot.0.checked_add(word0).is_some() => {
                Message::Learn { first: slot, count: small(word0)? }
            }
            Kind::Truncated => Message::Truncated { snapshot: slot },
            _ => return Err(malformed),
        };
        Ok(message)
    }

    /// Encodes the message behind `header`'s common fields, with the frames of `parts` as its payload.
    pub(crate) fn encode(&self, mut header: FrameHeader, mut buffer: BytesMut, parts: &[Frame]) -> Frame {
        self.fill(&mut header);
        buffer.resize(HEADER_BYTES, 0);
        for part in parts {
            buffer.extend_from_slice(part.as_bytes());
        }
        Frame::seal(buffer, &header)
    }
}

/// The frames that a `Promise` or a `Learn` carries, in order.
///
/// # Errors
/// [`Malformed`] when the payload is not a sequence of whole, verified Accept frames.
pub fn carried(frame: &Frame, mut each: impl FnMut(Frame)) -> Result<(), Malformed> {
    let malformed = Malformed(frame.kind());
    let mut rest = frame.payload_bytes();
    while !rest.is_empty() {
        let bytes = Frame::peek_bytes(&rest).map_err(|_| malformed)?;
        if bytes > rest.len() {
            return Err(malformed);
        }
        let inner = Frame::parse(rest.split_to(bytes)).map_err(|_| malformed)?;
        if inner.kind() != Kind::Accept {
            return Err(malformed);
        }
        each(inner);
    }
    Ok(())
}
