//! Seeded histories of whole clusters on simulated devices, against G1–G5, G7, G10 (by slots, and of registers
//! from calls and answers alone), G6, G11, G12, L2–L5, L7, A2–A4, A10,
//! P1, P7, P8, T1–T3, T6 and every contract of the engine.
//!
//! `cargo run --release -p annulus-tests --bin simulate` plays more of them.

use std::time::{Duration, Instant};

use annulus_rings::Kind;
use annulus_tests::simulator::{State, Summary, play};

/// Histories of one run.
const SEEDS: u64 = 200;
/// Each seed is played in one thread; different ones may share the time.
const THREADS: usize = 2;
/// A slow machine plays fewer, and says so.
const TIME_MAX: Duration = Duration::from_secs(50);

fn play_or_tell(seed: u64) -> Summary {
    play(seed, false).unwrap_or_else(|failure| panic!("{}\n{failure}", failure.story))
}

#[test]
fn clusters_agree_through_every_accident_and_serve_after_it() {
    let begin = Instant::now();
    let play_every_other = |first: u64| {
        let seeds = (first..=SEEDS).step_by(THREADS).take_while(|_| begin.elapsed() < TIME_MAX);
        seeds.fold(Summary::default(), |mut total, seed| {
            total.add(&play_or_tell(seed));
            total
        })
    };
    let mut total = Summary::default();
    std::thread::scope(|scope| {
        let players: Vec<_> =
            (1..=THREADS as u64).map(|first| scope.spawn(move || play_every_other(first))).collect();
        for player in players {
            total.add(&player.join().expect("a seed failed, see above"));
        }
    });
    println!("{} of {SEEDS} seeds in {:?}\n{total}", total.seeds, begin.elapsed());
    let common = [
        "kills",
        "restart storms",
        "crashes at start",
        "power failures",
        "partitions",
        "link graphs made permanent",
        "pauses",
        "frames dropped",
        "frames corrupted",
        "frames truncated",
        "write errors",
        "sync errors",
        "misdirected reads",
        "misdirected writes",
        "lost writes",
        "bit rot",
        "unreadable sectors",
        "flushes that lied",
        "nodes stopped by damage",
        "disks replaced by empty ones",
        "disks replaced by old copies",
        "stops of disks that had forgotten",
        "vault write errors",
        "vault read errors",
        "no space for snapshots",
        "rot of snapshots",
        "snapshots on request",
        "snapshots held off",
    ];
    let missing = common.iter().find(|class| !total.faults.contains_key(*class));
    assert!(total.seeds < 50 || missing.is_none(), "accidents must happen, and these did not: {missing:?}");
    assert!(
        total.seeds < 50 || total.published > 500 && total.restored > 100,
        "snapshots are taken and used"
    );
    if total.seeds >= SEEDS_TO_COVER {
        is_covered(&total);
    }
}

/// What few seeds reach: answers to a role that was given up long ago.
const RARE: [(State, Kind); 7] = [
    (State::Alone, Kind::BelowFloor),
    (State::Follows, Kind::BelowFloor),
    (State::Asks, Kind::BelowFloor),
    (State::Stands, Kind::BelowFloor),
    (State::Stands, Kind::Accepted),
    (State::Stands, Kind::Accept),
    (State::Follows, Kind::Promise),
];
/// Histories that reach everything else.
const SEEDS_TO_COVER: u64 = 100;

/// Every state of a replica meets every message, but for what is rare, and registers are judged.
fn is_covered(total: &Summary) {
    let missing = total.coverage.missing();
    let common: Vec<_> = missing.into_iter().filter(|pair| !RARE.contains(pair)).collect();
    assert!(common.is_empty(), "no replica was handed any of these: {common:?}");
    let registers = total.registers;
    assert!(registers.judged > 20 * registers.not_judged && registers.judged > 20, "{registers:?}");
    assert!(registers.calls > 20 * registers.judged && total.queries > 1000, "{registers:?}");
}

#[test]
fn a_seed_tells_the_same_story_twice() {
    for seed in 1001..=1006 {
        assert_eq!(play_or_tell(seed), play_or_tell(seed), "seed {seed}");
    }
}
