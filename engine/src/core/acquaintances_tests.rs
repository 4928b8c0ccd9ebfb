//! Cores that get acquainted: frames are carried by hand, writes are durable when the test says so.

use std::collections::BTreeMap;
use std::time::Duration;

use annulus_rings::{
    ClusterId, Configuration, Frame, FramePool, Incarnation, Lsn, NodeId, Outbox, RingId, RingOptions, Time,
};
use annulus_transport::{PeerState, PeerStatus};

use super::acquaintances::{Acquaintances, Amnesia};
use super::announcement::NO_RING;

/// The core of one node, with its journal.
struct Node {
    options: RingOptions,
    acquaintances: Acquaintances,
    outbox: Outbox,
    journal: Vec<Frame>,
    durable: usize,
    states: Vec<PeerState>,
}

/// Some nodes of a cluster, and the time.
struct World {
    nodes: BTreeMap<u16, Node>,
    now: Time,
}

impl Node {
    fn new(id: u16, count: u16, incarnation: u32) -> Node {
        let members: Vec<NodeId> = (1..=count).map(NodeId).collect();
        let options = RingOptions {
            cluster: ClusterId(1),
            ring: RingId(0),
            node: NodeId(id),
            incarnation: Incarnation(incarnation),
            configuration: Configuration::first(&members).unwrap(),
            window_slots: 1,
            election_timeout: Duration::from_millis(100),
            heartbeat_interval: Duration::from_millis(20),
            resend_interval: Duration::from_millis(20),
            retain_bytes: 0,
            seed: 1,
        };
        let disconnected = |node: NodeId| PeerState {
            node,
            status: PeerStatus::Disconnected,
            round_trip: None,
            connections: 0,
        };
        let peers = members.into_iter().filter(|member| *member != options.node);
        let mut node = Node {
            acquaintances: Acquaintances::new(&options),
            outbox: Outbox::new(Lsn(0), FramePool::new(4096)),
            journal: Vec::new(),
            durable: 0,
            states: peers.map(disconnected).collect(),
            options,
        };
        node.start();
        node
    }

    /// A process starts from what is durable, or from the first `records` of it.
    fn restart(&mut self, records: usize) {
        self.journal.truncate(records.min(self.durable));
        self.acquaintances = Acquaintances::new(&self.options);
        self.start();
    }

    fn start(&mut self) {
        self.start_from(Lsn(1));
    }

    /// A process starts from a journal that was truncated below `first`.
    fn start_from(&mut self, first: Lsn) {
        self.durable = self.journal.len();
        self.outbox = Outbox::new(Lsn(self.durable as u64), FramePool::new(4096));
        for (lsn, frame) in (1..).map(Lsn).zip(&self.journal) {
            if frame.kind().is_of_core() && lsn >= first {
                self.acquaintances.replay(lsn, &frame.header()).unwrap();
            }
        }
        self.acquaintances.recovered(&mut self.outbox);
        for state in &mut self.states {
            (state.status, state.connections) = (PeerStatus::Disconnected, 0);
        }
    }

    /// Hands what was appended to the journal.
    fn write(&mut self) {
        self.acquaintances.ride_along(&mut self.outbox);
        self.journal.extend(self.outbox.appends.drain(..).map(|append| append.frame));
    }

    fn sync(&mut self, now: Time) {
        self.write();
        self.durable = self.journal.len();
        self.acquaintances.persisted(now, Lsn(self.durable as u64));
    }

    /// A ring appends something: any frame will do.
    fn append(&mut self) {
        let frame = self.journal[0].clone();
        self.outbox.append(NO_RING, frame);
    }

    fn hears(&self, peer: u16) -> bool {
        self.acquaintances.hears(NodeId(peer))
    }
}

impl World {
    fn new(ids: &[u16], count: u16) -> World {
        let nodes = ids.iter().map(|id| (*id, Node::new(*id, count, u32::from(*id) * 10))).collect();
        World { nodes, now: Time(1) }
    }

    /// A cluster in which everybody is admitted and knows everybody.
    fn settled(count: u16) -> World {
        let ids: Vec<u16> = (1..=count).collect();
        let mut world = World::new(&ids, count);
        world.connect_all();
        world.settle().unwrap();
        assert!(ids.iter().all(|id| world.nodes[id].acquaintances.is_admitted()));
        world
    }

