//! Connections come back, and do not outlive their peers.

use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use annulus_rings::{Incarnation, NodeId};

use super::{
    Node, PATHS, PATIENCE, connect_to, fabric_options, frame_of, listener, lone_node, nowhere, pair,
    tcp_options, turn_for, turn_until,
};
use crate::{Network, PeerStatus, Problem, ReceivePath, TcpFabric, TcpNetwork, TcpOptions};

fn impatient(path: ReceivePath) -> TcpOptions {
    TcpOptions {
        keep_alive_interval: Duration::from_millis(50),
        silence_max: Duration::from_millis(500),
        ..tcp_options(path)
    }
}

#[test]
fn a_restarted_peer_is_connected_again_whichever_side_dials() {
    for restarted in [1, 2] {
        let ((listener1, address1), (listener2, address2)) = (listener(), listener());
        let addresses = [address1, address2];
        let mut stays_id = 1;
        let (mut listeners, mut goes_listener) = (vec![listener1], listener2);
        if restarted == 1 {
            stays_id = 2;
            std::mem::swap(&mut listeners[0], &mut goes_listener);
        }
        let options = || tcp_options(ReceivePath::Recv);
        let mut stays = Node::start(listeners.remove(0), fabric_options(stays_id, &addresses), options());
        let mut goes = Node::start(goes_listener, fabric_options(restarted, &addresses), options());
        turn_until(&mut [&mut stays, &mut goes], "connected", |nodes| {
            nodes.iter().all(|node| node.is_connected())
        });

        drop(goes);
        turn_until(&mut [&mut stays], "the loss is noticed", |nodes| !nodes[0].is_connected());
        let mut fabric = fabric_options(restarted, &addresses);
        fabric.incarnation = Incarnation(2);
        let again = TcpListener::bind(addresses[usize::from(restarted) - 1]).unwrap();
        let mut goes = Node::start(again, fabric, options());
        turn_until(&mut [&mut stays, &mut goes], "connected again", |nodes| {
            nodes.iter().all(|node| node.is_connected())
        });
        let status = stays.network.peers()[0].status;
        assert!(matches!(status, PeerStatus::Connected { incarnation: Incarnation(2), .. }), "{status:?}");

        stays.network.send(NodeId(restarted), frame_of(stays_id, 5, 100));
        turn_until(&mut [&mut stays, &mut goes], "a frame", |nodes| !nodes[1].received.is_empty());
        assert_eq!(stays.network.peers()[0].connections, 2);
    }
}

#[test]
fn an_absent_peer_is_dialled_ever_more_slowly_and_the_reason_is_told() {
    let (listener1, address1) = listener();
    let mut options = fabric_options(1, &[address1, nowhere()]);
    options.dial_delay_max = Duration::from_millis(160);
    let mut node = Node::start(listener1, options, tcp_options(ReceivePath::Recv));
    turn_for(&mut [&mut node], Duration::from_millis(600));
    let dials = node.fabric.statistics().dials;
    // 10, 20, 40, 80, 160, 160… ms, each shortened by half at the most.
    assert!((4..=16).contains(&dials), "{dials} dials in 600 ms");
    let report = &node.fabric.peers()[0];
    assert_eq!(report.problem, Some(Problem::Connect(std::io::ErrorKind::ConnectionRefused)));
    assert_eq!(report.cores_connected, 0);
}

#[test]
fn a_name_that_does_not_resolve_is_told_and_tried_again() {
    let (listener1, address1) = listener();
    let mut options = fabric_options(1, &[address1]);
    options.nodes.insert(NodeId(2), "not an address".into());
    let mut node = Node::start(listener1, options, tcp_options(ReceivePath::Recv));
    turn_until(&mut [&mut node], "two dials", |nodes| nodes[0].fabric.statistics().dials >= 2);
    assert!(matches!(node.fabric.peers()[0].problem, Some(Problem::Resolve(_))));
}

