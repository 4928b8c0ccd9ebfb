//! What the journal must keep of a ring, and what it may let go of.
//!
//! ```text
//!   journal   ··· freed ···│ needed             what is there
//!   log           kept ≤ snapshot ≤ executed ≤ chosen
//!                 │ the journal gives back every slot from `kept` on
//!                      │ a durable snapshot covers every slot below `snapshot`
//! ```
//!
//! Four things become durable one after the other, and a crash may come between any two of them: the
//! snapshot; the ring's knowledge of it; the `Base` record, which says again what the freed records said of
//! the ring as a whole; and last the removal of segments. `kept` and `needed` move when the Base is durable,
//! not before: until then the journal alone must be enough.

use crate::{FrameHeader, Kind, Lsn, Slot, invariant, mutant, requires};

/// A place at which the journal of a ring may be cut once a snapshot covers everything before it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Cut {
    /// The first slot that the journal still gives back.
    pub slot: Slot,
    /// What this replica holds of that slot and of every later one is recorded here or behind, however
    /// much older than the cut its vote is.
    pub lsn: Lsn,
}

/// The journal record of a ring that begins anew: whatever was recorded before it and below `cut.lsn` may
/// be gone. Its header's ballot is the promise (A1), its `chosen` the prefix that is known to be chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Base {
    /// Where the journal is cut.
    pub cut: Cut,
    /// The records in front, with those before them, had given back the chosen values of every slot below
    /// this one. Below `cut.slot` when a snapshot was installed: in between lie slots that only a snapshot
    /// covers, and votes for them may be votes for other values.
    pub own: Slot,
}

impl Base {
    /// Writes the record into `header`, whose common fields the caller has filled.
    pub(crate) fn fill(&self, header: &mut FrameHeader) {
        header.kind = Kind::Base;
        header.slot = self.cut.slot;
        header.words = [self.own.0, self.cut.lsn.0, 0, 0];
    }

    /// Reads the record's header.
    pub(crate) fn of(header: &FrameHeader) -> Base {
        let [own, lsn, ..] = header.words;
        Base { cut: Cut { slot: header.slot, lsn: Lsn(lsn) }, own: Slot(own) }
    }
}

/// How far the journal of a ring may be cut, and how far it is.
#[derive(Clone, Hash)]
pub(crate) struct Keeping {
    /// The first slot that the journal surely gives back, as it was chosen.
    kept: Slot,
    /// Where the first record is that is needed; nothing while there is no record.
    needed: Option<Lsn>,
    /// The newest durable snapshot covers every slot below.
    snapshot: Slot,
    /// Where the journal could be cut below the snapshot that the ring was restored from.
    restored: Cut,
    /// The cut whose Base is not durable yet.
    pending: Option<Pending>,
}

#[derive(Clone, Copy, Hash)]
struct Pending {
    /// Where its Base is.
    lsn: Lsn,
    cut: Cut,
}

impl Keeping {
    /// The ring is restored from a snapshot of the slots below `base`, and has no record yet.
    pub(crate) fn new(base: Slot) -> Keeping {
        let restored = Cut { slot: base, lsn: Lsn(0) };
        Keeping { kept: Slot(0), needed: None, snapshot: base, restored, pending: None }
    }

    /// The first slot that the journal surely gives back.
    pub(crate) fn kept(&self) -> Slot {
        self.kept
    }

    /// Everything of this ring below may be freed.
    pub(crate) fn needed(&self) -> Lsn {
        self.needed.unwrap_or(Lsn(u64::MAX))
    }

    /// The first slot that the newest durable snapshot does not cover.
    pub(crate) fn snapshot(&self) -> Slot {
        self.snapshot
    }

    /// Where the journal could be cut below the snapshot that the ring was restored from.
    pub(crate) fn restored(&self) -> Cut {
        self.restored
    }

    /// Whether a Base is being written.
    pub(crate) fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// The last cut, its Base durable or not.
    pub(crate) fn newest(&self) -> Cut {
        let durable = Cut { slot: self.kept, lsn: self.needed.unwrap_or_default() };
        self.pending.map_or(durable, |pending| pending.cut)
    }

    /// The ring has a record at `lsn`.
    pub(crate) fn recorded(&mut self, lsn: Lsn) {
        self.needed.get_or_insert(lsn);
    }

    /// A snapshot of every slot below `slot` is durable here.
    pub(crate) fn published(&mut self, slot: Slot) {
        requires!(T2, slot > self.snapshot);
        self.snapshot = slot;
    }

    /// A snapshot of a peer took the place of every slot below `slot`. The records of those are not to be taught
    /// from this moment on, though they are needed until the Base is durable: some are votes for any value (T5).
    pub(crate) fn installed(&mut self, slot: Slot) {
        self.published(slot);
        if !mutant!(UNVOUCHED_VOTES_TAUGHT) {
            self.kept = slot;
        }
    }