    fn connect(&mut self, a: u16, b: u16) {
        for (one, other) in [(a, b), (b, a)] {
            let incarnation = self.nodes[&other].options.incarnation;
            let node = self.nodes.get_mut(&one).unwrap();
            let state = node.states.iter_mut().find(|state| state.node == NodeId(other)).unwrap();
            state.connections += 1;
            state.status = PeerStatus::Connected { incarnation, since: self.now };
        }
    }

    fn connect_all(&mut self) {
        let ids: Vec<u16> = self.nodes.keys().copied().collect();
        for &a in &ids {
            for &b in ids.iter().filter(|b| **b > a) {
                self.connect(a, b);
            }
        }
    }

    /// Everybody says what is due, and it arrives.
    fn talk(&mut self) -> Result<usize, Amnesia> {
        self.talk_losing_some(|| false)
    }

    /// The same, but for frames that are lost.
    fn talk_losing(&mut self, is_lost: impl FnMut() -> bool) {
        self.talk_losing_some(is_lost).unwrap();
    }

    fn talk_losing_some(&mut self, mut is_lost: impl FnMut() -> bool) -> Result<usize, Amnesia> {
        let mut said = Vec::new();
        for (id, node) in &mut self.nodes {
            node.acquaintances.meet(self.now, &node.states);
            node.acquaintances.announce(self.now, &mut node.outbox);
            said.extend(node.outbox.transmits.drain(..).map(|transmit| (*id, transmit)));
        }
        let count = said.len();
        for (from, transmit) in said {
            let Some(node) = self.nodes.get_mut(&transmit.to.0).filter(|_| !is_lost()) else { continue };
            let header = transmit.frame.header();
            node.acquaintances.heard(self.now, NodeId(from), &header, &mut node.outbox)?;
        }
        Ok(count)
    }

    /// Talks and writes until nobody has anything to say.
    fn settle(&mut self) -> Result<usize, Amnesia> {
        let mut said = 0;
        for _ in 0..20 {
            said += self.talk()?;
            self.nodes.values_mut().for_each(|node| node.sync(self.now));
            self.now = self.now + Duration::from_millis(200);
        }
        Ok(said)
    }

    fn node(&mut self, id: u16) -> &mut Node {
        self.nodes.get_mut(&id).unwrap()
    }

    /// A node looks at its connections.
    fn meet(&mut self, id: u16) {
        let now = self.now;
        let node = self.node(id);
        node.acquaintances.meet(now, &node.states);
    }

    fn sync(&mut self, id: u16) {
        let now = self.now;
        self.node(id).sync(now);
    }

    fn is_admitted(&self, id: u16) -> bool {
        self.nodes[&id].acquaintances.is_admitted()
    }
}

#[test]
fn the_first_start_of_three_nodes_needs_all_three_and_that_of_five_needs_four() {
    for (count, needed) in [(2, 2), (3, 3), (4, 3), (5, 4), (6, 5), (7, 6)] {
        for present in 1..=count {
            let ids: Vec<u16> = (1..=present).collect();
            let mut world = World::new(&ids, count);
            world.connect_all();
            world.settle().unwrap();
            let admitted = ids.iter().filter(|id| world.is_admitted(**id)).count();
            let expected = if present >= needed { ids.len() } else { 0 };
            assert_eq!(admitted, expected, "{present} of {count}");
        }
    }
}

#[test]
fn a_node_alone_is_admitted_once_its_record_is_durable() {
    let mut world = World::new(&[1], 1);
    assert!(!world.is_admitted(1));
    world.settle().unwrap();
    assert!(world.is_admitted(1));
}

/// Two sets of peers that admit two lives of one node share somebody whose disk is not lost too.
#[test]
fn some_peer_that_admitted_the_old_life_is_asked_by_the_new_one() {
    for count in 1..=9u32 {
        let (peers, survives) = (count - 1, (count - 1) / 2);
        let needed = (peers + survives).div_ceil(2);
        assert!(2 * needed >= peers + survives && needed <= peers, "{count}");
    }
}

#[test]
fn nobody_is_heard_before_the_record_that_names_his_disk_is_durable() {
    let mut fresh = World::new(&[1, 2, 3], 3);
    fresh.connect_all();
    fresh.talk().unwrap();
    fresh.talk().unwrap();
    for id in 1..=3 {
        fresh.node(id).write();
        assert!(!(1..=3).any(|peer| fresh.node(id).hears(peer)), "written is not durable");
    }
    fresh.talk().unwrap();
    assert!((1..=3).all(|id| !fresh.is_admitted(id)), "nobody has told that it knows anybody");
    fresh.settle().unwrap();
    assert!(fresh.node(1).hears(2) && fresh.node(1).hears(3) && fresh.node(3).hears(1));
}

