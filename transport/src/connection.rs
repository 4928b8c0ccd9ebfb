//! An established connection as its core sees it.

use std::net::TcpStream;
use std::time::Duration;

use annulus_rings::{
    Ballot, ClusterId, ConfigurationId, Frame, FrameHeader, Incarnation, Kind, NodeId, RingId,
};
use annulus_rings::{Slot, Time, frame::HEADER_BYTES};
use bytes::BytesMut;

use crate::readiness::Token;
use crate::receive::ReceiveError;
use crate::send_queue::SendQueue;
use crate::splitter::{CHUNK_BYTES, FrameSplitter};
use crate::tcp::TcpOptions;

/// What the handshake settled, and what every frame of the connection is checked against.
#[derive(Debug)]
pub(crate) struct Established {
    pub(crate) peer: NodeId,
    pub(crate) incarnation: Incarnation,
    /// Numbers the connections of this node: what is said of an older one concerns nobody.
    pub(crate) serial: u64,
    /// Non-blocking.
    pub(crate) stream: TcpStream,
}

/// A socket, what is on its way in and out, and when it was last heard of.
pub(crate) struct Connection {
    pub(crate) serial: u64,
    pub(crate) stream: TcpStream,
    pub(crate) splitter: FrameSplitter,
    pub(crate) queue: SendQueue,
    pub(crate) token: Token,
    /// The socket is full; readiness tells when it is not.
    pub(crate) blocked: bool,
    received: Time,
    probe_due: Time,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Lost {
    #[error(transparent)]
    Receive(#[from] ReceiveError),
    #[error("cannot send: {0}")]
    Send(std::io::Error),
    #[error("a frame of cluster {0}")]
    WrongCluster(ClusterId),
    #[error("a frame that node {0} encoded")]
    WrongSender(NodeId),
    #[error("a hello after the handshake")]
    Hello,
    #[error("nothing was heard for {0:?}")]
    Silent(Duration),
    #[error("replaced by a newer connection")]
    Replaced,
}

/// What a keep-alive says, in the first word of a `Ping`: probes are echoed, echoes are not.
const PROBE: u64 = 1;
const ECHO: u64 = 2;

/// What to do about a frame.
pub(crate) enum Inspected {
    /// For the rings.
    Deliver,
    /// A keep-alive that wants this answer.
    Answer(Frame),
    /// The answer to one of ours, and how long it took.
    RoundTrip(Duration),
    /// A keep-alive of a later version, which says nothing to this one.
    Nothing,
}

impl Connection {
    pub(crate) fn new(established: Established, token: Token, options: &TcpOptions, now: Time) -> Connection {
        Connection {
            serial: established.serial,
            stream: established.stream,
            splitter: FrameSplitter::new(CHUNK_BYTES),
            queue: SendQueue::new(options.queue_frames_max, options.queue_bytes_max),
            token,
            blocked: false,
            received: now,
            // The first round trip is measured at once.
            probe_due: now,
        }
    }

    /// Something arrived.
    pub(crate) fn heard(&mut self, now: Time) {
        self.received = now;
    }

    /// How long nothing arrived.
    pub(crate) fn silence(&self, now: Time) -> Duration {
        now.since(self.received)
    }

    /// When the next keep-alive leaves, or the silence is over.
    pub(crate) fn deadline(&self, options: &TcpOptions) -> Time {
        self.probe_due.min(self.received + options.silence_max)
    }

    /// The keep-alive, if it is time for one.
    pub(crate) fn probe(
        &mut self,
        identity: &PingIdentity,
        options: &TcpOptions,
        now: Time,
    ) -> Option<Frame> {
        if now < self.probe_due {
            return None;
        }
        self.probe_due = now + options.keep_alive_interval;
        Some(identity.ping(PROBE, now.0))
    }
}

/// Who sends keep-alives, and what frames of a cluster are checked against.
pub(crate) struct PingIdentity {
    pub(crate) cluster: ClusterId,
    pub(crate) node: NodeId,
}

impl PingIdentity {
    /// Checks a frame against the handshake of the connection to `peer`, and reads keep-alives.
    pub(crate) fn inspect(&self, peer: NodeId, frame: &Frame, now: Time) -> Result<Inspected, Lost> {
        let header = frame.header();
        if header.cluster != self.cluster {
            return Err(Lost::WrongCluster(header.cluster));
        }
        if header.sender != peer {
            return Err(Lost::WrongSender(header.sender));
        }
        Ok(match (header.kind, header.words[0]) {
            (Kind::Hello, _) => return Err(Lost::Hello),
            (Kind::Ping, PROBE) => Inspected::Answer(self.ping(ECHO, header.words[1])),
            (Kind::Ping, ECHO) => Inspected::RoundTrip(now.since(Time(header.words[1]))),
            (Kind::Ping, _) => Inspected::Nothing,
            _ => Inspected::Deliver,
        })
    }

    /// A keep-alive with the time of the core that probed.
    fn ping(&self, what: u64, probed_ns: u64) -> Frame {
        let header = FrameHeader {
            kind: Kind::Ping,
            cluster: self.cluster,
            ring: RingId(0),
            configuration: ConfigurationId(0),
            sender: self.node,
            ballot: Ballot::ZERO,
            slot: Slot(0),
            chosen: Slot(0),
            commands: 0,
            words: [what, probed_ns, 0, 0],
        };
        Frame::seal(BytesMut::zeroed(HEADER_BYTES), &header)
    }
}
