//! Every handler under arbitrary inputs, against its contracts and against a small model of an acceptor.
//!
//! The ring under test is node 2 of three. It gets frames of every kind from the others, in any order and
//! ballot, writes that become durable late, and time that jumps. The model looks only at what leaves.

use std::collections::BTreeMap;
use std::time::Duration;

use annulus_rings::batch::BatchBuilder;
use annulus_rings::configuration::Configuration;
use annulus_rings::frame::HEADER_BYTES;
use annulus_rings::{
    Ballot, ClusterId, ConfigurationId, Cut, Event, Frame, FrameHeader, FramePool, Incarnation, Input, Kind,
    Lsn, Message, NodeId, Outbox, Progress, Recovering, Ring, RingId, RingOptions, Role, Slot, Time,
};
use bytes::BytesMut;
use proptest::prelude::*;

const SELF: NodeId = NodeId(2);

fn options() -> RingOptions {
    let members = [NodeId(1), NodeId(2), NodeId(3)];
    RingOptions {
        cluster: ClusterId(7),
        ring: RingId(1),
        node: SELF,
        incarnation: Incarnation(1),
        configuration: Configuration::new(ConfigurationId(1), Slot(0), &members).unwrap(),
        window_slots: 4,
        election_timeout: Duration::from_millis(100),
        heartbeat_interval: Duration::from_millis(20),
        resend_interval: Duration::from_millis(40),
        retain_bytes: 4096,
        seed: 11,
    }
}

fn ballot(round: u64, node: u16) -> Ballot {
    Ballot { round, node: NodeId(node), incarnation: Incarnation(1) }
}

/// A batch payload that `value` decides.
fn payload(value: u8) -> Vec<u8> {
    let mut payload = vec![0; 8];
    payload.extend_from_slice(&1u32.to_le_bytes());
    payload.push(value);
    payload
}

fn frame(
    sender: u16,
    ballot: Ballot,
    kind: Kind,
    slot: u64,
    chosen: u64,
    words: [u64; 4],
    payload: &[u8],
) -> Frame {
    let header = FrameHeader {
        kind,
        cluster: ClusterId(7),
        ring: RingId(1),
        configuration: ConfigurationId(1),
        sender: NodeId(sender),
        ballot,
        slot: Slot(slot),
        chosen: Slot(chosen),
        commands: u32::from(kind == Kind::Accept),
        words,
    };
    let mut buffer = BytesMut::zeroed(HEADER_BYTES);
    buffer.extend_from_slice(payload);
    Frame::seal(buffer, &header)
}

/// One thing that happens to the ring.
#[derive(Clone, Debug)]
enum Happening {
    Prepare { sender: u16, round: u64, from: u64 },
    Accept { sender: u16, round: u64, slot: u64, chosen: u64, value: u8 },
    Heartbeat { sender: u16, round: u64, chosen: u64 },
    Accepted { sender: u16, own: bool, round: u64, first: u64, last: u64 },
    Promise { sender: u16, base: u64, votes: Vec<(u64, u64)>, parts: usize },
    Answer { sender: u16, kind: Kind, round: u64, words: [u64; 4], slot: u64 },
    Learn { sender: u16, round: u64, first: u64, count: u64 },
    Retrieved { to: u16, from: u64, slots: Vec<u64> },
    Propose,
    Persist { frames: u64 },
    Later { ms: u64 },
    Campaign { sender: u16, votes: Vec<(u64, u64)> },
    Snapshot,
    Truncate,
    Carry,
    Install { ahead: u64 },
}

