//! What a core asks of a network.

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use annulus_rings::{Frame, Incarnation, NodeId, Time};

/// Moves frames between the same core of different nodes.
///
/// Delivery is best effort: a frame arrives whole and verified, in the order sent, or not at all.
/// Frames to a peer that is away or slow are dropped and counted; rings send again what matters.
pub trait Network {
    /// Queues a frame for a peer; it leaves at the next [`flush`](Network::flush). Dropped and counted
    /// when the peer is not connected or its queue is full.
    fn send(&mut self, to: NodeId, frame: Frame);

    /// Adds to `received` what has arrived, and tells how many frames that are. Bounded per call. Never blocks.
    fn poll(&mut self, now: Time, received: &mut Vec<Received>) -> usize;

    /// Sends what was queued: one gathered write per peer, more only if the socket takes more.
    fn flush(&mut self, now: Time);

    /// Sees to it that an arrival from now on signals the registered eventfd. True when something is
    /// there already: do not park. Call it after [`Wake::prepare`](crate::Wake::prepare).
    fn prepare_park(&mut self) -> bool;

    /// When [`poll`](Network::poll) is due even if nothing arrives: the next keep-alive or silence check.
    fn deadline(&self) -> Time;

    /// Names the eventfd that arrivals signal. Called once, before the first
    /// [`prepare_park`](Network::prepare_park).
    ///
    /// # Errors
    /// It is not an open eventfd, or one is registered already.
    fn register_wake(&mut self, eventfd: RawFd) -> io::Result<()>;

    /// What went through since the start.
    fn statistics(&self) -> NetworkStatistics;

    /// Every peer, ascending by node.
    fn peers(&self) -> &[PeerState];
}

/// A verified frame and where it came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Received {
    /// The node at the other end of the connection, which is also the frame's sender.
    pub from: NodeId,
    /// The frame.
    pub frame: Frame,
    /// The time of the poll that found it.
    pub at: Time,
}

/// A peer as its core sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PeerState {
    /// The node.
    pub node: NodeId,
    /// Whether frames can go there.
    pub status: PeerStatus,
    /// The last round trip of a keep-alive, the other core's waiting included.
    pub round_trip: Option<Duration>,
    /// How many connections there have been.
    pub connections: u64,
}

/// Whether frames can go to a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PeerStatus {
    /// No connection.
    Disconnected,
    /// A connection.
    Connected {
        /// The life of the peer's disk, as it said in the handshake.
        incarnation: Incarnation,
        /// Since when.
        since: Time,
    },
}

impl PeerState {
    pub(crate) fn disconnected(node: NodeId) -> PeerState {
        PeerState { node, status: PeerStatus::Disconnected, round_trip: None, connections: 0 }
    }

    /// Whether frames can go there.
    pub fn is_connected(&self) -> bool {
        matches!(self.status, PeerStatus::Connected { .. })
    }
}

/// Counts since the start. Keep-alives count as frames.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct NetworkStatistics {
    /// Frames handed to the sockets.
    pub frames_sent: u64,
    /// Their bytes.
    pub bytes_sent: u64,
    /// System calls that wrote.
    pub writes: u64,
    /// Frames that arrived whole and verified.
    pub frames_received: u64,
    /// Bytes that arrived.
    pub bytes_received: u64,
    /// System calls, or completions, that brought bytes.
    pub reads: u64,
    /// Frames dropped because their peer was not connected.
    pub dropped_unconnected: u64,
    /// Frames dropped because their peer's queue was full.
    pub dropped_full: u64,
    /// Frames that were queued on a connection when it ended.
    pub dropped_with_connection: u64,
    /// Connections that were taken over from the handshake.
    pub connections: u64,
    /// Connections that were replaced by a newer one of the same peer.
    pub replaced: u64,
    /// Connections that the other side closed, or that failed.
    pub closed: u64,
    /// Connections dropped after nothing arrived for too long.
    pub silent: u64,
    /// Connections dropped for a frame with a wrong checksum, size, version or kind.
    pub corrupt: u64,
    /// Connections dropped for a frame of another cluster or sender than the handshake's, or one that
    /// belongs in a handshake.
    pub foreign: u64,
}
