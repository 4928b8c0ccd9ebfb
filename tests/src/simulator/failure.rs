//! A seed that fails, with all that is needed to see why.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use annulus_rings::reach;

use super::{Plan, Simulation, Summary};

/// What a seed broke.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// The rule that was broken, or the contract that the engine violated.
    pub what: String,
    /// The cluster and its accidents.
    pub plan: Plan,
    /// What happened last, one line each.
    pub story: String,
}

/// Plays the history of a seed.
///
/// # Errors
/// A rule was broken, or the engine panicked.
pub fn play(seed: u64, is_traced: bool) -> Result<Summary, Box<Failure>> {
    let mut simulation = Simulation::new(seed, is_traced);
    let result = catch_unwind(AssertUnwindSafe(|| simulation.run()));
    reach::settle();
    let what = match result {
        Ok(Ok(summary)) => return Ok(summary),
        Ok(Err(violation)) => violation.to_string(),
        Err(panic) => message(&*panic),
    };
    let (plan, story) = (simulation.plan().clone(), simulation.story());
    Err(Box::new(Failure { seed, what, plan, story }))
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    text.or(owned).unwrap_or("a panic without a message").to_owned()
}

impl fmt::Display for Failure {
    /// One line that says what is wrong and how to see it again.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { seed, what, .. } = self;
        write!(f, "seed {seed}: {what}; replay it with: simulate --replay {seed} --trace")
    }
}