fn happening() -> impl Strategy<Value = Happening> {
    let sender = prop_oneof![Just(1u16), Just(3u16)];
    let answers = prop_oneof![
        Just(Kind::PreVote),
        Just(Kind::PreVoted),
        Just(Kind::Refused),
        Just(Kind::BelowFloor),
        Just(Kind::Heard),
        Just(Kind::Fetch)
    ];
    prop_oneof![
        1 => (sender.clone(), 0..9u64, 0..9u64).prop_map(|(sender, round, from)| Happening::Prepare { sender, round, from }),
        4 => (sender.clone(), 0..9u64, 0..9u64, 0..9u64, 0..3u8).prop_map(|(sender, round, slot, chosen, value)| {
            Happening::Accept { sender, round, slot, chosen, value }
        }),
        1 => (sender.clone(), 0..9u64, 0..9u64).prop_map(|(sender, round, chosen)| Happening::Heartbeat { sender, round, chosen }),
        2 => (sender.clone(), any::<bool>(), 0..9u64, 0..9u64, 0..3u64).prop_map(|(sender, own, round, first, more)| {
            Happening::Accepted { sender, own, round, first, last: first + more }
        }),
        2 => (sender.clone(), 0..4u64, prop::collection::vec((0..9u64, 0..9u64), 0..4), 1..4usize)
            .prop_map(|(sender, base, votes, parts)| Happening::Promise { sender, base, votes, parts }),
        1 => (sender.clone(), answers, 0..9u64, prop::array::uniform4(0..4u64), 0..9u64)
            .prop_map(|(sender, kind, round, words, slot)| Happening::Answer { sender, kind, round, words, slot }),
        // Whoever teaches may do so in the highest ballot of all, or in one that this ring has outbid.
        1 => (sender.clone(), prop_oneof![Just(99u64), 0..9u64], 0..9u64, 1..4u64)
            .prop_map(|(sender, round, first, count)| Happening::Learn { sender, round, first, count }),
        1 => (sender.clone(), 0..9u64, prop::collection::vec(0..3u64, 0..5)).prop_map(|(to, from, steps)| {
            // Mostly adjacent, as a journal answers, with a hole or a slot twice now and then.
            let slots = steps.iter().scan(from, |slot, step| { let here = *slot; *slot += (step + 2) / 2; Some(here) });
            Happening::Retrieved { to, from, slots: slots.collect() }
        }),
        3 => Just(Happening::Propose),
        4 => (1..4u64).prop_map(|frames| Happening::Persist { frames }),
        2 => (1..150u64).prop_map(|ms| Happening::Later { ms }),
        1 => (sender, prop::collection::vec((0..9u64, 0..9u64), 0..4))
            .prop_map(|(sender, votes)| Happening::Campaign { sender, votes }),
        1 => Just(Happening::Snapshot),
        1 => Just(Happening::Truncate),
        1 => Just(Happening::Carry),
        1 => (1..5u64).prop_map(|ahead| Happening::Install { ahead }),
    ]
}

/// A ring, its disk, and what the model has seen leave it.
struct World {
    ring: Ring,
    out: Outbox,
    now: Time,
    records: Vec<Frame>,
    persisted: u64,
    executed: u64,
    chosen: BTreeMap<u64, u64>,
    promised_out: Ballot,
    campaign: Ballot,
    led: bool,
    /// What left last.
    sent: Vec<Frame>,
    claimed: u64,
    batch: BatchBuilder,
    /// Where the journal may be cut below the newest snapshot.
    cut: Cut,
    /// When every value of a slot is the same, claims of what is chosen are true.
    is_consistent: bool,
}

impl World {
    fn new(is_consistent: bool) -> World {
        let out = Outbox::new(Lsn(0), FramePool::new(1 << 16));
        let ring = Recovering::new(options()).recovered(Time(0), &out);
        World {
            ring,
            out,
            now: Time(0),
            records: Vec::new(),
            persisted: 0,
            executed: 0,
            chosen: BTreeMap::new(),
            promised_out: Ballot::ZERO,
            campaign: Ballot::ZERO,
            led: false,
            sent: Vec::new(),
            claimed: 0,
            batch: BatchBuilder::new(4096, 16),
            cut: Cut::default(),
            is_consistent,
        }
    }

    /// The payload for `slot`: in a consistent world what this ring proposed there itself, or a value that
    /// is the same for everybody.
    fn value(&self, slot: u64, value: u8) -> Vec<u8> {
        if !self.is_consistent {
            return payload(value);
        }
        let is_own = |frame: &&Frame| {
            let header = frame.header();
            header.kind == Kind::Accept && header.slot.0 == slot && header.sender == SELF
        };
        let own = self.records.iter().rev().find(is_own);
        own.map_or_else(|| payload(slot as u8), |frame| frame.payload().to_vec())
    }

    /// Watermarks claim what is chosen: only a consistent world can make true claims.
    fn claim(&mut self, chosen: u64) -> u64 {
        if !self.is_consistent {
            return 0;
        }
        self.claimed = self.claimed.max(chosen);
        chosen
    }

