//! A core: one thread's rings, their journal, their connections and their clients.
//!
//! [`Core::turn`] is a plain function that a runner calls for ever. It runs to completion, never blocks,
//! and knows neither threads nor executors, so the simulator drives the same code.

mod alone;
mod backlog;
mod execute;
mod executor;
mod letters;
mod replica;
mod replicas;
mod restoring;
mod retrieval;
mod seal;
mod statistics;
mod timers;
mod waiter;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;

use annulus_rings::{
    Configuration, Event, Frame, FramePool, Ignored, Incarnation, Input, Kind, Lsn, Message, NodeId, Outbox,
    RingId, RingOptions, Time,
};
use annulus_storage::{Disk, Journal, RecoverError, Unrecovered};
use annulus_transport::{Network, Received};

pub use self::backlog::BatchLimits;
pub(crate) use self::replicas::Replicas;
use self::restoring::{RestoreRoom, Restoring};
use self::retrieval::Retrievals;
pub use self::statistics::{CoreReport, Statistics};
use self::timers::Timers;
pub(crate) use self::waiter::Waiter;
use crate::clock::Clock;
use crate::mailbox::MailboxReceiver;
use crate::stages::Stages;
use crate::vitals::{End, Vitals};
use crate::{Local, Replies, Service, StateMachine};

/// What the rings of a core have in common.
#[derive(Clone, Debug)]
pub struct CoreOptions {
    /// The options of every ring, but for its id and the seed of its timeouts, which is mixed with the id.
    pub ring: RingOptions,
    /// Bounds of batches and of what waits.
    pub limits: BatchLimits,
}

/// One thread's share of a node. See the module.
pub struct Core<D: Disk, N: Network, C: Clock> {
    options: CoreOptions,
    clock: C,
    journal: Journal<D>,
    network: N,
    service: Option<Box<dyn Service>>,
    mailbox: MailboxReceiver,
    replicas: Replicas,
    /// What the journal held of rings that are not created yet.
    restoring: HashMap<RingId, Restoring>,
    outbox: Outbox,
    /// Writes that are not durable, in the journal's order, and whose they are.
    unwritten: VecDeque<(Lsn, u32)>,
    /// Bytes taken on for the journal since it was last given something: it does not know of them yet.
    admitted_bytes: usize,
    received: Vec<Received>,
    timers: Timers,
    retrievals: Retrievals,
    /// Changes places with the outbox's list.
    events: Vec<Event>,
    replies: Replies,
    query_reply: Vec<u8>,
    stages: Stages,
    statistics: Statistics,
    vitals: Arc<Vitals>,
    stopping: bool,
    over: Option<End>,
}

/// What a core is made of.
pub struct CoreParts<D: Disk, N: Network, C: Clock> {
    /// Its options.
    pub options: CoreOptions,
    /// Its clock.
    pub clock: C,
    /// Its journal, not read yet.
    pub journal: Unrecovered<D>,
    /// Its connections.
    pub network: N,
    /// Its clients on the core.
    pub service: Option<Box<dyn Service>>,
}

/// Why a core's journal does not give its rings back.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] RecoverError),
    /// A record that its ring cannot have written.
    #[error(
        "record {lsn} of ring {ring} cannot have been written by this version ({why}): this replica must not vote. Use the build that wrote it, or let the node rejoin with an empty directory"
    )]
    Record {
        /// Its position.
        lsn: Lsn,
        /// Its ring.
        ring: RingId,
        /// What is wrong with it.
        why: Ignored,
    },
}

/// The chunks that frames are cut from.
const POOL_CHUNK_BYTES: usize = 1 << 20;

