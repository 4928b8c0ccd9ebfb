//! The search itself: states that were met, steps that were made.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use annulus_rings::frame::ValueId;
use annulus_rings::{Ballot, Frame, Kind, NodeId, Role, Slot};

use super::replica::{NODES, Replica, Step};
use super::{Bounds, Counterexample, Report, past};
use crate::world::tell;

type ReplicaId = u32;
type LetterId = u32;

/// A frame on its way to a replica.
struct Letter {
    to: usize,
    frame: Frame,
}

/// A state of the world.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct State {
    replicas: [ReplicaId; NODES],
    /// Everything that was ever sent, ascending.
    letters: Box<[LetterId]>,
}

/// What happens in one transition.
#[derive(Clone, Copy, Debug)]
enum Action {
    Begin,
    Step(u8, Step<LetterId>),
    /// A replica stands for election, with the pre-vote of another.
    Stand(u8, u8),
}

/// What a step of a replica comes to.
#[derive(Clone)]
struct Outcome {
    replica: ReplicaId,
    sent: Vec<LetterId>,
}

/// A search in progress.
pub(super) struct Explorer {
    bounds: Bounds,
    replicas: Vec<Replica>,
    replica_ids: HashMap<u64, ReplicaId>,
    letters: Vec<Letter>,
    letter_ids: HashMap<u64, LetterId>,
    /// Every step that was made, or the rule that it breaks.
    outcomes: HashMap<(ReplicaId, Step<LetterId>), Result<Outcome, String>>,
    visited: HashSet<u64, BuildHasherDefault<Fingerprint>>,
    /// How each state was first reached, in the order of discovery.
    origins: Vec<(u32, Action)>,
    transitions: usize,
}

/// A fingerprint is its own hash.
#[derive(Default)]
struct Fingerprint(u64);

impl Hasher for Fingerprint {
    fn write(&mut self, _: &[u8]) {
        unreachable!("only whole fingerprints are hashed");
    }

