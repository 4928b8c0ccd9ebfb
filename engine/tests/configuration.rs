//! Every bad configuration is an error that says what to do.

mod common;

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::time::Duration;

use annulus::{
    Builder, ClusterId, CoreId, CreateError, Engine, JournalKind, NodeId, Outcome, Placement, RingId,
    StartError,
};
use common::Log;

fn good() -> Builder {
    Engine::builder().node(NodeId(1)).peer(NodeId(1), "127.0.0.1:0").journal(JournalKind::Memory)
}

fn without_peers() -> Builder {
    Engine::builder().node(NodeId(1)).journal(JournalKind::Memory)
}

fn error(builder: Builder) -> StartError {
    match builder.start() {
        Ok(_) => panic!("it started"),
        Err(error) => error,
    }
}

#[test]
fn what_cannot_work_is_refused_in_words_that_name_the_remedy() {
    let millis = Duration::from_millis;
    let plain = tempfile::tempdir().unwrap();
    let table: Vec<(&str, Builder, &str)> = vec![
        ("no node", Engine::builder().peer(NodeId(1), "127.0.0.1:0"), ".node("),
        ("no peers", without_peers(), ".peer("),
        ("own id missing", without_peers().peer(NodeId(2), "127.0.0.1:0"), "add .peer(NodeId(1)"),
        ("peer zero", good().peer(NodeId(0), "127.0.0.1:1"), "number nodes from 1"),
        ("duplicate id", good().peer(NodeId(1), "127.0.0.1:1"), "its own id"),
        (
            "duplicate address",
            without_peers().peers([(NodeId(1), "127.0.0.1:7000"), (NodeId(2), "127.0.0.1:7000")]),
            "give every node its own",
        ),
        (
            "too many peers",
            good().peers((2..100).map(|node| (NodeId(node), format!("10.0.0.1:{node}")))),
            "at most 63",
        ),
        ("no cores", good().cores([]), ".cores(0..1)"),
        ("more cores than CPUs", good().unpinned_cores(10_000), "use at most"),
        ("no such CPU", good().cores([9_999]), "may run on"),
        ("window 0", good().window_slots(0), "1 to 1024"),
        ("no commands", good().batch_commands_max(0), "at least 1"),
        ("batch larger than a frame", good().batch_bytes_max(64 << 20), "fits a frame"),
        ("queue smaller than a batch", good().queue_bytes_max(1), "batch_bytes_max"),
        (
            "timeouts",
            good().election_timeout(millis(100)).heartbeat_interval(millis(90)),
            "three times heartbeat_interval",
        ),
        ("no heartbeat", good().heartbeat_interval(millis(0)), "at least 1 ms"),
        ("no directory", good().journal(JournalKind::File), ".data_dir(path)"),
        ("ring declared twice", good().ring(RingId(1), Log::default).ring(RingId(1), Log::default), "once"),
        (
            "placement",
            good().placement(Placement::Table(BTreeMap::from([(RingId(3), CoreId(5))]))),
            "there are 1 cores",
        ),
        ("no directory for regions", good().journal(JournalKind::Nvm), ".data_dir(path)"),
        (
            "a region without DAX",
            good()
                .journal(JournalKind::Nvm)
                .data_dir(plain.path())
                .segment_bytes(8 << 20)
                .nvm_bytes(48 << 20),
            "mount -o dax",
        ),
        (
            "a region for one segment",
            good().journal(JournalKind::NvmEmulated).nvm_bytes(64 << 20),
            "segments_ahead + 3",
        ),
        ("segments too small", good().segment_bytes(4096), "segment_bytes"),
        ("a name that means nothing", without_peers().peer(NodeId(1), "no such host:1"), "no such host"),
        (
            "service",
            good().service(|_| Err(std::io::Error::other("port 6379 is taken"))),
            "port 6379 is taken",
        ),
    ];
    for (name, builder, words) in table {
        let message = error(builder).to_string();
        assert!(message.contains(words), "{name}: {message:?} does not say {words:?}");
    }
}

#[test]
fn an_address_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let message = error(without_peers().peer(NodeId(1), address)).to_string();
    assert!(message.contains(&address.to_string()) && message.contains("in use"), "{message}");
}

#[test]
fn a_directory_in_use_or_of_another_node_cluster_or_core_count_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let builder = |cluster: u64, node: u16| {
        Engine::builder()
            .cluster(ClusterId(cluster))
            .node(NodeId(node))
            .peer(NodeId(node), "127.0.0.1:0")
            .segment_bytes(8 << 20)
            .data_dir(directory.path())
    };
    let engine = builder(1, 1).start().unwrap();
    assert!(error(builder(1, 1)).to_string().contains("in use"));
    engine.shutdown().unwrap();
    for (builder, words) in [
        (builder(2, 1), "belongs to cluster 1"),
        (builder(1, 2), "belongs to node 1"),
        (builder(1, 1).unpinned_cores(2), "made for 1 core"),
    ] {
        let message = error(builder).to_string();
        assert!(message.contains(words), "{message:?} does not say {words:?}");
    }
    builder(1, 1).start().unwrap();
}

/// A node that was restarted alone on a cluster's journal would acknowledge what the others never see.
#[test]
fn a_journal_that_was_written_among_other_peers_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let builder = || {
        without_peers()
            .peer(NodeId(1), "127.0.0.1:0")
            .journal(JournalKind::File)
            .segment_bytes(8 << 20)
            .data_dir(directory.path())
            .ring(RingId(1), Log::default)
    };
    let engine = builder().start().unwrap();
    let ring = engine.ring(RingId(1)).unwrap();
    assert_eq!(ring.wait_for_leader(Duration::from_secs(20)), Some(NodeId(1)));
    let outcome = ring.propose(b"alone").wait_timeout(Duration::from_secs(20));
    assert!(matches!(outcome, Some(Outcome::Committed { .. })), "{outcome:?}");
    engine.shutdown().unwrap();

    let message = error(builder().peer(NodeId(2), "127.0.0.1:1")).to_string();
    assert!(message.contains("start it with the peers that it always had"), "{message}");
    builder().start().unwrap();
}

#[test]
fn a_ring_is_hosted_once_and_found_by_its_id() {
    let engine = good().ring(RingId(1), Log::default).start().unwrap();
    assert_eq!(engine.ring(RingId(1)).unwrap().id(), RingId(1));
    assert_eq!(engine.create_ring(RingId(1), Log::default).unwrap_err(), CreateError::Exists(RingId(1)));
    assert_eq!(engine.ring(RingId(2)).unwrap_err(), CreateError::Absent(RingId(2)));
    engine.create_ring(RingId(2), Log::default).unwrap();
    assert_eq!(engine.ring(RingId(2)).unwrap().id(), RingId(2));
}
