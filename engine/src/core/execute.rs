//! What the rings report: slots to execute, roles that changed, slots that peers miss.

use annulus_rings::{Ballot, Event, Frame, Input, Role, Slot, Time};
use annulus_storage::Disk;
use annulus_transport::Network;

use super::Core;
use super::retrieval::Retrieval;
use crate::clock::Clock;
use crate::{Completion, Rejected};

impl<D: Disk, N: Network, C: Clock> Core<D, N, C> {
    /// Acts on everything that the rings report, in order.
    pub(super) fn execute(&mut self, now: Time) -> usize {
        let mut work = 0;
        while !self.outbox.events.is_empty() {
            // Two lists that change places: what a ring reports meanwhile comes in the next round.
            let mut events = std::mem::take(&mut self.events);
            std::mem::swap(&mut events, &mut self.outbox.events);
            work += events.len();
            for event in events.drain(..) {
                self.act(event, now);
            }
            self.events = events;
        }
        work
    }

    fn act(&mut self, event: Event, now: Time) {
        match event {
            Event::Chosen { ring, slot, frame } => {
                let index = self.replicas.find(ring).expect("only rings of this core report");
                if self.replicas[index].is_reloading() {
                    return self.replicas[index].wait_for_reload(slot, frame);
                }
                self.execute_slot(index, slot, &frame);
                self.step(index, now, Input::Executed(slot));
            }
            Event::RoleChanged { ring, role, ballot } => {
                let index = self.replicas.find(ring).expect("only rings of this core report");
                self.change_role(index, role, ballot);
            }
            Event::Retrieve { ring, to, from, upto } => {
                if !self.retrievals.ask(Retrieval { ring, to, from, upto }) {
                    self.statistics.retrievals_dropped += 1;
                }
            }
            Event::SnapshotWanted { ring, from, slot } => self.snapshot_wanted(ring, from, slot, now),
        }
    }

    pub(super) fn execute_slot(&mut self, index: usize, slot: Slot, frame: &Frame) {
        let replica = &mut self.replicas[index];
        self.statistics.slots_executed += 1;
        self.statistics.commands_executed += u64::from(frame.header().commands);
        if !replica.execute(slot, frame, &mut self.replies) {
            return;
        }
        self.stages.executed(index, slot, self.clock.now());
        let (service, replies) = (&mut self.service, &self.replies);
        replica.answered(slot, frame, |waiter, command| {
            let completion = match command {
                Some(command) => Completion::Committed { slot, reply: replies.reply(command) },
                None => Completion::Unknown,
            };
            waiter.end(service, completion);
        });
    }

    pub(super) fn change_role(&mut self, index: usize, role: Role, ballot: Ballot) {
        let service = &mut self.service;
        self.stages.stood_down(index);
        self.replicas[index].change_role(role, ballot, |waiter, rejected| {
            waiter.end(service, end_of(rejected));
        });
        let (node, ring) = (self.options.ring.node, self.replicas[index].id());
        match role {
            Role::Leader => tracing::info!(%node, %ring, %ballot, "this node leads"),
            Role::Follower { leader: Some(leader) } => {
                tracing::info!(%node, %ring, %leader, %ballot, "follows");
            }
            Role::Follower { leader: None } | Role::Candidate => {}
        }
    }
}

/// The end of a proposal that was not committed here: rejected if it certainly has no effect (L7).
pub(super) fn end_of(rejected: Option<Rejected>) -> Completion<'static> {
    rejected.map_or(Completion::Unknown, Completion::Rejected)
}
