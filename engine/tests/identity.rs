//! R6, A10 on real directories and sockets: a disk that forgot its votes never votes again under its old id.

mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use annulus::{CoreState, Engine, JournalKind, NodeFailed, Outcome, Rejected, Runner};
use common::{Cluster, Log, PATIENCE, RING, Shape};

const FILES: Shape = Shape { runner: Runner::Thread, journal: JournalKind::File, tcp: true };

/// Waits until a node has stopped by itself, and tells why.
fn end_of(engine: &Engine) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let CoreState::Failed(why) = &engine.health()[0].state {
            return why.clone();
        }
        assert!(Instant::now() < deadline, "it goes on: {:?}", engine.health());
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until a core says something that contains `words`.
fn expect_notice(engine: &Engine, words: &str) {
    let deadline = Instant::now() + PATIENCE;
    while !engine.health()[0].notice.as_ref().is_some_and(|notice| notice.contains(words)) {
        assert!(Instant::now() < deadline, "it does not say {words:?}: {:?}", engine.health());
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Starts a node that must stop by itself, and tells why it did; the others go on committing.
fn start_in_vain(cluster: &Cluster, index: usize) -> String {
    let engine = cluster.builder(index).ring(RING, Log::default).start().unwrap();
    let why = end_of(&engine);
    assert!(matches!(engine.wait(), Err(NodeFailed::Core(failed)) if failed.message == why));
    why
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn a_node_whose_directory_was_deleted_stops_while_the_others_serve() {
    let mut cluster = Cluster::start(FILES, 3);
    cluster.commit(b"before");
    let wiped = (cluster.leader() + 1) % 3;
    cluster.stop_node(wiped);
    std::fs::remove_dir_all(cluster.path().join(format!("node-{wiped}"))).unwrap();

    let why = start_in_vain(&cluster, wiped);
    assert!(why.contains("wiped or replaced") && why.contains("keep this node stopped"), "{why}");
    assert!(cluster.commit(b"after").starts_with(b"2:"));
    let notices = cluster.nodes.iter().flatten().filter_map(|node| node.engine.health()[0].notice.clone());
    let refusal = format!("node {} is refused", wiped + 1);
    assert!(notices.into_iter().any(|notice| notice.contains(&refusal)), "nobody says that {refusal}");
    // Again and again: it is known for good.
    start_in_vain(&cluster, wiped);
}

#[test]
fn a_node_on_an_old_copy_of_its_directory_stops_while_the_others_serve() {
    let mut cluster = Cluster::start(FILES, 3);
    cluster.commit(b"before");
    let restored = (cluster.leader() + 1) % 3;
    let path = cluster.path().join(format!("node-{restored}"));
    let backup = cluster.path().join("backup");
    cluster.stop_node(restored);
    copy(&path, &backup);
    // It goes on, votes, and its peers learn how far it is when it connects the next time.
    cluster.start_node(restored, None);
    cluster.commit(b"second");
    cluster.expect_log(restored, &[b"before".to_vec(), b"second".to_vec()]);
    cluster.stop_node(restored);
    cluster.commit(b"third");
    cluster.start_node(restored, None);
    cluster.expect_log(restored, &[b"before".to_vec(), b"second".to_vec(), b"third".to_vec()]);
    cluster.stop_node(restored);

    std::fs::remove_dir_all(&path).unwrap();
    copy(&backup, &path);
    let engine = cluster.builder(restored).start().unwrap();
    let why = end_of(&engine);
    assert!(why.contains("this disk is an old copy") && why.contains("Put the newest one back"), "{why}");
    assert!(cluster.commit(b"after").starts_with(b"4:"));
}

#[test]
fn the_first_start_waits_for_all_three_nodes_and_a_restart_for_none() {
    let mut cluster = Cluster::start(FILES, 3);
    cluster.commit(b"settled");
    (0..3).for_each(|index| cluster.stop_node(index));
    (0..2).for_each(|index| cluster.start_node(index, None));
    assert!(cluster.commit(b"without the third").starts_with(b"2:"));

    let mut fresh = Cluster::start(FILES, 3);
    (0..3).for_each(|index| fresh.stop_node(index));
    for index in 0..3 {
        std::fs::remove_dir_all(fresh.path().join(format!("node-{index}"))).unwrap();
    }
    (0..2).for_each(|index| fresh.start_node(index, None));
    for index in 0..2 {
        let node = fresh.nodes[index].as_ref().unwrap();
        expect_notice(&node.engine, "it takes no part before 2 of 2 peers know it, and 1 do");
        assert_eq!(node.ring.propose(b"too early").wait(), Outcome::Rejected(Rejected::NotReady));
        assert_eq!(node.ring.query(b"").wait(), Err(Rejected::NotReady));
    }
    fresh.start_node(2, None);
    fresh.commit(b"all three");
    assert!(fresh.nodes.iter().flatten().all(|node| node.engine.health()[0].notice.is_none()));
}

/// It forgot what it had promised, and is another node for its peers.
#[test]
fn a_node_with_its_journal_in_memory_comes_back_as_nobody() {
    for tcp in [false, true] {
        let mut cluster = Cluster::start(Shape { tcp, ..Shape::SMALL }, 3);
        cluster.commit(b"before");
        let restarted = (cluster.leader() + 1) % 3;
        cluster.stop_node(restarted);
        let why = start_in_vain(&cluster, restarted);
        assert!(why.contains("wiped or replaced"), "{why}");
        assert!(cluster.commit(b"after").starts_with(b"2:"));
    }
}
