//! The two clocks of a core: one that only counts, one that tells the date.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use annulus_rings::Time;

/// Where a core reads time. The protocol never does: it gets it as an argument.
pub trait Clock {
    /// Nanoseconds of a clock that never goes back and counts suspend.
    fn now(&self) -> Time;

    /// Nanoseconds since 1970. May jump: the engine makes it monotone per ring.
    fn wall_ns(&self) -> u64;
}

/// The operating system's clocks.
#[derive(Clone, Copy, Default, Debug)]
pub struct SystemClock;

impl Clock for SystemClock {
    /// `CLOCK_BOOTTIME`, because leases and timeouts must count the time that a machine slept.
    fn now(&self) -> Time {
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the kernel fills the `timespec` that lives on this stack; the clock exists since 2.6.39.
        let status = unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut now) };
        assert_eq!(status, 0, "CLOCK_BOOTTIME exists on every kernel with io_uring");
        Time(now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned())
    }

    fn wall_ns(&self) -> u64 {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        since_epoch.map_or(0, |duration| duration.as_nanos() as u64)
    }
}

/// A clock that moves when a test says so. Clones show the same time.
#[derive(Clone, Default, Debug)]
pub struct ManualClock(Rc<Cell<u64>>);

impl ManualClock {
    /// Moves the clock on.
    pub fn advance(&self, duration: Duration) {
        self.0.set(self.0.get() + duration.as_nanos() as u64);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Time {
        Time(self.0.get())
    }

    fn wall_ns(&self) -> u64 {
        self.0.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_goes_forward() {
        let first = SystemClock.now();
        let second = SystemClock.now();
        assert!(second >= first && first > Time(0));
    }
}
