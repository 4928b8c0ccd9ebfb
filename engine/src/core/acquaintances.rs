//! Whose disk is whose: a disk that forgot its votes never votes again under its old id (R6, A10).
//!
//! Every disk has a life, its incarnation, drawn at random when its journal begins. Cores tell each other
//! theirs when they connect, and write each other's down.
//!
//! **A wiped disk.** A core handles no frame of a peer before its own journal durably names the peer's
//! incarnation; from then on it refuses every other. A core with a fresh disk takes no part before enough
//! peers have told it that their journals name its incarnation; then it writes down that it is admitted, and
//! needs nobody for that any more. Enough are so many that any two such sets of peers share more of them than
//! can be lost together with this node: both of two, three of four, five of six. So some peer that admitted
//! the old life still has its disk when the new one asks, and refuses: with at most a minority of disks lost
//! at once, a wiped disk never votes. The price: the first start of three nodes needs all three, that of five needs
//! four. A node alone is admitted at once, and a restart with the old disk needs nobody.
//!
//! **An old copy.** A core also announces how far its journal is durable, at most once a second and only when
//! that has moved; peers write the highest position down with whatever they write next. A process first announces
//! where its journal ended when it began, to each peer until that has answered: if a peer remembers more, the
//! disk is a copy from before, however far its journal has come since, and refused. What this cannot tell: a
//! copy newer than the last announcement that was heard. And a copy may vote with peers that were away and remember
//! nothing newer, until it meets one that does: what only that one still knows may be lost by then.
//!
//! Whoever hears that a peer remembers another life of its disk, or a longer journal, stops at once: see
//! [`Amnesia`]. Nothing of all this depends on a clock: time only says when to repeat what may be lost.
//!
//! These records outlive every segment of the journal: before one with the oldest of them is freed, they are
//! written down again ([`Acquaintances::carry`]).

use std::time::Duration;

use annulus_rings::{
    FrameHeader, Ignored, Incarnation, Lsn, NodeId, Outbox, RingOptions, Time, Transmit, mutant, requires,
};
use annulus_transport::{PeerState, PeerStatus};

use super::announcement::{Announcement, Author, NO_RING, Record};
use super::peer::{Memory, Peer, Standing};

/// What this core knows of its peers' disks, and whether they know its own.
pub(crate) struct Acquaintances {
    author: Author,
    /// Ascending by node.
    peers: Vec<Peer>,
    admission: Admission,
    /// How far the own journal is durable.
    durable: Lsn,
    /// How far it reached when this process began. What a peer remembers beyond that, and was not told since, is
    /// forgotten here, however far the journal has come by now.
    recovered: Lsn,
    /// Each connection as it was when it was last looked at, parallel to the network's peers.
    links: Vec<(u64, bool)>,
    /// When something is to be announced.
    due: Time,
    /// When peers are told how far the journal is by now; never while it stands still.
    news_due: Time,
    /// When they were told last.
    news_told: Time,
    /// After so long what may be lost is said again.
    resend_interval: Duration,
    /// A record that something waits for is not durable yet.
    awaits_write: bool,
    has_unwritten: bool,
    /// What an operator should know may have changed.
    has_changed: bool,
    /// What he was told last.
    notice: String,
    /// The position of the oldest record that the journal must keep, if it holds any.
    needed: Option<Lsn>,
    /// The same once what was carried forward is durable up to the second position.
    carried: Option<(Lsn, Lsn)>,
}

/// Whether the rings of this core take part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Admission {
    /// No: not enough peers know this disk.
    Waiting,
    /// Not before the record at this position is durable.
    Writing(Lsn),
    /// Yes, for as long as this disk lives.
    Admitted,
}

/// Why this node must stop: a peer remembers what its disk does not.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum Amnesia {
    /// The disk was wiped or replaced.
    #[error(
        "node {peer} knows node {node} by another disk (incarnation {known}; this one has {own}): this disk was wiped or replaced, and has forgotten votes. Put the old one back, or keep this node stopped and let the others serve; never start it with an empty directory"
    )]
    OtherLife {
        /// This node.
        node: NodeId,
        /// Who remembers.
        peer: NodeId,
        /// The life that the peer knows.
        known: Incarnation,
        /// The life of this disk.
        own: Incarnation,
    },
    /// The disk was restored from an old copy.
    #[error(
        "node {peer} knows the journal of node {node} to have reached position {known}, and it ends at {own}: this disk is an old copy, and has forgotten votes. Put the newest one back, or keep this node stopped and let the others serve; never start it with a copy"
    )]
    OldCopy {
        /// This node.
        node: NodeId,
        /// Who remembers.
        peer: NodeId,
        /// The position that the peer remembers.
        known: Lsn,
        /// Where the journal ends.
        own: Lsn,
    },
}

