//! What can go wrong before a node runs, in words that a person can act on.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use annulus_rings::{CoreId, NodeId, RingId};
use annulus_transport::PeerAddress;

/// Why an engine did not start.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A build that checks nothing keeps no data.
    #[error(
        "this build checks no contract, to measure what they cost, so it keeps no data: build it without --cfg annulus_contracts, or use a memory journal"
    )]
    NoContracts,
    /// No node id, or 0.
    #[error(
        "no node id: call .node(NodeId(n)) with the n, 1 or above, that this process has among its peers"
    )]
    NoNode,
    /// No peers.
    #[error("no peers: call .peer(id, address) for every node of the cluster, this one included")]
    NoPeers,
    /// This node is not among its peers.
    #[error(
        "node {node} is not among its peers ({peers}): add .peer(NodeId({node}), address) with the address to listen on"
    )]
    NotAmongPeers {
        /// This node.
        node: NodeId,
        /// The peers given.
        peers: String,
    },
    /// A peer with id 0.
    #[error("a peer has id 0, which names nobody: number nodes from 1")]
    PeerZero,
    /// Two peers have one id.
    #[error("node {0} is listed twice among the peers: give every node its own id")]
    DuplicateNode(NodeId),
    /// Two peers have one address.
    #[error("nodes {first} and {second} have the same address {address}: give every node its own")]
    DuplicateAddress {
        /// One.
        first: NodeId,
        /// The other.
        second: NodeId,
        /// The address.
        address: PeerAddress,
    },
    /// More members than a ring can have.
    #[error("{0} peers, at most {max} can vote in a ring", max = annulus_rings::configuration::MEMBERS_MAX)]
    TooManyPeers(usize),
    /// No cores.
    #[error("no cores: call .cores(0..1) with the CPUs to run on, or .unpinned_cores(1)")]
    NoCores,
    /// More cores than CPUs.
    #[error("{cores} cores on {cpus} CPUs: two cores on one CPU starve each other, use at most {cpus}")]
    TooManyCores {
        /// Cores asked for.
        cores: usize,
        /// CPUs that this process may run on.
        cpus: usize,
    },
    /// A CPU that cannot be used.
    #[error("CPU {cpu} does not exist or is not allowed to this process, which may run on {allowed:?}")]
    NoSuchCpu {
        /// The CPU.
        cpu: usize,
        /// CPUs that this process may run on.
        allowed: Vec<usize>,
    },
    /// One CPU for two cores.
    #[error("CPU {0} is listed twice: a core needs a CPU of its own")]
    DuplicateCpu(usize),
    /// No data directory.
    #[error("no data directory: call .data_dir(path), or .journal(JournalKind::Memory) for a volatile node")]
    NoDataDir,
    /// A setting outside its range.
    #[error("{setting} is {value}, but {rule}")]
    Setting {
        /// Its name, as on the builder.
        setting: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        rule: String,
    },
    /// Timeouts that cannot work together.
    #[error(
        "election_timeout {election:?} must be at least three times heartbeat_interval {heartbeat:?}: a leader that is a little late would be voted out"
    )]
    Timeouts {
        /// The election timeout.
        election: Duration,
        /// The heartbeat interval.
        heartbeat: Duration,
    },
    /// A ring was declared twice.
    #[error("ring {0} is declared twice: a node hosts a ring once")]
    DuplicateRing(RingId),
    /// The placement table sends a ring to a core that does not exist.
    #[error("the placement table puts ring {ring} on {core:?}, but there are {cores} cores")]
    Placement {
        /// The ring.
        ring: RingId,
        /// Where it should go.
        core: CoreId,
        /// Cores there are.
        cores: usize,
    },
    /// glommio needs more locked memory than the process may have.
    #[error(
        "at most {have_bytes} bytes may be locked in memory, glommio needs {need_bytes}: raise `ulimit -l` (LimitMEMLOCK= in systemd), or use .runner(Runner::Thread)"
    )]
    Memlock {
        /// What the process may lock.
        have_bytes: u64,
        /// What the runner needs.
        need_bytes: u64,
    },
    /// `io_uring` cannot be used.
    #[error(
        "io_uring is not usable here ({0}): it needs Linux 6.1 or newer, a seccomp profile that allows it, and sysctl kernel.io_uring_disabled = 0"
    )]
    NoIoUring(#[source] io::Error),
    /// The journal of a core could not be opened or read back.
    #[error("the journal of {core:?} cannot be used: {source}")]
    Journal {
        /// The core.
        core: CoreId,
        /// Why, and what to do.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The data directory could not be opened.
    #[error("cannot open the data directory {path}: {source}")]
    Storage {
        /// The directory.
        path: PathBuf,
        /// Why, and what to do.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The network could not be started.
    #[error("cannot listen on {address} as node {node}: {source}")]
    Transport {
        /// This node.
        node: NodeId,
        /// Where it listens.
        address: PeerAddress,
        /// Why, and what to do.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The service of a core could not be made.
    #[error("the service of {core:?} could not start: {source}")]
    Service {
        /// The core.
        core: CoreId,
        /// Why.
        source: io::Error,
    },
    /// A thread could not be started or pinned.
    #[error("{core:?} could not start: {source}")]
    Core {
        /// The core.
        core: CoreId,
        /// Why.
        source: io::Error,
    },
}

/// Why there is no handle of a ring.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CreateError {
    /// Its state machine does not take its snapshot.
    #[error("ring {ring} is not hosted: {why}")]
    Restore {
        /// The ring.
        ring: RingId,
        /// What is wrong.
        why: String,
    },
    /// It exists.
    #[error("ring {0} exists already on this node")]
    Exists(RingId),
    /// It was neither declared nor created.
    #[error("this node does not host ring {0}: declare it on the builder, or create it")]
    Absent(RingId),
    /// Its core has stopped.
    #[error("the core of ring {0} has stopped: see Engine::health()")]
    Stopped(RingId),
}

/// As a person should read it: a `main` that returns the error prints this.
impl fmt::Debug for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
