//! A letter wakes the core that it is for, is paid for once, and is answered even by a core that ends.

use std::sync::Arc;

use annulus_rings::{RingId, Time};
use annulus_transport::Wake;

use super::{explore, thread};
use crate::mailbox::{Letter, MailboxReceiver, mailbox};
use crate::status::StatusCell;
use crate::{Completion, Outcome, Rejected, RingHandle, ticket};

const RING: RingId = RingId(1);

fn letter(bytes: usize) -> Letter {
    Letter::Query { ring: RING, promise: ticket::issue(vec![7; bytes], Time(0)).1 }
}

/// Takes the next letter, sleeping as a core does when there is none.
fn take(letters: &MailboxReceiver, wake: &Wake) -> Letter {
    loop {
        wake.prepare();
        if let Some(letter) = letters.take() {
            wake.resume();
            return letter;
        }
        if letters.is_empty() {
            wake.wait(None);
        } else {
            wake.resume();
        }
    }
}

#[test]
fn a_letter_wakes_a_core_that_parks() {
    explore("mailbox: two letters to a core that parks", 3, || {
        let wake = Wake::new().unwrap();
        let (mailbox, letters) = mailbox(8, wake.waker());
        let client = thread::spawn(move || {
            assert!(mailbox.post(1, letter(1)).is_ok());
            assert!(mailbox.post_surely(Letter::Stop).is_ok());
        });
        assert!(matches!(take(&letters, &wake), Letter::Query { .. }));
        assert!(matches!(take(&letters, &wake), Letter::Stop));
        client.join().unwrap();
    });
}

#[test]
fn two_clients_cannot_overdraw_the_byte_budget() {
    explore("mailbox: two clients and a budget for one", 3, || {
        let wake = Wake::new().unwrap();
        let (mailbox, letters) = mailbox(4, wake.waker());
        let other = mailbox.clone();
        let client = thread::spawn(move || other.post(3, letter(3)).is_ok());
        let posted = [mailbox.post(3, letter(3)).is_ok(), client.join().unwrap()];
        assert_eq!(posted.into_iter().filter(|posted| *posted).count(), 1, "one fits, and one does");
        while letters.take().is_some() {}
        assert!(mailbox.post(4, letter(4)).is_ok(), "the whole budget is back");
    });
}

#[test]
fn what_is_taken_gives_its_bytes_back() {
    explore("mailbox: a client posts while the core takes", 3, || {
        let wake = Wake::new().unwrap();
        let (mailbox, letters) = mailbox(4, wake.waker());
        let core = thread::spawn(move || {
            let taken = (0..2).filter(|_| letters.take().is_some()).count();
            (letters, taken)
        });
        let posted = (0..2).filter(|_| mailbox.post(3, letter(3)).is_ok()).count();
        let (letters, mut taken) = core.join().unwrap();
        while letters.take().is_some() {
            taken += 1;
        }
        assert_eq!(taken, posted);
        assert!(mailbox.post(4, letter(4)).is_ok(), "the whole budget is back");
    });
}

/// The core refuses what waits and is dropped; a letter may come in between, or after that.
#[test]
fn a_client_of_a_core_that_ends_is_answered() {
    explore("mailbox: a client proposes while the core ends", 3, || {
        let wake = Wake::new().unwrap();
        let (mailbox, letters) = mailbox(64, wake.waker());
        let handle = RingHandle::new(RING, mailbox, Arc::new(StatusCell::default()));
        let client = thread::spawn(move || handle.propose(b"x").wait());
        while let Some(letter) = letters.take() {
            if let Letter::Propose { promise, .. } = letter {
                promise.complete(Completion::Rejected(Rejected::ShuttingDown));
            }
        }
        drop(letters);
        let outcome = client.join().unwrap();
        assert!(
            matches!(outcome, Outcome::Rejected(Rejected::ShuttingDown) | Outcome::Unknown),
            "{outcome:?}"
        );
    });
}
