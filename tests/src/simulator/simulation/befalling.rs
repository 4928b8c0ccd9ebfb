//! Accidents as they befall a cluster.

use std::time::Duration;

use annulus_rings::NodeId;

use super::super::accident::Accident;
use super::super::disk::Harm;
use super::super::node::Node;
use super::super::shape::draw_cuts;
use super::{Due, Simulation};
use crate::chaos::Random;

/// How far a date jumps at the most.
const JUMP_MAX: Duration = Duration::from_secs(100_000);
/// Restarts of one storm, at the most.
const STORM_RESTARTS_MAX: u64 = 12;

impl Simulation {
    /// One accident of a class.
    pub(super) fn befall(&mut self, class: usize) {
        let accident = Accident::ALL[class];
        // Each class has random numbers of its own, which nothing else draws from meanwhile.
        let mut random = self.accidents[class].clone();
        let index = random.below(self.nodes.len() as u64) as usize;
        match accident {
            Accident::Kill => self.crash(index, accident.name(), false),
            Accident::Storm => {
                self.storms[index] = 2 + random.below(STORM_RESTARTS_MAX - 1);
                self.scene.borrow_mut().fault(accident.name(), || format!("node {} restarts", index + 1));
                self.crash(index, "kills in a storm", false);
            }
            Accident::PowerFailure => {
                let everywhere = random.permille(300);
                for other in 0..self.nodes.len() {
                    if everywhere || other == index {
                        self.crash(other, accident.name(), true);
                        if random.permille(self.plan.disk.lying_flush_permille) {
                            self.harm(other, Harm::LostLately, "flushes that lied", &mut random);
                        }
                    }
                }
            }
            Accident::Partition => self.partition(&mut random),
            Accident::Flap => self.flap(&mut random),
            Accident::Reset => self.reset(&mut random),
            Accident::Pause | Accident::SlowDisk | Accident::DateJump => {
                self.trouble(index, accident, &mut random);
            }
            Accident::Rot => self.harm(index, Harm::Rot, accident.name(), &mut random),
            Accident::Misdirection => self.harm(index, Harm::Misdirected, accident.name(), &mut random),
            Accident::LostWrite => self.harm(index, Harm::Lost, accident.name(), &mut random),
            Accident::UnreadableSectors => self.harm(index, Harm::Unreadable, accident.name(), &mut random),
            Accident::Wipe | Accident::OldCopy => self.replace_disk(index, accident, &mut random),
            Accident::SnapshotRot => {
                self.harm_node(index, accident.name(), &mut random, |node, random| node.vault.rot(random));
            }
            Accident::SnapshotRequest => self.request_snapshot(index, &mut random),
            Accident::SnapshotHold => self.hold_snapshots(index, &mut random),
        }
        self.accidents[class] = random;
    }

    /// What befalls one node without ending its process.
    fn trouble(&mut self, index: usize, accident: Accident, random: &mut Random) {
        let now = self.truth.now();
        let node = &mut self.nodes[index];
        let id = node.id;
        self.scene.borrow_mut().fault(accident.name(), || format!("{id:?}: {accident:?}"));
        match accident {
            Accident::Pause => node.paused_until = now + random.duration(self.plan.process.pause_max),
            Accident::SlowDisk => {
                let until = now + random.duration(self.plan.disk.slow_interval);
                node.disk.slow_until(until);
                node.vault.slow_until(until);
            }
            _ => node.clock.jump(random.duration(JUMP_MAX), random.permille(500)),
        }
    }

    /// Somebody asks for a snapshot.
    fn request_snapshot(&mut self, index: usize, random: &mut Random) {
        let ring = random.pick(&self.plan.ring_ids());
        let node = &mut self.nodes[index];
        if node.request_snapshot(ring) {
            let (id, class) = (node.id, Accident::SnapshotRequest.name());
            self.scene.borrow_mut().fault(class, || format!("{id:?} is asked for a snapshot of {ring}"));
            self.wake(index, self.truth.now());
        }
    }

