//! What an observer of the whole cluster sees: every frame, record, role, execution and answer.
//!
//! Simulated disks, networks, state machines and clients report here while a core takes its turn. Nothing
//! panics in the middle of that turn: the first rule that is broken is kept and ends the run after it.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io::{self, Write as _};
use std::rc::Rc;

use annulus::RingStatus;
use annulus_rings::frame::{ValueId, checksum};
use annulus_rings::{Commands, Frame, Kind, Lsn, NodeId, Progress, RingId, Role, Slot, Time};

use super::clock::TrueTime;
use super::coverage::{Coverage, Standing};
use super::identities::Identities;
use super::ledger::{End, Execution, Ledger, chain};
use super::plan::Plan;
use crate::world::{Happening, Oracle, State, Violation};

/// Lines kept for the report of a failure.
const REMEMBERED_MAX: usize = 200;

/// The observer, shared by everything that is simulated.
pub(super) type Shared = Rc<RefCell<Scene>>;

/// See the module.
pub(super) struct Scene {
    truth: TrueTime,
    window_slots: u64,
    rings: BTreeMap<RingId, Observed>,
    pub(super) ledger: Ledger,
    /// While a node recovers: what it executes is judged when its disk is known to hold what it read.
    deferred: Option<Vec<Deferred>>,
    violation: Option<Violation>,
    digest: u64,
    story: VecDeque<Line>,
    is_traced: bool,
    pub(super) faults: BTreeMap<&'static str, u64>,
    pub(super) frames: u64,
    /// Records handed to disks.
    pub(super) records: u64,
    /// Snapshots that became durable, and that state machines took.
    pub(super) published: u64,
    pub(super) restored: u64,
    pub(super) queries: u64,
    pub(super) coverage: Coverage,
    pub(super) identities: Identities,
    /// Commands committed to clients, by ring, since the cluster healed.
    pub(super) served: BTreeMap<RingId, u64>,
}

/// One ring.
struct Observed {
    oracle: Oracle,
    /// Every value that was ever proposed, and the digest of its commands.
    values: BTreeMap<ValueId, (Frame, u64)>,
    /// By node, from 1.
    standings: Vec<Standing>,
}

impl Observed {
    fn stands(&mut self, happening: &Happening) {
        match happening {
            Happening::Started { node, .. } => *self.standing(*node) = Standing::NEW,
            Happening::Role { node, role, ballot } => self.standing(*node).takes(*role, *ballot),
            Happening::Sent { from, frame, .. } if frame.kind() == Kind::PreVote => {
                self.standing(*from).asks(frame.header().ballot);
            }
            _ => {}
        }
    }

    fn standing(&mut self, node: NodeId) -> &mut Standing {
        &mut self.standings[usize::from(node.0) - 1]
    }
}

/// What a state machine does while its node recovers.
enum Deferred {
    Executed(Executed),
    /// It has the state of a snapshot.
    Restored(RingId, Slot),
}

/// A slot that a replica executed, by the digest of its commands.
struct Executed {
    ring: RingId,
    node: NodeId,
    slot: Slot,
    digest: u64,
}

/// A line of the story, told only when somebody reads it.
struct Line(Time, Told);

enum Told {
    Ring(RingId, Box<Happening>),
    Fault(String),
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Line(at, told) = self;
        match told {
            Told::Ring(ring, happening) => write!(f, "{at:>14?} r{ring}  {happening}"),
            Told::Fault(what) => write!(f, "{at:>14?} --  {what}"),
        }
    }
}

/// The digest of the commands of a value, without its time, which replicas see as a running maximum.
fn digest_of(accept: &Frame) -> u64 {
    Commands::of(accept).fold(0, |digest, command| chain(digest, checksum(command)))
}

impl Scene {
    /// The scene of a plan, before anything happens.
    pub(super) fn new(plan: &Plan, truth: &TrueTime, is_traced: bool) -> Scene {
        let observed = || Observed {
            oracle: Oracle::new(usize::from(plan.nodes), plan.window_slots),
            values: BTreeMap::new(),
            standings: vec![Standing::NEW; usize::from(plan.nodes)],
        };
        Scene {
            truth: truth.clone(),
            window_slots: u64::from(plan.window_slots),
            rings: plan.ring_ids().into_iter().map(|ring| (ring, observed())).collect(),
            ledger: Ledger::default(),
            deferred: None,
            violation: None,
            digest: 0,
            story: VecDeque::new(),
            is_traced,
            faults: BTreeMap::new(),
            frames: 0,
            records: 0,
            published: 0,
            restored: 0,
            queries: 0,
            coverage: Coverage::default(),
            identities: Identities::default(),
            served: BTreeMap::new(),
        }
    }

    /// The first rule that was broken.
    pub(super) fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    /// Identifies everything that happened.
    pub(super) fn digest(&self) -> u64 {
        self.digest
    }

    /// The last things that happened, one per line.
    pub(super) fn story(&self) -> String {
        let lines: Vec<String> = self.story.iter().map(Line::to_string).collect();
        lines.join("\n")
    }

