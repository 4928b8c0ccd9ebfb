//! The command line, and what it comes to.

use std::path::PathBuf;

use annulus::{JournalKind, NodeId};
use clap::{Parser, ValueEnum};

use crate::nodes::{Address, Nodes};

/// A replicated key-value server that speaks Redis' protocol.
#[derive(Parser, Debug)]
#[command(name = "kv")]
pub(crate) struct Options {
    /// Which node of the cluster this is, from 1
    #[arg(long)]
    node: u16,
    /// Where every node listens for the others; by default nodes 1 to 3 on this machine, ports 7101 to 7103
    #[arg(long, value_name = "NODE=HOST:PORT", value_delimiter = ',', value_parser = entry, requires = "clients")]
    peers: Vec<Entry>,
    /// Where every node serves clients; by default nodes 1 to 3 on this machine, ports 6401 to 6403
    #[arg(long, value_name = "NODE=HOST:PORT", value_delimiter = ',', value_parser = entry)]
    clients: Vec<Entry>,
    /// Where to listen for clients, when that is not the address that they are told
    #[arg(long, value_name = "HOST:PORT", value_parser = address)]
    listen: Option<Address>,
    /// Where the journal is kept; by default ./annulus-kv/node-N
    #[arg(long, value_name = "DIRECTORY")]
    data_dir: Option<PathBuf>,
    /// In files, in non-volatile memory under a data directory with DAX, or in memory: volatile, lost with the
    /// process. A node that comes back is then another one, and its peers refuse it
    #[arg(long, value_enum, default_value_t = Journal::File)]
    journal: Journal,
    /// The CPU to run on; by default wherever the scheduler likes
    #[arg(long)]
    cpu: Option<usize>,
}

/// One node and an address of it.
type Entry = (NodeId, Address);

/// Where the journal is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Journal {
    /// In files: durable
    File,
    /// In memory: volatile
    Memory,
    /// In non-volatile memory: durable
    Nvm,
    /// In memory that a battery saves: as durable as that is true
    NvmBattery,
    /// In ordinary memory in place of non-volatile: volatile
    NvmEmulated,
}

/// What a node is to be.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) node: NodeId,
    pub(crate) peers: Vec<(NodeId, String)>,
    pub(crate) nodes: Nodes,
    pub(crate) listen: Address,
    pub(crate) data_dir: PathBuf,
    pub(crate) journal: Journal,
    pub(crate) cpu: Option<usize>,
}

impl Options {
    /// Fills in what was not said.
    ///
    /// # Errors
    /// What was said contradicts itself; in words for whoever said it.
    pub(crate) fn plan(self) -> Result<Plan, String> {
        let node = NodeId(self.node);
        let peers = or_default(self.peers, PEER_PORT);
        let clients = or_default(self.clients, CLIENT_PORT);
        if let Some((missing, _)) =
            peers.iter().find(|(peer, _)| !clients.iter().any(|(client, _)| client == peer))
        {
            return Err(format!(
                "--clients does not say where node {missing} serves clients: add {missing}=HOST:PORT"
            ));
        }
        let own = clients.iter().find(|(client, _)| *client == node).map(|(_, address)| address.clone());
        let listen = self.listen.or(own).ok_or_else(|| {
            format!("node {node} is not in the cluster: name one that is with --node, or add it to --peers and --clients")
        })?;
        Ok(Plan {
            node,
            peers: peers.into_iter().map(|(peer, address)| (peer, address.to_dial())).collect(),
            nodes: Nodes::new(node, clients),
            listen,
            data_dir: self.data_dir.unwrap_or_else(|| PathBuf::from(format!("annulus-kv/node-{node}"))),
            journal: self.journal,
            cpu: self.cpu,
        })
    }
}

impl Journal {
    /// Its name, the same in every output.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Journal::File => "file",
            Journal::Memory => "memory (volatile)",
            Journal::Nvm => "nvm",
            Journal::NvmBattery => "nvm-battery (durable while the battery is)",
            Journal::NvmEmulated => "nvm-emulated (volatile)",
        }
    }

    /// What the engine calls it.
    pub(crate) fn kind(self) -> JournalKind {
        match self {
            Journal::File => JournalKind::File,
            Journal::Memory => JournalKind::Memory,
            Journal::Nvm => JournalKind::Nvm,
            Journal::NvmBattery => JournalKind::NvmBattery,
            Journal::NvmEmulated => JournalKind::NvmEmulated,
        }
    }
}

/// The entries given, or the three nodes of a cluster on this machine, on `port` and those after it.
fn or_default(entries: Vec<Entry>, port: u16) -> Vec<Entry> {
    if !entries.is_empty() {
        return entries;
    }
    (1..=3).map(|node| (NodeId(node), Address { host: "127.0.0.1".to_owned(), port: port + node })).collect()
}

fn entry(text: &str) -> Result<Entry, String> {
    let (node, at) = text.split_once('=').ok_or("not NODE=HOST:PORT, such as 1=127.0.0.1:7101")?;
    let node =
        node.parse().ok().filter(|&node| node > 0).ok_or("the node's number is not from 1 to 65535")?;
    Ok((NodeId(node), address(at)?))
}

fn address(text: &str) -> Result<Address, String> {
    text.parse().map_err(|_| format!("{text:?} is not HOST:PORT, such as 127.0.0.1:6401"))
}

/// Node n of the default cluster listens for the others on this port plus n.
const PEER_PORT: u16 = 7100;
/// Node n of the default cluster serves clients on this port plus n.
const CLIENT_PORT: u16 = 6400;