impl<D: Disk, N: Network, C: Clock> Core<D, N, C> {
    /// Reads the journal back and makes a core that hosts the `declared` rings. What the journal holds of
    /// other rings is kept until they are created; a ring that is never created never votes.
    pub(crate) fn recover(
        parts: CoreParts<D, N, C>,
        declared: Vec<(RingId, Box<dyn StateMachine>)>,
        mailbox: MailboxReceiver,
        vitals: Arc<Vitals>,
    ) -> Result<Core<D, N, C>, RestoreError> {
        let CoreParts { options, clock, journal, network, service } = parts;
        let mut room = RestoreRoom::new();
        let mut restoring: HashMap<RingId, Restoring> = HashMap::new();
        let declared_rings: Vec<RingId> = declared.iter().map(|(ring, _)| *ring).collect();
        for (ring, machine) in declared {
            let mut declared = Restoring::new(options.ring(ring));
            declared.attach(machine, &mut room);
            restoring.insert(ring, declared);
        }
        let mut refused = None;
        let journal = journal.recover(|lsn, frame| {
            let ring = frame.ring();
            let restoring = restoring.entry(ring).or_insert_with(|| Restoring::new(options.ring(ring)));
            if let Err(why) = restoring.replay(&frame, &mut room) {
                refused.get_or_insert(RestoreError::Record { lsn, ring, why });
            }
        })?;
        if let Some(refused) = refused {
            return Err(refused);
        }
        let node = options.ring.node;
        let peers: Vec<NodeId> =
            options.ring.configuration.members().iter().copied().filter(|peer| *peer != node).collect();
        let mut core = Core {
            outbox: Outbox::new(journal.appended(), FramePool::new(POOL_CHUNK_BYTES)),
            stages: Stages::new(&peers),
            options,
            clock,
            journal,
            network,
            service,
            mailbox,
            replicas: Replicas::default(),
            restoring,
            unwritten: VecDeque::new(),
            admitted_bytes: 0,
            received: Vec::new(),
            timers: Timers::default(),
            retrievals: Retrievals::default(),
            events: Vec::new(),
            replies: Replies::default(),
            query_reply: Vec::new(),
            statistics: Statistics::default(),
            vitals,
            stopping: false,
            over: None,
        };
        let now = core.clock.now();
        for ring in declared_rings {
            core.host(ring, now);
        }
        Ok(core)
    }

    /// Names the eventfd that everything which a parked core waits for signals.
    pub(crate) fn register_wake(&mut self, eventfd: RawFd) -> io::Result<()> {
        self.journal.register_wake(eventfd)?;
        self.network.register_wake(eventfd)?;
        self.service.as_mut().map_or(Ok(()), |service| service.register_wake(eventfd))
    }

    /// Takes one turn at a time of the clock, and tells how much there was to do.
    ///
    /// What the rings' inputs caused leaves before the state machines run, so that a follower's journal and
    /// its votes never wait for them; what the service then proposes leaves at the end.
    pub fn turn(&mut self, now: Time) -> usize {
        self.vitals.turned();
        let mut work = self.read_letters(now);
        work += self.receive(now);
        work += self.write_back(now);
        if self.over.is_some() {
            return work;
        }
        work += self.expire(now);
        self.send_out(now);
        self.observe();
        work += self.execute(now);
        work += self.serve(now);
        work += self.seal(now);
        self.send_out(now);
        work += self.execute(now);
        self.reply();
        self.settle();
        if self.stopping && self.over.is_none() {
            self.stop(End::Stopped);
        }
        work
    }

    /// When a turn is needed even if nothing arrives.
    pub fn deadline(&self) -> Time {
        let service = self.service.as_ref().map_or(Time::NEVER, |service| service.deadline());
        self.timers.next().min(self.network.deadline()).min(service)
    }

    /// Arranges that whatever happens from now on signals the eventfd. True when something waits already.
    pub fn prepare_park(&mut self) -> bool {
        if self.over.is_some() || self.replicas.active_count() > 0 || !self.mailbox.is_empty() {
            return true;
        }
        self.network.prepare_park() || self.service.as_mut().is_some_and(|service| service.prepare_park())
    }

    /// Why the core takes no more turns, once it does not.
    pub(crate) fn over(&self) -> Option<&End> {
        self.over.as_ref()
    }

    /// The time of the core's clock.
    pub(crate) fn now(&self) -> Time {
        self.clock.now()
    }

    /// Ends every proposal and every client; no turn follows.
    pub(crate) fn stop(&mut self, end: End) {
        let service = &mut self.service;
        for replica in self.replicas.iter_mut() {
            replica.abandon(crate::Rejected::ShuttingDown, |waiter, rejected| {
                waiter.end(service, execute::end_of(rejected));
            });
        }
        if let Some(service) = service {
            service.flush();
        }
        self.refuse_letters();
        self.over = Some(end);
    }

    /// Network: hands every frame to the ring that it is for.
    fn receive(&mut self, now: Time) -> usize {
        let mut received = std::mem::take(&mut self.received);
        let work = self.network.poll(now, &mut received);
        for Received { from, frame, at } in received.drain(..) {
            self.receive_frame(from, frame, at);
        }
        self.received = received;
        work
    }

    fn receive_frame(&mut self, from: NodeId, frame: Frame, at: Time) {
        let Some(index) = self.replicas.find(frame.ring()) else {
            self.statistics.frames_without_ring += 1;
            return;
        };
        let kind = frame.kind();
        // Only what is appended needs room; the rest is a header's worth at the most (M1).
        if matches!(kind, Kind::Accept | Kind::Learn) && !self.admit(frame.len()) {
            self.statistics.frames_without_room += 1;
            return;
        }
        if kind == Kind::Accepted && self.replicas[index].is_leader() {
            self.time_vote(index, from, &frame, at);
        }
        self.step(index, at, Input::Frame(frame));
    }

