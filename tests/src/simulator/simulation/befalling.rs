//! Accidents as they befall a cluster.

use std::time::Duration;

use annulus_rings::NodeId;

use super::super::accident::{Accident, draw_cuts};
use super::{Due, Simulation};

/// How far a date jumps at the most.
const JUMP_MAX: Duration = Duration::from_secs(100_000);

impl Simulation {
    pub(super) fn befall(&mut self, accident: Accident) {
        let index = self.random.below(self.nodes.len() as u64) as usize;
        match accident {
            Accident::Kill => self.crash(index, accident.name(), false),
            Accident::PowerFailure => {
                let everywhere = self.random.permille(300);
                for other in 0..self.nodes.len() {
                    if everywhere || other == index {
                        self.crash(other, accident.name(), true);
                    }
                }
            }
            Accident::Partition => self.partition(),
            Accident::Flap => self.flap(),
            Accident::Reset => self.reset(),
            Accident::Pause | Accident::SlowDisk | Accident::DateJump => self.trouble(index, accident),
        }
    }

    /// What befalls one node without ending its process.
    fn trouble(&mut self, index: usize, accident: Accident) {
        let now = self.truth.now();
        let node = &mut self.nodes[index];
        let id = node.id;
        self.scene.borrow_mut().fault(accident.name(), || format!("{id:?}: {accident:?}"));
        match accident {
            Accident::Pause => node.paused_until = now + self.random.duration(self.plan.process.pause_max),
            Accident::SlowDisk => {
                node.disk.slow_until(now + self.random.duration(self.plan.disk.slow_interval));
            }
            _ => node.clock.jump(self.random.duration(JUMP_MAX), self.random.permille(500)),
        }
    }

    fn partition(&mut self) {
        let ids = self.plan.node_ids();
        let cuts = draw_cuts(&ids, &mut self.random);
        self.scene.borrow_mut().fault(Accident::Partition.name(), || format!("cut: {cuts:?}"));
        for (from, to) in cuts {
            self.hub.cut(from, to, true);
        }
        let lasts = self.random.duration(self.plan.network.partition_interval * 2);
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

    fn flap(&mut self) {
        let Some((from, to)) = self.pair() else { return };
        let is_cut = self.random.permille(500);
        self.scene.borrow_mut().fault(Accident::Flap.name(), || {
            format!("{from:?} -> {to:?} {}", if is_cut { "goes" } else { "comes" })
        });
        self.hub.cut(from, to, is_cut);
        self.deliver();
        if is_cut {
            let lasts = self.random.duration(self.plan.network.flap_interval);
            self.arrange(lasts, Due::Mend);
        }
    }

    fn reset(&mut self) {
        let Some((a, b)) = self.pair() else { return };
        self.scene.borrow_mut().fault(Accident::Reset.name(), || format!("{a:?} and {b:?} lose connection"));
        self.hub.reset(a, b);
        self.deliver();
    }

    fn pair(&mut self) -> Option<(NodeId, NodeId)> {
        let ids = self.plan.node_ids();
        let (a, b) = (self.random.pick(&ids), self.random.pick(&ids));
        (a != b).then_some((a, b))
    }
}
