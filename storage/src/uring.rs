//! The core's own `io_uring` for writes: `SINGLE_ISSUER` and `DEFER_TASKRUN`, so that the kernel does its
//! part inside this thread's calls, and `TASKRUN_FLAG`, so that a poll with nothing to do is one load.
//!
//! What makes this sound: an operation's buffer and file are owned by `operations` from the push until
//! the completion is reaped, and dropping the ring waits for the device first.

use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd as _, RawFd};
use std::rc::Rc;

use io_uring::{IoUring, cqueue, opcode, squeue, types};

use crate::block::SECTOR_BYTES;
use crate::buffer::AlignedBuffer;
use crate::options::SyncMode;

/// Operations at once: writes in flight are at most 8.
const ENTRIES: u32 = 16;

/// A durable write that ended.
pub(crate) struct Written {
    pub(crate) token: u64,
    pub(crate) buffer: AlignedBuffer,
    pub(crate) result: io::Result<()>,
}

/// Durable writes in flight.
pub(crate) struct Uring {
    ring: IoUring,
    operations: Vec<Option<Operation>>,
    in_flight: usize,
    queued: bool,
    sync: SyncMode,
    /// The ring belongs to the thread that made it.
    not_send: PhantomData<*const ()>,
}

struct Operation {
    token: u64,
    buffer: AlignedBuffer,
    file: Rc<File>,
    offset: u64,
    bytes: usize,
    written: usize,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Writing,
    Syncing,
}

