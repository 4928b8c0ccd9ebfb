//! One seed's history: what is due next, happens.

mod befalling;
mod healing;

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::rc::Rc;
use std::time::Duration;

use annulus_rings::Time;

use super::accident::Accident;
use super::client::Switch;
use super::clock::TrueTime;
use super::ledger::End;
use super::network::Hub;
use super::node::{Node, Turned};
use super::plan::Plan;
use super::scene::{Scene, Shared};
use super::summary::Summary;
use crate::chaos::Random;
use crate::world::{Happening, Violation};

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
        let ended = |as_: fn(&End) -> bool| scene.ledger.count(|end| end.as_ref().is_some_and(as_));
        Summary {
            seeds: 1,
            simulated: self.truth.now().since(Time(0)),
            turns: self.turns,
            frames: scene.frames,
            chosen: rings.iter().map(|ring| scene.chosen_count(*ring)).sum(),
            ballots_led: scene.ballots_led(),
            committed: ended(|end| matches!(end, End::Committed(_))),
            rejected: ended(|end| matches!(end, End::Rejected)),
            unknown: scene.ledger.count(|end| matches!(end, None | Some(End::Unknown))),
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
            Ok(()) => {
                self.deliver();
                self.wake(index, self.truth.now());
            }
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
}
