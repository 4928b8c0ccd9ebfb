//! The ring: one transition at a time.
//!
//! [`Ring::step`] decides who handles an input; the handlers live in one file per role of Paxos:
//! `accepting`, `electing`, `leading`, `learning`; `truncating` for snapshots, and `recovering` for the
//! journal at start.

mod accepting;
mod electing;
mod leading;
mod learning;
mod recovering;
mod truncating;

use std::hash::{Hash, Hasher};
use std::time::Duration;

use crate::acceptor::Acceptor;
use crate::batch::Batch;
use crate::election::{Follower, Jitter, Mode};
use crate::keeping::{Cut, Keeping};
use crate::log::Log;
use crate::{
    Ballot, ClusterId, Configuration, Event, Frame, FrameHeader, Incarnation, Kind, Lsn, Message, NodeId,
    Outbox, RingId, Role, Slot, Time, invariant, mutant, reach, requires,
};

pub use learning::{CatchUp, LEARN_BYTES_MAX};
pub use recovering::Recovering;

/// What a ring is and how it behaves; fixed while it lives.
#[derive(Clone, Debug)]
pub struct RingOptions {
    /// The cluster.
    pub cluster: ClusterId,
    /// The ring.
    pub ring: RingId,
    /// This node, a member of `configuration`.
    pub node: NodeId,
    /// The life of this node's disk.
    pub incarnation: Incarnation,
    /// The members from slot 0.
    pub configuration: Configuration,
    /// α: how many slots may be proposed and not yet chosen.
    pub window_slots: u32,
    /// The shortest silence of a leader after which a follower stands for election; the longest is twice that.
    pub election_timeout: Duration,
    /// The longest silence of a leader that is idle.
    pub heartbeat_interval: Duration,
    /// After this long without an answer, what is unanswered is sent again.
    pub resend_interval: Duration,
    /// Bytes of executed slots kept in memory for peers that lag a little.
    pub retain_bytes: usize,
    /// The seed of election timeouts. Different on every node.
    pub seed: u64,
}

/// What happened, for [`Ring::step`].
#[derive(Debug)]
pub enum Input {
    /// A verified frame arrived for this ring.
    Frame(Frame),
    /// The batch that waited: the caller saw [`Ring::can_propose`].
    Propose(Batch),
    /// The journal holds everything up to here.
    Persisted(Lsn),
    /// The state machine has executed every slot up to and including this one.
    Executed(Slot),
    /// A deadline may have passed: see [`Ring::deadline`].
    Tick,
    /// The answer to [`Event::Retrieve`]: Accept frames from `from` on, contiguous.
    Retrieved {
        /// Who asked.
        to: NodeId,
        /// The first slot asked for.
        from: Slot,
        /// Accept frames in slot order.
        frames: Vec<Frame>,
    },
    /// A snapshot of every executed slot below this one was published here, read back and verified.
    Snapshotted(Slot),
    /// Slots below the cut may leave the journal: it was taken when a snapshot began that was
    /// [`Snapshotted`](Input::Snapshotted) since. When its record is durable, [`Ring::kept`] and
    /// [`Ring::needed`] tell so.
    Truncate(Cut),
    /// This ring, which is idle, keeps the journal from being cut: see [`Ring::can_carry`]. What it needs is
    /// written again.
    Carry,
    /// The state of every slot below this one was restored from a snapshot that is durable here.
    Installed(Slot),
}

/// Why an input changed nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
#[repr(usize)]
pub enum Ignored {
    /// The frame is of another cluster or ring.
    #[error("a frame of another cluster or ring")]
    WrongRing,
    /// The frame names a configuration that does not own its slot, or its sender is no member (A9).
    #[error("a frame of another configuration or from no member")]
    NotMember,
    /// The fields contradict the kind.
    #[error("a malformed frame")]
    Malformed,
    /// The frame speaks in a ballot below the promise.
    #[error("stale ballot")]
    StaleBallot,
    /// The frame answers something that this replica is no longer doing.
    #[error("an answer to nothing")]
    Unasked,
    /// The vote was cast already, or the slot is known.
    #[error("nothing new")]
    Duplicate,
    /// The slot is chosen and no longer in memory.
    #[error("a slot below the floor")]
    BelowFloor,
    /// The slot is further ahead than this replica can hold.
    #[error("a slot beyond the window")]
    BeyondWindow,
    /// Another value in the same ballot and slot (A5): a bug or a forgery somewhere.
    #[error("a second value in one ballot and slot")]
    ConflictingValue,
    /// The votes are for other values than those proposed (P8).
    #[error("votes for other values")]
    OtherValues,
    /// No deadline has passed.
    #[error("nothing is due")]
    NothingDue,
    /// Only a leader with room in its window proposes.
    #[error("not proposing")]
    NotProposing,
    /// The snapshot is older than what the journal gives back (T2): between them slots are missing.
    #[error("a gap between the snapshot and the journal")]
    Gap,
}