/// The shortest time between two announcements that only say how far the journal is by now.
const NEWS_INTERVAL: Duration = Duration::from_secs(1);

impl Acquaintances {
    /// What a core knows that has read nothing of its journal yet.
    pub(crate) fn new(options: &RingOptions) -> Acquaintances {
        let peers = options.configuration.members().iter().filter(|peer| **peer != options.node);
        Acquaintances {
            author: Author::of(options),
            peers: peers.map(|peer| Peer::new(*peer)).collect(),
            admission: Admission::Waiting,
            durable: Lsn(0),
            recovered: Lsn(0),
            links: Vec::new(),
            due: Time::NEVER,
            news_due: Time::NEVER,
            news_told: Time(0),
            resend_interval: options.resend_interval,
            awaits_write: false,
            has_unwritten: false,
            has_changed: true,
            notice: String::new(),
            needed: None,
            carried: None,
        }
    }

    /// Takes the next of the core's own records.
    ///
    /// # Errors
    /// This core, with this disk and among these peers, cannot have written it.
    pub(crate) fn replay(&mut self, lsn: Lsn, header: &FrameHeader) -> Result<(), Ignored> {
        self.needed.get_or_insert(lsn);
        match self.author.replay(header)? {
            Record::Admitted => self.admission = Admission::Admitted,
            Record::Acquainted { peer, incarnation, watermark } => {
                let index = self.index(peer).ok_or(Ignored::NotMember)?;
                self.peers[index].recorded(incarnation, watermark, lsn);
            }
        }
        Ok(())
    }

    /// The journal was read back, and is durable up to what `outbox` has appended.
    pub(crate) fn recovered(&mut self, outbox: &mut Outbox) {
        self.durable = outbox.appended();
        self.recovered = self.durable;
        self.admit_if_known(outbox);
    }

    /// Whether the rings of this core take part.
    pub(crate) fn is_admitted(&self) -> bool {
        self.admission == Admission::Admitted
    }

    /// Whether the rings hear `node`.
    pub(crate) fn hears(&self, node: NodeId) -> bool {
        self.is_admitted() && self.index(node).is_some_and(|index| self.peers[index].is_welcome())
    }

    /// When [`announce`](Self::announce) has something to say.
    pub(crate) fn deadline(&self) -> Time {
        self.due
    }

    /// Takes note of connections that came and went since the last look.
    pub(crate) fn meet(&mut self, now: Time, states: &[PeerState]) {
        self.links.resize(states.len(), (0, false));
        for (position, state) in states.iter().enumerate() {
            let link = (state.connections, state.is_connected());
            if self.links[position] != link {
                let is_new = self.links[position].0 != link.0;
                self.links[position] = link;
                self.met(now, state, is_new);
            }
        }
    }

    fn met(&mut self, now: Time, state: &PeerState, is_new: bool) {
        let Some(index) = self.index(state.node) else { return };
        let peer = &mut self.peers[index];
        if !is_new {
            // What it sent before it went is still heard: it is the disk that it was.
            peer.is_connected = state.is_connected();
            self.has_changed = true;
            return;
        }
        let incarnation = match state.status {
            PeerStatus::Connected { incarnation, .. } => Some(incarnation),
            PeerStatus::Disconnected => None,
        };
        peer.connected(incarnation, now);
        self.due = self.due.min(now);
        self.has_changed = true;
    }

    /// Takes what a peer announces.
    ///
    /// # Errors
    /// It remembers what this disk has forgotten.
    pub(crate) fn heard(
        &mut self,
        now: Time,
        from: NodeId,
        header: &FrameHeader,
        outbox: &mut Outbox,
    ) -> Result<(), Amnesia> {
        let Some(index) = self.index(from) else { return Ok(()) };
        let heard = match self.author.heard(header) {
            Ok(heard) if self.peers[index].is_of_connection(heard.incarnation) => heard,
            Ok(_) => return Ok(()),
            Err(why) => {
                tracing::warn!(peer = %from, %why, "an announcement that means nothing here: was it told of other peers?");
                return Ok(());
            }
        };
        if !matches!(self.peers[index].standing(), Standing::OtherLife { .. }) {
            self.remembers(index, &heard)?;
            self.peers[index].memory = Memory::Consistent;
        }
        let (before, vouched) = (self.peers[index].standing(), self.peers[index].vouches());
        if self.peers[index].heard(&heard, self.author.incarnation, self.durable) {
            self.write_down(index, heard.incarnation, outbox);
        }
        let peer = &mut self.peers[index];
        self.awaits_write |= peer.standing() == Standing::Recording;
        self.has_unwritten |= peer.unwritten().is_some();
        self.has_changed |= before != peer.standing() || vouched != peer.vouches();
        // What is lost is asked for again: by saying that it has not come.
        let misses = !heard.heard || !heard.told && peer.is_settled();
        if misses || before != peer.standing() && peer.is_welcome() {
            peer.resend = now;
            self.due = self.due.min(now);
        } else if peer.is_settled() && peer.announced == self.durable {
            peer.resend = Time::NEVER;
        }
        self.admit_if_known(outbox);
        Ok(())
    }

