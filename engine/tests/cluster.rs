//! Clusters in one process: every combination of runner, journal and transport commits and agrees, and
//! what happens to nodes in between shows in the outcomes and nowhere else.

mod common;

use std::time::Duration;

use annulus::{JournalKind, NodeId, Outcome, Rejected, Role, Runner};
use common::{Cluster, PATIENCE, Shape, shapes};

fn numbered(range: std::ops::Range<usize>) -> Vec<Vec<u8>> {
    range.map(|number| format!("command {number}").into_bytes()).collect()
}

#[test]
fn a_single_node_commits_in_every_shape() {
    for shape in shapes() {
        let cluster = Cluster::start(shape, 1);
        assert_eq!(cluster.commit(b"one"), b"1:one", "{shape:?}");
        assert_eq!(cluster.commit(b"two"), b"2:two", "{shape:?}");
    }
}

#[test]
fn three_nodes_commit_and_agree_in_every_shape() {
    for shape in shapes() {
        let cluster = Cluster::start(shape, 3);
        let commands = numbered(0..20);
        for (index, command) in commands.iter().enumerate() {
            let reply = cluster.commit(command);
            assert!(reply.starts_with(format!("{}:", index + 1).as_bytes()), "{shape:?}: {reply:?}");
        }
        for index in 0..3 {
            cluster.expect_log(index, &commands);
        }
    }
}

#[test]
fn many_commands_in_flight_are_committed_in_the_order_of_submission() {
    let cluster = Cluster::start(Shape { runner: Runner::Glommio, journal: JournalKind::File, tcp: true }, 3);
    let node = cluster.nodes[cluster.leader()].as_ref().unwrap();
    cluster.commit(b"first");
    let commands = numbered(0..2000);
    let proposals: Vec<_> = commands.iter().map(|command| node.ring.propose(command)).collect();
    for (index, proposal) in proposals.into_iter().enumerate() {
        let Outcome::Committed { reply, .. } = proposal.wait() else {
            panic!("command {index} was not committed")
        };
        assert_eq!(reply, format!("{}:command {index}", index + 2).into_bytes());
    }
    let statistics = node.engine.statistics();
    assert!(statistics.batches_proposed < 2000, "commands that wait together share a slot: {statistics:?}");
}

#[test]
fn a_follower_rejects_and_names_the_leader() {
    let cluster = Cluster::start(Shape::SMALL, 3);
    cluster.commit(b"settled");
    let leader = cluster.leader();
    let follower = &cluster.nodes[(leader + 1) % 3].as_ref().unwrap().ring;
    let hint = Some(NodeId(leader as u16 + 1));
    assert_eq!(follower.wait_for_leader(PATIENCE), hint);
    assert_eq!(follower.propose(b"to nobody").wait(), Outcome::Rejected(Rejected::NotLeader(hint)));
    assert!(matches!(follower.status().role, Role::Follower { .. }));
}

#[test]
fn the_death_of_the_leader_loses_nothing_that_was_committed() {
    let mut cluster =
        Cluster::start(Shape { runner: Runner::Thread, journal: JournalKind::File, tcp: true }, 3);
    let mut commands = numbered(0..50);
    cluster.commit_all(&commands);
    let dead = cluster.leader();
    cluster.stop_node(dead);

    let after = numbered(50..100);
    cluster.commit_all(&after);
    commands.extend(after);
    cluster.start_node(dead, None);
    for index in 0..3 {
        cluster.expect_log(index, &commands);
    }
}

#[test]
fn a_restart_of_every_node_keeps_the_state() {
    for (runner, journal) in [
        (Runner::Thread, JournalKind::File),
        (Runner::Glommio, JournalKind::File),
        // A region in a file: what the processes stored is there as long as the machine runs.
        (Runner::Thread, JournalKind::NvmBattery),
    ] {
        let mut cluster = Cluster::start(Shape { runner, journal, tcp: false }, 3);
        let mut commands = numbered(0..50);
        cluster.commit_all(&commands);
        (0..3).for_each(|index| cluster.stop_node(index));
        (0..3).for_each(|index| cluster.start_node(index, None));
        commands.push(b"after the restart".to_vec());
        let reply = cluster.commit(&commands[50]);
        assert_eq!(reply, b"51:after the restart", "{runner:?} {journal:?}");
        (0..3).for_each(|index| cluster.expect_log(index, &commands));
    }
}

#[test]
fn a_leader_that_loses_its_quorum_leaves_what_is_in_flight_unknown() {
    let mut cluster = Cluster::start(Shape::SMALL, 3);
    cluster.commit(b"before");
    let leader = cluster.leader();
    cluster.stop_node((leader + 1) % 3);
    cluster.stop_node((leader + 2) % 3);
    let ring = cluster.nodes[leader].as_ref().unwrap().ring.clone();
    let outcome = ring.propose(b"alone").wait_timeout(PATIENCE).expect("a leader alone stands down");
    assert!(matches!(outcome, Outcome::Unknown | Outcome::Rejected(Rejected::NotLeader(_))), "{outcome:?}");
}

#[test]
fn a_shutdown_ends_every_proposal() {
    let mut cluster = Cluster::start(Shape::SMALL, 3);
    cluster.commit(b"before");
    let leader = cluster.leader();
    let ring = cluster.nodes[leader].as_ref().unwrap().ring.clone();
    let proposals: Vec<_> = numbered(0..200).iter().map(|command| ring.propose(command)).collect();
    cluster.stop_node(leader);
    for mut proposal in proposals {
        let outcome = proposal.wait_timeout(PATIENCE).expect("every proposal ends");
        assert!(
            matches!(
                outcome,
                Outcome::Committed { .. } | Outcome::Unknown | Outcome::Rejected(Rejected::ShuttingDown)
            ),
            "{outcome:?}"
        );
    }
    assert_eq!(ring.propose(b"late").wait(), Outcome::Rejected(Rejected::ShuttingDown));
}

#[test]
fn a_follower_that_was_away_for_long_catches_up_from_the_journals() {
    let shape = Shape { runner: Runner::Thread, journal: JournalKind::File, tcp: false };
    let mut cluster = Cluster::start_with(shape, 3, |builder| builder.retain_bytes(4096));
    cluster.commit(b"settled");
    let away = (cluster.leader() + 1) % 3;
    cluster.stop_node(away);
    let mut commands = vec![b"settled".to_vec()];
    commands.extend(numbered(0..600));
    let ring = cluster.nodes[cluster.leader()].as_ref().unwrap().ring.clone();
    for chunk in commands[1..].chunks(20) {
        let proposals: Vec<_> = chunk.iter().map(|command| ring.propose(command)).collect();
        assert!(proposals.into_iter().all(|proposal| matches!(proposal.wait(), Outcome::Committed { .. })));
    }
    cluster.start_node(away, None);
    cluster.expect_log(away, &commands);
}

#[test]
fn an_idle_cluster_sleeps() {
    let cluster =
        Cluster::start(Shape { runner: Runner::Thread, journal: JournalKind::Memory, tcp: true }, 3);
    cluster.commit(b"settled");
    let turns =
        || -> u64 { cluster.nodes.iter().map(|node| node.as_ref().unwrap().engine.statistics().turns).sum() };
    let before = turns();
    std::thread::sleep(Duration::from_secs(1));
    let taken = turns() - before;
    assert!(taken < 20_000, "{taken} turns in a second without work: nobody sleeps");
}
