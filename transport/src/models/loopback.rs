//! Frames between cores of one process arrive, in order, and wake who sleeps.

use annulus_rings::{CoreId, Incarnation, NodeId, Time};

use super::{explore, park_until};
use crate::sync::thread;
use crate::tests::frame_of;
use crate::{LoopbackHub, LoopbackNetwork, LoopbackOptions, Network, PeerStatus, Wake};

const PEERS: [NodeId; 2] = [NodeId(1), NodeId(2)];

fn join(hub: &LoopbackHub, node: u16, life: u32) -> LoopbackNetwork {
    hub.join(NodeId(node), CoreId(0), Incarnation(life), &PEERS).unwrap()
}

/// A network that wakes its core.
fn join_awake(hub: &LoopbackHub, node: u16) -> (LoopbackNetwork, Wake) {
    let wake = Wake::new().unwrap();
    let mut network = join(hub, node, 1);
    network.register_wake(wake.fd()).unwrap();
    (network, wake)
}

/// Takes what has arrived and gets ready to sleep, as `Turner::prepare_park` does.
fn poll_and_arm(network: &mut LoopbackNetwork, slots: &mut Vec<u64>) -> bool {
    let mut received = Vec::new();
    network.poll(Time(0), &mut received);
    slots.extend(received.iter().map(|received| received.frame.header().slot.0));
    network.prepare_park()
}

#[test]
fn a_frame_that_was_flushed_reaches_a_core_that_parks() {
    explore("loopback: two frames to a core that parks", 3, || {
        let hub = LoopbackHub::new(LoopbackOptions::default());
        let (mut two, wake) = join_awake(&hub, 2);
        let mut one = join(&hub, 1, 1);
        let sending = thread::spawn(move || {
            one.poll(Time(0), &mut Vec::new());
            for slot in 1..=2 {
                one.send(NodeId(2), frame_of(1, slot, 0));
                one.flush(Time(0));
            }
            one
        });
        let mut slots = Vec::new();
        park_until(&wake, || poll_and_arm(&mut two, &mut slots) || slots.len() == 2);
        while slots.len() < 2 {
            park_until(&wake, || poll_and_arm(&mut two, &mut slots) || slots.len() == 2);
        }
        assert_eq!(slots, [1, 2]);
        let one = sending.join().unwrap();
        assert_eq!(one.statistics().frames_sent, 2);
    });
}

#[test]
fn a_parked_core_learns_who_joins() {
    explore("loopback: a peer joins while a core parks", 3, || {
        let hub = LoopbackHub::new(LoopbackOptions::default());
        let (mut two, wake) = join_awake(&hub, 2);
        let joining = {
            let hub = hub.clone();
            thread::spawn(move || join(&hub, 1, 1))
        };
        while !two.peers()[0].is_connected() {
            park_until(&wake, || poll_and_arm(&mut two, &mut Vec::new()) || two.peers()[0].is_connected());
        }
        drop(joining.join().unwrap());
        assert!(two.prepare_park(), "and who leaves");
        two.poll(Time(0), &mut Vec::new());
        assert_eq!(two.peers()[0].status, PeerStatus::Disconnected);
    });
}

#[test]
fn a_frame_of_an_earlier_life_is_not_delivered_as_one_of_the_next() {
    explore("loopback: a peer restarts while frames are on their way", 2, || {
        let hub = LoopbackHub::new(LoopbackOptions::default());
        let mut two = join(&hub, 2, 1);
        let restarting = {
            let hub = hub.clone();
            thread::spawn(move || {
                for life in 1..=2 {
                    let mut one = join(&hub, 1, life);
                    one.poll(Time(0), &mut Vec::new());
                    one.send(NodeId(2), frame_of(1, life.into(), 0));
                }
            })
        };
        for _ in 0..3 {
            let mut slots = Vec::new();
            poll_and_arm(&mut two, &mut slots);
            if let PeerStatus::Connected { incarnation, .. } = two.peers()[0].status {
                assert!(
                    slots.iter().all(|slot| *slot == u64::from(incarnation.0)),
                    "{slots:?} from life {incarnation:?}"
                );
            } else {
                assert_eq!(slots, [], "from nobody");
            }
        }
        restarting.join().unwrap();
    });
}
