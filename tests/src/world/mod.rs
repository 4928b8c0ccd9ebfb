//! A cluster of pure rings: network, disks and time are in the test's hands.
//!
//! Nothing happens by itself. A frame that a ring sends waits in flight until the test delivers it, a
//! record waits in the journal until the test makes it durable, and time stands still until it is moved.
//! Every happening goes past the [`Oracle`], which sees all replicas and panics at the first disagreement.

mod disk;
mod happening;
mod node;
mod oracle;
mod snapshots;
mod state;

use std::collections::BTreeSet;
use std::time::Duration;

use annulus_rings::{Event, Frame, Input, NodeId, Progress, Role, Slot, Time};

pub(crate) use happening::tell_role;
pub use happening::{Happening, tell};
pub use node::Node;
pub(crate) use node::read_back;
pub use oracle::{Oracle, Violation};
pub use snapshots::Wish;
pub use state::{SnapshotStage, State};

/// How the rings of a world are set up.
#[derive(Clone, Copy, Debug)]
pub struct WorldOptions {
    /// Nodes, numbered from 1.
    pub nodes: u16,
    /// α of every ring.
    pub window_slots: u32,
    /// The shortest election timeout.
    pub election_timeout: Duration,
    /// The interval of heartbeats.
    pub heartbeat_interval: Duration,
    /// The interval of resends.
    pub resend_interval: Duration,
    /// Bytes of chosen slots that a ring keeps in memory.
    pub retain_bytes: usize,
    /// The seed of election timeouts.
    pub seed: u64,
}

impl Default for WorldOptions {
    fn default() -> WorldOptions {
        WorldOptions {
            nodes: 3,
            window_slots: 8,
            election_timeout: Duration::from_millis(100),
            heartbeat_interval: Duration::from_millis(20),
            resend_interval: Duration::from_millis(40),
            retain_bytes: 1 << 20,
            seed: 1,
        }
    }
}

/// A frame between two nodes.
#[derive(Clone, Debug)]
pub struct Envelope {
    /// Who sent it.
    pub from: NodeId,
    /// Who is to receive it.
    pub to: NodeId,
    /// What it says.
    pub frame: Frame,
}

/// A replica's wish to read chosen slots back from its journal.
#[derive(Clone, Copy, Debug)]
pub struct Retrieval {
    /// The replica whose journal is read.
    pub node: NodeId,
    /// The peer that asked.
    pub to: NodeId,
    /// First slot.
    pub from: Slot,
    /// First slot not asked for.
    pub upto: Slot,
}

/// The cluster.
pub struct World {
    /// Frames that were sent and neither delivered nor dropped, in the order they were sent.
    pub flight: Vec<Envelope>,
    /// Reads that were asked for and not answered.
    pub retrievals: Vec<Retrieval>,
    /// Peers' snapshots that replicas were told of and have not asked for.
    pub wishes: Vec<Wish>,
    /// Everything that happened since the test last took it.
    pub happenings: Vec<Happening>,
    nodes: Vec<Node>,
    cuts: BTreeSet<(NodeId, NodeId)>,
    oracle: Oracle,
    now: Time,
}

impl World {
    /// A world whose nodes all start, at time zero, with empty journals.
    pub fn new(options: WorldOptions) -> World {
        let mut world = World {
            flight: Vec::new(),
            retrievals: Vec::new(),
            wishes: Vec::new(),
            happenings: Vec::new(),
            nodes: (1..=options.nodes).map(|id| Node::new(NodeId(id), options)).collect(),
            cuts: BTreeSet::new(),
            oracle: Oracle::new(usize::from(options.nodes), options.window_slots),
            now: Time(0),
        };
        for id in world.ids() {
            world.start(id);
        }
        world
    }

    /// The time.
    pub fn now(&self) -> Time {
        self.now
    }

    /// Moves the time; it never goes back. Nobody is told: see [`tick`](Self::tick).
    pub fn advance_to(&mut self, time: Time) {
        self.now = self.now.max(time);
    }

    /// Every node, in order.
    pub fn ids(&self) -> Vec<NodeId> {
        self.nodes.iter().map(Node::id).collect()
    }

