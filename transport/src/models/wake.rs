//! A parked core never misses a wake-up.

use std::sync::Arc;

use super::{explore, park_until};
use crate::sync::{AtomicU64, Ordering, thread};
use crate::wake::{Doorbell, Wake};

/// The work is published by relaxed stores: the handshake alone makes it visible.
#[test]
fn what_is_published_before_a_notification_is_seen_or_wakes() {
    explore("wake: one waker, two items", 3, || {
        let wake = Wake::new().unwrap();
        let published = Arc::new(AtomicU64::new(0));
        let waker = {
            let (waker, published) = (wake.waker(), Arc::clone(&published));
            thread::spawn(move || {
                for item in 1..=2 {
                    published.store(item, Ordering::Relaxed);
                    waker.notify();
                }
            })
        };
        for item in 1..=2 {
            park_until(&wake, || published.load(Ordering::Relaxed) >= item);
        }
        waker.join().unwrap();
    });
}

#[test]
fn one_of_two_wakers_signals_for_both() {
    explore("wake: two wakers", 3, || {
        let wake = Wake::new().unwrap();
        let published = Arc::new(AtomicU64::new(0));
        let wakers = [1, 2].map(|_| {
            let (waker, published) = (wake.waker(), Arc::clone(&published));
            thread::spawn(move || {
                published.fetch_add(1, Ordering::Relaxed);
                waker.notify();
            })
        });
        park_until(&wake, || published.load(Ordering::Relaxed) == 2);
        wakers.into_iter().for_each(|waker| waker.join().unwrap());
    });
}

/// A network's bell beside the mailbox's: both ring one eventfd, and the core arms them one after the other.
#[test]
fn a_second_bell_on_the_eventfd_loses_nothing_to_the_first() {
    explore("wake: a bell and a second one", 3, || {
        let wake = Wake::new().unwrap();
        let bell = Arc::new(Doorbell::new());
        bell.connect(wake.fd()).unwrap();
        let letters = Arc::new(AtomicU64::new(0));
        let frames = Arc::new(AtomicU64::new(0));
        let poster = {
            let (waker, letters) = (wake.waker(), Arc::clone(&letters));
            thread::spawn(move || {
                letters.store(1, Ordering::Relaxed);
                waker.notify();
            })
        };
        let sender = {
            let (bell, frames) = (Arc::clone(&bell), Arc::clone(&frames));
            thread::spawn(move || {
                frames.store(1, Ordering::Relaxed);
                bell.ring();
            })
        };
        park_until(&wake, || {
            bell.disarm();
            bell.arm();
            letters.load(Ordering::Relaxed) + frames.load(Ordering::Relaxed) == 2
        });
        poster.join().unwrap();
        sender.join().unwrap();
    });
}
