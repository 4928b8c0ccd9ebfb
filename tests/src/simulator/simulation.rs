//! One seed's history: what is due next, happens.

mod befalling;
mod healing;
mod replacing;

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::rc::Rc;
use std::time::Duration;

use annulus_rings::{NodeId, Time};

use self::healing::Outlook;
use super::accident::Accident;
use super::client::Switch;
use super::clock::TrueTime;
use super::identities::Identities;
use super::ledger::End;
use super::network::Hub;
use super::node::{Node, Started, Turned};
use super::plan::Plan;
use super::scene::{Scene, Shared};
use super::shrink::Extent;
use super::summary::{Registers, Summary};
use crate::chaos::Random;
use crate::world::{Happening, Violation};

/// Outputs that a process with a lit fuse may still make, at the most.
const FUSE_OUTPUTS_MAX: u64 = 8;
/// The same for one that starts: what it erases, syncs and prepares.
const START_OUTPUTS_MAX: u64 = 12;
/// When a process that failed to start is started again.
const START_RETRY: Duration = Duration::from_millis(100);
/// What a core says that stops because a peer remembers more than its disk.
const FORGOTTEN: &str = "has forgotten votes";
/// How long a process is down between the restarts of a storm, at the most.
const STORM_DOWN_MAX: Duration = Duration::from_millis(3);

/// Looks at all disks during the accidents.
const INSPECTIONS: u32 = 2;

/// What comes due.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Due {
    Turn(usize),
    Start(usize),
    Accident(usize),
    /// A partition ends, or a flapping link comes back.
    Mend,
    /// What every disk holds is looked at.
    Inspection,
    /// Snapshots may be taken again.
    Release(usize),
}

/// One seed's history.
pub struct Simulation {
    plan: Plan,
    random: Random,
    /// The random numbers of each class of accidents.
    accidents: Vec<Random>,
    /// How many restarts of a storm each node has before it.
    storms: Vec<u64>,
    /// Those of crashes in a turn.
    fuses: Random,
    /// Those of looks at the disks.
    inspections: Random,
    truth: TrueTime,
    scene: Shared,
    hub: Hub,
    switch: Switch,
    nodes: Vec<Node>,
    /// Nodes that take no part any more.
    given_up: Vec<bool>,
    /// What is left in the second phase.
    outlook: Outlook,
    timeline: BinaryHeap<Reverse<(Time, u64, Due)>>,
    arranged: u64,
    turns: u64,
    is_calm: bool,
}

impl Simulation {
    /// The history of a plan, before it begins: that of its seed, but for what the plan leaves out. A traced
    /// one prints itself.
    pub fn of(plan: Plan, is_traced: bool) -> Simulation {
        let truth = TrueTime::default();
        let scene: Shared = Rc::new(RefCell::new(Scene::new(&plan, &truth, is_traced)));
        let hub = Hub::new(&scene, &truth, &plan);
        let ids = plan.node_ids();
        let nodes: Vec<Node> = ids.into_iter().map(|id| Node::new(id, &plan, &scene, &truth)).collect();
        let (given_up, storms) = (vec![false; nodes.len()], vec![0; nodes.len()]);
        let switch = Switch::new(&plan);
        let accidents = Accident::ALL.iter().map(|accident| plan.random(accident.name())).collect();
        Simulation {
            random: plan.random("simulation"),
            accidents,
            storms,
            fuses: plan.random("crashes in a turn"),
            inspections: plan.random("inspections"),
            plan,
            truth,
            scene,
            hub,
            switch,
            nodes,
            given_up,
            outlook: Outlook::Quorum,
            timeline: BinaryHeap::new(),
            arranged: 0,
            turns: 0,
            is_calm: false,
        }
    }

    /// The cluster and its accidents.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// How much of its plan has happened.
    pub fn extent(&self, plan: &Plan) -> Extent {
        let scene = self.scene.borrow();
        let now = Duration::from_millis(self.truth.now().since(Time(0)).as_millis() as u64 + 1);
        Extent {
            accidents: scene.accidents(),
            operations: scene.ledger.proposed(),
            ..Extent::of(plan, now.min(plan.duration))
        }
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
        for _ in 0..INSPECTIONS {
            let at = self.inspections.duration(self.plan.duration);
            self.arrange(at, Due::Inspection);
        }
        self.arrange(self.plan.duration, Due::Inspection);
        self.play(end, |_| false)?;
        self.heal();
        self.serve()?;
        self.agree()?;
        self.rest()?;
        let registers = self.scene.borrow().ledger.judge_registers()?;
        Ok(self.summary(registers))
    }

