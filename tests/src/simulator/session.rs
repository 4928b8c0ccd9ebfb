//! Clients that go from node to node: each asks one thing after the other of registers, and gives up when it
//! has waited for too long.
//!
//! What they do is small enough to be judged as a whole, from calls and answers alone (G10). A client that gave
//! up, or was told that nobody knows, may ask the same again as a new command: nothing protects it from having
//! both take effect.

use std::time::Duration;

use annulus_rings::{RingId, Time};

use super::command::Request;
use super::plan::RegisterPlan;
use crate::chaos::Random;
use crate::linearizability::{Answer, Operation};

/// All clients of a cluster that use registers.
pub(super) struct Sessions {
    plan: RegisterPlan,
    random: Random,
    all: Vec<Session>,
    /// Values given out: every one is new.
    values: u64,
}

struct Session {
    /// It asks only nodes that believe to lead; others ask any node.
    follows_leader: bool,
    /// What it waits for, as a command of this number, and how long it will.
    waits: Option<(u64, Asked, Time)>,
    /// What it asks again.
    again: Option<Asked>,
    rests_until: Time,
    /// What it saw last; comparisons expect it.
    seen: u64,
}

type Asked = (RingId, Request);

impl Sessions {
    pub(super) fn new(plan: &RegisterPlan, mut random: Random) -> Sessions {
        let session = |index: u64| Session {
            follows_leader: index % 3 != 2,
            waits: None,
            again: None,
            rests_until: Time(random.duration(plan.rest * 2).as_nanos() as u64),
            seen: 0,
        };
        let all = (0..plan.sessions).map(session).collect();
        Sessions { plan: plan.clone(), random, all, values: 0 }
    }

    /// The sessions that ask something of a replica now.
    pub(super) fn ready(&mut self, now: Time, ring: RingId, leads: bool) -> Vec<usize> {
        (0..self.all.len()).for_each(|index| self.give_up_if_due(index, now));
        let is_ready = |session: &Session| {
            let is_here = session.again.is_none_or(|(other, _)| other == ring);
            let is_idle = session.waits.is_none() && now >= session.rests_until;
            is_idle && is_here && (leads || !session.follows_leader)
        };
        (0..self.all.len()).filter(|index| is_ready(&self.all[*index])).collect()
    }

    /// What a session asks: the same again, or something new.
    pub(super) fn draw(&mut self, index: usize) -> Request {
        if let Some((_, request)) = self.all[index].again {
            return request;
        }
        let key = self.random.below(self.plan.keys);
        self.values += 1;
        let value = self.values;
        let operation = match self.random.below(100) {
            0..35 => Operation::Read,
            35..65 => Operation::Write(value),
            65..90 => Operation::CompareAndSet { expected: self.all[index].seen, new: value },
            _ => Operation::Append(value),
        };
        if matches!(operation, Operation::Write(_) | Operation::CompareAndSet { .. }) {
            self.all[index].seen = value;
        }
        Request { key, operation }
    }

    /// A session asked, and waits.
    pub(super) fn waits(&mut self, index: usize, now: Time, number: u64, asked: Asked) {
        let patience = now + self.random.duration(self.plan.patience_max);
        self.all[index].waits = Some((number, asked, patience));
    }

    /// A client is told how its command ended; without an answer when it was refused, or nobody knows.
    pub(super) fn ended(&mut self, now: Time, number: u64, is_unknown: bool, answer: Option<Answer>) {
        let waits = |session: &Session| session.waits.is_some_and(|(other, ..)| other == number);
        let Some(index) = self.all.iter().position(waits) else { return };
        self.rest(index, now, is_unknown);
        if let Some(Answer::Value(value)) = answer {
            self.all[index].seen = value;
        }
    }

    fn give_up_if_due(&mut self, index: usize, now: Time) {
        if self.all[index].waits.is_some_and(|(.., until)| now >= until) {
            self.rest(index, now, true);
        }
    }

    /// A session is done with what it asked, and asks it again, maybe, if nobody knows what became of it.
    fn rest(&mut self, index: usize, now: Time, is_unknown: bool) {
        let asks_again = is_unknown && self.random.permille(600);
        let rest = if asks_again { Duration::ZERO } else { self.random.duration(self.plan.rest * 2) };
        let session = &mut self.all[index];
        let asked = session.waits.take().map(|(_, asked, _)| asked);
        session.again = asked.filter(|_| asks_again);
        session.rests_until = now + rest;
    }
}
