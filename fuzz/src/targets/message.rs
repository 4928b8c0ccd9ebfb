//! Frames handed to a ring: of strangers in any state, of members in a state that no claim contradicts.

use std::hash::{DefaultHasher, Hasher};
use std::time::Duration;

use annulus_rings::batch::BatchBuilder;
use annulus_rings::frame::HEADER_BYTES;
use annulus_rings::{
    Configuration, Event, Frame, FrameHeader, FramePool, Ignored, Incarnation, Input, Kind, Lsn, Message,
    NodeId, Outbox, Recovering, Ring, RingOptions, Role, Slot, Time,
};
use bytes::Bytes;

use crate::edits::{Edits, Script};
use crate::{Target, seal, valid};

/// A state of the ring, and edits of a valid frame, always sealed again.
pub const MESSAGE: Target =
    Target { name: "message", run, beginnings, bytes_per_byte: 64, bytes_fixed: 128 << 10 };

const SELF: NodeId = NodeId(2);

/// Node 2 of three, and what it wants done.
struct Stage {
    ring: Ring,
    out: Outbox,
    now: Time,
}

/// Every kind of a member to a ring that it may lie to, and votes and lessons of others to one that leads.
fn beginnings() -> Vec<Vec<u8>> {
    let kinds = 0..Kind::ALL.len() as u8;
    let of_members = kinds.flat_map(|kind| [vec![0, kind, 0], vec![1, kind, 1]]);
    of_members.chain([vec![2, 6, 0], vec![2, 6, 3], vec![3, 13, 2]]).collect()
}

fn run(input: &[u8]) {
    let mut script = Script::new(input);
    let (state, kind) = (script.byte() % 4, script.byte());
    let kind = Kind::ALL[usize::from(kind) % Kind::ALL.len()];
    let sender = [1, 3, 2, 4][usize::from(script.byte()) % 4];
    let mut stage = Stage::new();
    let round = match state {
        0 => 1,
        1 => stage.stand().round,
        2 => stage.lead().round,
        _ => stage.follow(),
    };
    let mut bytes = valid::of_kind(kind, sender, round).as_bytes().to_vec();
    Edits::next(&mut script, 16).apply(&mut bytes, &[0, 64, 80, HEADER_BYTES, 2 * HEADER_BYTES]);
    seal::frame(&mut bytes);
    let Ok(frame) = Frame::parse(Bytes::from(bytes)) else { return };
    if !is_of_member(&frame.header()) {
        stage.ignore(frame);
    } else if state < 2 {
        // A ring that holds nothing can be lied to, and only a lie that contradicts another stops it.
        stage.take(frame);
    }
}

fn is_of_member(header: &FrameHeader) -> bool {
    header.cluster == valid::CLUSTER
        && header.ring == valid::RING
        && header.configuration == valid::CONFIGURATION
        && [NodeId(1), NodeId(3)].contains(&header.sender)
}

impl Stage {
    fn new() -> Stage {
        let members = [NodeId(1), SELF, NodeId(3)];
        let options = RingOptions {
            cluster: valid::CLUSTER,
            ring: valid::RING,
            node: SELF,
            incarnation: Incarnation(1),
            configuration: Configuration::new(valid::CONFIGURATION, Slot(0), &members)
                .expect("three members make a configuration"),
            window_slots: 4,
            election_timeout: Duration::from_millis(100),
            heartbeat_interval: Duration::from_millis(20),
            resend_interval: Duration::from_millis(40),
            retain_bytes: 4096,
            seed: 1,
        };
        let out = Outbox::new(Lsn(0), FramePool::new(16 << 10));
        Stage { ring: Recovering::new(options).recovered(Time(0), &out), out, now: Time(0) }
    }

    fn step(&mut self, input: Input) -> Result<(), Ignored> {
        self.ring.step(self.now, input, &mut self.out)
    }

    fn persist(&mut self) {
        let appended = self.out.appended();
        let _ = self.step(Input::Persisted(appended));
    }

    /// Stands for election.
    fn stand(&mut self) -> annulus_rings::Ballot {
        self.now = self.ring.deadline();
        let _ = self.step(Input::Tick);
        let asked = self.out.transmits.pop().expect("pre-votes are asked for");
        let ballot = asked.frame.header().ballot;
        self.answer(Kind::PreVoted, ballot, [1, 0, 0, 0]);
        self.persist();
        assert_eq!(self.ring.role(), Role::Candidate);
        ballot
    }

    /// Leads, with a value proposed for slot 0.
    fn lead(&mut self) -> annulus_rings::Ballot {
        let ballot = self.stand();
        self.answer(Kind::Promise, ballot, [0, 1, 0, 0]);
        assert_eq!(self.ring.role(), Role::Leader);
        let mut builder = BatchBuilder::new(4096, 16);
        builder.push(&mut self.out.pool, b"command");
        let batch = builder.seal(&mut self.out.pool, 0);
        self.step(Input::Propose(batch)).expect("a leader proposes");
        self.persist();
        ballot
    }

    /// Follows node 1, with a vote. Returns the round.
    fn follow(&mut self) -> u64 {
        self.step(Input::Frame(valid::accept(valid::RING, 1, 3, 0, b"vote"))).expect("it is voted for");
        self.persist();
        3
    }

    fn answer(&mut self, kind: Kind, ballot: annulus_rings::Ballot, words: [u64; 4]) {
        let header = FrameHeader { ballot, words, ..valid::header(kind, 3, 0, 0) };
        self.step(Input::Frame(valid::seal(&header, &[]))).expect("the answer is waited for");
    }

    fn fingerprint(&self) -> u64 {
        let mut state = DefaultHasher::new();
        self.ring.fingerprint(&mut state);
        state.finish()
    }

    /// A frame of a stranger changes nothing and is not answered.
    fn ignore(&mut self, frame: Frame) {
        self.out = Outbox::new(self.out.appended(), FramePool::new(16 << 10));
        let before = self.fingerprint();
        let result = self.step(Input::Frame(frame));
        assert!(matches!(result, Err(Ignored::WrongRing | Ignored::NotMember)), "{result:?}");
        let Outbox { transmits, appends, events, .. } = &self.out;
        assert!(transmits.is_empty() && appends.is_empty() && events.is_empty());
        assert_eq!(self.fingerprint(), before);
    }

    /// A frame of a member is acted on or not; what follows from it is in order.
    fn take(&mut self, frame: Frame) {
        let _ = self.step(Input::Frame(frame));
        for _ in 0..3 {
            self.persist();
            for event in std::mem::take(&mut self.out.events) {
                if let Event::Chosen { slot, .. } = event {
                    let _ = self.step(Input::Executed(slot));
                }
            }
            for transmit in std::mem::take(&mut self.out.transmits) {
                assert_ne!(transmit.to, SELF);
                Message::decode(&transmit.frame.header()).expect("a ring sends what others can read");
            }
            self.now = self.now.max(self.ring.deadline());
            let _ = self.step(Input::Tick);
        }
    }
}
