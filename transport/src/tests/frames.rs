//! What arrives is what was sent, or the connection is gone.

use std::io::{Read, Write};
use std::time::Duration;

use annulus_rings::frame::{FRAME_BYTES_MAX, HEADER_BYTES};
use annulus_rings::{ClusterId, Frame, Kind, NodeId, Time};

use super::{CLUSTER, PATHS, connect_to, frame_of, lone_node, pair, seal, tcp_options, turn_until};
use crate::{LoopbackHub, LoopbackOptions, Network, NetworkStatistics, Received};

/// Sizes from nothing to the largest frame, many small ones among them.
fn mixed_sizes() -> Vec<usize> {
    let large = [0, 1, 4000, 70_000, 300_000, FRAME_BYTES_MAX - HEADER_BYTES];
    (0..600).map(|index| if index % 100 == 50 { large[index / 100] } else { index * 7 % 300 }).collect()
}

/// The claim that every network must meet, both ways at once.
fn frames_arrive_in_order_and_whole(one: &mut impl Network, two: &mut impl Network) {
    let sizes = mixed_sizes();
    let mut arrived: [Vec<Received>; 2] = [Vec::new(), Vec::new()];
    let mut sent = 0;
    let start = std::time::Instant::now();
    while arrived.iter().any(|frames| frames.len() < sizes.len()) {
        let now = Time(start.elapsed().as_nanos() as u64);
        for _ in 0..20 {
            if let Some(bytes) = sizes.get(sent) {
                one.send(NodeId(2), frame_of(1, sent as u64, *bytes));
                two.send(NodeId(1), frame_of(2, sent as u64, *bytes));
                sent += 1;
            }
        }
        one.flush(now);
        two.flush(now);
        one.poll(now, &mut arrived[0]);
        two.poll(now, &mut arrived[1]);
        assert!(start.elapsed() < super::PATIENCE, "{} and {} frames", arrived[0].len(), arrived[1].len());
    }
    for (received, sender) in arrived.iter().zip([2, 1]) {
        for (received, (slot, bytes)) in received.iter().zip((0..).zip(&sizes)) {
            assert_eq!(received.from, NodeId(sender));
            assert!(received.frame == frame_of(sender, slot, *bytes), "slot {slot}");
        }
    }
}

#[test]
fn frames_arrive_in_order_and_whole_over_tcp() {
    for path in PATHS {
        let (mut one, mut two) = pair(path);
        frames_arrive_in_order_and_whole(&mut one.network, &mut two.network);
        let statistics = one.network.statistics();
        assert!(statistics.writes < statistics.frames_sent / 2, "{path:?}: frames leave gathered");
    }
}

#[test]
fn frames_arrive_in_order_and_whole_over_the_loopback() {
    let hub = LoopbackHub::new(LoopbackOptions::default());
    let [mut one, mut two] = super::loopback::join_two(&hub);
    frames_arrive_in_order_and_whole(&mut one, &mut two);
}

#[test]
fn frames_survive_any_fragmentation_of_the_stream() {
    for path in PATHS {
        let mut node = lone_node(tcp_options(path));
        let mut stream = connect_to(&mut node);
        let frames: Vec<Frame> = (0..40).map(|slot| frame_of(1, slot, (slot * 37 % 900) as usize)).collect();
        let bytes: Vec<u8> = frames.iter().flat_map(|frame| frame.as_bytes().to_vec()).collect();
        let mut rest = bytes.as_slice();
        let mut cut = 1;
        while !rest.is_empty() {
            let (part, tail) = rest.split_at(cut.min(rest.len()));
            stream.write_all(part).unwrap();
            node.turn();
            rest = tail;
            cut = cut * 5 % 211;
        }
        turn_until(&mut [&mut node], "all frames", |nodes| nodes[0].received.len() == frames.len());
        assert!(node.received.iter().zip(&frames).all(|(received, frame)| received.frame == *frame));
    }
}

fn with_changed_byte(frame: &Frame, index: usize) -> Vec<u8> {
    let mut bytes = frame.as_bytes().to_vec();
    bytes[index] ^= 1;
    bytes
}

