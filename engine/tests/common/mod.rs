//! Clusters of a few nodes in one process, for tests.
#![allow(dead_code, reason = "each test uses its share")]

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

use annulus::{
    Builder, Committed, Engine, JournalKind, LoopbackHub, NodeId, Outcome, Rejected, Replies, RingHandle,
    RingId, Role, Runner, StateMachine, TransportKind,
};
use annulus::{RestoreFailure, SnapshotReader, SnapshotStep, SnapshotWriter};

pub const RING: RingId = RingId(7);
/// Longer than anything takes on a loaded machine.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Remembers every command, and replies with its number and the command.
#[derive(Default)]
pub struct Log {
    commands: Vec<Vec<u8>>,
    /// The commands that a snapshot under way still has to write: what is appended stands behind them.
    unwritten: std::ops::Range<usize>,
}

impl StateMachine for Log {
    fn apply(&mut self, committed: Committed<'_>, replies: &mut Replies) {
        for command in committed.commands() {
            assert_ne!(command, b"panic", "as the command asks");
            self.commands.push(command.to_vec());
            replies.push_with(|reply| {
                reply.extend_from_slice(format!("{}:", self.commands.len()).as_bytes());
                reply.extend_from_slice(command);
            });
        }
    }

    /// All commands, one per line.
    fn query(&self, _query: &[u8], reply: &mut Vec<u8>) {
        reply.extend_from_slice(&self.commands.join(&b'\n'));
    }

    fn snapshot(&mut self, writer: &mut SnapshotWriter<'_>) -> SnapshotStep {
        if writer.is_first() {
            self.unwritten = 0..self.commands.len();
        }
        while writer.has_room() {
            let Some(index) = self.unwritten.next() else { return SnapshotStep::Done };
            writer.record(&self.commands[index]);
        }
        SnapshotStep::More
    }

    fn restore(&mut self, reader: &mut SnapshotReader<'_>) -> Result<(), RestoreFailure> {
        if reader.is_first() {
            self.commands.clear();
        }
        self.commands.extend(reader.records().map(<[u8]>::to_vec));
        Ok(())
    }
}

/// What a test varies.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub runner: Runner,
    pub journal: JournalKind,
    pub tcp: bool,
}

impl Shape {
    pub const SMALL: Shape = Shape { runner: Runner::Thread, journal: JournalKind::Memory, tcp: false };
}

/// The nodes of a cluster; a stopped one is `None`.
pub struct Cluster {
    shape: Shape,
    hub: LoopbackHub,
    addresses: Vec<SocketAddr>,
    directory: tempfile::TempDir,
    adjust: fn(Builder) -> Builder,
    pub nodes: Vec<Option<Node>>,
}

pub struct Node {
    pub engine: Engine,
    pub ring: RingHandle,
}

impl Cluster {
    pub fn start(shape: Shape, nodes: usize) -> Cluster {
        Cluster::start_with(shape, nodes, |builder| builder)
    }

    /// As [`start`](Self::start), with every node's builder adjusted.
    pub fn start_with(shape: Shape, nodes: usize, adjust: fn(Builder) -> Builder) -> Cluster {
        let listeners: Vec<TcpListener> =
            (0..nodes).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let mut cluster = Cluster {
            shape,
            hub: LoopbackHub::new(annulus::LoopbackOptions::default()),
            addresses: listeners.iter().map(|listener| listener.local_addr().unwrap()).collect(),
            directory: tempfile::tempdir().unwrap(),
            adjust,
            nodes: (0..nodes).map(|_| None).collect(),
        };
        for (index, listener) in listeners.into_iter().enumerate() {
            cluster.start_node(index, Some(listener));
        }
        cluster
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn builder(&self, index: usize) -> Builder {
        let peers = (1..).map(NodeId).zip(self.addresses.iter().copied());
        let transport =
            if self.shape.tcp { TransportKind::Tcp } else { TransportKind::Loopback(self.hub.clone()) };
        let builder = Engine::builder()
            .node(NodeId(index as u16 + 1))
            .peers(peers)
            .transport(transport)
            .journal(self.shape.journal)
            .data_dir(self.path().join(format!("node-{index}")))
            .segment_bytes(8 << 20)
            .segments_ahead(2)
            .nvm_bytes(48 << 20)
            .runner(self.shape.runner);
        (self.adjust)(builder)
    }

    /// Starts a node that is not running; without a listener it listens where it did before.
    pub fn start_node(&mut self, index: usize, listener: Option<TcpListener>) {
        let mut builder = self.builder(index);
        if let Some(listener) = listener {
            builder = builder.listener(listener);
        }
        let engine = builder.start().unwrap();
        let ring = engine.create_ring(RING, Log::default).unwrap();
        self.nodes[index] = Some(Node { engine, ring });
    }

    pub fn stop_node(&mut self, index: usize) {
        self.nodes[index].take().expect("it runs").engine.shutdown().unwrap();
    }

    /// The index of a node that leads.
    pub fn leader(&self) -> usize {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let leads = |node: &Option<Node>| {
                node.as_ref().is_some_and(|node| node.ring.status().role == Role::Leader)
            };
            if let Some(index) = self.nodes.iter().position(leads) {
                return index;
            }
            assert!(Instant::now() < deadline, "no leader: {:?}", self.statuses());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Commits a command, wherever the leader is by now, and gives its reply.
    pub fn commit(&self, command: &[u8]) -> Vec<u8> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let node = self.nodes[self.leader()].as_ref().unwrap();
            let mut proposal = node.ring.propose(command);
            match proposal.wait_timeout(PATIENCE) {
                Some(Outcome::Committed { reply, .. }) => return reply,
                Some(Outcome::Rejected(Rejected::NotLeader(_))) => {}
                other => panic!("{other:?}"),
            }
            assert!(Instant::now() < deadline, "no leader that stays: {:?}", self.statuses());
        }
    }

    /// Commits commands one after the other.
    pub fn commit_all(&self, commands: &[Vec<u8>]) {
        for command in commands {
            self.commit(command);
        }
    }

    /// Waits until a node has executed all of `commands`, in order.
    pub fn expect_log(&self, index: usize, commands: &[Vec<u8>]) {
        let expected = commands.join(&b'\n');
        let ring = &self.nodes[index].as_ref().unwrap().ring;
        let deadline = Instant::now() + PATIENCE;
        // Not ready: its state is being replaced by a snapshot.
        while ring.query(b"").wait().ok().as_ref() != Some(&expected) {
            let has = ring.query(b"").wait().map(|log| log.len());
            assert!(Instant::now() < deadline, "node {index} has {has:?} of {} bytes", expected.len());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub fn statuses(&self) -> Vec<String> {
        let status = |node: &Option<Node>| node.as_ref().map(|node| format!("{:?}", node.ring.status()));
        self.nodes.iter().filter_map(status).collect()
    }
}

/// Every combination of runner, journal and transport.
pub fn shapes() -> Vec<Shape> {
    let mut shapes = Vec::new();
    for runner in [Runner::Thread, Runner::Glommio] {
        for journal in [JournalKind::Memory, JournalKind::File, JournalKind::NvmEmulated] {
            for tcp in [false, true] {
                shapes.push(Shape { runner, journal, tcp });
            }
        }
    }
    shapes
}
