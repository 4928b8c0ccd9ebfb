//! Cores without threads: turns are taken by hand, time is the test's.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::time::Duration;

use annulus_rings::{
    Ballot, ClusterId, Configuration, ConfigurationId, CoreId, Frame, Incarnation, NodeId, RingId,
    RingOptions, Slot, Time,
};
use annulus_storage::{
    AlignedBuffer, Completion as DiskCompletion, Disk, DiskKind, Identity, JournalOptions, MemoryDisk,
    MemoryVault, Position, SegmentFile, SegmentHeader, SegmentId, Segments, Unrecovered,
};
use annulus_transport::{Network, NetworkStatistics, PeerState, Received};

use super::{BatchLimits, Core, CoreOptions, CoreParts, SnapshotOptions};
use crate::clock::{Clock, ManualClock};
use crate::{Committed, Completion, Local, Outcome, Rejected, Replies, Role, Service, StateMachine};
use crate::{RestoreFailure, SnapshotReader, SnapshotStep, SnapshotWriter};

const RING: RingId = RingId(1);

/// A memory disk that does as it is told: its writes fail, it has something to say, it has no space for another
/// segment.
struct FlakyDisk {
    disk: MemoryDisk,
    fails: Rc<RefCell<bool>>,
    is_ready: Rc<RefCell<bool>>,
    is_full: Rc<RefCell<bool>>,
    /// Segments that found no space.
    unmade: Vec<SegmentId>,
}

impl Segments for FlakyDisk {
    fn list(&mut self) -> io::Result<Vec<SegmentFile>> {
        self.disk.list()
    }

    fn read_at(&mut self, at: Position, buffer: &mut [u8]) -> io::Result<()> {
        self.disk.read_at(at, buffer)
    }

    fn has_begun(&self) -> bool {
        self.disk.has_begun()
    }
}

impl Disk for FlakyDisk {
    fn kind(&self) -> DiskKind {
        DiskKind::Simulated
    }

    fn erase(&mut self, at: Position, bytes: u64) -> io::Result<()> {
        self.disk.erase(at, bytes)
    }

    fn sync(&mut self, segment: SegmentId) -> io::Result<()> {
        self.disk.sync(segment)
    }

    fn prepare(&mut self, header: SegmentHeader, urgent: bool) {
        if *self.is_full.borrow() {
            self.unmade.push(header.segment);
        } else {
            self.disk.prepare(header, urgent);
        }
    }

    fn remove(&mut self, segment: SegmentId) {
        self.disk.remove(segment);
    }

    fn write(&mut self, token: u64, at: Position, buffer: AlignedBuffer, bytes: usize) {
        self.disk.write(token, at, buffer, bytes);
    }

    fn read(&mut self, token: u64, at: Position, buffer: AlignedBuffer, bytes: usize) {
        self.disk.read(token, at, buffer, bytes);
    }

    fn submit(&mut self) -> io::Result<()> {
        self.disk.submit()
    }

    fn poll(&mut self, completions: &mut Vec<DiskCompletion>) -> io::Result<()> {
        self.disk.poll(completions)?;
        completions.extend(self.unmade.drain(..).map(|segment| {
            let result = Err(io::ErrorKind::StorageFull.into());
            DiskCompletion::Prepared { segment, result }
        }));
        for completion in completions {
            if let DiskCompletion::Written { result, .. } = completion
                && *self.fails.borrow()
            {
                *result = Err(io::Error::other("the medium failed"));
            }
        }
        Ok(())
    }

    fn is_ready(&self) -> bool {
        *self.is_ready.borrow()
    }

    fn wait(&mut self) -> io::Result<()> {
        self.disk.wait()
    }

    fn register_wake(&mut self, eventfd: RawFd) -> io::Result<()> {
        self.disk.register_wake(eventfd)
    }
}

/// Nobody to talk to.
struct NoNetwork;

impl Network for NoNetwork {
    fn send(&mut self, _to: NodeId, _frame: Frame) {}

    fn poll(&mut self, _now: Time, _received: &mut Vec<Received>) -> usize {
        0
    }

    fn flush(&mut self, _now: Time) {}

    fn prepare_park(&mut self) -> bool {
        false
    }

    fn deadline(&self) -> Time {
        Time::NEVER
    }

    fn register_wake(&mut self, _eventfd: RawFd) -> io::Result<()> {
        Ok(())
    }

