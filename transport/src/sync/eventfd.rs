//! The eventfd of a model: the same counter, without a kernel.
//!
//! It orders nothing but sleeping and waking: what a waker wrote becomes visible by the handshake of
//! [`Wake`](crate::Wake) or not at all. It knows no timeouts either: they would hide a lost wake-up, which the
//! model reports as a deadlock.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{AtomicU64, Ordering};

/// The eventfds of all models that run, by number, so that they can be passed about as descriptors are.
static OPEN: Mutex<(RawFd, BTreeMap<RawFd, Arc<Counter>>)> = Mutex::new((0, BTreeMap::new()));

#[derive(Debug)]
pub(crate) struct EventFd {
    fd: RawFd,
    counter: Arc<Counter>,
    is_first: bool,
}

#[derive(Debug)]
struct Counter {
    signals: AtomicU64,
    asleep: loom::sync::Mutex<()>,
    signalled: loom::sync::Condvar,
}

impl EventFd {
    pub(crate) fn new() -> io::Result<EventFd> {
        let counter = Arc::new(Counter {
            signals: AtomicU64::new(0),
            asleep: loom::sync::Mutex::new(()),
            signalled: loom::sync::Condvar::new(),
        });
        let (last, open) = &mut *OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        *last += 1;
        open.insert(*last, Arc::clone(&counter));
        Ok(EventFd { fd: *last, counter, is_first: true })
    }

    pub(crate) fn duplicate(fd: RawFd) -> io::Result<EventFd> {
        let open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        let counter = Arc::clone(open.1.get(&fd).ok_or(io::ErrorKind::NotFound)?);
        Ok(EventFd { fd, counter, is_first: false })
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.fd
    }

    pub(crate) fn signal(&self) {
        self.counter.signals.fetch_add(1, Ordering::Relaxed);
        let _asleep = self.counter.asleep.lock();
        self.counter.signalled.notify_all();
    }

    pub(crate) fn wait(&self, _timeout: Option<Duration>) -> bool {
        let mut asleep = self.counter.asleep.lock().unwrap_or_else(PoisonError::into_inner);
        while self.counter.signals.load(Ordering::Relaxed) == 0 {
            asleep = self.counter.signalled.wait(asleep).unwrap_or_else(PoisonError::into_inner);
        }
        true
    }

    pub(crate) fn drain(&self) {
        self.counter.signals.swap(0, Ordering::Relaxed);
    }
}

impl Drop for EventFd {
    fn drop(&mut self) {
        if self.is_first {
            OPEN.lock().unwrap_or_else(PoisonError::into_inner).1.remove(&self.fd);
        }
    }
}
