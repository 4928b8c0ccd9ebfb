//! What is counted in the measured window: commands acknowledged, and how long each took.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Longer than any command is waited for.
const LATENCY_NS_MAX: u64 = 600_000_000_000;
/// Significant digits of a latency.
const LATENCY_DIGITS: u8 = 3;

/// The time during which acknowledgements count, on the clock of whoever generates the load.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Window {
    /// Before this, caches and branch predictors warm up.
    pub(crate) starts_ns: u64,
    /// From here on nothing new is sent.
    pub(crate) ends_ns: u64,
}

impl Window {
    fn holds(self, at_ns: u64) -> bool {
        self.starts_ns <= at_ns && at_ns < self.ends_ns
    }
}

/// Counts and times acknowledgements.
pub(crate) struct Meter {
    window: Window,
    committed: u64,
    latencies_ns: Histogram<u64>,
}

/// Quantiles of a latency in microseconds.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct LatencyUs {
    /// Median.
    pub(crate) p50: f64,
    /// 90 %.
    pub(crate) p90: f64,
    /// 99 %.
    pub(crate) p99: f64,
    /// 99.9 %.
    pub(crate) p999: f64,
    /// The slowest.
    pub(crate) max: f64,
}

impl Meter {
    /// An empty meter for one window.
    pub(crate) fn new(window: Window) -> Meter {
        Meter { window, committed: 0, latencies_ns: latency_histogram() }
    }

    /// `count` commands, due at `due_ns`, are acknowledged at `now_ns`. Throughput counts what is
    /// acknowledged in the window; latency what is due in it, however late its answer comes, so that a stall
    /// at the end is not lost.
    #[inline]
    pub(crate) fn record(&mut self, due_ns: u64, now_ns: u64, count: u64) {
        if self.window.holds(now_ns) {
            self.committed += count;
        }
        if self.window.holds(due_ns) {
            self.latencies_ns.saturating_record_n(now_ns.saturating_sub(due_ns), count);
        }
    }

    /// Adds what another thread counted in the same window.
    pub(crate) fn merge(&mut self, other: &Meter) {
        self.committed += other.committed;
        self.latencies_ns.add(&other.latencies_ns).expect("both histograms have the same bounds");
    }

    /// Commands acknowledged in the window.
    pub(crate) fn committed(&self) -> u64 {
        self.committed
    }

    /// Their latency.
    pub(crate) fn latency(&self) -> LatencyUs {
        LatencyUs::of(&self.latencies_ns)
    }

    /// How long the window is.
    pub(crate) fn seconds(&self) -> f64 {
        (self.window.ends_ns - self.window.starts_ns) as f64 / 1e9
    }
}

impl LatencyUs {
    /// The quantiles of a histogram of nanoseconds.
    pub(crate) fn of(histogram: &Histogram<u64>) -> LatencyUs {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
        LatencyUs { p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max: at(1.0) }
    }
}

/// A histogram of nanoseconds with the benchmark's bounds.
pub(crate) fn latency_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, LATENCY_DIGITS).expect("the bounds are valid")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_window_counts() {
        let mut meter = Meter::new(Window { starts_ns: 1_000_000, ends_ns: 2_000_000 });
        meter.record(900_000, 999_999, 5);
        meter.record(900_000, 1_000_000, 7);
        meter.record(1_900_000, 2_000_000, 9);
        assert_eq!(meter.committed(), 7);
        assert!((meter.latency().max - 100.0).abs() < 0.1, "due in the window, answered after it");
        assert!((meter.seconds() - 0.001).abs() < 1e-9);
    }

    #[test]
    fn meters_of_two_threads_add_up() {
        let window = Window { starts_ns: 0, ends_ns: 100 };
        let mut one = Meter::new(window);
        let mut other = Meter::new(window);
        one.record(0, 10, 1);
        other.record(0, 90, 1);
        one.merge(&other);
        assert_eq!(one.committed(), 2);
        assert!((one.latency().max - 0.09).abs() < 1e-3);
    }
}
