//! A core: one thread's rings, their journal, their connections and their clients.
//!
//! [`Core::turn`] is a plain function that a runner calls for ever. It runs to completion, never blocks,
//! and knows neither threads nor executors, so the simulator drives the same code.

mod acquaintances;
#[cfg(test)]
mod acquaintances_tests;
mod announcement;
mod backlog;
mod execute;
mod executor;
mod inputs;
mod letters;
mod opening;
mod peer;
mod replica;
mod replicas;
mod restoring;
mod retrieval;
mod scrubbing;
mod seal;
mod snapshots;
mod statistics;
#[cfg(test)]
mod tests;
mod timers;
mod truncation;
mod waiter;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use annulus_rings::{Event, Ignored, Input, Lsn, Outbox, RingId, Time, requires};
use annulus_storage::{Disk, Journal};
use annulus_transport::{Network, Received};

use self::acquaintances::Acquaintances;
use self::announcement::NO_RING;
pub use self::backlog::BatchLimits;
pub use self::opening::{CoreOptions, CoreParts, RestoreError};
pub(crate) use self::replicas::Replicas;
use self::restoring::Restoring;
use self::retrieval::Retrievals;
use self::scrubbing::Scrubbing;
use self::snapshots::Snapshots;
pub use self::snapshots::{RestoreMachineError, SnapshotOptions};
pub use self::statistics::{CoreReport, Statistics};
use self::timers::Timers;
use self::truncation::Truncation;
pub(crate) use self::waiter::Waiter;
use crate::clock::Clock;
use crate::mailbox::MailboxReceiver;
use crate::stages::Stages;
use crate::vitals::{End, Vitals};
use crate::{Local, Replies, RingStatus, Service};

/// One thread's share of a node. See the module.
pub struct Core<D: Disk, N: Network, C: Clock> {
    options: CoreOptions,
    clock: C,
    journal: Journal<D>,
    network: N,
    acquaintances: Acquaintances,
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
    snapshots: Snapshots,
    truncation: Truncation,
    scrubbing: Scrubbing,
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

impl<D: Disk, N: Network, C: Clock> Core<D, N, C> {
    /// Takes one turn at a time of the clock, and tells how much there was to do.
    ///
    /// What the rings' inputs caused leaves before the state machines run, so that a follower's journal and
    /// its votes never wait for them; what the service then proposes leaves at the end.
    pub fn turn(&mut self, now: Time) -> usize {
        self.vitals.turned();
        let mut work = self.read_letters(now);
        work += self.receive(now);
        work += self.write_back(now);
        work += self.introduce(now);
        if self.over.is_some() {
            return work;
        }
        work += self.expire(now);
        work += self.save(now);
        self.truncate(now);
        self.scrub(now);
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
        // Rings that take no part wait for nothing.
        let rings = if self.acquaintances.is_admitted() { self.timers.next() } else { Time::NEVER };
        let own = self.acquaintances.deadline().min(self.snapshots.deadline());
        rings.min(self.network.deadline()).min(service).min(own)
    }

    /// Arranges that whatever happens from now on signals the eventfd. True when something waits already.
    pub fn prepare_park(&mut self) -> bool {
        let has_work = self.replicas.active_count() > 0 || self.snapshots.is_busy();
        if self.over.is_some() || has_work || !self.mailbox.is_empty() {
            return true;
        }
        self.journal.is_ready()
            || self.network.prepare_park()
            || self.service.as_mut().is_some_and(|service| service.prepare_park())
    }

    /// Where this core's replica of a ring stands; `None` when it hosts none.
    pub fn status(&mut self, ring: RingId) -> Option<RingStatus> {
        let index = self.replicas.find(ring)?;
        Some(self.replicas[index].status())
    }

    /// Why the core has failed and takes no more turns, if it has.
    pub fn failure(&self) -> Option<&str> {
        match &self.over {
            Some(End::Failed(message)) => Some(message),
            Some(End::Stopped) | None => None,
        }
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

    /// Tells peers of this disk what they are to know of it, and the operator what he is.
    fn introduce(&mut self, now: Time) -> usize {
        if let Some(notice) = self.acquaintances.news() {
            if !notice.is_empty() {
                tracing::warn!(node = %self.options.ring.node, "{notice}");
            }
            self.vitals.notice((!notice.is_empty()).then(|| notice.to_owned()));
        }
        self.acquaintances.announce(now, &mut self.outbox)
    }

    /// One transition of one ring; false when the input changed nothing.
    fn step(&mut self, index: usize, now: Time, input: Input) -> bool {
        requires!(R6, self.acquaintances.is_admitted());
        self.replicas.activate(index);
        let Err(ignored) = self.replicas[index].ring.step(now, input, &mut self.outbox) else { return true };
        self.statistics.inputs_ignored += 1;
        if ignored == Ignored::ConflictingValue {
            let ring = self.replicas[index].id();
            tracing::error!(%ring, "a second value came in one ballot and slot (A5): a bug or a forgery; refused");
        }
        false
    }

    /// Whether the journal has room for `bytes` beside everything that this turn has taken on (M1).
    fn admit(&mut self, bytes: usize) -> bool {
        let has_room = self.journal.has_room(self.admitted_bytes + bytes);
        self.admitted_bytes += if has_room { bytes } else { 0 };
        has_room
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
        self.acquaintances.ride_along(&mut self.outbox);
        for append in self.outbox.appends.drain(..) {
            self.journal.append(append.lsn, &append.frame);
            if append.ring == NO_RING && append.frame.kind().is_of_core() {
                continue; // The acquaintances know which position they wait for.
            }
            let index = self.replicas.find(append.ring).expect("only rings of this core append");
            self.unwritten.push_back((append.lsn, index as u32));
            let demand = &mut self.replicas[index].demand;
            if demand.wrote(append.frame.len(), now) {
                self.snapshots.schedule(index, demand);
            }
            self.snapshots.enqueue(index, demand, now);
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
        self.replicas.settle(|index, replica| {
            timers.schedule(index, replica.deadline());
            replica.publish();
            // What could be sealed but for room in the journal is looked at again; what waits for the window
            // is woken by the vote that opens it.
            replica.sealable().is_some()
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
            ready: self.acquaintances.is_admitted(),
            refused_full: false,
        }
    }
}