    /// Whether a peer remembers of this disk what the disk does not.
    fn remembers(&self, index: usize, heard: &Announcement) -> Result<(), Amnesia> {
        let Author { node, incarnation: own, .. } = self.author;
        let Peer { node: peer, announced, .. } = self.peers[index];
        let reached = self.recovered.max(announced);
        match heard.known {
            Some(known) if known != own => Err(Amnesia::OtherLife { node, peer, known, own }),
            Some(_) if heard.watermark > reached => {
                Err(Amnesia::OldCopy { node, peer, known: heard.watermark, own: reached })
            }
            _ => Ok(()),
        }
    }

    /// Appends the record that names a peer's disk.
    fn write_down(&mut self, index: usize, incarnation: Incarnation, outbox: &mut Outbox) {
        let peer = &mut self.peers[index];
        let watermark = peer.watermark();
        let record = Record::Acquainted { peer: peer.node, incarnation, watermark };
        let frame = self.author.record(&record, &mut outbox.pool);
        let lsn = outbox.append(NO_RING, frame);
        peer.recorded(incarnation, watermark, lsn);
        self.needed.get_or_insert(lsn);
        self.awaits_write = true;
        if mutant!(ACQUAINTANCE_BEFORE_DURABLE) {
            self.peers[index].persisted(self.durable);
        }
    }

    /// Lets watermarks that the journal does not know ride with a write that happens anyway.
    pub(crate) fn ride_along(&mut self, outbox: &mut Outbox) {
        if !self.has_unwritten || outbox.appends.is_empty() {
            return;
        }
        self.has_unwritten = false;
        for index in 0..self.peers.len() {
            if let Some(incarnation) = self.peers[index].unwritten() {
                self.write_down(index, incarnation, outbox);
            }
        }
    }

    /// The journal is durable up to `lsn`.
    pub(crate) fn persisted(&mut self, now: Time, lsn: Lsn) {
        if lsn == self.durable {
            return;
        }
        self.durable = lsn;
        if self.news_due == Time::NEVER {
            self.news_due = now.max(self.news_told + NEWS_INTERVAL);
            self.due = self.due.min(self.news_due);
        }
        if std::mem::take(&mut self.awaits_write) {
            self.written(now);
        }
    }

    /// Acts on records that have become durable.
    fn written(&mut self, now: Time) {
        match self.carried {
            Some((first, last)) if last <= self.durable => {
                self.needed = Some(first);
                self.carried = None;
            }
            Some(_) => self.awaits_write = true,
            None => {}
        }
        for peer in &mut self.peers {
            if peer.persisted(self.durable) {
                tracing::info!(node = %self.author.node, peer = %peer.node, "acquainted");
                peer.resend = now;
                self.due = self.due.min(now);
                self.has_changed = true;
            }
            self.awaits_write |= peer.standing() == Standing::Recording;
        }
        match self.admission {
            Admission::Writing(lsn) if lsn <= self.durable => {
                self.admission = Admission::Admitted;
                self.has_changed = true;
                tracing::info!(node = %self.author.node, "admitted: enough peers know this disk");
            }
            Admission::Writing(_) => self.awaits_write = true,
            Admission::Waiting | Admission::Admitted => {}
        }
    }

    /// Writes down that this disk takes part, once enough peers know it.
    fn admit_if_known(&mut self, outbox: &mut Outbox) {
        let is_known = self.vouchers() >= self.vouchers_needed() || mutant!(WIPED_DISK_VOTES);
        if self.admission == Admission::Waiting && is_known {
            let frame = self.author.record(&Record::Admitted, &mut outbox.pool);
            let lsn = outbox.append(NO_RING, frame);
            self.admission = Admission::Writing(lsn);
            self.needed.get_or_insert(lsn);
            self.awaits_write = true;
            self.has_changed = true;
        }
    }

    /// What the journal must keep of the core's own records: nothing below this position.
    pub(crate) fn needed(&self) -> Lsn {
        self.needed.unwrap_or(Lsn(u64::MAX))
    }

