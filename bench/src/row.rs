//! One row: a fresh cluster, one load, its figures, and the proof that nothing was lost.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use annulus::NodeId;

use crate::child::{Child, ChildError};
use crate::cluster::{self, Cluster, ClusterError, Leader};
use crate::configuration::{Configuration, Journal, Load, Transport};
use crate::control::{Event, LanePlan, LoadPlan, LoadResult, NodeCount, Request};
use crate::floor::Floor;
use crate::format;
use crate::home::{Home, HomeError};
use crate::ledger::SESSIONS_MAX;
use crate::measurement::{Measurement, ProcessCpu};
use crate::placement::Placement;
use crate::process;
use crate::progress::Progress;
use crate::verification::{self, Verdict};

/// A load says something at least this often.
const EVENT_TIMEOUT: Duration = Duration::from_secs(30);

/// A row could not be measured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RowError {
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error(transparent)]
    Child(#[from] ChildError),
    #[error(transparent)]
    Home(#[from] HomeError),
    #[error("the load failed: {0}")]
    Load(String),
    #[error("the load says nothing for {} s", EVENT_TIMEOUT.as_secs())]
    Silent,
    #[error("rings are led by different nodes, and an embedded load needs one: run it again")]
    SplitLeaders,
    #[error("cannot read the CPU time of a process: {0}")]
    Cpu(std::io::Error),
}

/// Where the load comes from while it runs.
enum Source {
    Client(Child),
    Embedded(NodeId),
}

/// What the window began and ended with.
struct Sample {
    at: Instant,
    /// By process name.
    cpu: Vec<(String, Duration)>,
}

/// A row to measure.
#[derive(Clone, Copy)]
pub(crate) struct Trial<'a> {
    /// Under what.
    pub(crate) configuration: &'a Configuration,
    /// On which CPUs.
    pub(crate) placement: &'a Placement,
    /// Beside which floor.
    pub(crate) floor: &'a Floor,
    /// Which repetition, from 1.
    pub(crate) run: u32,
}

/// Measures one row.
pub(crate) fn measure(
    trial: Trial<'_>,
    home: &Home,
    progress: &mut Progress,
) -> Result<Measurement, RowError> {
    let Trial { configuration, placement, .. } = trial;
    let room = home.room()?;
    let embedded = configuration.load.load == Load::Embedded;
    progress.step(&format!("{}: starting replicas", title(configuration)));
    let mut cluster = Cluster::start(&configuration.cluster, embedded, placement, room.path(), progress)?;
    let leaders = cluster.wait_for_leaders()?;
    cluster.place_by_leader(&leaders)?;
    let mut source = Source::start(embedded, &leaders)?;
    let plan = load_plan(configuration, placement, &leaders, &cluster);
    let outcome = drive(&mut cluster, &mut source, &plan, configuration, progress)?;
    drop(source);
    let verdict = verification::verify(&mut cluster, configuration, &outcome.result, progress)?;
    cluster.kill();
    Ok(measurement(trial, &leaders, outcome, verdict))
}

/// What a person reads while a row is measured.
pub(crate) fn title(configuration: &Configuration) -> String {
    let Configuration { cluster, load } = configuration;
    let rings = match cluster.rings {
        1 => String::new(),
        rings => format!(", {rings} rings on {}", format::things(u64::from(cluster.cores), "core")),
    };
    format!("{} in flight, {} B{rings}", format::count(load.outstanding), load.payload)
}

impl Source {
    fn start(embedded: bool, leaders: &[Leader]) -> Result<Source, RowError> {
        if embedded {
            let leader = leaders[0].node;
            let together = leaders.iter().all(|other| other.node == leader);
            return if together { Ok(Source::Embedded(NodeId(leader))) } else { Err(RowError::SplitLeaders) };
        }
        let mut client = Child::start("client", "client")?;
        client.wait_ready(|| ())?;
        Ok(Source::Client(client))
    }

    fn child<'a>(&'a mut self, cluster: &'a mut Cluster) -> &'a mut Child {
        match self {
            Source::Client(child) => child,
            Source::Embedded(node) => cluster.host_of(*node),
        }
    }
}

/// Sessions are numbered by ring and connection; each goes to its ring's leader.
fn load_plan(
    configuration: &Configuration,
    placement: &Placement,
    leaders: &[Leader],
    cluster: &Cluster,
) -> LoadPlan {
    let load = &configuration.load;
    let mut lanes = vec![Vec::new(); usize::from(configuration.cluster.cores)];
    let mut session = 0;
    for leader in leaders {
        for _ in 0..load.connections {
            lanes[usize::from(leader.core)].push(LanePlan {
                ring: leader.ring,
                session,
                leader: leader.node,
            });
            session += 1;
        }
    }
    LoadPlan {
        payload: load.payload,
        outstanding: load.outstanding,
        warmup_seconds: load.warmup_seconds,
        seconds: load.seconds,
        spin_us: configuration.cluster.spin_us,
        clients: cluster.client_addresses(),
        lanes,
        cpus: placement.client.clone(),
        spare_sessions: (session, SESSIONS_MAX),
    }
}

/// What came of a load.
struct Outcome {
    result: LoadResult,
    counts: Vec<NodeCount>,
    cpu: Vec<(String, Duration)>,
    wall: Duration,
}

