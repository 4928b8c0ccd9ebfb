//! The network of one core over TCP: established sockets only.
//!
//! A turn reads each socket until it is short, and flushes each queue with one gathered write. Readiness
//! is asked for only before the core parks, and for a socket that took less than it was given.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use annulus_rings::frame::FRAME_BYTES_MAX;
use annulus_rings::{Frame, NodeId, Time};

use crate::connection::{Connection, Established, Inspected, Lost, PingIdentity};
use crate::links::TcpPort;
use crate::network::{Network, NetworkStatistics, PeerState, PeerStatus, Received};
use crate::readiness::{Interest, Readiness, Token};
use crate::receive::{self, Receive, ReceiveError, ReceivePath, Source};

/// How a core's network behaves.
#[derive(Clone, Debug)]
pub struct TcpOptions {
    /// Which system calls bring bytes in.
    pub receive_path: ReceivePath,
    /// Frames that may wait for one peer.
    pub queue_frames_max: usize,
    /// Bytes that may wait for one peer.
    pub queue_bytes_max: usize,
    /// Each connection is probed this often; the answer gives the round trip.
    pub keep_alive_interval: Duration,
    /// A connection that brings nothing for this long is half-open, and dropped. A live peer answers probes.
    pub silence_max: Duration,
}

impl Default for TcpOptions {
    fn default() -> TcpOptions {
        TcpOptions {
            receive_path: ReceivePath::default(),
            queue_frames_max: 8192,
            queue_bytes_max: 8 * FRAME_BYTES_MAX,
            keep_alive_interval: Duration::from_secs(1),
            silence_max: Duration::from_secs(4),
        }
    }
}

/// Operations between two submissions: two per peer, of which there are tens at the most.
const READINESS_ENTRIES: u32 = 128;

/// The network of one core over TCP. It belongs to the thread that opened it.
pub struct TcpNetwork {
    port: TcpPort,
    options: TcpOptions,
    identity: PingIdentity,
    /// Ascending by node, parallel to `connections`.
    peers: Vec<PeerState>,
    connections: Vec<Option<Connection>>,
    receive: Box<dyn Receive>,
    readiness: Readiness,
    ready: Vec<Token>,
    frames: Vec<Frame>,
    statistics: NetworkStatistics,
    /// The earliest deadline of a connection.
    deadline: Time,
}

impl TcpNetwork {
    /// Opens the network on the calling thread, which is then the only one that may use it.
    ///
    /// # Errors
    /// The kernel gives no `io_uring`; the message says what to do.
    pub fn open(port: TcpPort, options: TcpOptions) -> io::Result<TcpNetwork> {
        let nodes = port.links.peers();
        Ok(TcpNetwork {
            identity: PingIdentity { cluster: port.cluster, node: port.node },
            peers: nodes.iter().copied().map(PeerState::disconnected).collect(),
            connections: nodes.iter().map(|_| None).collect(),
            receive: receive::open(options.receive_path)?,
            readiness: Readiness::new(READINESS_ENTRIES)?,
            ready: Vec::new(),
            frames: Vec::new(),
            statistics: NetworkStatistics::default(),
            deadline: Time::NEVER,
            port,
            options,
        })
    }

    fn index(&self, node: NodeId) -> Option<usize> {
        self.peers.binary_search_by_key(&node, |peer| peer.node).ok()
    }

    /// Takes over what the fabric has connected.
    fn adopt(&mut self, now: Time) {
        while let Ok(established) = self.port.established.try_recv() {
            let Some(index) = self.index(established.peer) else { continue };
            self.drop_connection(index, &Lost::Replaced);
            if let Err(error) = self.connect(index, established, now) {
                tracing::error!(peer = %self.peers[index].node, %error, "cannot take over a connection");
            }
        }
    }