    /// Writes every record down again, so that the segments with the older ones can be freed (R6): a peer's
    /// life that was forgotten could be taken over by another disk. Nothing happens while the last time, or the
    /// admission, is not durable yet.
    pub(crate) fn carry(&mut self, outbox: &mut Outbox) {
        let is_writing = self.carried.is_some() || matches!(self.admission, Admission::Writing(_));
        if is_writing || self.needed.is_none() {
            return;
        }
        let first = outbox.appended().next();
        for index in 0..self.peers.len() {
            if let Some(incarnation) = self.peers[index].recorded_life()
                && !mutant!(ACQUAINTANCE_NOT_CARRIED)
            {
                self.write_down(index, incarnation, outbox);
            }
        }
        if self.is_admitted() {
            let frame = self.author.record(&Record::Admitted, &mut outbox.pool);
            outbox.append(NO_RING, frame);
        }
        self.carried = Some((first, outbox.appended()));
        self.awaits_write = true;
    }

    /// Peers whose journals name this disk.
    fn vouchers(&self) -> usize {
        self.peers.iter().filter(|peer| peer.vouches()).count()
    }

    /// How many must: two sets of so many share as many peers as a cluster of this size can lose disks, and
    /// together with this node's one less can be lost.
    fn vouchers_needed(&self) -> usize {
        let lost_max = self.peers.len() / 2;
        (self.peers.len() + lost_max).div_ceil(2)
    }

    /// Announces what is due, and tells how many frames that takes.
    pub(crate) fn announce(&mut self, now: Time, outbox: &mut Outbox) -> usize {
        if now < self.due {
            return 0;
        }
        let is_news = self.news_due <= now;
        if is_news {
            self.news_due = Time::NEVER;
            self.news_told = now;
        }
        self.due = self.news_due;
        let mut sent = 0;
        for index in 0..self.peers.len() {
            let peer = &self.peers[index];
            if !peer.is_connected {
                continue;
            }
            if peer.resend <= now || is_news && peer.is_settled() && peer.announced < self.durable {
                self.announce_to(index, now, outbox);
                sent += 1;
            }
            self.due = self.due.min(self.peers[index].resend);
        }
        sent
    }

    fn announce_to(&mut self, index: usize, now: Time, outbox: &mut Outbox) {
        let peer = &mut self.peers[index];
        requires!(A10, peer.announced <= self.durable);
        // Before it has said what it remembers it is not told of anything newer: it would forget it.
        let durable = if peer.memory == Memory::Consistent { self.durable } else { self.recovered };
        let announcement = Announcement {
            incarnation: self.author.incarnation,
            durable,
            known: peer.known(self.durable),
            watermark: peer.watermark(),
            heard: peer.standing() != Standing::Unheard,
            told: peer.is_told(),
        };
        peer.announced = durable;
        peer.resend = if peer.is_settled() { Time::NEVER } else { now + self.resend_interval };
        let frame = self.author.announce(&announcement, &mut outbox.pool);
        outbox.transmits.push(Transmit { to: peer.node, frame });
    }

    /// What an operator should know, if that has changed; empty when there is nothing any more.
    pub(crate) fn news(&mut self) -> Option<&str> {
        if !std::mem::take(&mut self.has_changed) {
            return None;
        }
        let notice = self.tell();
        let is_news = notice != self.notice;
        self.notice = notice;
        is_news.then_some(&self.notice)
    }

    fn tell(&self) -> String {
        let mut notices: Vec<String> = self.peers.iter().filter_map(refusal).collect();
        if self.admission == Admission::Waiting {
            let one_is_missing = self.peers.iter().any(|peer| !peer.is_connected);
            notices.push(format!(
                "this disk is fresh: it takes no part before {} of {} peers know it, and {} do{}",
                self.vouchers_needed(),
                self.peers.len(),
                self.vouchers(),
                if one_is_missing { "; start the others" } else { "" }
            ));
        }
        notices.join("; ")
    }

    fn index(&self, node: NodeId) -> Option<usize> {
        self.peers.binary_search_by_key(&node, |peer| peer.node).ok()
    }
}

/// Why a peer is refused, when it is.
fn refusal(peer: &Peer) -> Option<String> {
    let node = peer.node;
    match peer.standing() {
        Standing::OtherLife { known, found } => Some(format!(
            "node {node} is refused: it runs on another disk (incarnation {found}) than the one that is known here ({known})"
        )),
        Standing::OldCopy { known, found } => Some(format!(
            "node {node} is refused: its journal ends at position {found} and had reached {known}, so its disk is an old copy"
        )),
        Standing::Unheard | Standing::Recording | Standing::Welcome => None,
    }
}
