//! Chosen slots that peers ask for and memory no longer holds: read back from the journal, a few at a time.

use std::collections::VecDeque;

use annulus_rings::{Input, LEARN_BYTES_MAX, NodeId, RingId, Slot};
use annulus_storage::{Disk, Journal, Retrieved};

/// A peer's wish for slots.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Retrieval {
    pub(crate) ring: RingId,
    pub(crate) to: NodeId,
    pub(crate) from: Slot,
    pub(crate) upto: Slot,
}

/// The wishes of a core: one is read back at a time, so that catching up a peer never crowds out commits.
#[derive(Default)]
pub(crate) struct Retrievals {
    waiting: VecDeque<Retrieval>,
    reading: Option<(u64, Retrieval)>,
    token: u64,
}

/// Wishes that wait; peers whose wish is dropped ask again.
const WAITING_MAX: usize = 64;

impl Retrievals {
    /// Takes note of a wish; false when it was dropped. A newer wish of a peer replaces its older one.
    pub(crate) fn ask(&mut self, wish: Retrieval) -> bool {
        let same = |other: &&mut Retrieval| other.ring == wish.ring && other.to == wish.to;
        if let Some(older) = self.waiting.iter_mut().find(same) {
            *older = wish;
            return true;
        }
        if self.waiting.len() >= WAITING_MAX {
            return false;
        }
        self.waiting.push_back(wish);
        true
    }

    /// Starts reading the next wish back when nothing is being read.
    pub(crate) fn start<D: Disk>(&mut self, journal: &mut Journal<D>) {
        if self.reading.is_some() {
            return;
        }
        let Some(&wish) = self.waiting.front() else { return };
        if journal.retrieve(wish.ring, wish.from, wish.upto, LEARN_BYTES_MAX, self.token).is_ok() {
            self.waiting.pop_front();
            self.reading = Some((self.token, wish));
            self.token += 1;
        }
    }

    /// What was read back, as the input of the ring that it belongs to.
    pub(crate) fn finished(&mut self, retrieved: Retrieved) -> Option<(RingId, Input)> {
        let (_, wish) = self.reading.take_if(|(token, _)| *token == retrieved.token)?;
        let input = Input::Retrieved { to: wish.to, from: wish.from, frames: retrieved.frames };
        Some((wish.ring, input))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(ring: u32, to: u16, from: u64) -> Retrieval {
        Retrieval { ring: RingId(ring), to: NodeId(to), from: Slot(from), upto: Slot(from + 10) }
    }

    #[test]
    fn a_peer_has_one_wish_per_ring_and_all_wishes_are_bounded() {
        let mut retrievals = Retrievals::default();
        assert!(retrievals.ask(wish(1, 2, 0)) && retrievals.ask(wish(1, 2, 50)));
        assert_eq!(retrievals.waiting, [wish(1, 2, 50)]);
        for ring in 2..=WAITING_MAX as u32 {
            assert!(retrievals.ask(wish(ring, 2, 0)));
        }
        assert!(!retrievals.ask(wish(9999, 2, 0)));
    }
}