    /// An accident.
    pub(super) fn fault(&mut self, class: &'static str, what: impl FnOnce() -> String) {
        *self.faults.entry(class).or_default() += 1;
        self.note(what());
    }

    /// Something that the story is easier to read with.
    pub(super) fn note(&mut self, what: String) {
        self.fold(self.truth.now().0, what.len() as u64);
        self.tell(Told::Fault(what));
    }

    /// A frame leaves a node.
    pub(super) fn sent(&mut self, from: NodeId, to: NodeId, frame: &Frame, lost: bool) {
        self.frames += 1;
        self.learn_value(frame);
        let verdict = self.identities.sent(from, to, frame);
        self.judge(verdict);
        if matches!(frame.kind(), Kind::SnapshotAsk | Kind::SnapshotPiece) {
            // The rings never see it: what comes of it is judged where it is published and restored.
            return self.note(format!("{from:?} -> {to:?} {:?} of {:?}", frame.kind(), frame.header().slot));
        }
        self.happen(frame.ring(), Happening::Sent { from, to, frame: frame.clone(), lost });
    }

    /// A frame is handed to a node.
    pub(super) fn delivered(&mut self, to: NodeId, frame: &Frame) {
        if let Some(observed) = self.rings.get_mut(&frame.ring()) {
            let state = observed.standing(to).state();
            self.coverage.delivered(state, frame.kind());
        }
    }

    /// A record is handed to a disk.
    pub(super) fn appended(&mut self, node: NodeId, lsn: Lsn, frame: &Frame) {
        self.records += 1;
        self.learn_value(frame);
        self.happen(frame.ring(), Happening::Appended { node, lsn, frame: frame.clone() });
    }

    fn learn_value(&mut self, frame: &Frame) {
        if frame.kind() == Kind::Accept
            && let Some(observed) = self.rings.get_mut(&frame.ring())
        {
            observed.values.entry(frame.value()).or_insert_with(|| (frame.clone(), digest_of(frame)));
        }
    }

    /// Something happens to one replica.
    pub(super) fn happen(&mut self, ring: RingId, happening: Happening) {
        let checksum = happening.frame().map_or(1, Frame::checksum);
        self.fold(self.truth.now().0, checksum);
        if let Happening::Durable { node, frame, .. } = &happening {
            self.identities.durable(*node, frame);
        }
        if let Some(observed) = self.rings.get_mut(&ring) {
            let verdict = observed.oracle.observe(&happening);
            observed.stands(&happening);
            self.tell(Told::Ring(ring, Box::new(happening)));
            self.judge(verdict);
        } else {
            self.tell(Told::Ring(ring, Box::new(happening)));
        }
    }

    /// Something happens to every replica of a node.
    pub(super) fn happen_to_all(&mut self, happening: &Happening) {
        let rings: Vec<RingId> = self.rings.keys().copied().collect();
        for ring in rings {
            self.happen(ring, happening.clone());
        }
    }

    /// A state machine executed a slot.
    pub(super) fn executed(&mut self, execution: &Execution<'_>, digest: u64) {
        let verdict = self.ledger.execute(execution);
        self.judge(verdict);
        let &Execution { ring, node, slot, .. } = execution;
        let executed = Executed { ring, node, slot, digest };
        match &mut self.deferred {
            Some(deferred) => deferred.push(Deferred::Executed(executed)),
            None => self.compare(&executed),
        }
    }

    /// What a replica executed must be what is really chosen.
    fn compare(&mut self, executed: &Executed) {
        let &Executed { ring, node, slot, digest } = executed;
        let Some(observed) = self.rings.get(&ring) else { return };
        let truth = observed.oracle.chosen(slot).and_then(|value| observed.values.get(&value));
        let broken = |rule, what| Err(Violation { rule, what });
        match truth.cloned() {
            None => {
                self.judge(broken("L2", format!("{node:?} executes {slot:?}, which no quorum voted for")));
            }
            Some((_, proposed)) if proposed != digest => {
                self.judge(broken("G4", format!("{node:?} executes other commands in {slot:?} than chosen")));
            }
            Some((frame, _)) => self.happen(ring, Happening::Chosen { node, slot, frame }),
        }
    }

    /// A node reads its journal back: its executions wait for [`recovered`](Self::recovered).
    pub(super) fn recovering(&mut self) {
        self.deferred = Some(Vec::new());
    }

    /// The node lives, or not.
    pub(super) fn recovered(&mut self, node: NodeId, lives: bool) {
        let deferred = self.deferred.take().unwrap_or_default();
        if !lives {
            return;
        }
        let rings: Vec<RingId> = self.rings.keys().copied().collect();
        for ring in rings {
            let base = deferred.iter().rev().find_map(|deferred| match deferred {
                Deferred::Restored(restored, slot) if *restored == ring => Some(*slot),
                _ => None,
            });
            self.happen(ring, Happening::Started { node, records: 0, base: base.unwrap_or_default() });
        }
        for deferred in &deferred {
            if let Deferred::Executed(executed) = deferred {
                self.compare(executed);
            }
        }
    }