/// A header that promises more than a frame may have, with checksums that are right.
fn oversized() -> Vec<u8> {
    let mut bytes = frame_of(1, 2, 0).as_bytes().to_vec();
    bytes[64..68].copy_from_slice(&(FRAME_BYTES_MAX as u32).to_le_bytes());
    let checksum = annulus_rings::frame::checksum(&bytes[8..HEADER_BYTES]);
    bytes[..8].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

#[test]
fn a_frame_that_does_not_belong_ends_its_connection_and_is_counted() {
    type Count = fn(&NetworkStatistics) -> u64;
    let corrupt: Count = |statistics| statistics.corrupt;
    let foreign: Count = |statistics| statistics.foreign;
    let good = frame_of(1, 2, 50);
    let sealed =
        |kind, cluster, node| seal(kind, cluster, NodeId(node), 2, [].into_iter()).as_bytes().to_vec();
    let table: [(&str, Vec<u8>, Count); 7] = [
        ("a damaged header", with_changed_byte(&good, 40), corrupt),
        ("a damaged payload", with_changed_byte(&good, HEADER_BYTES + 10), corrupt),
        ("more than a frame may hold", oversized(), corrupt),
        ("no frame at all", vec![b'x'; 500], corrupt),
        ("another cluster", sealed(Kind::Accept, ClusterId(8), 1), foreign),
        ("another sender", sealed(Kind::Accept, CLUSTER, 3), foreign),
        ("a hello", sealed(Kind::Hello, CLUSTER, 1), foreign),
    ];
    for path in PATHS {
        let mut node = lone_node(tcp_options(path));
        for (what, bad, count) in &table {
            let mut stream = connect_to(&mut node);
            node.received.clear();
            let before = count(&node.network.statistics());
            let bytes = [frame_of(1, 1, 10).as_bytes(), bad, frame_of(1, 3, 10).as_bytes()].concat();
            stream.write_all(&bytes).unwrap();
            turn_until(&mut [&mut node], what, |nodes| !nodes[0].is_connected());
            assert_eq!(node.slots(), [1], "{what}: what came before it is good, what comes after is not");
            assert_eq!(count(&node.network.statistics()), before + 1, "{what}");
        }
    }
}

#[test]
fn nothing_of_a_replaced_connection_is_delivered() {
    for path in PATHS {
        let mut node = lone_node(tcp_options(path));
        let mut old = connect_to(&mut node);
        old.write_all(&frame_of(1, 1, 100).as_bytes()[..150]).unwrap();
        turn_until(&mut [&mut node], "half a frame", |nodes| {
            nodes[0].network.statistics().bytes_received > 0
        });
        let mut new = connect_to(&mut node);
        // The rest comes too late, and may not even be sendable any more.
        let _ = old.write_all(&frame_of(1, 1, 100).as_bytes()[150..]);
        new.write_all(frame_of(1, 2, 100).as_bytes()).unwrap();
        turn_until(&mut [&mut node], "the new frame", |nodes| !nodes[0].received.is_empty());
        assert_eq!(node.slots(), [2], "{path:?}");
        assert_eq!(node.network.statistics().replaced, 1);
    }
}

#[test]
fn a_peer_that_does_not_read_costs_bounded_memory_and_gets_whole_frames_later() {
    const FRAMES: u64 = 3000;
    let mut options = tcp_options(crate::ReceivePath::Recv);
    options.queue_bytes_max = 1 << 20;
    let mut node = lone_node(options);
    let mut stream = connect_to(&mut node);
    for slot in 0..FRAMES {
        node.network.send(NodeId(1), frame_of(2, slot, 10_000));
        node.network.flush(Time(0));
    }
    let statistics = node.network.statistics();
    assert!(statistics.dropped_full > 0, "the queue has a bound");
    let kept = FRAMES - statistics.dropped_full;
    assert!(statistics.writes < FRAMES, "a full socket is not asked again before it has room");

    stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    let mut bytes = Vec::new();
    let expected = kept as usize * (10_000 + HEADER_BYTES);
    turn_until(&mut [&mut node], "everything that was kept", |_| {
        let mut part = vec![0; 1 << 20];
        if let Ok(count) = stream.read(&mut part) {
            bytes.extend_from_slice(&part[..count]);
        }
        bytes.len() >= expected
    });
    let mut rest = bytes::Bytes::from(bytes);
    let mut last = None;
    while !rest.is_empty() {
        let frame_bytes = Frame::peek_bytes(&rest).unwrap();
        let header = Frame::parse(rest.split_to(frame_bytes)).unwrap().header();
        if header.kind == Kind::Accept {
            assert!(last < Some(header.slot), "in order");
            last = Some(header.slot);
        }
    }
}

#[test]
fn frames_to_a_peer_that_is_away_are_dropped_and_counted() {
    let mut node = lone_node(tcp_options(crate::ReceivePath::Recv));
    node.network.send(NodeId(1), frame_of(2, 1, 10));
    node.network.send(NodeId(77), frame_of(2, 1, 10));
    assert_eq!(node.network.statistics().dropped_unconnected, 2);
}
