//! A replica process: one engine per node that it hosts, answering questions over standard input.

use std::io::{self, BufRead};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use annulus::{
    Builder, ClusterId, CoreId, Engine, Idle, JournalKind, LoopbackHub, LoopbackOptions, NodeId, Placement,
    ReceivePath, RingHandle, RingId, Role, Service, SyncMode, TcpService, TransportKind,
};

use crate::configuration::{Journal, JournalSync, Receive, Runner, Transport};
use crate::control::{
    self, Answer, Event, HostPlan, Line, LoadPlan, LoadResult, NodeCount, NodeRings, Request, RingState,
    Stage,
};
use crate::departure::Departure;
use crate::embedded::{Desk, Embedded, EmbeddedResult};
use crate::ledger::Ledger;
use crate::meter::{Meter, Window};
use crate::server::Server;

/// All replicas of a run are of one cluster.
const CLUSTER: ClusterId = ClusterId(0x00be_4c11);
/// How often an embedded load is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);
/// How often its progress is told.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);
/// How long an embedded load may take to end after its window.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Hosts replicas until standard input ends.
pub(crate) fn main() -> Result<(), String> {
    // Nobody may be reading: a line that cannot be written is lost, rather than told by a panic of the thread
    // that logs, which would be a core or this one.
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_max_level(tracing_subscriber::filter::LevelFilter::WARN)
        .log_internal_errors(false)
        .init();
    let mut input = io::stdin().lock();
    let plan: HostPlan = control::hear(&mut input)
        .map_err(|error| error.to_string())?
        .ok_or("a replica process is started by `annulus-bench run`, not by hand")?;
    let _departure = Departure::of(&plan);
    match Host::start(&plan) {
        Ok(host) => {
            control::tell(Event::Ready);
            host.serve(&mut input).map_err(|error| error.to_string())
        }
        Err(message) => {
            control::tell(Event::Failed(message.clone()));
            // Whoever is told ends this process, and removes the journals, unless he is gone.
            let _ = io::copy(&mut input, &mut io::sink());
            Err(message)
        }
    }
}

/// The nodes of this process.
struct Host {
    nodes: Vec<Node>,
}

/// One replica of every ring.
struct Node {
    id: u16,
    engine: Engine,
    rings: Vec<RingHandle>,
    /// Orders for the cores, when the load is embedded.
    desks: Vec<Arc<Desk>>,
    /// Flushes, bytes, turns and parks when counting began.
    marked: NodeCount,
}

impl Host {
    fn start(plan: &HostPlan) -> Result<Host, String> {
        let hub = LoopbackHub::new(LoopbackOptions::default());
        let nodes = plan.hosted.iter().map(|&id| Node::start(plan, id, &hub)).collect::<Result<_, _>>()?;
        Ok(Host { nodes })
    }

    fn serve(mut self, input: &mut impl BufRead) -> io::Result<()> {
        while let Some(request) = control::hear::<Request>(input)? {
            let answer = self.answer(request).unwrap_or_else(Answer::Failed);
            control::say(&mut io::stdout().lock(), &Line::Answer(answer))?;
        }
        Ok(())
    }

    fn answer(&mut self, request: Request) -> Result<Answer, String> {
        match request {
            Request::Rings => Ok(Answer::Rings(self.nodes.iter().map(Node::rings).collect())),
            Request::Mark => {
                self.nodes.iter_mut().for_each(Node::mark);
                Ok(Answer::Done)
            }
            Request::Count => Ok(Answer::Counted(self.nodes.iter().map(Node::count).collect())),
            Request::Ledgers { ring } => {
                let ledgers = self.nodes.iter().map(|node| Ok((node.id, node.ledger(ring)?)));
                Ok(Answer::Ledgers(ledgers.collect::<Result<_, String>>()?))
            }
            Request::Load(plan) => self.begin_load(plan),
        }
    }

