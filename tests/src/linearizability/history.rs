//! What clients did and learned, as it happened.

use std::fmt;

use super::{Answer, Operation, Verdict, judge_each};

/// One operation of one client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Call {
    /// Which register.
    pub key: u64,
    /// What was asked.
    pub operation: Operation,
    /// When.
    pub invoked: u64,
    /// What the client knows.
    pub end: End,
}

/// What a client knows of an operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// It has happened by this time, with this answer.
    Answered {
        /// When the client was told.
        at: u64,
        /// What it was told.
        answer: Answer,
    },
    /// Nothing: it may happen at any time, or never.
    Open,
    /// It never happens.
    Rejected,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Call { operation, invoked, .. } = self;
        match self.end {
            End::Answered { at, answer } => write!(f, "[{invoked}..{at}] {operation}: {answer}"),
            End::Open => write!(f, "[{invoked}..] {operation}: unknown"),
            End::Rejected => write!(f, "[{invoked}..] {operation}: rejected"),
        }
    }
}

/// Every call, noted by an observer whose moments are numbered: no two things happen at once.
#[derive(Default)]
pub struct History {
    calls: Vec<Call>,
    moment: u64,
}

impl History {
    /// A client asks for something; tells the number of the call.
    pub fn invoke(&mut self, key: u64, operation: Operation) -> usize {
        let invoked = self.next_moment();
        self.calls.push(Call { key, operation, invoked, end: End::Open });
        self.calls.len() - 1
    }

    /// A client is told an answer.
    pub fn answer(&mut self, call: usize, answer: Answer) {
        let at = self.next_moment();
        self.calls[call].end = End::Answered { at, answer };
    }

    /// A client is told that its operation never happens.
    pub fn reject(&mut self, call: usize) {
        self.calls[call].end = End::Rejected;
    }

    /// How many calls there were.
    pub fn calls(&self) -> usize {
        self.calls.len()
    }

    /// Whether the history of each register is linearizable: see [`judge`](super::judge).
    pub fn judge_each(&self, states_max: usize) -> impl Iterator<Item = Verdict> {
        judge_each(&self.calls, states_max)
    }

    fn next_moment(&mut self) -> u64 {
        self.moment += 1;
        self.moment
    }
}
