//! Snapshots that peers fetch: a piece at a time each, read when it is asked for.

use std::collections::BTreeMap;
use std::time::Duration;

use annulus_rings::{FrameHeader, NodeId, RingId, Slot, Time, Transmit, reach};
use annulus_storage::{Disk, SnapshotError, SnapshotName, SnapshotSending, VaultCompletion};
use annulus_transport::Network;

use super::super::Core;
use super::frames::{Ask, PIECE_BYTES_MAX, Piece};
use crate::clock::Clock;

/// A snapshot that a peer fetches is kept so long after it asked last, even when newer ones would take its place:
/// the peer goes on where it was, however long the link was cut.
const LENT_FOR: Duration = Duration::from_mins(1);
/// Peers and rings that are served at a time; whoever else asks, asks again.
const LOANS_MAX: usize = 16;

/// Who fetches which snapshot.
#[derive(Default)]
pub(super) struct Loans(BTreeMap<(NodeId, RingId), Loan>);

struct Loan {
    token: u64,
    sending: SnapshotSending,
    until: Time,
}

impl Loans {
    fn by_token(&mut self, token: u64) -> Option<((NodeId, RingId), &mut Loan)> {
        let found = self.0.iter_mut().find(|(_, loan)| loan.token == token);
        found.map(|(borrower, loan)| (*borrower, loan))
    }

    /// Whether the vault's answer under `token` is for a peer.
    pub(super) fn has(&self, token: u64) -> bool {
        self.0.values().any(|loan| loan.token == token)
    }

    /// The oldest snapshot of a ring that a peer fetches. It will want the slots from there on next.
    pub(super) fn oldest(&self, ring: RingId) -> Option<Slot> {
        let lent = self.0.values().map(|loan| loan.sending.name()).filter(|name| name.ring == ring);
        lent.map(|name| name.slot).min()
    }

    /// Ends those that nobody has asked of for long.
    fn expired(&mut self, now: Time) -> Vec<SnapshotName> {
        let mut names = Vec::new();
        self.0.retain(|_, loan| {
            let stays = loan.until > now || loan.sending.is_asked();
            if !stays {
                names.push(loan.sending.name());
            }
            stays
        });
        names
    }
}

impl<D: Disk, N: Network, C: Clock> Core<D, N, C> {
    /// A peer asks for a piece of a snapshot: it is read, or the peer is told which snapshot there is instead.
    pub(in super::super) fn piece_asked(&mut self, from: NodeId, header: &FrameHeader, now: Time) {
        let (ring, ask) = (header.ring, Ask::read(header));
        self.end_loans(now);
        let name = SnapshotName { ring, slot: ask.snapshot };
        if self.snapshots.shelf.snapshot(name).is_none() {
            return self.offer_another(from, ring, ask.lacks);
        }
        if self.lend(from, name, now) {
            let snapshots = &mut self.snapshots;
            let Some(loan) = snapshots.loans.0.get_mut(&(from, ring)) else { return };
            loan.until = now + LENT_FOR;
            if !loan.sending.ask(&mut snapshots.vault, ask.offset, PIECE_BYTES_MAX) {
                self.statistics.snapshot_asks_dropped += 1;
            }
        }
    }

    /// Makes sure that the snapshot `name` is lent to the peer; false when too many others are served.
    fn lend(&mut self, to: NodeId, name: SnapshotName, now: Time) -> bool {
        let snapshots = &mut self.snapshots;
        let held = snapshots.loans.0.get(&(to, name.ring)).map(|loan| loan.sending.name());
        if held == Some(name) {
            return true;
        }
        if held.is_none() && snapshots.loans.0.len() >= LOANS_MAX {
            self.statistics.snapshot_asks_dropped += 1;
            return false;
        }
        held.inspect(|other| snapshots.shelf.release(*other));
        let token = snapshots.token();
        let Some(snapshot) = snapshots.shelf.snapshot(name) else { return false };
        let sending = SnapshotSending::new(token, snapshot);
        snapshots.shelf.hold(name);
        snapshots.loans.0.insert((to, name.ring), Loan { token, sending, until: now + LENT_FOR });
        true
    }

    /// What the peer asks for is not here, or not any more: it learns what is.
    fn offer_another(&mut self, to: NodeId, ring: RingId, lacks: Slot) {
        reach!(SNAPSHOT_GONE);
        let Some(index) = self.replicas.find(ring) else { return };
        let newest = self.snapshots.shelf.newest(ring).map(|snapshot| snapshot.header.slot);
        let snapshot = newest.filter(|slot| *slot > lacks).unwrap_or(Slot(0));
        let piece = Piece { snapshot, offset: 0, bytes: 0 };
        let options = self.replicas[index].ring.options();
        let frame = piece.frame(&[], options, &mut self.outbox.pool);
        self.outbox.transmits.push(Transmit { to, frame });
    }

    /// A piece that a peer asked for was read.
    pub(super) fn piece_was_read(&mut self, completion: VaultCompletion, now: Time) {
        let Some(((to, ring), loan)) = self.snapshots.loans.by_token(completion.token) else { return };
        match loan.sending.on(completion) {
            Ok(read) => {
                let Some(index) = self.replicas.find(ring) else { return };
                let piece = Piece { snapshot: read.name.slot, offset: read.offset, bytes: read.bytes_whole };
                let options = self.replicas[index].ring.options();
                let frame = piece.frame(&read.bytes, options, &mut self.outbox.pool);
                self.statistics.snapshot_bytes_sent += read.bytes.len() as u64;
                self.outbox.transmits.push(Transmit { to, frame });
            }
            Err(error @ SnapshotError::Io { .. }) => {
                // That may pass, and the peer asks again.
                tracing::warn!(%ring, %error, "a piece of a snapshot cannot be read for a peer");
            }
            Err(error) => {
                let name = loan.sending.name();
                tracing::warn!(%ring, slot = name.slot.0, %error, "a snapshot cannot be read for a peer");
                self.snapshots.loans.0.remove(&(to, ring));
                self.lose_snapshot(name, now);
            }
        }
    }

    /// Takes back what peers no longer ask of.
    pub(super) fn end_loans(&mut self, now: Time) {
        for name in self.snapshots.loans.expired(now) {
            self.snapshots.shelf.release(name);
            self.clear_shelf(name.ring);
        }
    }
}
