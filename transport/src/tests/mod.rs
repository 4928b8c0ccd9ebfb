//! Nodes, impostors and frames for the tests of the whole crate.
// Under Miri most of the tests that use them are left out, in models all of them.
#![cfg_attr(any(miri, loom), allow(dead_code, unused_imports))]

// Miri has neither sockets nor io_uring.
#[cfg(not(miri))]
mod connections;
#[cfg(not(miri))]
mod frames;
mod loopback;
#[cfg(not(miri))]
mod parking;
#[cfg(not(miri))]
mod refusals;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use annulus_rings::frame::HEADER_BYTES;
use annulus_rings::{
    Ballot, ClusterId, ConfigurationId, CoreId, Frame, FrameHeader, Incarnation, Kind, NodeId, RingId, Slot,
    Time,
};
use bytes::BytesMut;

use crate::handshake::{self, Identity};
use crate::{FabricOptions, Network, Problem, ReceivePath, Received, TcpFabric, TcpNetwork, TcpOptions};

pub(crate) const CLUSTER: ClusterId = ClusterId(7);
/// Nothing that a test waits for takes this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
pub(crate) const PATHS: [ReceivePath; 2] = [ReceivePath::Recv, ReceivePath::Multishot];

/// A frame of the test cluster from `sender`, with a payload that differs from slot to slot.
pub(crate) fn frame_of(sender: u16, slot: u64, payload_bytes: usize) -> Frame {
    let payload = (0..payload_bytes).map(|index| (index as u64).wrapping_mul(31).wrapping_add(slot) as u8);
    seal(Kind::Accept, CLUSTER, NodeId(sender), slot, payload)
}

pub(crate) fn seal(
    kind: Kind,
    cluster: ClusterId,
    sender: NodeId,
    slot: u64,
    payload: impl Iterator<Item = u8>,
) -> Frame {
    let header = FrameHeader {
        kind,
        cluster,
        ring: RingId(1),
        configuration: ConfigurationId(1),
        sender,
        ballot: Ballot::ZERO,
        slot: Slot(slot),
        chosen: Slot(0),
        commands: 0,
        words: [0; 4],
    };
    let mut buffer = BytesMut::zeroed(HEADER_BYTES);
    buffer.extend(payload);
    Frame::seal(buffer, &header)
}

/// A node with one core, driven by the test's own thread.
pub(crate) struct Node {
    pub(crate) fabric: TcpFabric,
    pub(crate) network: TcpNetwork,
    pub(crate) received: Vec<Received>,
    origin: Instant,
}

impl Node {
    pub(crate) fn start(listener: TcpListener, fabric: FabricOptions, options: TcpOptions) -> Node {
        let (fabric, mut ports) = TcpFabric::start_on(listener, fabric).unwrap();
        let network = TcpNetwork::open(ports.remove(0), options).unwrap();
        Node { fabric, network, received: Vec::new(), origin: Instant::now() }
    }

    pub(crate) fn turn(&mut self) {
        let now = Time(self.origin.elapsed().as_nanos() as u64);
        self.network.poll(now, &mut self.received);
        self.network.flush(now);
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.network.peers().iter().all(crate::PeerState::is_connected)
    }

    /// The slots that arrived, in order.
    pub(crate) fn slots(&self) -> Vec<u64> {
        self.received.iter().map(|received| received.frame.header().slot.0).collect()
    }
}

/// Turns all nodes until `done`.
pub(crate) fn turn_until(
    nodes: &mut [&mut Node],
    what: &str,
    mut done: impl FnMut(&mut [&mut Node]) -> bool,
) {
    let start = Instant::now();
    loop {
        for node in nodes.iter_mut() {
            node.turn();
        }
        if done(nodes) {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "waited too long: {what}");
        thread::sleep(Duration::from_micros(200));
    }
}

/// Turns all nodes for a while.
pub(crate) fn turn_for(nodes: &mut [&mut Node], duration: Duration) {
    let start = Instant::now();
    turn_until(nodes, "time passes", |_| start.elapsed() >= duration);
}

/// A listener on a port of its own.
pub(crate) fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// An address where nobody listens.
pub(crate) fn nowhere() -> SocketAddr {
    listener().1
}

pub(crate) fn fabric_options(node: u16, addresses: &[SocketAddr]) -> FabricOptions {
    let mut options = FabricOptions::new(CLUSTER, NodeId(node));
    options.nodes = (1..).map(NodeId).zip(addresses.iter().map(|address| (*address).into())).collect();
    options.dial_delay_max = Duration::from_millis(100);
    options
}

pub(crate) fn tcp_options(path: ReceivePath) -> TcpOptions {
    TcpOptions { receive_path: path, ..TcpOptions::default() }
}

/// Nodes 1 and 2, connected.
pub(crate) fn pair(path: ReceivePath) -> (Node, Node) {
    let ((listener1, address1), (listener2, address2)) = (listener(), listener());
    let addresses = [address1, address2];
    let mut node1 = Node::start(listener1, fabric_options(1, &addresses), tcp_options(path));
    let mut node2 = Node::start(listener2, fabric_options(2, &addresses), tcp_options(path));
    turn_until(&mut [&mut node1, &mut node2], "connected", |nodes| {
        nodes.iter().all(|node| node.is_connected())
    });
    (node1, node2)
}

/// Node 2 alone, for somebody who plays node 1.
pub(crate) fn lone_node(options: TcpOptions) -> Node {
    let (listener2, address2) = listener();
    Node::start(listener2, fabric_options(2, &[nowhere(), address2]), options)
}

/// The identity by which a test dials as node 1.
pub(crate) fn impostor() -> Identity {
    Identity {
        cluster: CLUSTER,
        node: NodeId(1),
        incarnation: Incarnation(1),
        cores: 1,
        instance: 99,
        peers: vec![NodeId(2), NodeId(3)],
    }
}

/// Dials `node` as `identity` would, and goes through the handshake as far as it gets.
pub(crate) fn visit(identity: &Identity, address: SocketAddr, target: u16) -> Result<TcpStream, Problem> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    let deadline = Instant::now() + PATIENCE;
    handshake::greet(identity, &mut stream, NodeId(target), CoreId(0), deadline)?;
    Ok(stream)
}

/// Plays node 1 towards a lone node until that has taken the connection over.
pub(crate) fn connect_to(node: &mut Node) -> TcpStream {
    let before = node.network.statistics().connections;
    let stream = visit(&impostor(), node.fabric.local_address(), 2).unwrap();
    turn_until(&mut [node], "taken over", |nodes| nodes[0].network.statistics().connections > before);
    stream
}
