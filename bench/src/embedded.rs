//! The load on the leader's own cores: the same closed loops, without a socket between.

use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use annulus::{Completion, Local, Rejected, RingId, Service, Time};

use crate::control::{LanePlan, LoadPlan, SessionResult};
use crate::meter::{Meter, Window};
use crate::session::Session;

/// How often a core that has no load looks for one.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);
/// Commands proposed in one turn by one session, at the most: what a client's socket delivers at once.
const COMMANDS_PER_TURN_MAX: u64 = 1024;

/// Where a core gets its load, and leaves what came of it.
#[derive(Default)]
pub(crate) struct Desk {
    /// A load to begin.
    order: Mutex<Option<LoadPlan>>,
    /// Orders placed so far: looking at it costs a core nothing.
    orders: AtomicU64,
    /// Commands acknowledged since the load began.
    pub(crate) acknowledged: AtomicU64,
    /// A load that ended.
    result: Mutex<Option<EmbeddedResult>>,
}

/// What a core's load came to.
pub(crate) struct EmbeddedResult {
    pub(crate) meter: Meter,
    pub(crate) sessions: Vec<SessionResult>,
    pub(crate) interruptions: u64,
}

impl Desk {
    /// Places an order for the core; it takes it up within 10 ms.
    pub(crate) fn order(&self, plan: LoadPlan) {
        self.acknowledged.store(0, Ordering::Relaxed);
        *self.order.lock().expect("nobody panics with the desk") = Some(plan);
        self.orders.fetch_add(1, Ordering::Release);
    }

    /// What came of the order, when it has ended.
    pub(crate) fn result(&self) -> Option<EmbeddedResult> {
        self.result.lock().expect("nobody panics with the desk").take()
    }
}

/// The load generator of one core.
pub(crate) struct Embedded {
    core: usize,
    desk: Arc<Desk>,
    orders_seen: u64,
    look_at: Time,
    load: Option<EmbeddedLoad>,
}

/// A load that runs.
struct EmbeddedLoad {
    began: Instant,
    window: Window,
    meter: Meter,
    loops: Vec<Loop>,
    interruptions: u64,
    payload: usize,
}

/// A session on its ring.
struct Loop {
    ring: RingId,
    session: Session,
    /// Acknowledged since the last flush.
    landed: u64,
    /// Its leader is lost: what is in flight has an unknown outcome.
    ended: bool,
}

impl Embedded {
    /// The generator of core `core`, with orders from `desk`.
    pub(crate) fn new(core: usize, desk: Arc<Desk>) -> Embedded {
        Embedded { core, desk, orders_seen: 0, look_at: Time(0), load: None }
    }

    fn look_for_orders(&mut self) {
        let orders = self.desk.orders.load(Ordering::Acquire);
        if orders == self.orders_seen {
            return;
        }
        self.orders_seen = orders;
        let plan = self.desk.order.lock().expect("nobody panics with the desk").take();
        self.load = plan.map(|plan| EmbeddedLoad::new(&plan, self.core));
    }
}

impl Service for Embedded {
    fn turn(&mut self, local: &mut Local<'_>) -> usize {
        self.look_at = local.now() + LOOK_INTERVAL;
        self.look_for_orders();
        let Some(load) = &mut self.load else { return 0 };
        let proposed = load.propose(local);
        if load.is_over()
            && let Some(load) = self.load.take()
        {
            *self.desk.result.lock().expect("nobody panics with the desk") = Some(load.into_result());
        }
        proposed
    }

    fn completed(&mut self, tag: u64, completion: Completion<'_>) {
        let Some(load) = &mut self.load else { return };
        let Some(closed) = load.loops.get_mut(tag as usize) else { return };
        match completion {
            Completion::Committed { .. } => closed.landed += 1,
            Completion::Rejected(_) | Completion::Unknown => {
                load.interruptions += u64::from(!closed.ended);
                closed.ended = true;
            }
        }
    }

    fn flush(&mut self) {
        if let Some(load) = &mut self.load {
            let landed = load.land();
            self.desk.acknowledged.fetch_add(landed, Ordering::Relaxed);
        }
    }

    fn prepare_park(&mut self) -> bool {
        false
    }

    fn register_wake(&mut self, _eventfd: RawFd) -> io::Result<()> {
        Ok(())
    }

    fn deadline(&self) -> Time {
        self.look_at
    }
}

impl EmbeddedLoad {
    fn new(plan: &LoadPlan, core: usize) -> EmbeddedLoad {
        let window = Window::of(plan);
        let make = |lane: &LanePlan| Loop {
            ring: RingId(lane.ring),
            session: Session::new(lane.session, plan.payload, plan.outstanding),
            landed: 0,
            ended: false,
        };
        EmbeddedLoad {
            began: Instant::now(),
            window,
            meter: Meter::new(window),
            loops: plan.lanes[core].iter().map(make).collect(),
            interruptions: 0,
            payload: plan.payload,
        }
    }

    fn now_ns(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    /// Fills every loop.
    fn propose(&mut self, local: &mut Local<'_>) -> usize {
        let now_ns = self.now_ns();
        if now_ns >= self.window.ends_ns {
            return 0;
        }
        let mut scratch = Vec::with_capacity(self.payload);
        let mut proposed = 0;
        for (tag, closed) in self.loops.iter_mut().enumerate().filter(|(_, closed)| !closed.ended) {
            let room = closed.session.room().min(COMMANDS_PER_TURN_MAX);
            let mut taken = 0;
            while taken < room {
                closed.session.next_command(taken, &mut scratch);
                match local.propose(closed.ring, tag as u64, &scratch) {
                    Ok(()) => taken += 1,
                    Err(Rejected::Full { .. }) => break,
                    Err(_) => {
                        self.interruptions += 1;
                        closed.ended = true;
                        break;
                    }
                }
            }
            closed.session.took_off(taken, now_ns);
            proposed += taken as usize;
        }
        proposed
    }

    /// Takes up the commands that were committed in this turn.
    fn land(&mut self) -> u64 {
        let mut total = 0;
        let now_ns =
            if self.loops.iter().any(|closed| closed.landed > 0) { self.now_ns() } else { return 0 };
        for closed in self.loops.iter_mut().filter(|closed| closed.landed > 0) {
            let landed = std::mem::take(&mut closed.landed);
            let upto = closed.session.acknowledged() + landed;
            closed
                .session
                .acknowledge(upto, now_ns, &mut self.meter)
                .expect("a ring commits what was proposed, once");
            total += landed;
        }
        total
    }

    fn is_over(&self) -> bool {
        self.now_ns() >= self.window.ends_ns
            && self.loops.iter().all(|closed| closed.ended || closed.session.is_idle())
    }

    fn into_result(self) -> EmbeddedResult {
        let payload = self.payload;
        let result = |closed: &Loop| SessionResult {
            ring: closed.ring.0,
            session: closed.session.number(),
            payload,
            sent: closed.session.sent(),
            acknowledged: closed.session.acknowledged(),
        };
        EmbeddedResult {
            sessions: self.loops.iter().map(result).collect(),
            meter: self.meter,
            interruptions: self.interruptions,
        }
    }
}
