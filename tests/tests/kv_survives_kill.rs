//! What was acknowledged survives: three key-value servers, a text loaded through `redis-cli --pipe`, and
//! `kill -9` of the leader midway, and of everybody at the end.
//!
//! `ANNULUS_KV_TEXT=FILE` loads the lines of that file instead of 5,000 made up here. `redis-cli` is needed
//! (Debian: `redis-tools`).

#[path = "kv/client.rs"]
mod client;
#[path = "kv/cluster.rs"]
mod cluster;
#[path = "kv/tap.rs"]
mod tap;

use std::fs::File;
use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use client::{Client, Reply};
use cluster::{Cluster, NODES};
use tap::{Tap, Trigger};

#[test]
fn every_acknowledged_line_is_on_every_replica_after_all_were_killed() {
    let lines = lines();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let cluster = Cluster::start_in(directory.path());
    let start = Instant::now();
    let killed = cluster.leader();
    let mut loaded = load_until_killed(&cluster, killed, &lines);
    println!("killed the leader after {loaded} of {} lines, {:?}", lines.len(), start.elapsed());
    assert!(loaded > 0 && loaded < lines.len(), "the leader was killed midway");

    let failover = Instant::now();
    let next = cluster.leader();
    println!("the next leader was found after {:?}", failover.elapsed());
    assert_ne!(next, killed);
    let remaining = lines.len() - loaded;
    loaded += load(&cluster, &lines, loaded, remaining / 2).acknowledged;
    cluster.start_node(killed);
    for _ in 0..LOADS_MAX {
        loaded += load(&cluster, &lines, loaded, lines.len()).acknowledged;
        if loaded == lines.len() {
            break;
        }
    }
    assert_eq!(loaded, lines.len(), "every line was acknowledged in the end");
    println!("all lines acknowledged after {:?}", start.elapsed());

    (0..NODES).for_each(|index| cluster.node(index).kill());
    let restart = Instant::now();
    (0..NODES).for_each(|index| cluster.start_node(index));
    for index in 0..NODES {
        let expected = format!("keys={},expires=0", lines.len());
        cluster.wait_for("every key", || (cluster.info(index, "db0")? == expected).then_some(()));
        println!("node {} has all keys {:?} after the restart of all", index + 1, restart.elapsed());
        assert_lines(&cluster, index, &lines);
    }
    println!("read back from every node after {:?}", restart.elapsed());
}

/// What one run of `redis-cli --pipe` came to.
struct Load {
    acknowledged: usize,
    output: Output,
}

/// Loads all lines into the leader, which is killed when half of them are acknowledged.
fn load_until_killed(cluster: &Cluster, leader: usize, lines: &[Vec<u8>]) -> usize {
    let node = cluster.node(leader).clone();
    let port = node.port;
    let commands = commands(lines, 0, lines.len());
    let trigger = Trigger {
        acknowledged: lines.len() / 2,
        bytes_before: commands.len() as u64 * 3 / 4,
        action: Box::new(move || node.kill()),
    };
    let load = pipe(port, Some(trigger), &commands);
    assert!(!load.output.status.success(), "redis-cli noticed: {:?}", load.output);
    load.acknowledged
}

/// Loads up to `count` lines from `first` on into whoever leads.
fn load(cluster: &Cluster, lines: &[Vec<u8>], first: usize, count: usize) -> Load {
    let end = lines.len().min(first + count);
    let load = pipe(cluster.node(cluster.leader()).port, None, &commands(lines, first, end));
    let stdout = String::from_utf8_lossy(&load.output.stdout);
    if load.acknowledged == end - first {
        assert!(stdout.contains(&format!("errors: 0, replies: {}", end - first)), "{stdout}");
    }
    load
}

/// `SET number line` for lines `first..end`.
fn commands(lines: &[Vec<u8>], first: usize, end: usize) -> Vec<u8> {
    let mut commands = Vec::new();
    for (number, line) in lines.iter().enumerate().take(end).skip(first) {
        client::push(&mut commands, &[b"SET", number.to_string().as_bytes(), line]);
    }
    commands
}

/// Runs `redis-cli --pipe`.
fn pipe(port: u16, trigger: Option<Trigger>, commands: &[u8]) -> Load {
    let input = tempfile::NamedTempFile::new().expect("a temporary file");
    input.as_file().write_all(commands).expect("room for it");
    let tap = Tap::to(port, trigger).expect("a port to listen on");
    let output = Command::new("redis-cli")
        .args(["-h", "127.0.0.1", "-p", &tap.port.to_string(), "--pipe"])
        .stdin(Stdio::from(File::open(input.path()).expect("it was written")))
        .output()
        .expect("redis-cli is installed (Debian: apt-get install redis-tools)");
    Load { acknowledged: tap.acknowledged(), output }
}

/// Reads every line back from one replica.
fn assert_lines(cluster: &Cluster, index: usize, lines: &[Vec<u8>]) {
    let mut client = Client::connect(cluster.node(index).port).expect("the node serves");
    assert_eq!(client.call(&[b"READONLY"]).expect("a reply"), Reply::Status("OK".to_owned()));
    let numbered: Vec<(usize, &Vec<u8>)> = lines.iter().enumerate().collect();
    for chunk in numbered.chunks(1000) {
        for (number, _) in chunk {
            client.push(&[b"GET", number.to_string().as_bytes()]);
        }
        client.flush().expect("the node reads");
        for (number, line) in chunk {
            let reply = client.reply().expect("a reply");
            assert_eq!(reply, Reply::Bulk(Some((*line).clone())), "line {number} on node {}", index + 1);
        }
    }
}

/// The text, line by line: of a file, or made up of bytes of all kinds.
fn lines() -> Vec<Vec<u8>> {
    if let Some(path) = std::env::var_os("ANNULUS_KV_TEXT") {
        let text = std::fs::read(path).expect("ANNULUS_KV_TEXT names a file");
        return text.split(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect();
    }
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..LINES).map(|_| (0..next()).map(|_| next()).collect()).collect()
}

/// Lines of the made-up text.
const LINES: usize = 5000;
/// Runs of `redis-cli` that may be cut short by a change of leader on a machine under load.
const LOADS_MAX: usize = 10;