    /// Gives the load to the cores of the node that leads, and reports from a thread of its own, so that
    /// questions are answered meanwhile.
    fn begin_load(&self, plan: LoadPlan) -> Result<Answer, String> {
        let leader =
            plan.lanes.iter().flatten().map(|lane| lane.leader).next().ok_or("a load without lanes")?;
        let node =
            self.nodes.iter().find(|node| node.id == leader).ok_or("the leader is not in this process")?;
        let desks = node.desks.clone();
        for desk in &desks {
            desk.order(plan.clone());
        }
        std::thread::spawn(move || match watch_load(&desks, &plan) {
            Ok(result) => control::tell(Event::Finished(result)),
            Err(message) => control::tell(Event::Failed(message)),
        });
        Ok(Answer::Done)
    }
}

impl Node {
    fn start(plan: &HostPlan, id: u16, hub: &LoopbackHub) -> Result<Node, String> {
        let node = &plan.nodes[usize::from(id) - 1];
        let desks: Vec<Arc<Desk>> = (0..plan.cluster.cores).map(|_| Arc::default()).collect();
        let addresses = node.clients.clone();
        let (embedded, desks_of_cores) = (plan.embedded, desks.clone());
        let service = move |core: CoreId| -> io::Result<Box<dyn Service>> {
            let index = usize::from(core.0);
            if embedded {
                return Ok(Box::new(Embedded::new(index, Arc::clone(&desks_of_cores[index]))));
            }
            Ok(Box::new(TcpService::bind(addresses[index], Server)?))
        };
        let engine = builder(plan, id, hub).service(service).start().map_err(|error| error.to_string())?;
        let create =
            |ring| engine.create_ring(RingId(ring), Ledger::default).map_err(|error| error.to_string());
        let rings = (0..plan.cluster.rings).map(create).collect::<Result<_, _>>()?;
        Ok(Node { id, engine, rings, desks, marked: NodeCount::default() })
    }

    fn rings(&self) -> NodeRings {
        let state = |handle: &RingHandle| RingState {
            ring: handle.id().0,
            core: Placement::ByRing.core_of(handle.id(), self.desks.len()).0,
            leads: handle.status().role == Role::Leader,
        };
        NodeRings { node: self.id, rings: self.rings.iter().map(state).collect() }
    }

    fn ledger(&self, ring: u32) -> Result<Ledger, String> {
        let handle = self.rings.get(ring as usize).ok_or("there is no such ring")?;
        let reply = handle.query(b"").wait().map_err(|error| error.to_string())?;
        serde_json::from_slice(&reply).map_err(|error| error.to_string())
    }

    fn mark(&mut self) {
        self.marked = self.totals();
    }

    fn count(&self) -> NodeCount {
        let totals = self.totals();
        NodeCount {
            flushes: totals.flushes - self.marked.flushes,
            bytes_written: totals.bytes_written - self.marked.bytes_written,
            turns: totals.turns - self.marked.turns,
            parks: totals.parks - self.marked.parks,
            stages: self.stages(),
            ..totals
        }
    }

    fn totals(&self) -> NodeCount {
        let statistics = self.engine.statistics();
        NodeCount {
            node: self.id,
            flushes: statistics.journal.flushes,
            bytes_written: statistics.journal.bytes_written,
            turns: statistics.turns,
            parks: statistics.parks,
            stages: Vec::new(),
        }
    }

    fn stages(&self) -> Vec<Stage> {
        let report = self.engine.stages();
        let stage = |name: String, durations: annulus::Quantiles| Stage {
            name,
            p50_us: durations.p50_ns as f64 / 1e3,
            p99_us: durations.p99_ns as f64 / 1e3,
            count: durations.count,
        };
        let own =
            report.stages().into_iter().map(|summary| stage(summary.name.to_owned(), summary.durations));
        let peers = report.peers();
        let of_peers = peers.iter().flat_map(|peer| {
            peer.stages()
                .map(|summary| stage(format!("{}_node_{}", summary.name, peer.node), summary.durations))
        });
        own.chain(of_peers).filter(|stage| stage.count > 0).collect()
    }
}

