//! One node of a world: a ring, and the journal that outlives it.

use std::collections::{BTreeMap, VecDeque};

use annulus_rings::batch::BATCH_BYTES_MAX;
use annulus_rings::{
    Append, Ballot, Batch, BatchBuilder, ClusterId, Configuration, ConfigurationId, Event, Frame, FramePool,
    Ignored, Incarnation, Input, Kind, Lsn, NodeId, Outbox, Progress, Recovering, Ring, RingId, RingOptions,
    Role, Slot, Time, Transmit, message,
};

use super::WorldOptions;
use super::state::{SnapshotStage, State, Taking};

/// A node: up or down, its journal stays.
pub struct Node {
    id: NodeId,
    options: WorldOptions,
    /// The records, in order.
    journal: VecDeque<Frame>,
    /// How many records in front of them were freed: record `i` has LSN `freed + i + 1`.
    freed: usize,
    /// How many records, with those that were freed, survive a crash.
    durable: usize,
    /// Durable snapshots, the oldest first.
    snapshots: Vec<State>,
    life: Option<Life>,
    /// Lives begun, so that each has a seed of its own.
    lives: u64,
}

/// What a crash takes away.
struct Life {
    ring: Ring,
    out: Outbox,
    batches: BatchBuilder,
    state: State,
    /// The snapshot that it takes.
    taking: Option<Taking>,
    /// A peer's snapshot, durable here, which the ring was not told of.
    arrived: Option<State>,
}

/// Snapshots that a node keeps.
const SNAPSHOTS_MAX: usize = 2;

/// What one step wants done.
pub(super) struct Effects {
    pub(super) appends: Vec<Append>,
    pub(super) transmits: Vec<Transmit>,
    pub(super) events: Vec<Event>,
}

impl Node {
    /// A node that is down and has an empty journal.
    pub(super) fn new(id: NodeId, options: WorldOptions) -> Node {
        Node {
            id,
            options,
            journal: VecDeque::new(),
            freed: 0,
            durable: 0,
            snapshots: Vec::new(),
            life: None,
            lives: 0,
        }
    }

    /// Its name.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// Whether it runs.
    pub fn is_up(&self) -> bool {
        self.life.is_some()
    }

    /// Records that survive a crash, with those that were freed.
    pub fn durable(&self) -> usize {
        self.durable
    }

    /// Records written and not durable.
    pub fn undurable(&self) -> usize {
        self.freed + self.journal.len() - self.durable
    }

    /// Records that are there.
    pub fn kept(&self) -> usize {
        self.durable - self.freed
    }

    /// The newest snapshot on its disk.
    pub(crate) fn snapshot(&self) -> Option<State> {
        self.snapshots.last().copied()
    }

    /// Its ring, when it is up.
    pub(crate) fn ring(&self) -> Option<&Ring> {
        self.life.as_ref().map(|life| &life.ring)
    }

    /// The state that it has executed, when it is up.
    pub(super) fn state(&self) -> Option<State> {
        self.life.as_ref().map(|life| life.state)
    }

    /// The snapshot that it takes.
    pub(super) fn taking(&self) -> Option<Taking> {
        self.life.as_ref()?.taking
    }

    pub(super) fn set_taking(&mut self, taking: Option<Taking>) {
        self.life.as_mut().expect("only a node that is up takes snapshots").taking = taking;
    }

    /// What a snapshot that begins now is of, and where the journal may be cut then.
    pub(super) fn begin_snapshot(&mut self) -> Option<Taking> {
        let life = self.life.as_mut()?;
        let taking = Taking { state: life.state, cut: life.ring.cut(&life.out), stage: SnapshotStage::Begun };
        life.taking = Some(taking);
        Some(taking)
    }

