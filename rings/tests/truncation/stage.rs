//! A ring, its journal, and frames of its peers.

use std::time::Duration;

use annulus_rings::frame::HEADER_BYTES;
use annulus_rings::{
    Append, Ballot, ClusterId, Configuration, ConfigurationId, Cut, Event, Frame, FrameHeader, FramePool,
    Ignored, Incarnation, Input, Kind, Lsn, NodeId, Outbox, Recovering, Ring, RingId, RingOptions, Slot,
    Time, message,
};
use bytes::BytesMut;

pub fn ballot(round: u64, node: u16) -> Ballot {
    Ballot { round, node: NodeId(node), incarnation: Incarnation(1) }
}

fn options() -> RingOptions {
    let members = [NodeId(1), NodeId(2), NodeId(3)];
    RingOptions {
        cluster: ClusterId(7),
        ring: RingId(1),
        node: NodeId(2),
        incarnation: Incarnation(1),
        configuration: Configuration::new(ConfigurationId(1), Slot(0), &members).unwrap(),
        window_slots: 8,
        election_timeout: Duration::from_millis(100),
        heartbeat_interval: Duration::from_millis(20),
        resend_interval: Duration::from_millis(40),
        retain_bytes: 0,
        seed: 1,
    }
}

/// A ring and its journal; every chosen slot is executed at once.
pub struct Stage {
    pub ring: Ring,
    pub out: Outbox,
    pub now: Time,
    pub journal: Vec<Append>,
    pub executed: Vec<Slot>,
    pub sent: Vec<Frame>,
    pub wanted: Vec<(NodeId, Slot)>,
}

impl Stage {
    pub fn new() -> Stage {
        Stage::with(options())
    }

    pub fn with(options: RingOptions) -> Stage {
        let out = Outbox::new(Lsn(0), FramePool::new(1 << 16));
        let ring = Recovering::new(options).recovered(Time(0), &out);
        Stage {
            ring,
            out,
            now: Time(0),
            journal: Vec::new(),
            executed: Vec::new(),
            sent: Vec::new(),
            wanted: Vec::new(),
        }
    }

    /// A ring that keeps everything in memory.
    pub fn retaining() -> Stage {
        Stage::with(RingOptions { retain_bytes: 1 << 20, ..options() })
    }

    pub fn step(&mut self, input: Input) -> Result<(), Ignored> {
        let result = self.ring.step(self.now, input, &mut self.out);
        self.perform();
        result
    }

    pub fn perform(&mut self) {
        self.journal.append(&mut self.out.appends);
        self.sent.extend(self.out.transmits.drain(..).map(|transmit| transmit.frame));
        for event in std::mem::take(&mut self.out.events) {
            match event {
                Event::Chosen { slot, .. } => {
                    self.executed.push(slot);
                    self.ring.step(self.now, Input::Executed(slot), &mut self.out).unwrap();
                }
                Event::SnapshotWanted { from, slot, .. } => self.wanted.push((from, slot)),
                Event::RoleChanged { .. } | Event::Retrieve { .. } => {}
            }
        }
    }

    /// Node 1 proposes in round `round`, and knows every slot below `chosen` to be chosen.
    pub fn accept(&mut self, round: u64, slot: u64, chosen: u64) {
        self.step(Input::Frame(accept(ballot(round, 1), slot, chosen))).unwrap();
    }

    pub fn persist(&mut self) {
        let appended = self.out.appended();
        self.step(Input::Persisted(appended)).unwrap();
    }

    /// Slots 0..6 with durable votes in round 1, of which the first `chosen` are chosen.
    pub fn six_votes(&mut self, chosen: u64) {
        self.six_votes_but(6, chosen);
    }

    /// The same, but for the vote for one slot.
    pub fn six_votes_but(&mut self, left_out: u64, chosen: u64) {
        for slot in (0..6).filter(|slot| *slot != left_out) {
            self.accept(1, slot, 0);
        }
        self.persist();
        self.step(Input::Frame(header(Kind::Heartbeat, ballot(1, 1)).chosen(chosen).frame())).unwrap();
        assert_eq!(self.executed.len() as u64, chosen);
    }