    fn happen(&mut self, happening: &Happening) {
        match *happening {
            Happening::Prepare { sender, round, from } => {
                self.receive(frame(sender, ballot(round, sender), Kind::Prepare, from, 0, [0; 4], &[]));
            }
            Happening::Accept { sender, round, slot, chosen, value } => {
                let (payload, chosen) = (self.value(slot, value), self.claim(chosen));
                let value_of_ballot = if self.is_consistent {
                    payload
                } else {
                    self::payload((round + slot) as u8 ^ value >> 1)
                };
                self.receive(frame(
                    sender,
                    ballot(round, sender),
                    Kind::Accept,
                    slot,
                    chosen,
                    [0; 4],
                    &value_of_ballot,
                ));
            }
            Happening::Heartbeat { sender, round, chosen } => {
                let chosen = self.claim(chosen);
                let words = [1, 0, 0, 0];
                self.receive(frame(sender, ballot(round, sender), Kind::Heartbeat, 0, chosen, words, &[]));
            }
            Happening::Accepted { sender, own, round, first, last } => {
                if !self.is_consistent {
                    return; // Votes would choose, and what is chosen here conflicts with what comes next.
                }
                let ballot = if own { self.ring.ballot() } else { ballot(round, 2) };
                let digest = (first..=last).fold(0, |digest, slot| {
                    let value = self.last_accept(slot).map_or(annulus_rings::frame::ValueId(0), Frame::value);
                    annulus_rings::frame::ValueId::fold(digest, Slot(slot), value)
                });
                self.receive(frame(sender, ballot, Kind::Accepted, last, 0, [first, digest, 5, 0], &[]));
            }
            Happening::Promise { sender, base, ref votes, parts } => self.promise(sender, base, votes, parts),
            Happening::Answer { sender, kind, round, words, slot } => {
                self.receive(frame(sender, ballot(round, sender), kind, slot, 0, words, &[]));
            }
            Happening::Learn { sender, round, first, count } => {
                if self.is_consistent {
                    self.learn(sender, round, first, count);
                }
            }
            Happening::Retrieved { to, from, ref slots } => self.retrieved(to, from, slots),
            Happening::Propose => self.propose(),
            Happening::Persist { frames } => {
                self.persisted = (self.persisted + frames).min(self.records.len() as u64);
                self.step(Input::Persisted(Lsn(self.persisted)));
            }
            Happening::Later { ms } => self.later(ms),
            Happening::Campaign { sender, ref votes } => self.campaign(sender, votes),
            Happening::Snapshot => self.snapshot(),
            Happening::Truncate => self.step(Input::Truncate(self.cut)),
            Happening::Carry => self.step(Input::Carry),
            Happening::Install { ahead } => self.install(ahead),
        }
    }

    /// A snapshot of what is executed begins and is durable.
    fn snapshot(&mut self) {
        self.cut = self.ring.cut(&self.out);
        self.step(Input::Snapshotted(self.cut.slot));
    }

    /// A peer's snapshot of slots that this ring does not know to be chosen.
    fn install(&mut self, ahead: u64) {
        self.executed = self.ring.progress().chosen.0 + ahead;
        self.claim(self.executed);
        self.step(Input::Installed(Slot(self.executed)));
        let progress = self.ring.progress();
        assert!(progress.executed.0 >= self.executed && progress.executed == progress.chosen);
    }

    fn later(&mut self, ms: u64) {
        self.now = self.now + Duration::from_millis(ms);
        self.step(Input::Tick);
    }

    fn persist_all(&mut self) {
        self.persisted = self.records.len() as u64;
        self.step(Input::Persisted(Lsn(self.persisted)));
    }

    /// Silence, then one peer that goes along: mostly ends in leadership.
    fn campaign(&mut self, sender: u16, votes: &[(u64, u64)]) {
        self.later(500);
        self.receive(frame(sender, self.campaign, Kind::PreVoted, 0, 0, [1, 0, 0, 0], &[]));
        self.persist_all();
        self.promise(sender, 0, votes, 1);
        let known = self.ring.progress().chosen.0;
        if known < self.claimed {
            self.learn(sender, 99, known, self.claimed - known);
        }
        self.led |= self.ring.role() == Role::Leader;
    }

