//! The watchdog: one thread that notices cores which make no progress.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use annulus_rings::{CoreId, NodeId, Time};
use annulus_transport::Doorbell;

use crate::clock::{Clock, SystemClock};
use crate::vitals::{End, Pulse, Vitals};

/// How a core is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CoreHealth {
    /// The core.
    pub core: CoreId,
    /// Turns that it has taken.
    pub turns: u64,
    /// What it is doing.
    pub state: CoreState,
    /// What an operator should know while it runs: that it takes no part yet, or refuses a peer's disk.
    pub notice: Option<String>,
}

/// What a core is doing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CoreState {
    /// It takes turns, or sleeps and will wake at its deadline.
    Running,
    /// It has taken no turn for this long, though it should have.
    Stalled(Duration),
    /// It met a bug or a broken journal, and takes no more turns.
    Failed(String),
    /// It was stopped.
    Stopped,
}

/// Watches the cores of a node.
pub(crate) struct Watchdog {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    node: NodeId,
    stall_after: Duration,
    cores: Vec<Watched>,
    stopping: AtomicBool,
}

struct Watched {
    core: CoreId,
    vitals: Arc<Vitals>,
    bell: Doorbell,
    /// Since when it is stalled, by the system clock; 0: it is not.
    stalled_since: AtomicU64,
}

/// Looks per time after which a core counts as stalled.
const LOOKS: u32 = 4;

impl Watchdog {
    pub(crate) fn start(
        node: NodeId,
        cores: Vec<(CoreId, Arc<Vitals>, Doorbell)>,
        stall_after: Duration,
    ) -> Watchdog {
        let watched = |(core, vitals, bell)| Watched { core, vitals, bell, stalled_since: AtomicU64::new(0) };
        let shared = Arc::new(Shared {
            node,
            stall_after,
            cores: cores.into_iter().map(watched).collect(),
            stopping: AtomicBool::new(false),
        });
        let watching = Arc::clone(&shared);
        let thread = thread::Builder::new().name("annulus-watchdog".into()).spawn(move || watching.run());
        if let Err(error) = &thread {
            tracing::error!(%error, "no watchdog: a core that makes no progress will not be noticed");
        }
        Watchdog { shared, thread: thread.ok() }
    }

    pub(crate) fn health(&self) -> Vec<CoreHealth> {
        self.shared.cores.iter().map(Watched::health).collect()
    }

    pub(crate) fn stop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It has nothing to tell, and what it watches has ended.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn run(&self) {
        let mut looks: Vec<Look> = self.cores.iter().map(|core| Look::first(core.vitals.pulse())).collect();
        while !self.stopping.load(Ordering::Relaxed) {
            thread::park_timeout(self.stall_after / LOOKS);
            let now = SystemClock.now();
            for (core, look) in self.cores.iter().zip(&mut looks) {
                core.judge(look, now, self);
            }
        }
    }
}

impl Watched {
    fn judge(&self, look: &mut Look, now: Time, shared: &Shared) {
        let stalled =
            self.vitals.end().is_none() && look.is_stalled(self.vitals.pulse(), now, shared.stall_after);
        let was_stalled = self.stalled_since.load(Ordering::Relaxed) != 0;
        if stalled == was_stalled {
            return;
        }
        let since = if stalled { look.since.0.max(1) } else { 0 };
        self.stalled_since.store(since, Ordering::Relaxed);
        if stalled {
            tracing::error!(node = %shared.node, core = %self.core, turns = look.pulse.turns, "core makes no progress");
            // If it sleeps by a mistake of its runner, this wakes it.
            self.bell.arm();
            self.bell.ring();
        } else {
            tracing::warn!(node = %shared.node, core = %self.core, "core makes progress again");
        }
    }

    fn health(&self) -> CoreHealth {
        let stalled_since = self.stalled_since.load(Ordering::Relaxed);
        let state = match self.vitals.end() {
            Some(End::Failed(message)) => CoreState::Failed(message),
            Some(End::Stopped) => CoreState::Stopped,
            None if stalled_since != 0 => CoreState::Stalled(SystemClock.now().since(Time(stalled_since))),
            None => CoreState::Running,
        };
        CoreHealth { core: self.core, turns: self.vitals.pulse().turns, state, notice: self.vitals.noticed() }
    }
}

/// What the last look at a core showed, and since when it shows that.
struct Look {
    pulse: Pulse,
    since: Time,
}

impl Look {
    fn first(pulse: Pulse) -> Look {
        Look { pulse, since: SystemClock.now() }
    }

    /// Whether the core has stood still for longer than `stall_after` while it should not.
    fn is_stalled(&mut self, pulse: Pulse, now: Time, stall_after: Duration) -> bool {
        if pulse != self.pulse {
            *self = Look { pulse, since: now };
        }
        let due = match pulse.parked_until {
            Some(deadline) => deadline.max(self.since),
            None => self.since,
        };
        now.since(due) > stall_after
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STALL: Duration = Duration::from_nanos(100);

    fn pulse(turns: u64, parked_until: Option<u64>) -> Pulse {
        Pulse { turns, parks: 0, parked_until: parked_until.map(Time) }
    }

    #[test]
    fn a_running_core_that_takes_no_turn_is_stalled() {
        let mut look = Look { pulse: pulse(5, None), since: Time(0) };
        assert!(!look.is_stalled(pulse(6, None), Time(1000), STALL));
        assert!(!look.is_stalled(pulse(6, None), Time(1100), STALL));
        assert!(look.is_stalled(pulse(6, None), Time(1101), STALL));
        assert!(!look.is_stalled(pulse(7, None), Time(1200), STALL), "and is not once it goes on");
    }

    #[test]
    fn a_sleeping_core_is_stalled_only_when_it_sleeps_past_its_deadline() {
        let mut look = Look { pulse: pulse(5, Some(5000)), since: Time(0) };
        assert!(!look.is_stalled(pulse(5, Some(5000)), Time(5000), STALL));
        assert!(look.is_stalled(pulse(5, Some(5000)), Time(5101), STALL));
    }
}
