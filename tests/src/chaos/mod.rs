//! Seeded accidents: a world that drops, duplicates, delays and reorders frames, crashes nodes in the
//! middle of their outputs, loses what was not durable, and then heals.
//!
//! One seed is one history. The [`Oracle`](crate::world::Oracle) judges every step of it; after the
//! accidents a quorum works for good, and must elect, serve and agree within a stated time (G11).

mod plan;
mod random;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use annulus_rings::{Input, NodeId, Time};

pub use plan::Plan;
pub use random::Random;

use crate::world::{Envelope, Happening, Retrieval, Wish, World};

/// Election timeouts within which a healed quorum has a leader and serves every probe.
const TIMEOUTS_TO_SERVE: u32 = 40;
/// Probes that a healed quorum must serve.
const PROBES: usize = 3;
/// Turns at one instant after which time would stand still for ever.
const TURNS_AT_ONCE_MAX: usize = 100_000;
/// Happenings kept for the report of a failure.
const REMEMBERED_MAX: usize = 120;

/// What comes due.
enum Due {
    Deliver(Envelope),
    Persist(NodeId),
    Retrieve(Retrieval),
    Start(NodeId),
    /// A node begins a snapshot.
    Snapshot,
    /// The snapshot that a node takes reaches its next stage.
    Stage(NodeId),
    Transfer(Wish),
    Install(NodeId),
    Propose,
    Heal,
    /// A split into those whose bit is set and the others; either way or one way.
    Split {
        members: u64,
        one_way: bool,
    },
}

/// What a seed came to.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Summary {
    /// Slots that were chosen.
    pub chosen: usize,
    /// Ballots that had a leader.
    pub ballots_led: usize,
    /// Crashes.
    pub crashes: usize,
    /// Stages that snapshots reached: durable, told, journal cut.
    pub snapshots: usize,
    /// Snapshots that came from a peer.
    pub transfers: usize,
    /// Steps of rings.
    pub steps: usize,
    /// Identifies the history: equal for equal seeds.
    pub digest: u64,
}

/// One seed's history.
pub struct Chaos {
    world: World,
    plan: Plan,
    random: Random,
    /// What comes due, by time and by the order in which it was arranged.
    timeline: BTreeMap<Reverse<(Time, u64)>, Due>,
    arranged: u64,
    commands: u64,
    /// Nodes whose next group of records is on its way to the disk.
    writing: Vec<NodeId>,
    summary: Summary,
    /// Turns since the time moved.
    turns_at_once: usize,
    /// How many of the world's happenings are in the digest.
    digested: usize,
}

impl Chaos {
    /// The history of a seed, before it begins.
    pub fn new(seed: u64) -> Chaos {
        let mut random = Random::new(seed);
        let plan = Plan::draw(&mut random);
        Chaos {
            world: World::new(plan.world(seed)),
            plan,
            random,
            timeline: BTreeMap::new(),
            arranged: 0,
            commands: 0,
            writing: Vec::new(),
            summary: Summary::default(),
            turns_at_once: 0,
            digested: 0,
        }
    }

    /// What accidents this seed knows.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The last things that happened, one per line.
    pub fn story(&self) -> String {
        let lines: Vec<String> = self.world.happenings.iter().map(Happening::to_string).collect();
        lines.join("\n")
    }

    /// Plays the history: accidents, then healing.
    ///
    /// # Panics
    /// A rule is broken, or the healed quorum does not serve.
    pub fn run(&mut self) -> Summary {
        self.misbehave();
        self.heal_for_good();
        self.serve();
        self.converge();
        self.summary.chosen = self.world.oracle().chosen_count();
        self.summary.ballots_led = self.world.oracle().ballots_led();
        self.summary
    }

    fn misbehave(&mut self) {
        self.arrange(Duration::ZERO, Due::Propose);
        if self.plan.snapshot_interval > Duration::ZERO {
            self.arrange(self.plan.snapshot_interval, Due::Snapshot);
        }
        if self.plan.split_interval > Duration::ZERO {
            self.arrange_split();
        }
        while self.summary.steps < self.plan.steps {
            self.turn();
        }
    }

    /// A random quorum is up and connected from now on; the others are down and stay so.
    fn heal_for_good(&mut self) {
        self.plan = self.plan.healed();
        self.world.heal();
        let mut ids = self.world.ids();
        self.random.shuffle(&mut ids);
        let down = self.random.below(ids.len() as u64 - ids.len() as u64 / 2) as usize;
        self.timeline
            .retain(|_, due| !matches!(due, Due::Start(_) | Due::Split { .. } | Due::Heal | Due::Propose));
        let (dead, healthy) = ids.split_at(down);
        for &id in dead {
            self.world.crash(id, 0);
        }
        for &id in healthy {
            self.world.start(id);
        }
        self.arrange_outputs();
    }

