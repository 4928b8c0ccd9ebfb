//! The network of cores in one process: frames change threads, and their bytes are shared.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::RawFd;
use std::sync::{Arc, PoisonError};

use annulus_rings::frame::FRAME_BYTES_MAX;
use annulus_rings::{CoreId, Frame, Incarnation, NodeId, Time};

use crate::network::{Network, NetworkStatistics, PeerState, PeerStatus, Received};
use crate::sync::channel::{Receiver, Sender, TryRecvError, TrySendError, bounded};
use crate::sync::{AtomicU64, AtomicUsize, Mutex, MutexGuard, Ordering};
use crate::wake::Doorbell;

/// How a hub behaves.
#[derive(Clone, Debug)]
pub struct LoopbackOptions {
    /// Frames that may wait between two cores, each way.
    pub queue_frames_max: usize,
    /// Bytes that may wait between two cores, each way.
    pub queue_bytes_max: usize,
}

impl Default for LoopbackOptions {
    fn default() -> LoopbackOptions {
        LoopbackOptions { queue_frames_max: 8192, queue_bytes_max: 8 * FRAME_BYTES_MAX }
    }
}

/// Where the cores of one process meet. Clones are the same hub.
///
/// ```
/// use annulus_rings::{CoreId, Incarnation, NodeId, Time};
/// use annulus_transport::{LoopbackHub, LoopbackOptions, Network};
///
/// let hub = LoopbackHub::new(LoopbackOptions::default());
/// let nodes = [NodeId(1), NodeId(2)];
/// let mut one = hub.join(NodeId(1), CoreId(0), Incarnation(1), &nodes)?;
/// let two = hub.join(NodeId(2), CoreId(0), Incarnation(1), &nodes)?;
/// one.poll(Time(0), &mut Vec::new());
/// assert!(one.peers()[0].is_connected());
/// # Ok::<(), annulus_transport::JoinError>(())
/// ```
#[derive(Clone)]
pub struct LoopbackHub(Arc<Hub>);

struct Hub {
    options: LoopbackOptions,
    places: Mutex<BTreeMap<(NodeId, CoreId), Arc<Place>>>,
    /// Raised whenever somebody joins or leaves, so that cores look again.
    generation: AtomicU64,
    visits: AtomicU64,
}

/// A core that has joined.
struct Place {
    /// Numbers the joinings: frames of an earlier one are not delivered.
    visit: u64,
    incarnation: Incarnation,
    pipes: BTreeMap<NodeId, Pipe>,
    bell: Doorbell,
}

/// The frames from one peer that wait at a place.
struct Pipe {
    sender: Sender<(u64, Frame)>,
    bytes: Arc<AtomicUsize>,
}

/// Why a core cannot join.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum JoinError {
    /// The same core of the same node is there already.
    #[error("core {core} of node {node} has joined already: node ids are unique, and a node starts once")]
    Duplicate {
        /// The node.
        node: NodeId,
        /// The core.
        core: CoreId,
    },
}

/// The network of one core by way of a hub.
pub struct LoopbackNetwork {
    hub: LoopbackHub,
    node: NodeId,
    core: CoreId,
    place: Arc<Place>,
    generation: u64,
    /// Ascending by node, parallel to `links`.
    peers: Vec<PeerState>,
    links: Vec<Link>,
    statistics: NetworkStatistics,
}

/// A peer, as this core reaches it.
struct Link {
    incoming: Receiver<(u64, Frame)>,
    incoming_bytes: Arc<AtomicUsize>,
    outgoing: Option<Arc<Place>>,
    /// Something went out since the last flush.
    rings: bool,
}

/// Frames taken from one peer in one turn.
const TURN_FRAMES_MAX: usize = 4096;

impl LoopbackHub {
    /// A hub where nobody has joined.
    pub fn new(options: LoopbackOptions) -> LoopbackHub {
        LoopbackHub(Arc::new(Hub {
            options,
            places: Mutex::new(BTreeMap::new()),
            generation: AtomicU64::new(0),
            visits: AtomicU64::new(0),
        }))
    }

    /// Joins as a core of a node that talks to `peers`.
    ///
    /// # Errors
    /// [`JoinError::Duplicate`] while the same core of the same node has joined.
    pub fn join(
        &self,
        node: NodeId,
        core: CoreId,
        incarnation: Incarnation,
        peers: &[NodeId],
    ) -> Result<LoopbackNetwork, JoinError> {
        let mut nodes: Vec<NodeId> = peers.iter().copied().filter(|peer| *peer != node).collect();
        nodes.sort_unstable();
        nodes.dedup();
        let (pipes, links) = nodes.iter().map(|peer| self.pipe(*peer)).unzip();
        let visit = self.0.visits.fetch_add(1, Ordering::Relaxed) + 1;
        let place = Arc::new(Place { visit, incarnation, pipes, bell: Doorbell::new() });
        let mut places = self.places();
        if places.contains_key(&(node, core)) {
            return Err(JoinError::Duplicate { node, core });
        }
        places.insert((node, core), Arc::clone(&place));
        self.changed(&places, core);
        drop(places);
        Ok(LoopbackNetwork {
            hub: self.clone(),
            node,
            core,
            place,
            generation: 0,
            peers: nodes.into_iter().map(PeerState::disconnected).collect(),
            links,
            statistics: NetworkStatistics::default(),
        })
    }

