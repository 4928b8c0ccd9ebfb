//! Models: what this crate's threads share, played in every interleaving by `./check loom`.
//!
//! A model is the shipped code on the atomics, locks and eventfds of [`crate::sync`]. A lost wake-up is a deadlock
//! there, for no timeout ever ends a sleep. Three preemptions find what is known to go wrong: each model was
//! seen to fail with one step of its code left out or moved.

mod links;
mod loopback;
mod wake;

use crate::sync::explore;
use crate::wake::Wake;

/// Parks, as a core does, until `is_there` says that what it waits for has come.
fn park_until(wake: &Wake, mut is_there: impl FnMut() -> bool) {
    loop {
        wake.prepare();
        if is_there() {
            wake.resume();
            return;
        }
        wake.wait(None);
    }
}
