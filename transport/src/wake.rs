//! Waking a parked core.
//!
//! A running core must cost its wakers no system call, and a parked one must never miss a wake-up.
//! Both follow from one flag and two fences, as in Dekker's mutual exclusion:
//!
//! ```text
//! waker                             core
//!   publish work                      parked = true
//!   fence(SeqCst)                     fence(SeqCst)
//!   if parked.swap(false): write      re-check every source of work; block only if there is none
//! ```
//! The fences are totally ordered. If the waker's comes first, the core's re-check sees the work; if
//! the core's comes first, the waker sees the flag and writes the eventfd, which ends the block.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use crate::sync::{AtomicBool, EventFd, OnceLock, Ordering, clear, fence};

/// The eventfd on which a core sleeps. Owned by the core; other threads hold [`Waker`]s.
///
/// A core parks like this, and every step is needed:
/// 1. [`prepare`](Wake::prepare): says that it will sleep, and forgets old signals;
/// 2. re-check every source of work (mailboxes, [`Network::prepare_park`](crate::Network::prepare_park), …);
/// 3. [`wait`](Wake::wait) when there is none, else [`resume`](Wake::resume).
///
/// A runner that sleeps by other means (an asynchronous read of [`fd`](Wake::fd)) calls `resume` after it.
///
/// ```
/// use annulus_transport::Wake;
/// use std::time::Duration;
///
/// let wake = Wake::new()?;
/// let waker = wake.waker();
/// wake.prepare();
/// std::thread::spawn(move || waker.notify());
/// assert!(wake.wait(Some(Duration::from_secs(10))));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Wake {
    bell: Arc<Doorbell>,
}

/// Wakes a core from any thread. Clones ring the same bell.
#[derive(Clone, Debug)]
pub struct Waker(Arc<Doorbell>);

/// A parked flag and the eventfd to write when it is up.
///
/// A part of a core that other threads feed (a mailbox, a network) may keep a bell of its own on the
/// core's eventfd: it arms the bell when the core asks it to prepare for parking.
#[derive(Default, Debug)]
pub struct Doorbell {
    parked: AtomicBool,
    eventfd: OnceLock<EventFd>,
}

impl Wake {
    /// A new eventfd, with nobody asleep.
    ///
    /// # Errors
    /// The process has no descriptors left.
    pub fn new() -> io::Result<Wake> {
        let bell = Doorbell { parked: AtomicBool::new(false), eventfd: OnceLock::from(EventFd::new()?) };
        Ok(Wake { bell: Arc::new(bell) })
    }

    /// The eventfd: readable when the core is wanted. It belongs to this `Wake`.
    pub fn fd(&self) -> RawFd {
        self.eventfd().fd()
    }

    /// A handle for other threads.
    pub fn waker(&self) -> Waker {
        Waker(Arc::clone(&self.bell))
    }

    /// Wakes the core if it is parked or about to be. Publish the work first.
    pub fn notify(&self) {
        self.bell.ring();
    }

    /// Announces that the core will sleep unless it finds work now.
    pub fn prepare(&self) {
        // Signals up to here tell of work that the coming re-check finds by itself. Draining comes first:
        // a signal that answers the flag must stay, for its waker has taken the flag down.
        self.eventfd().drain();
        self.bell.arm();
    }

    /// The core found work instead of sleeping, or was woken by other means than [`wait`](Wake::wait).
    pub fn resume(&self) {
        self.bell.disarm();
    }

    /// Sleeps until a signal or for `timeout` (for ever without one), and resumes. True when a signal came.
    pub fn wait(&self, timeout: Option<Duration>) -> bool {
        let signalled = self.eventfd().wait(timeout);
        self.bell.disarm();
        if signalled {
            self.eventfd().drain();
        }
        signalled
    }

    fn eventfd(&self) -> &EventFd {
        self.bell.eventfd.get().expect("the bell of a Wake is connected when it is made")
    }
}

impl Waker {
    /// Wakes the core if it is parked or about to be. Publish the work first.
    pub fn notify(&self) {
        self.0.ring();
    }
}

impl From<Arc<Doorbell>> for Waker {
    fn from(bell: Arc<Doorbell>) -> Waker {
        Waker(bell)
    }
}

impl Doorbell {
    /// A bell that rings nothing until it is connected.
    pub fn new() -> Doorbell {
        Doorbell::default()
    }

