//! A cluster of replica processes: started, asked, killed, started again.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use annulus::NodeId;

use crate::child::{Child, ChildError};
use crate::configuration::ClusterConfiguration;
use crate::control::{Answer, HostPlan, NodeCount, NodePlan, NodeRings, Request};
use crate::ledger::Ledger;
use crate::placement::Placement;
use crate::progress::Progress;
use crate::{ports, process};

/// How patient the node is that is meant to lead, in ms, and the others: they let it win, and do not
/// depose it when the machine is busy.
const ELECTION_TIMEOUT_MS: [u64; 2] = [300, 1500];
/// How long leaders are waited for.
const LEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// How often rings are asked for their leaders.
const ASK_INTERVAL: Duration = Duration::from_millis(50);

/// Replica processes that run.
pub(crate) struct Cluster {
    configuration: ClusterConfiguration,
    embedded: bool,
    nodes: Vec<NodePlan>,
    placement: Placement,
    hosts: Vec<Child>,
}

/// Who leads each ring, and on which core it lives, by ring.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Leader {
    pub(crate) ring: u32,
    pub(crate) core: u16,
    pub(crate) node: u16,
}

/// Something went wrong with the cluster.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClusterError {
    #[error(transparent)]
    Child(#[from] ChildError),
    #[error("no free ports on 127.0.0.1: {0}")]
    NoPort(std::io::Error),
    #[error("cannot pin the replicas: {0}")]
    Pin(std::io::Error),
    #[error("after {LEADER_TIMEOUT:?}, {led} of {rings} rings have a leader: is the machine overloaded?")]
    NoLeader { led: usize, rings: u32 },
}

impl Cluster {
    /// Starts the replicas, with their journals under `directory`.
    pub(crate) fn start(
        configuration: &ClusterConfiguration,
        embedded: bool,
        placement: &Placement,
        directory: &Path,
        progress: &mut Progress,
    ) -> Result<Cluster, ClusterError> {
        let count = usize::from(configuration.replicas * (1 + configuration.cores));
        let mut ports = ports::reserve(count).map_err(ClusterError::NoPort)?.into_iter();
        let nodes = (0..usize::from(configuration.replicas)).map(|index| NodePlan {
            address: ports.next().expect("a port per node"),
            clients: ports.by_ref().take(usize::from(configuration.cores)).collect(),
            data_dir: directory.join(format!("node-{}", index + 1)),
            cpus: placement.replicas[index].clone(),
            election_timeout_ms: ELECTION_TIMEOUT_MS[usize::from(index > 0)],
        });
        let mut cluster = Cluster {
            configuration: configuration.clone(),
            embedded,
            nodes: nodes.collect(),
            placement: placement.clone(),
            hosts: Vec::new(),
        };
        cluster.start_hosts(progress)?;
        Ok(cluster)
    }

    fn start_hosts(&mut self, progress: &mut Progress) -> Result<(), ClusterError> {
        let nodes: Vec<u16> = (1..=self.configuration.replicas).collect();
        for hosted in nodes.chunks(usize::from(self.configuration.nodes_per_process())) {
            let plan = HostPlan {
                cluster: self.configuration.clone(),
                nodes: self.nodes.clone(),
                hosted: hosted.to_vec(),
                embedded: self.embedded,
            };
            let name = match hosted {
                [node] => format!("replica {node}"),
                _ => "replicas".to_owned(),
            };
            let mut host = Child::start("replica", &name)?;
            host.send(&plan)?;
            self.hosts.push(host);
        }
        for host in &mut self.hosts {
            host.wait_ready(|| progress.detail("journals are opened and read back"))?;
        }
        Ok(())
    }

    /// Kills every replica without warning, then starts them again on what is on disk.
    pub(crate) fn kill_and_restart(&mut self, progress: &mut Progress) -> Result<(), ClusterError> {
        self.kill();
        self.start_hosts(progress)
    }

    /// `kill -9` for all.
    pub(crate) fn kill(&mut self) {
        self.hosts.iter_mut().for_each(Child::kill);
        self.hosts.clear();
    }

    /// Waits until every ring has a leader.
    pub(crate) fn wait_for_leaders(&mut self) -> Result<Vec<Leader>, ClusterError> {
        let started = Instant::now();
        loop {
            let leaders = self.leaders()?;
            let rings = self.configuration.rings;
            if leaders.len() == rings as usize {
                return Ok(leaders);
            }
            if started.elapsed() > LEADER_TIMEOUT {
                return Err(ClusterError::NoLeader { led: leaders.len(), rings });
            }
            std::thread::sleep(ASK_INTERVAL);
        }
    }

