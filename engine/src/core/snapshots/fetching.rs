//! A snapshot of a peer, for a ring that lacks slots which are nowhere else: asked for piece by piece.
//!
//! Who asks sets the pace: one piece is on its way at a time, and the next one is not asked for before the rate
//! that the operator allows has passed. What was verified stays on disk, however often the link is cut and the
//! process restarted, and is not asked for again as long as some peer has the same snapshot.

use std::time::Duration;

use annulus_rings::{Frame, NodeId, RingId, Slot, Time, Transmit, reach};
use annulus_storage::{
    Disk, ShelvedSnapshot, SnapshotError, SnapshotName, SnapshotReceiving, Vault, VaultCompletion,
};
use annulus_transport::Network;

use super::super::Core;
use super::frames::{Ask, Piece};
use crate::clock::Clock;

/// Times that one piece is asked for before the peer is given up: the ring then finds another.
const ATTEMPTS_MAX: u32 = 5;

/// Damaged pieces, after which the peer's file is taken to be damaged itself.
const DAMAGED_MAX: u32 = 3;

/// The snapshot that is being fetched.
pub(super) struct Fetching {
    index: usize,
    from: NodeId,
    token: u64,
    receiving: SnapshotReceiving,
    /// The piece that is on its way, and when it is asked for again.
    asked: Option<(u64, Time)>,
    attempts: u32,
    /// Pieces that were not what they should be.
    damaged: u32,
    /// Not before, so that commits come first.
    next: Time,
}

impl Fetching {
    pub(super) fn token(&self) -> u64 {
        self.token
    }

    pub(super) fn answered(&mut self, vault: &mut Box<dyn Vault>, completion: VaultCompletion) {
        self.receiving.on(vault, completion);
    }

    /// When something is due without anything else happening.
    pub(super) fn deadline(&self) -> Time {
        if self.receiving.wanted().is_none() {
            return Time::NEVER; // The vault is at work.
        }
        self.asked.map_or(self.next, |(_, again)| again)
    }
}

impl<D: Disk, N: Network, C: Clock> Core<D, N, C> {
    /// A ring lacks slots, and the peer `from` has a snapshot of those below `slot`.
    pub(in super::super) fn snapshot_wanted(&mut self, ring: RingId, from: NodeId, slot: Slot, now: Time) {
        let Some(index) = self.replicas.find(ring) else { return };
        let snapshots = &self.snapshots;
        if snapshots.fetching.is_some() || snapshots.reloading.is_some() {
            return; // One at a time; the ring asks again.
        }
        // What is there of another one is gone on with, if that is of use: whoever has it will say so.
        let chosen = self.replicas[index].ring.progress().chosen;
        let begun = snapshots.shelf.partials(ring).filter(|(slot, _)| *slot > chosen);
        let begun = begun.max_by_key(|(_, bytes)| *bytes).map(|(slot, _)| slot);
        reach!(FETCH_RESUMED, begun.is_some());
        self.begin_fetch(index, from, begun.unwrap_or(slot), begun.is_some(), now);
    }

    fn begin_fetch(&mut self, index: usize, from: NodeId, slot: Slot, resume: bool, now: Time) {
        let snapshots = &mut self.snapshots;
        let name = SnapshotName { ring: self.replicas[index].id(), slot };
        let token = snapshots.token();
        let identity = snapshots.identity;
        let receiving = SnapshotReceiving::begin(&mut snapshots.vault, token, identity, name, resume);
        tracing::info!(ring = %name.ring, slot = slot.0, %from, resume, "fetches a snapshot");
        snapshots.fetching =
            Some(Fetching { index, from, token, receiving, asked: None, attempts: 0, damaged: 0, next: now });
    }

    /// Asks for the next piece, or again for the last one; takes what is complete.
    pub(super) fn fetch_on(&mut self, now: Time) {
        let Some(fetching) = &mut self.snapshots.fetching else { return };
        if let Some(outcome) = fetching.receiving.outcome() {
            return self.fetch_ended(outcome);
        }
        let replica = &self.replicas[fetching.index];
        if replica.ring.progress().chosen >= fetching.receiving.name().slot {
            // Its slots were learnt meanwhile. It is over when the vault has removed what there is of it.
            reach!(FETCHED_TOO_LATE);
            fetching.receiving.abandon(&mut self.snapshots.vault);
        }
        let Some(offset) = fetching.receiving.wanted() else { return };
        let is_on_its_way = fetching.asked.is_some_and(|(asked, again)| asked == offset && now < again);
        if is_on_its_way || now < fetching.next {
            return;
        }
        fetching.attempts = match fetching.asked {
            Some((asked, _)) if asked == offset => fetching.attempts + 1,
            _ => 1,
        };
        if fetching.attempts > ATTEMPTS_MAX {
            reach!(FETCH_GIVEN_UP);
            return self.leave_fetch();
        }
        let options = replica.ring.options();
        fetching.asked = Some((offset, now + 2 * options.resend_interval));
        let ask =
            Ask { snapshot: fetching.receiving.name().slot, offset, lacks: replica.ring.progress().chosen };
        let frame = ask.frame(options, &mut self.outbox.pool);
        self.outbox.transmits.push(Transmit { to: fetching.from, frame });
    }