    /// A snapshot is durable: its own, or a peer's.
    pub(super) fn publish(&mut self, state: State, is_foreign: bool) {
        self.snapshots.push(state);
        self.snapshots.sort_by_key(|state| state.slot);
        self.snapshots.drain(..self.snapshots.len().saturating_sub(SNAPSHOTS_MAX));
        if is_foreign {
            self.life.as_mut().expect("only a node that is up receives").arrived = Some(state);
        }
    }

    /// The ring is told of the snapshot that has arrived; tells what happened.
    pub(super) fn install(&mut self, now: Time) -> Option<(State, Result<(), Ignored>)> {
        let state = self.life.as_mut()?.arrived.take()?;
        let result = self.step(now, Input::Installed(state.slot));
        if result.is_ok() {
            self.life.as_mut().expect("the ring made a step").state = state;
        }
        Some((state, result))
    }

    pub(super) fn execute(&mut self, slot: Slot, frame: &Frame) {
        self.life.as_mut().expect("only a node that is up executes").state.execute(slot, frame.value());
    }

    /// Frees at most so many records of those that the ring no longer needs; tells the first that is left, when
    /// that is news.
    pub(super) fn free(&mut self, records: usize) -> Option<Lsn> {
        let needed = self.life.as_ref()?.ring.needed().0.min(self.durable as u64 + 1);
        let free = (needed as usize - 1).saturating_sub(self.freed).min(records);
        self.journal.drain(..free);
        self.freed += free;
        (free > 0).then_some(Lsn(self.freed as u64 + 1))
    }

    /// What it is in the ring, when it is up.
    pub fn role(&self) -> Option<Role> {
        self.life.as_ref().map(|life| life.ring.role())
    }

    /// The ballot that it follows or leads in, when it is up.
    pub fn ballot(&self) -> Option<Ballot> {
        self.life.as_ref().map(|life| life.ring.ballot())
    }

    /// When its ring wants a tick.
    pub fn deadline(&self) -> Time {
        self.life.as_ref().map_or(Time::NEVER, |life| life.ring.deadline())
    }

    /// Whether its ring takes a batch now.
    pub fn can_propose(&self) -> bool {
        self.life.as_ref().is_some_and(|life| life.ring.can_propose())
    }

    /// Where its ring stands; nothing when it is down.
    pub fn progress(&self) -> Progress {
        self.life.as_ref().map_or_else(Progress::default, |life| life.ring.progress())
    }

    /// Starts from the newest snapshot, or from the one before where the newest is `rotten`. Tells the first slot
    /// that it was or would be restored without.
    pub(super) fn start(&mut self, now: Time, rotten: bool) -> Result<Slot, Slot> {
        let newest = self.snapshots.len().checked_sub(1 + usize::from(rotten));
        let base = newest.map(|newest| self.snapshots[newest]).unwrap_or_default();
        self.lives += 1;
        let Ok((recovering, out, state)) = self.read_back(base) else { return Err(base.slot) };
        self.snapshots.truncate(newest.map_or(0, |newest| newest + 1));
        let ring = recovering.recovered(now, &out);
        let batches = BatchBuilder::new(BATCH_BYTES_MAX, 64);
        self.life = Some(Life { ring, out, batches, state, taking: None, arrived: None });
        Ok(base.slot)
    }

    /// Reads the durable records back, over a snapshot.
    fn read_back(&self, base: State) -> Result<(Recovering, Outbox, State), Ignored> {
        let mut state = base;
        let mut out = Outbox::new(Lsn(self.durable as u64), FramePool::new(1 << 16));
        let mut recovering = Recovering::restored(self.ring_options(), base.slot);
        let mut chosen = 0;
        for (lsn, frame) in self.records(self.freed) {
            let replayed = recovering.replay(lsn, &frame, &mut out);
            assert_eq!(replayed, Ok(()), "{:?} wrote a record that it cannot read: {frame:?}", self.id);
            for event in &out.events[chosen..] {
                if let Event::Chosen { slot, frame, .. } = event {
                    state.execute(*slot, frame.value());
                    recovering.executed(*slot);
                }
            }
            chosen = out.events.len();
        }
        recovering.bridged()?;
        Ok((recovering, out, state))
    }

