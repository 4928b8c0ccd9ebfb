//! A reader of a status sees one that was published.

use std::sync::Arc;

use annulus_rings::{Ballot, Progress, Role, Slot};

use super::{explore, thread};
use crate::RingStatus;
use crate::status::StatusCell;

fn status(number: u64) -> RingStatus {
    let slot = Slot(number);
    RingStatus {
        role: if number.is_multiple_of(2) { Role::Candidate } else { Role::Leader },
        leader: None,
        ballot: Ballot { round: number, ..Ballot::ZERO },
        progress: Progress { proposed: slot, durable: slot, chosen: slot, executed: slot },
        snapshot: Slot(number),
    }
}

#[test]
fn a_reader_never_sees_half_a_status() {
    explore("status: one is published while another is read", 2, || {
        let cell = Arc::new(StatusCell::default());
        cell.publish(&status(1));
        let core = {
            let cell = Arc::clone(&cell);
            thread::spawn(move || cell.publish(&status(2)))
        };
        let first = cell.read();
        assert_eq!(first, status(first.ballot.round));
        core.join().unwrap();
        assert_eq!(cell.read(), status(2), "the last one stays");
    });
}
