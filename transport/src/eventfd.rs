//! An eventfd: a counter in the kernel that a thread can sleep on.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::time::Duration;

/// An own descriptor of an eventfd, closed when this is dropped.
#[derive(Debug)]
pub(crate) struct EventFd(File);

impl EventFd {
    /// A new eventfd, not signalled.
    pub(crate) fn new() -> io::Result<EventFd> {
        // Not EFD_NONBLOCK: an io_uring read of a non-blocking descriptor fails instead of waiting.
        // SAFETY: eventfd takes no pointers.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and nobody else owns it.
        let owned = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(EventFd(File::from(owned)))
    }

    /// Another descriptor of the eventfd `fd`, which the caller may close.
    pub(crate) fn duplicate(fd: RawFd) -> io::Result<EventFd> {
        if fd < 0 {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        // SAFETY: the descriptor is the caller's and open while this function duplicates it.
        let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
        Ok(EventFd(File::from(borrowed.try_clone_to_owned()?)))
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Ends the sleep at hand, or the next one.
    pub(crate) fn signal(&self) {
        // Can only fail at 2^64 - 2 unread signals, and then the sleeper is awake anyway.
        let _ = (&self.0).write(&1u64.to_ne_bytes());
    }

    /// Sleeps until a signal or for `timeout` (for ever without one). True when a signal came; it stays.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> bool {
        let mut poll = libc::pollfd { fd: self.fd(), events: libc::POLLIN, revents: 0 };
        let timeout = timeout.map(|timeout| libc::timespec {
            tv_sec: timeout.as_secs().min(i64::MAX as u64).cast_signed(),
            tv_nsec: i64::from(timeout.subsec_nanos()),
        });
        let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
        // SAFETY: both pointers are to locals that outlive the call, and one pollfd is announced.
        let ready = unsafe { libc::ppoll(&raw mut poll, 1, timeout, ptr::null()) };
        ready > 0
    }

    /// Forgets the signals so far, without ever blocking.
    pub(crate) fn drain(&self) {
        let mut counter = 0u64;
        let vector = libc::iovec { iov_base: (&raw mut counter).cast(), iov_len: size_of::<u64>() };
        // Fails with EAGAIN when there is nothing, which is as good.
        // SAFETY: the vector describes `counter`, which outlives the call.
        unsafe { libc::preadv2(self.fd(), &raw const vector, 1, -1, libc::RWF_NOWAIT) };
    }
}
