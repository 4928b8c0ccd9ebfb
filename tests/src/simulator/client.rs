//! The clients of a node, as a service on its core.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::time::Duration;

use annulus::{Completion, Local, Service};
use annulus_rings::{NodeId, RingId, Role, Time};

use super::command::{Request, read_reply, write_command};
use super::fuse::Fuse;
use super::ledger::End;
use super::plan::{LoadPlan, Plan};
use super::scene::Shared;
use super::session::Sessions;
use crate::chaos::Random;
use crate::linearizability::Operation;
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

/// Tells clients what to want, and knows those that go from node to node. Clones are the same switch.
#[derive(Clone)]
pub(super) struct Switch {
    demand: Rc<Cell<Demand>>,
    sessions: Option<Rc<RefCell<Sessions>>>,
}

impl Switch {
    pub(super) fn new(plan: &Plan) -> Switch {
        let registers = plan.load.registers.as_ref();
        let sessions = registers.map(|registers| Sessions::new(registers, plan.random("sessions")));
        Switch {
            demand: Rc::new(Cell::new(Demand::Usual)),
            sessions: sessions.map(|sessions| Rc::new(RefCell::new(sessions))),
        }
    }

    pub(super) fn set(&self, demand: Demand) {
        self.demand.set(demand);
    }
}

/// All clients of one life of a node.
pub(super) struct Clients {
    scene: Shared,
    plan: LoadPlan,
    /// What may be open in one ring, and wait for the journal, at the most (G12).
    open_max: u64,
    backlog_bytes_max: u64,
    /// Commands of the whole history, at the most.
    commands_max: u64,
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
    /// By ring, slots that this replica must have executed: a query or an answer showed them.
    executed: BTreeMap<RingId, u64>,
    command: Vec<u8>,
}

impl Clients {
    pub(super) fn new(
        scene: &Shared,
        plan: &Plan,
        random: Random,
        fuse: &Fuse,
        switch: &Switch,
        (node, rings): (NodeId, Vec<RingId>),
    ) -> Clients {
        Clients {
            scene: scene.clone(),
            plan: plan.load.clone(),
            open_max: plan.open_commands_max(),
            backlog_bytes_max: 2 * plan.journal().backlog_bytes_max as u64,
            commands_max: plan.commands_max,
            random,
            fuse: fuse.clone(),
            switch: switch.clone(),
            node,
            rings,
            last: Time(0),
            rest: Duration::ZERO,
            open: BTreeMap::new(),
            committed: BTreeMap::new(),
            executed: BTreeMap::new(),
            command: Vec::new(),
        }
    }

    fn propose(&mut self, ring: RingId, request: Option<Request>, local: &mut Local<'_>) {
        let number = self.scene.borrow_mut().ledger.propose(ring, self.node, request);
        self.submit(ring, number, request, local);
    }

    fn submit(&mut self, ring: RingId, number: u64, request: Option<Request>, local: &mut Local<'_>) {
        let padding = self.random.below(self.plan.command_bytes_max);
        write_command(&mut self.command, number, request, padding as usize);
        match local.propose(ring, number, &self.command) {
            Ok(()) => drop(self.open.insert(number, ring)),
            Err(_) => self.end(ring, number, End::Rejected, &[]),
        }
    }

    /// Proposes as many commands as come at once. Where there are registers, probes read them, so that
    /// everything that was answered is looked at once more when the cluster has healed.
    fn burst(&mut self, ring: RingId, local: &mut Local<'_>) -> usize {
        let burst = 1 + self.random.below(self.plan.burst_max);
        for _ in 0..burst {
            if self.has_enough(self.switch.demand.get()) {
                break;
            }
            let keys = self.plan.registers.as_ref().map(|registers| registers.keys);
            let request =
                keys.map(|keys| Request { key: self.random.below(keys), operation: Operation::Read });
            self.propose(ring, request, local);
        }
        burst as usize
    }

