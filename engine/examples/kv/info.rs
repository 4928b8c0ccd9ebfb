//! What `INFO` says of a node: `name:value` lines under headings.

use std::fmt::Write as _;
use std::time::Instant;

use annulus::{Local, RingStatus, Role};

use crate::arguments::Arguments;
use crate::command::Command;
use crate::nodes::Nodes;
use crate::server::RING;

/// How this node keeps its data.
#[derive(Clone, Debug)]
pub(crate) struct Persistence {
    /// The journal's kind, as in every output.
    pub(crate) journal: &'static str,
    /// Whether acknowledged writes survive the loss of power.
    pub(crate) is_durable: bool,
    /// When the node started.
    pub(crate) started: Instant,
}

/// The headings, in order.
const SECTIONS: [&str; 5] = ["server", "persistence", "replication", "stages", "keyspace"];

/// The sections asked for, all of them when none or `all`, `default` or `everything` is.
pub(crate) fn text(
    asked: Arguments<'_>,
    nodes: &Nodes,
    persistence: &Persistence,
    local: &mut Local<'_>,
) -> String {
    let is = |name: &str| asked.iter().any(|section| section.eq_ignore_ascii_case(name.as_bytes()));
    let is_all = asked.is_empty() || ["all", "default", "everything"].into_iter().any(is);
    let mut text = String::new();
    for section in SECTIONS.into_iter().filter(|section| is_all || is(section)) {
        if !text.is_empty() {
            text.push_str("\r\n");
        }
        let (initial, rest) = section.split_at(1);
        line(&mut text, format_args!("# {}{rest}", initial.to_ascii_uppercase()));
        match section {
            "server" => server(&mut text, nodes, persistence),
            "persistence" => self::persistence(&mut text, persistence, local),
            "replication" => replication(&mut text, nodes, local),
            "stages" => stages(&mut text, local),
            _ => keyspace(&mut text, local),
        }
    }
    text
}

fn server(text: &mut String, nodes: &Nodes, persistence: &Persistence) {
    line(text, format_args!("redis_version:{REDIS_VERSION}"));
    line(text, format_args!("redis_mode:cluster"));
    line(text, format_args!("annulus_version:{}", env!("CARGO_PKG_VERSION")));
    line(text, format_args!("process_id:{}", std::process::id()));
    line(text, format_args!("node:{}", nodes.this));
    if let Some(address) = nodes.address(nodes.this) {
        line(text, format_args!("tcp_port:{}", address.port));
    }
    line(text, format_args!("uptime_in_seconds:{}", persistence.started.elapsed().as_secs()));
}

fn persistence(text: &mut String, persistence: &Persistence, local: &Local<'_>) {
    let journal = &local.statistics().journal;
    line(text, format_args!("journal:{}", persistence.journal));
    line(text, format_args!("durable:{}", u8::from(persistence.is_durable)));
    line(text, format_args!("flushes:{}", journal.flushes));
    line(text, format_args!("bytes_written:{}", journal.bytes_written));
    line(text, format_args!("frames:{}", journal.frames));
}

fn replication(text: &mut String, nodes: &Nodes, local: &mut Local<'_>) {
    let Some(RingStatus { role, leader, ballot, progress, snapshot }) = local.status(RING) else { return };
    // Tools look for the first of these words; the second is the engine's own.
    let (role, ring_role) = match role {
        Role::Leader => ("master", "leader"),
        Role::Candidate => ("slave", "candidate"),
        Role::Follower { .. } => ("slave", "follower"),
    };
    line(text, format_args!("role:{role}"));
    line(text, format_args!("ring_role:{ring_role}"));
    match leader.and_then(|leader| Some((leader, nodes.address(leader)?))) {
        Some((leader, address)) => line(text, format_args!("leader:{leader},address={address}")),
        None => line(text, format_args!("leader:unknown")),
    }
    line(text, format_args!("ballot:{ballot:?}"));
    line(text, format_args!("chosen:{}", progress.chosen));
    line(text, format_args!("executed:{}", progress.executed));
    line(text, format_args!("snapshot:{snapshot}"));
}

/// The stages of a commit at the leader, since the start.
fn stages(text: &mut String, local: &Local<'_>) {
    let report = local.stages();
    for stage in report.stages() {
        write_stage(text, stage.name, &stage.durations);
    }
    for peer in report.peers() {
        for stage in peer.stages() {
            write_stage(text, &format!("{}_{}", stage.name, peer.node), &stage.durations);
        }
    }
}

fn write_stage(text: &mut String, name: &str, durations: &annulus::Quantiles) {
    let us = |ns: u64| ns as f64 / 1000.0;
    let (p50_us, p99_us) = (us(durations.p50_ns), us(durations.p99_ns));
    line(text, format_args!("{name}:count={},p50_us={p50_us:.1},p99_us={p99_us:.1}", durations.count));
}

fn keyspace(text: &mut String, local: &mut Local<'_>) {
    let (mut query, mut reply) = (Vec::new(), Vec::new());
    Command::Keyspace.encode(&mut query);
    if local.query(RING, &query, &mut reply).is_ok() {
        text.push_str(&String::from_utf8_lossy(&reply));
    }
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    write!(text, "{line}\r\n").expect("a string takes everything");
}

/// The version of Redis whose commands and wording this server follows.
const REDIS_VERSION: &str = "7.0.15";