#[test]
fn a_silent_connection_is_dropped_and_an_idle_one_stays() {
    for path in PATHS {
        let mut node = lone_node(impatient(path));
        let silent = connect_to(&mut node);
        turn_until(&mut [&mut node], "half-open", |nodes| nodes[0].network.statistics().silent == 1);
        drop(silent);

        let ((listener1, address1), (listener2, address2)) = (listener(), listener());
        let addresses = [address1, address2];
        let mut node1 = Node::start(listener1, fabric_options(1, &addresses), impatient(path));
        let mut node2 = Node::start(listener2, fabric_options(2, &addresses), impatient(path));
        let nodes = &mut [&mut node1, &mut node2];
        turn_until(nodes, "connected", |nodes| nodes.iter().all(|node| node.is_connected()));
        turn_for(nodes, Duration::from_millis(1200));
        for node in nodes {
            assert_eq!(node.network.statistics().connections, 1, "keep-alives keep it alive");
            assert!(node.network.peers()[0].round_trip.is_some(), "and measure the round trip");
            assert!(node.received.is_empty(), "and are not delivered");
        }
    }
}

#[test]
fn a_core_that_was_stopped_itself_reads_before_it_judges_silence() {
    let mut node = lone_node(impatient(ReceivePath::Recv));
    let mut stream = connect_to(&mut node);
    thread::sleep(Duration::from_millis(600));
    std::io::Write::write_all(&mut stream, frame_of(1, 1, 10).as_bytes()).unwrap();
    node.turn();
    assert_eq!(node.slots(), [1]);
    assert!(node.is_connected());
}

#[test]
fn each_core_has_a_connection_of_its_own() {
    let ((listener1, address1), (listener2, address2)) = (listener(), listener());
    let open = |listener, node| {
        let mut options = fabric_options(node, &[address1, address2]);
        options.cores = 2;
        let (fabric, ports) = TcpFabric::start_on(listener, options).unwrap();
        let networks: Vec<TcpNetwork> =
            ports.into_iter().map(|port| TcpNetwork::open(port, TcpOptions::default()).unwrap()).collect();
        (fabric, networks)
    };
    let (fabric1, mut cores1) = open(listener1, 1);
    let (_fabric2, mut cores2) = open(listener2, 2);
    let start = Instant::now();
    let now = annulus_rings::Time(0);
    let mut received = [Vec::new(), Vec::new()];
    while fabric1.peers()[0].cores_connected < 2 || received.iter().any(Vec::is_empty) {
        assert!(start.elapsed() < PATIENCE);
        for core in 0..2 {
            cores1[core].poll(now, &mut Vec::new());
            cores1[core].send(NodeId(2), frame_of(1, core as u64, 10));
            cores1[core].flush(now);
            cores2[core].poll(now, &mut received[core]);
        }
        thread::sleep(Duration::from_millis(1));
    }
    for core in 0..2 {
        assert!(received[core].iter().all(|received| received.frame.header().slot.0 == core as u64));
    }
}

#[test]
fn a_core_that_ends_gives_its_connections_up() {
    let (node1, mut node2) = pair(ReceivePath::Multishot);
    let Node { network, fabric, .. } = node1;
    drop(network);
    turn_until(&mut [&mut node2], "the peer notices", |nodes| !nodes[0].is_connected());
    assert_eq!(fabric.peers()[0].cores_connected, 0);
}

#[test]
fn shutdown_is_prompt_with_peers_away_and_handshakes_half_done() {
    let (listener1, address1) = listener();
    // A peer that accepts and says nothing.
    let (_silent, silent_address) = listener();
    let options = fabric_options(1, &[address1, silent_address, nowhere()]);
    let (fabric, _ports) = TcpFabric::start_on(listener1, options).unwrap();
    let _visitor = std::net::TcpStream::connect(address1).unwrap();
    thread::sleep(Duration::from_millis(50));
    let start = Instant::now();
    fabric.shutdown();
    // The longest wait is for the dial that is under way: half a second.
    assert!(start.elapsed() < Duration::from_millis(1500), "{:?}", start.elapsed());
}
