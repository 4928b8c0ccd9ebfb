//! A parked core sleeps until something is there, and never past it.

use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use annulus_rings::{CoreId, Incarnation, NodeId, Time};

use super::{PATHS, fabric_options, frame_of, listener, pair, tcp_options};
use crate::{
    Interest, LoopbackHub, LoopbackOptions, Network, Readiness, TcpFabric, TcpNetwork, TcpOptions, Token,
    Wake,
};

const ROUNDS: u64 = 2000;
/// Far more than any wake-up takes, on a crowded machine too.
const LOST: Duration = Duration::from_secs(5);
/// A keep-alive would hide a lost wake-up.
const NEVER: Duration = Duration::from_hours(1);

/// Plays frames to and fro between nodes 1 and 2, parking at every chance; node 1 serves.
fn play(network: &mut impl Network, node: u16) {
    let peer = NodeId(3 - node);
    let wake = Wake::new().unwrap();
    network.register_wake(wake.fd()).unwrap();
    let start = Instant::now();
    let mut arrivals = Vec::new();
    let (mut received, mut sent) = (0, 0);
    while received < ROUNDS || sent < ROUNDS {
        let now = Time(start.elapsed().as_nanos() as u64);
        network.poll(now, &mut arrivals);
        received += arrivals.drain(..).count() as u64;
        let connected = network.peers()[0].is_connected();
        let owed = received + u64::from(connected && node == 1);
        while sent < owed.min(ROUNDS) {
            network.send(peer, frame_of(node, sent, 64));
            sent += 1;
        }
        network.flush(now);
        wake.prepare();
        if network.prepare_park() || (received == ROUNDS && sent == ROUNDS) {
            wake.resume();
            continue;
        }
        let slept = Instant::now();
        wake.wait(Some(LOST));
        assert!(!connected || slept.elapsed() < LOST, "node {node} slept through frame {received}");
    }
}

#[test]
fn a_parked_core_never_misses_a_frame_over_tcp() {
    for path in PATHS {
        let ((listener1, address1), (listener2, address2)) = (listener(), listener());
        let quiet = TcpOptions { keep_alive_interval: NEVER, silence_max: NEVER, ..tcp_options(path) };
        let end = Barrier::new(2);
        thread::scope(|scope| {
            for (node, listener) in [(1, listener1), (2, listener2)] {
                let (end, quiet) = (&end, &quiet);
                scope.spawn(move || {
                    let options = fabric_options(node, &[address1, address2]);
                    let (_fabric, mut ports) = TcpFabric::start_on(listener, options).unwrap();
                    let mut network = TcpNetwork::open(ports.remove(0), quiet.clone()).unwrap();
                    play(&mut network, node);
                    end.wait();
                });
            }
        });
    }
}

#[test]
fn a_parked_core_never_misses_a_frame_over_the_loopback() {
    let hub = LoopbackHub::new(LoopbackOptions::default());
    let end = Barrier::new(2);
    thread::scope(|scope| {
        for node in [1, 2] {
            let (hub, end) = (&hub, &end);
            scope.spawn(move || {
                let peers = [NodeId(1), NodeId(2)];
                let mut network = hub.join(NodeId(node), CoreId(0), Incarnation(1), &peers).unwrap();
                play(&mut network, node);
                end.wait();
            });
        }
    });
}

#[test]
fn an_idle_core_wakes_for_keep_alives_only() {
    for path in PATHS {
        let (mut one, mut two) = pair(path);
        let wake = Wake::new().unwrap();
        one.network.register_wake(wake.fd()).unwrap();
        two.network.register_wake(wake.fd()).unwrap();
        let start = Instant::now();
        let mut turns = 0;
        while start.elapsed() < Duration::from_millis(1200) {
            one.turn();
            two.turn();
            turns += 1;
            wake.prepare();
            if one.network.prepare_park() || two.network.prepare_park() {
                wake.resume();
            } else {
                wake.wait(Some(Duration::from_millis(100)));
            }
        }
        // Twelve timeouts, a probe or two with their echoes, and the tail of the handshake.
        assert!(turns < 60, "{path:?}: {turns} turns in 1.2 s");
    }
}

#[test]
fn readiness_tells_each_descriptor_once_and_wakes_its_core() {
    let wake = Wake::new().unwrap();
    let mut set = Readiness::new(8).unwrap();
    set.register_wake(wake.fd()).unwrap();
    let pairs: Vec<(UnixStream, UnixStream)> = (0..20).map(|_| UnixStream::pair().unwrap()).collect();
    let tokens: Vec<Token> = pairs.iter().map(|(near, _)| set.add(near.as_raw_fd())).collect();
    for token in &tokens {
        set.arm(*token, Interest::Readable).unwrap();
        set.arm(*token, Interest::Readable).unwrap();
    }
    set.submit().unwrap();
    assert!(!set.is_pending());

    wake.prepare();
    (&pairs[7].1).write_all(b"x").unwrap();
    assert!(wake.wait(Some(super::PATIENCE)));
    let mut ready = Vec::new();
    set.poll(&mut ready).unwrap();
    assert_eq!(ready, [tokens[7]]);
    assert_eq!(set.poll(&mut ready).unwrap(), 0, "one-shot");

    // Armed while ready already: told at once.
    set.arm(tokens[7], Interest::Readable).unwrap();
    set.submit().unwrap();
    assert!(set.is_pending());
    assert_eq!(set.poll(&mut ready).unwrap(), 1);
}

#[test]
fn a_removed_descriptor_is_not_told_of_and_closes_when_it_is_closed() {
    let mut set = Readiness::new(8).unwrap();
    let (near, mut far) = UnixStream::pair().unwrap();
    let token = set.add(near.as_raw_fd());
    set.arm(token, Interest::Readable).unwrap();
    set.submit().unwrap();
    set.remove(token).unwrap();
    drop(near);
    let mut ready = Vec::new();
    set.poll(&mut ready).unwrap();
    assert_eq!(ready, []);
    far.set_read_timeout(Some(super::PATIENCE)).unwrap();
    assert_eq!(far.read(&mut [0]).unwrap(), 0, "the kernel holds the descriptor no more");

    let (other, _far) = UnixStream::pair().unwrap();
    let reused = set.add(other.as_raw_fd());
    assert_eq!(reused.index(), token.index());
    assert_ne!(reused, token, "an index is given again, a token is not");
    set.arm(token, Interest::Writable).unwrap();
    assert_eq!(set.poll(&mut ready).unwrap(), 0, "the old token names nobody");
}

#[test]
fn writable_is_told_when_there_is_room_again() {
    let mut set = Readiness::new(8).unwrap();
    let (mut near, mut far) = UnixStream::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    while near.write(&[0; 8192]).is_ok() {}
    let token = set.add(near.as_raw_fd());
    set.arm(token, Interest::Writable).unwrap();
    set.submit().unwrap();
    let mut ready = Vec::new();
    assert_eq!(set.poll(&mut ready).unwrap(), 0);
    far.set_nonblocking(true).unwrap();
    while far.read(&mut [0; 8192]).is_ok() {}
    assert_eq!(set.poll(&mut ready).unwrap(), 1);
}
