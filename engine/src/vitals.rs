//! Signs of life of a core, which the watchdog reads.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use annulus_rings::Time;

/// What a core shows of itself. Written by the core, and after its end by its thread.
#[derive(Default)]
pub(crate) struct Vitals {
    turns: AtomicU64,
    parks: AtomicU64,
    /// While parked: until when, and [`Time::NEVER`] is a deadline too. 0 while running.
    parked_until: AtomicU64,
    end: Mutex<Option<End>>,
    notice: Mutex<Option<String>>,
}

/// How a core ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// It was asked to.
    Stopped,
    /// It met a bug or a broken journal.
    Failed(String),
}

/// One look at a core.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Pulse {
    pub(crate) turns: u64,
    pub(crate) parks: u64,
    /// `None`: running.
    pub(crate) parked_until: Option<Time>,
}

impl Vitals {
    pub(crate) fn turned(&self) {
        // One writer: a plain increment is enough.
        self.turns.store(self.turns.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    pub(crate) fn parked(&self, until: Time) {
        self.parks.store(self.parks.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        self.parked_until.store(until.0.max(1), Ordering::Relaxed);
    }

    pub(crate) fn unparked(&self) {
        self.parked_until.store(0, Ordering::Relaxed);
    }

    pub(crate) fn pulse(&self) -> Pulse {
        let parked_until = self.parked_until.load(Ordering::Relaxed);
        Pulse {
            turns: self.turns.load(Ordering::Relaxed),
            parks: self.parks.load(Ordering::Relaxed),
            parked_until: (parked_until != 0).then_some(Time(parked_until)),
        }
    }

    /// Something that an operator should know while the core runs, or nothing any more.
    pub(crate) fn notice(&self, notice: Option<String>) {
        *self.notice.lock().unwrap_or_else(PoisonError::into_inner) = notice;
    }

    pub(crate) fn noticed(&self) -> Option<String> {
        self.notice.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The core has ended; the first reason stays.
    pub(crate) fn ended(&self, end: End) {
        self.end.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(end);
    }

    pub(crate) fn end(&self) -> Option<End> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
