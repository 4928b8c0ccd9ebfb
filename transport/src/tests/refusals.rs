//! Who is not let in, and that both operators see why.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use annulus_rings::{ClusterId, CoreId, Incarnation, NodeId};

use super::{
    CLUSTER, Node, PATIENCE, connect_to, fabric_options, impostor, listener, lone_node, nowhere, tcp_options,
    turn_until, visit,
};
use crate::handshake::Identity;
use crate::hello::{HANDSHAKE_VERSION, HELLO_BYTES, Hello, Step};
use crate::{FabricError, Network, PeerAddress, Problem, ReceivePath, Refusal, TcpFabric, TcpOptions};

fn refused(node: &Node, refusal: Refusal) -> u64 {
    node.fabric.statistics().refused.get(&refusal).copied().unwrap_or(0)
}

/// Waits for a count that a control thread changes.
fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "waited too long: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_stranger_is_refused_with_the_reason_at_both_ends() {
    let node = lone_node(TcpOptions::default());
    let table: [(Refusal, Identity, u16); 6] = [
        (Refusal::WrongCluster, Identity { cluster: ClusterId(8), ..impostor() }, 2),
        (Refusal::UnknownNode, Identity { node: NodeId(9), ..impostor() }, 2),
        (Refusal::OwnId, Identity { node: NodeId(2), ..impostor() }, 2),
        (Refusal::WrongNode, impostor(), 3),
        (Refusal::WrongCores, Identity { cores: 2, ..impostor() }, 2),
        (Refusal::WrongCores, Identity { cores: 0, ..impostor() }, 2),
    ];
    for (refusal, identity, target) in table {
        let before = refused(&node, refusal);
        let problem = visit(&identity, node.fabric.local_address(), target).unwrap_err();
        assert_eq!(problem, Problem::RefusedByPeer(refusal));
        wait_for("counted", || refused(&node, refusal) == before + 1);
    }
    assert_eq!(node.network.statistics().connections, 0);
}

#[test]
fn the_node_with_the_higher_id_does_not_dial() {
    let (listener1, address1) = listener();
    let options = fabric_options(1, &[address1, nowhere()]);
    let node = Node::start(listener1, options, TcpOptions::default());
    let higher = Identity { node: NodeId(2), peers: vec![NodeId(1)], ..impostor() };
    let problem = visit(&higher, node.fabric.local_address(), 1).unwrap_err();
    assert_eq!(problem, Problem::RefusedByPeer(Refusal::WrongDirection));
}

#[test]
fn a_second_process_with_the_same_id_is_refused_while_the_first_is_connected() {
    let mut node = lone_node(TcpOptions::default());
    let first = connect_to(&mut node);
    let second = Identity { instance: 100, ..impostor() };
    let problem = visit(&second, node.fabric.local_address(), 2).unwrap_err();
    assert_eq!(problem, Problem::RefusedByPeer(Refusal::StillConnected));
    let told = Some(Problem::Refused(Refusal::StillConnected));
    wait_for("told", || node.fabric.peers()[0].problem == told);

    drop(first);
    turn_until(&mut [&mut node], "the first is gone", |nodes| !nodes[0].is_connected());
    assert!(visit(&second, node.fabric.local_address(), 2).is_ok());
}

/// A peer that answers every opening with what `answer` makes of it.
fn answering(answer: impl Fn(&Hello) -> Vec<u8> + Send + 'static) -> SocketAddr {
    let (listener, address) = listener();
    thread::spawn(move || {
        // Ends with the first dial that finds the test over.
        while let Ok((mut stream, _)) = listener.accept() {
            let mut bytes = [0; HELLO_BYTES];
            if stream.read_exact(&mut bytes).is_err() || stream.write_all(&answer(&open_of(&bytes))).is_err()
            {
                return;
            }
        }
    });
    address
}

fn open_of(bytes: &[u8; HELLO_BYTES]) -> Hello {
    Hello::decode(bytes).expect("the dialer sends hellos")
}

/// What an honest node 2 answers.
fn honest(open: &Hello) -> Hello {
    Hello {
        step: Step::Answer,
        node: NodeId(2),
        target: NodeId(1),
        instance: 5,
        incarnation: Incarnation(1),
        nonce: 77,
        echo: open.nonce,
        ..*open
    }
}

#[test]
fn a_dialer_refuses_whoever_is_not_the_peer_that_it_dialled() {
    type Answer = fn(&Hello) -> Vec<u8>;
    fn bytes(hello: &Hello) -> Vec<u8> {
        hello.encode().as_bytes().to_vec()
    }
    let table: [(Refusal, Answer); 7] = [
        (Refusal::WrongCluster, |open| bytes(&Hello { cluster: ClusterId(8), ..honest(open) })),
        (Refusal::OwnId, |open| bytes(&Hello { node: NodeId(1), ..honest(open) })),
        (Refusal::WrongNode, |open| bytes(&Hello { node: NodeId(3), ..honest(open) })),
        (Refusal::WrongCores, |open| bytes(&Hello { cores: 4, ..honest(open) })),
        (Refusal::Version, |open| bytes(&Hello { version: HANDSHAKE_VERSION + 1, ..honest(open) })),
        (Refusal::Replayed, |open| bytes(&Hello { echo: open.nonce ^ 1, ..honest(open) })),
        (Refusal::Garbage, |_| vec![b'x'; HELLO_BYTES]),
    ];
    for (refusal, answer) in table {
        let (listener1, address1) = listener();
        let options = fabric_options(1, &[address1, answering(answer), nowhere()]);
        let node = Node::start(listener1, options, TcpOptions::default());
        wait_for("refused", || node.fabric.peers()[0].problem == Some(Problem::Refused(refusal)));
        assert!(refused(&node, refusal) > 0);
    }
}