    fn write_u64(&mut self, fingerprint: u64) {
        self.0 = fingerprint;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl Explorer {
    pub(super) fn new(bounds: Bounds) -> Explorer {
        Explorer {
            bounds,
            replicas: Vec::new(),
            replica_ids: HashMap::new(),
            letters: Vec::new(),
            letter_ids: HashMap::new(),
            outcomes: HashMap::new(),
            visited: HashSet::default(),
            origins: Vec::new(),
            transitions: 0,
        }
    }

    pub(super) fn first_state(&mut self) -> State {
        let nodes = std::array::from_fn(|index| NodeId(index as u16 + 1));
        let mut replicas = nodes.map(|node| Replica::new(node, self.bounds.retain_bytes));
        if self.bounds.is_cut {
            past::choose_and_cut(&mut replicas);
        }
        let replicas = replicas.map(|replica| self.replica_id(replica));
        self.origins.push((0, Action::Begin));
        State { replicas, letters: Box::default() }
    }

    /// How many distinct states were met.
    pub(super) fn states(&self) -> usize {
        self.origins.len()
    }

    /// What the search has come to.
    pub(super) fn report(&self, depth: usize, is_complete: bool, start: Instant) -> Report {
        Report {
            states: self.origins.len(),
            transitions: self.transitions,
            depth,
            replicas: self.replicas.len(),
            letters: self.letters.len(),
            is_complete,
            elapsed: start.elapsed(),
        }
    }

    /// Every step that is possible in `state`; states not met before go to `next`.
    pub(super) fn expand(
        &mut self,
        index: u32,
        state: &State,
        next: &mut Vec<(u32, State)>,
    ) -> Result<(), Counterexample> {
        for &letter in &state.letters {
            let to = self.letters[letter as usize].to;
            self.take(index, state, to, Step::Deliver(letter), next)?;
        }
        let restarts: u8 = state.replicas.iter().map(|&id| self.replica(id).restarts).sum();
        for node in 0..NODES {
            let replica = self.replica(state.replicas[node]);
            let (role, writes) = (replica.role(), replica.writes());
            let has_slot = replica.takes_command().is_some_and(|slot| slot < self.bounds.slots);
            if writes {
                self.take(index, state, node, Step::Persist, next)?;
            }
            if has_slot {
                self.take(index, state, node, Step::Propose, next)?;
            }
            if restarts < self.bounds.restarts {
                self.take(index, state, node, Step::Restart, next)?;
            }
            self.cut(index, state, node, next)?;
            match role {
                Role::Leader | Role::Candidate => self.take(index, state, node, Step::Tick, next)?,
                Role::Follower { .. } if node < self.bounds.candidates => {
                    self.stand(index, state, node, next)?;
                }
                Role::Follower { .. } => {}
            }
        }
        Ok(())
    }

    /// What is about snapshots: how often any is begun is bounded, what follows is not.
    fn cut(
        &mut self,
        index: u32,
        state: &State,
        node: usize,
        next: &mut Vec<(u32, State)>,
    ) -> Result<(), Counterexample> {
        if self.bounds.cuts == 0 {
            return Ok(());
        }
        let cuts: u8 = state.replicas.iter().map(|&id| self.replica(id).cuts).sum();
        let may_begin = cuts < self.bounds.cuts;
        let begin = [Step::Snapshot, Step::Carry].into_iter().filter(|_| may_begin);
        for step in begin.chain([Step::Truncate, Step::Free, Step::Install]) {
            if self.replica(state.replicas[node]).can(step) {
                self.take(index, state, node, step, next)?;
            }
        }
        Ok(())
    }

    /// One step of one replica.
    fn take(
        &mut self,
        index: u32,
        state: &State,
        node: usize,
        step: Step<LetterId>,
        next: &mut Vec<(u32, State)>,
    ) -> Result<(), Counterexample> {
        let action = Action::Step(node as u8, step);
        let outcome = self.outcome(index, action, state.replicas[node], step)?;
        let mut replicas = state.replicas;
        replicas[node] = outcome.replica;
        self.arrive(index, action, state, replicas, &outcome.sent, next)
    }

    /// A follower stands for election, and another grants it at once.
    fn stand(
        &mut self,
        index: u32,
        state: &State,
        node: usize,
        next: &mut Vec<(u32, State)>,
    ) -> Result<(), Counterexample> {
        for voter in (0..NODES).filter(|voter| *voter != node) {
            let action = Action::Stand(node as u8, voter as u8);
            let asked = self.outcome(index, action, state.replicas[node], Step::Tick)?;
            let mut sent = asked.sent.clone();
            let Some(ask) = self.find(&sent, Kind::PreVote, voter) else { continue };
            let answered = self.outcome(index, action, state.replicas[voter], Step::Deliver(ask))?;
            sent.extend(&answered.sent);
            let Some(answer) = self.find(&answered.sent, Kind::PreVoted, node) else { continue };
            let stands = self.outcome(index, action, asked.replica, Step::Deliver(answer))?;
            sent.extend(&stands.sent);
            let mut replicas = state.replicas;
            (replicas[node], replicas[voter]) = (stands.replica, answered.replica);
            if self.replica(stands.replica).role() == Role::Candidate {
                self.arrive(index, action, state, replicas, &sent, next)?;
            }
        }
        Ok(())
    }

    fn find(&self, sent: &[LetterId], kind: Kind, to: usize) -> Option<LetterId> {
        let is_it = |id: &&LetterId| {
            let letter = &self.letters[**id as usize];
            letter.to == to && letter.frame.kind() == kind
        };
        sent.iter().find(is_it).copied()
    }

    /// A state was reached: checks it, and keeps it if it is new.
    fn arrive(
        &mut self,
        index: u32,
        action: Action,
        state: &State,
        replicas: [ReplicaId; NODES],
        sent: &[LetterId],
        next: &mut Vec<(u32, State)>,
    ) -> Result<(), Counterexample> {
        let is_kept = |id: &LetterId| !self.is_lost(*id) && !state.letters.contains(id);
        let news: Vec<LetterId> = sent.iter().copied().filter(is_kept).collect();
        if replicas == state.replicas && news.is_empty() {
            return Ok(());
        }
        let is_within = |id: &ReplicaId| self.replica(*id).ballot().round <= self.bounds.rounds;
        if !replicas.iter().all(is_within) {
            return Ok(());
        }
        self.transitions += 1;
        let mut letters = [&state.letters, &news[..]].concat();
        letters.sort_unstable();
        letters.dedup();
        let reached = State { replicas, letters: letters.into_boxed_slice() };
        let mut hasher = DefaultHasher::new();
        reached.hash(&mut hasher);
        if self.visited.insert(hasher.finish()) {
            if let Err(what) = self.check(&reached, &news) {
                return Err(self.counterexample(index, action, what));
            }
            next.push((self.origins.len() as u32, reached));
            self.origins.push((index, action));
        }
        Ok(())
    }

    /// Letters that the bounds lose, and pre-votes, which are not sent but asked and answered at once.
    fn is_lost(&self, letter: LetterId) -> bool {
        let kind = self.letters[letter as usize].frame.kind();
        matches!(kind, Kind::PreVote | Kind::PreVoted) || self.bounds.lost.contains(&kind)
    }

    /// The global rules, in a state in which `news` were just sent.
    fn check(&self, state: &State, news: &[LetterId]) -> Result<(), String> {
        self.check_proposals(state, news)?;
        let mut votes: Vec<(Slot, Ballot, ValueId)> = Vec::new();
        for &id in &state.replicas {
            votes.extend(&self.replica(id).votes);
        }
        votes.sort_unstable();
        let mut chosen: Vec<(Slot, ValueId)> = Vec::new();
        for cast in votes.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
            let (slot, ballot, value) = cast[0];
            if cast.iter().any(|vote| vote.2 != value) {
                return Err(format!("G1: two values of {slot:?} have votes in {ballot}"));
            }
            if cast.len() > NODES / 2 {
                if chosen.iter().any(|(other, held)| *other == slot && *held != value) {
                    return Err(format!("G2: {slot:?} is chosen again in {ballot}, with another value"));
                }
                chosen.push((slot, value));
            }
        }
        for (node, &id) in state.replicas.iter().enumerate() {
            for (slot, value) in (0..).map(Slot).zip(&self.replica(id).reported) {
                if !chosen.contains(&(slot, *value)) {
                    return Err(format!("G4: n{} reports {slot:?}, and no quorum voted for it", node + 1));
                }
            }
        }
        Ok(())
    }

    /// G1: nobody proposes two values for a slot in one ballot.
    fn check_proposals(&self, state: &State, news: &[LetterId]) -> Result<(), String> {
        let accepts = |ids: &[LetterId]| -> Vec<&Frame> {
            let frames = ids.iter().map(|id| &self.letters[*id as usize].frame);
            frames.filter(|frame| frame.kind() == Kind::Accept).collect()
        };
        let known = accepts(&state.letters);
        for new in accepts(news) {
            let of = |frame: &Frame| (frame.header().slot, frame.header().ballot);
            if known.iter().any(|other| of(other) == of(new) && other.value() != new.value()) {
                return Err(format!("G1: two values are proposed: {}", tell(new)));
            }
        }
        Ok(())
    }

    /// The step of a replica, made once and remembered.
    fn outcome(
        &mut self,
        index: u32,
        action: Action,
        id: ReplicaId,
        step: Step<LetterId>,
    ) -> Result<Outcome, Counterexample> {
        if !self.outcomes.contains_key(&(id, step)) {
            let outcome = self.make(id, step);
            self.outcomes.insert((id, step), outcome);
        }
        match &self.outcomes[&(id, step)] {
            Ok(outcome) => Ok(outcome.clone()),
            Err(what) => Err(self.counterexample(index, action, what.clone())),
        }
    }

    /// Has the shipped ring make a step.
    fn make(&mut self, id: ReplicaId, step: Step<LetterId>) -> Result<Outcome, String> {
        let mut replica = self.replica(id).clone();
        let frame;
        let step = match step {
            Step::Deliver(letter) => {
                frame = self.letters[letter as usize].frame.clone();
                Step::Deliver(&frame)
            }
            Step::Persist => Step::Persist,
            Step::Tick => Step::Tick,
            Step::Propose => Step::Propose,
            Step::Restart => Step::Restart,
            Step::Snapshot => Step::Snapshot,
            Step::Truncate => Step::Truncate,
            Step::Carry => Step::Carry,
            Step::Free => Step::Free,
            Step::Install => Step::Install,
        };
        let sent = catch_unwind(AssertUnwindSafe(|| replica.step(step))).map_err(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            text.or_else(|| panic.downcast_ref().copied()).unwrap_or("a panic").to_owned()
        })?;
        let sent = sent.into_iter().map(|transmit| self.letter_id(transmit.to, transmit.frame)).collect();
        Ok(Outcome { replica: self.replica_id(replica), sent })
    }

