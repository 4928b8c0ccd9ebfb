//! What a client on another thread holds while its command is on its way.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use crate::sync::{Thread, current, park, park_timeout};
use crate::ticket::Ticket;
use crate::{Outcome, Rejected};

/// A command on its way. Wait for it, poll it, or await it, in any runtime or none.
///
/// Dropping it only means that nobody looks at the outcome: the command goes on.
#[must_use = "the command is under way, but whether it was committed is only known from its outcome"]
pub struct Proposal(pub(crate) Ticket);

/// A query on its way to the core that owns the state.
#[must_use = "the answer is only known to who waits for it"]
pub struct Query(pub(crate) Ticket);

impl Proposal {
    /// Blocks until the outcome is known.
    pub fn wait(self) -> Outcome {
        block_on(&self.0, None).expect("without a deadline there is an outcome")
    }

    /// Blocks until the outcome is known, `timeout` at the most. `None`: not known yet, ask again.
    pub fn wait_timeout(&mut self, timeout: Duration) -> Option<Outcome> {
        block_on(&self.0, Some(Instant::now() + timeout))
    }

    /// The outcome when it is known, without blocking. It is given out once.
    pub fn poll_outcome(&mut self) -> Option<Outcome> {
        self.0.take()
    }
}

impl Future for Proposal {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        self.0.poll(context)
    }
}

impl Query {
    /// Blocks until there is an answer.
    ///
    /// # Errors
    /// The core has no such ring, or is shutting down.
    pub fn wait(self) -> Result<Vec<u8>, Rejected> {
        answer(block_on(&self.0, None).expect("without a deadline there is an outcome"))
    }
}

impl Future for Query {
    type Output = Result<Vec<u8>, Rejected>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll(context).map(answer)
    }
}

fn answer(outcome: Outcome) -> Result<Vec<u8>, Rejected> {
    match outcome {
        Outcome::Committed { reply, .. } => Ok(reply),
        Outcome::Rejected(why) => Err(why),
        Outcome::Unknown => Err(Rejected::ShuttingDown),
    }
}

/// Wakes a thread that waits in [`block_on`].
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on(ticket: &Ticket, deadline: Option<Instant>) -> Option<Outcome> {
    let waker = Waker::from(Arc::new(Unpark(current())));
    let context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(outcome) = ticket.poll(&context) {
            return Some(outcome);
        }
        let Some(deadline) = deadline else {
            park();
            continue;
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        park_timeout(left);
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use annulus_rings::{Slot, Time};

    use super::*;
    use crate::{Completion, ticket};

    #[test]
    fn a_blocked_thread_is_woken_by_the_completion() {
        let (ticket, promise) = ticket::issue(Vec::new(), Time(0));
        let waiting = thread::spawn(move || Proposal(ticket).wait());
        thread::sleep(Duration::from_millis(5));
        promise.complete(Completion::Committed { slot: Slot(1), reply: b"" });
        assert!(matches!(waiting.join().unwrap(), Outcome::Committed { slot: Slot(1), .. }));
    }

    #[test]
    fn a_timeout_leaves_the_proposal_under_way() {
        let (ticket, promise) = ticket::issue(Vec::new(), Time(0));
        let mut proposal = Proposal(ticket);
        assert_eq!(proposal.wait_timeout(Duration::from_millis(1)), None);
        promise.complete(Completion::Unknown);
        assert_eq!(proposal.poll_outcome(), Some(Outcome::Unknown));
    }
}