    fn promise(&mut self, sender: u16, base: u64, votes: &[(u64, u64)], parts: usize) {
        let base = self.claim(base.max(self.claimed));
        for part in self.promise_parts(sender, base, votes, parts) {
            self.receive(part);
        }
    }

    /// The parts of a promise of this ring's ballot, as even as it goes.
    fn promise_parts(&self, sender: u16, base: u64, votes: &[(u64, u64)], parts: usize) -> Vec<Frame> {
        let own = self.ring.ballot();
        let prepare = self.records.iter().rev().find(|frame| frame.kind() == Kind::Prepare);
        let from = prepare.map_or(0, |frame| frame.header().slot.0);
        let part = |part: usize| {
            let mut inner = Vec::new();
            for &(round, slot) in votes.iter().skip(part).step_by(parts) {
                let payload = self.value(slot, round as u8);
                let vote =
                    frame(1, ballot(round, 1), Kind::Accept, slot + from.max(base), 0, [0; 4], &payload);
                inner.extend_from_slice(vote.as_bytes());
            }
            frame(sender, own, Kind::Promise, base, 0, [part as u64, parts as u64, from, 0], &inner)
        };
        (0..parts).map(part).collect()
    }

    fn learn(&mut self, sender: u16, round: u64, first: u64, count: u64) {
        let mut inner = Vec::new();
        self.claim(first + count);
        for slot in first..first + count {
            let value = self.value(slot, 0);
            let frame = frame(sender, ballot(round, sender), Kind::Accept, slot, 0, [0; 4], &value);
            inner.extend_from_slice(frame.as_bytes());
        }
        self.receive(frame(sender, ballot(1, sender), Kind::Learn, first, 0, [count, 0, 0, 0], &inner));
    }

    /// The journal answers, whether it was asked or not.
    fn retrieved(&mut self, to: u16, from: u64, slots: &[u64]) {
        let accept = |slot: u64| {
            let value = self.value(slot, 0);
            frame(1, ballot(1, 1), Kind::Accept, slot, 0, [0; 4], &value)
        };
        let frames = slots.iter().map(|slot| accept(*slot)).collect();
        let records = self.records.len();
        self.step(Input::Retrieved { to: NodeId(to), from: Slot(from), frames });
        assert_eq!(self.records.len(), records, "teaching writes nothing");
        for lesson in &self.sent {
            assert_eq!((lesson.kind(), lesson.header().slot), (Kind::Learn, Slot(from)));
        }
    }

    fn propose(&mut self) {
        if !self.ring.can_propose() {
            return;
        }
        let slot = self.ring.progress().proposed.0;
        self.batch.push(&mut self.out.pool, &[if self.is_consistent { slot as u8 } else { 7 }]);
        let batch = self.batch.seal(&mut self.out.pool, 0);
        self.step(Input::Propose(batch));
    }

    fn receive(&mut self, frame: Frame) {
        self.step(Input::Frame(frame));
    }

    fn last_accept(&self, slot: u64) -> Option<&Frame> {
        self.records.iter().rev().find(|frame| frame.kind() == Kind::Accept && frame.header().slot.0 == slot)
    }

    fn step(&mut self, input: Input) {
        let _ = self.ring.step(self.now, input, &mut self.out);
        for append in std::mem::take(&mut self.out.appends) {
            self.check_append(&append.frame);
            self.records.push(append.frame);
            assert_eq!(append.lsn.0, self.records.len() as u64, "appends are numbered without gaps");
        }
        self.sent.clear();
        for transmit in std::mem::take(&mut self.out.transmits) {
            assert_ne!(transmit.to, SELF);
            self.check_transmit(&transmit.frame);
            self.sent.push(transmit.frame);
        }
        for event in std::mem::take(&mut self.out.events) {
            if let Event::Chosen { slot, frame, .. } = event {
                assert_eq!(slot.0, self.executed, "chosen slots are reported in order");
                self.chosen.insert(slot.0, frame.value().0);
                self.executed += 1;
                let _ = self.ring.step(self.now, Input::Executed(slot), &mut self.out);
            }
        }
    }

    /// A7: after a promise has left, nothing below it is voted for. What is carried was voted for before, or taught.
    fn check_append(&self, frame: &Frame) {
        if frame.kind() == Kind::Accept
            && !self.records.iter().any(|record| holds(record, |held| held == frame))
        {
            assert!(frame.header().ballot >= self.promised_out, "a vote below a promise");
        }
    }

