//! The ring before it may vote: its journal is being read back.

use crate::batch::Commands;
use crate::election::{Follower, Mode};
use crate::log::Entry;
use crate::{Frame, Ignored, Kind, Lsn, Message, Outbox, Slot, Time, mutant, reach};

use super::{Ring, RingOptions};

/// A ring whose journal is being read back. It takes its own records in journal order, reports what is
/// chosen, and cannot vote: only [`Recovering::recovered`] makes a [`Ring`] of it.
pub struct Recovering {
    ring: Ring,
}

impl Recovering {
    /// A ring that knows nothing yet.
    pub fn new(options: RingOptions) -> Recovering {
        Recovering { ring: Ring::new(options, Lsn(0)) }
    }

    /// Takes the next record of this ring. What it shows to be chosen is reported through `out`.
    ///
    /// # Errors
    /// [`Ignored::Malformed`] or [`Ignored::WrongRing`]: the record cannot have been written by this ring.
    /// [`Ignored::NotMember`]: it was written in another configuration.
    pub fn replay(&mut self, frame: &Frame, out: &mut Outbox) -> Result<(), Ignored> {
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
        match header.kind {
            Kind::Prepare if mutant!(RECOVERY_FORGETS_PROMISES) => {}
            Kind::Mark => self.marked(header.chosen)?,
            Kind::Prepare => self.ring.acceptor.promise(header.ballot, Lsn(0)),
            Kind::Accept => self.accepted(frame)?,
            Kind::Learn => self.learned(frame)?,
            _ => return Err(Ignored::Malformed),
        }
        self.ring.see(header.ballot);
        self.ring.log.persisted(Lsn(0));
        self.ring.progress_made(Time(0), out);
        self.ring.invariants();
        Ok(())
    }

    /// The state machine has executed every slot up to and including `slot`.
    pub fn executed(&mut self, slot: Slot) {
        self.ring.executed(slot);
    }

    /// The ring as its journal leaves it, over a journal that is durable up to what `out` has appended.
    pub fn recovered(mut self, now: Time, out: &Outbox) -> Ring {
        let ring = &mut self.ring;
        ring.acceptor.persisted(out.appended());
        ring.marked = ring.log.chosen();
        ring.recovered_slots = ring.log.end().0 - ring.log.chosen().0;
        reach!(OPEN_SLOTS_READ_BACK, ring.recovered_slots > 0);
        let deadline = now + ring.jitter.once_to_twice(ring.options.election_timeout);
        let ballot = ring.acceptor.promised();
        ring.mode = Mode::Follower(Follower { leader: None, ballot, contact: now, deadline });
        self.ring
    }

    /// The writer knew every slot below `chosen` to be chosen, with the values read back so far.
    fn marked(&mut self, chosen: Slot) -> Result<(), Ignored> {
        let log = &mut self.ring.log;
        for slot in (log.chosen().0..chosen.0).map(Slot) {
            log.get(slot).ok_or(Ignored::Malformed)?;
            log.choose(slot);
        }
        Ok(())
    }

    /// A vote that was cast.
    fn accepted(&mut self, frame: &Frame) -> Result<(), Ignored> {
        let header = frame.header();
        Commands::parse(frame.payload(), header.commands).map_err(|_| Ignored::Malformed)?;
        if !mutant!(RECOVERED_VOTE_LEAVES_PROMISE) {
            self.ring.acceptor.promise(header.ballot, Lsn(0));
        }
        if header.slot >= self.ring.log.floor() {
            self.ring.log.put(header.slot, Entry::accepted(frame.clone(), Lsn(0), Time(0)));
        }
        if mutant!(RECOVERY_BELIEVES_VOTES) {
            self.ring.log.choose(header.slot);
        }
        self.ring.choose_verified(&header);
        Ok(())
    }

    /// Chosen slots that a peer taught.
    fn learned(&mut self, frame: &Frame) -> Result<(), Ignored> {
        let header = frame.header();
        let Ok(Message::Learn { first, count }) = Message::decode(&header) else {
            return Err(Ignored::Malformed);
        };
        let frames = self.ring.taught(first, count, frame)?;
        if first > self.ring.log.chosen() {
            return Err(Ignored::Malformed);
        }
        self.ring.choose_taught(frames, Lsn(0), Time(0));
        Ok(())
    }
}
