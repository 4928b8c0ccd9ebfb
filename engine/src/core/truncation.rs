//! Freeing the journal: what no ring needs any more goes, and whoever holds much back is asked to let go.
//!
//! Every ring needs the journal from some position on, and so does the core for what it knows of its peers.
//! What lies below all of these is freed, a segment at a time. While the journal has room to spare that is
//! all. When half of its bound is taken, rings that hold its oldest part back are helped to let go of it:
//!
//! 1. A ring that has several snapshots gives up reaching back to the older ones.
//! 2. A ring that has executed more than it has saved is saved.
//! 3. A ring that is idle since writes what it still needs down again, a few frames, at the journal's end.
//!
//! What the core knows of its peers is a few frames at any time: they are written down again whenever they alone
//! hold the journal back.

use annulus_rings::{Cut, Input, Lsn, Time, reach};
use annulus_storage::Disk;
use annulus_transport::Network;

use super::Core;
use super::restoring::Restoring;
use crate::clock::Clock;

/// Rings that are helped at one look, so that no turn is long.
const HELPED_MAX: usize = 256;

/// When the journal was looked at last, and when it is looked at again.
pub(crate) struct Truncation {
    /// Segments that the journal had entered by then.
    segments: u64,
    /// Somebody needs less once this is durable, and somebody once the second is; 0: nobody.
    awaited: (Lsn, Lsn),
    /// A ring can let go of more than it could, if it is asked to.
    has_offers: bool,
}

impl Truncation {
    /// Of a journal that was read back: it is looked at once. It may be so full that nothing else would happen.
    pub(crate) fn at_start() -> Truncation {
        Truncation { segments: 0, awaited: (Lsn(0), Lsn(0)), has_offers: true }
    }

    /// Somebody needs less of the journal once `lsn` is durable.
    fn awaits(&mut self, lsn: Lsn) {
        self.awaited = (if self.awaited.0 == Lsn(0) { lsn } else { self.awaited.0 }, lsn);
    }

    /// Whether somebody needs less, now that `persisted` is durable.
    fn has_news(&mut self, persisted: Lsn) -> bool {
        let (first, last) = self.awaited;
        let has_news = first > Lsn(0) && first <= persisted;
        if has_news {
            self.awaited = if last <= persisted { (Lsn(0), Lsn(0)) } else { (last, last) };
        }
        has_news
    }
}

impl<D: Disk, N: Network, C: Clock> Core<D, N, C> {
    /// Frees what nobody needs, if that may have become more.
    pub(super) fn truncate(&mut self, now: Time) {
        let segments = self.journal.segments_entered();
        let has_entered = segments != std::mem::replace(&mut self.truncation.segments, segments);
        let has_offers = std::mem::take(&mut self.truncation.has_offers);
        if !self.truncation.has_news(self.journal.persisted()) && !has_entered && !has_offers {
            return;
        }
        let rings = self.needed_by_rings();
        // Whoever writes down again what is in the segment in use frees nothing, and would do so for ever.
        let segment = self.journal.segment_lsn();
        if self.acquaintances.needed() < rings.min(segment) {
            // A few frames, which would otherwise keep everything.
            self.acquaintances.carry(&mut self.outbox);
            self.truncation.awaits(self.outbox.appended());
        }
        let needed = rings.min(self.acquaintances.needed());
        self.journal.truncate(needed.min(self.journal.persisted().next()));
        if rings < segment && self.journal.bytes() > self.journal.bytes_max() / 2 {
            self.make_room(rings, now);
        }
    }

    /// The lowest position that a ring needs.
    fn needed_by_rings(&mut self) -> Lsn {
        let rings = self.replicas.iter_mut().map(|replica| replica.ring.needed());
        let restoring = self.restoring.values().map(Restoring::needed);
        rings.chain(restoring).min().unwrap_or(Lsn(0)).min(self.journal.appended().next())
    }

    /// Asks those that hold the oldest part of the journal back to let go of it.
    fn make_room(&mut self, needed: Lsn, now: Time) {
        let oldest_part = (self.journal.appended().0.saturating_sub(needed.0)) / 4;
        self.let_go(Lsn(needed.0 + oldest_part), now);
    }

    /// Asks everybody who needs the journal at or below `lsn` to let go of it. It takes some turns, and perhaps
    /// several calls.
    pub(super) fn let_go(&mut self, lsn: Lsn, now: Time) {
        // What is in the segment in use cannot be freed, however often it is written down again.
        let lsn = lsn.min(Lsn(self.journal.segment_lsn().0.saturating_sub(1)));
        if self.acquaintances.needed() <= lsn {
            self.acquaintances.carry(&mut self.outbox);
            self.truncation.awaits(self.outbox.appended());
        }
        let (mut helped, mut carried) = (0, 0);
        for index in 0..self.replicas.count() {
            if helped < HELPED_MAX && self.replicas[index].ring.needed() <= lsn {
                carried += self.help(index, carried, now);
                helped += 1;
            }
        }
    }

    /// Helps one ring to need less of the journal, and tells how many bytes it wrote down again for that, beside
    /// `carried` of others.
    fn help(&mut self, index: usize, carried: usize, now: Time) -> usize {
        let mut carried_bytes = 0;
        let replica = &mut self.replicas[index];
        if let Some(cut) = replica.newest_cut() {
            reach!(OLDER_SNAPSHOT_GIVEN_UP);
            self.cut(index, cut, now);
        } else if !replica.is_saved() {
            replica.demand.ask();
            self.snapshots.enqueue(index, &mut self.replicas[index].demand, now);
        } else if replica.ring.can_carry() {
            carried_bytes = replica.ring.carry_bytes();
            let backlog_bytes = self.journal.backlog_bytes() + self.admitted_bytes + carried;
            if backlog_bytes + carried_bytes > self.journal.backlog_bytes_max() {
                self.truncation.has_offers = true; // Not now: the journal is behind.
                return 0;
            }
            reach!(IDLE_RING_CARRIED);
            self.step(index, now, Input::Carry);
            self.truncation.awaits(self.outbox.appended());
        }
        carried_bytes
    }

    /// A snapshot of this core was published: the journal is cut below the oldest that is kept.
    pub(super) fn cut_journal(&mut self, index: usize, cut: Cut, now: Time) {
        let lent = self.snapshots.oldest_lent(self.replicas[index].id());
        if let Some(cut) = self.replicas[index].keep_cut(cut, self.options.snapshots.kept) {
            // Whoever fetches a snapshot wants what follows it next: it would have to fetch another.
            if lent.is_none_or(|lent| cut.slot <= lent) {
                self.cut(index, cut, now);
            }
        }
        self.truncation.has_offers = true;
    }

    /// The state of a ring is a peer's: the journal below its snapshot is of no use.
    pub(super) fn installed(&mut self, index: usize, now: Time) {
        let replica = &mut self.replicas[index];
        let cut = replica.ring.cut(&self.outbox);
        replica.forget_cuts();
        if cut.slot <= replica.ring.snapshot() {
            replica.keep_cut(cut, self.options.snapshots.kept);
        } else {
            // More was executed meanwhile: the next snapshot allows a cut.
            replica.demand.ask();
            self.snapshots.enqueue(index, &mut self.replicas[index].demand, now);
        }
        self.truncation.awaits(self.outbox.appended());
    }

    fn cut(&mut self, index: usize, cut: Cut, now: Time) {
        self.step(index, now, Input::Truncate(cut));
        self.truncation.awaits(self.outbox.appended());
    }
}
