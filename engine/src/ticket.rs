//! A ticket: where a client on another thread and the core that serves it meet, once.
//!
//! The command travels in with the ticket and its buffer carries the reply back out, so a core that
//! serves handles allocates nothing unless a reply is larger than its command.

use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};

use annulus_rings::{Slot, Time};

use crate::sync::{Mutex, MutexGuard};
use crate::{Completion, Outcome, Rejected};

/// The client's half.
pub(crate) struct Ticket(Arc<Shared>);

/// The core's half: completes the ticket once. Dropped without that, the outcome is unknown.
pub(crate) struct Promise(Arc<Shared>);

/// The command of a promise, lent to the core; its buffer goes back when this is dropped.
pub(crate) struct Command {
    shared: Arc<Shared>,
    bytes: Vec<u8>,
}

struct Shared {
    submitted: Time,
    command_bytes: usize,
    state: Mutex<State>,
}

struct State {
    stage: Stage,
    buffer: Vec<u8>,
    waker: Option<Waker>,
}

enum Stage {
    Pending,
    Committed(Slot),
    Rejected(Rejected),
    Unknown,
    Taken,
}

/// A ticket for `command`, submitted at a time of the core's clock.
pub(crate) fn issue(command: Vec<u8>, submitted: Time) -> (Ticket, Promise) {
    let command_bytes = command.len();
    let state = State { stage: Stage::Pending, buffer: command, waker: None };
    let shared = Arc::new(Shared { submitted, command_bytes, state: Mutex::new(state) });
    (Ticket(Arc::clone(&shared)), Promise(shared))
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// The outcome, when there is one; it is given out once.
    pub(crate) fn take(&self) -> Option<Outcome> {
        self.0.lock().take()
    }

    /// The outcome, or the promise to wake the caller's task when there is one.
    pub(crate) fn poll(&self, context: &Context<'_>) -> Poll<Outcome> {
        let mut state = self.0.lock();
        if let Some(outcome) = state.take() {
            return Poll::Ready(outcome);
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

impl State {
    fn take(&mut self) -> Option<Outcome> {
        if matches!(self.stage, Stage::Pending | Stage::Taken) {
            return None;
        }
        match std::mem::replace(&mut self.stage, Stage::Taken) {
            Stage::Committed(slot) => {
                Some(Outcome::Committed { slot, reply: std::mem::take(&mut self.buffer) })
            }
            Stage::Rejected(why) => Some(Outcome::Rejected(why)),
            Stage::Unknown | Stage::Pending | Stage::Taken => Some(Outcome::Unknown),
        }
    }
}

impl Promise {
    /// When the client submitted the command.
    pub(crate) fn submitted(&self) -> Time {
        self.0.submitted
    }

    /// The size of the command.
    pub(crate) fn command_bytes(&self) -> usize {
        self.0.command_bytes
    }

    /// The command.
    pub(crate) fn command(&self) -> Command {
        let bytes = std::mem::take(&mut self.0.lock().buffer);
        Command { shared: Arc::clone(&self.0), bytes }
    }

    /// Ends the proposal.
    pub(crate) fn complete(self, completion: Completion<'_>) {
        self.finish(completion);
    }

    fn finish(&self, completion: Completion<'_>) {
        let mut state = self.0.lock();
        if !matches!(state.stage, Stage::Pending) {
            return;
        }
        state.stage = match completion {
            Completion::Committed { slot, reply } => {
                state.buffer.clear();
                state.buffer.extend_from_slice(reply);
                Stage::Committed(slot)
            }
            Completion::Rejected(why) => Stage::Rejected(why),
            Completion::Unknown => Stage::Unknown,
        };
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl std::ops::Deref for Command {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Command {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if matches!(state.stage, Stage::Pending) {
            state.buffer = std::mem::take(&mut self.bytes);
        }
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.finish(Completion::Unknown);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_is_given_out_once() {
        let (ticket, promise) = issue(b"command".to_vec(), Time(1));
        assert_eq!(ticket.take(), None);
        promise.complete(Completion::Committed { slot: Slot(3), reply: b"ok" });
        assert_eq!(ticket.take(), Some(Outcome::Committed { slot: Slot(3), reply: b"ok".to_vec() }));
        assert_eq!(ticket.take(), None);
    }

    #[test]
    fn a_promise_that_is_dropped_leaves_the_outcome_unknown() {
        let (ticket, promise) = issue(Vec::new(), Time(1));
        drop(promise);
        assert_eq!(ticket.take(), Some(Outcome::Unknown));
    }
}
