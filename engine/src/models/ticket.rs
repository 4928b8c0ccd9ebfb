//! Whoever waits for an outcome gets it, whatever becomes of the core's half.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use annulus_rings::{Slot, Time};

use super::{explore, thread};
use crate::ticket::{Promise, issue};
use crate::{Completion, Outcome, Proposal};

/// Serves a promise as a core does: the command is lent, and the outcome follows.
fn serve(promise: Promise) {
    let command = promise.command();
    assert_eq!(&*command, b"ping");
    drop(command);
    promise.complete(Completion::Committed { slot: Slot(3), reply: b"pong" });
}

#[test]
fn a_client_that_waits_gets_the_outcome() {
    explore("ticket: a client waits, the core completes", 3, || {
        let (ticket, promise) = issue(b"ping".to_vec(), Time(0));
        let core = thread::spawn(move || serve(promise));
        let outcome = Proposal(ticket).wait();
        assert_eq!(outcome, Outcome::Committed { slot: Slot(3), reply: b"pong".to_vec() });
        core.join().unwrap();
    });
}

#[test]
fn a_client_whose_core_dies_hears_unknown() {
    explore("ticket: a client waits, the core drops its half", 3, || {
        let (ticket, promise) = issue(b"ping".to_vec(), Time(0));
        let core = thread::spawn(move || drop((promise.command(), promise)));
        assert_eq!(Proposal(ticket).wait(), Outcome::Unknown);
        core.join().unwrap();
    });
}

#[test]
fn a_client_that_goes_away_disturbs_nobody() {
    explore("ticket: the client drops its half", 3, || {
        let (ticket, promise) = issue(b"ping".to_vec(), Time(0));
        let core = thread::spawn(move || serve(promise));
        let early = Proposal(ticket).poll_outcome();
        assert!(matches!(early, None | Some(Outcome::Committed { .. })));
        core.join().unwrap();
    });
}

struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// An executor polls again with another waker: the outcome is there, or the newest waker is woken.
#[test]
fn a_task_that_is_polled_twice_is_woken_by_its_last_waker() {
    explore("ticket: a task moves to another waker", 3, || {
        let (ticket, promise) = issue(b"ping".to_vec(), Time(0));
        let core = thread::spawn(move || serve(promise));
        let wakers = [1, 2].map(|_| Arc::new(Count(AtomicUsize::new(0))));
        let polls = wakers.each_ref().map(|count| {
            let waker = Waker::from(Arc::clone(count));
            ticket.poll(&Context::from_waker(&waker))
        });
        core.join().unwrap();
        let had_it = polls.iter().any(Poll::is_ready);
        let woken = wakers[1].0.load(Ordering::Relaxed) == 1;
        assert!(had_it || woken, "the task would sleep for ever");
    });
}
