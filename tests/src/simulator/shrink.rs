//! Shrinking: the same failure with less around it.
//!
//! Whole classes of accidents go first, then time, nodes, rings, single accidents and commands. What is tried
//! counts only if it breaks the same rule. Nothing here knows what a history is: the caller plays it.

use std::time::Duration;

use super::plan::Plan;
use super::reduction::Reduction;

/// Times that everything is tried, at the most.
const ROUNDS_MAX: u32 = 3;

/// How much happened in a history until it failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    /// When the accidents were to end, or the failure if that was earlier.
    pub duration: Duration,
    /// Nodes of the cluster.
    pub nodes: u16,
    /// Rings of each.
    pub rings: u32,
    /// Accidents until then.
    pub accidents: u64,
    /// Commands until then.
    pub operations: u64,
}

impl Extent {
    /// That of a plan before anything has happened in it.
    pub(super) fn of(plan: &Plan, duration: Duration) -> Extent {
        Extent { duration, nodes: plan.nodes, rings: plan.rings, accidents: 0, operations: 0 }
    }
}

/// Leaves out more and more of a history of this extent that `fails`, which tells the extent of one that
/// fails in the same way.
pub fn shrink(extent: Extent, fails: impl FnMut(&Reduction) -> Option<Extent>) -> Reduction {
    let mut shrinking = Shrinking { fails, extent, least: Reduction::default() };
    for _ in 0..ROUNDS_MAX {
        let before = shrinking.least.clone();
        shrinking.leave_out_classes();
        shrinking.shorten();
        shrinking.leave_out_nodes_and_rings();
        shrinking.leave_out_accidents();
        shrinking.leave_out_operations();
        if shrinking.least == before {
            break;
        }
    }
    shrinking.least
}

struct Shrinking<F> {
    fails: F,
    /// Of the smallest history that fails, and what it leaves out.
    extent: Extent,
    least: Reduction,
}

impl<F: FnMut(&Reduction) -> Option<Extent>> Shrinking<F> {
    /// Takes a reduction if the history still fails with it.
    fn accept(&mut self, reduction: Reduction) -> bool {
        let extent = (self.fails)(&reduction);
        if let Some(extent) = extent {
            (self.extent, self.least) = (extent, reduction);
        }
        extent.is_some()
    }

    fn leave_out_classes(&mut self) {
        for class in Plan::classes() {
            if !self.least.without.contains(class) {
                self.accept(self.least.and_without(class));
            }
        }
    }

    /// What follows the failure is never missed; then half of the time, as long as that is enough.
    fn shorten(&mut self) {
        let mut duration = self.extent.duration;
        while self.least.duration.is_none_or(|least| duration < least)
            && self.accept(Reduction { duration: Some(duration), ..self.least.clone() })
        {
            duration = Duration::from_millis(self.extent.duration.as_millis() as u64 / 2);
        }
    }

    fn leave_out_nodes_and_rings(&mut self) {
        (1..self.extent.nodes)
            .any(|nodes| self.accept(Reduction { nodes: Some(nodes), ..self.least.clone() }));
        (1..self.extent.rings)
            .any(|rings| self.accept(Reduction { rings: Some(rings), ..self.least.clone() }));
    }

    fn leave_out_accidents(&mut self) {
        let most = self.least.accidents.unwrap_or(u64::MAX).min(self.extent.accidents + 1);
        self.bisect(most, |least, accidents| Reduction { accidents: Some(accidents), ..least });
    }

    fn leave_out_operations(&mut self) {
        let most = self.least.operations.unwrap_or(u64::MAX).min(self.extent.operations + 1);
        self.bisect(most, |least, operations| Reduction { operations: Some(operations), ..least });
    }

    /// The least number below `most` with which it fails, if more never mends it; else one that will do.
    fn bisect(&mut self, most: u64, with: impl Fn(Reduction, u64) -> Reduction) {
        let (mut low, mut high) = (0, most);
        while low < high {
            let middle = low.midpoint(high);
            if self.accept(with(self.least.clone(), middle)) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: Extent =
        Extent { duration: Duration::from_mins(1), nodes: 5, rings: 3, accidents: 700, operations: 900 };

    /// A history that fails after two kills, 5 accidents and 33 commands, on three nodes, in eight seconds.
    fn fails(reduction: &Reduction) -> Option<Extent> {
        let duration = reduction.duration.unwrap_or(WHOLE.duration);
        let nodes = reduction.nodes.unwrap_or(WHOLE.nodes);
        let accidents = reduction.accidents.unwrap_or(WHOLE.accidents);
        let operations = reduction.operations.unwrap_or(WHOLE.operations);
        let fails = !reduction.without.contains(&"kills")
            && duration >= Duration::from_secs(8)
            && nodes >= 3
            && accidents >= 5
            && operations >= 33;
        let happened = Duration::from_secs(20).min(duration);
        let rings = reduction.rings.unwrap_or(WHOLE.rings);
        fails.then_some(Extent { duration: happened, nodes, rings, accidents, operations })
    }

    #[test]
    fn what_a_failure_needs_is_left() {
        let least = shrink(WHOLE, fails);
        let others: Vec<&str> = Plan::classes().iter().copied().filter(|class| *class != "kills").collect();
        assert_eq!(least.without, others);
        assert_eq!(least.duration, Some(Duration::from_secs(10)));
        assert_eq!((least.nodes, least.rings), (Some(3), Some(1)));
        assert_eq!((least.accidents, least.operations), (Some(5), Some(33)));
    }

    #[test]
    fn what_does_not_fail_again_is_left_as_it_is() {
        let mut tried = 0;
        let least = shrink(WHOLE, |_| {
            tried += 1;
            None
        });
        assert_eq!(least, Reduction::default());
        assert!(tried < 100, "{tried} were tried");
    }

    #[test]
    fn every_step_that_is_taken_fails() {
        let mut last = None;
        let least = shrink(WHOLE, |reduction| {
            // Something without order: more accidents may mend it.
            let is_odd = reduction.accidents.is_none_or(|accidents| accidents % 7 > 2);
            let extent = fails(reduction).filter(|_| is_odd);
            last = extent.map(|_| reduction.clone()).or(last.take());
            extent
        });
        assert_eq!(Some(least), last);
    }
}