/// How many reasons there are.
const IGNORED_COUNT: usize = Ignored::Gap as usize + 1;

/// One replica of one Paxos replication group.
///
/// Three kinds of methods: [`step`](Ring::step) makes a transition; [`deadline`](Ring::deadline) and
/// [`can_propose`](Ring::can_propose) tell the caller what to do next; the rest only look.
#[derive(Clone)]
pub struct Ring {
    options: RingOptions,
    /// Where this node stands among the members.
    own: usize,
    acceptor: Acceptor,
    log: Log,
    mode: Mode,
    catch_up: CatchUp,
    jitter: Jitter,
    /// The highest ballot seen anywhere: the next own ballot is above it.
    seen: Ballot,
    /// The chosen prefix that the records of the journal name.
    marked: Slot,
    keeping: Keeping,
    /// Open slots that the journal gave back: more than the window when that was wider before the restart.
    recovered_slots: u64,
    ignored: [u64; IGNORED_COUNT],
}

impl Ring {
    fn new(options: RingOptions, persisted: Lsn, base: Slot) -> Ring {
        let own = options.configuration.index_of(options.node).expect("a replica is a member of its ring");
        Ring {
            own,
            acceptor: Acceptor::new(persisted),
            log: Log::restored(options.retain_bytes, base),
            mode: Mode::Follower(Follower::new()),
            catch_up: CatchUp::default(),
            jitter: Jitter::new(options.seed),
            seen: Ballot::ZERO,
            marked: Slot(0),
            keeping: Keeping::new(base),
            recovered_slots: u64::MAX,
            ignored: [0; IGNORED_COUNT],
            options,
        }
    }

    /// Makes one transition.
    ///
    /// # Errors
    /// [`Ignored`] when the input changed nothing of this replica's state; an answer that tells the
    /// sender why may still be in `out`.
    ///
    /// # Panics
    /// When a contract is violated: the process must not go on.
    pub fn step(&mut self, now: Time, input: Input, out: &mut Outbox) -> Result<(), Ignored> {
        let result = match input {
            Input::Frame(frame) => self.frame(now, frame, out),
            Input::Propose(batch) => self.propose_batch(now, batch, out),
            Input::Persisted(lsn) => self.persisted(now, lsn, out),
            Input::Executed(slot) => {
                self.executed(slot);
                Ok(())
            }
            Input::Tick => self.tick(now, out),
            Input::Retrieved { to, from, frames } => self.retrieved(to, from, frames, out),
            Input::Snapshotted(slot) => self.snapshotted(slot, out),
            Input::Truncate(cut) => self.truncate(cut, out),
            Input::Carry => self.carry(out),
            Input::Installed(slot) => self.installed(now, slot, out),
        };
        if let Err(ignored) = result {
            self.ignored[ignored as usize] += 1;
        }
        self.invariants();
        result
    }

    /// Whether a leader has room in its window for another slot.
    pub fn can_propose(&self) -> bool {
        match &self.mode {
            Mode::Leader(leader) => {
                reach!(WINDOW_FULL, !self.has_window(leader.next));
                leader.is_recovered() && self.has_window(leader.next)
            }
            _ => false,
        }
    }

    /// When [`Input::Tick`] is due.
    pub fn deadline(&self) -> Time {
        let mode = match &self.mode {
            Mode::Follower(follower) => follower.deadline,
            Mode::PreCandidate(candidate) => candidate.deadline,
            Mode::Candidate(candidate) => candidate.deadline.min(candidate.resend),
            Mode::Leader(leader) => leader.heartbeat.min(leader.resend),
        };
        mode.min(self.catch_up.deadline())
    }