#[test]
fn a_wiped_disk_is_refused_and_stops_before_it_has_taken_part() {
    let mut world = World::settled(3);
    world.nodes.insert(3, Node::new(3, 3, 31));
    world.connect(3, 1);
    world.meet(1);
    assert!(!world.node(1).hears(3), "refused by the handshake alone");
    let stopped = world.settle().unwrap_err();
    let known = Incarnation(30);
    let own = Incarnation(31);
    assert_eq!(stopped, Amnesia::OtherLife { node: NodeId(3), peer: NodeId(1), known, own });
    assert!(!world.is_admitted(3));
    let notice = world.node(1).acquaintances.news();
    assert!(notice.is_some_and(|notice| notice.contains("node 3 is refused")), "{notice:?}");
}

#[test]
fn the_notice_of_a_fresh_disk_asks_for_the_others_only_while_one_is_away() {
    let mut world = World::new(&[1, 2, 3], 3);
    let asks = |world: &mut World| {
        world.meet(1);
        let notice = world.node(1).acquaintances.news()?;
        (!notice.is_empty()).then(|| notice.ends_with("start the others"))
    };
    assert_eq!(asks(&mut world), Some(true), "nobody is there");
    world.connect_all();
    assert_eq!(asks(&mut world), Some(false), "all are there, and must only get acquainted");
    world.node(1).states[1].status = PeerStatus::Disconnected;
    assert_eq!(asks(&mut world), Some(true), "one went away");
    world.connect(1, 3);
    assert_eq!(asks(&mut world), Some(false));
    // Everybody knows everybody; the record of that is not durable yet.
    for _ in 0..3 {
        world.talk().unwrap();
        (2..=3).for_each(|id| world.sync(id));
        world.now = world.now + Duration::from_millis(200);
    }
    world.talk().unwrap();
    assert!(!world.is_admitted(1), "it is being written down");
    assert_eq!(world.node(1).acquaintances.news(), Some(""), "and nobody need do anything");
}

#[test]
fn an_old_copy_of_a_disk_is_refused_and_stops() {
    let mut world = World::settled(3);
    let copied = world.node(3).durable;
    world.node(3).append();
    world.settle().unwrap();
    let reached = world.node(3).durable as u64;
    world.node(3).restart(copied);
    assert!(world.is_admitted(3), "the copy says so");
    world.connect(3, 1);
    let now = world.now;
    world.meet(1);
    world.meet(3);
    let announce = |node: &mut Node| {
        node.acquaintances.announce(now, &mut node.outbox);
        node.outbox.transmits.pop().unwrap().frame.header()
    };
    let (from_one, from_copy) = (announce(world.node(1)), announce(world.node(3)));

    let one = world.node(1);
    one.acquaintances.heard(now, NodeId(3), &from_copy, &mut one.outbox).unwrap();
    assert!(!one.hears(3));
    let notice = one.acquaintances.news();
    assert!(notice.is_some_and(|notice| notice.contains("an old copy")), "{notice:?}");

    let copy = world.node(3);
    assert!(!copy.hears(1), "nothing is handled before the peer has said what it remembers");
    let stopped = copy.acquaintances.heard(now, NodeId(1), &from_one, &mut copy.outbox).unwrap_err();
    let (known, own) = (Lsn(reached), Lsn(copied as u64));
    assert_eq!(stopped, Amnesia::OldCopy { node: NodeId(3), peer: NodeId(1), known, own });
}

#[test]
fn a_restart_with_the_old_disk_needs_nobody() {
    let mut world = World::settled(5);
    let records = world.node(2).durable;
    world.node(2).restart(records);
    assert!(world.is_admitted(2));
    world.connect(2, 4);
    world.settle().unwrap();
    assert!(world.node(2).hears(4) && world.node(4).hears(2) && !world.node(2).hears(1));
}

