//! The channels of a model: what crossbeam's promise, and no more than that.
//!
//! A slot is published by a release store and taken by an acquire load. Crossbeam's own steps are sequentially
//! consistent, so code that is right here is right there.

use std::sync::{Arc, Mutex, PoisonError};

pub use crossbeam_channel::{SendError, TryRecvError, TrySendError};

use super::{AtomicBool, AtomicUsize, Ordering};

/// Each slot costs every execution of a model: no model sends more.
const SLOTS_MAX: usize = 4;

pub struct Sender<T>(Arc<Shared<T>>);

pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    head: AtomicUsize,
}

struct Shared<T> {
    slots: Vec<Slot<T>>,
    /// A count of its own: loom looks for races with the last access of an atomic only, and a sender that
    /// looked at `is_full` itself would hide the receiver's look at it.
    free: AtomicUsize,
    sending: loom::sync::Mutex<Sending>,
    /// Whether what nobody will take any more is dropped with the receiver, not with the last sender.
    lets_go: bool,
}

struct Slot<T> {
    is_full: AtomicBool,
    /// Not the model's lock: it orders nothing there, and nobody ever waits for it.
    item: Mutex<Option<T>>,
}

struct Sending {
    tail: usize,
    is_closed: bool,
}

/// What is in it when the receiver goes stays until the last sender goes.
pub fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    channel(capacity, false)
}

/// What is in it when the receiver goes, goes too.
pub fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    channel(SLOTS_MAX, true)
}

fn channel<T>(capacity: usize, lets_go: bool) -> (Sender<T>, Receiver<T>) {
    let slot = || Slot { is_full: AtomicBool::new(false), item: Mutex::new(None) };
    let capacity = capacity.min(SLOTS_MAX);
    let shared = Arc::new(Shared {
        slots: (0..capacity).map(|_| slot()).collect(),
        free: AtomicUsize::new(capacity),
        sending: loom::sync::Mutex::new(Sending { tail: 0, is_closed: false }),
        lets_go,
    });
    (Sender(Arc::clone(&shared)), Receiver { shared, head: AtomicUsize::new(0) })
}

impl<T> Sender<T> {
    pub fn try_send(&self, item: T) -> Result<(), TrySendError<T>> {
        let mut sending = self.0.sending.lock().unwrap_or_else(PoisonError::into_inner);
        if sending.is_closed {
            return Err(TrySendError::Disconnected(item));
        }
        let slot = &self.0.slots[sending.tail % self.0.slots.len()];
        if self.0.free.load(Ordering::Acquire) == 0 {
            return Err(TrySendError::Full(item));
        }
        self.0.free.fetch_sub(1, Ordering::Relaxed);
        *slot.item.lock().unwrap_or_else(PoisonError::into_inner) = Some(item);
        slot.is_full.store(true, Ordering::Release);
        sending.tail += 1;
        Ok(())
    }

    pub fn send(&self, item: T) -> Result<(), SendError<T>> {
        let mut item = item;
        loop {
            match self.try_send(item) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Disconnected(item)) => return Err(SendError(item)),
                Err(TrySendError::Full(back)) => item = back,
            }
            loom::thread::yield_now();
        }
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        Sender(Arc::clone(&self.0))
    }
}

impl<T> Receiver<T> {
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        let head = self.head.load(Ordering::Relaxed);
        let slot = &self.shared.slots[head % self.shared.slots.len()];
        if !slot.is_full.load(Ordering::Acquire) {
            return Err(TryRecvError::Empty);
        }
        let item = slot.item.lock().unwrap_or_else(PoisonError::into_inner).take();
        slot.is_full.store(false, Ordering::Relaxed);
        self.shared.free.fetch_add(1, Ordering::Release);
        self.head.store(head + 1, Ordering::Relaxed);
        Ok(item.expect("a full slot has an item"))
    }

    pub fn is_empty(&self) -> bool {
        let head = self.head.load(Ordering::Relaxed);
        !self.shared.slots[head % self.shared.slots.len()].is_full.load(Ordering::Acquire)
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.shared.sending.lock().unwrap_or_else(PoisonError::into_inner).is_closed = true;
        while self.shared.lets_go && self.try_recv().is_ok() {}
    }
}