    /// Rings `eventfd` from now on; a duplicate is kept, so the caller may close its own.
    ///
    /// # Errors
    /// The descriptor is not open, none is left, or the bell is connected already.
    pub fn connect(&self, eventfd: RawFd) -> io::Result<()> {
        let own = EventFd::duplicate(eventfd)?;
        self.eventfd.set(own).map_err(|_| io::Error::from(io::ErrorKind::AlreadyExists))
    }

    /// The owner will sleep unless it finds work after this call.
    pub fn arm(&self) {
        // Release: whoever takes the flag down sees the eventfd too, which may have been connected just now.
        self.parked.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
    }

    /// The owner runs again.
    pub fn disarm(&self) {
        clear(&self.parked);
    }

    /// Wakes the owner if it sleeps or is about to. Publish the work first.
    pub fn ring(&self) {
        fence(Ordering::SeqCst);
        // The swap lets one of many wakers make the system call.
        if self.parked.load(Ordering::Relaxed)
            && self.parked.swap(false, Ordering::Acquire)
            && let Some(eventfd) = self.eventfd.get()
        {
            eventfd.signal();
        }
    }
}

impl AsRawFd for Wake {
    fn as_raw_fd(&self) -> RawFd {
        self.fd()
    }
}

// Not under Miri: it has neither ppoll nor preadv2.
#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;
    use std::thread;
    use std::time::Instant;

    #[test]
    fn notifying_a_running_core_writes_nothing() {
        let wake = Wake::new().unwrap();
        wake.notify();
        assert!(!wake.wait(Some(Duration::ZERO)));
    }

    #[test]
    fn preparing_forgets_old_signals() {
        let wake = Wake::new().unwrap();
        wake.prepare();
        wake.notify();
        wake.resume();
        wake.prepare();
        assert!(!wake.wait(Some(Duration::ZERO)));
    }

    #[test]
    fn a_wait_ends_at_its_timeout() {
        let wake = Wake::new().unwrap();
        let start = Instant::now();
        wake.prepare();
        assert!(!wake.wait(Some(Duration::from_millis(20))));
        assert!(start.elapsed() >= Duration::from_millis(20));
    }

    #[test]
    fn a_second_bell_rings_the_same_eventfd() {
        let wake = Wake::new().unwrap();
        let bell = Doorbell::new();
        bell.ring();
        bell.connect(wake.fd()).unwrap();
        bell.arm();
        bell.ring();
        assert!(wake.wait(Some(Duration::from_secs(5))));
    }

    /// The core would sleep for the whole timeout if a single wake-up were lost: each item is
    /// published only after the one before was seen.
    #[test]
    fn no_wake_up_is_lost_between_threads() {
        const ITEMS: u64 = 20_000;
        let wake = Wake::new().unwrap();
        let published = AtomicU64::new(0);
        let seen = AtomicU64::new(0);
        thread::scope(|scope| {
            let waker = wake.waker();
            let (published, seen) = (&published, &seen);
            scope.spawn(move || {
                for item in 1..=ITEMS {
                    published.store(item, Ordering::Relaxed);
                    waker.notify();
                    let start = Instant::now();
                    while seen.load(Ordering::Acquire) < item {
                        thread::yield_now();
                        assert!(start.elapsed() < Duration::from_secs(10), "item {item} was never seen");
                    }
                }
            });
            let mut last = 0;
            while last < ITEMS {
                wake.prepare();
                let now = published.load(Ordering::Relaxed);
                if now > last {
                    wake.resume();
                } else {
                    assert!(wake.wait(Some(Duration::from_secs(5))), "lost the wake-up after item {last}");
                }
                last = published.load(Ordering::Relaxed).max(last);
                seen.store(last, Ordering::Release);
            }
        });
    }

    #[test]
    fn many_wakers_reach_a_core_that_parks_over_and_over() {
        const WAKERS: u64 = 3;
        const ITEMS: u64 = 5_000;
        let wake = Wake::new().unwrap();
        let done = AtomicU64::new(0);
        thread::scope(|scope| {
            for _ in 0..WAKERS {
                let (waker, done) = (wake.waker(), &done);
                scope.spawn(move || {
                    for _ in 0..ITEMS {
                        done.fetch_add(1, Ordering::Relaxed);
                        waker.notify();
                    }
                });
            }
            // Sleeps although it saw work: only the signals of later work can wake it.
            loop {
                wake.prepare();
                let before = done.load(Ordering::Relaxed);
                if before == WAKERS * ITEMS {
                    break;
                }
                let woken = wake.wait(Some(Duration::from_secs(5)));
                assert!(woken, "slept through {} items", done.load(Ordering::Relaxed) - before);
            }
        });
    }
}
