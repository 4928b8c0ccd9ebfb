//! One replica of an explored world: the shipped ring, its journal, and one step of both.
//!
//! Time stands still: every timeout is zero, so a tick is always due and an election possible at any moment.
//! That covers every relation of clocks, and leaves time out of the state.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use annulus_rings::batch::BATCH_BYTES_MAX;
use annulus_rings::frame::ValueId;
use annulus_rings::{
    Ballot, BatchBuilder, ClusterId, Configuration, ConfigurationId, Event, Frame, FramePool, Incarnation,
    Input, Kind, Lsn, NodeId, Outbox, Recovering, Ring, RingId, RingOptions, Role, Slot, Time, Transmit,
};

use crate::world::read_back;

/// Replicas of the explored ring.
pub(super) const NODES: usize = 3;

/// What can happen to one replica.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Step<L> {
    /// A letter arrives.
    Deliver(L),
    /// The next record becomes durable.
    Persist,
    /// A deadline has passed.
    Tick,
    /// A client hands over a command.
    Propose,
    /// It stops, loses what is not durable, and starts again.
    Restart,
}

/// A replica and what outlives it.
#[derive(Clone)]
pub(super) struct Replica {
    ring: Ring,
    journal: Vec<Frame>,
    durable: usize,
    /// How often it was started again.
    pub restarts: u8,
    /// The ballots that it led in, and after which restart.
    led: Vec<(Ballot, u8)>,
    /// The values that it reported chosen since it started, from slot 0 on.
    pub reported: Vec<ValueId>,
    /// The votes that it holds durably.
    pub votes: Vec<(Slot, Ballot, ValueId)>,
}

impl Replica {
    /// A replica that starts for the first time.
    pub fn new(node: NodeId, retain_bytes: usize) -> Replica {
        let out = Outbox::new(Lsn(0), FramePool::new(0));
        let ring = Recovering::new(options(node, retain_bytes)).recovered(Time(0), &out);
        Replica {
            ring,
            journal: Vec::new(),
            durable: 0,
            restarts: 0,
            led: Vec::new(),
            reported: Vec::new(),
            votes: Vec::new(),
        }
    }

    /// The ballot that it follows or leads in, or stands for.
    pub fn ballot(&self) -> Ballot {
        self.ring.ballot()
    }

    /// What it is.
    pub fn role(&self) -> Role {
        self.ring.role()
    }

    /// Whether there is anything to persist.
    pub fn writes(&self) -> bool {
        self.durable < self.journal.len()
    }

    /// Whether it takes a command, and how many slots were proposed before.
    pub fn takes_command(&self) -> Option<u64> {
        self.ring.can_propose().then(|| self.ring.progress().proposed.0)
    }

    /// Identifies everything that it will ever do and has ever said.
    pub fn fingerprint(&self) -> u64 {
        let mut state = DefaultHasher::new();
        self.ring.options().node.hash(&mut state);
        self.ring.fingerprint(&mut state);
        self.journal.iter().for_each(|record| record.checksum().hash(&mut state));
        (self.durable, self.restarts, &self.led, &self.reported).hash(&mut state);
        state.finish()
    }

    /// Takes a step, and returns what it sends.
    ///
    /// # Panics
    /// A contract or a rule that one replica alone can break is violated.
    pub fn step(&mut self, step: Step<&Frame>) -> Vec<Transmit> {
        let pool = FramePool::new(0);
        if step == Step::Restart {
            return self.restart(pool);
        }
        let mut out = Outbox::new(Lsn(self.journal.len() as u64), pool);
        let input = match step {
            Step::Deliver(frame) => Input::Frame(frame.clone()),
            Step::Persist => {
                self.durable += 1;
                self.note_vote();
                Input::Persisted(Lsn(self.durable as u64))
            }
            Step::Propose => {
                let mut builder = BatchBuilder::new(BATCH_BYTES_MAX.min(256), 1);
                let command = format!("{} of {}", self.ring.progress().proposed, self.ring.ballot());
                builder.push(&mut out.pool, command.as_bytes());
                Input::Propose(builder.seal(&mut out.pool, 0))
            }
            Step::Tick | Step::Restart => Input::Tick,
        };
        // What is ignored may still have been answered.
        let _ = self.ring.step(Time(0), input, &mut out);
        self.perform(&mut out)
    }

    fn restart(&mut self, pool: FramePool) -> Vec<Transmit> {
        self.journal.truncate(self.durable);
        self.restarts += 1;
        self.reported.clear();
        let options = self.ring.options().clone();
        let mut out = Outbox::new(Lsn(self.durable as u64), pool);
        let mut recovering = Recovering::new(options);
        for (index, record) in self.journal.iter().enumerate() {
            recovering
                .replay(Lsn(index as u64 + 1), record, &mut out)
                .expect("a replica can read what it wrote");
            for event in out.events.drain(..) {
                if let Event::Chosen { slot, frame, .. } = event {
                    self.reported.push(frame.value());
                    recovering.executed(slot);
                }
            }
        }
        self.ring = recovering.recovered(Time(0), &out);
        Vec::new()
    }

    /// Does what the outbox says, until nothing is left in it but what is sent.
    fn perform(&mut self, out: &mut Outbox) -> Vec<Transmit> {
        while !out.events.is_empty() || !out.appends.is_empty() {
            self.journal.extend(out.appends.drain(..).map(|append| append.frame));
            for event in std::mem::take(&mut out.events) {
                let input = match event {
                    Event::Chosen { slot, frame, .. } => {
                        let is_next = slot.0 == self.reported.len() as u64;
                        assert!(is_next, "L4: {slot:?} is not the next to be reported");
                        self.reported.push(frame.value());
                        Input::Executed(slot)
                    }
                    Event::Retrieve { to, from, upto, .. } => {
                        let frames = read_back(self.journal[..self.durable].iter(), from, upto);
                        Input::Retrieved { to, from, frames }
                    }
                    Event::RoleChanged { role: Role::Leader, ballot, .. } => {
                        self.lead(ballot);
                        continue;
                    }
                    Event::RoleChanged { .. } | Event::SnapshotWanted { .. } => continue,
                };
                let _ = self.ring.step(Time(0), input, out);
            }
        }
        std::mem::take(&mut out.transmits)
    }

    /// G3, P1: a ballot is led by its owner, and never again after a restart.
    fn lead(&mut self, ballot: Ballot) {
        assert!(ballot.node == self.ring.options().node, "G3: {ballot} is led by another");
        let earlier = self.led.iter().find(|(led, _)| *led == ballot);
        assert!(earlier.is_none_or(|(_, life)| *life == self.restarts), "P1: {ballot} is led again");
        if earlier.is_none() {
            self.led.push((ballot, self.restarts));
        }
    }

    fn note_vote(&mut self) {
        let record = &self.journal[self.durable - 1];
        if record.kind() == Kind::Accept {
            self.votes.push((record.header().slot, record.header().ballot, record.value()));
        }
    }
}

fn options(node: NodeId, retain_bytes: usize) -> RingOptions {
    let members: Vec<NodeId> = (1..=NODES as u16).map(NodeId).collect();
    let configuration = Configuration::new(ConfigurationId(1), Slot(0), &members);
    RingOptions {
        cluster: ClusterId(1),
        ring: RingId(1),
        node,
        incarnation: Incarnation(1),
        configuration: configuration.expect("distinct members"),
        window_slots: 2,
        election_timeout: Duration::ZERO,
        heartbeat_interval: Duration::ZERO,
        resend_interval: Duration::ZERO,
        retain_bytes,
        seed: 0,
    }
}
