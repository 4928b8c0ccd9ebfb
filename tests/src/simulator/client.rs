//! The clients of a node, as a service on its core.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::time::Duration;

use annulus::{Completion, Local, Service};
use annulus_rings::{NodeId, RingId, Role, Time};

use super::fuse::Fuse;
use super::ledger::{End, write_command};
use super::plan::LoadPlan;
use super::scene::Shared;
use crate::chaos::Random;
use crate::world::Violation;

/// Commands of one node whose outcome is open, at the most.
const OPEN_MAX: usize = 256;

/// How long clients that probe wait between bursts, at the most.
const PROBE_INTERVAL: Duration = Duration::from_millis(50);

/// What all clients of a cluster want.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Demand {
    /// What the plan says.
    Usual,
    /// Commands at every leader, soon.
    Probes,
    /// Nothing.
    Nothing,
}

/// Tells clients what to want. Clones are the same switch.
#[derive(Clone)]
pub(super) struct Switch(Rc<Cell<Demand>>);

impl Switch {
    pub(super) fn new() -> Switch {
        Switch(Rc::new(Cell::new(Demand::Usual)))
    }

    pub(super) fn set(&self, demand: Demand) {
        self.0.set(demand);
    }
}

/// All clients of one life of a node.
pub(super) struct Clients {
    scene: Shared,
    plan: LoadPlan,
    random: Random,
    fuse: Fuse,
    switch: Switch,
    node: NodeId,
    rings: Vec<RingId>,
    /// When they last thought of proposing, and how long they rest after that.
    last: Time,
    rest: Duration,
    /// Rings of commands whose outcome is open.
    open: BTreeMap<u64, RingId>,
    /// By ring, the last command that was committed.
    committed: BTreeMap<RingId, u64>,
    command: Vec<u8>,
}

impl Clients {
    pub(super) fn new(
        scene: &Shared,
        plan: &LoadPlan,
        random: Random,
        fuse: &Fuse,
        switch: &Switch,
        (node, rings): (NodeId, Vec<RingId>),
    ) -> Clients {
        Clients {
            scene: scene.clone(),
            plan: plan.clone(),
            random,
            fuse: fuse.clone(),
            switch: switch.clone(),
            node,
            rings,
            last: Time(0),
            rest: Duration::ZERO,
            open: BTreeMap::new(),
            committed: BTreeMap::new(),
            command: Vec::new(),
        }
    }

    fn propose(&mut self, ring: RingId, local: &mut Local<'_>) {
        let number = self.scene.borrow_mut().ledger.propose(ring, self.node);
        let padding = self.random.below(self.plan.command_bytes_max);
        write_command(&mut self.command, number, padding as usize);
        match local.propose(ring, number, &self.command) {
            Ok(()) => drop(self.open.insert(number, ring)),
            Err(_) => self.end(ring, number, End::Rejected, &[]),
        }
    }

    /// A client is told an outcome, unless the process died before it could be.
    fn end(&mut self, ring: RingId, number: u64, end: End, reply: &[u8]) {
        if self.fuse.output() {
            self.scene.borrow_mut().ended(ring, number, end, reply);
        }
    }

    /// Outcomes of one ring come in the order of the proposals, as long as they are committed.
    fn is_in_order(&mut self, ring: RingId, number: u64) -> Result<(), Violation> {
        let before = self.committed.insert(ring, number);
        if before.is_none_or(|before| before < number) {
            return Ok(());
        }
        let what = format!("{:?} tells of command {number} after {before:?}", self.node);
        Err(Violation { rule: "L4", what })
    }
}

impl Service for Clients {
    fn turn(&mut self, local: &mut Local<'_>) -> usize {
        if local.now() < self.deadline() {
            return 0;
        }
        let demand = self.switch.0.get();
        self.last = local.now();
        self.rest = self.random.duration(self.plan.interval * 2);
        let ring = self.random.pick(&self.rings);
        let leads = local.status(ring).is_some_and(|status| status.role == Role::Leader);
        let astray = demand == Demand::Usual && self.random.permille(self.plan.astray_permille);
        if demand == Demand::Nothing || !(leads || astray) || self.open.len() >= OPEN_MAX {
            return 0;
        }
        let burst = 1 + self.random.below(self.plan.burst_max);
        for _ in 0..burst {
            self.propose(ring, local);
        }
        burst as usize
    }

    fn completed(&mut self, tag: u64, completion: Completion<'_>) {
        let Some(ring) = self.open.remove(&tag) else {
            let what = format!("command {tag} of {:?} ends and was not under way", self.node);
            return self.scene.borrow_mut().judge(Err(Violation { rule: "once", what }));
        };
        match completion {
            Completion::Committed { slot, reply } => {
                let verdict = self.is_in_order(ring, tag);
                self.scene.borrow_mut().judge(verdict);
                self.end(ring, tag, End::Committed(slot), reply);
            }
            Completion::Rejected(_) => self.end(ring, tag, End::Rejected, &[]),
            Completion::Unknown => self.end(ring, tag, End::Unknown, &[]),
        }
    }

    fn flush(&mut self) {}

    fn prepare_park(&mut self) -> bool {
        false
    }

    fn register_wake(&mut self, _eventfd: RawFd) -> io::Result<()> {
        Ok(())
    }

    fn deadline(&self) -> Time {
        let hurries = self.switch.0.get() == Demand::Probes;
        self.last + if hurries { self.rest.min(PROBE_INTERVAL) } else { self.rest }
    }
}
