//! Disks that are replaced under the old id of their node: each has forgotten votes, and must never take
//! part again (R6, A10). Where nobody can know better nothing can be demanded, so that is not done:
//! - an empty disk takes the place of a minority of the disks at most. A majority of empty disks is a new
//!   cluster, for all that anybody can tell;
//! - an old copy is put back only where the journal of every other node durably remembers that the disk had
//!   got further. A copy newer than the last announcement that was heard is just the disk as it was.

use super::super::accident::Accident;
use super::Simulation;
use crate::chaos::Random;

impl Simulation {
    /// Replaces a disk, where that may be done.
    pub(super) fn replace_disk(&mut self, index: usize, accident: Accident, random: &mut Random) {
        let replaced: Vec<usize> =
            (0..self.nodes.len()).filter(|index| self.nodes[*index].disks > 1).collect();
        let is_more = !replaced.contains(&index);
        let damaged = (0..self.nodes.len()).filter(|index| self.nodes[*index].is_damaged()).count();
        let adds_damage = !self.nodes[index].is_damaged();
        if is_more && replaced.len() >= (self.nodes.len() - 1) / 2
            || adds_damage && damaged >= usize::from(self.plan.damaged_max)
        {
            return;
        }
        match accident {
            Accident::Wipe => self.wipe(index),
            _ => self.restore_copy(index, random),
        }
    }

    /// An empty disk, which is a life of its own.
    fn wipe(&mut self, index: usize) {
        let id = self.nodes[index].id;
        self.take_out(index, Accident::Wipe.name());
        let node = &mut self.nodes[index];
        node.disk.wipe();
        node.vault.wipe();
        node.copy = None;
        node.incarnation.0 += 1;
        let mut scene = self.scene.borrow_mut();
        scene.fault(Accident::Wipe.name(), || format!("{id:?} gets an empty disk"));
        scene.identities.wiped(id);
    }

    /// An old copy of the disk, once there is one and everybody remembers more.
    fn restore_copy(&mut self, index: usize, random: &mut Random) {
        let (id, incarnation) = (self.nodes[index].id, self.nodes[index].incarnation);
        let others = self.plan.node_ids().into_iter().filter(|other| *other != id);
        let is_remembered = self.nodes[index].disk.backed_up().is_some_and(|end| {
            let scene = self.scene.borrow();
            let mut others = others;
            others.all(|other| scene.identities.remembers(other, id, incarnation) > end)
        });
        if !is_remembered {
            if self.nodes[index].disk.backed_up().is_none() || random.permille(200) {
                self.nodes[index].back_up();
            }
            return;
        }
        self.take_out(index, Accident::OldCopy.name());
        self.nodes[index].put_back();
        let mut scene = self.scene.borrow_mut();
        scene.fault(Accident::OldCopy.name(), || format!("{id:?} gets an old copy of its disk"));
        scene.identities.restored(id);
    }

    /// The machine is switched off, its disk taken out, and somebody will start it again.
    fn take_out(&mut self, index: usize, class: &'static str) {
        if self.nodes[index].is_up() {
            self.crash(index, class, true);
        } else if self.nodes[index].refusal.take().is_some() {
            self.arrange_start(index);
        }
        self.nodes[index].disks += 1;
    }
}