    /// A node.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[usize::from(id.0) - 1]
    }

    /// What the oracle has seen.
    pub fn oracle(&self) -> &Oracle {
        &self.oracle
    }

    /// The node that leads in the highest ballot, if any.
    pub fn leader(&self) -> Option<NodeId> {
        let leads = |node: &&Node| node.role() == Some(Role::Leader);
        self.nodes.iter().filter(leads).max_by_key(|node| node.ballot()).map(Node::id)
    }

    /// The earliest deadline of the nodes that are up.
    pub fn deadline(&self) -> Time {
        self.nodes.iter().map(Node::deadline).min().unwrap_or(Time::NEVER)
    }

    /// Tells a node that its deadline may have passed.
    pub fn tick(&mut self, id: NodeId) {
        self.step(id, Input::Tick);
    }

    /// Hands a batch of commands to a node; false when it is down or cannot propose.
    pub fn propose(&mut self, id: NodeId, commands: &[&str]) -> bool {
        let now = self.now;
        let Some(batch) = self.node_mut(id).batch(commands, now) else {
            return false;
        };
        self.step(id, Input::Propose(batch));
        true
    }

    /// Makes the next `records` records of a node's journal durable and tells its ring.
    pub fn persist(&mut self, id: NodeId, records: usize) {
        let first = self.node(id).durable();
        let Some(lsn) = self.node_mut(id).persist(records) else {
            return;
        };
        for (number, frame) in self.node(id).records(first) {
            self.observe(Happening::Durable { node: id, lsn: number, frame });
        }
        self.step(id, Input::Persisted(lsn));
    }

    /// Gives a frame to its receiver, unless that is down.
    pub fn deliver(&mut self, envelope: Envelope) {
        self.step(envelope.to, Input::Frame(envelope.frame));
    }

    /// Answers a read from the journal of the node that asked for it.
    pub fn retrieve(&mut self, retrieval: Retrieval) {
        let Retrieval { node, to, from, upto } = retrieval;
        let frames = self.node(node).retrieve(from, upto);
        self.step(node, Input::Retrieved { to, from, frames });
    }

    /// Stops a node at once. Of the records that were written and not reported durable, the first
    /// `survivors` are on its disk all the same; the rest are lost.
    pub fn crash(&mut self, id: NodeId, survivors: usize) {
        if !self.node(id).is_up() {
            return;
        }
        let first = self.node(id).durable();
        self.node_mut(id).crash(survivors);
        self.retrievals.retain(|retrieval| retrieval.node != id);
        self.wishes.retain(|wish| wish.node != id);
        self.observe(Happening::Crashed { node: id, survivors: self.node(id).durable() - first });
        for (lsn, frame) in self.node(id).records(first) {
            self.observe(Happening::Durable { node: id, lsn, frame });
        }
    }

    /// Starts a node that is down, from its newest snapshot and exactly the records that survived.
    pub fn start(&mut self, id: NodeId) {
        self.start_from(id, false);
    }

    /// Starts a node that is down; from the snapshot before the newest if that is `rotten`, unless its ring sees
    /// that the journal does not reach back to that one.
    pub fn start_from(&mut self, id: NodeId, rotten: bool) {
        if self.node(id).is_up() {
            return;
        }
        let now = self.now;
        let base = match self.node_mut(id).start(now, rotten) {
            Ok(base) => base,
            Err(base) => {
                self.observe(Happening::Refused { node: id, base });
                let newest = self.node_mut(id).start(now, false);
                newest.expect("a node can start from its newest snapshot")
            }
        };
        self.observe(Happening::Started { node: id, records: self.node(id).kept(), base });
        let node = &self.nodes[usize::from(id.0) - 1];
        let (promised, state) = node.ballot().zip(node.state()).expect("the node has started");
        let kept = node.ring().expect("the node has started").kept();
        let taught = node.retrieve(kept, state.slot);
        self.perform(id, usize::MAX);
        judge(self.oracle.recovered(id, promised, state));
        judge(self.oracle.gives_back(id, kept, state.slot, &taught));
    }

    /// Makes one step and stops the node after the first `transmits` frames that it sends in it.
    pub fn step_and_crash(&mut self, id: NodeId, input: Input, transmits: usize, survivors: usize) {
        let now = self.now;
        if self.node(id).is_up() && self.node_mut(id).step(now, input).is_ok() {
            self.perform(id, transmits);
        }
        self.crash(id, survivors);
    }

    /// Cuts the link from one node to another: what is sent on it from now on is lost.
    pub fn cut(&mut self, from: NodeId, to: NodeId) {
        self.cuts.insert((from, to));
    }

    /// Mends every link.
    pub fn heal(&mut self) {
        self.cuts.clear();
    }

    /// Makes one step of a node that is up.
    pub fn step(&mut self, id: NodeId, input: Input) {
        let now = self.now;
        if !self.node(id).is_up() {
            return;
        }
        if let Err(why) = self.node_mut(id).step(now, input) {
            self.observe(Happening::Ignored { node: id, why });
        }
        self.perform(id, usize::MAX);
    }

    fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[usize::from(id.0) - 1]
    }

    /// Carries out what a node's outbox holds, as its core would: records to the journal, the first
    /// `transmits` frames to the network, chosen batches to the state machine.
    fn perform(&mut self, id: NodeId, transmits: usize) {
        let effects = self.node_mut(id).take_effects();
        let is_role = |event: &Event| matches!(event, Event::RoleChanged { .. });
        let (roles, events): (Vec<_>, Vec<_>) = effects.events.into_iter().partition(is_role);
        for role in roles {
            self.report(id, role);
        }
        for append in effects.appends {
            self.observe(Happening::Appended { node: id, lsn: append.lsn, frame: append.frame });
        }
        for transmit in effects.transmits.into_iter().take(transmits) {
            self.send(Envelope { from: id, to: transmit.to, frame: transmit.frame });
        }
        for event in events {
            self.report(id, event);
        }
        judge(self.oracle.watermarks(id, self.nodes[usize::from(id.0) - 1].progress()));
    }

    fn send(&mut self, envelope: Envelope) {
        let Envelope { from, to, ref frame } = envelope;
        let lost = self.cuts.contains(&(from, to));
        self.observe(Happening::Sent { from, to, frame: frame.clone(), lost });
        if !lost {
            self.flight.push(envelope);
        }
    }

    fn report(&mut self, node: NodeId, event: Event) {
        match event {
            Event::Chosen { slot, frame, .. } => {
                self.observe(Happening::Chosen { node, slot, frame: frame.clone() });
                self.execute(node, slot, &frame);
            }
            Event::RoleChanged { role, ballot, .. } => {
                self.observe(Happening::Role { node, role, ballot });
            }
            Event::Retrieve { to, from, upto, .. } => {
                self.observe(Happening::Retrieve { node, to, from, upto });
                self.retrievals.push(Retrieval { node, to, from, upto });
            }
            Event::SnapshotWanted { from, slot, .. } => {
                self.observe(Happening::Wanted { node, from, slot });
                self.wishes.push(Wish { node, from });
            }
        }
    }

    /// The state machine executes at once; a slot that the journal alone showed chosen, it has executed
    /// before the ring could vote.
    fn execute(&mut self, id: NodeId, slot: Slot, frame: &Frame) {
        if slot >= self.node(id).progress().executed {
            let now = self.now;
            self.node_mut(id).execute(slot, frame);
            let told = self.node_mut(id).step(now, Input::Executed(slot));
            assert_eq!(told, Ok(()), "{id:?} executed {slot:?}");
        }
    }

    /// Lets the oracle judge a happening, and keeps it for whoever tells the story.
    fn observe(&mut self, happening: Happening) {
        let verdict = self.oracle.observe(&happening);
        self.happenings.push(happening);
        judge(verdict);
    }

    /// Where a node stands; nothing when it is down.
    pub fn progress(&self, id: NodeId) -> Progress {
        self.node(id).progress()
    }
}

/// A disagreement of replicas ends the test.
fn judge(verdict: Result<(), Violation>) {
    if let Err(violation) = verdict {
        panic!("{violation}");
    }
}