    fn statistics(&self) -> NetworkStatistics {
        NetworkStatistics::default()
    }

    fn peers(&self) -> &[PeerState] {
        &[]
    }
}

/// Replies with the replicated time and how many commands there were.
#[derive(Default)]
struct Times(u64);

impl StateMachine for Times {
    fn apply(&mut self, committed: Committed<'_>, replies: &mut Replies) {
        for _command in committed.commands() {
            self.0 += 1;
            replies.push(format!("{} at {}", self.0, committed.time_ns()).as_bytes());
        }
    }

    fn snapshot(&mut self, writer: &mut SnapshotWriter<'_>) -> SnapshotStep {
        writer.record(&self.0.to_le_bytes());
        SnapshotStep::Done
    }

    fn restore(&mut self, reader: &mut SnapshotReader<'_>) -> Result<(), RestoreFailure> {
        for record in reader.records() {
            let bytes = record.try_into().map_err(|_| RestoreFailure::unreadable("not 8 bytes"))?;
            self.0 = u64::from_le_bytes(bytes);
        }
        Ok(())
    }
}

/// What the test wants proposed, and what became of it.
#[derive(Default)]
struct Script {
    wanted: VecDeque<(u64, Vec<u8>)>,
    refused: Vec<(u64, Rejected)>,
    outcomes: Vec<(u64, Outcome)>,
    flushes: usize,
}

struct Scripted(Rc<RefCell<Script>>);

impl Service for Scripted {
    fn turn(&mut self, local: &mut Local<'_>) -> usize {
        let mut script = self.0.borrow_mut();
        let wanted: Vec<_> = script.wanted.drain(..).collect();
        for (tag, command) in &wanted {
            if let Err(why) = local.propose(RING, *tag, command) {
                script.refused.push((*tag, why));
            }
        }
        wanted.len()
    }

    fn completed(&mut self, tag: u64, completion: Completion<'_>) {
        self.0.borrow_mut().outcomes.push((tag, completion.into()));
    }

    fn flush(&mut self) {
        self.0.borrow_mut().flushes += 1;
    }

    fn prepare_park(&mut self) -> bool {
        false
    }

    fn register_wake(&mut self, _eventfd: RawFd) -> io::Result<()> {
        Ok(())
    }
}

/// One core of a cluster with the given members, under the test's hand.
struct Bench {
    core: Core<FlakyDisk, NoNetwork, ManualClock>,
    clock: ManualClock,
    script: Rc<RefCell<Script>>,
    disk_fails: Rc<RefCell<bool>>,
    disk_is_ready: Rc<RefCell<bool>>,
    disk_is_full: Rc<RefCell<bool>>,
}

impl Bench {
    fn new(members: &[NodeId], limits: BatchLimits) -> Bench {
        let clock = ManualClock::default();
        let script: Rc<RefCell<Script>> = Rc::default();
        let disk_fails: Rc<RefCell<bool>> = Rc::default();
        let disk_is_ready: Rc<RefCell<bool>> = Rc::default();
        let disk_is_full: Rc<RefCell<bool>> = Rc::default();
        let disk = FlakyDisk {
            disk: MemoryDisk::new(64 << 20),
            fails: Rc::clone(&disk_fails),
            is_ready: Rc::clone(&disk_is_ready),
            is_full: Rc::clone(&disk_is_full),
            unmade: Vec::new(),
        };
        let identity = Identity {
            cluster: ClusterId(1),
            node: NodeId(1),
            core: CoreId(0),
            incarnation: Incarnation(1),
            disk_uuid: 1,
        };
        let journal_options = JournalOptions { segment_bytes: 8 << 20, ..JournalOptions::default() };
        let journal = Unrecovered::open(disk, identity, journal_options).unwrap();
        let service = Some(Box::new(Scripted(Rc::clone(&script))) as Box<dyn Service>);
        let options = options(members, limits);
        let vault = Box::new(MemoryVault::new(64 << 20));
        let parts = CoreParts { options, clock: clock.clone(), journal, vault, network: NoNetwork, service };
        let machine: Box<dyn StateMachine> = Box::new(Times::default());
        let core = Core::open(parts, vec![(RING, machine)]).unwrap();
        Bench { core, clock, script, disk_fails, disk_is_ready, disk_is_full }
    }

