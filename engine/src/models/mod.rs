//! Models: what clients' threads share with a core, played in every interleaving by `./check loom`.
//!
//! A model is the shipped code on the atomics, locks, channels and eventfds of [`crate::sync`]. A client or a
//! core that is never woken is a deadlock there, for no timeout ever ends a sleep. Each model was seen to fail
//! with one step of its code left out or moved.

mod mailbox;
mod status;
mod ticket;

use annulus_transport::sync::{explore, thread};
