//! Whether a history of operations on registers is linearizable: whether each could have happened at one
//! moment between its call and its answer. It looks at calls and answers alone, never at a log.
//!
//! The search is that of Wing and Gong, *Testing and Verifying Concurrent Objects*, 1993, with the memory of
//! Lowe, *Testing for Linearizability*, 2017: no set of operations that left the same value is gone on from
//! twice. Each register is judged by itself, which linearizability allows. An operation whose outcome nobody
//! learned stays open for ever: it may take effect at any time after its call, or never. A rejected one must
//! have none.

mod history;
mod register;
mod search;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use history::{Call, End, History};
pub use register::{Answer, Operation};
pub use search::Verdict;

/// Judges a history, register by register. A search that would remember more than `states_max` states of a
/// register is given up, and the history is not judged, unless another register shows that it is broken.
pub fn judge(calls: &[Call], states_max: usize) -> Verdict {
    let mut verdict = Verdict::Linearizable;
    for judged in judge_each(calls, states_max) {
        match judged {
            Verdict::Linearizable => {}
            Verdict::NotJudged => verdict = Verdict::NotJudged,
            Verdict::Broken(_) => return judged,
        }
    }
    verdict
}

/// The same, for each register.
fn judge_each(calls: &[Call], states_max: usize) -> impl Iterator<Item = Verdict> {
    let mut by_key: BTreeMap<u64, Vec<&Call>> = BTreeMap::new();
    for call in calls {
        by_key.entry(call.key).or_default().push(call);
    }
    by_key.into_values().map(move |calls| search::judge(calls, states_max))
}
