//! A node: a disk and a clock that stay, and a process that comes and goes.

use annulus::StateMachine;
use annulus::clock::Clock as _;
use annulus::core::{Core, CoreParts};
use annulus_rings::{Incarnation, NodeId, RingId, Role, Time};
use annulus_storage::Unrecovered;

use super::client::{Clients, Switch};
use super::clock::{SimulatedClock, TrueTime};
use super::disk::SimulatedDisk;
use super::fuse::Fuse;
use super::machine::Machine;
use super::network::{Hub, SimulatedNetwork};
use super::plan::Plan;
use super::scene::Shared;
use super::vault::{Copied, SimulatedVault};
use crate::chaos::Random;
use crate::world::Violation;

/// The shipped core over everything simulated.
type SimulatedCore = Core<SimulatedDisk, SimulatedNetwork, SimulatedClock>;

/// See the module.
pub(super) struct Node {
    pub(super) id: NodeId,
    /// The life of its disk.
    pub(super) incarnation: Incarnation,
    /// How many disks it has had.
    pub(super) disks: u32,
    pub(super) disk: SimulatedDisk,
    pub(super) vault: SimulatedVault,
    pub(super) clock: SimulatedClock,
    pub(super) fuse: Fuse,
    /// When it takes its next turn.
    pub(super) wake: Option<Time>,
    /// It does not get the CPU before.
    pub(super) paused_until: Time,
    /// Why it never starts again: its disk is damaged, and it said so.
    pub(super) refusal: Option<String>,
    /// What its vault held when its disk was copied.
    pub(super) copy: Option<Copied>,
    core: Option<SimulatedCore>,
    scene: Shared,
    truth: TrueTime,
    rings: Vec<RingId>,
    random: Random,
}

/// How a turn ended.
pub(super) enum Turned {
    /// It goes on at this time, unless something happens before.
    Until(Time),
    /// The process stopped by itself: its journal is broken.
    Failed(String),
    /// The process died in the middle of its outputs.
    Died,
}

/// How a start ended.
pub(super) enum Started {
    /// The process lives.
    Up,
    /// It was killed before it did.
    Killed,
    /// Something failed that may pass.
    Hindered(String),
    /// Its disk is damaged, it says so, and stops for good.
    Refused(String),
}

/// The time that a turn takes.
const TURN_NS: u64 = 5_000;
/// The time between turns while a core waits for room in its journal.
const SPIN_NS: u64 = 200_000;