    /// Probes are served in time, whoever leads.
    fn serve(&mut self) {
        let end = self.world.now() + self.plan.election_timeout * TIMEOUTS_TO_SERVE;
        for probe in 0..PROBES {
            let chosen = self.world.oracle().chosen_count();
            while self.world.oracle().chosen_count() == chosen {
                assert!(
                    self.world.now() <= end,
                    "G11 violated: probe {probe} is not chosen {TIMEOUTS_TO_SERVE} election timeouts after healing"
                );
                if let Some(leader) = self.world.leader() {
                    self.propose_at(leader);
                }
                self.turn();
            }
        }
    }

    /// Every healthy replica executes everything that is chosen.
    fn converge(&mut self) {
        let end = self.world.now() + self.plan.election_timeout * TIMEOUTS_TO_SERVE;
        while !self.has_converged() {
            assert!(
                self.world.now() <= end,
                "G11 violated: after healing not everything is executed everywhere: {} chosen, {:?}",
                self.world.oracle().chosen_count(),
                self.world.ids().iter().map(|&id| self.world.progress(id)).collect::<Vec<_>>()
            );
            self.turn();
        }
    }

    fn has_converged(&self) -> bool {
        let chosen = self.world.oracle().chosen_count() as u64;
        let healthy = self.world.ids().into_iter().filter(|&id| self.world.node(id).is_up());
        healthy.into_iter().all(|id| self.world.progress(id).executed.0 == chosen)
    }

    /// The next thing that comes due happens, and what follows from it is arranged.
    fn turn(&mut self) {
        let arranged = self.timeline.last_key_value().map_or(Time::NEVER, |(Reverse((time, _)), _)| *time);
        let deadline = self.world.deadline();
        self.advance_to(arranged.min(deadline));
        if deadline < arranged {
            self.tick(deadline);
        } else if let Some((_, due)) = self.timeline.pop_last() {
            self.happen(due);
        }
        self.arrange_outputs();
        self.remember();
    }

    fn advance_to(&mut self, time: Time) {
        self.turns_at_once = if time > self.world.now() { 0 } else { self.turns_at_once + 1 };
        assert!(self.turns_at_once < TURNS_AT_ONCE_MAX, "G11 violated: a deadline that passed stays due");
        self.world.advance_to(time);
    }

    fn tick(&mut self, deadline: Time) {
        let due = |id: &NodeId| self.world.node(*id).deadline() <= deadline;
        let id = self.world.ids().into_iter().find(due).expect("somebody's deadline came");
        self.step(id, Input::Tick);
    }

    fn happen(&mut self, due: Due) {
        match due {
            Due::Deliver(Envelope { to, frame, .. }) => self.step(to, Input::Frame(frame)),
            Due::Persist(id) => self.persist(id),
            Due::Retrieve(retrieval) => {
                self.summary.steps += 1;
                self.world.retrieve(retrieval);
            }
            Due::Start(id) => {
                let rotten = self.random.permille(self.plan.rotten_permille);
                self.world.start_from(id, rotten);
            }
            Due::Snapshot => self.snapshot(),
            Due::Stage(id) => self.stage(id),
            Due::Transfer(wish) => self.transfer(wish),
            Due::Install(id) => self.install(id),
            Due::Propose => self.propose(),
            Due::Heal => {
                self.world.heal();
                self.arrange_split();
            }
            Due::Split { members, one_way } => self.split(members, one_way),
        }
    }

    /// One step of a node, in the middle of which it may crash.
    fn step(&mut self, id: NodeId, input: Input) {
        self.summary.steps += 1;
        if !self.random.permille(self.plan.crash_permille) {
            return self.world.step(id, input);
        }
        let (transmits, survivors) = (self.random.below(4) as usize, self.survivors());
        self.world.step_and_crash(id, input, transmits, survivors);
        self.crashed(id);
    }

    fn crashed(&mut self, id: NodeId) {
        self.summary.crashes += 1;
        self.writing.retain(|&writer| writer != id);
        let delay = self.random.duration(self.plan.down_time_max);
        self.arrange(delay, Due::Start(id));
    }

    /// How many unreported records a crash leaves on the disk.
    fn survivors(&mut self) -> usize {
        let all = self.random.permille(300);
        if all { usize::MAX } else { self.random.below(4) as usize }
    }

    /// A group write completes, maybe of a part of what waits.
    fn persist(&mut self, id: NodeId) {
        self.writing.retain(|&writer| writer != id);
        let waiting = self.world.node(id).undurable() as u64;
        let partial = self.random.permille(self.plan.partial_write_permille);
        let records = if partial { 1 + self.random.below(waiting.max(1)) } else { waiting };
        self.summary.steps += 1;
        self.world.persist(id, records as usize);
    }

    fn propose(&mut self) {
        let id = self.any();
        for _ in 0..=self.random.below(3) {
            self.propose_at(id);
        }
        let delay = self.random.duration(self.plan.propose_interval * 2);
        self.arrange(delay, Due::Propose);
    }

    fn propose_at(&mut self, id: NodeId) {
        self.commands += 1;
        let command = format!("c{}{}", self.commands, "·".repeat(self.plan.padding_count));
        self.world.propose(id, &[&command]);
    }