    fn pipe(&self, peer: NodeId) -> ((NodeId, Pipe), Link) {
        let (sender, incoming) = bounded(self.0.options.queue_frames_max);
        let bytes = Arc::new(AtomicUsize::new(0));
        let pipe = Pipe { sender, bytes: Arc::clone(&bytes) };
        ((peer, pipe), Link { incoming, incoming_bytes: bytes, outgoing: None, rings: false })
    }

    /// Tells every node's same core that somebody came or left.
    fn changed(&self, places: &BTreeMap<(NodeId, CoreId), Arc<Place>>, core: CoreId) {
        self.0.generation.fetch_add(1, Ordering::Release);
        for (_, place) in places.iter().filter(|((_, other), _)| *other == core) {
            place.bell.ring();
        }
    }

    fn places(&self) -> MutexGuard<'_, BTreeMap<(NodeId, CoreId), Arc<Place>>> {
        // The map is changed by single insertions and removals, so a panic leaves it whole.
        self.0.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LoopbackNetwork {
    /// Looks who is there. The lock is taken only after somebody joined or left.
    fn look(&mut self, now: Time) {
        let generation = self.hub.0.generation.load(Ordering::Acquire);
        if generation == self.generation {
            return;
        }
        self.generation = generation;
        let places = self.hub.places();
        for (peer, link) in self.peers.iter_mut().zip(&mut self.links) {
            let place =
                places.get(&(peer.node, self.core)).filter(|place| place.pipes.contains_key(&self.node));
            let visit = |place: &Arc<Place>| place.visit;
            if place.map(visit) == link.outgoing.as_ref().map(visit) {
                continue;
            }
            match (&link.outgoing, place) {
                (Some(_), Some(_)) => self.statistics.replaced += 1,
                (Some(_), None) => self.statistics.closed += 1,
                _ => {}
            }
            link.outgoing = place.cloned();
            peer.status = match place {
                None => PeerStatus::Disconnected,
                Some(place) => PeerStatus::Connected { incarnation: place.incarnation, since: now },
            };
            let new = u64::from(place.is_some());
            peer.connections += new;
            self.statistics.connections += new;
        }
    }

    /// Takes what waits from one peer.
    fn read(&mut self, index: usize, now: Time, received: &mut Vec<Received>) {
        let link = &self.links[index];
        let visit = link.outgoing.as_ref().map(|place| place.visit);
        for _ in 0..TURN_FRAMES_MAX {
            let (from_visit, frame) = match link.incoming.try_recv() {
                Ok(item) => item,
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            };
            link.incoming_bytes.fetch_sub(frame.len(), Ordering::Relaxed);
            // A frame that an earlier life of the peer left behind is not delivered.
            if Some(from_visit) != visit {
                self.statistics.dropped_with_connection += 1;
                continue;
            }
            self.statistics.frames_received += 1;
            self.statistics.bytes_received += frame.len() as u64;
            received.push(Received { from: self.peers[index].node, frame, at: now });
        }
    }
}

impl Network for LoopbackNetwork {
    fn send(&mut self, to: NodeId, frame: Frame) {
        let index = self.peers.binary_search_by_key(&to, |peer| peer.node);
        let link = index.ok().map(|index| &mut self.links[index]);
        let Some((place, rings)) = link.and_then(|link| Some((link.outgoing.as_ref()?, &mut link.rings)))
        else {
            self.statistics.dropped_unconnected += 1;
            return;
        };
        let pipe = &place.pipes[&self.node];
        let bytes = frame.len();
        // Only this core adds, so the sum can only fall between the two lines.
        let waiting_bytes = pipe.bytes.load(Ordering::Relaxed);
        if waiting_bytes > 0 && waiting_bytes + bytes > self.hub.0.options.queue_bytes_max {
            self.statistics.dropped_full += 1;
            return;
        }
        pipe.bytes.fetch_add(bytes, Ordering::Relaxed);
        match pipe.sender.try_send((self.place.visit, frame)) {
            Ok(()) => {
                *rings = true;
                self.statistics.frames_sent += 1;
                self.statistics.bytes_sent += bytes as u64;
            }
            Err(error) => {
                pipe.bytes.fetch_sub(bytes, Ordering::Relaxed);
                match error {
                    TrySendError::Full(_) => self.statistics.dropped_full += 1,
                    TrySendError::Disconnected(_) => self.statistics.dropped_unconnected += 1,
                }
            }
        }
    }

    fn poll(&mut self, now: Time, received: &mut Vec<Received>) -> usize {
        let before = received.len();
        self.place.bell.disarm();
        self.look(now);
        for index in 0..self.links.len() {
            self.read(index, now, received);
        }
        received.len() - before
    }

    fn flush(&mut self, _now: Time) {
        for link in &mut self.links {
            if std::mem::take(&mut link.rings)
                && let Some(place) = &link.outgoing
            {
                self.statistics.writes += 1;
                place.bell.ring();
            }
        }
    }

    fn prepare_park(&mut self) -> bool {
        self.place.bell.arm();
        let changed = self.hub.0.generation.load(Ordering::Acquire) != self.generation;
        changed || self.links.iter().any(|link| !link.incoming.is_empty() || link.rings)
    }

    fn deadline(&self) -> Time {
        Time::NEVER
    }

    fn register_wake(&mut self, eventfd: RawFd) -> io::Result<()> {
        self.place.bell.connect(eventfd)
    }

    fn statistics(&self) -> NetworkStatistics {
        self.statistics
    }

    fn peers(&self) -> &[PeerState] {
        &self.peers
    }
}

impl Drop for LoopbackNetwork {
    fn drop(&mut self) {
        let mut places = self.hub.places();
        places.remove(&(self.node, self.core));
        self.hub.changed(&places, self.core);
    }
}
