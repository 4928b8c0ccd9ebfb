//! The ring before it may vote: its journal is being read back.

use crate::batch::Commands;
use crate::election::{Follower, Mode};
use crate::keeping::{Base, Cut};
use crate::log::Entry;
use crate::{
    Ballot, Frame, FrameHeader, Ignored, Kind, Lsn, Message, Outbox, Slot, Time, ensures, mutant, reach,
    requires,
};

use super::{Ring, RingOptions};

/// How far above what is known to be chosen a recorded vote can be, many times over. One that is further up stands
/// behind a gap that no snapshot bridges, and is not worth the memory.
const RECOVERED_SLOTS_MAX: u64 = 1 << 20;

/// A ring whose journal is being read back. It takes its own records in journal order, reports what is
/// chosen, and cannot vote: only [`Recovering::recovered`] makes a [`Ring`] of it.
///
/// The journal may begin in the middle of the ring's history, at the last cut or anywhere before it: what
/// refers to records that are gone is then taken as far as it goes, and the Base behind the cut says the rest.
pub struct Recovering {
    ring: Ring,
    /// A snapshot covers every slot below: records of those only raise the promise (T3).
    base: Slot,
    /// Where the first record of a slot is that the snapshot does not cover.
    first: Option<Lsn>,
}

impl Recovering {
    /// A ring that knows nothing yet.
    pub fn new(options: RingOptions) -> Recovering {
        Recovering::restored(options, Slot(0))
    }

    /// A ring whose state machine was restored from a snapshot of every slot below `base`, verified and durable.
    pub fn restored(options: RingOptions, base: Slot) -> Recovering {
        Recovering { ring: Ring::new(options, Lsn(0), base), base, first: None }
    }

    /// Takes the next record of this ring, at `lsn`. What it shows to be chosen is reported through `out`.
    ///
    /// # Errors
    /// [`Ignored::Malformed`] or [`Ignored::WrongRing`]: the record cannot have been written by this ring.
    /// [`Ignored::NotMember`]: it was written in another configuration.
    pub fn replay(&mut self, lsn: Lsn, frame: &Frame, out: &mut Outbox) -> Result<(), Ignored> {
        let header = frame.header();
        let options = &self.ring.options;
        if header.cluster != options.cluster || header.ring != options.ring {
            return Err(Ignored::WrongRing);
        }
        if header.configuration != options.configuration.id() {
            return Err(Ignored::NotMember);
        }
        let is_own_prepare = header.kind == Kind::Prepare && header.ballot.leader() == options.node;
        if is_own_prepare && mutant!(OWN_BALLOT_FORGOTTEN) {
            return Ok(());
        }
        self.ring.keeping.recorded(lsn);
        match header.kind {
            Kind::Prepare if mutant!(RECOVERY_FORGETS_PROMISES) => {}
            Kind::Prepare => self.promised(header.ballot, lsn),
            Kind::Mark => self.marked(header.chosen),
            Kind::Base => self.begun_anew(&header, lsn)?,
            Kind::Accept => self.accepted(frame, lsn)?,
            Kind::Learn => self.learned(frame, lsn)?,
            _ => return Err(Ignored::Malformed),
        }
        self.ring.see(header.ballot);
        self.ring.acceptor.persisted(lsn);
        self.ring.log.persisted(lsn);
        self.ring.progress_made(Time(0), out);
        ensures!(T3, self.ring.log.floor() >= self.base);
        self.ring.invariants();
        Ok(())
    }

    /// What the ring is.
    pub fn options(&self) -> &RingOptions {
        &self.ring.options
    }

    /// The state machine has executed every slot up to and including `slot`.
    pub fn executed(&mut self, slot: Slot) {
        self.ring.executed(slot);
    }

    /// Everything of this ring below may be freed, as far as it is read back: see [`Ring::needed`].
    pub fn needed(&self) -> Lsn {
        self.ring.needed()
    }

    /// Whether the snapshot and the journal make up the whole log as far as the journal says that it is
    /// chosen. To be asked when the journal has ended, before [`recovered`](Self::recovered).
    ///
    /// # Errors
    /// [`Ignored::Gap`]: slots are missing, because the journal was cut above the snapshot (T2).
    pub fn bridged(&self) -> Result<(), Ignored> {
        let is_whole = self.ring.log.chosen() >= self.ring.marked || mutant!(GAP_BRIDGED);
        if is_whole { Ok(()) } else { Err(Ignored::Gap) }
    }

    /// The ring as its journal leaves it, over a journal that is durable up to what `out` has appended.
    ///
    /// # Panics
    /// It is not [`bridged`](Self::bridged).
    pub fn recovered(mut self, now: Time, out: &Outbox) -> Ring {
        requires!(T2, self.ring.log.chosen() >= self.ring.marked);
        let ring = &mut self.ring;
        ring.acceptor.persisted(out.appended());
        ring.log.persisted(out.appended());
        ring.keeping.recovered(self.first.unwrap_or_else(|| out.appended().next()), ring.marked);
        ring.recovered_slots = ring.log.end().0 - ring.log.chosen().0;
        reach!(OPEN_SLOTS_READ_BACK, ring.recovered_slots > 0);
        let deadline = now + ring.jitter.once_to_twice(ring.options.election_timeout);
        let ballot = ring.acceptor.promised();
        ring.mode = Mode::Follower(Follower { leader: None, ballot, contact: now, deadline });
        self.ring
    }