    /// A node alone in its cluster, which leads.
    fn leader(limits: BatchLimits) -> Bench {
        let mut bench = Bench::new(&[NodeId(1)], limits);
        for _ in 0..2000 {
            bench.turns(2);
            bench.clock.advance(Duration::from_millis(1));
            if bench.role() == Role::Leader && bench.core.replicas[0].ring.can_propose() {
                return bench;
            }
        }
        panic!("a node alone elects itself: {:?}", bench.role());
    }

    fn role(&self) -> Role {
        self.core.replicas[0].status().role
    }

    fn turns(&mut self, count: usize) {
        for _ in 0..count {
            self.core.turn(self.clock.now());
        }
    }

    fn propose(&self, tag: u64, command: &[u8]) {
        self.script.borrow_mut().wanted.push_back((tag, command.to_vec()));
    }

    fn outcomes(&self) -> Vec<(u64, Outcome)> {
        std::mem::take(&mut self.script.borrow_mut().outcomes)
    }
}

const LIMITS: BatchLimits =
    BatchLimits { batch_bytes_max: 1024, batch_commands_max: 4, queue_bytes_max: 1100 };

fn options(members: &[NodeId], limits: BatchLimits) -> CoreOptions {
    let configuration = Configuration::new(ConfigurationId(1), Slot(0), members).unwrap();
    CoreOptions {
        ring: RingOptions {
            cluster: ClusterId(1),
            ring: RingId(0),
            node: NodeId(1),
            incarnation: Incarnation(1),
            configuration,
            window_slots: 2,
            election_timeout: Duration::from_millis(100),
            heartbeat_interval: Duration::from_millis(20),
            resend_interval: Duration::from_millis(20),
            retain_bytes: 1 << 20,
            seed: 1,
        },
        limits,
        snapshots: SnapshotOptions::default(),
        scrub_bytes_per_second: 1 << 20,
    }
}

