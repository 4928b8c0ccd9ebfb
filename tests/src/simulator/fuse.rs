//! A process that dies in the middle of its outputs.

use std::cell::Cell;
use std::rc::Rc;

/// Counts the outputs that a process has left to make. Clones are the same fuse.
#[derive(Clone, Default)]
pub(super) struct Fuse(Rc<Cell<Option<u64>>>);

impl Fuse {
    /// The process dies after so many more outputs.
    pub(super) fn light(&self, outputs: u64) {
        self.0.set(Some(outputs));
    }

    /// A new process.
    pub(super) fn replace(&self) {
        self.0.set(None);
    }

    /// Whether the process is to die in this turn.
    pub(super) fn is_lit(&self) -> bool {
        self.0.get().is_some()
    }

    /// Whether the process has made its last output.
    pub(super) fn is_burnt(&self) -> bool {
        self.0.get() == Some(0)
    }

    /// The process makes an output; false when it is dead and only believes so.
    pub(super) fn output(&self) -> bool {
        match self.0.get() {
            None => true,
            Some(0) => false,
            Some(left) => {
                self.0.set(Some(left - 1));
                true
            }
        }
    }
}