impl Node {
    pub(super) fn new(id: NodeId, plan: &Plan, scene: &Shared, truth: &TrueTime) -> Node {
        let fuse = Fuse::default();
        let mut own = plan.random(&format!("node {}", id.0));
        let drift = own.below(2 * plan.process.drift_permyriad + 1).cast_signed();
        let drift = drift - plan.process.drift_permyriad.cast_signed();
        Node {
            id,
            incarnation: Incarnation(1),
            disks: 1,
            disk: SimulatedDisk::new(scene, truth, (id, &fuse), plan),
            vault: SimulatedVault::new(scene, truth, (id, &fuse), plan),
            clock: SimulatedClock::new(truth, drift),
            fuse,
            wake: None,
            paused_until: Time(0),
            refusal: None,
            copy: None,
            core: None,
            scene: scene.clone(),
            truth: truth.clone(),
            rings: plan.ring_ids(),
            random: own,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.core.is_some()
    }

    /// Starts a process from what the disk holds. With a fuse it may be killed before it lives.
    pub(super) fn start(&mut self, plan: &Plan, hub: &Hub, switch: &Switch, fuse: Option<u64>) -> Started {
        self.fuse.replace();
        fuse.inspect(|outputs| self.fuse.light(*outputs));
        self.disk.starting();
        self.vault.starting();
        let whose = (self.id, self.rings.clone());
        let random = Random::new(self.random.number());
        let clients = Clients::new(&self.scene, plan, random, &self.fuse, switch, whose);
        let journal =
            Unrecovered::open(self.disk.clone(), plan.identity(self.id, self.incarnation), plan.journal());
        let parts = CoreParts {
            options: plan.core(self.id, self.incarnation),
            clock: self.clock.clone(),
            journal: journal.expect("the options of the plan are sound"),
            vault: Box::new(self.vault.clone()),
            network: hub.join((self.id, self.incarnation, self.disks), &plan.node_ids(), &self.fuse),
            service: Some(Box::new(clients)),
        };
        let machine = |ring: &RingId| {
            let machine = Machine::new(&self.scene, (*ring, self.id), plan.saving.ballast_records);
            (*ring, Box::new(machine) as Box<dyn StateMachine>)
        };
        let machines = self.rings.iter().map(machine).collect();
        self.scene.borrow_mut().recovering();
        let core = Core::open(parts, machines);
        if core.is_ok() {
            self.disk.recovered();
        }
        self.scene.borrow_mut().recovered(self.id, core.is_ok());
        match core {
            Ok(core) => {
                self.core = Some(core);
                Started::Up
            }
            Err(why) => self.judge_failure(why.to_string()),
        }
    }

    /// A start may fail of an accident that passes, and must fail of damage; never without a cause.
    fn judge_failure(&self, why: String) -> Started {
        if self.fuse.is_burnt() {
            Started::Killed
        } else if self.disk.has_passing_trouble() || self.vault.has_passing_trouble() {
            Started::Hindered(why)
        } else {
            if !self.disk.is_damaged() && !self.vault.is_damaged() {
                let what = format!("{:?} does not start from a sound disk: {why}", self.id);
                self.scene.borrow_mut().judge(Err(Violation { rule: "G11", what }));
            }
            Started::Refused(why)
        }
    }

    /// Whether something durable was ever harmed.
    pub(super) fn is_damaged(&self) -> bool {
        self.disk.is_damaged() || self.vault.was_harmed()
    }

    /// Asks for a snapshot; false while it is down.
    pub(super) fn request_snapshot(&mut self, ring: RingId) -> bool {
        let now = self.clock.now();
        self.core.as_mut().map(|core| core.ask_for_snapshot(ring, now)).is_some()
    }

    /// Holds snapshots off, or lets them be taken again; false while it is down.
    pub(super) fn hold_snapshots(&mut self, is_held: bool) -> bool {
        let now = self.clock.now();
        let Some(core) = &mut self.core else { return false };
        self.rings.iter().for_each(|ring| core.hold_snapshots(*ring, is_held, now));
        true
    }

    /// Copies its disk, snapshots and all.
    pub(super) fn back_up(&mut self) {
        self.disk.back_up();
        self.copy = Some(self.vault.copy());
    }

    /// The copy takes the place of the disk.
    pub(super) fn put_back(&mut self) {
        self.disk.restore();
        self.copy.take().into_iter().for_each(|copy| self.vault.put_back(copy));
    }

    /// The process ends at once.
    pub(super) fn kill(&mut self) {
        self.core = None;
        self.wake = None;
        self.paused_until = Time(0);
        self.disk.abandon();
        self.vault.abandon();
    }

    /// Takes a turn and tells what comes next.
    pub(super) fn turn(&mut self) -> Turned {
        let core = self.core.as_mut().expect("a node that is up takes turns");
        let work = core.turn(self.clock.now());
        if self.fuse.is_lit() {
            return Turned::Died;
        }
        if let Some(why) = core.failure() {
            return Turned::Failed(why.to_owned());
        }
        for &ring in &self.rings {
            let status = core.status(ring).expect("every node hosts every ring");
            self.scene.borrow_mut().stands(ring, self.id, &status);
        }
        let now = self.truth.now();
        let due = self.clock.truth_of(core.deadline()).min(self.disk.next_due()).min(self.vault.next_due());
        Turned::Until(if work > 0 {
            Time(now.0 + TURN_NS)
        } else if core.prepare_park() {
            Time(now.0 + SPIN_NS)
        } else {
            due.max(Time(now.0 + 1))
        })
    }

    /// Whether it leads a ring.
    pub(super) fn leads(&mut self, ring: RingId) -> bool {
        let status = self.core.as_mut().and_then(|core| core.status(ring));
        status.is_some_and(|status| status.role == Role::Leader)
    }

    /// The first slot of a ring that it has not executed.
    pub(super) fn executed(&mut self, ring: RingId) -> Option<annulus_rings::Slot> {
        Some(self.core.as_mut()?.status(ring)?.progress.executed)
    }
}
