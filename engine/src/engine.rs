//! A running node: its cores, and what may be asked of it from any thread.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use annulus_rings::{CoreId, NodeId, RingId};
use annulus_transport::{Doorbell, PeerReport, Readiness, TcpFabric};

use crate::builder::{Builder, ServiceFactory};
use crate::core::{CoreReport, Statistics};
use crate::core_thread::{CorePlan, CoreStarted, Seat};
use crate::error::{CreateError, StartError};
use crate::handle::RingHandle;
use crate::mailbox::{Letter, MachineFactory, Mailbox};
use crate::plans::{core_options, journal_plans, network_plans};
use crate::settings::Settings;
use crate::stages::StageReport;
use crate::vitals::{End, Vitals};
use crate::watchdog::{CoreHealth, CoreState, Watchdog};
use crate::{Placement, StateMachine};

/// A running node. Dropping it stops the node.
///
/// ```
/// use annulus::{Committed, Engine, JournalKind, NodeId, Outcome, Replies, RingId, StateMachine};
///
/// struct Log(Vec<Vec<u8>>);
///
/// impl StateMachine for Log {
///     fn apply(&mut self, committed: Committed<'_>, replies: &mut Replies) {
///         for command in committed.commands() {
///             self.0.push(command.to_vec());
///             replies.push(format!("line {}", self.0.len()).as_bytes());
///         }
///     }
/// }
///
/// let engine = Engine::builder()
///     .node(NodeId(1))
///     .peer(NodeId(1), "127.0.0.1:0")
///     .journal(JournalKind::Memory)
///     .start()?;
/// let ring = engine.create_ring(RingId(7), || Log(Vec::new()))?;
/// ring.wait_for_leader(std::time::Duration::from_secs(10));
/// match ring.propose(b"hello").wait() {
///     Outcome::Committed { reply, .. } => assert_eq!(reply, b"line 1"),
///     other => panic!("{other:?}"),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Engine {
    node: NodeId,
    cores: Vec<CoreHandle>,
    placement: Placement,
    watchdog: Option<Watchdog>,
    fabric: Option<TcpFabric>,
}

struct CoreHandle {
    core: CoreId,
    mailbox: Mailbox,
    vitals: Arc<Vitals>,
    thread: Option<JoinHandle<()>>,
}

/// A core of this node has failed. See its message.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{core:?} of node {node} has failed: {message}")]
pub struct CoreFailed {
    /// The node.
    pub node: NodeId,
    /// The core.
    pub core: CoreId,
    /// The contract that was violated, the panic of a state machine, or what the disk said.
    pub message: String,
}

/// A part of this node has failed: stop the node and start it again.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NodeFailed {
    /// A core.
    #[error(transparent)]
    Core(#[from] CoreFailed),
    /// The threads that connect the node to its peers. Its cores go on with the connections that they have.
    #[error("node {node}: {message}")]
    Network {
        /// The node.
        node: NodeId,
        /// Which thread failed, and how.
        message: String,
    },
}

/// How long a core may take to answer a question.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a core may take to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// How often it is looked whether it has.
const JOIN_INTERVAL: Duration = Duration::from_millis(1);
/// How often [`Engine::wait`] looks.
const WAIT_INTERVAL: Duration = Duration::from_millis(50);

