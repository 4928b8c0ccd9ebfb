//! A running node: its cores, and what may be asked of it from any thread.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use annulus_rings::{Configuration, ConfigurationId, CoreId, Incarnation, NodeId, RingId, RingOptions, Slot};
use annulus_storage::DataDir;
use annulus_transport::{FabricOptions, PeerReport, Readiness, TcpFabric};

use crate::builder::{Builder, ServiceFactory};
use crate::core::{CoreOptions, CoreReport, Statistics};
use crate::core_thread::{CorePlan, CoreStarted, Device, JournalPlan, NetworkPlan, Seat};
use crate::error::{CreateError, StartError};
use crate::handle::RingHandle;
use crate::mailbox::{Letter, MachineFactory, Mailbox};
use crate::settings::{JournalKind, Settings, TransportKind};
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

    /// Blocks until the engine is shut down from elsewhere, which a failed core does too.
    ///
    /// # Errors
    /// A core failed.
    pub fn wait(&self) -> Result<(), CoreFailed> {
        loop {
            for health in self.health() {
                if let CoreState::Failed(message) = health.state {
                    return Err(CoreFailed { node: self.node, core: health.core, message });
                }
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
    /// A core had failed before.
    pub fn shutdown(mut self) -> Result<(), CoreFailed> {
        self.stop();
        self.wait()
    }

    fn core_of(&self, ring: RingId) -> &CoreHandle {
        &self.cores[self.placement.core_of(ring, self.cores.len()).0 as usize]
    }

    fn stop(&mut self) {
        for core in &self.cores {
            // A core that has ended needs no letter, and one that hangs reads none.
            let _ = core.mailbox.post_within(Letter::Stop, STOP_TIMEOUT);
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
fn start_core(plan: CorePlan) -> Result<(CoreHandle, annulus_transport::Doorbell), StartError> {
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

fn core_options(settings: &Settings, incarnation: Incarnation) -> CoreOptions {
    let configuration = Configuration::new(ConfigurationId(1), Slot(0), &settings.members())
        .expect("the peers were validated");
    CoreOptions {
        ring: RingOptions {
            cluster: settings.cluster,
            ring: RingId(0),
            node: settings.node,
            incarnation,
            configuration,
            window_slots: settings.window_slots,
            election_timeout: settings.election_timeout,
            heartbeat_interval: settings.heartbeat_interval,
            resend_interval: settings.resend_interval,
            retain_bytes: settings.retain_bytes,
            seed: draw_seed(),
        },
        limits: settings.limits,
    }
}

fn journal_plans(settings: &Settings) -> Result<(Vec<JournalPlan>, Incarnation), StartError> {
    let cores = settings.cores() as u16;
    let plan = |device| JournalPlan { device, options: settings.journal_options.clone() };
    if settings.journal == JournalKind::Memory {
        // What a volatile node promised is forgotten with it: each start is a life of its own.
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let incarnation = Incarnation(since_epoch.as_secs() as u32);
        let device = |core| Device::Memory {
            identity: annulus_storage::Identity {
                cluster: settings.cluster,
                node: settings.node,
                core: CoreId(core),
                incarnation,
                disk_uuid: u128::from(draw_seed()),
            },
            bytes_max: settings.memory_bytes_max,
        };
        return Ok(((0..cores).map(device).map(plan).collect(), incarnation));
    }
    let path: &PathBuf = settings.data_dir.as_ref().ok_or(StartError::NoDataDir)?;
    let failed = |source| StartError::Storage { path: path.clone(), source: Box::new(source) };
    let data = DataDir::open(path, settings.cluster, settings.node, cores).map_err(failed)?;
    let device = |core| Device::Files(data.core(CoreId(core)));
    Ok(((0..cores).map(device).map(plan).collect(), data.incarnation()))
}

fn network_plans(
    settings: &mut Settings,
    incarnation: Incarnation,
) -> Result<(Vec<NetworkPlan>, Option<TcpFabric>), StartError> {
    let cores = settings.cores() as u16;
    if let TransportKind::Loopback(hub) = &settings.transport {
        let peers = settings.members();
        let plan = |_| NetworkPlan::Loopback { hub: hub.clone(), incarnation, peers: peers.clone() };
        return Ok(((0..cores).map(plan).collect(), None));
    }
    let nodes: BTreeMap<_, _> = settings.peers.iter().cloned().collect();
    let address = nodes[&settings.node].clone();
    let options =
        FabricOptions { incarnation, cores, nodes, ..FabricOptions::new(settings.cluster, settings.node) };
    let node = settings.node;
    let started = match settings.listener.take() {
        Some(listener) => TcpFabric::start_on(listener, options),
        None => TcpFabric::start(options),
    };
    let (fabric, ports) =
        started.map_err(|source| StartError::Transport { node, address, source: Box::new(source) })?;
    let tcp_options = &settings.tcp_options;
    let plan = |port| NetworkPlan::Tcp { port, options: tcp_options.clone() };
    Ok((ports.into_iter().map(plan).collect(), Some(fabric)))
}

/// A number that no other node, and no other life of this one, is likely to draw.
fn draw_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(SystemTime::now())
}
