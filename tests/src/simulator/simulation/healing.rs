//! The second phase: what is left of the cluster heals for good, and must serve and agree (G11).
//!
//! What may be demanded depends on what is left:
//! - a quorum of nodes with sound disks, connected: it elects leaders, serves, and converges, whatever the
//!   others do, who may be down, or up behind links that are cut either way or one way;
//! - any graph of links that never changes: if one node and a quorum hear each other, itself included, some
//!   such node leads and serves, and those who hear it and are heard by it converge. Nothing is forwarded, so
//!   a way around over third nodes helps nobody: where no node has such a quorum, only safety is demanded.
//!   Nodes that hear the leader deny their pre-votes to everybody else, and every other quorum has one of
//!   them in it; so whoever is cut off from the leader cannot depose it;
//! - in both, a node with a damaged disk that still runs may come to lead: when it cannot read back what it is
//!   to teach, it stops, and another leads;
//! - fewer sound disks than a quorum: the cluster may stop, but then each node that is down has said why. It
//!   goes on while the damage is where nobody has looked yet.

use std::cmp::Reverse;
use std::time::Duration;

use annulus_rings::{NodeId, RingId, Slot, Time};

use super::super::client::Demand;
use super::super::shape::{directions, draw_cuts};
use super::{Due, Simulation};
use crate::world::Violation;

/// Election timeouts within which a healed quorum has a leader and serves every probe, and then agrees.
const TIMEOUTS_TO_SERVE: u32 = 40;
/// The same for what does not depend on elections: reading back long journals.
const TIME_TO_SERVE: Duration = Duration::from_secs(10);
/// Before a cluster that agrees must be at rest.
const TIME_TO_REST: Duration = Duration::from_secs(3);
/// How long it is watched then.
const REST: Duration = Duration::from_secs(5);
/// Records that it may write meanwhile, for each ring of each node.
const RECORDS_AT_REST_MAX: u64 = 50;
/// Commands of each ring that a healed quorum must commit.
const PROBES: u64 = 5;

/// What is left of the cluster in the second phase.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Outlook {
    /// A connected quorum of sound nodes.
    Quorum,
    /// Links that never change; for each node the sound ones that hear it and are heard by it, itself included.
    Graph(Vec<Vec<usize>>),
    /// Fewer sound nodes than a quorum.
    Ruin,
}

impl Simulation {
    /// From now on nothing goes wrong any more, and what is broken stays so.
    pub(super) fn heal(&mut self) {
        self.plan = self.plan.healed();
        self.hub.replan(self.plan.network.clone());
        self.timeline.retain(|Reverse((_, _, due))| matches!(due, Due::Turn(_)));
        self.storms.fill(0);
        self.mend();
        let mut order: Vec<usize> = (0..self.nodes.len()).collect();
        self.random.shuffle(&mut order);
        order.sort_by_key(|index| self.nodes[*index].is_damaged());
        let sound = order.iter().filter(|index| !self.nodes[**index].is_damaged()).count();
        let quorum = self.quorum();
        let is_graph = self.nodes.len() >= 3 && self.random.permille(400);
        // The first start needs more than a quorum, once: see the engine's acquaintances.
        let is_admitted = |index: &usize| self.scene.borrow().identities.is_admitted(self.nodes[*index].id);
        let is_first_start = !order[..sound].iter().all(is_admitted);
        if is_first_start && sound == self.nodes.len() {
            self.scene.borrow_mut().note("everybody heals for good".to_owned());
        } else if sound < quorum || is_first_start {
            self.outlook = Outlook::Ruin;
            self.scene
                .borrow_mut()
                .fault("clusters damaged beyond a quorum", || "all is connected for good".to_owned());
        } else if is_graph {
            self.settle_links();
        } else {
            let healthy = quorum + self.random.below((sound - quorum) as u64 + 1) as usize;
            order[healthy..].iter().for_each(|index| self.give_up(*index));
            self.scene.borrow_mut().note("a quorum heals for good".to_owned());
        }
        for index in 0..self.nodes.len() {
            if !self.given_up[index] {
                self.restore(index);
            }
        }
        self.scene.borrow_mut().served.clear();
        self.switch.set(Demand::Probes);
    }

