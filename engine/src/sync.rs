//! What clients and cores share is built from what is named here: the standard library's and crossbeam's own
//! types, or, under `--cfg loom`, those of a model that plays every interleaving (`./check loom`).

#[cfg(not(loom))]
mod shipped {
    pub(crate) use std::hint::spin_loop;
    pub(crate) use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
    pub(crate) use std::sync::{Mutex, MutexGuard};
    pub(crate) use std::thread::{Thread, current, park, park_timeout};

    pub(crate) use crossbeam_channel as channel;
}

#[cfg(loom)]
mod modelled {
    use std::time::Duration;

    pub(crate) use annulus_transport::sync::thread::{Thread, current, park};
    pub(crate) use annulus_transport::sync::{
        AtomicU64, AtomicUsize, Mutex, MutexGuard, Ordering, channel, fence, spin_loop,
    };

    /// No time passes in a model: a timeout would hide a lost wake-up.
    pub(crate) fn park_timeout(_timeout: Duration) {
        park();
    }
}

#[cfg(loom)]
pub(crate) use modelled::*;
#[cfg(not(loom))]
pub(crate) use shipped::*;
