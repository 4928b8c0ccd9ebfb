//! A replicated key-value server that speaks Redis' protocol (RESP2).
//!
//! Three nodes on one machine, each in a terminal of its own:
//! ```text
//! cargo run --release --example kv -- --node 1
//! cargo run --release --example kv -- --node 2
//! cargo run --release --example kv -- --node 3
//! redis-cli -c -p 6401 set greeting hello
//! ```
//! Any Redis client works that follows `-MOVED` to the leader: `redis-cli -c`, libraries in cluster mode;
//! `redis-cli --pipe` and `redis-benchmark` when pointed at the leader, which `redis-cli info replication`
//! names. What a client was told is done survives the `kill -9` of all nodes.
//!
//! The commands are in `catalogue.rs`, their form in the log in `encoding.rs`, what they do in `store.rs`.

#![deny(unsafe_code)]

mod arguments;
mod catalogue;
mod command;
mod encoding;
mod glob;
mod hash_slot;
mod info;
mod inline;
mod machine;
mod nodes;
mod number;
mod options;
mod pipeline;
mod reply;
mod request;
mod resp;
mod server;
mod session;
mod signals;
mod store;

use std::error::Error;
use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use annulus::{Engine, TcpService, TcpServiceOptions};
use annulus_rings::batch::{BATCH_BYTES_MAX, BATCH_HEADER_BYTES, COMMAND_HEADER_BYTES};
use clap::Parser as _;

use crate::info::Persistence;
use crate::machine::Machine;
use crate::options::{Options, Plan};
use crate::server::{RING, Server};
use crate::signals::Signals;

/// The largest command that can be replicated: one that fills a batch.
const COMMAND_BYTES_MAX: usize = BATCH_BYTES_MAX - BATCH_HEADER_BYTES - COMMAND_HEADER_BYTES;
/// How often a node that nobody stops looks whether its core is well.
const HEALTH_INTERVAL: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let is_terminal = io::stderr().is_terminal();
    tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(is_terminal).init();
    match run(Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> Result<(), Box<dyn Error>> {
    let plan = options.plan()?;
    // Before any thread starts, so that none but this one is ever interrupted.
    let signals = Signals::block()?;
    let engine = start(&plan)?;
    tracing::info!(node = plan.node.0, clients = %plan.listen, journal = plan.journal.name(), "serving");
    loop {
        if let Some(signal) = signals.wait(HEALTH_INTERVAL)? {
            tracing::info!(signal, "stopping");
            return Ok(engine.shutdown()?);
        }
        if let Some(failed) = engine.failure() {
            return Err(failed.into());
        }
    }
}

fn start(plan: &Plan) -> Result<Engine, Box<dyn Error>> {
    let builder = Engine::builder()
        .node(plan.node)
        .peers(plan.peers.clone())
        .data_dir(&plan.data_dir)
        .journal(plan.journal.kind())
        .batch_bytes_max(BATCH_BYTES_MAX)
        .ring(RING, Machine::default);
    let builder = match plan.cpu {
        Some(cpu) => builder.cores([cpu]),
        None => builder.unpinned_cores(1),
    };
    let (listen, nodes) = (plan.listen.clone(), plan.nodes.clone());
    let persistence = Persistence {
        journal: plan.journal.name(),
        is_durable: plan.journal.kind().is_durable(),
        started: Instant::now(),
    };
    let service = builder.service(move |_core| {
        let server = Server::new(nodes.clone(), persistence.clone());
        let bounds =
            TcpServiceOptions { input_bytes_max: resp::INPUT_BYTES_MAX, ..TcpServiceOptions::default() };
        let service = TcpService::bind_with((listen.host.as_str(), listen.port), server, bounds);
        let explain = |error: io::Error| {
            io::Error::new(error.kind(), format!("clients cannot be served on {listen}: {error}"))
        };
        Ok(Box::new(service.map_err(explain)?) as _)
    });
    Ok(service.start()?)
}
