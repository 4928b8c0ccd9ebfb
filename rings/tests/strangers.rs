//! Frames and completions that no sound member, disk or core sends: the ring changes nothing for them. And
//! those that are sound, and too rare for a simulation.

use std::time::Duration;

use annulus_rings::batch::BatchBuilder;
use annulus_rings::frame::{HEADER_BYTES, ValueId};
use annulus_rings::{
    Ballot, ClusterId, Configuration, ConfigurationId, Event, Frame, FrameHeader, FramePool, Ignored,
    Incarnation, Input, Kind, Lsn, NodeId, Outbox, Recovering, Ring, RingId, RingOptions, Role, Slot, Time,
    message, reach,
};
use bytes::BytesMut;

/// The first ballot of node 1, which the others follow.
const BALLOT: Ballot = Ballot { round: 1, node: NodeId(1), incarnation: Incarnation(1) };

/// Node 2 of three, and its outputs.
struct Stage {
    ring: Ring,
    out: Outbox,
    now: Time,
}

impl Stage {
    fn new() -> Stage {
        let members = [NodeId(1), NodeId(2), NodeId(3)];
        let options = RingOptions {
            cluster: ClusterId(7),
            ring: RingId(1),
            node: NodeId(2),
            incarnation: Incarnation(1),
            configuration: Configuration::new(ConfigurationId(1), Slot(0), &members).unwrap(),
            window_slots: 4,
            election_timeout: Duration::from_millis(100),
            heartbeat_interval: Duration::from_millis(20),
            resend_interval: Duration::from_millis(40),
            retain_bytes: 1 << 20,
            seed: 1,
        };
        let out = Outbox::new(Lsn(0), FramePool::new(1 << 16));
        Stage { ring: Recovering::new(options).recovered(Time(0), &out), out, now: Time(0) }
    }

    fn step(&mut self, input: Input) -> Result<(), Ignored> {
        self.ring.step(self.now, input, &mut self.out)
    }

    fn receive(&mut self, frame: Frame) -> Result<(), Ignored> {
        self.step(Input::Frame(frame))
    }

    fn persist_all(&mut self) {
        let appended = self.out.appended();
        self.step(Input::Persisted(appended)).unwrap();
    }

    /// How many frames of a kind were sent.
    fn sent(&self, kind: Kind) -> usize {
        self.out.transmits.iter().filter(|transmit| transmit.frame.kind() == kind).count()
    }

    /// Makes the ring stand for election, with the pre-vote of node 3.
    fn stand(&mut self) -> Ballot {
        self.now = self.ring.deadline();
        self.step(Input::Tick).unwrap();
        let ballot = self.out.transmits.pop().unwrap().frame.header().ballot;
        self.receive(header(Kind::PreVoted, ballot).words([1, 0, 0, 0]).from(3).frame()).unwrap();
        self.persist_all();
        ballot
    }

    /// Makes the ring lead, with the promise of node 3.
    fn elect(&mut self) -> Ballot {
        let ballot = self.stand();
        self.receive(header(Kind::Promise, ballot).words([0, 1, 0, 0]).from(3).frame()).unwrap();
        assert_eq!(self.ring.role(), Role::Leader);
        ballot
    }

    /// Proposes for slot 0, and returns the digest that a vote for it names.
    fn propose(&mut self) -> u64 {
        let mut builder = BatchBuilder::new(4096, 16);
        builder.push(&mut self.out.pool, b"command");
        let batch = builder.seal(&mut self.out.pool, 0);
        self.step(Input::Propose(batch)).unwrap();
        self.persist_all();
        ValueId::fold(0, Slot(0), self.out.appends.last().unwrap().frame.value())
    }
}

/// A frame in the making, from node 1 unless it is said otherwise.
struct Draft(FrameHeader, Vec<u8>);