    /// A snapshot of all that is executed begins, is published, and the journal is cut below it.
    pub fn snapshot(&mut self) -> Cut {
        let cut = self.ring.cut(&self.out);
        self.step(Input::Snapshotted(cut.slot)).unwrap();
        cut
    }

    pub fn kinds(&self) -> Vec<Kind> {
        self.journal.iter().map(|append| append.frame.kind()).collect()
    }

    pub fn sent(&self, kind: Kind) -> Vec<FrameHeader> {
        self.sent.iter().map(Frame::header).filter(|header| header.kind == kind).collect()
    }

    /// What starts again from a snapshot of the slots below `base` and the records from `first` on.
    pub fn recovering(&self, base: u64, first: Lsn) -> Result<(Recovering, Outbox), Ignored> {
        let mut out = Outbox::new(self.out.appended(), FramePool::new(1 << 16));
        let mut recovering = Recovering::restored(self.ring.options().clone(), Slot(base));
        for append in self.journal.iter().filter(|append| append.lsn >= first) {
            recovering.replay(append.lsn, &append.frame, &mut out)?;
            for event in out.events.drain(..) {
                if let Event::Chosen { slot, .. } = event {
                    recovering.executed(slot);
                }
            }
        }
        recovering.bridged()?;
        Ok((recovering, out))
    }

    pub fn restart(&mut self, base: u64, first: Lsn) {
        let (recovering, out) = self.recovering(base, first).unwrap();
        self.ring = recovering.recovered(self.now, &out);
        self.journal.retain(|append| append.lsn >= first);
        self.out = out;
        self.sent.clear();
    }

    /// The votes that a promise of a new ballot of node 3 reports, by slot and round.
    pub fn promised_votes(&mut self, round: u64) -> Vec<(u64, u64)> {
        self.step(Input::Frame(header(Kind::Prepare, ballot(round, 3)).from(3).frame())).unwrap();
        self.persist();
        let promise = self.sent.iter().rev().find(|frame| frame.kind() == Kind::Promise).expect("a promise");
        let mut votes = Vec::new();
        message::carried(promise, |vote| votes.push((vote.header().slot.0, vote.header().ballot.round)))
            .unwrap();
        votes
    }
}

/// A frame in the making, from node 1 unless it is said otherwise.
pub struct Draft(FrameHeader, Vec<u8>);

pub fn header(kind: Kind, ballot: Ballot) -> Draft {
    let header = FrameHeader {
        kind,
        cluster: ClusterId(7),
        ring: RingId(1),
        configuration: ConfigurationId(1),
        sender: NodeId(1),
        ballot,
        slot: Slot(0),
        chosen: Slot(0),
        commands: 0,
        words: [0; 4],
    };
    Draft(header, Vec::new())
}

/// An Accept of a batch that holds nothing but a time: the slot's, so that there is one value per slot.
pub fn accept(ballot: Ballot, slot: u64, chosen: u64) -> Frame {
    let sender = ballot.node.0;
    header(Kind::Accept, ballot).from(sender).slot(slot).chosen(chosen).payload(&slot.to_le_bytes()).frame()
}

/// Chosen slots, in a ballot of node 3.
pub fn learn(round: u64, first: u64, end: u64) -> Frame {
    let learn = header(Kind::Learn, ballot(round, 3)).from(3).slot(first).words([end - first, 0, 0, 0]);
    (first..end)
        .fold(learn, |learn, slot| learn.payload(accept(ballot(round, 3), slot, 0).as_bytes()))
        .frame()
}

impl Draft {
    pub fn words(mut self, words: [u64; 4]) -> Draft {
        self.0.words = words;
        self
    }

    pub fn slot(mut self, slot: u64) -> Draft {
        self.0.slot = Slot(slot);
        self
    }

    pub fn chosen(mut self, chosen: u64) -> Draft {
        self.0.chosen = Slot(chosen);
        self
    }

    pub fn from(mut self, sender: u16) -> Draft {
        self.0.sender = NodeId(sender);
        self
    }

    pub fn payload(mut self, payload: &[u8]) -> Draft {
        self.1.extend_from_slice(payload);
        self
    }

    pub fn frame(self) -> Frame {
        let mut buffer = BytesMut::zeroed(HEADER_BYTES);
        buffer.extend_from_slice(&self.1);
        Frame::seal(buffer, &self.0)
    }
}