    /// Whether the journal has room for `bytes` beside everything that this turn has taken on.
    fn admit(&mut self, bytes: usize) -> bool {
        let has_room = self.journal.has_room(self.admitted_bytes + bytes);
        self.admitted_bytes += if has_room { bytes } else { 0 };
        has_room
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
    fn write_back(&mut self, now: Time) -> usize {
        let persisted = match self.journal.poll() {
            Ok(persisted) => persisted,
            Err(poisoned) => {
                tracing::error!(%poisoned, "the journal cannot be trusted any more: this core stops");
                self.stop(End::Failed(poisoned.to_string()));
                return 1;
            }
        };
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
    fn expire(&mut self, now: Time) -> usize {
        let mut work = 0;
        while let Some(index) = self.timers.expired(now) {
            if self.replicas[index].deadline() <= now {
                self.step(index, now, Input::Tick);
                work += 1;
            } else {
                self.timers.schedule(index, self.replicas[index].deadline());
            }
        }
        work
    }

    /// One transition of one ring.
    fn step(&mut self, index: usize, now: Time, input: Input) {
        self.replicas.activate(index);
        if self.replicas[index].ring.step(now, input, &mut self.outbox).is_err() {
            self.statistics.inputs_ignored += 1;
        }
    }

    /// Performs what the rings want sent and written: one gathered send per peer, one group write.
    ///
    /// Frames leave first: handing a write to the device takes longer than a send, and the peers' writes
    /// are what a commit waits for. No order can break a promise: what must wait for a write waits in the ring.
    fn send_out(&mut self, now: Time) {
        for transmit in self.outbox.transmits.drain(..) {
            self.network.send(transmit.to, transmit.frame);
        }
        self.network.flush(now);
        if self.stages.has_unsent() {
            self.stages.sent(self.clock.now());
        }
        for append in self.outbox.appends.drain(..) {
            self.journal.append(append.lsn, &append.frame);
            let index = self.replicas.find(append.ring).expect("only rings of this core append");
            self.unwritten.push_back((append.lsn, index as u32));
        }
        self.admitted_bytes = 0;
        self.journal.submit();
    }

    /// Stamps what the active rings have crossed.
    fn observe(&mut self) {
        if self.replicas.active_count() == 0 {
            return;
        }
        let now = self.clock.now();
        for position in 0..self.replicas.active_count() {
            let index = self.replicas.active_at(position);
            if self.replicas[index].is_leader() {
                self.stages.observe(index, now, &self.replicas[index].ring.progress());
            }
        }
    }

    /// Lets the service take what has arrived and propose it.
    fn serve(&mut self, now: Time) -> usize {
        let Some(mut service) = self.service.take() else { return 0 };
        self.count();
        let work = service.turn(&mut self.local(now));
        self.service = Some(service);
        work
    }

    /// Lets completions leave.
    fn reply(&mut self) {
        if let Some(service) = &mut self.service {
            service.flush();
        }
        if self.stages.has_finished() {
            self.stages.replied(self.clock.now());
        }
    }

    /// After a turn: shows where the active rings stand and when they want to be woken.
    fn settle(&mut self) {
        let timers = &mut self.timers;
        let journal = &self.journal;
        self.replicas.settle(|index, replica| {
            timers.schedule(index, replica.deadline());
            replica.publish();
            // What waits for room in the journal is looked at again; what waits for the window is
            // woken by the vote that opens it.
            replica.sealable().is_some_and(|bytes| !journal.has_room(bytes))
        });
    }

    fn local(&mut self, now: Time) -> Local<'_> {
        Local {
            replicas: &mut self.replicas,
            stages: &mut self.stages,
            pool: &mut self.outbox.pool,
            statistics: &self.statistics,
            clock: &self.clock,
            now,
            stopping: self.stopping,
            refused_full: false,
        }
    }
}

impl CoreOptions {
    /// The options of one ring.
    pub fn ring(&self, ring: RingId) -> RingOptions {
        // Rings of one node must not stand for election in step.
        let seed = self.ring.seed ^ u64::from(ring.0).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        RingOptions { ring, seed, ..self.ring.clone() }
    }

    /// The members of every ring.
    pub fn configuration(&self) -> &Configuration {
        &self.ring.configuration
    }

    /// The life of this node's disk.
    pub fn incarnation(&self) -> Incarnation {
        self.ring.incarnation
    }
}