    /// Somebody wants no snapshots for a while.
    fn hold_snapshots(&mut self, index: usize, random: &mut Random) {
        let node = &mut self.nodes[index];
        if node.hold_snapshots(true) {
            let (id, class) = (node.id, Accident::SnapshotHold.name());
            self.scene.borrow_mut().fault(class, || format!("{id:?} is to take no snapshots"));
            let lasts = random.duration(self.plan.saving.accidents.hold_interval);
            self.arrange(lasts, Due::Release(index));
        }
    }

    /// Snapshots may be taken again.
    pub(super) fn release(&mut self, index: usize) {
        if self.nodes[index].hold_snapshots(false) {
            self.scene.borrow_mut().note(format!("node {} may take snapshots", index + 1));
            self.wake(index, self.truth.now());
        }
    }

    /// Harm to the disk of a node.
    fn harm(&mut self, index: usize, harm: Harm, class: &'static str, random: &mut Random) {
        self.harm_node(index, class, random, |node, random| node.disk.harm(harm, random));
    }

    /// Harm to a node, or to one that is damaged already when no other may be.
    fn harm_node(
        &mut self,
        index: usize,
        class: &'static str,
        random: &mut Random,
        harm: impl FnOnce(&Node, &mut Random) -> Option<String>,
    ) {
        let is_damaged = |index: &usize| self.nodes[*index].is_damaged();
        let damaged: Vec<usize> = (0..self.nodes.len()).filter(is_damaged).collect();
        let is_over = damaged.len() >= usize::from(self.plan.damaged_max) && !damaged.contains(&index);
        let index = match damaged[..] {
            _ if !is_over => index,
            [] => return,
            _ => random.pick(&damaged),
        };
        let node = &self.nodes[index];
        if let Some(told) = harm(node, random) {
            self.scene.borrow_mut().fault(class, || format!("{:?}: {told}", node.id));
        }
    }

    fn partition(&mut self, random: &mut Random) {
        if self.nodes.len() < 2 {
            return;
        }
        let cuts = draw_cuts(&self.plan.node_ids(), random);
        self.scene.borrow_mut().fault(Accident::Partition.name(), || format!("cut: {cuts:?}"));
        for (from, to) in cuts {
            self.hub.cut(from, to, true);
        }
        let lasts = random.duration(self.plan.network.partition_interval * 2);
        self.arrange(lasts, Due::Mend);
    }

    pub(super) fn mend(&mut self) {
        let ids = self.plan.node_ids();
        self.scene.borrow_mut().note("links mended".to_owned());
        for &from in &ids {
            for &to in ids.iter().filter(|to| **to != from) {
                self.hub.cut(from, to, false);
            }
        }
        self.deliver();
    }

    /// Everybody looks at what the network has for him.
    pub(super) fn deliver(&mut self) {
        for (at, to) in self.hub.arrivals() {
            self.wake(usize::from(to.0) - 1, at);
        }
    }

    fn flap(&mut self, random: &mut Random) {
        let Some((from, to)) = self.pair(random) else { return };
        let is_cut = random.permille(500);
        self.scene.borrow_mut().fault(Accident::Flap.name(), || {
            format!("{from:?} -> {to:?} {}", if is_cut { "goes" } else { "comes" })
        });
        self.hub.cut(from, to, is_cut);
        self.deliver();
        if is_cut {
            let lasts = random.duration(self.plan.network.flap_interval);
            self.arrange(lasts, Due::Mend);
        }
    }

    fn reset(&mut self, random: &mut Random) {
        let Some((a, b)) = self.pair(random) else { return };
        self.scene.borrow_mut().fault(Accident::Reset.name(), || format!("{a:?} and {b:?} lose connection"));
        self.hub.reset(a, b);
        self.deliver();
    }

    fn pair(&self, random: &mut Random) -> Option<(NodeId, NodeId)> {
        let ids = self.plan.node_ids();
        let (a, b) = (random.pick(&ids), random.pick(&ids));
        (a != b).then_some((a, b))
    }
}