impl Uring {
    /// A ring for the calling thread.
    pub(crate) fn new(sync: SyncMode) -> io::Result<Uring> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .build(ENTRIES)?;
        let operations = (0..ENTRIES).map(|_| None).collect();
        Ok(Uring { ring, operations, in_flight: 0, queued: false, sync, not_send: PhantomData })
    }

    /// Pins the buffers with the kernel, so that writing from them maps no page. They count against
    /// memlock of the user; without registration everything works, a little slower.
    pub(crate) fn register_buffers(&mut self, buffers: &mut [AlignedBuffer]) -> io::Result<()> {
        let vector = |buffer: &mut AlignedBuffer| libc::iovec {
            iov_base: buffer.as_mut_ptr().cast(),
            iov_len: buffer.len(),
        };
        let vectors: Vec<libc::iovec> = buffers.iter_mut().map(vector).collect();
        // SAFETY: the vectors name live memory. The kernel pins its pages, and uses them only for
        // operations that name the index given here, which only these buffers carry.
        unsafe { self.ring.submitter().register_buffers(&vectors) }?;
        for (index, buffer) in buffers.iter_mut().enumerate() {
            buffer.registered = u16::try_from(index).ok();
        }
        Ok(())
    }

    /// Holds the directory's lock until the kernel is done with this ring's writes. When the process is
    /// killed, a write under way may still land after the process is gone: nobody may recover the directory
    /// before that, or the write could land on top of what was written since.
    pub(crate) fn hold(&mut self, lock: &File) -> io::Result<()> {
        self.ring.submitter().register_files(&[lock.as_raw_fd()])
    }

    /// Signals `eventfd` at every completion.
    pub(crate) fn register_wake(&mut self, eventfd: RawFd) -> io::Result<()> {
        let submitter = self.ring.submitter();
        // Only one can be registered; there may be none yet.
        let _ = submitter.unregister_eventfd();
        submitter.register_eventfd(eventfd)
    }

    /// Queues a durable write of the first `bytes` of `buffer`.
    pub(crate) fn write(
        &mut self,
        token: u64,
        file: Rc<File>,
        offset: u64,
        buffer: AlignedBuffer,
        bytes: usize,
    ) {
        let stage = Stage::Writing;
        let operation = Operation { token, buffer, file, offset, bytes, written: 0, stage };
        let index = self.operations.iter().position(Option::is_none).expect("fewer writes than entries");
        self.operations[index] = Some(operation);
        self.in_flight += 1;
        self.push(index);
    }

    /// Whether nothing is in flight.
    pub(crate) fn is_idle(&self) -> bool {
        self.in_flight == 0
    }

    /// Hands what is queued to the kernel.
    pub(crate) fn submit(&mut self) -> io::Result<()> {
        if !self.queued {
            return Ok(());
        }
        match self.ring.submit() {
            Ok(_) => self.queued = !self.ring.submission().is_empty(),
            // The kernel is short of something for now: the next poll tries again.
            Err(error) if is_transient(&error) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Reaps what has completed.
    pub(crate) fn poll(&mut self, mut each: impl FnMut(Written)) -> io::Result<()> {
        if self.in_flight == 0 {
            return Ok(());
        }
        if self.queued || self.ring.submission().taskrun() {
            self.enter(0)?;
        }
        self.reap(&mut each);
        self.submit()
    }

    /// Waits for at least one completion.
    pub(crate) fn wait(&mut self) -> io::Result<()> {
        if self.in_flight > 0 && self.ring.completion().is_empty() {
            self.enter(1)?;
        }
        Ok(())
    }

    fn enter(&mut self, want: usize) -> io::Result<()> {
        match self.ring.submit_and_wait(want) {
            Ok(_) => self.queued = !self.ring.submission().is_empty(),
            Err(error) if is_transient(&error) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn reap(&mut self, each: &mut impl FnMut(Written)) {
        while let Some(entry) = self.next_entry() {
            let index = entry.user_data() as usize;
            let operation = self.operations[index].as_mut().expect("a completion has its operation");
            match operation.advance(entry.result(), self.sync) {
                None => self.push(index),
                Some(result) => {
                    let Operation { token, buffer, .. } =
                        self.operations[index].take().expect("it was there a line above");
                    self.in_flight -= 1;
                    each(Written { token, buffer, result });
                }
            }
        }
    }

    fn next_entry(&mut self) -> Option<cqueue::Entry> {
        self.ring.completion().next()
    }

    /// Queues the next step of an operation.
    fn push(&mut self, index: usize) {
        let operation = self.operations[index].as_ref().expect("the caller put it there");
        let entry = operation.entry(self.sync).user_data(index as u64);
        // SAFETY: the buffer and the file that the entry names are owned by `operations[index]` until
        // the entry's completion is reaped; a buffer's memory does not move with it.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        pushed.expect("the queue has as many entries as there are operations");
        self.queued = true;
    }
}

impl Operation {
    /// Takes the result of a step. `None`: there is another step. A write cut short goes on where it
    /// ended; after a sync began nothing is ever written or synced again.
    fn advance(&mut self, answer: i32, sync: SyncMode) -> Option<io::Result<()>> {
        let Ok(bytes) = usize::try_from(answer) else {
            return Some(Err(io::Error::from_raw_os_error(-answer)));
        };
        if self.stage == Stage::Syncing {
            return Some(Ok(()));
        }
        if bytes == 0 || !bytes.is_multiple_of(SECTOR_BYTES) {
            return Some(Err(io::Error::new(io::ErrorKind::WriteZero, "the device cut a write short")));
        }
        self.written += bytes;
        if self.written < self.bytes {
            return None;
        }
        if sync == SyncMode::Fdatasync {
            self.stage = Stage::Syncing;
            return None;
        }
        Some(Ok(()))
    }

    fn entry(&self, sync: SyncMode) -> squeue::Entry {
        let file = types::Fd(self.file.as_raw_fd());
        if self.stage == Stage::Syncing {
            return opcode::Fsync::new(file).flags(types::FsyncFlags::DATASYNC).build();
        }
        let rest = &self.buffer[self.written..self.bytes];
        let offset = self.offset + self.written as u64;
        let flags = if sync == SyncMode::Dsync { libc::RWF_DSYNC } else { 0 };
        match self.buffer.registered {
            Some(registered) => opcode::WriteFixed::new(file, rest.as_ptr(), rest.len() as u32, registered)
                .offset(offset)
                .rw_flags(flags)
                .build(),
            None => opcode::Write::new(file, rest.as_ptr(), rest.len() as u32)
                .offset(offset)
                .rw_flags(flags)
                .build(),
        }
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        while self.in_flight > 0 {
            if self.poll(drop).and_then(|()| self.wait()).is_err() {
                // The kernel may still read the buffers: they must never be freed.
                std::mem::forget(std::mem::take(&mut self.operations));
                return;
            }
        }
        // Nothing is under way: the lock goes now, not whenever the kernel takes the ring down.
        let _ = self.ring.submitter().unregister_files();
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::EBUSY))
}

// Not under Miri: it has no io_uring.
#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;

    fn operation(bytes: usize) -> Operation {
        let file = Rc::new(tempfile::tempfile().unwrap());
        let stage = Stage::Writing;
        Operation {
            token: 1,
            buffer: AlignedBuffer::new(bytes),
            file,
            offset: 4096,
            bytes,
            written: 0,
            stage,
        }
    }

    #[test]
    fn a_write_cut_short_goes_on_where_it_ended() {
        let mut operation = operation(8192);
        assert!(operation.advance(4608, SyncMode::Dsync).is_none());
        assert_eq!(operation.written, 4608);
        assert!(operation.advance(3584, SyncMode::Dsync).unwrap().is_ok());
    }

    #[test]
    fn a_write_cut_inside_a_sector_or_to_nothing_fails() {
        for answer in [0, 100] {
            assert!(operation(8192).advance(answer, SyncMode::Dsync).unwrap().is_err());
        }
    }

    #[test]
    fn fdatasync_starts_when_the_whole_write_has_completed() {
        let mut operation = operation(8192);
        assert!(operation.advance(4096, SyncMode::Fdatasync).is_none());
        assert_eq!(operation.stage, Stage::Writing, "an early sync would not cover the rest");
        assert!(operation.advance(4096, SyncMode::Fdatasync).is_none());
        assert_eq!(operation.stage, Stage::Syncing);
        assert!(operation.advance(0, SyncMode::Fdatasync).unwrap().is_ok());
    }

    #[test]
    fn a_failed_sync_is_final() {
        let mut operation = operation(4096);
        assert!(operation.advance(4096, SyncMode::Fdatasync).is_none());
        let error = operation.advance(-libc::EIO, SyncMode::Fdatasync).unwrap().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EIO));
    }

    #[test]
    fn a_write_that_the_device_refuses_comes_back_with_its_buffer_and_the_cause() {
        let mut ring = Uring::new(SyncMode::Dsync).unwrap();
        let read_only = Rc::new(File::open("/dev/null").unwrap());
        ring.write(7, read_only, 0, AlignedBuffer::new(4096), 4096);
        let mut written = Vec::new();
        while written.is_empty() {
            ring.wait().unwrap();
            ring.poll(|write| written.push(write)).unwrap();
        }
        assert_eq!((written[0].token, written[0].buffer.len()), (7, 4096));
        assert!(written[0].result.is_err() && ring.is_idle());
    }
}
