//! What is particular to cores of one process. Order and wholeness: see `frames`; parking: see `parking`.

use annulus_rings::{CoreId, Incarnation, NodeId, Time};

use super::frame_of;
use crate::{JoinError, LoopbackHub, LoopbackNetwork, LoopbackOptions, Network, PeerStatus};

const PEERS: [NodeId; 2] = [NodeId(1), NodeId(2)];

fn join(hub: &LoopbackHub, node: u16, incarnation: u32) -> LoopbackNetwork {
    hub.join(NodeId(node), CoreId(0), Incarnation(incarnation), &PEERS).unwrap()
}

/// Nodes 1 and 2, connected.
pub(super) fn join_two(hub: &LoopbackHub) -> [LoopbackNetwork; 2] {
    let mut two = [join(hub, 1, 1), join(hub, 2, 1)];
    for network in &mut two {
        network.poll(Time(0), &mut Vec::new());
        assert!(network.peers()[0].is_connected());
    }
    two
}

#[test]
fn a_node_joins_once_at_a_time() {
    let hub = LoopbackHub::new(LoopbackOptions::default());
    let first = join(&hub, 1, 1);
    let again = hub.join(NodeId(1), CoreId(0), Incarnation(1), &PEERS).map(drop);
    assert_eq!(again, Err(JoinError::Duplicate { node: NodeId(1), core: CoreId(0) }));
    drop(first);
    join(&hub, 1, 1);
}

#[test]
fn frames_of_an_earlier_life_are_not_delivered() {
    let hub = LoopbackHub::new(LoopbackOptions::default());
    let [mut one, mut two] = join_two(&hub);
    one.send(NodeId(2), frame_of(1, 1, 10));
    one.flush(Time(0));
    drop(one);
    let mut one = join(&hub, 1, 2);
    one.poll(Time(0), &mut Vec::new());
    one.send(NodeId(2), frame_of(1, 2, 10));
    let mut received = Vec::new();
    two.poll(Time(0), &mut received);
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].frame, frame_of(1, 2, 10));
    let status = two.peers()[0].status;
    assert!(matches!(status, PeerStatus::Connected { incarnation: Incarnation(2), .. }));
    assert_eq!(two.statistics().replaced, 1);
}

#[test]
#[cfg_attr(miri, ignore = "a frame of a MiB takes minutes")]
fn a_core_that_does_not_read_costs_bounded_memory() {
    let hub = LoopbackHub::new(LoopbackOptions { queue_frames_max: 100, queue_bytes_max: 10_000 });
    let [mut one, mut two] = join_two(&hub);
    for slot in 0..1000 {
        one.send(NodeId(2), frame_of(1, slot, 0));
    }
    assert_eq!(one.statistics().frames_sent, 10_000 / 128);
    let mut received = Vec::new();
    two.poll(Time(0), &mut received);
    assert_eq!(received.len(), 10_000 / 128);
    one.send(NodeId(2), frame_of(1, 5, 1 << 20));
    two.poll(Time(0), &mut received);
    assert_eq!(received.len(), 10_000 / 128 + 1, "an empty queue takes any frame");
}

#[test]
fn a_peer_that_left_is_known_to_be_away() {
    let hub = LoopbackHub::new(LoopbackOptions::default());
    let [mut one, two] = join_two(&hub);
    drop(two);
    assert!(one.prepare_park(), "the change is work");
    one.poll(Time(0), &mut Vec::new());
    assert!(!one.peers()[0].is_connected());
    one.send(NodeId(2), frame_of(1, 1, 0));
    assert_eq!(one.statistics().dropped_unconnected, 1);
    assert!(!one.prepare_park());
}