impl Engine {
    /// An engine yet to be described.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn start(
        mut settings: Settings,
        service: Option<&ServiceFactory>,
        rings: Vec<(RingId, MachineFactory)>,
    ) -> Result<Engine, StartError> {
        Readiness::new(1).map_err(StartError::NoIoUring)?;
        let (journals, incarnation) = journal_plans(&settings)?;
        let (networks, fabric) = network_plans(&mut settings, incarnation)?;
        let options = core_options(&settings, incarnation);
        let mut engine = Engine {
            node: settings.node,
            cores: Vec::new(),
            placement: settings.placement.clone(),
            watchdog: None,
            fabric,
        };
        let mut declared: Vec<_> = journals.iter().map(|_| Vec::new()).collect();
        for (ring, machine) in rings {
            let core = settings.placement.core_of(ring, declared.len());
            declared[core.0 as usize].push((ring, machine));
        }
        let mut watched = Vec::new();
        for (index, ((journal, network), declared)) in
            journals.into_iter().zip(networks).zip(declared).enumerate()
        {
            let core = CoreId(index as u16);
            let cpu = settings.cpu(index);
            let plan = CorePlan {
                seat: Seat { core, cpu, runner: settings.runner, idle: settings.idle },
                options: options.clone(),
                journal,
                network,
                service: service.cloned(),
                declared,
            };
            // Whatever runs already is stopped by the drop of `engine` when this one fails.
            let (handle, bell) = start_core(plan)?;
            watched.push((core, Arc::clone(&handle.vitals), bell));
            engine.cores.push(handle);
        }
        engine.watchdog = Some(Watchdog::start(settings.node, watched, settings.stall_after));
        Ok(engine)
    }

    /// Hosts a ring: `machine` is called on the core that owns it, and what this node's journal holds of
    /// the ring is executed on it. Create the same ring on every node.
    ///
    /// # Errors
    /// It exists, or its core has stopped.
    pub fn create_ring<M: StateMachine>(
        &self,
        ring: RingId,
        machine: impl FnOnce() -> M + Send + 'static,
    ) -> Result<RingHandle, CreateError> {
        let core = self.core_of(ring);
        let (created, answer) = crossbeam_channel::bounded(1);
        let machine = Box::new(move || Box::new(machine()) as Box<dyn StateMachine>);
        let stopped = CreateError::Stopped(ring);
        core.mailbox.post_surely(Letter::Create { ring, machine, created }).map_err(|_| stopped.clone())?;
        // Reading a ring back may take long; the answer is lost only with the core.
        let status = answer.recv().map_err(|_| stopped)??;
        Ok(RingHandle::new(ring, core.mailbox.clone(), status))
    }

    /// The handle of a ring that was declared or created before.
    ///
    /// # Errors
    /// This node does not host it, or its core has stopped.
    pub fn ring(&self, ring: RingId) -> Result<RingHandle, CreateError> {
        let core = self.core_of(ring);
        let (found, answer) = crossbeam_channel::bounded(1);
        let stopped = CreateError::Stopped(ring);
        core.mailbox.post_surely(Letter::Find { ring, found }).map_err(|_| stopped.clone())?;
        let status = answer.recv().map_err(|_| stopped)?.ok_or(CreateError::Absent(ring))?;
        Ok(RingHandle::new(ring, core.mailbox.clone(), status))
    }

    /// This node.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Where this node listens for its peers, over TCP.
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.fabric.as_ref().map(TcpFabric::local_address)
    }

    /// How this node's connections to its peers stand, over TCP.
    pub fn peers(&self) -> Vec<PeerReport> {
        self.fabric.as_ref().map(TcpFabric::peers).unwrap_or_default()
    }

    /// Counts and stages of each core that answers.
    pub fn reports(&self) -> Vec<(CoreId, CoreReport)> {
        let report = |core: &CoreHandle| Some((core.core, core.report()?));
        self.cores.iter().filter_map(report).collect()
    }

    /// The stages of all cores together.
    pub fn stages(&self) -> StageReport {
        let mut merged = StageReport::empty();
        for (_, report) in self.reports() {
            merged.merge(&report.stages);
        }
        merged
    }

    /// The counts of all cores together.
    pub fn statistics(&self) -> Statistics {
        let mut sum = Statistics::default();
        for (_, report) in self.reports() {
            sum.add(&report.statistics);
        }
        sum
    }

    /// How each core is.
    pub fn health(&self) -> Vec<CoreHealth> {
        self.watchdog.as_ref().map(Watchdog::health).unwrap_or_default()
    }

    /// What of this node has failed, if anything: a core, or else what connects it to its peers.
    pub fn failure(&self) -> Option<NodeFailed> {
        for health in self.health() {
            if let CoreState::Failed(message) = health.state {
                return Some(CoreFailed { node: self.node, core: health.core, message }.into());
            }
        }
        let message = self.fabric.as_ref()?.failure()?.to_owned();
        Some(NodeFailed::Network { node: self.node, message })
    }

    /// Blocks until the engine is shut down from elsewhere, or a part of it fails.
    ///
    /// # Errors
    /// A core failed, or what connects the node to its peers.
    pub fn wait(&self) -> Result<(), NodeFailed> {
        loop {
            if let Some(failed) = self.failure() {
                return Err(failed);
            }
            if self.cores.iter().all(|core| core.vitals.end() == Some(End::Stopped)) {
                return Ok(());
            }
            thread::sleep(WAIT_INTERVAL);
        }
    }

    /// Stops the node and waits for its threads. What is under way ends as unknown, what waits as rejected.
    ///
    /// # Errors
    /// A part of the node had failed before, or a core does not stop.
    pub fn shutdown(mut self) -> Result<(), NodeFailed> {
        let failed = self.failure();
        self.stop();
        failed.map_or_else(|| self.wait(), Err)
    }

    fn core_of(&self, ring: RingId) -> &CoreHandle {
        &self.cores[self.placement.core_of(ring, self.cores.len()).0 as usize]
    }

    fn stop(&mut self) {
        for core in &self.cores {
            // A core that has ended needs no letter, and one that hangs reads none.
            let _ = core.mailbox.post_surely(Letter::Stop);
        }
        let deadline = Instant::now() + STOP_TIMEOUT;
        for core in &mut self.cores {
            core.join_until(deadline);
        }
        if let Some(watchdog) = &mut self.watchdog {
            watchdog.stop();
        }
        if let Some(fabric) = self.fabric.take() {
            fabric.shutdown();
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop();
    }
}

impl CoreHandle {
    /// Waits for the core's thread. One that hangs is left behind and counts as failed.
    fn join_until(&mut self, deadline: Instant) {
        let Some(thread) = self.thread.take() else { return };
        while !thread.is_finished() && Instant::now() < deadline {
            thread::sleep(JOIN_INTERVAL);
        }
        if !thread.is_finished() {
            tracing::error!(core = %self.core, "this core does not stop: its thread is left behind");
            self.vitals.ended(End::Failed("it did not stop when asked to".into()));
        } else if thread.join().is_err() {
            self.vitals.ended(End::Failed("its thread panicked outside of a turn".into()));
        }
    }

    fn report(&self) -> Option<CoreReport> {
        let (to, answer) = crossbeam_channel::bounded(1);
        self.mailbox.post_surely(Letter::Report(to)).ok()?;
        answer.recv_timeout(ANSWER_TIMEOUT).ok()
    }
}

/// Starts a core's thread and waits until it is ready for turns.
fn start_core(plan: CorePlan) -> Result<(CoreHandle, Doorbell), StartError> {
    let core = plan.seat.core;
    let (ready, started) = mpsc::channel();
    let name = format!("annulus-core-{core}");
    let failed = |source| StartError::Core { core, source };
    let thread = thread::Builder::new().name(name).spawn(move || plan.run(&ready)).map_err(failed)?;
    let CoreStarted { mailbox, vitals, bell } = match started.recv() {
        Ok(started) => started?,
        Err(_) => return Err(failed(std::io::Error::other("its thread panicked while it started"))),
    };
    Ok((CoreHandle { core, mailbox, vitals, thread: Some(thread) }, bell))
}