    /// A client is told how its command ended.
    pub(super) fn ended(&mut self, ring: RingId, number: u64, end: End, reply: &[u8]) {
        self.fold(self.truth.now().0, number);
        let verdict = self.ledger.end(number, end, reply);
        self.judge(verdict);
        if matches!(end, End::Committed(_)) {
            *self.served.entry(ring).or_default() += 1;
        }
    }

    /// A replica answers a query.
    pub(super) fn queried(&mut self, ring: RingId, node: NodeId, slots: u64, state: u64) {
        self.queries += 1;
        self.fold(slots, state);
        let verdict = self.ledger.query(ring, node, slots, state);
        self.judge(verdict);
    }

    /// A replica restored a snapshot: its state must be the one after so many slots (G6).
    pub(super) fn restored(&mut self, ring: RingId, node: NodeId, slots: u64, state: u64, is_whole: bool) {
        self.restored += 1;
        self.fold(slots, state);
        let verdict = self.ledger.query(ring, node, slots, state);
        self.judge(verdict.map_err(|Violation { what, .. }| Violation { rule: "G6", what }));
        if !is_whole {
            let what = format!("{node:?} restores ring {ring} from a snapshot of more than one moment");
            self.judge(Err(Violation { rule: "G6", what }));
        }
        match &mut self.deferred {
            Some(deferred) => deferred.push(Deferred::Restored(ring, Slot(slots))),
            None => self.happen_of(ring, Slot(slots), |state| Happening::Installed { node, state }),
        }
    }

    /// A snapshot is durable under its name.
    pub(super) fn is_published(&mut self, ring: RingId, node: NodeId, slot: Slot) {
        self.published += 1;
        self.happen_of(ring, slot, |state| Happening::Published { node, state });
    }

    /// Something happens to a replica that the state of chosen slots is needed for.
    fn happen_of(&mut self, ring: RingId, slot: Slot, happening: impl FnOnce(State) -> Happening) {
        let Some(observed) = self.rings.get_mut(&ring) else { return };
        if let Some(state) = observed.oracle.truth(slot) {
            self.happen(ring, happening(state));
        } else {
            let what = format!("a snapshot of ring {ring} below {slot:?}, and not all of that is chosen");
            self.judge(Err(Violation { rule: "G6", what }));
        }
    }

    /// Records of a journal are gone for good, or as good as gone.
    pub(super) fn freed(&mut self, node: NodeId, below: Lsn) {
        self.happen_to_all(&Happening::Freed { node, below });
    }

    /// True time.
    pub(super) fn now(&self) -> Time {
        self.truth.now()
    }

    /// Where a replica stands after a turn: its watermarks only rise, and what is open is bounded (G12).
    pub(super) fn stands(&mut self, ring: RingId, node: NodeId, status: &RingStatus) {
        let Some(observed) = self.rings.get_mut(&ring) else { return };
        let mut verdict = observed.oracle.watermarks(node, status.progress);
        let Progress { proposed, chosen, .. } = status.progress;
        let open = proposed.0.saturating_sub(chosen.0);
        let is_leader = status.role == Role::Leader;
        let open_max = if is_leader { self.window_slots } else { 4 * self.window_slots + 64 };
        if open > open_max {
            let what = format!("{node:?} has {open} open slots of ring {ring}, and {open_max} are the most");
            verdict = verdict.and(Err(Violation { rule: "G12", what }));
        }
        self.judge(verdict);
    }

    /// Every chosen value must be recoverable from what `sound` nodes hold (G7).
    pub(super) fn recoverable(&mut self, sound: &[NodeId]) {
        let verdict = self.rings.values().try_for_each(|observed| observed.oracle.recoverable(sound));
        self.judge(verdict);
    }

    /// Accidents so far.
    pub(super) fn accidents(&self) -> u64 {
        self.faults.values().sum()
    }

    /// Keeps the first violation.
    pub(super) fn judge(&mut self, verdict: Result<(), Violation>) {
        if let Err(violation) = verdict {
            self.violation.get_or_insert(violation);
        }
    }

    /// Slots of a ring that are really chosen.
    pub(super) fn chosen_count(&self, ring: RingId) -> u64 {
        self.rings.get(&ring).map_or(0, |observed| observed.oracle.chosen_count() as u64)
    }

    /// Ballots that had a leader, over all rings.
    pub(super) fn ballots_led(&self) -> u64 {
        self.rings.values().map(|observed| observed.oracle.ballots_led() as u64).sum()
    }

    fn tell(&mut self, told: Told) {
        let line = Line(self.truth.now(), told);
        // Whoever reads along may have read enough.
        self.is_traced = self.is_traced && writeln!(io::stdout(), "{line}").is_ok();
        if self.story.len() == REMEMBERED_MAX {
            self.story.pop_front();
        }
        self.story.push_back(line);
    }

    fn fold(&mut self, a: u64, b: u64) {
        self.digest = (self.digest.rotate_left(23) ^ a).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ b;
    }
}
