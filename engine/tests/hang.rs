//! glommio 0.9 can park although its task is runnable, when its preempt timer fires at the wrong moment,
//! which contention for the CPU makes likely. Our use must not provoke it.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use annulus::{Builder, CoreState, Idle, Outcome, Runner};
use common::{Cluster, Shape};

const RUNS: usize = 30;
const RUN: Duration = Duration::from_millis(1500);
/// The whole test, so that a hang ends it.
const TOTAL_MAX: Duration = Duration::from_secs(90);

#[test]
fn cores_under_glommio_keep_making_progress_while_others_want_their_cpu() {
    let start = Instant::now();
    let over = AtomicBool::new(false);
    let cpus = std::thread::available_parallelism().unwrap().get();
    std::thread::scope(|scope| {
        for _ in 0..2 * cpus {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let _spinners_end = SetOnDrop(&over);
        for run in 0..RUNS {
            commit_for_a_while(run);
            assert!(start.elapsed() < TOTAL_MAX, "{run} runs took {:?}", start.elapsed());
        }
    });
}

/// Ends the spinners, also when the test fails.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A node whose core is pinned, under alternating load and silence. In every other run the core never parks,
/// so that its executor is busy without end, as under a saturating load.
fn commit_for_a_while(run: usize) {
    let shape = Shape { runner: Runner::Glommio, ..Shape::SMALL };
    let adjust = if run.is_multiple_of(2) { parking } else { spinning };
    let cluster = Cluster::start_with(shape, 1, adjust);
    let node = cluster.nodes[0].as_ref().unwrap();
    cluster.leader();
    let start = Instant::now();
    let mut commits = 0;
    while start.elapsed() < RUN {
        let outcome = node.ring.propose(b"alive").wait_timeout(Duration::from_secs(10));
        assert!(
            matches!(outcome, Some(Outcome::Committed { .. })),
            "run {run} after {commits} commits: {outcome:?}, {:?}",
            node.engine.health()
        );
        commits += 1;
        if commits % 50 == 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    let health = node.engine.health();
    assert!(
        health.iter().all(|core| core.state == CoreState::Running && core.turns > 0),
        "run {run}: {health:?}"
    );
}

fn parking(builder: Builder) -> Builder {
    builder
        .cores([0])
        .stall_after(Duration::from_secs(1))
        .election_timeout(Duration::from_millis(30))
        .heartbeat_interval(Duration::from_millis(10))
}

fn spinning(builder: Builder) -> Builder {
    parking(builder).idle(Idle { park: false, ..Idle::default() })
}
