//! Waking a parked core.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{BorrowedFd, RawFd};
use std::sync::{Arc, Mutex, PoisonError};

/// The eventfd of the core. What completes outside the core's `io_uring` signals it here.
#[derive(Clone, Default)]
pub(crate) struct WakeFd(Arc<Mutex<Option<File>>>);

impl WakeFd {
    /// Signals `eventfd` from now on.
    pub(crate) fn set(&self, eventfd: RawFd) -> io::Result<()> {
        // SAFETY: the caller of `register_wake` passes a descriptor that is open during the call, and
        // it is used for nothing but making an own duplicate.
        let borrowed = unsafe { BorrowedFd::borrow_raw(eventfd) };
        let own = File::from(borrowed.try_clone_to_owned()?);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(own);
        Ok(())
    }

    /// Wakes the core, if it registered an eventfd.
    pub(crate) fn signal(&self) {
        if let Some(eventfd) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            // An eventfd refuses only when its counter is full: then it is signalled already.
            let _ = (&*eventfd).write(&1u64.to_ne_bytes());
        }
    }
}
