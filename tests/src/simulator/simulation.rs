//! One seed's history: what is due next, happens.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::rc::Rc;
use std::time::Duration;

use annulus_rings::{NodeId, RingId, Time};

use super::accident::{Accident, draw_cuts};
use super::client::{Demand, Switch};
use super::clock::TrueTime;
use super::network::Hub;
use super::node::{Node, Turned};
use super::plan::Plan;
use super::scene::{Scene, Shared};
use super::summary::Summary;
use crate::chaos::Random;
use crate::world::{Happening, Violation};

/// Election timeouts within which a healed quorum has a leader and serves every probe, and then agrees.
const TIMEOUTS_TO_SERVE: u32 = 40;
/// The same for what does not depend on elections: reading back long journals.
const TIME_TO_SERVE: Duration = Duration::from_secs(10);
/// Commands of each ring that a healed quorum must commit.
const PROBES: u64 = 5;
/// How far a date jumps at the most.
const JUMP_MAX: Duration = Duration::from_secs(100_000);
/// Outputs that a process with a lit fuse may still make, at the most.
const FUSE_OUTPUTS_MAX: u64 = 8;

/// What comes due.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Due {
    Turn(usize),
    Start(usize),
    Accident(usize),
    /// A partition ends, or a flapping link comes back.
    Mend,
}

/// One seed's history.
pub struct Simulation {
    plan: Plan,
    random: Random,
    truth: TrueTime,
    scene: Shared,
    hub: Hub,
    switch: Switch,
    nodes: Vec<Node>,
    /// Nodes that take no part any more.
    given_up: Vec<bool>,
    timeline: BinaryHeap<Reverse<(Time, u64, Due)>>,
    arranged: u64,
    turns: u64,
}

impl Simulation {
    /// The history of a seed, before it begins. A traced one prints itself.
    pub fn new(seed: u64, is_traced: bool) -> Simulation {
        let mut random = Random::new(seed);
        let plan = Plan::draw(seed, &mut random);
        let truth = TrueTime::default();
        let scene: Shared = Rc::new(RefCell::new(Scene::new(&plan, &truth, is_traced)));
        let hub = Hub::new(&scene, &truth, &plan.network, Random::new(random.number()));
        let ids = plan.node_ids();
        let nodes: Vec<Node> =
            ids.into_iter().map(|id| Node::new(id, &plan, &scene, &truth, &mut random)).collect();
        let given_up = vec![false; nodes.len()];
        Simulation {
            plan,
            random,
            truth,
            scene,
            hub,
            switch: Switch::new(),
            nodes,
            given_up,
            timeline: BinaryHeap::new(),
            arranged: 0,
            turns: 0,
        }
    }

    /// The cluster and its accidents.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The last things that happened, one per line.
    pub fn story(&self) -> String {
        self.scene.borrow().story()
    }

    /// Plays the history.
    ///
    /// # Errors
    /// The first rule that was broken.
    ///
    /// # Panics
    /// A contract of the engine was violated.
    pub fn run(&mut self) -> Result<Summary, Violation> {
        for index in 0..self.nodes.len() {
            self.arrange(Duration::ZERO, Due::Start(index));
        }
        for class in 0..Accident::ALL.len() {
            self.arrange_accident(class);
        }
        let end = Time(0) + self.plan.duration;
        self.play(end, |_| false)?;
        self.heal();
        self.serve()?;
        self.agree()?;
        Ok(self.summary())
    }

    fn summary(&self) -> Summary {
        let scene = self.scene.borrow();
        let rings = self.plan.ring_ids();
        let ended =
            |as_: fn(&super::ledger::End) -> bool| scene.ledger.count(|end| end.as_ref().is_some_and(as_));
        Summary {
            seeds: 1,
            simulated: self.truth.now().since(Time(0)),
            turns: self.turns,
            frames: scene.frames,
            chosen: rings.iter().map(|ring| scene.chosen_count(*ring)).sum(),
            ballots_led: scene.ballots_led(),
            committed: ended(|end| matches!(end, super::ledger::End::Committed(_))),
            rejected: ended(|end| matches!(end, super::ledger::End::Rejected)),
            unknown: scene.ledger.count(|end| matches!(end, None | Some(super::ledger::End::Unknown))),
            faults: scene.faults.clone(),
            digest: scene.digest(),
        }
    }