    /// A2, A4, A6: what leaves is durable, and in the ballot of its record.
    fn check_transmit(&mut self, frame: &Frame) {
        let header = frame.header();
        let durable = &self.records[..self.persisted as usize];
        match Message::decode(&header).unwrap() {
            Message::PreVote { .. } => self.campaign = header.ballot,
            Message::Promise { .. } => {
                // A vote implies a promise of its ballot, and so does what is taught in it (A1).
                let is_of = |held: &Frame| held.header().ballot == header.ballot;
                let is_durable = durable
                    .iter()
                    .any(|record| record.kind() == Kind::Prepare && is_of(record) || holds(record, is_of));
                assert!(is_durable, "a promise left before it was durable");
                self.promised_out = self.promised_out.max(header.ballot);
            }
            Message::Accepted { first, last, .. } => {
                for slot in first.0..=last.0 {
                    // What was taught in a ballot is held as a vote in that ballot is.
                    let is_it =
                        |held: &Frame| (held.header().slot.0, held.header().ballot) == (slot, header.ballot);
                    let is_durable = durable.iter().any(|record| holds(record, is_it));
                    assert!(is_durable, "a vote for {slot} left before it was durable, or in another ballot");
                }
            }
            Message::Learn { first, count } => {
                let mut slot = first.0;
                let known = |taught: Frame| {
                    assert_eq!(taught.header().slot.0, slot, "slots are taught in order");
                    assert_eq!(self.chosen.get(&slot), Some(&taught.value().0), "slot {slot} is not chosen");
                    slot += 1;
                };
                annulus_rings::message::carried(frame, known).unwrap();
                assert_eq!(slot, first.0 + u64::from(count));
            }
            _ => {}
        }
    }

    /// A1, T6: what the durable records give back keeps every promise that left, and the same chosen values. It
    /// does not matter how much of what is not needed is gone.
    fn check_recovery(&self) {
        let (base, needed) = (self.ring.snapshot(), self.ring.needed().0.min(self.persisted + 1));
        let whole = self.recovered(base, 1);
        assert!(whole.ring.ballot() >= self.promised_out, "a promise was forgotten");
        let told = whole.told();
        for first in 1..=needed {
            // A vote that was replaced may have shown more to be chosen; what it showed is chosen still.
            let (progress, ballot, kept, mut votes) = self.recovered(base, first).told();
            assert!(base <= progress.chosen && progress.chosen <= told.0.chosen);
            votes.retain(|(vote, _)| vote.slot >= told.0.chosen);
            let left = (told.0, ballot, kept, votes);
            assert_eq!(left, told, "when the records below {first} are gone, of {}", self.persisted);
        }
    }

    /// The ring as it starts again from its snapshot and the durable records from `first` on.
    fn recovered(&self, base: Slot, first: u64) -> World {
        let mut out = Outbox::new(Lsn(self.persisted), FramePool::new(1 << 16));
        let mut recovering = Recovering::restored(options(), base);
        for lsn in first..=self.persisted {
            recovering
                .replay(Lsn(lsn), &self.records[lsn as usize - 1], &mut out)
                .expect("a record of this ring");
            for event in std::mem::take(&mut out.events) {
                if let Event::Chosen { slot, frame, .. } = event {
                    // A snapshot may fill the hole at which a watermark was not believed any further.
                    let known = self.chosen.get(&slot.0).is_none_or(|value| *value == frame.value().0);
                    assert!(
                        known && slot.0 < self.claimed.max(self.executed),
                        "another value after recovery"
                    );
                    recovering.executed(slot);
                }
            }
        }
        recovering.bridged().expect("the newest snapshot and what is needed make up the log");
        let ring = recovering.recovered(self.now, &out);
        World { ring, out, now: self.now, persisted: self.persisted, ..World::new(self.is_consistent) }
    }

