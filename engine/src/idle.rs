//! What a core does when a turn found nothing to do: a policy, apart from the work.

use std::time::Duration;

use annulus_rings::Time;

/// How a core waits.
///
/// Spinning answers fastest, but replicas that spin on too few CPUs starve one another and the kernel's
/// own workers. So the default spins for about as long as a disk takes to answer, giving the CPU away
/// between looks, and then parks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Idle {
    /// How long to look again and again before parking.
    pub spin: Duration,
    /// Whether to park at all. Without, a core uses its CPU for ever: for machines with CPUs to spare.
    pub park: bool,
}

impl Default for Idle {
    fn default() -> Idle {
        Idle { spin: Duration::from_micros(100), park: true }
    }
}

/// What a runner does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Next {
    /// Take another turn.
    Turn,
    /// Let others have the CPU, then take another turn.
    Yield,
    /// Sleep until something happens.
    Park,
}

/// Follows the policy from turn to turn.
pub(crate) struct Idler {
    policy: Idle,
    idle_since: Option<Time>,
}

impl Idler {
    pub(crate) fn new(policy: Idle) -> Idler {
        Idler { policy, idle_since: None }
    }

    /// What follows a turn that began at `now` and did `work`.
    pub(crate) fn after(&mut self, now: Time, work: usize) -> Next {
        if work > 0 {
            self.idle_since = None;
            return Next::Turn;
        }
        let since = *self.idle_since.get_or_insert(now);
        if self.policy.park && now.since(since) >= self.policy.spin { Next::Park } else { Next::Yield }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_spins_then_parks_and_work_starts_it_over() {
        let mut idler = Idler::new(Idle { spin: Duration::from_micros(30), park: true });
        assert_eq!(idler.after(Time(0), 1), Next::Turn);
        assert_eq!(idler.after(Time(100), 0), Next::Yield);
        assert_eq!(idler.after(Time(29_000), 0), Next::Yield);
        assert_eq!(idler.after(Time(30_100), 0), Next::Park);
        assert_eq!(idler.after(Time(30_200), 0), Next::Park, "a wake-up for nothing parks again at once");
        assert_eq!(idler.after(Time(30_300), 5), Next::Turn);
        assert_eq!(idler.after(Time(30_400), 0), Next::Yield);
    }

    #[test]
    fn a_core_that_may_not_park_never_does() {
        let mut idler = Idler::new(Idle { park: false, ..Idle::default() });
        assert_eq!(idler.after(Time(0), 0), Next::Yield);
        assert_eq!(idler.after(Time(u64::MAX), 0), Next::Yield);
    }
}
