//! Waiting for the signals that stop a process.
#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::time::Duration;

/// `SIGINT` and `SIGTERM`, blocked, so that they wait until asked for.
pub(crate) struct Signals {
    set: libc::sigset_t,
}

impl Signals {
    /// Blocks the signals in this thread and in those that it starts later.
    ///
    /// # Errors
    /// The operating system's.
    pub(crate) fn block() -> io::Result<Signals> {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: `sigemptyset` initialises the set that lives on this stack.
        let status = unsafe { libc::sigemptyset(set.as_mut_ptr()) };
        assert_eq!(status, 0, "an empty set can be made");
        // SAFETY: it was initialised just now.
        let mut set = unsafe { set.assume_init() };
        for signal in [libc::SIGINT, libc::SIGTERM] {
            // SAFETY: the set is initialised, and both signals exist.
            let status = unsafe { libc::sigaddset(&raw mut set, signal) };
            assert_eq!(status, 0, "the signals exist");
        }
        // SAFETY: the set is initialised, and the old mask is not asked for.
        let status = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
        if status == 0 { Ok(Signals { set }) } else { Err(io::Error::from_raw_os_error(status)) }
    }

    /// Waits for one of the signals, not longer than `timeout`, and returns its number.
    ///
    /// # Errors
    /// The operating system's.
    pub(crate) fn wait(&self, timeout: Duration) -> io::Result<Option<i32>> {
        let timeout = libc::timespec {
            tv_sec: timeout.as_secs().try_into().unwrap_or(libc::time_t::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        // SAFETY: both arguments live through the call, and what the signal carries is not asked for.
        let signal =
            unsafe { libc::sigtimedwait(&raw const self.set, std::ptr::null_mut(), &raw const timeout) };
        if signal > 0 {
            return Ok(Some(signal));
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EAGAIN | libc::EINTR) => Ok(None),
            _ => Err(error),
        }
    }
}
