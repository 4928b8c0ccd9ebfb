//! The search for an order of the operations on one register that explains every answer.

use std::collections::HashSet;

use super::history::{Call, End};
use super::register::{Answer, Operation};

/// What is to be said of a history.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Some order explains every answer.
    Linearizable,
    /// No order does; how far the best one comes.
    Broken(String),
    /// The search was given up: it would have taken too much memory and time.
    NotJudged,
}

/// Calls that are told of a broken history, at the most.
const TOLD_MAX: usize = 12;

/// Where a search stands.
#[derive(Clone, PartialEq, Eq, Hash)]
struct State {
    /// The calls that have happened, one bit for each.
    happened: Box<[u64]>,
    /// What the register holds.
    value: u64,
    /// What it held before the last operation, when that one is open. Nobody says that such an operation
    /// happened, so it is left out unless the next one shows that it did. Without that rule, all subsets of
    /// the open operations would be tried.
    without: Option<u64>,
}

struct Search<'a> {
    /// In the order in which they were called.
    calls: Vec<&'a Call>,
    seen: HashSet<State>,
    /// States to go on from; the last one first.
    stack: Vec<State>,
    /// The most answers that were explained, and where that was.
    best: (usize, State),
}

/// Judges the calls of one register.
pub(super) fn judge(mut calls: Vec<&Call>, states_max: usize) -> Verdict {
    calls.retain(|call| call.end != End::Rejected);
    calls.sort_by_key(|call| call.invoked);
    let first =
        State { happened: vec![0; calls.len().div_ceil(64)].into_boxed_slice(), value: 0, without: None };
    let mut search =
        Search { calls, seen: HashSet::new(), stack: vec![first.clone()], best: (0, first.clone()) };
    let answers = search.calls.iter().filter(|call| answered_at(call).is_some()).count();
    while let Some(state) = search.stack.pop() {
        let explained = search.explained(&state);
        if explained == answers {
            return Verdict::Linearizable;
        }
        if explained > search.best.0 {
            search.best = (explained, state.clone());
        }
        search.go_on(&state);
        if search.seen.len() > states_max {
            return Verdict::NotJudged;
        }
    }
    Verdict::Broken(search.tell(answers))
}

impl State {
    fn has(&self, index: usize) -> bool {
        self.happened[index / 64] >> (index % 64) & 1 == 1
    }

    /// The state after `call` happens next; none if its answer or what nobody saw speaks against that.
    fn after(&self, index: usize, call: &Call) -> Option<State> {
        let (value, answer) = call.operation.apply(self.value);
        let is_open = match call.end {
            End::Answered { answer: told, .. } if told != answer => return None,
            End::Answered { .. } => false,
            End::Open | End::Rejected => true,
        };
        if is_open && value == self.value {
            return None;
        }
        if let Some(without) = self.without {
            let (other_value, other_answer) = call.operation.apply(without);
            if other_value == value && (is_open || other_answer == answer) {
                return None;
            }
        }
        let mut happened = self.happened.clone();
        happened[index / 64] |= 1 << (index % 64);
        Some(State { happened, value, without: is_open.then_some(self.value) })
    }
}

fn answered_at(call: &Call) -> Option<u64> {
    match call.end {
        End::Answered { at, .. } => Some(at),
        End::Open | End::Rejected => None,
    }
}

/// Whether an answered call changed nothing, whenever it happened.
fn only_looks(call: &Call) -> bool {
    let End::Answered { answer, .. } = call.end else { return false };
    call.operation == Operation::Read || answer == Answer::Swapped(false)
}

impl Search<'_> {
    fn explained(&self, state: &State) -> usize {
        let all = self.calls.iter().enumerate();
        all.filter(|(index, call)| state.has(*index) && answered_at(call).is_some()).count()
    }

    /// The calls that may happen next: those that were made before any other one was answered that has not
    /// happened yet.
    fn next_of(&self, state: &State) -> Vec<usize> {
        let mut first_answer = u64::MAX;
        let mut next = Vec::new();
        for (index, call) in self.calls.iter().enumerate().filter(|(index, _)| !state.has(*index)) {
            if call.invoked > first_answer {
                break;
            }
            first_answer = first_answer.min(answered_at(call).unwrap_or(u64::MAX));
            next.push(index);
        }
        next
    }

    fn go_on(&mut self, state: &State) {
        let mut next = self.next_of(state);
        // The stack gives back the last one first: those that were answered soon before those that were not.
        next.sort_by_key(|index| std::cmp::Reverse(answered_at(self.calls[*index]).unwrap_or(u64::MAX)));
        let mut states = Vec::new();
        for index in next {
            let call = self.calls[index];
            let Some(after) = state.after(index, call) else { continue };
            if only_looks(call) {
                // It sees what it says: nothing is gained by letting it wait.
                states = vec![after];
                break;
            }
            states.push(after);
        }
        for after in states {
            if self.seen.insert(after.clone()) {
                self.stack.push(after);
            }
        }
    }

    fn tell(&self, answers: usize) -> String {
        let (explained, state) = &self.best;
        let next = self.next_of(state);
        let key = self.calls.first().map_or(0, |call| call.key);
        let told: Vec<String> =
            next.iter().take(TOLD_MAX).map(|index| self.calls[*index].to_string()).collect();
        format!(
            "register {key}: at most {explained} of {answers} answers can be explained; it holds {} then, and next may be: {}",
            state.value,
            told.join(", ")
        )
    }
}
