//! The network between simulated nodes: connections that keep their order and break, links that are cut.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::time::Duration;

use annulus_rings::{Frame, Incarnation, Kind, NodeId, Time};
use annulus_transport::{Network, NetworkStatistics, PeerState, PeerStatus, Received};

use super::clock::TrueTime;
use super::connections::Connections;
use super::fuse::Fuse;
use super::plan::{NetworkPlan, Plan};
use super::scene::Shared;
use super::wire::Damaged;
use crate::chaos::Random;

/// Frames that a cut or slow link holds; more are dropped, as a full socket does.
const HELD_MAX: usize = 512;
/// Frames of one poll.
const POLL_FRAMES_MAX: usize = 256;
/// How late a frame of a broken connection may be.
const STRAGGLER_DELAY_MAX: Duration = Duration::from_secs(5);

/// Every link. Clones are the same network.
#[derive(Clone)]
pub(super) struct Hub(Rc<RefCell<Links>>);

struct Links {
    scene: Shared,
    truth: TrueTime,
    streams: Streams,
    plan: NetworkPlan,
    by_ends: BTreeMap<(NodeId, NodeId), Link>,
    connections: Connections,
    /// Who has something to look at, and when.
    arrivals: Vec<(Time, NodeId)>,
}

/// Random numbers, apart for each class of accidents.
struct Streams {
    delays: Random,
    drops: Random,
    duplicates: Random,
    stragglers: Random,
    damages: Random,
}

/// A frame on a connection.
struct Flight {
    at: Time,
    frame: Frame,
    /// Its bytes, where they are not what was sent.
    damaged: Option<Damaged>,
}

/// One direction between two nodes.
#[derive(Default)]
struct Link {
    is_cut: bool,
    /// In order. What is behind a cut arrives never, unless it heals.
    flight: VecDeque<Flight>,
    /// Frames outside of the order: duplicates, and stragglers of old connections.
    strays: Vec<(Time, Frame)>,
}

impl Hub {
    pub(super) fn new(scene: &Shared, truth: &TrueTime, plan: &Plan) -> Hub {
        let streams = Streams {
            delays: plan.random("delays"),
            drops: plan.random("frames dropped"),
            duplicates: plan.random("frames duplicated"),
            stragglers: plan.random("frames of old connections"),
            damages: plan.random("frames damaged"),
        };
        Hub(Rc::new(RefCell::new(Links {
            scene: scene.clone(),
            truth: truth.clone(),
            streams,
            plan: plan.network.clone(),
            by_ends: BTreeMap::new(),
            connections: Connections::default(),
            arrivals: Vec::new(),
        })))
    }

    /// The connections of a process that starts on this life of its node's disk, the how manyth disk it may be.
    pub(super) fn join(
        &self,
        (node, incarnation, disks): (NodeId, Incarnation, u32),
        nodes: &[NodeId],
        fuse: &Fuse,
    ) -> SimulatedNetwork {
        self.0.borrow_mut().join(node, incarnation, disks);
        let disconnected = |node: &NodeId| PeerState {
            node: *node,
            status: PeerStatus::Disconnected,
            round_trip: None,
            connections: 0,
        };
        let peers = nodes.iter().filter(|peer| **peer != node).map(disconnected).collect();
        SimulatedNetwork { node, hub: self.clone(), fuse: fuse.clone(), peers }
    }

    /// Another plan from now on.
    pub(super) fn replan(&self, plan: NetworkPlan) {
        self.0.borrow_mut().plan = plan;
    }

    /// Who was sent something since the last call, and when it arrives.
    pub(super) fn arrivals(&self) -> Vec<(Time, NodeId)> {
        std::mem::take(&mut self.0.borrow_mut().arrivals)
    }

    /// Cuts or heals one direction.
    pub(super) fn cut(&self, from: NodeId, to: NodeId, is_cut: bool) {
        let mut links = self.0.borrow_mut();
        if links.link(from, to).is_cut == is_cut {
            return;
        }
        links.link(from, to).is_cut = is_cut;
        if is_cut {
            links.link(from, to).flight.iter_mut().for_each(|flight| flight.at = Time::NEVER);
        } else if links.streams.stragglers.permille(500) {
            links.lose(from, to);
        } else {
            links.resume(from, to);
        }
    }

