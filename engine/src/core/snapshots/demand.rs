//! Whether a ring is due for a snapshot.

use std::time::Duration;

use annulus_rings::Time;

use super::SnapshotOptions;

/// After a snapshot failed, the next one is not tried before.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// What speaks for a snapshot of one ring, and what against it.
#[derive(Default)]
pub(crate) struct Demand {
    /// Bytes that the ring has written since the last snapshot began.
    log_bytes: u64,
    /// When the first of them was written.
    since: Option<Time>,
    /// Somebody asked for one.
    is_asked: bool,
    gate: Gate,
    /// The last one failed: not before.
    retry: Option<Time>,
    /// It stands in the queue.
    pub(super) is_queued: bool,
}

/// Whether snapshots may be taken.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Gate {
    #[default]
    Open,
    /// Somebody asked that none be taken for now.
    Held,
    /// The state machine cannot write one.
    Closed,
}

impl Demand {
    /// The ring wrote `bytes` to the journal. True for the first ones since the last snapshot.
    pub(crate) fn wrote(&mut self, bytes: usize, now: Time) -> bool {
        let is_first = self.since.is_none();
        self.log_bytes += bytes as u64;
        self.since.get_or_insert(now);
        is_first
    }

    /// One is wanted now: by the application, or because the journal needs room.
    pub(crate) fn ask(&mut self) {
        self.is_asked = true;
    }

    /// Whether snapshots are held off until further notice. What was asked for meanwhile waits.
    pub(crate) fn hold(&mut self, is_held: bool) {
        self.gate = match self.gate {
            Gate::Closed => Gate::Closed,
            Gate::Open | Gate::Held if is_held => Gate::Held,
            Gate::Open | Gate::Held => Gate::Open,
        };
    }

    /// The state machine has said that it cannot write one: it is not asked again.
    pub(crate) fn give_up(&mut self) {
        self.gate = Gate::Closed;
    }

    /// Whether none can be had of this ring for now.
    pub(crate) fn is_refused(&self) -> bool {
        self.gate != Gate::Open
    }

    /// Whether one is due.
    pub(crate) fn is_due(&self, now: Time, options: &SnapshotOptions) -> bool {
        if self.is_refused() || self.retry.is_some_and(|retry| now < retry) {
            return false;
        }
        let is_old = |interval| self.since.is_some_and(|since| now >= since + interval);
        self.is_asked || self.log_bytes >= options.log_bytes || options.interval.is_some_and(is_old)
    }

    /// When one may become due without anything else happening.
    pub(crate) fn deadline(&self, options: &SnapshotOptions) -> Time {
        if self.is_refused() {
            return Time::NEVER;
        }
        let by_time = self.since.zip(options.interval).map(|(since, interval)| since + interval);
        self.retry.or(by_time).unwrap_or(Time::NEVER)
    }

    /// One begins: what is written from now on speaks for the next.
    pub(crate) fn begun(&mut self) {
        (self.log_bytes, self.since, self.is_asked, self.retry) = (0, None, false, None);
    }

    /// It failed: it is asked for again, after a while.
    pub(crate) fn failed(&mut self, now: Time) {
        self.is_asked = true;
        self.retry = Some(now + RETRY_INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const OPTIONS: SnapshotOptions = SnapshotOptions {
        log_bytes: 1000,
        interval: Some(Duration::from_nanos(50)),
        kept: 2,
        slice_bytes: 10,
        fetch_bytes_per_second: 1,
    };

    #[test]
    fn bytes_time_and_the_application_ask_for_a_snapshot() {
        let mut demand = Demand::default();
        assert!(!demand.is_due(Time(1_000), &OPTIONS), "nothing was written");
        demand.wrote(999, Time(10));
        assert!(!demand.is_due(Time(59), &OPTIONS));
        assert_eq!(demand.deadline(&OPTIONS), Time(60));
        assert!(demand.is_due(Time(60), &OPTIONS), "an interval after the first byte");
        demand.wrote(1, Time(20));
        assert!(demand.is_due(Time(20), &OPTIONS));
        demand.begun();
        assert!(!demand.is_due(Time(1_000), &OPTIONS));
        demand.ask();
        assert!(demand.is_due(Time(0), &OPTIONS));
    }

    #[test]
    fn a_snapshot_that_failed_is_tried_again_after_a_while() {
        let mut demand = Demand::default();
        demand.failed(Time(7));
        let retry = Time(7) + RETRY_INTERVAL;
        assert_eq!(demand.deadline(&OPTIONS), retry);
        assert!(!demand.is_due(Time(retry.0 - 1), &OPTIONS) && demand.is_due(retry, &OPTIONS));
    }

    #[test]
    fn a_snapshot_that_was_held_off_is_taken_when_it_may_be() {
        let mut demand = Demand::default();
        demand.ask();
        demand.hold(true);
        assert!(!demand.is_due(Time(0), &OPTIONS));
        demand.hold(false);
        assert!(demand.is_due(Time(0), &OPTIONS));
        demand.give_up();
        assert!(!demand.is_due(Time(0), &OPTIONS));
    }
}