    /// A node begins a snapshot; another frees space, in one way or another.
    fn snapshot(&mut self) {
        let id = self.any();
        self.world.begin_snapshot(id);
        self.arrange_stage(id);
        let id = self.any();
        if self.random.permille(self.plan.carry_permille) {
            self.world.carry(id);
        } else if self.random.permille(200) {
            self.world.truncate_restored(id);
        }
        let (id, records) = (self.any(), self.random.below(60) as usize);
        self.world.free(id, records);
        let delay = self.random.duration(self.plan.snapshot_interval * 2);
        self.arrange(delay, Due::Snapshot);
    }

    fn arrange_stage(&mut self, id: NodeId) {
        let delay = self.random.duration(self.plan.snapshot_time_max);
        self.arrange(delay, Due::Stage(id));
    }

    /// A snapshot goes on, or is given up, or its node stops between two stages.
    fn stage(&mut self, id: NodeId) {
        self.summary.steps += 1;
        if self.stops_in_between(id) {
            return;
        }
        if self.random.permille(self.plan.abandon_permille) {
            self.world.abandon_snapshot(id);
        }
        if self.world.continue_snapshot(id) {
            self.summary.snapshots += 1;
            self.arrange_stage(id);
        }
    }

    /// A peer's snapshot arrives; it takes effect later, if its node lives.
    fn transfer(&mut self, wish: Wish) {
        self.summary.steps += 1;
        if self.world.transfer(wish) {
            self.summary.transfers += 1;
            let delay = self.random.duration(self.plan.snapshot_time_max);
            self.arrange(delay, Due::Install(wish.node));
        }
    }

    fn install(&mut self, id: NodeId) {
        self.summary.steps += 1;
        if !self.stops_in_between(id) {
            self.world.install(id);
        }
    }

    /// Snapshots are few, so what may stop a node in the middle of a step does so more often here.
    fn stops_in_between(&mut self, id: NodeId) -> bool {
        let stops = self.random.permille(self.plan.crash_permille * 5) && self.world.node(id).is_up();
        if stops {
            let survivors = self.survivors();
            self.world.crash(id, survivors);
            self.crashed(id);
        }
        stops
    }

    fn any(&mut self) -> NodeId {
        let ids = self.world.ids();
        ids[self.random.below(ids.len() as u64) as usize]
    }

    fn split(&mut self, members: u64, one_way: bool) {
        for a in self.world.ids() {
            for b in self.world.ids() {
                let (inside, outside) = (members >> a.0 & 1 == 1, members >> b.0 & 1 == 0);
                if inside && outside {
                    self.world.cut(a, b);
                    if !one_way {
                        self.world.cut(b, a);
                    }
                }
            }
        }
        let delay = self.random.duration(self.plan.split_interval * 2);
        self.arrange(delay, Due::Heal);
    }

    fn arrange_split(&mut self) {
        let (members, one_way) = (self.random.number(), self.random.permille(300));
        let delay = self.random.duration(self.plan.split_interval * 2);
        self.arrange(delay, Due::Split { members, one_way });
    }

    /// Arranges when what the rings asked for happens.
    fn arrange_outputs(&mut self) {
        for envelope in std::mem::take(&mut self.world.flight) {
            self.arrange_delivery(envelope);
        }
        for retrieval in std::mem::take(&mut self.world.retrievals) {
            let delay = self.random.duration(self.plan.write_time_max);
            self.arrange(delay, Due::Retrieve(retrieval));
        }
        for wish in std::mem::take(&mut self.world.wishes) {
            let delay = self.random.duration(self.plan.snapshot_time_max * 2);
            self.arrange(delay, Due::Transfer(wish));
        }
        for id in self.world.ids() {
            if self.world.node(id).undurable() > 0 && !self.writing.contains(&id) {
                self.writing.push(id);
                let delay = self.random.duration(self.plan.write_time_max);
                self.arrange(delay, Due::Persist(id));
            }
        }
    }

    fn arrange_delivery(&mut self, envelope: Envelope) {
        if self.random.permille(self.plan.drop_permille) {
            return;
        }
        while self.random.permille(self.plan.duplicate_permille) {
            let delay = self.delay();
            self.arrange(delay, Due::Deliver(envelope.clone()));
        }
        let delay = self.delay();
        self.arrange(delay, Due::Deliver(envelope));
    }

    /// The time that a frame takes: mostly short, sometimes so long that it meets another world.
    fn delay(&mut self) -> Duration {
        let late = self.random.permille(self.plan.late_permille);
        let delay_max = if late { self.plan.election_timeout * 6 } else { self.plan.delay_max };
        self.random.duration(delay_max)
    }

    fn arrange(&mut self, delay: Duration, due: Due) {
        self.arranged += 1;
        self.timeline.insert(Reverse((self.world.now() + delay, self.arranged)), due);
    }

    /// Folds what happened since the last turn into the digest and forgets what is long past.
    fn remember(&mut self) {
        let happenings = &mut self.world.happenings;
        for frame in happenings[self.digested..].iter().filter_map(Happening::frame) {
            self.summary.digest = self.summary.digest.rotate_left(7) ^ frame.checksum();
        }
        let forgotten = happenings.len().saturating_sub(REMEMBERED_MAX);
        happenings.drain(..forgotten);
        self.digested = happenings.len();
    }
}
