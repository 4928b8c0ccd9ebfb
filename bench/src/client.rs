//! The client process: a thread per core of the leader, each with its lanes, waiting as the engine does.

use std::io::{self, BufRead};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use annulus::{NodeId, RingId};
use rustix::event::epoll;
use rustix::fd::OwnedFd;

use crate::control::{self, Answer, Event, LanePlan, Line, LoadPlan, LoadResult, Request, SessionResult};
use crate::lane::{Lane, LaneError};
use crate::meter::{Meter, Window};
use crate::patience::Patience;
use crate::process;
use crate::session::Session;

/// How long commands in flight are waited for after the load.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// A leader that was lost is looked for this often.
const RETRY_INTERVAL: Duration = Duration::from_millis(20);
/// The longest sleep: what a thread does next depends on the time too.
const PARK_MAX: Duration = Duration::from_millis(10);
/// How often progress is told.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// Does as it is told over standard input, until that ends.
pub(crate) fn main() -> Result<(), String> {
    let mut input = io::stdin().lock();
    control::tell(Event::Ready);
    serve(&mut input).map_err(|error| error.to_string())
}

fn serve(input: &mut impl BufRead) -> io::Result<()> {
    while let Some(request) = control::hear::<Request>(input)? {
        let Request::Load(plan) = request else {
            let answer = Answer::Failed("a client only makes load".to_owned());
            control::say(&mut io::stdout().lock(), &Line::Answer(answer))?;
            continue;
        };
        control::say(&mut io::stdout().lock(), &Line::Answer(Answer::Done))?;
        control::tell(load(&plan).map_or_else(Event::Failed, Event::Finished));
    }
    Ok(())
}

/// What the threads of a load share.
struct Shared<'a> {
    plan: &'a LoadPlan,
    begin: Instant,
    window: Window,
    acknowledged: AtomicU64,
    spare_session: AtomicU32,
}

/// What a thread comes back with.
struct Done {
    meter: Meter,
    sessions: Vec<SessionResult>,
    interruptions: u64,
}

/// Makes one load from beginning to end.
fn load(plan: &LoadPlan) -> Result<LoadResult, String> {
    let shared = Shared::new(plan);
    let done = std::thread::scope(|scope| {
        let shared = &shared;
        let drive = |core| scope.spawn(move || Driver::new(core, shared)?.drive());
        let threads: Vec<_> = (0..plan.lanes.len()).map(drive).collect();
        narrate(shared, || threads.iter().all(std::thread::ScopedJoinHandle::is_finished));
        threads
            .into_iter()
            .map(|thread| thread.join().expect("a load thread panicked"))
            .collect::<Result<Vec<_>, _>>()
    })?;
    Ok(LoadResult::of(shared.window, done))
}

