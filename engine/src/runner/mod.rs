//! Runners: what calls the turns of a core, and lets its thread sleep.

mod glommio;
mod thread;

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use annulus_rings::{CoreId, Time};
use annulus_storage::Disk;
use annulus_transport::{Network, Wake};

use crate::clock::Clock;
use crate::core::Core;
use crate::core_thread::Seat;
use crate::idle::{Idler, Next};
use crate::settings::Runner;
use crate::vitals::{End, Vitals};

/// Takes turns until the core ends.
pub(crate) fn run(seat: Seat, turner: Turner<'_>) -> io::Result<End> {
    match seat.runner {
        Runner::Thread => Ok(thread::run(turner)),
        Runner::Glommio => glommio::run(seat, turner),
    }
}

/// A core, whatever its disk, network and clock.
pub(crate) trait Hosted {
    fn turn(&mut self, now: Time) -> usize;
    fn now(&self) -> Time;
    fn deadline(&self) -> Time;
    fn prepare_park(&mut self) -> bool;
    fn over(&self) -> Option<&End>;
    fn stop(&mut self, end: End);
}

impl<D: Disk, N: Network, C: Clock> Hosted for Core<D, N, C> {
    fn turn(&mut self, now: Time) -> usize {
        Core::turn(self, now)
    }

    fn now(&self) -> Time {
        Core::now(self)
    }

    fn deadline(&self) -> Time {
        Core::deadline(self)
    }

    fn prepare_park(&mut self) -> bool {
        Core::prepare_park(self)
    }

    fn over(&self) -> Option<&End> {
        Core::over(self)
    }

    fn stop(&mut self, end: End) {
        Core::stop(self, end);
    }
}

/// What both runners do the same: turns, the idle policy, the steps before and after sleeping.
pub(crate) struct Turner<'a> {
    core: &'a mut dyn Hosted,
    wake: &'a Wake,
    vitals: &'a Vitals,
    idler: Idler,
    id: CoreId,
}

/// The longest sleep. A core that sleeps longer than it said is noticed, so it says often.
const PARK_MAX: Duration = Duration::from_secs(1);

impl<'a> Turner<'a> {
    pub(crate) fn new(
        core: &'a mut dyn Hosted,
        wake: &'a Wake,
        vitals: &'a Vitals,
        seat: Seat,
    ) -> Turner<'a> {
        Turner { core, wake, vitals, idler: Idler::new(seat.idle), id: seat.core }
    }

    /// Takes a turn and says what comes next, or why nothing does.
    fn turn(&mut self) -> Result<Next, End> {
        let now = self.core.now();
        let work = self.guarded_turn(now)?;
        Ok(self.idler.after(now, work))
    }

    /// Gets ready to sleep; tells for how long, or `None` when there is something to do.
    ///
    /// Old signals are forgotten first, and then everything is looked at once more: what happens after
    /// that look signals the eventfd.
    fn prepare_park(&mut self) -> Result<Option<Duration>, End> {
        self.wake.prepare();
        let now = self.core.now();
        let work = self.guarded_turn(now)?;
        let deadline = self.core.deadline().min(now + PARK_MAX);
        if work > 0 || deadline <= now || self.core.prepare_park() {
            self.wake.resume();
            return Ok(None);
        }
        self.vitals.parked(deadline);
        Ok(Some(deadline.since(now)))
    }

    /// The thread sleeps no more.
    fn resumed(&mut self) {
        self.wake.resume();
        self.vitals.unparked();
    }

    /// A turn. A panic in it (a violated contract, a bug in a state machine) ends the core: what is under
    /// way ends as unknown, and nothing more is written or sent.
    fn guarded_turn(&mut self, now: Time) -> Result<usize, End> {
        let work =
            catch_unwind(AssertUnwindSafe(|| self.core.turn(now))).map_err(|panic| self.failed(&*panic))?;
        match self.core.over() {
            None => Ok(work),
            Some(end) => Err(end.clone()),
        }
    }

    fn failed(&mut self, panic: &(dyn Any + Send)) -> End {
        let message = panic_message(panic);
        tracing::error!(core = %self.id, message, "this core has panicked and stops");
        let end = End::Failed(message);
        // The core may be in the middle of anything; its clients are told all the same, if that is possible.
        let told = catch_unwind(AssertUnwindSafe(|| self.core.stop(end.clone())));
        if told.is_err() {
            tracing::error!(core = %self.id, "clients of this core could not be told");
        }
        end
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    text.or(owned).unwrap_or("a panic without a message").to_owned()
}
