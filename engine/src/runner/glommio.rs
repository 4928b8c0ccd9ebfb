//! The glommio runner: an executor per core, whose one hot task takes the turns. No other module knows
//! glommio.
//!
//! Three facts about glommio 0.9 shape this file:
//! - When its preempt timer fires between two of its own steps, the executor parks although the hot task is
//!   runnable. So that timer is set far beyond any pause of a thread. The hot task yields by itself; tasks
//!   beside it run whenever it parks.
//! - A task that always yields makes the executor look at its own I/O only when that timer fires. So nothing
//!   of a turn depends on the executor's I/O, and parking is the one thing that awaits it.
//! - Task headers are never freed. So nothing is spawned per turn or per park.
#![allow(unsafe_code)]

use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, IntoRawFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::thread;
use std::time::Duration;

use glommio::io::BufferedFile;
use glommio::timer::Timer;
use glommio::{LocalExecutorBuilder, Placement};

use super::Turner;
use crate::core_thread::Seat;
use crate::idle::Next;
use crate::vitals::End;

/// Far beyond any pause of a thread, and short enough that a task beside a core that is never idle runs.
const PREEMPT_TIMER: Duration = Duration::from_secs(10);
/// The least that glommio takes: the engine does its I/O elsewhere.
const IO_MEMORY_BYTES: usize = 64 << 10;
const RING_DEPTH: usize = 16;

/// Makes an executor on this thread and takes turns in it until the core ends.
pub(super) fn run(seat: Seat, turner: Turner<'_>) -> io::Result<End> {
    let placement = seat.cpu.map_or(Placement::Unbound, Placement::Fixed);
    let executor = LocalExecutorBuilder::new(placement)
        .name(&format!("core-{}", seat.core))
        .io_memory(IO_MEMORY_BYTES)
        .ring_depth(RING_DEPTH)
        .preempt_timer(PREEMPT_TIMER)
        .make()
        .map_err(|error| io::Error::other(format!("glommio: {error}")))?;
    let eventfd = duplicate(turner.wake.fd())?;
    Ok(executor.run(hot_task(turner, eventfd)))
}

/// Takes turns until the core ends.
async fn hot_task(mut turner: Turner<'_>, eventfd: RawFd) -> End {
    let mut sleeper = Sleeper::new(eventfd);
    loop {
        let next = match turner.turn() {
            Ok(next) => next,
            Err(end) => return end,
        };
        match next {
            Next::Turn => glommio::executor().yield_now().await,
            Next::Yield => {
                thread::yield_now();
                glommio::executor().yield_now().await;
            }
            Next::Park => match turner.prepare_park() {
                Ok(None) => {}
                Ok(Some(timeout)) => {
                    sleeper.sleep(timeout).await;
                    turner.resumed();
                }
                Err(end) => return end,
            },
        }
    }
}

/// Awaits the eventfd or a timeout.
struct Sleeper {
    eventfd: Rc<BufferedFile>,
    /// The read under way. It outlives the sleep that began it: a cancelled read could swallow the signal
    /// meant for the next one. One that ends between two sleeps only makes the next sleep short.
    read: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl Sleeper {
    fn new(eventfd: RawFd) -> Sleeper {
        // SAFETY: the descriptor was duplicated for this file alone, which closes it.
        let file = unsafe { BufferedFile::from_raw_fd(eventfd) };
        Sleeper { eventfd: Rc::new(file), read: None }
    }

    async fn sleep(&mut self, timeout: Duration) {
        let eventfd = &self.eventfd;
        let read = self.read.get_or_insert_with(|| Box::pin(read_signal(Rc::clone(eventfd))));
        let mut timer = Timer::new(timeout);
        let was_signalled = poll_fn(|context| {
            if read.as_mut().poll(context).is_ready() {
                return Poll::Ready(true);
            }
            Pin::new(&mut timer).poll(context).map(|_| false)
        });
        if was_signalled.await {
            self.read = None;
        }
    }
}

async fn read_signal(eventfd: Rc<BufferedFile>) {
    // Whatever the outcome, the core takes a turn and looks for itself.
    let _ = eventfd.read_at(0, size_of::<u64>()).await;
}

fn duplicate(fd: RawFd) -> io::Result<RawFd> {
    // SAFETY: the descriptor belongs to the core's `Wake`, which outlives the runner.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    Ok(borrowed.try_clone_to_owned()?.into_raw_fd())
}
