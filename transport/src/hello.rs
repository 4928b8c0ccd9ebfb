//! The frames of a handshake. Each is a header without payload, 128 bytes.
//!
//! ```text
//! header field         carries
//! cluster, sender      who speaks
//! ballot.incarnation   the life of its disk
//! ballot.node          to whom
//! ballot.round         features << 32 | handshake version
//! slot                 its instance: a number drawn when the process started
//! words[0]             cores << 32 | core << 16 | step
//! words[1]             the speaker's nonce
//! words[2]             the nonce of the other side, echoed
//! words[3]             the reason of a refusal
//! ```
//! The dialer opens with its nonce; the acceptor answers with its own and echoes the dialer's; the dialer
//! confirms by echoing the acceptor's. Each side thus knows that the other speaks now.

use annulus_rings::frame::HEADER_BYTES;
use annulus_rings::{
    Ballot, ClusterId, ConfigurationId, CoreId, Frame, FrameError, FrameHeader, Incarnation, Kind, NodeId,
    RingId, Slot,
};
use bytes::{Bytes, BytesMut};

use crate::refusal::Refusal;

/// The version of the handshake that this build speaks.
pub(crate) const HANDSHAKE_VERSION: u32 = 1;
/// The size of each of its frames.
pub(crate) const HELLO_BYTES: usize = HEADER_BYTES;
/// What is read from anybody before the handshake is complete.
const _: () = assert!(2 * HELLO_BYTES <= 4096);

/// Where in the handshake a hello belongs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub(crate) enum Step {
    Open = 1,
    Answer = 2,
    Confirm = 3,
    Refuse = 4,
}

/// One frame of a handshake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Hello {
    pub(crate) step: Step,
    pub(crate) cluster: ClusterId,
    pub(crate) node: NodeId,
    pub(crate) incarnation: Incarnation,
    /// Whom the speaker believes to speak to.
    pub(crate) target: NodeId,
    pub(crate) version: u32,
    /// Optional abilities, one bit each; this version has none.
    pub(crate) features: u32,
    pub(crate) instance: u64,
    pub(crate) core: CoreId,
    pub(crate) cores: u16,
    pub(crate) nonce: u64,
    pub(crate) echo: u64,
    /// Set when the step is `Refuse`.
    pub(crate) refusal: Option<Refusal>,
}

impl Hello {
    pub(crate) fn encode(&self) -> Frame {
        let place = u64::from(self.cores) << 32 | u64::from(self.core.0) << 16 | u64::from(self.step as u16);
        let header = FrameHeader {
            kind: Kind::Hello,
            cluster: self.cluster,
            ring: RingId(0),
            configuration: ConfigurationId(0),
            sender: self.node,
            ballot: Ballot {
                round: u64::from(self.features) << 32 | u64::from(self.version),
                node: self.target,
                incarnation: self.incarnation,
            },
            slot: Slot(self.instance),
            chosen: Slot(0),
            commands: 0,
            words: [place, self.nonce, self.echo, self.refusal.map_or(0, |refusal| refusal as u64)],
        };
        Frame::seal(BytesMut::zeroed(HEADER_BYTES), &header)
    }

    /// Reads a hello; what it claims is not judged here.
    pub(crate) fn decode(bytes: &[u8; HELLO_BYTES]) -> Result<Hello, Refusal> {
        let frame = Frame::parse(Bytes::copy_from_slice(bytes)).map_err(|error| match error {
            FrameError::Version(_) => Refusal::Version,
            _ => Refusal::Garbage,
        })?;
        let header = frame.header();
        let [place, nonce, echo, reason] = header.words;
        // A later version may use its words in another way, so it is looked at first.
        let version = header.ballot.round as u32;
        if header.kind == Kind::Hello && version != HANDSHAKE_VERSION {
            return Err(Refusal::Version);
        }
        let step = match (header.kind, place as u16) {
            (Kind::Hello, 1) => Step::Open,
            (Kind::Hello, 2) => Step::Answer,
            (Kind::Hello, 3) => Step::Confirm,
            (Kind::Hello, 4) => Step::Refuse,
            _ => return Err(Refusal::Garbage),
        };
        Ok(Hello {
            step,
            cluster: header.cluster,
            node: header.sender,
            incarnation: header.ballot.incarnation,
            target: header.ballot.node,
            version,
            features: (header.ballot.round >> 32) as u32,
            instance: header.slot.0,
            core: CoreId((place >> 16) as u16),
            cores: (place >> 32) as u16,
            nonce,
            echo,
            refusal: Refusal::from_code(reason),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hello() -> Hello {
        Hello {
            step: Step::Answer,
            cluster: ClusterId(7),
            node: NodeId(2),
            incarnation: Incarnation(9),
            target: NodeId(1),
            version: HANDSHAKE_VERSION,
            features: 5,
            instance: 0x1234_5678_9abc_def0,
            core: CoreId(3),
            cores: 4,
            nonce: 11,
            echo: 12,
            refusal: None,
        }
    }

    fn bytes(hello: &Hello) -> [u8; HELLO_BYTES] {
        hello.encode().as_bytes().try_into().expect("a hello is a bare header")
    }

    #[test]
    fn a_hello_reads_back_as_it_was_written() {
        assert_eq!(Hello::decode(&bytes(&hello())), Ok(hello()));
        for refusal in Refusal::ALL {
            let hello = Hello { step: Step::Refuse, refusal: Some(*refusal), ..hello() };
            assert_eq!(Hello::decode(&bytes(&hello)), Ok(hello));
        }
    }

    #[test]
    fn another_handshake_version_is_named_as_such() {
        let hello = Hello { version: HANDSHAKE_VERSION + 1, ..hello() };
        assert_eq!(Hello::decode(&bytes(&hello)), Err(Refusal::Version));
    }

    proptest! {
        #[test]
        fn random_bytes_are_garbage(bytes in any::<[u8; 32]>()) {
            let mut whole = [0; HELLO_BYTES];
            whole[..32].copy_from_slice(&bytes);
            prop_assert_eq!(Hello::decode(&whole), Err(Refusal::Garbage));
        }
    }
}