    /// What this replica is.
    pub fn role(&self) -> Role {
        self.mode.role()
    }

    /// The ballot that it follows or leads in, or its own while it stands for election.
    pub fn ballot(&self) -> Ballot {
        match &self.mode {
            Mode::Leader(leader) => leader.ballot,
            Mode::Candidate(candidate) => candidate.ballot,
            Mode::Follower(follower) => follower.ballot,
            Mode::PreCandidate(_) => self.acceptor.promised(),
        }
    }

    /// Where the ring stands.
    pub fn progress(&self) -> Progress {
        Progress {
            proposed: self.proposed(),
            durable: self.log.durable(),
            chosen: self.log.chosen(),
            executed: self.log.executed(),
        }
    }

    /// Who this ring is.
    pub fn options(&self) -> &RingOptions {
        &self.options
    }

    /// Feeds everything into `state` that decides what this replica does with its next inputs, so that an
    /// explorer of its states knows one when it sees it again. Left out are its options, the counters of
    /// ignored inputs, and the sequence of election timeouts: it decides when, not what.
    pub fn fingerprint(&self, state: &mut impl Hasher) {
        (&self.acceptor, &self.log, &self.mode, &self.catch_up, self.seen, self.marked).hash(state);
        self.keeping.hash(state);
    }

    /// How often inputs were ignored for `reason`.
    pub fn ignored(&self, reason: Ignored) -> u64 {
        self.ignored[reason as usize]
    }

    /// Hands a verified frame to its handler, once it is known to belong here.
    fn frame(&mut self, now: Time, frame: Frame, out: &mut Outbox) -> Result<(), Ignored> {
        let header = frame.header();
        self.belongs(&header)?;
        let message = Message::decode(&header).map_err(|_| Ignored::Malformed)?;
        match message {
            Message::Accept { slot } => self.accept(now, slot, &header, frame, out),
            Message::Accepted { first, last, digest, .. } => {
                self.accepted(now, first, last, digest, &header, out)
            }
            Message::Heartbeat { sequence, .. } => self.heartbeat(now, sequence, &header, out),
            Message::Heard { promised, .. } => self.heard(now, promised, &header, out),
            Message::Prepare { from } => self.prepare(now, from, &header, frame, out),
            Message::Promise { base, part, parts, from } => {
                self.promise(now, Promised { base, part, parts, from }, &header, &frame, out)
            }
            Message::Refused { promised } => self.refused(now, promised, &header, out),
            Message::BelowFloor { floor } => self.below_floor(now, floor, &header, out),
            Message::PreVote { prefix } => {
                self.pre_vote(now, prefix, &header, out);
                Ok(())
            }
            Message::PreVoted { granted, promised } => self.pre_voted(now, granted, promised, &header, out),
            Message::Fetch { from, upto } => self.fetch(from, upto, &header, out),
            Message::Learn { first, count } => self.learn(now, first, count, &header, frame, out),
            Message::Truncated { snapshot } => self.truncated(now, snapshot, &header, out),
        }
    }

    /// Whether a frame is addressed to this ring, by another member of its configuration (A9).
    fn belongs(&self, header: &FrameHeader) -> Result<(), Ignored> {
        let options = &self.options;
        if header.cluster != options.cluster || header.ring != options.ring {
            return Err(Ignored::WrongRing);
        }
        let is_peer = header.sender != options.node && self.member(header.sender).is_some();
        let is_of_configuration = header.configuration == options.configuration.id();
        if !is_of_configuration && !mutant!(FOREIGN_CONFIGURATION) || !is_peer {
            return Err(Ignored::NotMember);
        }
        Ok(())
    }

    /// Acts on every deadline that has passed.
    fn tick(&mut self, now: Time, out: &mut Outbox) -> Result<(), Ignored> {
        if now < self.deadline() {
            return Err(Ignored::NothingDue);
        }
        match &self.mode {
            Mode::Follower(_) | Mode::PreCandidate(_) => self.stand_if_due(now, out),
            Mode::Candidate(_) => self.candidate_tick(now, out),
            Mode::Leader(_) => self.leader_tick(now, out),
        }
        self.fetch_again_if_due(now, out);
        Ok(())
    }