    pub(super) fn quorum(&self) -> usize {
        self.nodes.len() / 2 + 1
    }

    /// Cuts links for good.
    fn settle_links(&mut self) {
        let ids = self.plan.node_ids();
        let cuts = draw_cuts(&ids, &mut self.random);
        self.scene.borrow_mut().fault("link graphs made permanent", || format!("cut for good: {cuts:?}"));
        for &(from, to) in &cuts {
            self.hub.cut(from, to, true);
        }
        let are_linked = |a: usize, b: usize| {
            let is_whole = |direction: &(NodeId, NodeId)| !cuts.contains(direction);
            let ends = [(ids[a], ids[b]), (ids[b], ids[a])];
            directions(&ids)
                .filter(|direction| ends.contains(direction))
                .all(|direction| is_whole(&direction))
        };
        let is_sound = |index: &usize| !self.nodes[*index].is_damaged();
        let sound: Vec<usize> = (0..ids.len()).filter(is_sound).collect();
        let circle = |index| sound.iter().copied().filter(|other| are_linked(index, *other)).collect();
        self.outlook = Outlook::Graph((0..ids.len()).map(circle).collect());
    }

    fn restore(&mut self, index: usize) {
        let now = self.truth.now();
        let node = &mut self.nodes[index];
        node.disk.replan(self.plan.disk.clone());
        node.disk.slow_until(now);
        node.vault.replan(&self.plan);
        node.vault.slow_until(now);
        node.paused_until = now;
        node.hold_snapshots(false);
        if node.is_up() {
            node.wake = None;
            self.wake(index, now);
        } else {
            self.arrange(Duration::ZERO, Due::Start(index));
        }
    }

    /// A node that the others must do without. One with a damaged disk may stay connected.
    fn give_up(&mut self, index: usize) {
        self.given_up[index] = true;
        let (id, ids) = (self.nodes[index].id, self.plan.node_ids());
        let manner = self.random.below(4 + 2 * u64::from(self.nodes[index].is_damaged()));
        for &peer in ids.iter().filter(|peer| **peer != id && manner < 4) {
            self.hub.cut(peer, id, manner != 1);
            self.hub.cut(id, peer, manner != 2);
        }
        if manner == 0 {
            self.nodes[index].kill();
            self.hub.leave(id, &ids);
        }
    }

    fn limit(&self) -> Time {
        self.truth.now() + self.plan.election_timeout * TIMEOUTS_TO_SERVE + TIME_TO_SERVE
    }

    /// What is left elects leaders and serves probes, where that may be demanded.
    pub(super) fn serve(&mut self) -> Result<(), Violation> {
        let (limit, rings) = (self.limit(), self.plan.ring_ids());
        let served = self.play(limit, |simulation| {
            let scene = simulation.scene.borrow();
            rings.iter().all(|ring| scene.served.get(ring).is_some_and(|count| *count >= PROBES))
        })?;
        if served || !self.must_serve()? {
            return Ok(());
        }
        let what = |ring: &RingId| {
            let leaders: Vec<NodeId> =
                self.nodes.iter_mut().filter_map(|node| node.leads(*ring).then_some(node.id)).collect();
            let served = self.scene.borrow().served.get(ring).copied().unwrap_or_default();
            format!("ring {ring}: led by {leaders:?}, {served} of {PROBES} probes served")
        };
        let what: Vec<String> = rings.iter().map(what).collect();
        Err(Violation { rule: "G11", what: format!("{:?}: {}", self.outlook, what.join("; ")) })
    }

