//! What this crate's threads share is built from what is named here: the standard library's and crossbeam's
//! own types, or, under `--cfg loom`, those of a model that plays every interleaving (`./check loom`).

#[cfg(loom)]
pub mod channel;
#[cfg(loom)]
mod eventfd;
#[cfg(loom)]
mod exploration;
#[cfg(loom)]
mod once_lock;

#[cfg(not(loom))]
mod shipped {
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
    pub(crate) use std::sync::{Mutex, MutexGuard, OnceLock};
    pub(crate) use std::thread;

    pub(crate) use crossbeam_channel as channel;

    pub(crate) use crate::eventfd::EventFd;

    /// Takes a flag down.
    pub(crate) fn clear(flag: &AtomicBool) {
        flag.store(false, Ordering::Relaxed);
    }
}

#[cfg(loom)]
mod modelled {
    pub use loom::hint::spin_loop;
    pub use loom::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
    pub use loom::sync::{Mutex, MutexGuard};
    pub use loom::thread;

    pub(crate) use super::eventfd::EventFd;
    pub use super::exploration::explore;
    pub use super::once_lock::OnceLock;

    /// Takes a flag down. Loom does not know that a store which comes after a swap is later in the flag's
    /// modification order too, and plays what no machine can do; a swap in the place of the store tells it.
    pub(crate) fn clear(flag: &AtomicBool) {
        flag.swap(false, Ordering::Relaxed);
    }
}

#[cfg(loom)]
pub use modelled::*;
#[cfg(not(loom))]
pub(crate) use shipped::*;
