//! Who is connected, as the cores and the control threads share it: a few words per peer and core.
//!
//! A control thread numbers each connection and hands it to its core; the core says when that number is
//! lost. Nothing here blocks a core: the table is atomic, the hand-over a bounded channel.

use std::sync::Arc;

use annulus_rings::{ClusterId, CoreId, NodeId};

use crate::connection::Established;
use crate::sync::channel::{Receiver, Sender, bounded};
use crate::sync::thread::{self, Thread};
use crate::sync::{AtomicU64, OnceLock, Ordering};
use crate::wake::Doorbell;

/// Connections that wait for a core to take them. A core that takes none is stalled: the rest are refused.
const HAND_OVERS_MAX: usize = 64;

/// The connections of a node, by peer and core.
pub(crate) struct Links {
    peers: Vec<NodeId>,
    cores: usize,
    cells: Vec<Cell>,
    dialers: Vec<OnceLock<Thread>>,
    serials: AtomicU64,
    ports: Vec<CorePort>,
}

/// The connection of one peer and core. It is up while its newest connection is not lost.
#[derive(Default)]
struct Cell {
    serial: AtomicU64,
    lost: AtomicU64,
    /// Which process is at the other end.
    instance: AtomicU64,
}

/// The control threads' end of a hand-over.
struct CorePort {
    established: Sender<Established>,
    bell: Arc<Doorbell>,
}

/// A core's end of the fabric. It travels to the core's thread and becomes a
/// [`TcpNetwork`](crate::TcpNetwork) there.
pub struct TcpPort {
    pub(crate) cluster: ClusterId,
    pub(crate) node: NodeId,
    pub(crate) core: CoreId,
    pub(crate) established: Receiver<Established>,
    pub(crate) bell: Arc<Doorbell>,
    pub(crate) links: Arc<Links>,
}

impl TcpPort {
    /// The core that this port belongs to.
    pub fn core(&self) -> CoreId {
        self.core
    }
}

impl Links {
    /// The table of a node with these peers, and the port of each core.
    pub(crate) fn new(
        cluster: ClusterId,
        node: NodeId,
        peers: Vec<NodeId>,
        cores: u16,
    ) -> (Arc<Links>, Vec<TcpPort>) {
        let cells = peers.len() * usize::from(cores);
        let (receivers, ports): (Vec<_>, Vec<_>) = (0..cores)
            .map(|_| {
                let (sender, receiver) = bounded(HAND_OVERS_MAX);
                (receiver, CorePort { established: sender, bell: Arc::new(Doorbell::new()) })
            })
            .unzip();
        let links = Arc::new(Links {
            dialers: peers.iter().map(|_| OnceLock::new()).collect(),
            cells: (0..cells).map(|_| Cell::default()).collect(),
            peers,
            cores: cores.into(),
            serials: AtomicU64::new(0),
            ports,
        });
        let ports = receivers.into_iter().zip(0..).map(|(established, core)| TcpPort {
            cluster,
            node,
            core: CoreId(core),
            established,
            bell: Arc::clone(&links.ports[usize::from(core)].bell),
            links: Arc::clone(&links),
        });
        let ports = ports.collect();
        (links, ports)
    }

    /// Every peer, ascending.
    pub(crate) fn peers(&self) -> &[NodeId] {
        &self.peers
    }

    /// Whether a connection stands, as far as its core has said.
    pub(crate) fn is_up(&self, peer: NodeId, core: CoreId) -> bool {
        self.cell(peer, core).is_some_and(Cell::is_up)
    }

    /// Whether a connection stands to another process than `instance`.
    pub(crate) fn is_held_by_another(&self, peer: NodeId, core: CoreId, instance: u64) -> bool {
        self.cell(peer, core)
            .is_some_and(|cell| cell.is_up() && cell.instance.load(Ordering::Acquire) != instance)
    }

    /// Numbers the connection that `fill` makes and gives it to its core; false when the core takes no more.
    pub(crate) fn hand_over(
        &self,
        core: CoreId,
        instance: u64,
        fill: impl FnOnce(u64) -> Established,
    ) -> bool {
        let serial = self.serials.fetch_add(1, Ordering::Relaxed) + 1;
        let established = fill(serial);
        let peer = established.peer;
        let (Some(cell), Some(port)) = (self.cell(peer, core), self.ports.get(usize::from(core.0))) else {
            return false;
        };
        if port.established.try_send(established).is_err() {
            return false;
        }
        // The core may have lost it already: the larger of the two numbers still tells.
        cell.instance.store(instance, Ordering::Release);
        cell.serial.store(serial, Ordering::Release);
        port.bell.ring();
        true
    }

    /// A core's connection is gone; whoever dials that peer goes to work.
    pub(crate) fn lost(&self, peer: NodeId, core: CoreId, serial: u64) {
        if let Some(cell) = self.cell(peer, core) {
            cell.lost.fetch_max(serial, Ordering::AcqRel);
        }
        if let Some(dialer) = self.index(peer).and_then(|index| self.dialers[index].get()) {
            dialer.unpark();
        }
    }

    /// The thread that calls this dials `peer` and is unparked when a connection is lost.
    pub(crate) fn dial_here(&self, peer: NodeId) {
        if let Some(index) = self.index(peer) {
            self.dialers[index].get_or_init(thread::current);
        }
    }

    fn index(&self, peer: NodeId) -> Option<usize> {
        self.peers.binary_search(&peer).ok()
    }

    fn cell(&self, peer: NodeId, core: CoreId) -> Option<&Cell> {
        let core = usize::from(core.0);
        let index = self.index(peer).filter(|_| core < self.cores)?;
        self.cells.get(index * self.cores + core)
    }
}

impl Cell {
    fn is_up(&self) -> bool {
        self.lost.load(Ordering::Acquire) < self.serial.load(Ordering::Acquire)
    }
}
