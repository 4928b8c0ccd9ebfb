//! What goes wrong with a vault: operations that fail, and bits that rot.

use std::io;

use annulus_rings::NodeId;
use annulus_storage::{VaultAnswer, VaultOperation, VaultState};

use super::{SimulatedVault, Store};
use crate::chaos::Random;
use crate::simulator::plan::Plan;
use crate::simulator::saving::SavingAccidents;

/// Errors, with random numbers apart for each class.
pub(super) struct Errors {
    plan: SavingAccidents,
    writes: Random,
    reads: Random,
    spaces: Random,
    /// An error that passes befell this process.
    are_seen: bool,
}

impl Errors {
    pub(super) fn of(plan: &Plan, node: NodeId) -> Errors {
        let random = |class: &str| plan.random(&format!("{class} of node {}", node.0));
        Errors {
            plan: plan.saving.accidents.clone(),
            writes: random("vault write errors"),
            reads: random("vault read errors"),
            spaces: random("no space for snapshots"),
            are_seen: false,
        }
    }

    pub(super) fn replan(&mut self, plan: &SavingAccidents) {
        self.plan = plan.clone();
    }
}

impl SimulatedVault {
    /// A process is about to start.
    pub(in super::super) fn starting(&self) {
        self.0.borrow_mut().errors.are_seen = false;
    }

    /// Whether an error that passes befell the process while it started.
    pub(in super::super) fn has_passing_trouble(&self) -> bool {
        self.0.borrow().errors.are_seen
    }

    /// Whether bits of any file ever flipped.
    pub(in super::super) fn was_harmed(&self) -> bool {
        self.0.borrow().was_harmed
    }

    /// Whether bits of a published file ever flipped, so that its node may be unable to start.
    pub(in super::super) fn is_damaged(&self) -> bool {
        self.0.borrow().is_damaged
    }

    /// A bit of some file flips; tells which, unless there is none.
    pub(in super::super) fn rot(&self, random: &mut Random) -> Option<String> {
        let store = &mut *self.0.borrow_mut();
        let has_bytes = |(_, file): &(_, &mut super::File)| !file.bytes.is_empty();
        let mut files: Vec<_> = store.files.iter_mut().filter(has_bytes).collect();
        let index = random.below(files.len() as u64) as usize;
        let (&(name, state), file) = files.get_mut(index).map(|(key, file)| (*key, file))?;
        file.rot(random);
        store.was_harmed = true;
        store.is_damaged |= state == VaultState::Published;
        store.leftovers += 1;
        Some(format!("a bit of the snapshot of ring {} below {:?} flips, {state:?}", name.ring, name.slot))
    }
}

impl Store {
    /// The error that an operation will end with, if it will.
    pub(super) fn draw_error(&mut self, operation: &VaultOperation) -> Option<io::ErrorKind> {
        let Errors { plan, writes, reads, spaces, .. } = &mut self.errors;
        let (class, kind) = match operation {
            VaultOperation::Read { .. } if reads.below(10_000) < plan.read_error_permyriad => {
                ("vault read errors", io::ErrorKind::Other)
            }
            VaultOperation::Read { .. } => return None,
            VaultOperation::Begin { .. } | VaultOperation::Write { .. }
                if spaces.permille(plan.full_permille) =>
            {
                ("no space for snapshots", io::ErrorKind::StorageFull)
            }
            _ if writes.below(10_000) < plan.write_error_permyriad => {
                ("vault write errors", io::ErrorKind::Other)
            }
            _ => return None,
        };
        let node = self.node;
        self.scene.borrow_mut().fault(class, || format!("{node:?}: {class}"));
        Some(kind)
    }

    /// An operation fails: it may have been done in part.
    pub(super) fn fail(&mut self, operation: VaultOperation, kind: io::ErrorKind) -> io::Result<VaultAnswer> {
        match operation {
            VaultOperation::Read { .. } => {}
            VaultOperation::Remove { .. } | VaultOperation::Begin { .. } => self.leftovers += 1,
            _ if self.tears.permille(500) => self.break_off(operation),
            _ => {}
        }
        Err(kind.into())
    }

    /// A start reads every snapshot, and any error may end it.
    pub(super) fn read_error_at_start(&mut self) -> io::Result<()> {
        let Errors { plan, reads, .. } = &mut self.errors;
        if reads.below(10_000) >= plan.read_error_permyriad {
            return Ok(());
        }
        self.errors.are_seen = true;
        let node = self.node;
        let class = "vault read errors";
        self.scene.borrow_mut().fault(class, || format!("{node:?}: {class} at start"));
        Err(io::Error::other("injected"))
    }
}
