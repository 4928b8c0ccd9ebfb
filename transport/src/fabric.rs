//! The control side of a node's TCP connections: one thread that listens, one per peer that is dialled.
//!
//! All of them sleep while every connection stands.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use annulus_rings::{ClusterId, CoreId, Incarnation, NodeId};

use crate::acceptor::Acceptor;
use crate::address::PeerAddress;
use crate::dialer::Dialer;
use crate::handshake::{self, Identity};
use crate::links::{Links, TcpPort};
use crate::listen::listen;
use crate::report::{FabricStatistics, PeerReport, Report};
use crate::wake::{Wake, Waker};

/// Who a node is and how it connects.
#[derive(Clone, Debug)]
pub struct FabricOptions {
    /// The cluster.
    pub cluster: ClusterId,
    /// This node; not 0, which names nobody.
    pub node: NodeId,
    /// The life of this node's disk.
    pub incarnation: Incarnation,
    /// How many cores each node of the cluster has.
    pub cores: u16,
    /// Every node and where it listens, this one included.
    pub nodes: BTreeMap<NodeId, PeerAddress>,
    /// How long a connect may take.
    pub dial_timeout: Duration,
    /// How long a handshake may take.
    pub handshake_timeout: Duration,
    /// The shortest time between two dials of a peer.
    pub dial_delay_min: Duration,
    /// The longest time between two dials of a peer.
    pub dial_delay_max: Duration,
}

impl FabricOptions {
    /// The options of a node with one core, no peer yet, and patience for a local network.
    pub fn new(cluster: ClusterId, node: NodeId) -> FabricOptions {
        FabricOptions {
            cluster,
            node,
            incarnation: Incarnation(1),
            cores: 1,
            nodes: BTreeMap::new(),
            dial_timeout: Duration::from_millis(500),
            handshake_timeout: Duration::from_millis(500),
            dial_delay_min: Duration::from_millis(10),
            dial_delay_max: Duration::from_secs(1),
        }
    }
}

/// Why a fabric does not start.
#[derive(Debug, thiserror::Error)]
pub enum FabricError {
    /// Node 0 names nobody.
    #[error("node id 0 names nobody: give every node an id from 1 to 65535")]
    NodeZero,
    /// Without a core there is nobody to hand connections to.
    #[error("a node needs at least one core")]
    NoCore,
    /// This node is not in the list of nodes.
    #[error("node {0} is not in the list of nodes: its own address, where it listens, belongs there too")]
    NotListed(NodeId),
    /// The name of the own address means nothing.
    #[error("cannot resolve {address}, where this node should listen: {source}")]
    Resolve {
        /// The address.
        address: PeerAddress,
        /// What the resolver says.
        source: io::Error,
    },
    /// Another process listens there.
    #[error("{0} is in use: stop the process that listens there (`ss -ltnp`), or choose another port")]
    AddressInUse(SocketAddr),
    /// The address belongs to another machine.
    #[error("{0} is no address of this machine: a node listens on its own address in the list of nodes")]
    NotLocal(SocketAddr),
    /// The port is reserved.
    #[error("not allowed to listen on {0}: ports below 1024 need CAP_NET_BIND_SERVICE, choose a higher one")]
    Forbidden(SocketAddr),
    /// Listening fails for another reason.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The system gives no thread, descriptor or `io_uring`.
    #[error("cannot start the network's control threads: {0}")]
    System(#[from] io::Error),
}

/// What the control threads share.
pub(crate) struct Control {
    pub(crate) options: FabricOptions,
    pub(crate) identity: Identity,
    pub(crate) links: Arc<Links>,
    pub(crate) report: Report,
    stopped: AtomicBool,
    /// How the first control thread that failed did so.
    failure: OnceLock<String>,
}

impl Control {
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Does the work of a control thread. How it failed is kept for whoever watches over the node.
    fn supervise(&self, thread: &str, work: impl FnOnce() -> io::Result<()>) {
        let message = match catch_unwind(AssertUnwindSafe(work)) {
            Ok(Ok(())) => return,
            Ok(Err(error)) => format!("the network's thread `{thread}` failed: {error}"),
            Err(_) => format!("the network's thread `{thread}` panicked"),
        };
        tracing::error!(
            message,
            "connections that stand go on, lost ones may not come back: restart the node"
        );
        // The first failure is the one to look at.
        let _ = self.failure.set(message);
    }
}

/// A thread that outlives this after a stop is in the resolver, holds nothing, and ends by itself.
const JOIN_TIMEOUT: Duration = Duration::from_secs(2);

/// The control threads of a node. Dropping it stops them; connections that stand are the cores'.
///
/// ```
/// use annulus_rings::{ClusterId, NodeId, Time};
/// use annulus_transport::{FabricOptions, Network, TcpFabric, TcpNetwork, TcpOptions};
///
/// let mut options = FabricOptions::new(ClusterId(7), NodeId(1));
/// options.nodes.insert(NodeId(1), "127.0.0.1:0".into());
/// options.nodes.insert(NodeId(2), "localhost:7102".into());
/// let (fabric, ports) = TcpFabric::start(options)?;
/// for port in ports {
///     // On the core's own thread:
///     let mut network = TcpNetwork::open(port, TcpOptions::default())?;
///     let mut received = Vec::new();
///     network.poll(Time(0), &mut received);
/// }
/// fabric.shutdown();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct TcpFabric {
    control: Arc<Control>,
    address: SocketAddr,
    acceptor: Waker,
    threads: Vec<JoinHandle<()>>,
}