    /// Lets happen what is due until `end`, or until it is enough; tells whether it was.
    fn play(
        &mut self,
        end: Time,
        mut is_enough: impl FnMut(&mut Simulation) -> bool,
    ) -> Result<bool, Violation> {
        while let Some(&Reverse((at, _, due))) = self.timeline.peek()
            && at <= end
        {
            self.timeline.pop();
            self.truth.advance_to(at.max(self.truth.now()));
            self.happen(due);
            if let Some(violation) = self.scene.borrow().violation() {
                return Err(violation.clone());
            }
            if is_enough(self) {
                return Ok(true);
            }
        }
        self.truth.advance_to(end);
        Ok(false)
    }

    fn happen(&mut self, due: Due) {
        match due {
            Due::Turn(index) => self.turn(index),
            Due::Start(index) => self.start(index),
            Due::Accident(class) => {
                self.befall(Accident::ALL[class]);
                self.arrange_accident(class);
            }
            Due::Mend => self.mend(),
        }
    }

    fn arrange(&mut self, delay: Duration, due: Due) {
        self.arrange_at(self.truth.now() + delay, due);
    }

    fn arrange_at(&mut self, at: Time, due: Due) {
        self.arranged += 1;
        self.timeline.push(Reverse((at, self.arranged, due)));
    }

    fn arrange_accident(&mut self, class: usize) {
        let interval = Accident::ALL[class].interval(&self.plan);
        if interval > Duration::ZERO {
            let delay = self.random.duration(interval * 2);
            self.arrange(delay, Due::Accident(class));
        }
    }

    /// The node takes a turn at `at` at the latest.
    fn wake(&mut self, index: usize, at: Time) {
        let node = &mut self.nodes[index];
        let at = at.max(node.paused_until);
        if node.is_up() && at < Time::NEVER && node.wake.is_none_or(|wake| at < wake) {
            node.wake = Some(at);
            self.arrange_at(at, Due::Turn(index));
        }
    }

    fn turn(&mut self, index: usize) {
        let now = self.truth.now();
        if self.nodes[index].wake != Some(now) {
            return; // It was woken earlier, or is down.
        }
        self.nodes[index].wake = None;
        if now < self.nodes[index].paused_until {
            let until = self.nodes[index].paused_until;
            return self.wake(index, until);
        }
        if self.random.below(100_000) < self.plan.process.fuse_per_100k {
            let outputs = self.random.below(FUSE_OUTPUTS_MAX);
            self.nodes[index].fuse.light(outputs);
        }
        self.turns += 1;
        let turned = self.nodes[index].turn();
        for (at, to) in self.hub.arrivals() {
            self.wake(usize::from(to.0) - 1, at);
        }
        match turned {
            Turned::Until(at) => self.wake(index, at),
            Turned::Died => self.crash(index, "crashes in a turn", false),
            Turned::Failed(why) => {
                self.scene.borrow_mut().note(format!("{:?} stops: {why}", self.nodes[index].id));
                self.crash(index, "stops of broken journals", false);
            }
        }
    }

    fn start(&mut self, index: usize) {
        if self.nodes[index].is_up() || self.given_up[index] {
            return;
        }
        match self.nodes[index].start(&self.plan, &self.hub, &self.switch) {
            Ok(()) => self.wake(index, self.truth.now()),
            Err(error) => {
                let id = self.nodes[index].id;
                self.scene.borrow_mut().fault("failed starts", || format!("{id:?} does not start: {error}"));
                self.nodes[index].kill();
                self.arrange(Duration::from_millis(100), Due::Start(index));
            }
        }
    }

    /// The process ends, maybe with the power of its machine; it comes back later.
    fn crash(&mut self, index: usize, class: &'static str, power: bool) {
        if !self.nodes[index].is_up() {
            return;
        }
        let node = &mut self.nodes[index];
        let id = node.id;
        node.kill();
        if power {
            node.disk.lose_power();
        }
        self.scene.borrow_mut().fault(class, || format!("{id:?}: {class}"));
        self.scene.borrow_mut().happen_to_all(&Happening::Crashed { node: id, survivors: 0 });
        self.hub.leave(id, &self.plan.node_ids());
        let down = self.random.duration(self.plan.process.down_max);
        self.arrange(down, Due::Start(index));
    }

