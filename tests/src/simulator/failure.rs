//! A seed that fails, with all that is needed to see why.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use annulus_rings::reach;

use super::reduction::Reduction;
use super::shrink::{Extent, shrink};
use super::{Plan, Simulation, Summary};
use crate::faults;

/// What a seed broke.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// What was left out of its history.
    pub reduction: Reduction,
    /// The rule that was broken, by its id, or the contract that the engine violated.
    pub rule: String,
    /// The rule, and how it was broken.
    pub what: String,
    /// The cluster and its accidents.
    pub plan: Plan,
    /// How much had happened.
    pub extent: Extent,
    /// What happened last, one line each.
    pub story: String,
}

/// Plays the history of a seed.
///
/// # Errors
/// A rule was broken, or the engine panicked.
pub fn play(seed: u64, is_traced: bool) -> Result<Summary, Box<Failure>> {
    play_reduced(seed, &Reduction::default(), is_traced)
}

/// Plays the history of a seed, but for what is left out.
///
/// # Errors
/// A rule was broken, or the engine panicked.
pub fn play_reduced(seed: u64, reduction: &Reduction, is_traced: bool) -> Result<Summary, Box<Failure>> {
    let mut simulation = Simulation::of(Plan::draw(seed).reduced(reduction), is_traced);
    let plan = simulation.plan().clone();
    let result = catch_unwind(AssertUnwindSafe(|| simulation.run()));
    reach::settle();
    let (rule, what) = match result {
        Ok(Ok(summary)) => return Ok(summary),
        Ok(Err(violation)) => (violation.rule.to_owned(), violation.to_string()),
        Err(panic) => told(&*panic),
    };
    let (extent, story) = (simulation.extent(&plan), simulation.story());
    Err(Box::new(Failure { seed, reduction: reduction.clone(), rule, what, plan, extent, story }))
}

/// The contract that a panic names, or all of its message; and the message.
fn told(panic: &(dyn Any + Send)) -> (String, String) {
    let text = panic.downcast_ref::<&str>().copied();
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    let message = text.or(owned).unwrap_or("a panic without a message").to_owned();
    let contract = message.strip_prefix("contract ").and_then(|rest| rest.split(' ').next());
    (contract.unwrap_or(&message).to_owned(), message)
}

impl Failure {
    /// A seed that did not tell the same story twice: what it shows can not be replayed.
    pub fn two_stories(seed: u64) -> Failure {
        let plan = Plan::draw(seed);
        let extent = Extent::of(&plan, plan.duration);
        Failure {
            seed,
            reduction: Reduction::default(),
            rule: "determinism".to_owned(),
            what: "tells two stories: the simulation is not deterministic".to_owned(),
            plan,
            extent,
            story: String::new(),
        }
    }

    /// The same failure with less around it: a history that breaks the same rule. `goes_on` is asked before
    /// each attempt, and sees the best one so far.
    #[must_use]
    pub fn shrunk(&self, mut goes_on: impl FnMut(&Failure) -> bool) -> Failure {
        let mut least = self.clone();
        shrink(self.extent, |reduction| {
            if !goes_on(&least) {
                return None;
            }
            let failure = play_reduced(self.seed, reduction, false).err()?;
            let extent = (failure.rule == self.rule).then_some(failure.extent)?;
            least = *failure;
            Some(extent)
        });
        least
    }
}

impl fmt::Display for Failure {
    /// One line that says what is wrong and how to see it again.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { seed, what, reduction, .. } = self;
        let program = match faults::alive() {
            Ok(Some(mutant)) => {
                format!("{}={} {}", faults::ALIVE, mutant.name, faults::with_mutants("simulate"))
            }
            _ => "simulate".to_owned(),
        };
        write!(f, "seed {seed}: {what}; replay it with: {program} --replay {seed}{reduction} --trace")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_told_by_the_contract_that_it_names() {
        let panic: Box<dyn Any + Send> = Box::new("contract A3 accept-guard violated: requires x".to_owned());
        assert_eq!(told(&*panic).0, "A3");
        let panic: Box<dyn Any + Send> = Box::new("no room");
        assert_eq!(told(&*panic), ("no room".to_owned(), "no room".to_owned()));
    }

    #[test]
    fn a_reduced_history_is_the_same_as_often_as_it_is_played() {
        let reduction = Reduction {
            without: vec!["kills"],
            nodes: Some(2),
            accidents: Some(20),
            operations: Some(50),
            ..Reduction::default()
        };
        let play = || play_reduced(4, &reduction, false).expect("the seed is sound");
        assert_eq!(play(), play());
    }
}