    fn connect(&mut self, index: usize, established: Established, now: Time) -> io::Result<()> {
        let Established { incarnation, serial, .. } = established;
        if let Err(error) = self.receive.attach(index, &established.stream) {
            self.port.links.lost(established.peer, self.port.core, serial);
            return Err(error);
        }
        let token = self.readiness.add(established.stream.as_raw_fd());
        self.connections[index] = Some(Connection::new(established, token, &self.options, now));
        let peer = &mut self.peers[index];
        tracing::info!(peer = %peer.node, core = %self.port.core, "connected");
        peer.status = PeerStatus::Connected { incarnation, since: now };
        peer.connections += 1;
        self.statistics.connections += 1;
        self.deadline = Time(0);
        Ok(())
    }

    /// Ends a connection: nothing that it still held is delivered or sent.
    fn drop_connection(&mut self, index: usize, why: &Lost) {
        let Some(connection) = self.connections[index].take() else { return };
        let peer = &mut self.peers[index];
        tracing::warn!(peer = %peer.node, core = %self.port.core, %why, "connection dropped");
        peer.status = PeerStatus::Disconnected;
        peer.round_trip = None;
        self.statistics.dropped_with_connection += connection.queue.len() as u64;
        self.statistics.count(why);
        // The kernel may hold the socket a little longer than we do: the peer must learn at once.
        let _ = connection.stream.shutdown(Shutdown::Both);
        let detached = self.receive.detach(index).and_then(|()| self.readiness.remove(connection.token));
        if let Err(error) = detached {
            tracing::error!(peer = %peer.node, %error, "cannot give up a connection");
        }
        self.port.links.lost(peer.node, self.port.core, connection.serial);
    }

    /// Reads one connection.
    fn read(&mut self, index: usize, now: Time, received: &mut Vec<Received>) {
        let Some(connection) = &mut self.connections[index] else { return };
        let before_bytes = self.statistics.bytes_received;
        let source = Source {
            stream: &connection.stream,
            splitter: &mut connection.splitter,
            statistics: &mut self.statistics,
        };
        let result = self.receive.receive(index, source, &mut self.frames);
        if self.statistics.bytes_received != before_bytes {
            connection.heard(now);
        }
        let delivered = self.deliver(index, now, received);
        if let Err(why) = delivered.and(result.map_err(Lost::from)) {
            self.drop_connection(index, &why);
        }
    }

    /// Hands out the frames that were read, and answers keep-alives, up to one that does not belong.
    fn deliver(&mut self, index: usize, now: Time, received: &mut Vec<Received>) -> Result<(), Lost> {
        let peer = &mut self.peers[index];
        let Some(connection) = &mut self.connections[index] else { return Ok(()) };
        let mut foreign = Ok(());
        for frame in self.frames.drain(..) {
            match self.identity.inspect(peer.node, &frame, now) {
                Ok(Inspected::Deliver) => received.push(Received { from: peer.node, frame, at: now }),
                // When the queue is full the peer hears enough of us without the answer.
                Ok(Inspected::Answer(answer)) => _ = connection.queue.push(answer),
                Ok(Inspected::RoundTrip(time)) => peer.round_trip = Some(time),
                Ok(Inspected::Nothing) => {}
                Err(why) => {
                    foreign = Err(why);
                    break;
                }
            }
            self.statistics.frames_received += 1;
        }
        foreign
    }

    /// Sends keep-alives that are due and drops connections that fell silent. Called after reading, so
    /// that what arrived while this core itself was stopped counts.
    fn tend(&mut self, now: Time) {
        self.deadline = Time::NEVER;
        for index in 0..self.connections.len() {
            let Some(connection) = &mut self.connections[index] else { continue };
            let silence = connection.silence(now);
            if silence >= self.options.silence_max {
                self.drop_connection(index, &Lost::Silent(silence));
                continue;
            }
            if let Some(probe) = connection.probe(&self.identity, &self.options, now) {
                connection.queue.push(probe);
            }
            self.deadline = self.deadline.min(connection.deadline(&self.options));
        }
    }

    /// Learns which full sockets have room again.
    fn unblock(&mut self) -> io::Result<()> {
        self.ready.clear();
        if self.readiness.poll(&mut self.ready)? == 0 {
            return Ok(());
        }
        for connection in self.connections.iter_mut().flatten() {
            // Waking for something to read unblocks too, which costs one write that finds no room.
            if self.ready.contains(&connection.token) {
                connection.blocked = false;
            }
        }
        Ok(())
    }

