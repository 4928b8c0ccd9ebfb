//! Rings that save their state, truncate their journals, and catch up from each other's snapshots.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use annulus::{Builder, JournalKind, Outcome, Runner, Slot, StartError, Statistics};
use common::{Cluster, PATIENCE, RING, Shape};

const FILES: Shape = Shape { runner: Runner::Thread, journal: JournalKind::File, tcp: false };
/// Bytes of a command: a few hundred fill a segment.
const COMMAND_BYTES: usize = 60_000;

/// Saves often, and keeps the journal small.
fn thrifty(builder: Builder) -> Builder {
    builder.snapshot_log_bytes(2 << 20).journal_bytes_max(64 << 20).retain_bytes(1 << 20)
}

fn command(number: usize) -> Vec<u8> {
    let mut command = format!("command {number} ").into_bytes();
    command.resize(COMMAND_BYTES, b'.');
    command
}

fn commands(numbers: std::ops::Range<usize>) -> Vec<Vec<u8>> {
    numbers.map(command).collect()
}

fn statistics(cluster: &Cluster, index: usize) -> Statistics {
    cluster.nodes[index].as_ref().unwrap().engine.statistics()
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Files with this extension below a node's directory.
fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    let mut left = vec![directory.to_owned()];
    while let Some(path) = left.pop() {
        for entry in fs::read_dir(path).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                left.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn journal_bytes(directory: &Path) -> u64 {
    files(directory, "segment").iter().map(|path| path.metadata().unwrap().len()).sum()
}

#[test]
fn a_journal_stays_small_and_the_state_is_there_after_a_restart() {
    let mut cluster = Cluster::start_with(FILES, 3, thrifty);
    let all = commands(0..1000);
    cluster.commit_all(&all);
    for index in 0..3 {
        let directory = cluster.path().join(format!("node-{index}"));
        wait_until("snapshots are taken", || statistics(&cluster, index).snapshots_taken >= 3);
        wait_until("segments are removed", || statistics(&cluster, index).journal.segments_removed >= 2);
        // 60 MB were written.
        wait_until("the journal is small", || journal_bytes(&directory) <= 40 << 20);
        assert!(files(&directory, "snapshot").len() <= 3, "old snapshots go");
    }
    for index in 0..3 {
        cluster.stop_node(index);
    }
    for index in 0..3 {
        cluster.start_node(index, None);
    }
    for index in 0..3 {
        cluster.expect_log(index, &all);
        assert!(cluster.nodes[index].as_ref().unwrap().ring.status().snapshot > Slot(0));
    }
    cluster.commit(b"and on");
}

#[test]
fn a_node_that_was_away_for_long_catches_up_from_a_snapshot_while_the_others_commit() {
    let mut cluster = Cluster::start_with(FILES, 3, thrifty);
    let before = commands(0..20);
    cluster.commit_all(&before);
    cluster.expect_log(2, &before);
    let leader = cluster.leader();
    let away = (leader + 1) % 3;
    cluster.stop_node(away);
    let mut all = before;
    all.extend(commands(20..800));
    cluster.commit_all(&all[20..]);
    for index in (0..3).filter(|index| *index != away) {
        wait_until("segments are removed", || statistics(&cluster, index).journal.segments_removed >= 2);
    }
    cluster.start_node(away, None);
    let more = commands(800..820);
    cluster.commit_all(&more);
    all.extend(more);
    wait_until("a snapshot is fetched", || statistics(&cluster, away).snapshots_fetched > 0);
    cluster.expect_log(away, &all);
    let statistics = statistics(&cluster, away);
    assert!(statistics.snapshots_fetched >= 1, "{statistics:?}");
    // What it fetched counts as its own from then on.
    cluster.stop_node(away);
    cluster.start_node(away, None);
    cluster.expect_log(away, &all);
}

#[test]
fn snapshots_are_taken_on_request_and_held_off_on_request() {
    let cluster = Cluster::start_with(FILES, 1, |builder| builder);
    cluster.commit(b"one");
    let ring = &cluster.nodes[0].as_ref().unwrap().ring;
    ring.hold_snapshots(true);
    ring.snapshot();
    cluster.commit(b"two");
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(ring.status().snapshot, Slot(0), "it is held off");
    ring.hold_snapshots(false);
    wait_until("what was asked for is taken", || ring.status().snapshot > Slot(0));
}

#[test]
fn a_ring_is_saved_by_time_alone() {
    let interval = Duration::from_millis(50);
    let timely: fn(Builder) -> Builder = |builder| builder.snapshot_interval(Duration::from_millis(50));
    let cluster = Cluster::start_with(FILES, 1, timely);
    cluster.commit(b"one");
    let ring = &cluster.nodes[0].as_ref().unwrap().ring;
    wait_until("the interval passes", || ring.status().snapshot > Slot(0));
    let taken = statistics(&cluster, 0).snapshots_taken;
    std::thread::sleep(4 * interval);
    assert!(statistics(&cluster, 0).snapshots_taken <= taken + 1, "nothing was executed since");
}

/// Flips a bit in the middle of a file.
fn damage(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_damaged_snapshot_falls_back_to_the_one_before_and_never_over_a_gap() {
    let roomy: fn(Builder) -> Builder = |builder| thrifty(builder).journal_bytes_max(1 << 30);
    let mut cluster = Cluster::start_with(FILES, 1, roomy);
    let mut all = commands(0..600);
    cluster.commit_all(&all);
    let directory = cluster.path().join("node-0");
    wait_until("a segment is removed", || {
        // Removal is told by a later write.
        all.push(b"and on".to_vec());
        cluster.commit(b"and on");
        statistics(&cluster, 0).journal.segments_removed >= 1
    });
    cluster.stop_node(0);
    let newest = files(&directory, "snapshot").pop().unwrap();
    let sound = fs::read(&newest).unwrap();
    damage(&newest);
    cluster.start_node(0, None);
    cluster.expect_log(0, &all);
    cluster.stop_node(0);

    // Without any sound snapshot the journal alone does not make up the log.
    let snapshots = files(&directory, "snapshot");
    assert!(snapshots.len() >= 2, "the damaged one is kept until there are enough sound ones");
    snapshots.iter().filter(|path| **path != newest).for_each(|path| damage(path));
    let error = cluster.builder(0).ring(RING, common::Log::default).start().err().expect("a gap");
    assert!(matches!(error, StartError::Journal { .. }), "{error}");
    assert!(error.to_string().contains("snapshot that is missing or damaged"), "{error}");
    fs::write(&newest, sound).unwrap();
    cluster.start_node(0, None);
    cluster.expect_log(0, &all);
    let node = cluster.nodes[0].as_ref().unwrap();
    assert!(matches!(node.ring.propose(b"and on").wait(), Outcome::Committed { .. } | Outcome::Rejected(_)));
}

/// A machine that was given the first half of a damaged snapshot must not execute the journal on top of it.
#[test]
fn a_damaged_snapshot_is_no_loss_while_the_journal_is_whole() {
    let mut cluster = Cluster::start_with(FILES, 1, |builder| builder);
    let all = commands(0..10);
    cluster.commit_all(&all);
    let ring = &cluster.nodes[0].as_ref().unwrap().ring;
    ring.snapshot();
    wait_until("it is taken", || ring.status().snapshot > Slot(0));
    cluster.stop_node(0);
    let snapshots = files(&cluster.path().join("node-0"), "snapshot");
    for path in &snapshots {
        damage(path);
    }
    assert_eq!(snapshots.len(), 1);
    cluster.start_node(0, None);
    cluster.expect_log(0, &all);
}

#[test]
fn a_machine_without_snapshots_keeps_its_whole_journal_and_is_told_when_it_is_full() {
    // A bound of five segments: 40 MB.
    let small: fn(Builder) -> Builder =
        |builder| builder.snapshot_log_bytes(1 << 20).journal_bytes_max(5 * (8 << 20));
    let cluster = Cluster::start_with(FILES, 1, small);
    let ring = &cluster.nodes[0].as_ref().unwrap().ring;
    ring.hold_snapshots(true);
    cluster.leader();
    let mut refused = 0;
    for number in 0..1000 {
        match ring.propose(&command(number)).wait_timeout(Duration::from_millis(300)) {
            Some(Outcome::Committed { .. }) => {}
            Some(Outcome::Rejected(annulus::Rejected::Full { .. })) | None => refused += 1,
            other => panic!("{other:?}"),
        }
        if refused > 3 {
            break;
        }
    }
    assert!(refused > 3, "the bound is kept");
    let directory = cluster.path().join("node-0");
    assert!(journal_bytes(&directory) <= 5 * (8 << 20));
    // Room is made as soon as it may be.
    ring.hold_snapshots(false);
    ring.snapshot();
    wait_until("there is room again", || statistics(&cluster, 0).journal.segments_removed > 0);
    wait_until("commands are taken again", || {
        matches!(ring.propose(b"again").wait_timeout(Duration::from_secs(1)), Some(Outcome::Committed { .. }))
    });
}