#[test]
fn what_arrives_in_one_turn_shares_batches_and_completes_in_order() {
    let mut bench = Bench::leader(LIMITS);
    for tag in 0..10 {
        bench.propose(tag, b"command");
    }
    bench.turns(8);
    let outcomes = bench.outcomes();
    assert_eq!(outcomes.iter().map(|(tag, _)| *tag).collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
    assert!(outcomes.iter().all(|(_, outcome)| matches!(outcome, Outcome::Committed { .. })));
    assert_eq!(bench.core.statistics.batches_proposed, 3, "4 + 4 + 2 commands");
}

/// Non-volatile memory completes a write without a system call, so nothing would wake the core for it.
#[test]
fn a_core_does_not_park_while_its_journal_has_something_to_say() {
    let mut bench = Bench::new(&[NodeId(1)], LIMITS);
    bench.turns(10);
    assert!(!bench.core.prepare_park());
    *bench.disk_is_ready.borrow_mut() = true;
    assert!(bench.core.prepare_park());
}

#[test]
fn replicated_time_never_steps_back() {
    let mut bench = Bench::leader(LIMITS);
    let mut last = 0;
    for tag in 0..5 {
        bench.propose(tag, b"when");
        bench.turns(4);
        bench.clock.advance(Duration::from_millis(3));
        let outcomes = bench.outcomes();
        let [(_, Outcome::Committed { reply, .. })] = outcomes.as_slice() else { panic!("{outcomes:?}") };
        let text = String::from_utf8(reply.clone()).unwrap();
        let time: u64 = text.split(" at ").nth(1).unwrap().parse().unwrap();
        assert!(time >= last && time > 0, "{text}");
        last = time;
    }
}

#[test]
fn a_closed_window_fills_the_queue_and_no_further() {
    let mut bench = Bench::leader(LIMITS);
    // Each takes a batch of its own; two slots are open while their writes are under way.
    for tag in 0..20 {
        bench.propose(tag, &[7; 500]);
    }
    bench.turns(1);
    let refused = std::mem::take(&mut bench.script.borrow_mut().refused);
    assert!(
        refused.iter().all(|(_, why)| matches!(why, Rejected::Full { queued_bytes: 1072 })),
        "{refused:?}"
    );
    bench.turns(8);
    assert_eq!(bench.outcomes().len() + refused.len(), 20, "each ended once, one way or the other");
}

#[test]
fn a_follower_without_a_leader_rejects() {
    let mut bench = Bench::new(&[NodeId(1)], LIMITS);
    bench.turns(3);
    bench.propose(1, b"to whom");
    bench.turns(1);
    assert_eq!(bench.script.borrow().refused, [(1, Rejected::NotLeader(None))]);
}

/// A wiped disk looks just like this one, and has forgotten votes.
#[test]
fn a_fresh_disk_takes_no_part_before_its_peers_know_it() {
    let mut bench = Bench::new(&[NodeId(1), NodeId(2), NodeId(3)], LIMITS);
    for _ in 0..100 {
        bench.turns(2);
        bench.clock.advance(Duration::from_millis(20));
    }
    assert_eq!(bench.role(), Role::Follower { leader: None });
    assert_eq!(bench.core.journal.appended(), annulus_rings::Lsn(0), "it stood for nothing");
    assert_eq!(bench.core.deadline(), Time::NEVER, "and it waits for no time to pass");
    bench.propose(1, b"to whom");
    bench.turns(1);
    assert_eq!(bench.script.borrow().refused, [(1, Rejected::NotReady)]);
    assert!(bench.core.vitals.noticed().is_some_and(|notice| notice.contains("2 of 2 peers")));
}

#[test]
fn a_failed_write_poisons_the_core_and_nothing_more_is_committed() {
    let mut bench = Bench::leader(LIMITS);
    *bench.disk_fails.borrow_mut() = true;
    bench.propose(1, b"never durable");
    bench.turns(4);
    assert!(
        bench.core.failure().is_some_and(|why| why.contains("the medium failed")),
        "{:?}",
        bench.core.failure()
    );
    assert_eq!(bench.outcomes(), [(1, Outcome::Unknown)]);
}

/// What a client is told to have no effect must have none, and nobody waits for a person to make room.
#[test]
fn a_full_disk_rejects_what_waits_and_there_is_room_again_later() {
    let limits = BatchLimits { batch_bytes_max: 1 << 20, queue_bytes_max: 4 << 20, ..LIMITS };
    let mut bench = Bench::leader(limits);
    *bench.disk_is_full.borrow_mut() = true;
    for tag in 0..60 {
        bench.propose(tag, &vec![7; 900_000]);
        bench.turns(8);
    }
    let outcomes = bench.outcomes();
    let is_committed = |(_, outcome): &(u64, Outcome)| matches!(outcome, Outcome::Committed { .. });
    let committed = outcomes.iter().take_while(|one| is_committed(one)).count();
    assert!(committed > 0 && committed < 60, "{committed} of 60 segments' parts were reserved");
    let rest = &outcomes[committed..];
    assert!(rest.iter().all(|(_, outcome)| *outcome == Outcome::Rejected(Rejected::NoSpace)), "{rest:?}");
    assert_eq!(outcomes.len(), 60, "each ended");

    *bench.disk_is_full.borrow_mut() = false;
    bench.turns(8);
    bench.propose(60, b"there is room");
    bench.turns(8);
    let outcomes = bench.outcomes();
    let [(60, Outcome::Committed { reply, .. })] = outcomes.as_slice() else { panic!("{outcomes:?}") };
    let count = format!("{} at ", committed + 1);
    assert!(reply.starts_with(count.as_bytes()), "nothing that was rejected took effect: {reply:?}");
}

#[test]
fn a_deposed_leader_rejects_only_what_was_never_proposed() {
    let mut bench = Bench::leader(LIMITS);
    // Batches of four in a window of two: the last four are not sealed.
    for tag in 0..12 {
        bench.propose(tag, b"command");
    }
    bench.turns(1);
    let deposed = Role::Follower { leader: Some(NodeId(2)) };
    bench.core.change_role(0, deposed, Ballot { round: 99, node: NodeId(2), incarnation: Incarnation(1) });
    let outcomes = bench.outcomes();
    assert_eq!(outcomes.len(), 12);
    for (tag, outcome) in outcomes {
        let expected =
            if tag < 8 { Outcome::Unknown } else { Outcome::Rejected(Rejected::NotLeader(Some(NodeId(2)))) };
        assert_eq!(outcome, expected, "command {tag}");
    }
    // What was in flight is chosen all the same, and completes nobody twice.
    bench.turns(4);
    assert_eq!(bench.outcomes(), []);
}
