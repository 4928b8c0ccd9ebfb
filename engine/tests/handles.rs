//! What clients on other threads see: every form of waiting, every outcome, health and measurements.

mod common;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use annulus::{CoreState, JournalKind, Outcome, Rejected, RingId, Runner, Stage};
use annulus_rings::reach;
use common::{Cluster, Log, PATIENCE, Shape};

/// Counts how often it was woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn slot_of(outcome: Outcome) -> u64 {
    match outcome {
        Outcome::Committed { slot, .. } => slot.0,
        other => panic!("{other:?}"),
    }
}

#[test]
fn blocking_polling_and_awaiting_all_see_the_outcome() {
    let cluster = Cluster::start(Shape::SMALL, 3);
    cluster.commit(b"settled");
    let ring = &cluster.nodes[cluster.leader()].as_ref().unwrap().ring;

    let blocked = slot_of(ring.propose(b"blocking").wait());

    let mut polled = ring.propose(b"polling");
    let deadline = Instant::now() + PATIENCE;
    let outcome = loop {
        if let Some(outcome) = polled.poll_outcome() {
            break outcome;
        }
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    };
    assert!(slot_of(outcome) > blocked);

    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut context = Context::from_waker(&waker);
    let mut awaited = pin!(ring.propose(b"awaiting"));
    let mut polls = 0;
    let outcome = loop {
        polls += 1;
        if let Poll::Ready(outcome) = awaited.as_mut().poll(&mut context) {
            break outcome;
        }
        let before = Instant::now();
        while woken.0.load(Ordering::SeqCst) < polls {
            assert!(before.elapsed() < PATIENCE, "the task was never woken");
            std::thread::yield_now();
        }
    };
    assert!(matches!(outcome, Outcome::Committed { .. }) && polls <= 2);

    drop(ring.propose(b"dropped"));
    let log = String::from_utf8(ring.query(b"").wait().unwrap()).unwrap();
    assert!(log.starts_with("settled\nblocking\npolling\nawaiting"), "{log}");
}

#[test]
fn handles_are_used_by_many_threads_at_once() {
    let cluster = Cluster::start(Shape { runner: Runner::Glommio, ..Shape::SMALL }, 3);
    cluster.commit(b"settled");
    let ring = &cluster.nodes[cluster.leader()].as_ref().unwrap().ring;
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let ring = ring.clone();
            scope.spawn(move || {
                let mut last = 0;
                for number in 0..50 {
                    let slot = slot_of(ring.propose(format!("{thread} {number}").as_bytes()).wait());
                    assert!(slot >= last);
                    last = slot;
                }
            });
        }
    });
    assert_eq!(ring.query(b"").wait().unwrap().split(|byte| *byte == b'\n').count(), 401);
}

#[test]
fn what_is_too_large_or_too_much_or_unknown_is_rejected() {
    let cluster =
        Cluster::start_with(Shape::SMALL, 3, |builder| builder.batch_bytes_max(1024).queue_bytes_max(4096));
    cluster.commit(b"settled");
    let leader = cluster.nodes[cluster.leader()].as_ref().unwrap();
    let outcome = leader.ring.propose(&[7; 2000]).wait();
    assert_eq!(outcome, Outcome::Rejected(Rejected::TooLarge { bytes: 2000, bytes_max: 1012 }));

    let proposals: Vec<_> = (0..2000).map(|_| leader.ring.propose(&[7; 512])).collect();
    let outcomes: Vec<_> = proposals.into_iter().map(annulus::Proposal::wait).collect();
    let full = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Rejected(Rejected::Full { .. })));
    let committed = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Committed { .. }));
    let (full, committed) = (full.count(), committed.count());
    assert!(full > 0 && committed > 0 && full + committed == 2000, "{full} full, {committed} committed");
    assert!(reach::count(&reach::MAILBOX_FULL) > 0);

    assert!(leader.engine.ring(RingId(99)).is_err());
}

#[test]
fn a_panic_of_a_state_machine_stops_its_core_loudly() {
    for runner in [Runner::Thread, Runner::Glommio] {
        let cluster = Cluster::start(Shape { runner, ..Shape::SMALL }, 1);
        cluster.commit(b"settled");
        let node = cluster.nodes[0].as_ref().unwrap();
        assert!(node.engine.health().iter().all(|core| core.state == CoreState::Running));
        let outcome = node.ring.propose(b"panic").wait_timeout(PATIENCE);
        assert_eq!(outcome, Some(Outcome::Unknown), "it is in the log: it may take effect elsewhere");
        let failed = node.engine.wait().unwrap_err();
        assert!(failed.to_string().contains("as the command asks"), "{failed}");
        assert!(matches!(node.engine.health()[0].state, CoreState::Failed(_)));
        assert_eq!(node.ring.propose(b"late").wait(), Outcome::Rejected(Rejected::ShuttingDown));
        assert!(node.engine.create_ring(RingId(8), Log::default).is_err());
    }
}

#[test]
fn every_commit_is_timed_through_every_stage() {
    let cluster = Cluster::start(Shape { runner: Runner::Glommio, journal: JournalKind::File, tcp: true }, 3);
    for number in 0..50 {
        cluster.commit(format!("command {number}").as_bytes());
        std::thread::sleep(Duration::from_millis(1));
    }
    let engine = &cluster.nodes[cluster.leader()].as_ref().unwrap().engine;
    let report = engine.stages();
    let total = report.stage(Stage::Total);
    assert_eq!(total.count, 50, "{report:?}");
    assert!(total.p50_ns > 1_000 && total.p50_ns <= total.p99_ns && total.p99_ns <= total.max_ns);
    for stage in report.stages() {
        assert!(stage.durations.count >= 49, "{} was not recorded: {:?}", stage.name, stage.durations);
    }
    assert!(report.stage(Stage::Quorum).max_ns < total.max_ns);
    let voted: u64 = report.peers().iter().map(|peer| peer.durable.count).sum();
    assert!(voted >= 50, "each commit had the vote of a peer at least: {:?}", report.peers());
    let slowest = report.exemplars()[0];
    assert!(slowest.replied_ns.abs_diff(total.max_ns) <= total.max_ns / 500, "{slowest:?}");
    let statistics = engine.statistics();
    assert!(statistics.journal.flushes >= 50 && statistics.journal.bytes_written > 0, "{statistics:?}");
}

/// Takes its time over one command.
struct Slow;

impl annulus::StateMachine for Slow {
    fn apply(&mut self, committed: annulus::Committed<'_>, _replies: &mut annulus::Replies) {
        if committed.commands().any(|command| command == b"slow") {
            std::thread::sleep(Duration::from_secs(1));
        }
    }
}

#[test]
fn a_core_that_stands_still_is_reported_until_it_goes_on() {
    let cluster = Cluster::start_with(Shape::SMALL, 1, |builder| {
        builder.stall_after(Duration::from_millis(200)).ring(RingId(9), || Slow)
    });
    let engine = &cluster.nodes[0].as_ref().unwrap().engine;
    let ring = engine.ring(RingId(9)).unwrap();
    ring.wait_for_leader(PATIENCE).unwrap();
    let wait_for = |stalled: bool| {
        let deadline = Instant::now() + PATIENCE;
        while matches!(engine.health()[0].state, CoreState::Stalled(_)) != stalled {
            assert!(Instant::now() < deadline, "{:?}", engine.health());
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    wait_for(false);
    let slow = ring.propose(b"slow");
    wait_for(true);
    assert!(matches!(slow.wait(), Outcome::Committed { .. }));
    wait_for(false);
}