    fn summary(&self, registers: Registers) -> Summary {
        let scene = self.scene.borrow();
        let rings = self.plan.ring_ids();
        let ended = |as_: fn(&End) -> bool| scene.ledger.count(|end| end.as_ref().is_some_and(as_));
        Summary {
            seeds: 1,
            failed: 0,
            simulated: self.truth.now().since(Time(0)),
            turns: self.turns,
            frames: scene.frames,
            published: scene.published,
            restored: scene.restored,
            chosen: rings.iter().map(|ring| scene.chosen_count(*ring)).sum(),
            ballots_led: scene.ballots_led(),
            committed: ended(|end| matches!(end, End::Committed(_))),
            rejected: ended(|end| matches!(end, End::Rejected)),
            unknown: scene.ledger.count(|end| matches!(end, None | Some(End::Unknown))),
            queries: scene.queries,
            coverage: scene.coverage.clone(),
            registers,
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
            if !self.is_calm && self.has_had_enough() {
                self.calm();
            }
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
                // None is left once the cluster is calm.
                if Accident::ALL[class].interval(&self.plan) > Duration::ZERO {
                    self.befall(class);
                    self.arrange_accident(class);
                }
            }
            Due::Mend => self.mend(),
            Due::Inspection => self.inspect(),
            Due::Release(index) => self.release(index),
        }
    }

    /// Whatever the disks hold by now, every chosen value must be found on any quorum of the sound
    /// ones (G7).
    fn inspect(&mut self) {
        let sound = self.nodes.iter().filter(|node| !node.is_damaged());
        let sound: Vec<NodeId> = sound.map(|node| node.id).collect();
        self.scene.borrow_mut().recoverable(&sound);
    }

    fn has_had_enough(&self) -> bool {
        self.plan.accidents_max < u64::MAX && self.scene.borrow().accidents() >= self.plan.accidents_max
    }

    /// Nothing goes wrong any more: the plan has no more accidents to offer.
    fn calm(&mut self) {
        self.plan = self.plan.healed();
        self.hub.replan(self.plan.network.clone());
        for node in &self.nodes {
            node.disk.replan(self.plan.disk.clone());
            node.vault.replan(&self.plan);
        }
        self.is_calm = true;
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
            let delay = self.accidents[class].duration(interval * 2);
            self.arrange(delay, Due::Accident(class));
        }
    }

    /// The node takes a turn at `at` at the latest.
    fn wake(&mut self, index: usize, at: Time) {
        let now = self.truth.now();
        let node = &mut self.nodes[index];
        let at = at.max(node.paused_until).max(now);
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
        if self.fuses.below(100_000) < self.plan.process.fuse_per_100k {
            let outputs = self.fuses.below(FUSE_OUTPUTS_MAX);
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
                let id = self.nodes[index].id;
                self.scene.borrow_mut().note(format!("{id:?} stops: {why}"));
                if !why.contains(FORGOTTEN) {
                    return self.crash(index, "stops of broken journals", false);
                }
                let verdict = Identities::stopped(id, self.nodes[index].is_damaged());
                self.scene.borrow_mut().judge(verdict);
                self.crash(index, "stops of disks that had forgotten", false);
                self.nodes[index].refusal = Some(why);
            }
        }
    }

    fn start(&mut self, index: usize) {
        if self.nodes[index].is_up() || self.given_up[index] || self.nodes[index].refusal.is_some() {
            return;
        }
        let is_killed = self.fuses.permille(self.plan.process.start_fuse_permille) || self.storms[index] > 0;
        let fuse = self.fuses.below(START_OUTPUTS_MAX);
        self.scene.borrow_mut().identities.started(self.nodes[index].id);
        let started = self.nodes[index].start(&self.plan, &self.hub, &self.switch, is_killed.then_some(fuse));
        let id = self.nodes[index].id;
        self.deliver();
        match started {
            Started::Up => self.wake(index, self.truth.now()),
            Started::Killed => {
                self.nodes[index].kill();
                self.scene
                    .borrow_mut()
                    .fault("crashes at start", || format!("{id:?} is killed while it starts"));
                self.arrange_start(index);
            }
            Started::Hindered(why) => {
                self.nodes[index].kill();
                self.scene.borrow_mut().fault("failed starts", || format!("{id:?} does not start: {why}"));
                self.arrange(START_RETRY, Due::Start(index));
            }
            Started::Refused(why) => {
                self.nodes[index].kill();
                self.scene
                    .borrow_mut()
                    .fault("nodes stopped by damage", || format!("{id:?} stops for good: {why}"));
                self.nodes[index].refusal = Some(why);
            }
        }
    }

    /// A process that ended comes back: at once while it is in a storm of restarts.
    fn arrange_start(&mut self, index: usize) {
        let is_stormy = self.storms[index] > 0;
        self.storms[index] -= u64::from(is_stormy);
        let down_max = if is_stormy { STORM_DOWN_MAX } else { self.plan.process.down_max };
        let down = self.random.duration(down_max);
        self.arrange(down, Due::Start(index));
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
            node.vault.lose_power();
        }
        self.scene.borrow_mut().fault(class, || format!("{id:?}: {class}"));
        self.scene.borrow_mut().happen_to_all(&Happening::Crashed { node: id, survivors: 0 });
        self.hub.leave(id, &self.plan.node_ids());
        self.arrange_start(index);
    }
}
