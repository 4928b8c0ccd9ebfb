//! Three processes of the key-value example on loopback, to be killed and started again.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use crate::client::{Client, Reply};

/// Nodes 0 to 2, called 1 to 3 in the cluster, with their data in a directory of the test.
pub struct Cluster {
    directory: PathBuf,
    peers: String,
    clients: String,
    nodes: Vec<Node>,
}

/// One node, running or not. A clone is the same node.
#[derive(Clone)]
pub struct Node {
    /// Where it serves clients.
    pub port: u16,
    /// Where it listens for the others.
    peer_port: u16,
    process: Arc<Mutex<Option<Child>>>,
}

/// Nothing that a test waits for takes longer, or it never comes.
const PATIENCE: Duration = Duration::from_secs(30);

impl Cluster {
    /// Starts three nodes with their data in `node-1` to `node-3` of a directory.
    pub fn start_in(directory: &Path) -> Cluster {
        let ports = free_ports();
        let list = |ports: &[u16]| {
            let entries =
                ports.iter().enumerate().map(|(index, port)| format!("{}=127.0.0.1:{port}", index + 1));
            entries.collect::<Vec<_>>().join(",")
        };
        let (peers, clients) = ports.split_at(NODES);
        let node = |(&port, &peer_port)| Node { port, peer_port, process: Arc::default() };
        let cluster = Cluster {
            directory: directory.to_owned(),
            peers: list(peers),
            clients: list(clients),
            nodes: clients.iter().zip(peers).map(node).collect(),
        };
        (0..NODES).for_each(|index| cluster.start_node(index));
        cluster
    }

    /// Starts a node that does not run.
    pub fn start_node(&self, index: usize) {
        let name = format!("node-{}", index + 1);
        let log = self.directory.join(format!("{name}.log"));
        let log = File::options().create(true).append(true).open(log).expect("a log file");
        let child = Command::new(binary())
            .args(["--node", &(index + 1).to_string(), "--peers", &self.peers, "--clients", &self.clients])
            .arg("--data-dir")
            .arg(self.directory.join(name))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the example starts");
        *self.nodes[index].process.lock().expect("no test thread failed") = Some(child);
    }

    /// A node.
    pub fn node(&self, index: usize) -> &Node {
        &self.nodes[index]
    }

    /// Waits until one node leads, and returns which.
    pub fn leader(&self) -> usize {
        self.wait_for("a leader", || {
            (0..NODES).find(|&index| self.info(index, "ring_role").as_deref() == Some("leader"))
        })
    }

    /// One field of what a node says in `INFO`, when it answers.
    pub fn info(&self, index: usize, field: &str) -> Option<String> {
        let info = self.whole_info(index)?;
        let value = info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        value.map(str::to_owned)
    }

    fn whole_info(&self, index: usize) -> Option<String> {
        let mut client = Client::connect(self.nodes[index].port).ok()?;
        let Ok(Reply::Bulk(Some(info))) = client.call(&[b"INFO"]) else { return None };
        Some(String::from_utf8(info).expect("INFO is text"))
    }

    /// Waits until `look` finds something, and no longer than anything takes.
    pub fn wait_for<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(start.elapsed() < PATIENCE, "no sign of {what} after {PATIENCE:?}\n{}", self.logs());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What the nodes said, and say.
    fn logs(&self) -> String {
        let log = |index: usize| {
            let path = self.directory.join(format!("node-{}.log", index + 1));
            let (log, info) = (std::fs::read_to_string(path), self.whole_info(index));
            format!("--- node {}\n{}\n{}", index + 1, log.unwrap_or_default(), info.unwrap_or_default())
        };
        (0..NODES).map(log).collect()
    }
}

impl Node {
    /// Ends the process as `kill -9` does: it has no chance to do anything. When this returns, the node can
    /// be started again: a process that used `io_uring` is gone some milliseconds before its sockets are.
    pub fn kill(&self) {
        if let Some(mut process) = self.process.lock().expect("no test thread failed").take() {
            process.kill().expect("the process can be killed");
            process.wait().expect("it was a child");
            let start = Instant::now();
            while !is_free(self.port) || !is_free(self.peer_port) {
                assert!(start.elapsed() < PATIENCE, "the sockets of a dead process are closed");
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.nodes.iter().for_each(Node::kill);
    }
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// Ports that nobody listens on at the moment: for peers, then for clients.
fn free_ports() -> Vec<u16> {
    let free = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let listeners: io::Result<Vec<TcpListener>> = (0..2 * NODES).map(|_| free()).collect();
    let listeners = listeners.expect("free ports");
    listeners.iter().map(|listener| listener.local_addr().expect("it is bound").port()).collect()
}

/// The example as an executable file. Cargo builds examples beside tests, but not for tests of another
/// crate alone: so ask it to, with the profile and the directory of this test.
fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let test = std::env::current_exe().expect("a test is a file");
        let directory = test.ancestors().nth(2).expect("target/PROFILE/deps/test");
        let profile = match directory.file_name().and_then(|name| name.to_str()).expect("the profile's name")
        {
            "debug" => "test",
            other => other,
        };
        let status = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--package", "annulus", "--example", "kv", "--profile", profile])
            .arg("--target-dir")
            .arg(directory.parent().expect("target"))
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status()
            .expect("cargo runs");
        assert!(status.success(), "the example builds");
        directory.join("examples/kv")
    })
}

/// Nodes of a cluster.
pub const NODES: usize = 3;
