//! The clocks of a simulated node: each runs at its own rate, and its date may jump.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use annulus_rings::Time;

/// True time, which nobody in the cluster can read.
#[derive(Clone, Default)]
pub(super) struct TrueTime(Rc<Cell<u64>>);

impl TrueTime {
    pub(super) fn now(&self) -> Time {
        Time(self.0.get())
    }

    pub(super) fn advance_to(&self, time: Time) {
        debug_assert!(time >= self.now(), "time does not go back");
        self.0.set(time.0);
    }
}

/// The clock of one node. Clones are the same clock.
#[derive(Clone)]
pub(super) struct SimulatedClock {
    truth: TrueTime,
    dial: Rc<Cell<Dial>>,
}

#[derive(Clone, Copy)]
struct Dial {
    /// Local nanoseconds in 10,000 true ones.
    rate: u64,
    /// How far the date is from the clock that only counts.
    date_ns: u64,
}

const RATE_ONE: u64 = 10_000;
const DATE_NS: u64 = 1_700_000_000_000_000_000;

impl SimulatedClock {
    /// A clock that runs `drift` of 10,000 fast, or slow.
    pub(super) fn new(truth: &TrueTime, drift: i64) -> SimulatedClock {
        let dial = Dial { rate: RATE_ONE.saturating_add_signed(drift), date_ns: DATE_NS };
        SimulatedClock { truth: truth.clone(), dial: Rc::new(Cell::new(dial)) }
    }

    /// Lets the date jump, to and fro.
    pub(super) fn jump(&self, by: Duration, back: bool) {
        let mut dial = self.dial.get();
        let by_ns = by.as_nanos() as u64;
        dial.date_ns = if back { DATE_NS - by_ns } else { DATE_NS + by_ns };
        self.dial.set(dial);
    }

    /// The true time at which this clock shows `local`.
    pub(super) fn truth_of(&self, local: Time) -> Time {
        if local == Time::NEVER {
            return Time::NEVER;
        }
        let rate = u128::from(self.dial.get().rate);
        let truth = (u128::from(local.0) * u128::from(RATE_ONE)).div_ceil(rate);
        Time(u64::try_from(truth).unwrap_or(u64::MAX))
    }
}

impl annulus::clock::Clock for SimulatedClock {
    fn now(&self) -> Time {
        let local = u128::from(self.truth.now().0) * u128::from(self.dial.get().rate) / u128::from(RATE_ONE);
        Time(local as u64)
    }

    fn wall_ns(&self) -> u64 {
        self.dial.get().date_ns + self.now().0
    }
}
