//! What the benchmark and the processes that it starts say to each other: JSON, a line each, over the
//! child's standard input and output. A child whose input ends, ends.

use std::io::{self, BufRead, Write};
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::configuration::ClusterConfiguration;
use crate::ledger::Ledger;
use crate::meter::LatencyUs;

/// The first line that a replica process reads.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct HostPlan {
    /// The cluster.
    pub(crate) cluster: ClusterConfiguration,
    /// Every node: its number is its index + 1.
    pub(crate) nodes: Vec<NodePlan>,
    /// The nodes that this process hosts.
    pub(crate) hosted: Vec<u16>,
    /// Whether the load comes from the leader's own cores.
    pub(crate) embedded: bool,
}

/// Where a node is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct NodePlan {
    /// Where it listens for its peers.
    pub(crate) address: SocketAddr,
    /// Where each of its cores listens for clients.
    pub(crate) clients: Vec<SocketAddr>,
    /// Its journal.
    pub(crate) data_dir: PathBuf,
    /// A CPU for each of its cores; empty when the kernel decides.
    pub(crate) cpus: Vec<usize>,
    /// How patient it is with a silent leader: the node that is meant to lead is the least patient.
    pub(crate) election_timeout_ms: u64,
}

/// What a child is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Where do the rings stand? → [`Answer::Rings`]
    Rings,
    /// Count from here: → [`Answer::Done`]
    Mark,
    /// What was counted since the mark? → [`Answer::Counted`]
    Count,
    /// What has `ring` applied? → [`Answer::Ledgers`]
    Ledgers {
        /// The ring.
        ring: u32,
    },
    /// Make load: → [`Answer::Done`] at once, then events until [`Event::Finished`] or [`Event::Failed`]
    Load(LoadPlan),
}

/// A line from a child.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Line {
    /// The answer to the oldest request.
    Answer(Answer),
    /// Something that happened.
    Event(Event),
}

/// What a child answers, for each node that it hosts where that matters.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// It is done.
    Done,
    /// Rings, by node.
    Rings(Vec<NodeRings>),
    /// Counters and stages, by node.
    Counted(Vec<NodeCount>),
    /// Ledgers, by node.
    Ledgers(Vec<(u16, Ledger)>),
    /// It cannot be done.
    Failed(String),
}

/// What happens in a child.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Event {
    /// It can be talked to.
    Ready,
    /// It cannot go on.
    Failed(String),
    /// The warm-up is over.
    Measuring,
    /// Commands acknowledged so far.
    Progress {
        /// Since the load began.
        acknowledged: u64,
    },
    /// The measured window is over.
    Measured,
    /// The load is over, and nothing of it is in flight any more.
    Finished(LoadResult),
}

/// The rings of a node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct NodeRings {
    pub(crate) node: u16,
    pub(crate) rings: Vec<RingState>,
}

/// Where a ring stands at a node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RingState {
    pub(crate) ring: u32,
    pub(crate) core: u16,
    pub(crate) leads: bool,
}

/// What a node counted since the mark.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct NodeCount {
    pub(crate) node: u16,
    /// Durable writes completed.
    pub(crate) flushes: u64,
    /// Bytes of them.
    pub(crate) bytes_written: u64,
    /// Turns of its cores.
    pub(crate) turns: u64,
    /// How often a core parked.
    pub(crate) parks: u64,
    /// Its stages.
    pub(crate) stages: Vec<Stage>,
}

/// How long a stage of a commit took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Stage {
    /// Which: a stage of the node itself, or of a peer as seen from it.
    pub(crate) name: String,
    /// Median.
    pub(crate) p50_us: f64,
    /// 99 %.
    pub(crate) p99_us: f64,
    /// How often it was timed.
    pub(crate) count: u64,
}

/// A load to make.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LoadPlan {
    /// Bytes of a command.
    pub(crate) payload: usize,
    /// Commands in flight per lane.
    pub(crate) outstanding: u64,
    /// Seconds that do not count.
    pub(crate) warmup_seconds: f64,
    /// Seconds that count.
    pub(crate) seconds: f64,
    /// How long an idle thread spins before it parks.
    pub(crate) spin_us: u64,
    /// Where every node's cores listen for clients, by node and core.
    pub(crate) clients: Vec<Vec<SocketAddr>>,
    /// Sessions, by core; a thread of the client serves one core.
    pub(crate) lanes: Vec<Vec<LanePlan>>,
    /// A CPU per thread; empty when the kernel decides.
    pub(crate) cpus: Vec<usize>,
    /// Numbers of sessions that may be opened when a leader is lost, and must not be used again.
    pub(crate) spare_sessions: (u32, u32),
}

/// One session.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct LanePlan {
    /// The ring that it loads.
    pub(crate) ring: u32,
    /// Its number.
    pub(crate) session: u32,
    /// Who leads the ring.
    pub(crate) leader: u16,
}

/// What came of a load.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct LoadResult {
    /// Commands acknowledged in the window.
    pub(crate) committed: u64,
    /// The window.
    pub(crate) seconds: f64,
    /// Their latency.
    pub(crate) latency_us: LatencyUs,
    /// How often a leader was lost on the way.
    pub(crate) interruptions: u64,
    /// Every session, from its first command to its last.
    pub(crate) sessions: Vec<SessionResult>,
}

/// What a session got done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SessionResult {
    pub(crate) ring: u32,
    pub(crate) session: u32,
    pub(crate) payload: usize,
    pub(crate) sent: u64,
    pub(crate) acknowledged: u64,
}

/// Writes one line.
pub(crate) fn say(output: &mut impl Write, line: &impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_vec(line).map_err(io::Error::other)?;
    text.push(b'\n');
    output.write_all(&text)?;
    output.flush()
}

/// Reads one line; `None` when there are no more.
pub(crate) fn hear<T: DeserializeOwned>(input: &mut impl BufRead) -> io::Result<Option<T>> {
    let mut text = String::new();
    match input.read_line(&mut text)? {
        0 => Ok(None),
        _ => serde_json::from_str(&text).map(Some).map_err(io::Error::other),
    }
}

/// Says an event to whoever started this process. False when nobody listens any more.
pub(crate) fn tell(event: Event) -> bool {
    say(&mut io::stdout().lock(), &Line::Event(event)).is_ok()
}
