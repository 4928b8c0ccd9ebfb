//! What a turn takes in: frames of peers, completions of the journal, deadlines.

use annulus_rings::{Frame, Input, Kind, Message, NodeId, Time, reach};
use annulus_storage::Disk;
use annulus_transport::{Network, Received};

use super::Core;
use crate::clock::Clock;
use crate::vitals::End;

impl<D: Disk, N: Network, C: Clock> Core<D, N, C> {
    /// Network: hands every frame to the ring that it is for.
    pub(super) fn receive(&mut self, now: Time) -> usize {
        let mut received = std::mem::take(&mut self.received);
        let work = self.network.poll(now, &mut received);
        self.acquaintances.meet(now, self.network.peers());
        // A peer's frames come together: whether they are heard is asked once for all of them.
        let mut asked = (NodeId(0), false);
        for Received { from, frame, at } in received.drain(..) {
            if self.over.is_some() {
                continue;
            }
            let kind = frame.kind();
            if kind.is_of_core() {
                self.hear(from, &frame, at);
                asked = (NodeId(0), false);
                continue;
            }
            if asked.0 != from {
                asked = (from, self.acquaintances.hears(from));
            }
            if asked.1 {
                self.receive_frame(from, kind, frame, at);
            } else {
                self.statistics.frames_unheard += 1;
            }
        }
        self.received = received;
        work
    }

    /// A peer announces its disk; one that remembers more of this disk than the disk itself stops this core.
    fn hear(&mut self, from: NodeId, frame: &Frame, at: Time) {
        if let Err(amnesia) = self.acquaintances.heard(at, from, &frame.header(), &mut self.outbox)
            && self.over.is_none()
        {
            tracing::error!(%amnesia, "this node has forgotten votes: this core stops");
            self.stop(End::Failed(amnesia.to_string()));
        }
    }

    fn receive_frame(&mut self, from: NodeId, kind: Kind, frame: Frame, at: Time) {
        let Some(index) = self.replicas.find(frame.ring()) else {
            self.statistics.frames_without_ring += 1;
            return;
        };
        match kind {
            Kind::SnapshotAsk => return self.piece_asked(from, &frame.header(), at),
            Kind::SnapshotPiece => return self.piece_received(from, &frame, at),
            _ => {}
        }
        // Only what is appended needs room (M1): votes and lessons, and what leads to elections, which would else
        // use up what is spared for truncations.
        let is_swamped = matches!(kind, Kind::Accept | Kind::Learn) && self.replicas[index].is_swamped();
        let is_work = matches!(kind, Kind::Accept | Kind::Learn | Kind::Prepare | Kind::PreVoted);
        if is_swamped || is_work && !self.admit(frame.len()) {
            reach!(FRAME_WITHOUT_ROOM);
            self.statistics.frames_without_room += 1;
            return;
        }
        let vote = (kind == Kind::Accepted && self.replicas[index].is_leader()).then(|| frame.clone());
        let is_news = self.step(index, at, Input::Frame(frame));
        // An answer to something sent twice would count the wait for the second sending as wire.
        if let Some(vote) = vote.filter(|_| is_news) {
            self.time_vote(index, from, &vote, at);
        }
    }

    /// Splits the round trip of a vote into the wire and the peer's disk.
    fn time_vote(&mut self, index: usize, from: NodeId, frame: &Frame, at: Time) {
        let header = frame.header();
        if header.ballot != self.replicas[index].ring.ballot() {
            return;
        }
        if let Ok(Message::Accepted { last, durable_ns, .. }) = Message::decode(&header) {
            self.stages.voted(index, from, last, durable_ns, at);
        }
    }

    /// Journal: tells the rings how far their writes are durable, and brings what was read back for peers.
    pub(super) fn write_back(&mut self, now: Time) -> usize {
        let persisted = match self.journal.poll() {
            Ok(persisted) => persisted,
            Err(poisoned) => {
                tracing::error!(%poisoned, "the journal cannot be trusted any more: this core stops");
                self.stop(End::Failed(poisoned.to_string()));
                return 1;
            }
        };
        self.acquaintances.persisted(now, persisted);
        let mut work = 0;
        while let Some(&(lsn, index)) = self.unwritten.front()
            && lsn <= persisted
        {
            self.unwritten.pop_front();
            // One step per ring and run of its writes: the last of a run covers those before.
            let next_is_same =
                self.unwritten.front().is_some_and(|next| next.1 == index && next.0 <= persisted);
            if !next_is_same {
                self.step(index as usize, now, Input::Persisted(lsn));
            }
            work += 1;
        }
        while let Some(retrieved) = self.journal.retrieved() {
            if let Some((ring, input)) = self.retrievals.finished(retrieved)
                && let Some(index) = self.replicas.find(ring)
            {
                self.step(index, now, input);
            }
            work += 1;
        }
        self.retrievals.start(&mut self.journal);
        work
    }

    /// Timers: ticks the rings whose deadline has passed.
    pub(super) fn expire(&mut self, now: Time) -> usize {
        if !self.acquaintances.is_admitted() {
            return 0; // Nobody stands for election on a disk that is not known.
        }
        let mut work = 0;
        while let Some(index) = self.timers.expired(now) {
            if self.snapshots.reloads(index) {
                // It leads nobody before it has its state; the end of the reload wakes it. When that has failed, it
                // goes on asking its peers.
                self.timers.schedule(index, now + self.options.ring.election_timeout);
            } else if self.replicas[index].deadline() <= now && !self.must_not_stand(index) {
                self.step(index, now, Input::Tick);
                work += 1;
            } else {
                let later = now + self.options.ring.heartbeat_interval;
                let deadline = self.replicas[index].deadline();
                self.timers.schedule(index, if deadline <= now { later } else { deadline });
            }
        }
        work
    }

    /// Whether a ring of this node alone would stand for election without room for it: nobody's answer is needed
    /// for that, so none can be refused.
    fn must_not_stand(&self, index: usize) -> bool {
        let is_alone = self.options.ring.configuration.members().len() == 1;
        is_alone && !self.replicas[index].is_leader() && !self.journal.has_room(0)
    }
}