    /// Breaks the connection of two nodes: what is in flight is lost, but for stragglers.
    pub(super) fn reset(&self, a: NodeId, b: NodeId) {
        let mut links = self.0.borrow_mut();
        links.lose(a, b);
        links.lose(b, a);
        links.renew(a, b);
    }

    /// A process ends: nothing more reaches it; what it sent goes on, or breaks off.
    pub(super) fn leave(&self, node: NodeId, nodes: &[NodeId]) {
        let mut links = self.0.borrow_mut();
        for &peer in nodes.iter().filter(|peer| **peer != node) {
            *links.link(peer, node) = Link { is_cut: links.link(peer, node).is_cut, ..Link::default() };
            if links.streams.stragglers.permille(500) {
                links.lose(node, peer);
            }
        }
    }
}

impl Links {
    fn link(&mut self, from: NodeId, to: NodeId) -> &mut Link {
        self.by_ends.entry((from, to)).or_default()
    }

    fn join(&mut self, node: NodeId, incarnation: Incarnation, disks: u32) {
        let is_other_disk = self.connections.join(node, incarnation, disks);
        for (ends, link) in &mut self.by_ends {
            // A frame is never delivered as coming from another disk than the one that it came from.
            if is_other_disk && ends.0 == node {
                *link = Link { is_cut: link.is_cut, ..Link::default() };
            }
        }
        for peer in self.connections.peers_up(node) {
            self.connected(node, peer);
        }
    }

    /// Another connection of two nodes takes the place of the one that broke.
    fn renew(&mut self, a: NodeId, b: NodeId) {
        self.connections.renew(a, b);
        self.connected(a, b);
    }

    /// What is bound to a connection ends with it; and both ends notice the next one. Other frames may be
    /// late: that is more than a network does that keeps its word, and must harm nobody.
    fn connected(&mut self, a: NodeId, b: NodeId) {
        for (from, to) in [(a, b), (b, a)] {
            self.link(from, to).flight.retain(|flight| flight.frame.kind() != Kind::Announce);
            let now = self.truth.now();
            self.arrives(to, now);
        }
    }

    fn leave(&mut self, node: NodeId) {
        self.connections.leave(node);
        let now = self.truth.now();
        for peer in self.connections.peers_up(node) {
            self.arrives(peer, now);
        }
    }

    fn delay(&mut self) -> Duration {
        self.streams.delays.duration(self.plan.delay_max)
    }

    fn count(&self, class: &'static str) {
        *self.scene.borrow_mut().faults.entry(class).or_default() += 1;
    }

    fn send(&mut self, from: NodeId, to: NodeId, frame: Frame) {
        let is_dropped = self.streams.drops.permille(self.plan.drop_permille);
        let is_duplicated = self.streams.duplicates.permille(self.plan.duplicate_permille);
        let damaged = self.damage(&frame);
        let delay = self.delay();
        let lost = is_dropped || self.link(from, to).flight.len() >= HELD_MAX;
        self.scene.borrow_mut().sent(from, to, &frame, lost);
        if lost {
            return self.count("frames dropped");
        }
        if is_duplicated {
            self.count("frames duplicated");
            self.stray(from, to, delay * 4, frame.clone());
        }
        let at = self.truth.now() + delay;
        let link = self.link(from, to);
        let at = if link.is_cut { Time::NEVER } else { at };
        let at = link.flight.back().map_or(at, |before| at.max(before.at));
        link.flight.push_back(Flight { at, frame, damaged });
        self.arrives(to, at);
    }

    /// What becomes of a frame's bytes, when it is not what was sent.
    fn damage(&mut self, frame: &Frame) -> Option<Damaged> {
        let random = &mut self.streams.damages;
        let (is_flipped, is_cut) =
            (random.permille(self.plan.corrupt_permille), random.permille(self.plan.truncate_permille));
        if is_flipped {
            Some(Damaged::flipped(frame, random))
        } else {
            is_cut.then(|| Damaged::cut(frame, random))
        }
    }

