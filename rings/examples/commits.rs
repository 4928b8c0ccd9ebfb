//! Commits of one ring of three replicas in memory, without disk and network: what the protocol itself costs.
//!
//! ```text
//! cargo run --release -p annulus-rings --example commits -- 16 500     batches of 16 commands, for 500 ms
//! ```
//! Prints which contracts the build checks, and nanoseconds of CPU time per commit of all three replicas
//! together. CPU time, since other programs on the machine would only blur the cost.
//! `annulus-bench contracts` compares builds with it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use annulus_rings::{
    BatchBuilder, ClusterId, Configuration, ConfigurationId, Event, Frame, FramePool, Incarnation, Input,
    Lsn, NodeId, Outbox, Recovering, Ring, RingId, RingOptions, Role, Slot, Time, contract,
};

/// Bytes of a command.
const COMMAND_BYTES: usize = 64;
/// Commits before the clock is looked at again.
const COMMITS_AT_ONCE: u64 = 10_000;

/// A replica whose journal and network are the caller's lists.
struct Replica {
    ring: Ring,
    out: Outbox,
    /// The journal has to report this much.
    written: Lsn,
}

/// The three of them.
struct Cluster {
    replicas: Vec<Replica>,
    letters: VecDeque<(NodeId, Frame)>,
    batches: BatchBuilder,
    now: Time,
    committed: u64,
}

fn main() {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse());
    let (Some(Ok(commands)), Some(Ok(millis))) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: commits COMMANDS_PER_BATCH MILLISECONDS");
        std::process::exit(2);
    };
    let mut cluster = Cluster::new(u32::try_from(commands).expect("so many commands fit no batch"));
    cluster.elect();
    cluster.commit(COMMITS_AT_ONCE); // Memory is taken.
    let (begin, began_ns, before) = (Instant::now(), cpu_ns(), cluster.committed);
    while begin.elapsed() < Duration::from_millis(millis) {
        cluster.commit(COMMITS_AT_ONCE);
    }
    let ns = (cpu_ns() - began_ns) as f64 / (cluster.committed - before) as f64;
    println!("{:?} {ns:.2}", contract::SET);
}

/// Nanoseconds that this process had a CPU.
fn cpu_ns() -> u64 {
    let told = std::fs::read_to_string("/proc/self/schedstat").expect("the kernel counts CPU time");
    let first = told.split(' ').next().unwrap_or_default();
    first.parse().expect("nanoseconds on a CPU come first")
}

impl Cluster {
    fn new(commands: u32) -> Cluster {
        let members: Vec<NodeId> = (1..=3).map(NodeId).collect();
        let configuration = Configuration::new(ConfigurationId(1), Slot(0), &members).expect("distinct");
        let replica = |node: &NodeId| {
            let options = RingOptions {
                cluster: ClusterId(1),
                ring: RingId(1),
                node: *node,
                incarnation: Incarnation(1),
                configuration: configuration.clone(),
                window_slots: 8,
                election_timeout: Duration::from_secs(1),
                heartbeat_interval: Duration::from_millis(100),
                resend_interval: Duration::from_millis(200),
                retain_bytes: 1 << 20,
                seed: u64::from(node.0),
            };
            let out = Outbox::new(Lsn(0), FramePool::new(1 << 20));
            let ring = Recovering::new(options).recovered(Time(0), &out);
            Replica { ring, out, written: Lsn(0) }
        };
        Cluster {
            replicas: members.iter().map(replica).collect(),
            letters: VecDeque::new(),
            batches: BatchBuilder::new(1 << 20, commands),
            now: Time(0),
            committed: 0,
        }
    }

    /// Replica 1 stands for election.
    fn elect(&mut self) {
        self.now = self.replicas[0].ring.deadline();
        self.step(0, Input::Tick);
        self.settle();
        assert_eq!(self.replicas[0].ring.role(), Role::Leader, "nobody else stands");
    }

    /// Commits so many commands: fills the window, lets everything arrive, and again.
    fn commit(&mut self, commands: u64) {
        let end = self.committed + commands;
        while self.committed < end {
            self.now = self.now + Duration::from_micros(1);
            while self.replicas[0].ring.can_propose() {
                let pool = &mut self.replicas[0].out.pool;
                while self.batches.fits(COMMAND_BYTES) {
                    self.batches.push(pool, &[7; COMMAND_BYTES]);
                }
                let batch = self.batches.seal(pool, self.now.0);
                self.step(0, Input::Propose(batch));
            }
            self.settle();
            for index in 0..self.replicas.len() {
                if self.replicas[index].ring.deadline() <= self.now {
                    self.step(index, Input::Tick);
                }
            }
        }
    }

    /// Writes are durable and frames arrive until nothing is left to do.
    fn settle(&mut self) {
        loop {
            for index in 0..self.replicas.len() {
                let written = self.replicas[index].written;
                if written > Lsn(0) {
                    self.replicas[index].written = Lsn(0);
                    self.step(index, Input::Persisted(written));
                }
            }
            if self.letters.is_empty() && self.replicas.iter().all(|replica| replica.written == Lsn(0)) {
                return;
            }
            for _ in 0..self.letters.len() {
                let (to, frame) = self.letters.pop_front().expect("as many as were counted");
                self.step(usize::from(to.0) - 1, Input::Frame(frame));
            }
        }
    }

    /// One step of a replica, and what it asks for.
    fn step(&mut self, index: usize, input: Input) {
        let Replica { ring, out, written } = &mut self.replicas[index];
        // What is ignored is answered to the sender; nothing is lost or forged here.
        let _ = ring.step(self.now, input, out);
        if let Some(append) = out.appends.last() {
            *written = append.lsn;
        }
        out.appends.clear();
        self.letters.extend(out.transmits.drain(..).map(|transmit| (transmit.to, transmit.frame)));
        let mut events = std::mem::take(&mut out.events);
        for event in events.drain(..) {
            if let Event::Chosen { slot, frame, .. } = event {
                self.committed += if index == 0 { u64::from(frame.header().commands) } else { 0 };
                ring.step(self.now, Input::Executed(slot), out).expect("slots are executed in order");
            }
        }
        events.append(&mut out.events);
        out.events = events;
    }
}