    /// Everything that a ring which has just started says of itself, and promises to a new candidate.
    fn told(mut self) -> (Progress, Ballot, Slot, Vec<(FrameHeader, u64)>) {
        let told = (self.ring.progress(), self.ring.ballot(), self.ring.kept());
        let prepare = frame(3, ballot(1000, 3), Kind::Prepare, 0, 0, [0; 4], &[]);
        self.ring.step(self.now, Input::Frame(prepare), &mut self.out).expect("the highest ballot");
        let appended = self.out.appended();
        self.ring.step(self.now, Input::Persisted(appended), &mut self.out).expect("news");
        let mut votes = Vec::new();
        for promise in self.out.transmits.iter().filter(|sent| sent.frame.kind() == Kind::Promise) {
            annulus_rings::message::carried(&promise.frame, |vote| {
                votes.push((vote.header(), vote.value().0));
            })
            .expect("a promise carries votes");
        }
        (told.0, told.1, told.2, votes)
    }
}

/// Whether a record holds an Accept that `is_it`, alone or among others.
fn holds(record: &Frame, is_it: impl Fn(&Frame) -> bool) -> bool {
    let mut holds = record.kind() == Kind::Accept && is_it(record);
    if record.kind() == Kind::Learn {
        annulus_rings::message::carried(record, |inner| holds |= is_it(&inner)).unwrap();
    }
    holds
}

/// Otherwise whoever is taught from here may vote for an older leader's other value afterwards.
#[test]
fn a_taught_value_takes_the_place_of_an_equal_vote_in_a_lower_ballot() {
    let mut world = World::new(true);
    world.happen(&Happening::Accept { sender: 1, round: 1, slot: 0, chosen: 0, value: 0 });
    world.happen(&Happening::Learn { sender: 3, round: 99, first: 0, count: 1 });
    world.happen(&Happening::Answer { sender: 1, kind: Kind::Fetch, round: 1, words: [1, 0, 0, 0], slot: 0 });
    let lesson = world.sent.iter().find(|frame| frame.kind() == Kind::Learn).expect("the peer is taught");
    annulus_rings::message::carried(lesson, |taught| assert_eq!(taught.header().ballot, ballot(99, 3)))
        .unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn contracts_hold_when_every_claim_is_true(happenings in prop::collection::vec(happening(), 1..120)) {
        let mut world = World::new(true);
        for happening in &happenings {
            world.happen(happening);
        }
        world.check_recovery();
    }

    #[test]
    fn conflicting_values_and_old_ballots_break_no_contract(happenings in prop::collection::vec(happening(), 1..120)) {
        let mut world = World::new(false);
        for happening in &happenings {
            world.happen(happening);
        }
        world.check_recovery();
    }
    /// P2, P3: a promise counts when its last part has come, in whatever order and however often they come;
    /// then the highest vote of each slot is proposed again.
    #[test]
    fn a_promise_in_parts_counts_when_it_is_whole(
        votes in prop::collection::vec((0..9u64, 0..6u64), 0..12),
        parts in 1..5usize,
        order in prop::collection::vec(0..5usize, 0..10),
    ) {
        let mut world = World::new(false);
        // A high ballot was seen, so that the own one is above those of the votes.
        let seen = [20, ballot(0, 3).owner_word(), 0, 0];
        world.receive(frame(3, ballot(0, 3), Kind::Refused, 0, 0, seen, &[]));
        world.later(500);
        world.receive(frame(3, world.campaign, Kind::PreVoted, 0, 0, [1, 0, 0, 0], &[]));
        world.persist_all();
        let frames = world.promise_parts(3, 0, &votes, parts);
        let mut missing: Vec<usize> = (0..parts).collect();
        for part in order.iter().map(|part| part % parts).chain(0..parts) {
            if missing.is_empty() {
                break;
            }
            prop_assert_eq!(world.ring.role(), Role::Candidate, "parts {:?} are missing", missing);
            world.receive(frames[part].clone());
            missing.retain(|other| *other != part);
        }
        prop_assert_eq!(world.ring.role(), Role::Leader);
        let mut highest = BTreeMap::new();
        for (round, slot) in votes {
            highest.entry(slot).and_modify(|held: &mut u64| *held = round.max(*held)).or_insert(round);
        }
        // The window has room for four slots.
        for (slot, round) in highest.into_iter().filter(|(slot, _)| *slot < 4) {
            let proposed = world.last_accept(slot).expect("what was reported is proposed again");
            prop_assert_eq!((proposed.header().sender, proposed.payload()), (SELF, &payload(round as u8)[..]));
        }
    }
}