/// Runs the load, and counts what happens in its window.
fn drive(
    cluster: &mut Cluster,
    source: &mut Source,
    plan: &LoadPlan,
    configuration: &Configuration,
    progress: &mut Progress,
) -> Result<Outcome, RowError> {
    let whole = Duration::from_secs_f64(plan.warmup_seconds + plan.seconds);
    progress.timed_step(&title(configuration), whole);
    let child = source.child(cluster);
    child.send(&Request::Load(plan.clone()))?;
    child.answer()?;
    let began = Instant::now();
    let mut before = None;
    let mut window = None;
    let mut seen = (began, 0);
    loop {
        match source.child(cluster).event(EVENT_TIMEOUT)?.ok_or(RowError::Silent)? {
            Event::Measuring => {
                cluster.mark()?;
                before = Some(Sample::take(cluster, source)?);
            }
            Event::Measured => {
                let after = Sample::take(cluster, source)?;
                let counts = cluster.count()?;
                window = before.take().map(|before| (before, after, counts));
            }
            Event::Progress { acknowledged } => {
                let rate = (acknowledged - seen.1) as f64 / seen.0.elapsed().as_secs_f64();
                seen = (Instant::now(), acknowledged);
                let detail = format!("{:>11} commits/s", format::whole(rate));
                progress.at(began.elapsed(), &detail);
            }
            Event::Finished(result) => {
                let (before, after, counts) =
                    window.ok_or_else(|| RowError::Load("it ended too early".to_owned()))?;
                return Ok(Outcome {
                    result,
                    counts,
                    cpu: after.cpu_since(&before),
                    wall: after.at - before.at,
                });
            }
            Event::Failed(message) => return Err(RowError::Load(message)),
            Event::Ready => (),
        }
    }
}

impl Sample {
    fn take(cluster: &Cluster, source: &Source) -> Result<Sample, RowError> {
        let mut processes = cluster.processes();
        if let Source::Client(client) = source {
            processes.push(client.process());
        }
        let time = |(name, pid)| Ok((name, process::cpu_time(pid).map_err(RowError::Cpu)?));
        let cpu = processes.into_iter().map(time).collect::<Result<_, RowError>>()?;
        Ok(Sample { at: Instant::now(), cpu })
    }

    fn cpu_since(&self, before: &Sample) -> Vec<(String, Duration)> {
        let pairs = self.cpu.iter().zip(&before.cpu);
        pairs.map(|((name, after), (_, before))| (name.clone(), after.saturating_sub(*before))).collect()
    }
}

fn measurement(trial: Trial<'_>, leaders: &[Leader], outcome: Outcome, verdict: Verdict) -> Measurement {
    let Trial { configuration, placement, floor, run } = trial;
    let Outcome { result, counts, cpu, wall } = outcome;
    let cpu_us: f64 = cpu.iter().map(|(_, time)| time.as_secs_f64() * 1e6).sum();
    // The load's window and the CPU samples are a few ms apart: compare rates, not sums.
    let committed_per_second = result.committed as f64 / result.seconds;
    let percent = |time: Duration| time.as_secs_f64() / wall.as_secs_f64() * 100.0;
    Measurement {
        configuration: configuration.clone(),
        placement: cluster::led_placement(placement, leaders),
        run,
        committed_per_second,
        latency_us: result.latency_us,
        p50_over_floor: has_floor(configuration).then(|| result.latency_us.p50 / floor.total_us()),
        stages: leader_stages(leaders, &counts),
        cpu_us_per_commit: cpu_us / wall.as_secs_f64() / committed_per_second.max(1.0),
        cpu_percent: cpu
            .into_iter()
            .map(|(process, time)| ProcessCpu { process, percent: percent(time) })
            .collect(),
        flushes: counts.iter().map(|count| count.flushes).sum(),
        bytes_written: counts.iter().map(|count| count.bytes_written).sum(),
        committed: result.committed,
        seconds: result.seconds,
        durable: configuration.cluster.is_durable(),
        acknowledged: result.sessions.iter().map(|session| session.acknowledged).sum(),
        verified: verdict.verified,
        verification: verdict.explanation,
        interruptions: result.interruptions,
    }
}

/// The floor is that of one command that crosses the network and is written by several replicas.
fn has_floor(configuration: &Configuration) -> bool {
    let cluster = &configuration.cluster;
    configuration.load.outstanding == 1
        && configuration.sessions() == 1
        && cluster.transport == Transport::Tcp
        && cluster.replicas > 1
        && cluster.journal == Journal::File
}

/// The stages of the node that leads most rings: a commit is timed where it is led.
fn leader_stages(leaders: &[Leader], counts: &[NodeCount]) -> Vec<crate::control::Stage> {
    let mut led: BTreeMap<u16, usize> = BTreeMap::new();
    for leader in leaders {
        *led.entry(leader.node).or_default() += 1;
    }
    let most = led.into_iter().max_by_key(|&(_, rings)| rings).map(|(node, _)| node);
    let count = counts.iter().find(|count| Some(count.node) == most);
    count.map_or_else(Vec::new, |count| count.stages.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Stage;

    #[test]
    fn stages_come_from_the_node_that_leads_most() {
        let leader = |ring, node| Leader { ring, core: 0, node };
        let stage = |name: &str| Stage { name: name.to_owned(), p50_us: 1.0, p99_us: 2.0, count: 3 };
        let count = |node, name| NodeCount { node, stages: vec![stage(name)], ..NodeCount::default() };
        let counts = [count(1, "one"), count(2, "two")];
        let stages = leader_stages(&[leader(0, 2), leader(1, 1), leader(2, 2)], &counts);
        assert_eq!(stages[0].name, "two");
    }
}
