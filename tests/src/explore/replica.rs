//! One replica of an explored world: the shipped ring, its journal, and one step of both.
//!
//! Time stands still: every timeout is zero, so a tick is always due and an election possible at any moment.
//! That covers every relation of clocks, and leaves time out of the state.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use annulus_rings::batch::BATCH_BYTES_MAX;
use annulus_rings::frame::{HEADER_BYTES, ValueId};
use annulus_rings::{
    Ballot, BatchBuilder, ClusterId, Configuration, ConfigurationId, Cut, Event, Frame, FrameHeader,
    FramePool, Incarnation, Input, Kind, Lsn, NodeId, Outbox, Recovering, Ring, RingId, RingOptions, Role,
    Slot, Time, Transmit,
};

use bytes::BytesMut;

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
    /// A snapshot of what it has executed is durable.
    Snapshot,
    /// Its ring is told of that, and cuts its journal.
    Truncate,
    /// Its ring writes again what it holds.
    Carry,
    /// The records that it needs no longer are gone.
    Free,
    /// Its ring is told of the peer's snapshot that has arrived.
    Install,
}

/// A replica and what outlives it.
#[derive(Clone)]
pub(super) struct Replica {
    ring: Ring,
    /// The records that were not freed.
    journal: Vec<Frame>,
    /// How many were.
    freed: usize,
    /// How many records, with those that were freed, are durable.
    durable: usize,
    /// The values of the slots that its newest snapshot covers.
    snapshot: Vec<ValueId>,
    /// Where its journal may be cut, once it was told of its snapshot.
    cut: Option<Cut>,
    /// Whether the snapshot is a peer's, of which its ring was not told.
    has_arrived: bool,
    /// How often it was started again.
    pub restarts: u8,
    /// How often it took a snapshot or wrote again what it holds.
    pub cuts: u8,
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
            freed: 0,
            durable: 0,
            snapshot: Vec::new(),
            cut: None,
            has_arrived: false,
            restarts: 0,
            cuts: 0,
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
        self.durable < self.freed + self.journal.len()
    }

    /// Whether a step that is about snapshots would change anything.
    pub fn can(&self, step: Step<u32>) -> bool {
        match step {
            Step::Snapshot => self.reported.len() > self.snapshot.len() && self.cut.is_none(),
            Step::Truncate => self.cut.is_some(),
            Step::Carry => self.ring.can_carry() && self.ring.needed() != Lsn(u64::MAX),
            Step::Free => self.free_records() > 0,
            Step::Install => self.has_arrived,
            _ => true,
        }
    }

    /// The first slot that its journal gives back.
    #[cfg(test)]
    pub fn kept(&self) -> Slot {
        self.ring.kept()
    }

    /// How many records it has.
    #[cfg(test)]
    pub fn records(&self) -> usize {
        self.journal.len()
    }

    fn free_records(&self) -> usize {
        let needed = self.ring.needed().0.min(self.durable as u64 + 1);
        (needed as usize - 1).saturating_sub(self.freed)
    }

    /// The position of the last record.
    fn appended(&self) -> Lsn {
        Lsn((self.freed + self.journal.len()) as u64)
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
        (self.freed, &self.snapshot, self.cut, self.has_arrived, self.cuts).hash(&mut state);
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
        let mut out = Outbox::new(self.appended(), pool);
        let input = match step {
            Step::Deliver(frame) if matches!(frame.kind(), Kind::SnapshotAsk | Kind::SnapshotPiece) => {
                return self.snapshot_letter(frame);
            }
            Step::Deliver(frame) => Input::Frame(frame.clone()),
            Step::Snapshot => {
                self.cut = Some(self.ring.cut(&out));
                self.snapshot.clone_from(&self.reported);
                self.has_arrived = false;
                self.cuts += 1;
                return Vec::new();
            }
            Step::Truncate => {
                let cut = self.cut.take().expect("a snapshot was taken");
                let _ = self.ring.step(Time(0), Input::Snapshotted(cut.slot), &mut out);
                Input::Truncate(cut)
            }
            Step::Carry => {
                self.cuts += 1;
                Input::Carry
            }
            Step::Free => {
                let free = self.free_records();
                self.journal.drain(..free);
                self.freed += free;
                return Vec::new();
            }
            Step::Install => {
                self.has_arrived = false;
                Input::Installed(Slot(self.snapshot.len() as u64))
            }
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
        let result = self.ring.step(Time(0), input, &mut out);
        if step == Step::Install && result.is_ok() {
            self.reported.clone_from(&self.snapshot);
        }
        self.perform(&mut out)
    }

    fn restart(&mut self, pool: FramePool) -> Vec<Transmit> {
        self.journal.truncate(self.durable - self.freed);
        self.restarts += 1;
        self.reported.clone_from(&self.snapshot);
        (self.cut, self.has_arrived) = (None, false);
        let options = self.ring.options().clone();
        let mut out = Outbox::new(Lsn(self.durable as u64), pool);
        let mut recovering = Recovering::restored(options, Slot(self.snapshot.len() as u64));
        for (index, record) in self.journal.iter().enumerate() {
            recovering
                .replay(Lsn((self.freed + index) as u64 + 1), record, &mut out)
                .expect("a replica can read what it wrote");
            for event in out.events.drain(..) {
                if let Event::Chosen { slot, frame, .. } = event {
                    self.reported.push(frame.value());
                    recovering.executed(slot);
                }
            }
        }
        recovering.bridged().expect("a replica's newest snapshot and its journal make up the log");
        self.ring = recovering.recovered(Time(0), &out);
        Vec::new()
    }

    /// What cores say of snapshots: one letter asks, the other brings the values of the slots that it covers.
    fn snapshot_letter(&mut self, letter: &Frame) -> Vec<Transmit> {
        if letter.kind() == Kind::SnapshotAsk {
            let piece = self.letter(Kind::SnapshotPiece, &self.snapshot);
            let has_any = !self.snapshot.is_empty();
            let answer = has_any.then_some(Transmit { to: letter.header().sender, frame: piece });
            return answer.into_iter().collect();
        }
        let values = letter.payload().chunks_exact(size_of::<u64>());
        let values = values.map(|value| ValueId(u64::from_le_bytes(value.try_into().expect("eight bytes"))));
        let values: Vec<ValueId> = values.collect();
        if values.len() > self.snapshot.len() && values.len() as u64 > self.ring.progress().chosen.0 {
            (self.snapshot, self.has_arrived, self.cut) = (values, true, None);
        }
        Vec::new()
    }

    fn letter(&self, kind: Kind, values: &[ValueId]) -> Frame {
        let options = self.ring.options();
        let header = FrameHeader {
            kind,
            cluster: options.cluster,
            ring: options.ring,
            configuration: options.configuration.id(),
            sender: options.node,
            ballot: Ballot::ZERO,
            slot: Slot(values.len() as u64),
            chosen: Slot(0),
            commands: 0,
            words: [0; 4],
        };
        let mut buffer = BytesMut::zeroed(HEADER_BYTES);
        for value in values {
            buffer.extend_from_slice(&value.0.to_le_bytes());
        }
        Frame::seal(buffer, &header)
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
                        let durable = self.durable - self.freed;
                        let frames = read_back(self.journal[..durable].iter(), from, upto);
                        Input::Retrieved { to, from, frames }
                    }
                    Event::RoleChanged { role: Role::Leader, ballot, .. } => {
                        self.lead(ballot);
                        continue;
                    }
                    Event::SnapshotWanted { from, .. } => {
                        out.transmits.push(Transmit { to: from, frame: self.letter(Kind::SnapshotAsk, &[]) });
                        continue;
                    }
                    Event::RoleChanged { .. } => continue,
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
        let record = &self.journal[self.durable - self.freed - 1];
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