impl TcpFabric {
    /// Listens on the node's own address and starts to connect. The ports are in the order of the cores.
    ///
    /// # Errors
    /// Any [`FabricError`].
    pub fn start(options: FabricOptions) -> Result<(TcpFabric, Vec<TcpPort>), FabricError> {
        let own = options.nodes.get(&options.node).ok_or(FabricError::NotListed(options.node))?;
        let listener = listen_at(own)?;
        TcpFabric::start_on(listener, options)
    }

    /// As [`start`](TcpFabric::start), on a listener that exists already: for a port that the system chose.
    ///
    /// # Errors
    /// Any [`FabricError`].
    pub fn start_on(
        listener: TcpListener,
        options: FabricOptions,
    ) -> Result<(TcpFabric, Vec<TcpPort>), FabricError> {
        if options.node == NodeId(0) || options.nodes.contains_key(&NodeId(0)) {
            return Err(FabricError::NodeZero);
        }
        if options.cores == 0 {
            return Err(FabricError::NoCore);
        }
        let address = listener.local_addr()?;
        let (control, ports) = control(options)?;
        let (acceptor, thread) = start_acceptor(&control, listener)?;
        let mut fabric = TcpFabric { control, address, acceptor, threads: vec![thread] };
        fabric.start_dialers()?;
        Ok((fabric, ports))
    }

    /// Where this node listens.
    pub fn local_address(&self) -> SocketAddr {
        self.address
    }

    /// How a control thread has failed, if one has. Connections that stand go on; those that are lost may
    /// never come back, so the node should be restarted.
    pub fn failure(&self) -> Option<&str> {
        self.control.failure.get().map(String::as_str)
    }

    /// Counts since the start.
    pub fn statistics(&self) -> FabricStatistics {
        self.control.report.statistics()
    }

    /// Every peer, ascending, and what stands between it and this node.
    pub fn peers(&self) -> Vec<PeerReport> {
        let Control { links, options, report, .. } = &*self.control;
        let report_of = |node: &NodeId| PeerReport {
            node: *node,
            cores_connected: (0..options.cores).filter(|core| links.is_up(*node, CoreId(*core))).count(),
            problem: report.problem(*node),
        };
        links.peers().iter().map(report_of).collect()
    }

    /// Stops listening and dialling, and waits for the threads.
    pub fn shutdown(mut self) {
        self.stop();
    }

