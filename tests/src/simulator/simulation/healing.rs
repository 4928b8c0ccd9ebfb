//! The second phase: a quorum heals for good, and must elect, serve and agree (G11).

use std::cmp::Reverse;
use std::time::Duration;

use annulus_rings::{NodeId, RingId, Slot, Time};

use super::super::client::Demand;
use super::{Due, Simulation};
use crate::world::Violation;

/// Election timeouts within which a healed quorum has a leader and serves every probe, and then agrees.
const TIMEOUTS_TO_SERVE: u32 = 40;
/// The same for what does not depend on elections: reading back long journals.
const TIME_TO_SERVE: Duration = Duration::from_secs(10);
/// Commands of each ring that a healed quorum must commit.
const PROBES: u64 = 5;

impl Simulation {
    /// From now on a random quorum is up, connected and on sound disks. The rest is down for good, or up
    /// behind links that are cut either way or one way.
    pub(super) fn heal(&mut self) {
        self.scene.borrow_mut().note("a quorum heals for good".to_owned());
        self.plan = self.plan.healed();
        self.hub.replan(self.plan.network.clone());
        self.timeline.retain(|Reverse((_, _, due))| matches!(due, Due::Turn(_)));
        let mut order: Vec<usize> = (0..self.nodes.len()).collect();
        self.random.shuffle(&mut order);
        let quorum = self.nodes.len() / 2 + 1;
        let healthy = quorum + self.random.below((self.nodes.len() - quorum) as u64 + 1) as usize;
        // The first start needs more than a quorum: see the engine's acquaintances.
        let are_admitted = self.scene.borrow().admitted.len() == self.nodes.len();
        let healthy = if are_admitted { healthy } else { self.nodes.len() };
        for (position, &index) in order.iter().enumerate() {
            self.given_up[index] = position >= healthy;
        }
        self.mend();
        for index in 0..self.nodes.len() {
            if self.given_up[index] {
                self.give_up(index);
            } else {
                self.restore(index);
            }
        }
        self.scene.borrow_mut().served.clear();
        self.switch.set(Demand::Probes);
    }

    fn restore(&mut self, index: usize) {
        let now = self.truth.now();
        let node = &mut self.nodes[index];
        node.disk.replan(self.plan.disk.clone());
        node.disk.slow_until(now);
        node.paused_until = now;
        if node.is_up() {
            node.wake = None;
            self.wake(index, now);
        } else {
            self.arrange(Duration::ZERO, Due::Start(index));
        }
    }

    fn give_up(&mut self, index: usize) {
        let (id, ids) = (self.nodes[index].id, self.plan.node_ids());
        let manner = self.random.below(4);
        for &peer in ids.iter().filter(|peer| **peer != id) {
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

    /// The healed quorum elects leaders and serves probes.
    pub(super) fn serve(&mut self) -> Result<(), Violation> {
        let (limit, rings) = (self.limit(), self.plan.ring_ids());
        let served = self.play(limit, |simulation| {
            let scene = simulation.scene.borrow();
            rings.iter().all(|ring| scene.served.get(ring).is_some_and(|count| *count >= PROBES))
        })?;
        if served {
            return Ok(());
        }
        let what = |ring: &RingId| {
            let leaders: Vec<NodeId> =
                self.nodes.iter_mut().filter_map(|node| node.leads(*ring).then_some(node.id)).collect();
            let served = self.scene.borrow().served.get(ring).copied().unwrap_or_default();
            format!("ring {ring}: led by {leaders:?}, {served} of {PROBES} probes served")
        };
        let what: Vec<String> = rings.iter().map(what).collect();
        Err(Violation { rule: "G11", what: what.join("; ") })
    }

    /// Every healed replica converges: it has executed everything that is chosen.
    pub(super) fn agree(&mut self) -> Result<(), Violation> {
        self.switch.set(Demand::Nothing);
        let limit = self.limit();
        if !self.play(limit, Simulation::has_converged)? {
            let what = format!("{:?}", self.standings());
            return Err(Violation {
                rule: "G11",
                what: format!("no convergence (ring, node, executed): {what}"),
            });
        }
        for (ring, node, executed) in self.standings() {
            let executed = executed.expect("a converged node is up");
            let scene = &mut *self.scene.borrow_mut();
            scene.ledger.nothing_acknowledged_is_lost(ring, node, executed)?;
        }
        Ok(())
    }

    fn has_converged(&mut self) -> bool {
        let standings = self.standings();
        let scene = self.scene.borrow();
        let mut standings = standings.into_iter();
        standings.all(|(ring, _, executed)| {
            executed
                .is_some_and(|slot| slot.0 == scene.chosen_count(ring) && slot == scene.ledger.executed(ring))
        })
    }

    /// How far each healed node is, by ring.
    fn standings(&mut self) -> Vec<(RingId, NodeId, Option<Slot>)> {
        let mut standings = Vec::new();
        for (index, node) in self.nodes.iter_mut().enumerate() {
            if !self.given_up[index] {
                for ring in self.plan.ring_ids() {
                    standings.push((ring, node.id, node.executed(ring)));
                }
            }
        }
        standings
    }
}