    /// A piece came.
    pub(in super::super) fn piece_received(&mut self, from: NodeId, frame: &Frame, now: Time) {
        let header = frame.header();
        let piece = Piece::read(&header);
        let snapshots = &mut self.snapshots;
        let Some(fetching) = &mut snapshots.fetching else { return };
        let name = fetching.receiving.name();
        if fetching.from != from || name.ring != header.ring {
            return;
        }
        if piece.bytes == 0 {
            return self.fetch_another(piece.snapshot, now);
        }
        let is_wanted = fetching.receiving.wanted() == Some(piece.offset) && !frame.payload().is_empty();
        if piece.snapshot != name.slot || !is_wanted {
            return;
        }
        let bytes = frame.payload();
        self.statistics.snapshot_bytes_fetched += bytes.len() as u64;
        if let Err(error) = fetching.receiving.piece(&mut snapshots.vault, piece.offset, bytes) {
            tracing::warn!(ring = %name.ring, %from, %error, "a piece of a snapshot is damaged");
            // It is asked for again after a while.
            fetching.damaged += 1;
            if fetching.damaged >= DAMAGED_MAX {
                reach!(FETCH_GIVEN_UP);
                fetching.receiving.abandon(&mut snapshots.vault);
            }
            return;
        }
        fetching.asked = None;
        fetching.attempts = 0;
        let pace = bytes.len() as u64 * 1_000_000_000 / snapshots.options.fetch_bytes_per_second;
        fetching.next = fetching.next.max(now) + Duration::from_nanos(pace);
    }

    /// The peer has another snapshot than the one asked for, or none.
    fn fetch_another(&mut self, slot: Slot, now: Time) {
        let Some(fetching) = &mut self.snapshots.fetching else { return };
        let (index, from, name) = (fetching.index, fetching.from, fetching.receiving.name());
        let chosen = self.replicas[index].ring.progress().chosen;
        if slot <= chosen || slot == name.slot {
            return self.leave_fetch();
        }
        if slot > name.slot {
            reach!(FETCH_OF_A_NEWER);
            // Nobody goes on with the older one: the newer covers it.
            fetching.receiving.abandon(&mut self.snapshots.vault);
            self.snapshots.fetching = None;
        } else {
            // Whoever had the newer one may be gone for good.
            reach!(FETCH_OF_AN_OLDER);
            self.leave_fetch();
        }
        let resume = self.snapshots.shelf.partials(name.ring).any(|(begun, _)| begun == slot);
        self.begin_fetch(index, from, slot, resume, now);
    }

    /// Gives the peer up; what was verified stays for another time.
    fn leave_fetch(&mut self) {
        if let Some(fetching) = self.snapshots.fetching.take() {
            let (name, bytes) = (fetching.receiving.name(), fetching.receiving.verified().bytes);
            self.snapshots.shelf.left_partial(name, bytes);
            self.statistics.snapshot_fetches_left += 1;
        }
    }

    /// A peer's snapshot is durable and verified here, or it is given up.
    fn fetch_ended(&mut self, outcome: Result<ShelvedSnapshot, SnapshotError>) {
        let Some(fetching) = self.snapshots.fetching.take() else { return };
        let index = fetching.index;
        match outcome {
            Ok(shelved) => {
                self.statistics.snapshots_fetched += 1;
                let (ring, slot) = (shelved.header.ring, shelved.header.slot);
                self.snapshots.shelf.add(shelved);
                if slot > self.replicas[index].ring.progress().chosen {
                    self.begin_reload(index, slot);
                }
                self.clear_shelf(ring);
            }
            Err(error) => {
                tracing::warn!(ring = %self.replicas[index].id(), %error, "a peer's snapshot was not taken");
            }
        }
    }
}