    /// A promise was made, or implied. Records below the snapshot may say more than what was promised then, and
    /// a later one less: the highest counts.
    fn promised(&mut self, ballot: Ballot, lsn: Lsn) {
        let acceptor = &mut self.ring.acceptor;
        acceptor.promise(ballot.max(acceptor.promised()), lsn);
    }

    /// The writer knew every slot below `chosen` to be chosen, with the values recorded so far. A value that
    /// is missing here is covered by the snapshot, or was recorded again behind the cut: then a later record
    /// says the same of it, and [`bridged`](Self::bridged) that one did.
    fn marked(&mut self, chosen: Slot) {
        let log = &mut self.ring.log;
        for slot in (log.chosen().0..chosen.0.min(log.end().0)).map(Slot) {
            if log.get(slot).is_some() {
                log.choose(slot);
            }
        }
        self.ring.marked = self.ring.marked.max(chosen);
    }

    /// Whatever was recorded in front may be gone: a snapshot of every slot below the cut was durable. When
    /// the one restored is older, records must bridge the difference (T2): those in front, if they are still
    /// there, or others behind, to which they were carried since.
    fn begun_anew(&mut self, header: &FrameHeader, lsn: Lsn) -> Result<(), Ignored> {
        let Base { cut, own } = Base::of(header);
        if header.sender != self.ring.options.node || header.chosen < cut.slot {
            return Err(Ignored::Malformed);
        }
        let log = &mut self.ring.log;
        for slot in (log.chosen().0..cut.slot.0).map(Slot) {
            // Between the own records and an installed snapshot, what is held are votes for any value: the
            // snapshot took their place for good (T3).
            if slot >= own && !mutant!(SUPERSEDED_VOTES_RETURN) {
                log.forget(slot);
            } else if log.get(slot).is_some() {
                log.choose(slot);
            }
        }
        if !mutant!(BASE_LEAVES_PROMISE) {
            self.promised(header.ballot, lsn);
        }
        self.marked(header.chosen);
        // An older snapshot than the one that the cut was made for: nothing above it may go.
        let is_covered = cut.slot <= self.base;
        self.ring.keeping.reread(if is_covered { cut } else { Cut { slot: self.base, lsn: Lsn(0) } });
        ensures!(A1, self.ring.acceptor.promised() >= header.ballot);
        Ok(())
    }

    /// A vote that was cast.
    fn accepted(&mut self, frame: &Frame, lsn: Lsn) -> Result<(), Ignored> {
        let header = frame.header();
        Commands::parse(frame.payload(), header.commands).map_err(|_| Ignored::Malformed)?;
        if !mutant!(RECOVERED_VOTE_LEAVES_PROMISE) {
            self.promised(header.ballot, lsn);
        }
        if header.slot >= self.base {
            self.first.get_or_insert(lsn);
        }
        if header.slot.0 > self.ring.log.chosen().0 + RECOVERED_SLOTS_MAX {
            return Err(Ignored::Gap);
        }
        if header.slot >= self.ring.log.floor() {
            // A vote that was carried may come behind a lesson of the same value in a higher ballot, which was
            // no news when it came: what said so is gone.
            let chosen = self.ring.log.get(header.slot).is_some_and(|held| held.chosen);
            let entry = Entry { chosen, ..Entry::accepted(frame.clone(), lsn, Time(0)) };
            self.ring.log.put(header.slot, entry);
        }
        if mutant!(RECOVERY_BELIEVES_VOTES) {
            self.ring.log.choose(header.slot);
        }
        self.ring.choose_verified(&header);
        Ok(())
    }

    /// Chosen slots that a peer taught. Some may be below the snapshot, and some above.
    fn learned(&mut self, frame: &Frame, lsn: Lsn) -> Result<(), Ignored> {
        let header = frame.header();
        let Ok(Message::Learn { first, count }) = Message::decode(&header) else {
            return Err(Ignored::Malformed);
        };
        let frames = self.ring.taught(first, count, frame)?;
        let end = Slot(first.0 + u64::from(count));
        let covered = frames.iter().map(Frame::header).filter(|header| header.slot < self.base);
        if let Some(ballot) = covered.map(|header| header.ballot).max()
            && !mutant!(COVERED_PROMISE_FORGOTTEN)
        {
            self.promised(ballot, lsn);
        }
        if end > self.base {
            self.first.get_or_insert(lsn);
        }
        self.ring.choose_taught(frames, lsn, Time(0));
        self.marked(end);
        Ok(())
    }
}