    fn befall(&mut self, accident: Accident) {
        let index = self.random.below(self.nodes.len() as u64) as usize;
        match accident {
            Accident::Kill => self.crash(index, accident.name(), false),
            Accident::PowerFailure => {
                let everywhere = self.random.permille(300);
                for other in 0..self.nodes.len() {
                    if everywhere || other == index {
                        self.crash(other, accident.name(), true);
                    }
                }
            }
            Accident::Partition => self.partition(),
            Accident::Flap => self.flap(),
            Accident::Reset => self.reset(),
            Accident::Pause | Accident::SlowDisk | Accident::DateJump => self.trouble(index, accident),
        }
    }

    /// What befalls one node without ending its process.
    fn trouble(&mut self, index: usize, accident: Accident) {
        let now = self.truth.now();
        let node = &mut self.nodes[index];
        let id = node.id;
        self.scene.borrow_mut().fault(accident.name(), || format!("{id:?}: {accident:?}"));
        match accident {
            Accident::Pause => node.paused_until = now + self.random.duration(self.plan.process.pause_max),
            Accident::SlowDisk => {
                node.disk.slow_until(now + self.random.duration(self.plan.disk.slow_interval));
            }
            _ => node.clock.jump(self.random.duration(JUMP_MAX), self.random.permille(500)),
        }
    }

    fn partition(&mut self) {
        let ids = self.plan.node_ids();
        let cuts = draw_cuts(&ids, &mut self.random);
        self.scene.borrow_mut().fault(Accident::Partition.name(), || format!("cut: {cuts:?}"));
        for (from, to) in cuts {
            self.hub.cut(from, to, true);
        }
        let lasts = self.random.duration(self.plan.network.partition_interval * 2);
        self.arrange(lasts, Due::Mend);
    }

    fn mend(&mut self) {
        let ids = self.plan.node_ids();
        self.scene.borrow_mut().note("links mended".to_owned());
        for &from in &ids {
            for &to in ids.iter().filter(|to| **to != from) {
                self.hub.cut(from, to, false);
            }
        }
        self.deliver();
    }

    /// Everybody looks at what the network has for him.
    fn deliver(&mut self) {
        for (at, to) in self.hub.arrivals() {
            self.wake(usize::from(to.0) - 1, at);
        }
    }

    fn flap(&mut self) {
        let Some((from, to)) = self.pair() else { return };
        let is_cut = self.random.permille(500);
        self.scene.borrow_mut().fault(Accident::Flap.name(), || {
            format!("{from:?} -> {to:?} {}", if is_cut { "goes" } else { "comes" })
        });
        self.hub.cut(from, to, is_cut);
        self.deliver();
        if is_cut {
            let lasts = self.random.duration(self.plan.network.flap_interval);
            self.arrange(lasts, Due::Mend);
        }
    }

    fn reset(&mut self) {
        let Some((a, b)) = self.pair() else { return };
        self.scene.borrow_mut().fault(Accident::Reset.name(), || format!("{a:?} and {b:?} lose connection"));
        self.hub.reset(a, b);
        self.deliver();
    }

    fn pair(&mut self) -> Option<(NodeId, NodeId)> {
        let ids = self.plan.node_ids();
        let (a, b) = (self.random.pick(&ids), self.random.pick(&ids));
        (a != b).then_some((a, b))
    }

    /// From now on a random quorum is up, connected and on sound disks. The rest is down for good, or up
    /// behind links that are cut either way or one way.
    fn heal(&mut self) {
        self.scene.borrow_mut().note("a quorum heals for good".to_owned());
        self.plan = self.plan.healed();
        self.hub.replan(self.plan.network.clone());
        self.timeline.retain(|Reverse((_, _, due))| matches!(due, Due::Turn(_)));
        let mut order: Vec<usize> = (0..self.nodes.len()).collect();
        self.random.shuffle(&mut order);
        let quorum = self.nodes.len() / 2 + 1;
        let healthy = quorum + self.random.below((self.nodes.len() - quorum) as u64 + 1) as usize;
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
    fn serve(&mut self) -> Result<(), Violation> {
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
    fn agree(&mut self) -> Result<(), Violation> {
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
    fn standings(&mut self) -> Vec<(RingId, NodeId, Option<annulus_rings::Slot>)> {
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
