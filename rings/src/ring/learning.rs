//! The ring as a learner: what is chosen, how a replica that missed it finds out, and how it tells others.

use crate::batch::Commands;
use crate::frame::HEADER_BYTES;
use crate::log::Entry;
use crate::message::carried;
use crate::{
    Event, Frame, FrameHeader, Ignored, Lsn, Message, NodeId, Outbox, Slot, Time, mutant, reach, requires,
};

use super::Ring;

/// Bytes of one `Learn`, unless a single slot is larger. A replica that catches up writes it whole, so it
/// is no larger than a group write: commits that wait behind it wait for one write.
pub const LEARN_BYTES_MAX: usize = 256 << 10;

/// What a replica knows to be chosen elsewhere and lacks.
#[derive(Clone, Default, Hash)]
pub struct CatchUp {
    /// The first slot that is not wanted.
    wanted: Slot,
    /// Whom it asked, and when it will ask the next.
    asked: Option<(NodeId, Time)>,
}

impl CatchUp {
    /// When the peer that was asked has taken too long.
    pub fn deadline(&self) -> Time {
        self.asked.map_or(Time::NEVER, |(_, deadline)| deadline)
    }
}

impl Ring {
    /// Believes the watermark of the leader of the frame's ballot as far as it can be verified: a slot is
    /// chosen with the value held here only if that was accepted in this very ballot (L3).
    pub(super) fn observe_watermark(&mut self, now: Time, header: &FrameHeader, out: &mut Outbox) {
        requires!(L3, header.ballot.leader() == header.sender);
        self.choose_verified(header);
        self.progress_made(now, out);
        self.want(now, header.chosen, header.sender, out);
    }

    /// Marks chosen what the header's watermark covers and this replica accepted in the header's ballot.
    pub(super) fn choose_verified(&mut self, header: &FrameHeader) {
        let first = self.log.chosen();
        for slot in (first.0..header.chosen.0.min(self.log.end().0)).map(Slot) {
            match self.log.get(slot) {
                Some(entry) if entry.chosen => {}
                Some(_) if mutant!(WATERMARK_BELIEVED) => self.log.choose(slot),
                Some(entry) if entry.ballot == header.ballot => self.log.choose(slot),
                held => {
                    reach!(WATERMARK_NOT_VERIFIED, held.is_some());
                    return;
                }
            }
        }
    }

    /// Every slot below `upto` is chosen, and `source` knows them: asks for those that are missing.
    pub(super) fn want(&mut self, now: Time, upto: Slot, source: NodeId, out: &mut Outbox) {
        self.catch_up.wanted = self.catch_up.wanted.max(upto);
        if self.catch_up.asked.is_none() && upto > self.log.chosen() {
            self.ask(now, source, out);
        }
    }

    fn ask(&mut self, now: Time, source: NodeId, out: &mut Outbox) {
        self.catch_up.asked = Some((source, now + self.options.resend_interval));
        let message = Message::Fetch { from: self.log.chosen(), upto: self.catch_up.wanted };
        self.send(source, self.acceptor.promised(), message, out);
    }

    /// Asks the next member when the last one took too long.
    pub(super) fn fetch_again_if_due(&mut self, now: Time, out: &mut Outbox) {
        let Some((source, deadline)) = self.catch_up.asked else { return };
        if now < deadline {
            return;
        }
        self.catch_up.asked = None;
        if self.catch_up.wanted > self.log.chosen() {
            reach!(ANOTHER_MEMBER_ASKED);
            let next = self.peer_after(source);
            self.ask(now, next, out);
        }
    }

    /// What was asked for came another way, maybe not all of it: asks for the rest.
    pub(super) fn fetch_on(&mut self, now: Time, out: &mut Outbox) {
        let asked = self.catch_up.asked.take();
        if self.catch_up.wanted > self.log.chosen() {
            let source = asked.map_or_else(|| self.peer_after(self.options.node), |(source, _)| source);
            self.ask(now, source, out);
        }
    }

    /// The member after `node`, this one left out.
    fn peer_after(&self, node: NodeId) -> NodeId {
        let members = self.options.configuration.members();
        let at = self.member(node).expect("only members are asked");
        let mut others = (1..=members.len()).map(|step| members[(at + step) % members.len()]);
        others.find(|&other| other != self.options.node).expect("only a ring with peers asks")
    }

    /// A peer lacks chosen slots: sends what is in memory, or has the journal read.
    pub(super) fn fetch(
        &mut self,
        from: Slot,
        upto: Slot,
        header: &FrameHeader,
        out: &mut Outbox,
    ) -> Result<(), Ignored> {
        let upto = upto.min(if mutant!(UNCHOSEN_TAUGHT) { self.log.end() } else { self.log.chosen() });
        if from >= upto {
            return Err(Ignored::BeyondWindow);
        }
        let to = header.sender;
        if from < self.log.floor() {
            if from < self.keeping.kept() {
                reach!(ASKED_BELOW_KEPT);
                let snapshot = self.keeping.snapshot();
                self.send(to, self.acceptor.promised(), Message::Truncated { snapshot }, out);
                return Ok(());
            }
            reach!(READ_FROM_JOURNAL);
            let upto = upto.min(self.log.floor());
            out.events.push(Event::Retrieve { ring: self.options.ring, to, from, upto });
            return Ok(());
        }
        let held = (from.0..upto.0).map(|slot| self.log.get(Slot(slot)).expect("no holes below the prefix"));
        let frames: Vec<Frame> = within_bytes(held.map(|entry| entry.frame.clone()), LEARN_BYTES_MAX);
        self.send_learn(to, from, &frames, out);
        Ok(())
    }