    /// Arms everything that can wake this core; true when something is there already.
    fn arm(&mut self) -> io::Result<bool> {
        for connection in self.connections.iter().flatten() {
            if self.receive.needs_readiness() {
                self.readiness.arm(connection.token, Interest::Readable)?;
            }
            if connection.blocked {
                self.readiness.arm(connection.token, Interest::Writable)?;
            } else if !connection.queue.is_empty() {
                return Ok(true);
            }
        }
        self.readiness.submit()?;
        Ok(self.readiness.is_pending() || self.receive.is_pending())
    }

    fn flush_connection(&mut self, index: usize) {
        let Some(connection) = &mut self.connections[index] else { return };
        if connection.blocked || connection.queue.is_empty() {
            return;
        }
        match connection.queue.write_to(&mut connection.stream) {
            Ok(flushed) => {
                self.statistics.frames_sent += flushed.frames;
                self.statistics.bytes_sent += flushed.bytes;
                self.statistics.writes += flushed.writes;
                connection.blocked = flushed.blocked;
                if flushed.blocked
                    && let Err(error) = self.readiness.arm(connection.token, Interest::Writable)
                {
                    self.drop_connection(index, &Lost::Send(error));
                }
            }
            Err(error) => self.drop_connection(index, &Lost::Send(error)),
        }
    }
}

impl Network for TcpNetwork {
    fn send(&mut self, to: NodeId, frame: Frame) {
        let connection = self.index(to).and_then(|index| self.connections[index].as_mut());
        match connection {
            None => self.statistics.dropped_unconnected += 1,
            Some(connection) => {
                if !connection.queue.push(frame) {
                    self.statistics.dropped_full += 1;
                }
            }
        }
    }

    fn poll(&mut self, now: Time, received: &mut Vec<Received>) -> usize {
        let before = received.len();
        self.port.bell.disarm();
        self.adopt(now);
        if let Err(error) = self.unblock().and_then(|()| self.receive.gather()) {
            // Our own ring refuses service: without it nothing tells when the core must wake.
            panic!("the network's io_uring failed: {error}");
        }
        for index in 0..self.connections.len() {
            self.read(index, now, received);
        }
        if now >= self.deadline {
            self.tend(now);
        }
        received.len() - before
    }

    fn flush(&mut self, _now: Time) {
        for index in 0..self.connections.len() {
            self.flush_connection(index);
        }
    }

    fn prepare_park(&mut self) -> bool {
        self.port.bell.arm();
        if !self.port.established.is_empty() {
            return true;
        }
        // When arming fails the core must not sleep; the next poll meets the error again.
        self.arm().unwrap_or(true)
    }

    fn deadline(&self) -> Time {
        self.deadline
    }

    fn register_wake(&mut self, eventfd: RawFd) -> io::Result<()> {
        self.port.bell.connect(eventfd)?;
        self.readiness.register_wake(eventfd)?;
        self.receive.register_wake(eventfd)
    }

    fn statistics(&self) -> NetworkStatistics {
        self.statistics
    }

    fn peers(&self) -> &[PeerState] {
        &self.peers
    }
}

impl Drop for TcpNetwork {
    fn drop(&mut self) {
        for (peer, connection) in self.peers.iter().zip(&self.connections) {
            if let Some(connection) = connection {
                let _ = connection.stream.shutdown(Shutdown::Both);
                self.port.links.lost(peer.node, self.port.core, connection.serial);
            }
        }
    }
}

impl NetworkStatistics {
    fn count(&mut self, why: &Lost) {
        let counter = match why {
            Lost::Receive(ReceiveError::Frame(_)) => &mut self.corrupt,
            Lost::Receive(_) | Lost::Send(_) => &mut self.closed,
            Lost::WrongCluster(_) | Lost::WrongSender(_) | Lost::Hello => &mut self.foreign,
            Lost::Silent(_) => &mut self.silent,
            Lost::Replaced => &mut self.replaced,
        };
        *counter += 1;
    }
}