fn builder(plan: &HostPlan, id: u16, hub: &LoopbackHub) -> Builder {
    let cluster = &plan.cluster;
    let node = &plan.nodes[usize::from(id) - 1];
    let peers = plan.nodes.iter().zip(1..).map(|(peer, id)| (NodeId(id), peer.address));
    let builder = Engine::builder()
        .cluster(CLUSTER)
        .node(NodeId(id))
        .peers(peers)
        .window_slots(cluster.window_slots)
        .batch_bytes_max(cluster.batch_bytes)
        .batch_commands_max(cluster.batch_commands)
        .election_timeout(Duration::from_millis(node.election_timeout_ms))
        .idle(Idle { spin: Duration::from_micros(cluster.spin_us), park: true });
    let builder = match node.cpus.as_slice() {
        [] => builder.unpinned_cores(usize::from(cluster.cores)),
        cpus => builder.cores(cpus.iter().copied()),
    };
    let builder = match cluster.journal {
        Journal::File => {
            builder.journal(JournalKind::File).data_dir(&node.data_dir).sync(sync_mode(cluster.sync))
        }
        Journal::Memory => builder.journal(JournalKind::Memory),
        Journal::Nvm => builder.journal(JournalKind::Nvm).data_dir(&node.data_dir),
        Journal::NvmBattery => builder.journal(JournalKind::NvmBattery).data_dir(&node.data_dir),
        Journal::NvmEmulated => builder.journal(JournalKind::NvmEmulated),
    };
    let builder = builder.nvm_bytes(cluster.nvm_mib << 20);
    let builder = match cluster.transport {
        Transport::Tcp => builder.transport(TransportKind::Tcp).receive_path(receive_path(cluster.receive)),
        Transport::Loopback => builder.transport(TransportKind::Loopback(hub.clone())),
    };
    builder.runner(match cluster.runner {
        Runner::Glommio => annulus::Runner::Glommio,
        Runner::Thread => annulus::Runner::Thread,
    })
}

fn sync_mode(sync: JournalSync) -> SyncMode {
    match sync {
        JournalSync::Dsync => SyncMode::Dsync,
        JournalSync::Fdatasync => SyncMode::Fdatasync,
        JournalSync::Odsync => SyncMode::ODsync,
    }
}

fn receive_path(receive: Receive) -> ReceivePath {
    match receive {
        Receive::Recv => ReceivePath::Recv,
        Receive::Multishot => ReceivePath::Multishot,
    }
}

/// Tells how an embedded load proceeds, and adds up what the cores counted.
fn watch_load(desks: &[Arc<Desk>], plan: &LoadPlan) -> Result<LoadResult, String> {
    let began = Instant::now();
    let window = Window::of(plan);
    let give_up = Duration::from_nanos(window.ends_ns) + DRAIN_TIMEOUT;
    let mut marks = vec![(window.ends_ns, Event::Measured), (window.starts_ns, Event::Measuring)];
    let mut told = Instant::now();
    let mut results: Vec<Option<EmbeddedResult>> = desks.iter().map(|_| None).collect();
    while results.iter().any(Option::is_none) {
        std::thread::sleep(LOOK_INTERVAL);
        let elapsed = began.elapsed();
        if let Some((_, event)) = marks.pop_if(|(at_ns, _)| u128::from(*at_ns) <= elapsed.as_nanos()) {
            control::tell(event);
        }
        if told.elapsed() >= PROGRESS_INTERVAL {
            told = Instant::now();
            let acknowledged = desks.iter().map(|desk| desk.acknowledged.load(Ordering::Relaxed)).sum();
            control::tell(Event::Progress { acknowledged });
        }
        for (result, desk) in results.iter_mut().zip(desks) {
            *result = result.take().or_else(|| desk.result());
        }
        if elapsed > give_up {
            return Err("a core does not finish its load".to_owned());
        }
    }
    for (_, event) in marks.into_iter().rev() {
        control::tell(event);
    }
    Ok(add_up(window, results.into_iter().flatten()))
}

fn add_up(window: Window, results: impl Iterator<Item = EmbeddedResult>) -> LoadResult {
    let mut meter = Meter::new(window);
    let mut sum = LoadResult::default();
    for result in results {
        meter.merge(&result.meter);
        sum.sessions.extend(result.sessions);
        sum.interruptions += result.interruptions;
    }
    LoadResult { committed: meter.committed(), seconds: meter.seconds(), latency_us: meter.latency(), ..sum }
}
