//! One node of a world: a ring, and the journal that outlives it.

use std::collections::BTreeMap;

use annulus_rings::batch::BATCH_BYTES_MAX;
use annulus_rings::{
    Append, Ballot, Batch, BatchBuilder, ClusterId, Configuration, ConfigurationId, Event, Frame, FramePool,
    Ignored, Incarnation, Input, Kind, Lsn, NodeId, Outbox, Progress, Recovering, Ring, RingId, RingOptions,
    Role, Slot, Time, Transmit, message,
};

use super::WorldOptions;

/// A node: up or down, its journal stays.
pub struct Node {
    id: NodeId,
    options: WorldOptions,
    /// Every record written, in order: record `i` has LSN `i + 1`.
    journal: Vec<Frame>,
    /// How many of them survive a crash.
    durable: usize,
    life: Option<Life>,
    /// Lives begun, so that each has a seed of its own.
    lives: u64,
}

/// What a crash takes away.
struct Life {
    ring: Ring,
    out: Outbox,
    batches: BatchBuilder,
}

/// What one step wants done.
pub(super) struct Effects {
    pub(super) appends: Vec<Append>,
    pub(super) transmits: Vec<Transmit>,
    pub(super) events: Vec<Event>,
}

impl Node {
    /// A node that is down and has an empty journal.
    pub(super) fn new(id: NodeId, options: WorldOptions) -> Node {
        Node { id, options, journal: Vec::new(), durable: 0, life: None, lives: 0 }
    }

    /// Its name.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// Whether it runs.
    pub fn is_up(&self) -> bool {
        self.life.is_some()
    }

    /// Records that survive a crash.
    pub fn durable(&self) -> usize {
        self.durable
    }

    /// Records written and not durable.
    pub fn undurable(&self) -> usize {
        self.journal.len() - self.durable
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

    pub(super) fn start(&mut self, now: Time) {
        self.lives += 1;
        let mut out = Outbox::new(Lsn(self.durable as u64), FramePool::new(1 << 16));
        let mut recovering = Recovering::new(self.ring_options());
        let mut chosen = 0;
        for (index, frame) in self.journal[..self.durable].iter().enumerate() {
            let replayed = recovering.replay(Lsn(index as u64 + 1), frame, &mut out);
            assert_eq!(replayed, Ok(()), "{:?} wrote a record that it cannot read: {frame:?}", self.id);
            for event in &out.events[chosen..] {
                if let Event::Chosen { slot, .. } = event {
                    recovering.executed(*slot);
                }
            }
            chosen = out.events.len();
        }
        let ring = recovering.recovered(now, &out);
        self.life = Some(Life { ring, out, batches: BatchBuilder::new(BATCH_BYTES_MAX, 64) });
    }

    pub(super) fn crash(&mut self, survivors: usize) {
        self.life = None;
        self.durable = self.journal.len().min(self.durable.saturating_add(survivors));
        self.journal.truncate(self.durable);
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
            self.journal.push(append.frame.clone());
            assert_eq!(append.lsn, Lsn(self.journal.len() as u64), "records are numbered without gaps");
        }
        Effects { appends, transmits, events }
    }

    /// Makes the next records durable; says how far, when that is news.
    pub(super) fn persist(&mut self, records: usize) -> Option<Lsn> {
        let durable = self.journal.len().min(self.durable.saturating_add(records));
        let news = self.is_up() && durable > self.durable;
        news.then(|| {
            self.durable = durable;
            Lsn(durable as u64)
        })
    }

    /// The durable records from `first` (counted from 0) on, with their numbers.
    pub(super) fn records(&self, first: usize) -> Vec<(Lsn, Frame)> {
        let records = self.journal[..self.durable].iter().enumerate().skip(first);
        records.map(|(index, frame)| (Lsn(index as u64 + 1), frame.clone())).collect()
    }

    /// What its journal answers to a read.
    pub(super) fn retrieve(&self, from: Slot, upto: Slot) -> Vec<Frame> {
        read_back(&self.journal[..self.durable], from, upto)
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
pub(crate) fn read_back(records: &[Frame], from: Slot, upto: Slot) -> Vec<Frame> {
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