    fn start_dialers(&mut self) -> io::Result<()> {
        let own = self.control.options.node;
        let dialled = self.control.options.nodes.range(NodeId(own.0.saturating_add(1))..);
        for (peer, address) in dialled.filter(|(peer, _)| **peer > own) {
            let dialer = Dialer::new(Arc::clone(&self.control), *peer, address.clone());
            let (control, name) = (Arc::clone(&self.control), format!("dial-{peer}"));
            let thread = thread::Builder::new().name(name.clone());
            let work = move || {
                dialer.run();
                Ok(())
            };
            self.threads.push(thread.spawn(move || control.supervise(&name, work))?);
        }
        Ok(())
    }

    fn stop(&mut self) {
        self.control.stopped.store(true, Ordering::Release);
        self.acceptor.notify();
        let deadline = Instant::now() + JOIN_TIMEOUT;
        for thread in self.threads.drain(..) {
            thread.thread().unpark();
            while !thread.is_finished() && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(1));
            }
            if thread.is_finished() {
                // How it failed, if it did, was told by `supervise`.
                let _ = thread.join();
            }
        }
    }
}

impl Drop for TcpFabric {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What the threads share, and the cores' ports.
fn control(options: FabricOptions) -> io::Result<(Arc<Control>, Vec<TcpPort>)> {
    let peers: Vec<NodeId> = options.nodes.keys().copied().filter(|node| *node != options.node).collect();
    let (links, ports) = Links::new(options.cluster, options.node, peers.clone(), options.cores);
    let identity = Identity {
        cluster: options.cluster,
        node: options.node,
        incarnation: options.incarnation,
        cores: options.cores,
        instance: handshake::draw_nonce()?,
        peers,
    };
    let (stopped, failure) = (AtomicBool::new(false), OnceLock::new());
    Ok((Arc::new(Control { options, identity, links, report: Report::default(), stopped, failure }), ports))
}

/// Starts the thread that listens, and waits until it does.
fn start_acceptor(control: &Arc<Control>, listener: TcpListener) -> io::Result<(Waker, JoinHandle<()>)> {
    let wake = Wake::new()?;
    let waker = wake.waker();
    let control = Arc::clone(control);
    let (started, outcome) = mpsc::sync_channel(1);
    // The io_uring belongs to the thread that makes it, so the thread reports whether it has one.
    let thread = thread::Builder::new().name("accept".into()).spawn(move || {
        match Acceptor::new(Arc::clone(&control), wake, listener) {
            Ok(acceptor) => {
                let _ = started.send(Ok(()));
                control.supervise("accept", || acceptor.run());
            }
            Err(error) => drop(started.send(Err(error))),
        }
    })?;
    outcome.recv().unwrap_or_else(|_| Err(io::Error::other("the acceptor's thread died")))?;
    Ok((waker, thread))
}

fn listen_at(own: &PeerAddress) -> Result<TcpListener, FabricError> {
    let addresses = own.resolve().map_err(|source| FabricError::Resolve { address: own.clone(), source })?;
    let address = addresses[0];
    listen(address).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => FabricError::AddressInUse(address),
        io::ErrorKind::AddrNotAvailable => FabricError::NotLocal(address),
        io::ErrorKind::PermissionDenied => FabricError::Forbidden(address),
        _ => FabricError::Listen { address, source },
    })
}

// Not under Miri: it has no sockets.
#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;
    use crate::tests::{fabric_options, listener};

    #[test]
    fn the_first_control_thread_that_fails_is_named() {
        let (listener, address) = listener();
        let (fabric, _ports) = TcpFabric::start_on(listener, fabric_options(1, &[address])).unwrap();
        fabric.control.supervise("dial-2", || Ok(()));
        assert_eq!(fabric.failure(), None);
        let control = Arc::clone(&fabric.control);
        thread::spawn(move || control.supervise("accept", || panic!("on purpose"))).join().unwrap();
        fabric.control.supervise("dial-3", || Err(io::ErrorKind::BrokenPipe.into()));
        assert_eq!(fabric.failure(), Some("the network's thread `accept` panicked"));
    }
}
