//! Clusters in one process: every combination of runner, journal and transport commits and agrees.

mod common;

use annulus::{JournalKind, NodeId, Outcome, Rejected, Role, Runner};
use common::{Cluster, PATIENCE, Shape, shapes};

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
        let commands: Vec<Vec<u8>> = (0..20).map(|number| format!("command {number}").into_bytes()).collect();
        for (index, command) in commands.iter().enumerate() {
            let reply = cluster.commit(command);
            assert!(reply.starts_with(format!("{}:", index + 1).as_bytes()), "{shape:?}: {reply:?}");
        }
        for index in 0..3 {
            cluster.expect_log(index, &commands);
        }
    }
}