    /// Where `node` stands among the members.
    fn member(&self, node: NodeId) -> Option<usize> {
        self.options.configuration.index_of(node)
    }

    /// Whether `slot` may be proposed for: at most α slots are open (P7).
    fn has_window(&self, slot: Slot) -> bool {
        self.log.is_within(
            slot,
            u64::from(self.options.window_slots) * if mutant!(WINDOW_IGNORED) { 2 } else { 1 },
        )
    }

    fn proposed(&self) -> Slot {
        match &self.mode {
            Mode::Leader(leader) => leader.next,
            _ => self.log.end(),
        }
    }

    /// The common fields of a frame that speaks in `ballot`.
    fn header(&self, ballot: Ballot) -> FrameHeader {
        FrameHeader {
            kind: Kind::Ping,
            cluster: self.options.cluster,
            ring: self.options.ring,
            configuration: self.options.configuration.id(),
            sender: self.options.node,
            ballot,
            slot: Slot(0),
            chosen: self.log.chosen(),
            commands: 0,
            words: [0; 4],
        }
    }

    /// A frame of `message` without payload.
    fn encode(&self, ballot: Ballot, message: Message, out: &mut Outbox) -> Frame {
        let buffer = out.pool.take(crate::frame::HEADER_BYTES);
        message.encode(self.header(ballot), buffer, &[])
    }

    fn send(&self, to: NodeId, ballot: Ballot, message: Message, out: &mut Outbox) {
        let frame = self.encode(ballot, message, out);
        out.send(to, frame);
    }

    /// Sends one frame to every other member.
    fn broadcast(&self, frame: &Frame, out: &mut Outbox) {
        for &member in self.options.configuration.members() {
            if member != self.options.node {
                out.send(member, frame.clone());
            }
        }
    }

    /// Changes the mode, and tells the core when what the outside sees of it changed.
    fn change_mode(&mut self, mode: Mode, out: &mut Outbox) {
        let before = (self.role(), self.ballot());
        self.mode = mode;
        let after = (self.role(), self.ballot());
        if before != after {
            out.events.push(Event::RoleChanged { ring: self.options.ring, role: after.0, ballot: after.1 });
        }
    }

    /// What must hold between calls.
    fn invariants(&self) {
        self.log.invariants();
        self.acceptor.invariants();
        self.keeping.invariants(self.log.executed());
        match &self.mode {
            Mode::Leader(leader) => {
                invariant!(P9, leader.ballot == self.acceptor.promised());
                invariant!(P1, leader.ballot.node == self.options.node);
                invariant!(P4, leader.base <= leader.next);
            }
            Mode::Candidate(candidate) => invariant!(P9, candidate.ballot == self.acceptor.promised()),
            Mode::Follower(_) | Mode::PreCandidate(_) => {}
        }
        invariant!(
            M1,
            self.log.end().0 - self.log.chosen().0 <= self.acceptor_window().max(self.recovered_slots)
        );
        requires!(M1, self.options.window_slots > 0);
    }

    /// How far beyond its chosen prefix an acceptor takes votes: the leader's window, and the lag of the
    /// watermark behind it, several times over.
    fn acceptor_window(&self) -> u64 {
        4 * u64::from(self.options.window_slots) + 64
    }
}

/// The widest window that a ring can have (α).
pub const WINDOW_SLOTS_MAX: u32 = 1024;

/// The fields of one part of a promise.
#[derive(Clone, Copy)]
struct Promised {
    base: Slot,
    part: u32,
    parts: u32,
    from: Slot,
}

/// The ladder of watermarks: each is the first slot that has not reached its stage.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Progress {
    /// First slot not proposed (leader) or not accepted here (follower).
    pub proposed: Slot,
    /// First slot that has no durable vote here; a vote cast again in a higher ballot does not set it back.
    pub durable: Slot,
    /// First slot not known to be chosen.
    pub chosen: Slot,
    /// First slot not executed.
    pub executed: Slot,
}