    /// The Base of `cut` is appended at `lsn`. A cut that waits for its own Base is superseded: when this one
    /// is durable, so is that.
    pub(crate) fn cut(&mut self, cut: Cut, lsn: Lsn) {
        requires!(T1, cut.slot <= self.snapshot);
        requires!(T1, cut.lsn <= lsn);
        requires!(T2, cut.slot >= self.newest().slot && cut.lsn >= self.newest().lsn);
        self.pending = Some(Pending { lsn, cut });
        if mutant!(CUT_BEFORE_DURABLE) {
            self.make_cut(lsn);
        }
    }

    /// The journal holds everything up to `lsn`: the cut, if that makes it one.
    pub(crate) fn persisted(&mut self, lsn: Lsn) -> Option<Cut> {
        let is_durable = self.pending.is_some_and(|pending| pending.lsn <= lsn);
        is_durable.then(|| self.make_cut(lsn)).flatten()
    }

    fn make_cut(&mut self, persisted: Lsn) -> Option<Cut> {
        let Pending { lsn, cut } = self.pending.take()?;
        requires!(T1, lsn <= persisted);
        self.kept = cut.slot;
        self.needed = Some(cut.lsn);
        Some(cut)
    }

    /// A Base is read back: it became durable, so records in front of `cut` may be gone.
    pub(crate) fn reread(&mut self, cut: Cut) {
        self.kept = self.kept.max(cut.slot);
        self.needed = self.needed.map(|needed| needed.max(cut.lsn));
    }

    /// The journal was read back. What it holds of slots at or above the snapshot begins at `lsn`.
    pub(crate) fn recovered(&mut self, lsn: Lsn, vouched: Slot) {
        let base = self.restored.slot;
        self.restored.lsn = lsn.max(self.needed.unwrap_or_default());
        // The records do not say of every slot that the snapshot covers which value was chosen: the replica
        // may have stopped between the arrival of a peer's snapshot and the Base of its installation. Votes
        // that are recorded there must not be taught as chosen (T5).
        if vouched < base && !mutant!(UNVOUCHED_VOTES_TAUGHT) {
            self.kept = base;
        }
    }

    /// What must hold between calls.
    pub(crate) fn invariants(&self, executed: Slot) {
        invariant!(T1, self.kept <= self.snapshot);
        invariant!(T2, self.snapshot <= executed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(slot: u64, lsn: u64) -> Cut {
        Cut { slot: Slot(slot), lsn: Lsn(lsn) }
    }

    /// A ring with records from position 3 on and a snapshot of the slots below 10.
    fn keeping() -> Keeping {
        let mut keeping = Keeping::new(Slot(0));
        keeping.recorded(Lsn(3));
        keeping.recorded(Lsn(4));
        keeping.published(Slot(10));
        keeping
    }

    #[test]
    fn a_ring_without_records_pins_nothing() {
        assert_eq!(Keeping::new(Slot(5)).needed(), Lsn(u64::MAX));
        assert_eq!(keeping().needed(), Lsn(3));
    }

    #[test]
    fn a_cut_frees_nothing_before_its_base_is_durable() {
        let mut keeping = keeping();
        keeping.cut(cut(8, 20), Lsn(30));
        assert_eq!((keeping.persisted(Lsn(29)), keeping.kept(), keeping.needed()), (None, Slot(0), Lsn(3)));
        assert_eq!(keeping.persisted(Lsn(30)), Some(cut(8, 20)));
        assert_eq!((keeping.kept(), keeping.needed()), (Slot(8), Lsn(20)));
    }

    #[test]
    fn a_later_cut_takes_the_place_of_one_that_is_not_durable() {
        let mut keeping = keeping();
        keeping.cut(cut(8, 20), Lsn(30));
        keeping.cut(cut(9, 25), Lsn(40));
        assert_eq!(keeping.persisted(Lsn(30)), None);
        assert_eq!(keeping.persisted(Lsn(40)), Some(cut(9, 25)));
    }

    #[test]
    #[should_panic(expected = "contract T1")]
    fn nothing_is_cut_beyond_the_snapshot() {
        keeping().cut(cut(11, 20), Lsn(30));
    }

    #[test]
    #[should_panic(expected = "contract T2")]
    fn a_late_cut_never_moves_back() {
        let mut keeping = keeping();
        keeping.cut(cut(8, 20), Lsn(30));
        keeping.cut(cut(7, 25), Lsn(40));
    }

    #[test]
    #[should_panic(expected = "contract T2")]
    fn a_late_snapshot_never_moves_back() {
        keeping().published(Slot(9));
    }

    #[test]
    fn votes_below_a_snapshot_that_the_records_do_not_reach_are_not_kept() {
        let mut keeping = Keeping::new(Slot(10));
        keeping.recorded(Lsn(3));
        keeping.recovered(Lsn(7), Slot(9));
        assert_eq!((keeping.kept(), keeping.restored()), (Slot(10), cut(10, 7)));
    }
}