    /// Whether a cluster that did not serve should have.
    fn must_serve(&self) -> Result<bool, Violation> {
        match &self.outlook {
            Outlook::Quorum => Ok(true),
            Outlook::Graph(circles) => {
                let quorum = self.quorum();
                let has_quorum =
                    |(index, circle): (usize, &Vec<usize>)| circle.contains(&index) && circle.len() >= quorum;
                Ok(circles.iter().enumerate().any(has_quorum))
            }
            Outlook::Ruin => {
                let is_silent = |index: &usize| {
                    let node = &self.nodes[*index];
                    !node.is_up() && node.refusal.is_none()
                };
                if let Some(index) = (0..self.nodes.len()).find(is_silent) {
                    let what = format!("node {} is down and did not say why", index + 1);
                    return Err(Violation { rule: "G11", what });
                }
                let up = self.nodes.iter().filter(|node| node.is_up()).count();
                let is_stopped = up < self.quorum();
                let class =
                    if is_stopped { "clusters stopped by damage" } else { "clusters stalled by damage" };
                self.scene
                    .borrow_mut()
                    .fault(class, || format!("{up} nodes are up, and not every ring is served"));
                Ok(false)
            }
        }
    }

    /// Every replica that can converges: it has executed everything that is chosen.
    pub(super) fn agree(&mut self) -> Result<(), Violation> {
        self.switch.set(Demand::Nothing);
        if self.outlook == Outlook::Ruin || !self.must_serve()? {
            return Ok(());
        }
        let (limit, rings) = (self.limit(), self.plan.ring_ids());
        let all_agree =
            |simulation: &mut Simulation| rings.iter().all(|ring| simulation.converged(*ring).is_some());
        if !self.play(limit, all_agree)? {
            let mut stuck = rings.clone();
            stuck.retain(|ring| self.converged(*ring).is_none());
            let standings: Vec<_> = stuck.iter().map(|ring| self.standings(*ring)).collect();
            let what = format!("{:?}: no convergence (node, leads, executed): {standings:?}", self.outlook);
            return Err(Violation { rule: "G11", what });
        }
        for ring in rings {
            for (node, executed) in self.converged(ring).unwrap_or_default() {
                let scene = &mut *self.scene.borrow_mut();
                scene.ledger.nothing_acknowledged_is_lost(ring, node, executed)?;
            }
        }
        Ok(())
    }

    /// A cluster that nobody asks anything comes to rest: then it writes next to nothing (G12).
    pub(super) fn rest(&mut self) -> Result<(), Violation> {
        if self.outlook != Outlook::Quorum {
            return Ok(()); // Who is cut off in some way may stand for election for ever.
        }
        self.play(self.truth.now() + TIME_TO_REST, |_| false)?;
        let before = self.scene.borrow().records;
        self.play(self.truth.now() + REST, |_| false)?;
        let written = self.scene.borrow().records - before;
        let written_max = RECORDS_AT_REST_MAX * self.nodes.len() as u64 * u64::from(self.plan.rings);
        if written > written_max {
            let what =
                format!("{written} records are written while nobody asks anything, at most {written_max}");
            return Err(Violation { rule: "G12", what });
        }
        Ok(())
    }

    /// Who has converged in a ring, when all have who can.
    fn converged(&mut self, ring: RingId) -> Option<Vec<(NodeId, Slot)>> {
        let standings = self.standings(ring);
        let scene = self.scene.borrow();
        let is_whole =
            |slot: &Slot| slot.0 == scene.chosen_count(ring) && *slot == scene.ledger.executed(ring);
        let all_of = |circle: &[usize]| -> Option<Vec<(NodeId, Slot)>> {
            let of = |index: &usize| {
                let (node, _, executed) = standings[*index];
                executed.filter(is_whole).map(|slot| (node, slot))
            };
            circle.iter().map(of).collect()
        };
        match &self.outlook {
            Outlook::Graph(circles) => {
                let leads = |index: &usize| standings[*index].1;
                (0..circles.len()).filter(leads).find_map(|index| all_of(&circles[index]))
            }
            Outlook::Quorum | Outlook::Ruin => {
                let healed: Vec<usize> =
                    (0..standings.len()).filter(|index| !self.given_up[*index]).collect();
                all_of(&healed)
            }
        }
    }

    /// Each node of a ring: whether it leads, and how far it has executed.
    fn standings(&mut self, ring: RingId) -> Vec<(NodeId, bool, Option<Slot>)> {
        self.nodes.iter_mut().map(|node| (node.id, node.leads(ring), node.executed(ring))).collect()
    }
}