fn header(kind: Kind, ballot: Ballot) -> Draft {
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

/// An Accept of a batch that holds nothing but a time.
fn accept(ballot: Ballot, slot: u64, time_ns: u64) -> Draft {
    header(Kind::Accept, ballot).slot(slot).payload(&time_ns.to_le_bytes())
}

impl Draft {
    fn words(mut self, words: [u64; 4]) -> Draft {
        self.0.words = words;
        self
    }

    fn slot(mut self, slot: u64) -> Draft {
        self.0.slot = Slot(slot);
        self
    }

    fn from(mut self, sender: u16) -> Draft {
        self.0.sender = NodeId(sender);
        self
    }

    fn configuration(mut self, id: u32) -> Draft {
        self.0.configuration = ConfigurationId(id);
        self
    }

    fn payload(mut self, payload: &[u8]) -> Draft {
        self.1.extend_from_slice(payload);
        self
    }

    fn frame(self) -> Frame {
        let mut buffer = BytesMut::zeroed(HEADER_BYTES);
        buffer.extend_from_slice(&self.1);
        Frame::seal(buffer, &self.0)
    }
}

/// Chosen slots from `first` on, one for each time.
fn learn(first: u64, times_ns: &[u64]) -> Frame {
    let learn = header(Kind::Learn, BALLOT).slot(first).words([times_ns.len() as u64, 0, 0, 0]);
    let slots = (first..).zip(times_ns);
    slots
        .fold(learn, |learn, (slot, &time_ns)| {
            learn.payload(accept(BALLOT, slot, time_ns).frame().as_bytes())
        })
        .frame()
}

#[test]
fn no_vote_is_cast_for_another_configuration() {
    let mut stage = Stage::new();
    assert_eq!(stage.receive(accept(BALLOT, 0, 1).configuration(2).frame()), Err(Ignored::NotMember));
    assert_eq!(stage.receive(accept(BALLOT, 0, 1).from(4).frame()), Err(Ignored::NotMember));
    let Outbox { transmits, appends, events, .. } = &stage.out;
    assert!(transmits.is_empty() && appends.is_empty() && events.is_empty());
}

#[test]
fn a_watermark_is_believed_of_nobody_but_the_leader_of_its_ballot() {
    let mut stage = Stage::new();
    stage.receive(accept(BALLOT, 0, 5).frame()).unwrap();
    let mut forged = header(Kind::Heartbeat, BALLOT).from(3);
    forged.0.chosen = Slot(1);
    assert_eq!(stage.receive(forged.frame()), Err(Ignored::Malformed));
    assert_eq!(stage.ring.progress().chosen, Slot(0));
}

#[test]
fn a_slot_far_beyond_the_window_is_refused() {
    let mut stage = Stage::new();
    assert_eq!(stage.receive(accept(BALLOT, 1_000, 1).frame()), Err(Ignored::BeyondWindow));
    assert!(stage.out.appends.is_empty());
}

#[test]
fn a_second_value_in_one_ballot_gets_no_vote_and_no_acknowledgement() {
    let mut stage = Stage::new();
    stage.receive(accept(BALLOT, 0, 1).frame()).unwrap();
    stage.persist_all();
    assert_eq!(stage.sent(Kind::Accepted), 1);
    assert_eq!(stage.receive(accept(BALLOT, 0, 2).frame()), Err(Ignored::ConflictingValue));
    assert_eq!((stage.sent(Kind::Accepted), stage.out.appends.len()), (1, 1));
    assert!(reach::count(&reach::SECOND_VALUE) > 0);
}

#[test]
fn votes_for_other_values_than_those_proposed_are_not_counted() {
    let mut stage = Stage::new();
    let ballot = stage.elect();
    let digest = stage.propose();
    let accepted = |digest| header(Kind::Accepted, ballot).words([0, digest, 0, 0]).from(3).frame();
    assert_eq!(stage.receive(accepted(digest ^ 1)), Err(Ignored::OtherValues));
    assert_eq!(stage.ring.progress().chosen, Slot(0));
    assert_eq!(stage.receive(accepted(digest)), Ok(()));
    assert_eq!(stage.ring.progress().chosen, Slot(1));
}

#[test]
fn votes_of_an_earlier_ballot_are_not_counted_in_this_one() {
    let mut stage = Stage::new();
    let first = stage.elect();
    stage.now = stage.now + Duration::from_secs(1);
    stage.step(Input::Tick).unwrap();
    let ballot = stage.elect();
    assert!(ballot > first);
    let digest = stage.propose();
    let accepted = |ballot| header(Kind::Accepted, ballot).words([0, digest, 0, 0]).from(3).frame();
    assert_eq!(stage.receive(accepted(first)), Err(Ignored::Unasked));
    assert_eq!(stage.ring.progress().chosen, Slot(0));
    assert_eq!(stage.receive(accepted(ballot)), Ok(()));
    assert_eq!(stage.ring.progress().chosen, Slot(1));
}

#[test]
fn a_promise_of_an_earlier_ballot_elects_nobody() {
    let mut stage = Stage::new();
    let first = stage.stand();
    stage.now = stage.now + Duration::from_secs(1);
    stage.step(Input::Tick).unwrap();
    let ballot = stage.stand();
    assert!(ballot > first);
    let promise = |ballot| header(Kind::Promise, ballot).words([0, 1, 0, 0]).from(3).frame();
    assert_eq!(stage.receive(promise(first)), Err(Ignored::Unasked));
    assert_eq!(stage.ring.role(), Role::Candidate);
    assert_eq!(stage.receive(promise(ballot)), Ok(()));
    assert_eq!(stage.ring.role(), Role::Leader);
}

#[test]
fn a_late_completion_lowers_nothing() {
    let mut stage = Stage::new();
    for slot in 0..3 {
        stage.receive(accept(BALLOT, slot, 1).frame()).unwrap();
    }
    stage.persist_all();
    assert_eq!(stage.step(Input::Persisted(Lsn(1))), Err(Ignored::Duplicate));
    assert_eq!(stage.ring.progress().durable, Slot(3));
    assert!(reach::count(&reach::STALE_COMPLETION) > 0);
}

#[test]
fn votes_that_fit_no_frame_are_promised_in_parts() {
    let mut stage = Stage::new();
    for slot in 0..3 {
        let command = [&900_000_u32.to_le_bytes()[..], &vec![7; 900_000]].concat();
        let mut vote = accept(BALLOT, slot, 1).payload(&command);
        vote.0.commands = 1;
        stage.receive(vote.frame()).unwrap();
    }
    stage.persist_all();
    let higher = Ballot { round: 2, node: NodeId(3), ..BALLOT };
    stage.receive(header(Kind::Prepare, higher).from(3).frame()).unwrap();
    stage.persist_all();
    assert_eq!(stage.sent(Kind::Promise), 2);
    let promises = stage.out.transmits.iter().filter(|sent| sent.frame.kind() == Kind::Promise);
    let mut votes = 0;
    for promise in promises {
        message::carried(&promise.frame, |_| votes += 1).unwrap();
    }
    assert_eq!(votes, 3);
    assert!(reach::count(&reach::PROMISE_IN_PARTS) > 0);
}

#[test]
fn what_is_chosen_is_not_replaced_by_what_a_peer_teaches() {
    let mut stage = Stage::new();
    stage.receive(learn(0, &[1, 2])).unwrap();
    stage.receive(learn(0, &[7, 7, 3])).unwrap();
    let times = stage.out.events.iter().filter_map(|event| match event {
        Event::Chosen { frame, .. } => Some(frame.payload()[0]),
        _ => None,
    });
    assert_eq!(times.collect::<Vec<_>>(), [1, 2, 3]);
}