/// Tells how the load proceeds until it is over.
fn narrate(shared: &Shared<'_>, is_over: impl Fn() -> bool) {
    let mut marks =
        vec![(shared.window.ends_ns, Event::Measured), (shared.window.starts_ns, Event::Measuring)];
    let mut told = Instant::now();
    while !is_over() {
        let now_ns = shared.now_ns();
        if let Some((_, event)) = marks.pop_if(|(at_ns, _)| *at_ns <= now_ns) {
            control::tell(event);
        }
        if told.elapsed() >= PROGRESS_INTERVAL {
            told = Instant::now();
            let acknowledged = shared.acknowledged.load(Ordering::Relaxed);
            if !control::tell(Event::Progress { acknowledged }) {
                // The benchmark is gone, and a client has nothing to put in order.
                std::process::exit(1);
            }
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    // A load that failed early still passes its marks, so that whoever waits for them goes on.
    for (_, event) in marks.into_iter().rev() {
        control::tell(event);
    }
}

impl<'a> Shared<'a> {
    fn new(plan: &'a LoadPlan) -> Shared<'a> {
        Shared {
            plan,
            begin: Instant::now(),
            window: Window::of(plan),
            acknowledged: AtomicU64::new(0),
            spare_session: AtomicU32::new(plan.spare_sessions.0),
        }
    }

    fn now_ns(&self) -> u64 {
        self.begin.elapsed().as_nanos() as u64
    }
}

impl Window {
    /// The window of a load that begins at 0.
    pub(crate) fn of(plan: &LoadPlan) -> Window {
        let starts_ns = Duration::from_secs_f64(plan.warmup_seconds).as_nanos() as u64;
        Window { starts_ns, ends_ns: starts_ns + Duration::from_secs_f64(plan.seconds).as_nanos() as u64 }
    }
}

impl LoadResult {
    /// Adds up what the threads counted.
    fn of(window: Window, threads: Vec<Done>) -> LoadResult {
        let mut meter = Meter::new(window);
        let mut result = LoadResult::default();
        for done in threads {
            meter.merge(&done.meter);
            result.interruptions += done.interruptions;
            result.sessions.extend(done.sessions);
        }
        LoadResult {
            committed: meter.committed(),
            seconds: meter.seconds(),
            latency_us: meter.latency(),
            ..result
        }
    }
}

/// A thread of the client.
struct Driver<'a> {
    shared: &'a Shared<'a>,
    core: usize,
    poll: OwnedFd,
    berths: Vec<Berth>,
    done: Done,
}

/// The place of a lane: when its leader is lost, another lane takes it.
struct Berth {
    plan: LanePlan,
    lane: Option<Lane>,
    retry_at_ns: u64,
    /// What this lane's session had acknowledged when it was last added to the common count.
    counted: u64,
}

impl<'a> Driver<'a> {
    fn new(core: usize, shared: &'a Shared<'a>) -> Result<Driver<'a>, String> {
        if let Some(&cpu) = shared.plan.cpus.get(core) {
            process::pin_this_thread(&[cpu])
                .map_err(|error| format!("cannot pin the client to CPU {cpu}: {error}"))?;
        }
        let poll =
            epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|error| format!("epoll_create: {error}"))?;
        let berth = |&plan| Berth { plan, lane: None, retry_at_ns: 0, counted: 0 };
        let berths = shared.plan.lanes[core].iter().map(berth).collect();
        let done = Done { meter: Meter::new(shared.window), sessions: Vec::new(), interruptions: 0 };
        Ok(Driver { shared, core, poll, berths, done })
    }

    /// Keeps the loops full until the window ends, then waits for what is in flight.
    fn drive(mut self) -> Result<Done, String> {
        let mut patience = Patience::new(Duration::from_micros(self.shared.plan.spin_us));
        let mut ready = Vec::with_capacity(self.berths.len().max(1));
        let give_up_ns = self.shared.window.ends_ns + DRAIN_TIMEOUT.as_nanos() as u64;
        loop {
            let now_ns = self.shared.now_ns();
            let more = now_ns < self.shared.window.ends_ns;
            if !more && (self.is_drained() || now_ns >= give_up_ns) {
                break;
            }
            if more {
                self.open_lanes(now_ns)?;
            }
            let park = patience.is_over(now_ns);
            self.wait(&mut ready, if park { PARK_MAX } else { Duration::ZERO })?;
            if !ready.is_empty() {
                patience.worked();
                self.serve(&ready, more)?;
            }
        }
        for index in 0..self.berths.len() {
            self.close(index);
        }
        Ok(self.done)
    }

    fn is_drained(&self) -> bool {
        self.berths.iter().filter_map(|berth| berth.lane.as_ref()).all(|lane| lane.session().is_idle())
    }

    /// Sockets with something to do.
    fn wait(&self, ready: &mut Vec<epoll::Event>, timeout: Duration) -> Result<(), String> {
        ready.clear();
        let timeout = timeout.try_into().expect("a short time");
        match epoll::wait(&self.poll, rustix::buffer::spare_capacity(ready), Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(format!("epoll_wait: {error}")),
        }
    }

    fn serve(&mut self, ready: &[epoll::Event], more: bool) -> Result<(), String> {
        for event in ready {
            let index = event.data.u64() as usize;
            if let Err(error) = self.serve_lane(index, more) {
                self.lost(index, &error)?;
            }
        }
        Ok(())
    }

    fn serve_lane(&mut self, index: usize, more: bool) -> Result<(), LaneError> {
        let shared = self.shared;
        let berth = &mut self.berths[index];
        let Some(lane) = &mut berth.lane else { return Ok(()) };
        let had_output = lane.has_output();
        if lane.receive(|| shared.now_ns(), &mut self.done.meter)? {
            let acknowledged = lane.session().acknowledged();
            shared.acknowledged.fetch_add(acknowledged - berth.counted, Ordering::Relaxed);
            berth.counted = acknowledged;
        }
        lane.send(shared.now_ns(), more)?;
        if lane.has_output() != had_output {
            epoll::modify(&self.poll, lane.stream(), data(index), interest(lane)).map_err(io::Error::from)?;
        }
        Ok(())
    }

    /// Opens the lanes that are not open, when it is time.
    fn open_lanes(&mut self, now_ns: u64) -> Result<(), String> {
        for index in 0..self.berths.len() {
            if self.berths[index].lane.is_none() && self.berths[index].retry_at_ns <= now_ns {
                self.open(index, now_ns)?;
            }
        }
        Ok(())
    }

    fn open(&mut self, index: usize, now_ns: u64) -> Result<(), String> {
        let LanePlan { ring, session, leader } = self.berths[index].plan;
        let plan = self.shared.plan;
        let address = plan.clients[usize::from(leader) - 1][self.core];
        let opened = Lane::open(address, RingId(ring), Session::new(session, plan.payload, plan.outstanding))
            .map_err(LaneError::from)
            .and_then(|mut lane| {
                lane.send(now_ns, true)?;
                epoll::add(&self.poll, lane.stream(), data(index), interest(&lane))
                    .map_err(io::Error::from)?;
                Ok(lane)
            });
        match opened {
            Ok(lane) => {
                let berth = &mut self.berths[index];
                berth.lane = Some(lane);
                berth.counted = 0;
                Ok(())
            }
            Err(error) => self.lost(index, &error),
        }
    }

    /// A lane broke: look for the new leader, with a new session, since outcomes of the old one are unknown.
    fn lost(&mut self, index: usize, error: &LaneError) -> Result<(), String> {
        if error.is_fatal() {
            return Err(error.to_string());
        }
        let was_open = self.berths[index].lane.is_some();
        self.close(index);
        let session = if was_open { Some(self.spare_session(error)?) } else { None };
        let nodes = self.shared.plan.clients.len() as u16;
        let retry_at_ns = self.shared.now_ns() + RETRY_INTERVAL.as_nanos() as u64;
        let berth = &mut self.berths[index];
        berth.retry_at_ns = retry_at_ns;
        berth.plan.session = session.unwrap_or(berth.plan.session);
        berth.plan.leader = match error {
            LaneError::NotLeader(Some(NodeId(leader))) if (1..=nodes).contains(leader) => *leader,
            _ => berth.plan.leader % nodes + 1,
        };
        self.done.interruptions += 1;
        Ok(())
    }

    fn spare_session(&self, error: &LaneError) -> Result<u32, String> {
        let session = self.shared.spare_session.fetch_add(1, Ordering::Relaxed);
        if session < self.shared.plan.spare_sessions.1 {
            Ok(session)
        } else {
            Err(format!("leaders were lost too often; the last time: {error}"))
        }
    }

    /// Keeps the books of a lane that ends.
    fn close(&mut self, index: usize) {
        let berth = &mut self.berths[index];
        if let Some(lane) = berth.lane.take() {
            let session = lane.session();
            self.done.sessions.push(SessionResult {
                ring: berth.plan.ring,
                session: session.number(),
                payload: self.shared.plan.payload,
                sent: session.sent(),
                acknowledged: session.acknowledged(),
            });
        }
    }
}

fn data(index: usize) -> epoll::EventData {
    epoll::EventData::new_u64(index as u64)
}

/// Readable always; writable only when something waits for it.
fn interest(lane: &Lane) -> epoll::EventFlags {
    if lane.has_output() { epoll::EventFlags::IN | epoll::EventFlags::OUT } else { epoll::EventFlags::IN }
}
