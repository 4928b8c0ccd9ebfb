//! A thread beside the core for what would block it: making segments, reading old ones.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::wake::WakeFd;

/// What the helper's work may look at while it runs.
#[derive(Clone, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Whether the disk is being closed: give up.
    pub(crate) fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A thread that does jobs in order. Dropping it waits for the job at hand, so that nothing touches the
/// directory after its lock is released.
pub(crate) struct Helper<Job, Done> {
    jobs: Option<Sender<Job>>,
    done: Receiver<Done>,
    /// Jobs that were given and not collected.
    pending: usize,
    stop: Stop,
    thread: Option<JoinHandle<()>>,
}

impl<Job: Send + 'static, Done: Send + 'static> Helper<Job, Done> {
    /// Starts the thread.
    pub(crate) fn spawn(
        name: &str,
        wake: WakeFd,
        mut work: impl FnMut(Job, &Stop) -> Done + Send + 'static,
    ) -> io::Result<Helper<Job, Done>> {
        let (jobs, given) = channel::<Job>();
        let (finished, done) = channel();
        let stop = Stop::default();
        let asked = stop.clone();
        let body = move || {
            leave_the_core();
            let last_words = LastWords(wake);
            // Gone before the last words are heard, however this thread ends.
            let finished = finished;
            for job in given {
                if asked.is_asked() || finished.send(work(job, &asked)).is_err() {
                    return;
                }
                last_words.0.signal();
            }
        };
        let thread = std::thread::Builder::new().name(name.into()).spawn(body)?;
        Ok(Helper { jobs: Some(jobs), done, pending: 0, stop, thread: Some(thread) })
    }

    /// Gives it a job.
    pub(crate) fn give(&mut self, job: Job) {
        let jobs = self.jobs.as_ref().expect("only drop takes the sender");
        // A helper that is gone answers at `collect`.
        let _ = jobs.send(job);
        self.pending += 1;
    }

    /// What it has done, if anything. Costs nothing while no job is pending.
    pub(crate) fn collect(&mut self) -> io::Result<Option<Done>> {
        if self.pending == 0 {
            return Ok(None);
        }
        match self.done.try_recv() {
            Ok(done) => {
                self.pending -= 1;
                Ok(Some(done))
            }
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(io::Error::other("a helper thread of the disk died")),
        }
    }
}

/// Wakes the core when its helper dies, or it would sleep on beside a job that nobody does.
struct LastWords(WakeFd);

impl Drop for LastWords {
    fn drop(&mut self) {
        self.0.signal();
    }
}

impl<Job, Done> Drop for Helper<Job, Done> {
    fn drop(&mut self) {
        self.stop.0.store(true, Ordering::Relaxed);
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported by its own hook; there is nothing left to do for it.
            let _ = thread.join();
        }
    }
}

/// Sleeps, but not when the disk is being closed.
pub(crate) fn pause(duration: Duration, stop: &Stop) {
    let begin = Instant::now();
    while begin.elapsed() < duration && !stop.is_asked() {
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A thread starts on the CPUs of the one that made it. A helper must not compete with the pinned core
/// that it works for, so it takes every CPU that the process may use.
fn leave_the_core() {
    // SAFETY: a CPU set is plain bits, and all ones is a value of it.
    let everywhere: libc::cpu_set_t = unsafe { std::mem::transmute([0xffu8; size_of::<libc::cpu_set_t>()]) };
    // SAFETY: the set is valid for reads of its size. A refusal leaves the affinity as it was.
    unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const everywhere) };
}

// Not under Miri: a thread cannot be moved to other CPUs there.
#[cfg(all(test, not(miri)))]
mod tests {
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

    use super::*;

    #[test]
    fn a_helper_that_dies_wakes_its_core_and_is_reported() {
        // SAFETY: eventfd takes no pointers.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        // SAFETY: the descriptor was just made and nobody else owns it.
        let mut eventfd = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
        let wake = WakeFd::default();
        wake.set(eventfd.as_raw_fd()).unwrap();
        let mut helper = Helper::spawn("doomed", wake, |(), _: &Stop| panic!("on purpose")).unwrap();
        helper.give(());
        eventfd.read_exact(&mut [0; 8]).unwrap();
        let done: io::Result<Option<()>> = helper.collect();
        assert!(done.is_err(), "the core is told what it waits for in vain");
    }
}