    /// The journal gave back chosen slots for a peer.
    pub(super) fn retrieved(
        &mut self,
        to: NodeId,
        from: Slot,
        frames: Vec<Frame>,
        out: &mut Outbox,
    ) -> Result<(), Ignored> {
        if from < self.keeping.kept() {
            return Err(Ignored::BelowFloor); // Truncated since it was asked for.
        }
        // Only what is chosen and adjacent may be taught (T5).
        let chosen = self.log.chosen();
        let adjacent = frames.into_iter().enumerate().take_while(|(index, frame)| {
            let slot = frame.header().slot;
            slot.0 == from.0 + *index as u64 && slot < chosen
        });
        let frames = within_bytes(adjacent.map(|(_, frame)| frame), LEARN_BYTES_MAX);
        if frames.is_empty() {
            return Err(Ignored::Unasked);
        }
        reach!(TAUGHT_DURING_PROMISE, !self.acceptor.is_promise_durable());
        self.send_learn(to, from, &frames, out);
        Ok(())
    }

    fn send_learn(&self, to: NodeId, first: Slot, frames: &[Frame], out: &mut Outbox) {
        requires!(T5, first.0 + frames.len() as u64 <= self.log.chosen().0);
        let message = Message::Learn { first, count: frames.len() as u32 };
        self.send_carrying(to, self.acceptor.promised(), message, frames, out);
    }

    /// A peer teaches chosen slots. They are written to the journal as they came.
    pub(super) fn learn(
        &mut self,
        now: Time,
        first: Slot,
        count: u32,
        header: &FrameHeader,
        frame: Frame,
        out: &mut Outbox,
    ) -> Result<(), Ignored> {
        let frames = self.taught(first, count, &frame)?;
        let end = Slot(first.0 + frames.len() as u64);
        reach!(TAUGHT_BELOW_FLOOR, first < self.log.floor());
        if end <= self.log.chosen() {
            reach!(TAUGHT_AGAIN);
            return Err(Ignored::Duplicate);
        }
        if first > self.log.chosen() {
            return Err(Ignored::Unasked);
        }
        self.mark_chosen(out);
        let lsn = self.append(frame, out);
        self.choose_taught(frames, lsn, now);
        self.marked = end;
        if self.ballot() < self.acceptor.promised() {
            self.follow(now, None, out); // What was taught is of a higher ballot than the own one (P9).
        }
        self.catch_up.asked = None;
        self.progress_made(now, out);
        self.want(now, self.catch_up.wanted, header.sender, out);
        self.lead_if_elected(now, out);
        Ok(())
    }

    /// The frames that a `Learn` carries: of this ring, contiguous from `first`, each a whole batch (T5).
    pub(super) fn taught(&self, first: Slot, count: u32, learn: &Frame) -> Result<Vec<Frame>, Ignored> {
        let mut frames = Vec::new();
        carried(learn, |frame| frames.push(frame)).map_err(|_| Ignored::Malformed)?;
        let is_sound = |(index, frame): (usize, &Frame)| {
            let header = frame.header();
            header.cluster == self.options.cluster
                && header.ring == self.options.ring
                && header.configuration == self.options.configuration.id()
                && header.slot.0 == first.0 + index as u64
                && Commands::parse(frame.payload(), header.commands).is_ok()
        };
        let are_sound = frames.len() == count as usize && frames.iter().enumerate().all(is_sound);
        if are_sound { Ok(frames) } else { Err(Ignored::Malformed) }
    }

    /// Takes chosen values from the chosen prefix on. A ballot that had a value chosen outbids every lower
    /// one, so its values raise the promise as votes do: no older leader gets a vote for these slots (A3).
    pub(super) fn choose_taught(&mut self, frames: Vec<Frame>, lsn: Lsn, now: Time) {
        let chosen = self.log.chosen();
        let is_news = |frame: &Frame| frame.header().slot >= chosen || mutant!(CHOSEN_REPLACED);
        for frame in frames.into_iter().filter(is_news) {
            let FrameHeader { slot, ballot, .. } = frame.header();
            self.see(ballot);
            if !mutant!(TAUGHT_BALLOT_NOT_PROMISED) {
                self.acceptor.promise(ballot.max(self.acceptor.promised()), lsn);
            }
            match self.log.get(slot) {
                Some(held) if held.value == frame.value() && held.ballot >= ballot => self.log.choose(slot),
                held => {
                    // The same value in a higher ballot takes the old vote's place, so that whoever is taught from
                    // here is taught a ballot in which the value was chosen, or a later one.
                    requires!(L1, held.is_none_or(|held| !held.chosen || held.value == frame.value()));
                    // A value accepted in a higher ballot than a chosen one's is that value (Paxos Made Simple, P2b).
                    requires!(L3, held.is_none_or(|held| held.ballot < ballot));
                    reach!(TAUGHT_OVER_VOTE, held.is_some_and(|held| held.value != frame.value()));
                    self.log.put(slot, Entry { chosen: true, ..Entry::accepted(frame, lsn, now) });
                }
            }
        }
    }

    /// The state machine has executed every slot up to and including `last` (L4).
    pub(super) fn executed(&mut self, last: Slot) {
        requires!(L5, last < self.log.chosen());
        for slot in (self.log.executed().0..=last.0).map(Slot) {
            self.log.execute(slot);
        }
    }
}

/// As many frames from the front as fit `bytes_max` together; at least one if there is one.
fn within_bytes(frames: impl Iterator<Item = Frame>, bytes_max: usize) -> Vec<Frame> {
    let mut bytes = HEADER_BYTES;
    let mut taken = Vec::new();
    for frame in frames {
        bytes += frame.len();
        if bytes > bytes_max && !taken.is_empty() {
            break;
        }
        taken.push(frame);
    }
    taken
}