    fn leaders(&mut self) -> Result<Vec<Leader>, ClusterError> {
        let mut leaders: Vec<Leader> = Vec::new();
        for NodeRings { node, rings } in self.rings()? {
            for ring in rings.iter().filter(|ring| ring.leads) {
                leaders.push(Leader { ring: ring.ring, core: ring.core, node });
            }
        }
        leaders.sort_unstable_by_key(|leader| leader.ring);
        leaders.dedup_by_key(|leader| leader.ring);
        Ok(leaders)
    }

    /// Gives the CPUs that are meant for the leader to the node that leads. Nodes that share a process stay
    /// where they are.
    pub(crate) fn place_by_leader(&mut self, leaders: &[Leader]) -> Result<(), ClusterError> {
        if self.hosts.len() < self.nodes.len() {
            return Ok(());
        }
        let wanted = led_placement(&self.placement, leaders);
        for (index, host) in self.hosts.iter().enumerate() {
            let (from, to) = (&self.nodes[index].cpus, &wanted.replicas[index]);
            if from != to {
                process::move_threads(host.pid(), from, to).map_err(ClusterError::Pin)?;
            }
        }
        for (node, cpus) in self.nodes.iter_mut().zip(wanted.replicas) {
            node.cpus = cpus;
        }
        Ok(())
    }

    /// Where every core of every node listens for clients.
    pub(crate) fn client_addresses(&self) -> Vec<Vec<SocketAddr>> {
        self.nodes.iter().map(|node| node.clients.clone()).collect()
    }

    /// The processes, by name and id.
    pub(crate) fn processes(&self) -> Vec<(String, u32)> {
        self.hosts.iter().map(Child::process).collect()
    }

    /// The process that hosts `node`.
    pub(crate) fn host_of(&mut self, node: NodeId) -> &mut Child {
        let index = (node.0 - 1) / self.configuration.nodes_per_process();
        &mut self.hosts[usize::from(index)]
    }

    /// From here on, count.
    pub(crate) fn mark(&mut self) -> Result<(), ClusterError> {
        self.ask_all(&Request::Mark).map(drop)
    }

    /// What was counted since the mark, by node.
    pub(crate) fn count(&mut self) -> Result<Vec<NodeCount>, ClusterError> {
        let answers = self.ask_all(&Request::Count)?;
        Ok(answers
            .into_iter()
            .flat_map(|answer| if let Answer::Counted(counts) = answer { counts } else { vec![] })
            .collect())
    }

    /// Every node's ledger of `ring`, by node.
    pub(crate) fn ledgers(&mut self, ring: u32) -> Result<Vec<(u16, Ledger)>, ClusterError> {
        let answers = self.ask_all(&Request::Ledgers { ring })?;
        Ok(answers
            .into_iter()
            .flat_map(|answer| if let Answer::Ledgers(ledgers) = answer { ledgers } else { vec![] })
            .collect())
    }

    fn rings(&mut self) -> Result<Vec<NodeRings>, ClusterError> {
        let answers = self.ask_all(&Request::Rings)?;
        Ok(answers
            .into_iter()
            .flat_map(|answer| if let Answer::Rings(rings) = answer { rings } else { vec![] })
            .collect())
    }

    /// Asks every process, then takes the answers, so that they work at the same time.
    fn ask_all(&mut self, request: &Request) -> Result<Vec<Answer>, ClusterError> {
        for host in &mut self.hosts {
            host.send(request)?;
        }
        Ok(self.hosts.iter_mut().map(Child::answer).collect::<Result<_, _>>()?)
    }
}

/// The placement when one node leads everything: it gets the CPUs that are meant for the leader.
pub(crate) fn led_placement(placement: &Placement, leaders: &[Leader]) -> Placement {
    match leaders {
        [first, rest @ ..] if rest.iter().all(|leader| leader.node == first.node) => {
            placement.led_by(usize::from(first.node) - 1)
        }
        _ => placement.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpus_of_the_leader_go_to_the_node_that_leads() {
        let placement = Placement { replicas: vec![vec![0], vec![1], vec![1]], client: vec![0] };
        let leader = |ring, node| Leader { ring, core: 0, node };
        let led = |leaders: &[Leader]| led_placement(&placement, leaders).replicas;
        assert_eq!(led(&[leader(0, 3), leader(1, 3)]), [[1], [1], [0]]);
        assert_eq!(led(&[leader(0, 3), leader(1, 2)]), placement.replicas, "nobody leads everything");
    }
}
