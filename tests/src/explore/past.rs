//! A past that would take a search too long to find.

use std::collections::VecDeque;

use annulus_rings::{Frame, Transmit};

use super::replica::{NODES, Replica, Step};

/// Node 1 leads, with node 2: slot 0 is chosen, both have a snapshot of it, and their journals are cut. Node 3
/// heard nothing of that.
pub(super) fn choose_and_cut(replicas: &mut [Replica; NODES]) {
    for step in [Step::Tick, Step::Propose, Step::Tick] {
        take(replicas, 0, step);
    }
    for node in 0..NODES - 1 {
        for step in [Step::Snapshot, Step::Truncate, Step::Free] {
            take(replicas, node, step);
        }
        replicas[node].cuts = 0;
    }
}

/// A step of one replica, and what follows from it while the network and the disks of the first two work.
fn take(replicas: &mut [Replica; NODES], node: usize, step: Step<&Frame>) {
    let mut letters: VecDeque<Transmit> = replicas[node].step(step).into();
    loop {
        for replica in replicas.iter_mut() {
            while replica.writes() {
                letters.extend(replica.step(Step::Persist));
            }
        }
        let Some(Transmit { to, frame }) = letters.pop_front() else { return };
        let to = usize::from(to.0) - 1;
        if to < NODES - 1 {
            letters.extend(replicas[to].step(Step::Deliver(&frame)));
        }
    }
}

#[cfg(test)]
mod tests {
    use annulus_rings::{NodeId, Role, Slot};

    use super::*;

    #[test]
    fn what_was_chosen_is_in_snapshots_alone() {
        let mut replicas = [1, 2, 3].map(|node| Replica::new(NodeId(node), 0));
        choose_and_cut(&mut replicas);
        let [first, second, third] = &replicas;
        assert_eq!((first.role(), third.reported.len()), (Role::Leader, 0));
        for replica in [first, second] {
            // What is left are a Mark and the Base.
            assert_eq!((replica.reported.len(), replica.kept(), replica.records()), (1, Slot(1), 2));
        }
    }
}