#[test]
fn a_recorded_handshake_is_refused_when_it_is_played_again() {
    let node = lone_node(TcpOptions::default());
    let address = node.fabric.local_address();
    let open = Hello {
        step: Step::Open,
        cluster: CLUSTER,
        node: NodeId(1),
        incarnation: Incarnation(1),
        target: NodeId(2),
        version: HANDSHAKE_VERSION,
        features: 0,
        instance: 99,
        core: CoreId(0),
        cores: 1,
        nonce: 1234,
        echo: 0,
        refusal: None,
    };
    let mut recorded = None;
    for round in 0..2 {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(open.encode().as_bytes()).unwrap();
        let mut answer = [0; HELLO_BYTES];
        stream.read_exact(&mut answer).unwrap();
        let nonce = open_of(&answer).nonce;
        let confirm = *recorded.get_or_insert(Hello { step: Step::Confirm, echo: nonce, ..open });
        stream.write_all(confirm.encode().as_bytes()).unwrap();
        wait_for("judged", || {
            node.fabric.statistics().established + refused(&node, Refusal::Replayed) == round + 1
        });
    }
    assert_eq!(refused(&node, Refusal::Replayed), 1);
}

#[test]
fn another_version_is_refused_as_such() {
    let node = lone_node(TcpOptions::default());
    let open = Hello { version: HANDSHAKE_VERSION + 1, ..honest(&open_of_nobody()) };
    let mut stream = TcpStream::connect(node.fabric.local_address()).unwrap();
    stream.write_all(open.encode().as_bytes()).unwrap();
    wait_for("refused", || refused(&node, Refusal::Version) == 1);
    let mut answer = [0; HELLO_BYTES];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(open_of(&answer).version, HANDSHAKE_VERSION, "the other side learns which version it met");
}

fn open_of_nobody() -> Hello {
    Hello {
        step: Step::Open,
        cluster: CLUSTER,
        node: NodeId(1),
        incarnation: Incarnation(1),
        target: NodeId(2),
        version: HANDSHAKE_VERSION,
        features: 0,
        instance: 1,
        core: CoreId(0),
        cores: 1,
        nonce: 1,
        echo: 0,
        refusal: None,
    }
}

#[test]
fn garbage_on_the_listening_port_is_counted_and_peers_still_get_in() {
    let mut node = lone_node(TcpOptions::default());
    let address = node.fabric.local_address();
    for round in 1..=5 {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(&vec![round as u8; 3000]).unwrap();
        wait_for("refused", || refused(&node, Refusal::Garbage) == round);
        // It is told nothing, and the connection is gone.
        let mut answer = Vec::new();
        assert!(stream.read_to_end(&mut answer).is_err() || answer.is_empty());
    }
    connect_to(&mut node);
}

#[test]
fn silent_visitors_are_given_up_in_time_and_never_keep_a_peer_out() {
    let mut node = lone_node(TcpOptions::default());
    let address = node.fabric.local_address();
    let silent: Vec<TcpStream> = (0..80).map(|_| TcpStream::connect(address).unwrap()).collect();
    connect_to(&mut node);
    wait_for("crowded out", || refused(&node, Refusal::Crowded) >= 80 - 64);
    wait_for("timed out", || refused(&node, Refusal::TimedOut) + refused(&node, Refusal::Crowded) == 80);
    drop(silent);
}

#[test]
fn a_bad_configuration_is_an_error_that_says_what_to_do() {
    let (taken, address) = listener();
    let start = |options| TcpFabric::start(options).map(drop).unwrap_err();
    assert!(matches!(start(fabric_options(1, &[address])), FabricError::AddressInUse(at) if at == address));
    drop(taken);
    assert!(matches!(start(fabric_options(3, &[address])), FabricError::NotListed(NodeId(3))));
    let elsewhere: SocketAddr = "192.0.2.1:7000".parse().unwrap();
    assert!(matches!(start(fabric_options(1, &[elsewhere])), FabricError::NotLocal(_)));
    let mut unresolved = fabric_options(1, &[]);
    unresolved.nodes.insert(NodeId(1), PeerAddress::from("nonsense"));
    assert!(matches!(start(unresolved), FabricError::Resolve { .. }));
    let mut no_core = fabric_options(1, &[nowhere()]);
    no_core.cores = 0;
    assert!(matches!(start(no_core), FabricError::NoCore));
    let mut zero = fabric_options(1, &[nowhere()]);
    zero.nodes.insert(NodeId(0), nowhere().into());
    assert!(matches!(start(zero), FabricError::NodeZero));
}

#[test]
fn a_core_that_is_gone_takes_no_connection() {
    let (listener2, address2) = listener();
    let (fabric, ports) = TcpFabric::start_on(listener2, fabric_options(2, &[nowhere(), address2])).unwrap();
    drop(ports);
    let _ = visit(&impostor(), address2, 2);
    wait_for("refused", || fabric.statistics().refused.contains_key(&Refusal::CoreBusy));
    assert_eq!(fabric.peers()[0].cores_connected, 0);
}

#[test]
fn a_port_is_free_again_after_shutdown() {
    let node = lone_node(tcp_options(ReceivePath::Recv));
    let address = node.fabric.local_address();
    drop(node);
    wait_for("free", || TcpListener::bind(address).is_ok());
}
