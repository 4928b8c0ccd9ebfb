//! A small `io_uring` of one thread: what [`Readiness`](crate::Readiness) and the multishot receive path share.

use std::io;
use std::marker::PhantomData;
use std::os::fd::RawFd;

use io_uring::types::{CancelBuilder, Fd, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};

use crate::buffer_ring::BufferRing;

/// The user data of operations whose completion nobody waits for.
const NOBODY: u64 = u64::MAX;

/// An `io_uring` that only the thread that made it uses, and that is entered only when there is a reason.
pub(crate) struct Uring {
    ring: IoUring,
    /// The kernel refuses every other thread.
    _not_send: PhantomData<*const ()>,
}

/// What the kernel says of an operation.
#[derive(Clone, Copy)]
pub(crate) struct Completion {
    /// The operation's name, as it was given.
    pub(crate) user_data: u64,
    /// A count, or a negated error number.
    pub(crate) result: i32,
    /// The provided buffer that was used.
    pub(crate) buffer: Option<u16>,
    /// Whether the same operation will complete again.
    pub(crate) more: bool,
}

impl Uring {
    /// A ring with room for `entries` operations between two submissions.
    ///
    /// # Errors
    /// The kernel has no `io_uring`, or not for this process.
    pub(crate) fn new(entries: u32) -> io::Result<Uring> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            // Tells in shared memory that completions wait, so that looking costs no system call.
            .setup_taskrun_flag()
            .setup_clamp()
            .build(entries)
            .map_err(explain)?;
        Ok(Uring { ring, _not_send: PhantomData })
    }

    /// Whether a completion waits. Reads shared memory only.
    pub(crate) fn is_pending(&mut self) -> bool {
        if !self.ring.completion().is_empty() {
            return true;
        }
        let submission = self.ring.submission();
        submission.taskrun() || submission.cq_overflow()
    }

    /// Whether operations wait to be submitted.
    pub(crate) fn has_unsubmitted(&mut self) -> bool {
        !self.ring.submission().is_empty()
    }

    /// Submits what was queued and lets the kernel post what is complete.
    pub(crate) fn enter(&self) -> io::Result<()> {
        match self.ring.submit() {
            Ok(_) => Ok(()),
            // Interrupted, or the kernel is short of something: the next turn enters again.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::EBUSY)) => {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Takes the next completion.
    pub(crate) fn complete(&mut self) -> Option<Completion> {
        loop {
            let entry = self.ring.completion().next()?;
            if entry.user_data() != NOBODY {
                return Some(Completion {
                    user_data: entry.user_data(),
                    result: entry.result(),
                    buffer: cqueue::buffer_select(entry.flags()),
                    more: cqueue::more(entry.flags()),
                });
            }
        }
    }

    /// Queues a one-shot wait for `events` of a descriptor.
    pub(crate) fn poll_add(&mut self, fd: RawFd, events: i16, user_data: u64) -> io::Result<()> {
        let entry =
            opcode::PollAdd::new(Fd(fd), u32::from(events.cast_unsigned())).build().user_data(user_data);
        // SAFETY: the operation refers to no memory.
        unsafe { self.push(&entry) }
    }

    /// Queues the end of a wait.
    pub(crate) fn poll_remove(&mut self, user_data: u64) -> io::Result<()> {
        let entry = opcode::PollRemove::new(user_data).build().user_data(NOBODY);
        // SAFETY: the operation refers to no memory.
        unsafe { self.push(&entry) }
    }

    /// Queues the end of any operation.
    pub(crate) fn cancel(&mut self, user_data: u64) -> io::Result<()> {
        let entry = opcode::AsyncCancel::new(user_data).build().user_data(NOBODY);
        // SAFETY: the operation refers to no memory.
        unsafe { self.push(&entry) }
    }

    /// Queues receiving from a socket, for as long as it lasts, into the buffers of a registered ring.
    pub(crate) fn receive_multishot(
        &mut self,
        fd: RawFd,
        buffers: &BufferRing,
        user_data: u64,
    ) -> io::Result<()> {
        let entry = opcode::RecvMulti::new(Fd(fd), buffers.group()).build().user_data(user_data);
        // SAFETY: the kernel writes to buffers of the ring only, which owns them until it is unregistered.
        unsafe { self.push(&entry) }
    }

    /// Lets the kernel take buffers from `buffers`.
    pub(crate) fn register_buffers(&self, buffers: &BufferRing) -> io::Result<()> {
        let submitter = self.ring.submitter();
        let (address, entries, group) = (buffers.address(), buffers.entries(), buffers.group());
        // SAFETY: the entries are page-aligned, initialised, and stay until they are unregistered.
        unsafe { submitter.register_buf_ring_with_flags(address, entries, group, 0) }
    }

    /// Ends every operation and takes the buffers back; when it returns the kernel writes to none.
    pub(crate) fn unregister_buffers(&self, buffers: &BufferRing) {
        let submitter = self.ring.submitter();
        // Fails when there is nothing to cancel.
        let _ = submitter.register_sync_cancel(Some(Timespec::new().sec(1)), CancelBuilder::any());
        let _ = submitter.unregister_buf_ring(buffers.group());
    }

    /// Signals `eventfd` at every completion from now on.
    pub(crate) fn register_wake(&self, eventfd: RawFd) -> io::Result<()> {
        let _ = self.ring.submitter().unregister_eventfd();
        self.ring.submitter().register_eventfd(eventfd)
    }

    /// # Safety
    /// Memory that the operation refers to outlives it.
    unsafe fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        if self.ring.submission().is_full() {
            self.enter()?;
        }
        let mut submission = self.ring.submission();
        // SAFETY: the caller keeps the memory.
        let pushed = unsafe { submission.push(entry) };
        pushed.map_err(|_| io::Error::from(io::ErrorKind::WouldBlock))
    }
}

/// Says what a person can do about a kernel that gives no ring.
fn explain(error: io::Error) -> io::Error {
    let advice = match error.raw_os_error() {
        Some(libc::ENOSYS) => "this kernel has no io_uring; 6.1 or later is needed",
        Some(libc::EPERM) => {
            "io_uring is forbidden here: see /proc/sys/kernel/io_uring_disabled and the container's seccomp profile"
        }
        Some(libc::ENOMEM) => "too little lockable memory for an io_uring: raise `ulimit -l` (memlock)",
        Some(libc::EINVAL) => "this kernel's io_uring lacks DEFER_TASKRUN; 6.1 or later is needed",
        _ => return error,
    };
    io::Error::new(error.kind(), format!("{advice} ({error})"))
}