    /// Lets the clients that go from node to node ask here.
    fn visit(&mut self, ring: RingId, leads: bool, local: &mut Local<'_>) -> usize {
        let Some(sessions) = self.switch.sessions.clone() else { return 0 };
        let now = self.scene.borrow().now();
        let ready = sessions.borrow_mut().ready(now, ring, leads);
        for &session in &ready {
            if self.has_enough(Demand::Usual) {
                break;
            }
            let request = sessions.borrow_mut().draw(session);
            let number = self.scene.borrow_mut().ledger.propose(ring, self.node, Some(request));
            sessions.borrow_mut().waits(session, now, number, (ring, request));
            self.submit(ring, number, Some(request), local);
        }
        ready.len()
    }

    /// Whether clients have asked all that they may; probes they may always.
    fn has_enough(&self, demand: Demand) -> bool {
        demand == Demand::Usual && self.scene.borrow().ledger.proposed() >= self.commands_max
    }

    /// What waits at this node stays inside its bounds (G12).
    fn is_bounded(&self, ring: RingId, local: &Local<'_>) {
        let open = self.open.values().filter(|other| **other == ring).count() as u64;
        let backlog = local.statistics().journal.backlog_bytes_peak;
        if open > self.open_max || backlog > self.backlog_bytes_max {
            let what = format!(
                "{:?} has {open} commands open in ring {ring}, at most {}; {backlog} bytes waited for its journal, at most {}",
                self.node, self.open_max, self.backlog_bytes_max
            );
            self.scene.borrow_mut().judge(Err(Violation { rule: "G12", what }));
        }
    }

    /// Asks this replica, which may lag and never goes back, and is never behind an answer that it gave.
    fn query(&mut self, ring: RingId, local: &mut Local<'_>) {
        let mut reply = Vec::new();
        if local.query(ring, &[], &mut reply).is_err() || !self.fuse.output() {
            return;
        }
        let word = |index: usize| reply.get(8 * index..).and_then(|rest| rest.first_chunk()).copied();
        let (Some(slots), Some(state)) = (word(0), word(1)) else {
            let what = format!("{:?} answers a query with {reply:?}", self.node);
            return self.scene.borrow_mut().judge(Err(Violation { rule: "query", what }));
        };
        let (slots, state) = (u64::from_le_bytes(slots), u64::from_le_bytes(state));
        self.scene.borrow_mut().queried(ring, self.node, slots, state);
        let before = self.executed.insert(ring, slots).unwrap_or(0);
        if slots < before {
            let what = format!("{:?} answers after {slots} slots, and before after {before}", self.node);
            self.scene.borrow_mut().judge(Err(Violation { rule: "query", what }));
        }
    }

    /// A client is told an outcome, unless the process died before it could be.
    fn end(&mut self, ring: RingId, number: u64, end: End, reply: &[u8]) {
        if !self.fuse.output() {
            return;
        }
        let now = self.scene.borrow().now();
        self.scene.borrow_mut().ended(ring, number, end, reply);
        if let Some(sessions) = &self.switch.sessions {
            let answer = read_reply(reply).and_then(|(_, answer)| answer);
            sessions.borrow_mut().ended(now, number, end == End::Unknown, answer);
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
        let demand = self.switch.demand.get();
        self.last = local.now();
        self.rest = self.random.duration(self.plan.interval * 2);
        let ring = self.random.pick(&self.rings);
        self.query(ring, local);
        let leads = local.status(ring).is_some_and(|status| status.role == Role::Leader);
        self.is_bounded(ring, local);
        if demand == Demand::Nothing || self.open.len() >= OPEN_MAX || self.has_enough(demand) {
            return 0;
        }
        if demand == Demand::Usual && self.plan.registers.is_some() {
            return self.visit(ring, leads, local);
        }
        let astray = demand == Demand::Usual && self.random.permille(self.plan.astray_permille);
        if leads || astray { self.burst(ring, local) } else { 0 }
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
                let executed = self.executed.entry(ring).or_default();
                *executed = (*executed).max(slot.0 + 1);
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
        let hurries = self.switch.demand.get() == Demand::Probes;
        self.last + if hurries { self.rest.min(PROBE_INTERVAL) } else { self.rest }
    }
}
