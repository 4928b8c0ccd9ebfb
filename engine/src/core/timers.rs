//! When which ring wants to be woken, without looking at rings that have nothing to do.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use annulus_rings::Time;

/// The deadlines of many rings.
///
/// Most deadlines move later with every message, so an entry is not moved: when it comes up, the ring
/// is asked for its deadline then. Only a deadline that moves earlier costs an entry.
#[derive(Default)]
pub(crate) struct Timers {
    entries: BinaryHeap<Reverse<(Time, u32)>>,
    /// For each ring, the earliest entry that is in the heap for it.
    scheduled: Vec<Time>,
}

impl Timers {
    /// The ring at `index` wants to be woken at `deadline`.
    pub(crate) fn schedule(&mut self, index: usize, deadline: Time) {
        if index >= self.scheduled.len() {
            self.scheduled.resize(index + 1, Time::NEVER);
        }
        if deadline < self.scheduled[index] {
            self.scheduled[index] = deadline;
            self.entries.push(Reverse((deadline, index as u32)));
        }
    }

    /// A ring whose deadline may have passed: ask it, and schedule it again.
    pub(crate) fn expired(&mut self, now: Time) -> Option<usize> {
        while let Some(&Reverse((deadline, index))) = self.entries.peek() {
            if deadline > now {
                return None;
            }
            self.entries.pop();
            let index = index as usize;
            if self.scheduled[index] == deadline {
                self.scheduled[index] = Time::NEVER;
                return Some(index);
            }
        }
        None
    }

    /// When to look again.
    pub(crate) fn next(&self) -> Time {
        self.entries.peek().map_or(Time::NEVER, |&Reverse((deadline, _))| deadline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_earlier_deadline_wins_and_the_entry_it_replaces_is_silent() {
        let mut timers = Timers::default();
        timers.schedule(0, Time(100));
        timers.schedule(0, Time(50));
        timers.schedule(1, Time(70));
        assert_eq!(timers.next(), Time(50));
        assert_eq!(timers.expired(Time(60)), Some(0));
        assert_eq!(timers.expired(Time(60)), None);
        assert_eq!(timers.expired(Time(200)), Some(1));
        assert_eq!(timers.expired(Time(200)), None, "the entry at 100 was replaced");
    }

    #[test]
    fn a_deadline_that_moves_later_costs_no_entry() {
        let mut timers = Timers::default();
        for deadline in 100..200 {
            timers.schedule(0, Time(deadline));
        }
        assert_eq!(timers.entries.len(), 1);
    }
}