#[test]
fn what_a_peer_remembers_survives_its_own_restart() {
    let mut world = World::settled(3);
    world.node(3).append();
    world.settle().unwrap();
    // The watermark rides with the next write of node 1, and is read back.
    world.node(1).append();
    world.settle().unwrap();
    let records = world.node(1).durable;
    world.node(1).restart(records);
    let copied = world.node(3).durable - 1;
    world.node(3).restart(copied);
    world.connect(1, 3);
    assert!(matches!(world.settle(), Err(Amnesia::OldCopy { .. })));
}

#[test]
fn how_far_a_peer_is_forces_no_write() {
    let mut world = World::settled(3);
    world.node(1).append();
    world.settle().unwrap();
    let before = world.node(1).durable;
    world.node(3).append();
    world.settle().unwrap();
    assert_eq!(world.node(1).durable, before, "nothing else was written");
    world.node(1).append();
    world.settle().unwrap();
    assert_eq!(world.node(1).durable, before + 2, "it came along");
}

#[test]
fn idle_cores_say_nothing_and_wait_for_no_time() {
    let mut world = World::settled(3);
    world.settle().unwrap();
    assert_eq!(world.settle(), Ok(0));
    assert!(world.nodes.values().all(|node| node.acquaintances.deadline() == Time::NEVER));
    world.node(2).append();
    world.sync(2);
    assert!(world.node(2).acquaintances.deadline() < Time::NEVER);
    assert_eq!(world.settle(), Ok(2), "one announcement to each peer");
}

#[test]
fn news_come_at_most_once_a_second() {
    let mut world = World::settled(2);
    let mut said = 0;
    let begin = world.now;
    for _ in 0..500 {
        world.node(1).append();
        world.sync(1);
        said += world.talk().unwrap();
        world.now = world.now + Duration::from_millis(10);
    }
    assert_eq!(world.now.since(begin), Duration::from_secs(5));
    assert!((4..=6).contains(&said), "{said} announcements in five seconds");
}

#[test]
fn an_announcement_that_is_lost_is_said_again() {
    let mut world = World::new(&[1, 2, 3], 3);
    world.connect_all();
    for _ in 0..3 {
        for node in world.nodes.values_mut() {
            node.acquaintances.meet(world.now, &node.states);
            node.acquaintances.announce(world.now, &mut node.outbox);
            assert_eq!(node.outbox.transmits.drain(..).count(), 2);
        }
        world.now = world.now + Duration::from_millis(20);
    }
    world.settle().unwrap();
    assert!((1..=3).all(|id| world.is_admitted(id)));
}

/// Whoever has heard everything must still answer one to whom the answer was lost (simulator seed 878).
#[test]
fn an_answer_that_is_lost_is_given_again() {
    for lost in 0..12 {
        let mut world = World::new(&[1, 2], 2);
        world.connect_all();
        let mut said = 0;
        for _ in 0..40 {
            world.talk_losing(|| {
                said += 1;
                said == lost + 1
            });
            world.nodes.values_mut().for_each(|node| node.sync(world.now));
            world.now = world.now + Duration::from_millis(20);
        }
        assert!(world.is_admitted(1) && world.is_admitted(2), "frame {lost} was lost");
        assert!(world.node(1).hears(2) && world.node(2).hears(1), "frame {lost} was lost");
    }
}

#[test]
fn a_disk_that_is_refused_stops_nobody() {
    let mut world = World::settled(3);
    // A wiped node 2 meets an impostor of node 3 first, and then the true one.
    world.nodes.insert(2, Node::new(2, 3, 21));
    let mut impostor = Node::new(3, 3, 31);
    std::mem::swap(world.node(3), &mut impostor);
    world.connect(2, 3);
    world.settle().unwrap();
    *world.node(3) = impostor;
    let records = world.node(3).durable;
    world.node(3).restart(records);
    world.connect(2, 3);
    let now = world.now;
    for id in [2, 3] {
        world.meet(id);
        let node = world.node(id);
        node.acquaintances.announce(now, &mut node.outbox);
    }
    let said = world.node(2).outbox.transmits.pop().unwrap().frame.header();
    let true_one = world.node(3);
    assert_eq!(true_one.acquaintances.heard(now, NodeId(2), &said, &mut true_one.outbox), Ok(()));
    assert!(true_one.acquaintances.is_admitted() && !true_one.hears(2));
}