    fn replica(&self, id: ReplicaId) -> &Replica {
        &self.replicas[id as usize]
    }

    fn replica_id(&mut self, replica: Replica) -> ReplicaId {
        match self.replica_ids.entry(replica.fingerprint()) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => {
                self.replicas.push(replica);
                *new.insert(self.replicas.len() as ReplicaId - 1)
            }
        }
    }

    /// Letters are alike when they say the same: the number of a heartbeat means nothing.
    fn letter_id(&mut self, to: NodeId, frame: Frame) -> LetterId {
        let mut header = frame.header();
        if matches!(header.kind, Kind::Heartbeat | Kind::Heard) {
            header.words[0] = 0;
        }
        let mut hasher = DefaultHasher::new();
        (to, header, frame.payload()).hash(&mut hasher);
        match self.letter_ids.entry(hasher.finish()) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => {
                self.letters.push(Letter { to: usize::from(to.0) - 1, frame });
                *new.insert(self.letters.len() as LetterId - 1)
            }
        }
    }

    /// The way to the state at `index`, and `action` behind it.
    fn counterexample(&self, mut index: u32, action: Action, what: String) -> Counterexample {
        let mut path = vec![self.tell(action)];
        while index != 0 {
            let (before, action) = self.origins[index as usize];
            path.push(self.tell(action));
            index = before;
        }
        path.reverse();
        Counterexample { what, path }
    }

    fn tell(&self, action: Action) -> String {
        match action {
            Action::Begin => "it begins".to_owned(),
            Action::Stand(node, voter) => format!("n{} stands, n{} would vote for it", node + 1, voter + 1),
            Action::Step(node, Step::Deliver(letter)) => {
                let frame = &self.letters[letter as usize].frame;
                format!("{:?} -> n{} {}", frame.header().sender, node + 1, tell(frame))
            }
            Action::Step(node, step) => format!("n{} {step:?}", node + 1),
        }
    }
}