    fn stray(&mut self, from: NodeId, to: NodeId, delay: Duration, frame: Frame) {
        if frame.kind() == Kind::Announce {
            return; // It means something on its connection only, and there in its place only.
        }
        let at = self.truth.now() + delay;
        self.link(from, to).strays.push((at, frame));
        self.arrives(to, at);
    }

    fn arrives(&mut self, to: NodeId, at: Time) {
        if at < Time::NEVER {
            self.arrivals.push((at, to));
        }
    }

    fn lose(&mut self, from: NodeId, to: NodeId) {
        let flights = std::mem::take(&mut self.link(from, to).flight);
        for flight in flights.into_iter().filter(|flight| flight.damaged.is_none()) {
            if self.streams.stragglers.permille(self.plan.straggler_permille) {
                self.count("frames of old connections");
                let delay = self.streams.stragglers.duration(STRAGGLER_DELAY_MAX);
                self.stray(from, to, delay, flight.frame);
            }
        }
    }

    /// A healed link delivers what it held, in order.
    fn resume(&mut self, from: NodeId, to: NodeId) {
        let at = self.truth.now() + self.delay();
        let flight = &mut self.link(from, to).flight;
        for held in flight.iter_mut() {
            held.at = at;
        }
        if !flight.is_empty() {
            self.arrives(to, at);
        }
    }

    fn receive(&mut self, to: NodeId, at: Time, received: &mut Vec<Received>) -> usize {
        let now = self.truth.now();
        let before = received.len();
        let mut broken = Vec::new();
        let from_any = self.by_ends.iter_mut().filter(|((_, receiver), _)| *receiver == to);
        for (&(from, _), link) in from_any {
            for (_, frame) in link.strays.extract_if(.., |(due, _)| *due <= now) {
                self.scene.borrow_mut().delivered(to, &frame);
                received.push(Received { from, frame, at });
            }
            while received.len() - before < POLL_FRAMES_MAX
                && let Some(flight) = link.flight.pop_front_if(|flight| flight.at <= now)
            {
                if let Some(damaged) = flight.damaged {
                    broken.push((from, damaged));
                    break;
                }
                self.scene.borrow_mut().delivered(to, &flight.frame);
                received.push(Received { from, frame: flight.frame, at });
            }
        }
        for (from, damaged) in broken {
            self.break_off(from, to, &damaged);
        }
        received.len() - before
    }

    /// Damaged bytes have arrived: the receiver must notice, and then breaks the connection.
    fn break_off(&mut self, from: NodeId, to: NodeId, damaged: &Damaged) {
        let behind = self.link(from, to).flight.iter().filter(|flight| flight.damaged.is_none());
        let verdict = damaged.arrive(behind.map(|flight| &flight.frame));
        self.scene.borrow_mut().judge(verdict);
        let class = damaged.class();
        self.scene
            .borrow_mut()
            .fault(class, || format!("{class} from {from:?} to {to:?}: connection broken"));
        self.lose(from, to);
        self.lose(to, from);
        self.renew(from, to);
    }
}

/// The connections of one node.
pub(super) struct SimulatedNetwork {
    node: NodeId,
    hub: Hub,
    fuse: Fuse,
    peers: Vec<PeerState>,
}

impl Drop for SimulatedNetwork {
    fn drop(&mut self) {
        self.hub.0.borrow_mut().leave(self.node);
    }
}

impl Network for SimulatedNetwork {
    fn send(&mut self, to: NodeId, frame: Frame) {
        if self.fuse.output() {
            self.hub.0.borrow_mut().send(self.node, to, frame);
        }
    }

    fn poll(&mut self, now: Time, received: &mut Vec<Received>) -> usize {
        let mut links = self.hub.0.borrow_mut();
        links.connections.look(self.node, now, &mut self.peers);
        links.receive(self.node, now, received)
    }

    fn flush(&mut self, _now: Time) {}

    fn prepare_park(&mut self) -> bool {
        false
    }

    fn deadline(&self) -> Time {
        Time::NEVER
    }

    fn register_wake(&mut self, _eventfd: RawFd) -> io::Result<()> {
        Ok(())
    }

    fn statistics(&self) -> NetworkStatistics {
        NetworkStatistics::default()
    }

    fn peers(&self) -> &[PeerState] {
        &self.peers
    }
}