/// A copy may serve with a peer that remembers nothing newer; it ends with the first one that does, however far
/// its journal has come by then.
#[test]
fn an_old_copy_that_has_grown_is_found_out_by_who_remembers() {
    let mut world = World::settled(3);
    let copied = world.node(3).durable;
    // Node 2 goes away; 1 and 3 go on and choose things.
    let records = world.node(2).durable;
    world.node(2).restart(records);
    (0..3).for_each(|_| world.node(3).append());
    world.node(1).append();
    world.settle().unwrap();
    world.node(1).append();
    world.settle().unwrap();
    // Node 3 gets its old copy, node 2 comes back, node 1 is away for a moment.
    world.node(3).restart(copied);
    world.connect(2, 3);
    world.settle().unwrap();
    assert!(world.node(3).hears(2) && world.node(2).hears(3), "a quorum with an old copy");
    (0..9).for_each(|_| world.node(3).append());
    world.sync(3);
    world.connect(1, 3);
    assert!(matches!(world.settle(), Err(Amnesia::OldCopy { .. })));
}

/// The record that names a peer is on its way when the connection breaks, and durable after the next one stands.
#[test]
fn a_connection_that_breaks_between_two_writes_leaves_nobody_unheard() {
    let mut world = World::new(&[1, 2, 3, 4], 5);
    world.connect_all();
    world.settle().unwrap();
    assert!(world.is_admitted(1));
    world.nodes.insert(5, Node::new(5, 5, 50));
    let now = world.now;
    // An earlier write of node 1 is in flight.
    world.node(1).append();
    world.node(1).write();
    let in_flight = world.node(1).journal.len() as u64;
    world.connect(1, 5);
    world.talk().unwrap();
    world.talk().unwrap();
    world.node(1).write();
    assert!(world.node(1).journal.len() as u64 > in_flight, "the record is appended");
    // The connection breaks, the earlier write completes, the connection comes back.
    world.connect(1, 5);
    world.meet(1);
    world.node(1).acquaintances.persisted(now, Lsn(in_flight));
    world.now = world.now + Duration::from_millis(200);
    world.talk().unwrap();
    world.now = world.now + Duration::from_millis(200);
    world.settle().unwrap();
    world.settle().unwrap();
    world.settle().unwrap();
    assert!(world.node(5).hears(1) || !world.is_admitted(5));
    let standing = world.node(1).hears(5);
    assert!(standing, "node 1 never hears node 5");
}

/// What it writes before the answer arrives does not make it any newer.
#[test]
fn an_old_copy_does_not_outrun_the_answer_that_stops_it() {
    let mut world = World::settled(3);
    let copied = world.node(3).durable;
    world.node(3).append();
    world.settle().unwrap();
    world.node(3).restart(copied);
    world.connect(3, 1);
    let now = world.now;
    world.meet(1);
    world.meet(3);
    let say = |node: &mut Node| {
        node.acquaintances.announce(now, &mut node.outbox);
        node.outbox.transmits.pop().unwrap().frame.header()
    };
    let from_copy = say(world.node(3));
    let one = world.node(1);
    one.acquaintances.heard(now, NodeId(3), &from_copy, &mut one.outbox).unwrap();
    let from_one = say(one);
    assert!(!one.hears(3), "found out");
    // Something is written meanwhile: the record of a promise to a third node will do.
    (0..9).for_each(|_| world.node(3).append());
    world.sync(3);
    let copy = world.node(3);
    let heard = copy.acquaintances.heard(now, NodeId(1), &from_one, &mut copy.outbox);
    assert!(heard.is_err(), "the copy goes on, and hears node 1: {}", copy.hears(1));
}

#[test]
fn what_is_carried_forward_outlives_the_records_that_it_repeats() {
    let mut world = World::settled(3);
    let first_needed = world.nodes[&1].acquaintances.needed();
    let node = world.node(1);
    node.acquaintances.carry(&mut node.outbox);
    node.write();
    assert_eq!(node.acquaintances.needed(), first_needed, "what repeats them is not durable yet");
    world.sync(1);
    let needed = world.nodes[&1].acquaintances.needed();
    assert!(needed > first_needed);

    let node = world.node(1);
    node.acquaintances = Acquaintances::new(&node.options);
    node.start_from(needed);
    assert!(world.is_admitted(1));
    // A peer comes back with another disk: the truncated journal still knows the one that it had.
    world.node(2).options.incarnation = Incarnation(99);
    world.node(2).restart(0);
    world.connect_all();
    assert!(matches!(world.settle(), Err(Amnesia::OtherLife { .. })));
}