    pub(super) fn crash(&mut self, survivors: usize) {
        self.life = None;
        self.durable += self.undurable().min(survivors);
        self.journal.truncate(self.durable - self.freed);
    }

    pub(super) fn step(&mut self, now: Time, input: Input) -> Result<(), Ignored> {
        let life = self.life.as_mut().expect("only a node that is up makes steps");
        life.ring.step(now, input, &mut life.out)
    }

    /// A batch of `commands`; nothing when the ring would not take it.
    pub(super) fn batch(&mut self, commands: &[&str], now: Time) -> Option<Batch> {
        let life = self.life.as_mut().filter(|life| life.ring.can_propose())?;
        for command in commands {
            life.batches.push(&mut life.out.pool, command.as_bytes());
        }
        Some(life.batches.seal(&mut life.out.pool, now.0))
    }

    /// Empties the outbox; its records are in the journal afterwards.
    pub(super) fn take_effects(&mut self) -> Effects {
        let life = self.life.as_mut().expect("only a node that is up has effects");
        let appends = std::mem::take(&mut life.out.appends);
        let transmits = std::mem::take(&mut life.out.transmits);
        let events = std::mem::take(&mut life.out.events);
        for append in &appends {
            self.journal.push_back(append.frame.clone());
            let count = self.freed + self.journal.len();
            assert_eq!(append.lsn, Lsn(count as u64), "records are numbered without gaps");
        }
        Effects { appends, transmits, events }
    }

    /// Makes the next records durable; says how far, when that is news.
    pub(super) fn persist(&mut self, records: usize) -> Option<Lsn> {
        let durable = self.durable + self.undurable().min(records);
        let news = self.is_up() && durable > self.durable;
        news.then(|| {
            self.durable = durable;
            Lsn(durable as u64)
        })
    }

    /// The durable records from `first` (counted from 0) on, with their numbers.
    pub(super) fn records(&self, first: usize) -> Vec<(Lsn, Frame)> {
        let records = (self.freed + 1..=self.durable).zip(&self.journal).skip(first - self.freed);
        records.map(|(number, frame)| (Lsn(number as u64), frame.clone())).collect()
    }

    /// What its journal answers to a read.
    pub(super) fn retrieve(&self, from: Slot, upto: Slot) -> Vec<Frame> {
        read_back(self.journal.iter().take(self.kept()), from, upto)
    }

    fn ring_options(&self) -> RingOptions {
        let members: Vec<NodeId> = (1..=self.options.nodes).map(NodeId).collect();
        let configuration = Configuration::new(ConfigurationId(1), Slot(0), &members);
        RingOptions {
            cluster: ClusterId(1),
            ring: RingId(1),
            node: self.id,
            incarnation: Incarnation(1),
            configuration: configuration.expect("distinct members"),
            window_slots: self.options.window_slots,
            election_timeout: self.options.election_timeout,
            heartbeat_interval: self.options.heartbeat_interval,
            resend_interval: self.options.resend_interval,
            retain_bytes: self.options.retain_bytes,
            seed: self.options.seed ^ (u64::from(self.id.0) << 48) ^ (self.lives << 32),
        }
    }
}

/// What a journal of these records answers to a read: the last Accept frame of each slot, contiguous from
/// `from`.
pub(crate) fn read_back<'a>(records: impl Iterator<Item = &'a Frame>, from: Slot, upto: Slot) -> Vec<Frame> {
    let mut last = BTreeMap::new();
    for record in records {
        match record.kind() {
            Kind::Accept => drop(last.insert(record.header().slot, record.clone())),
            Kind::Learn => message::carried(record, |inner| {
                last.insert(inner.header().slot, inner);
            })
            .expect("a record of the journal is well formed"),
            _ => {}
        }
    }
    (from.0..upto.0).map_while(|slot| last.remove(&Slot(slot))).collect()
}
