//! The commands of a script.
//!
//! | command | what happens |
//! |---|---|
//! | `ring 3 window=8 retain=65536` | a ring of three nodes, all started |
//! | `timeout 1` | time passes to node 1's deadline, and only node 1 is told |
//! | `pass 50ms` | time passes and nobody is told |
//! | `tick 1` | node 1 is told that a deadline may have passed |
//! | `run 300ms` | time passes; every node is told of its deadlines; network and disks work at once |
//! | `elect 1` | node 1's timeouts pass, with network and disks working, until it leads |
//! | `propose 1 a b` | a client hands node 1 a batch of commands |
//! | `deliver 1>2 Accept s0` | what matches in flight arrives, in the order it was sent |
//! | `deliver-reversed …` | the same, the last sent first |
//! | `deliver-copy …` | the same, and it stays in flight: a duplicate |
//! | `drop …` | what matches in flight is lost |
//! | `hold …`, `release` | what matches is delayed until all that is held is released |
//! | `persist 1 2` | the next two records of node 1 are durable; without a count, all |
//! | `settle` | network and disks work until nothing is left to do; no time passes |
//! | `crash 1`, `crash 1 keeping 1` | node 1 stops; unreported records are lost, but for the first so many |
//! | `start 1` | node 1 starts from its newest snapshot and the records that it has |
//! | `start 1 rotten` | the same, and it cannot read its newest snapshot |
//! | `snapshot 1` | node 1 takes a snapshot of what it has executed: it is durable, and the ring knows |
//! | `snapshot 1 begun`, `snapshot 1 durable` | only as far as that |
//! | `truncate 1` | node 1's journal is cut below that snapshot, or below the one that it started from |
//! | `carry 1` | node 1 writes what it holds again, and cuts its journal in front of that |
//! | `free 1`, `free 1 3` | what node 1 needs no longer of its journal is gone, or at most three records |
//! | `transfer 3` | a snapshot that node 3 was told of arrives there and is durable |
//! | `install 3` | node 3 is restored from it |
//! | `cut 1>2`, `cut 1`, `heal` | a link, or every link of a node, loses what is sent on it |
//! | `flight` | shows what is in flight |
//! | `status` | shows every node |
//! | `quietly …` | does not show what happens |

use std::time::Duration;

use annulus_rings::{Kind, NodeId, Slot};

use crate::world::{Envelope, SnapshotStage};

/// One command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// A new world.
    Ring {
        /// Nodes.
        nodes: u16,
        /// α.
        window_slots: u32,
        /// Bytes of chosen slots that rings keep in memory.
        retain_bytes: usize,
    },
    /// Time passes to a node's deadline, and it is told.
    Timeout(NodeId),
    /// Time passes.
    Pass(Duration),
    /// A node is told that a deadline may have passed.
    Tick(NodeId),
    /// Time passes and everything works.
    Run(Duration),
    /// A node comes to lead.
    Elect(NodeId),
    /// A client's batch.
    Propose(NodeId, Vec<String>),
    /// Frames arrive.
    Deliver(Selector, Delivery),
    /// Frames are lost.
    Drop(Selector),
    /// Frames are delayed.
    Hold(Selector),
    /// What is held is in flight again.
    Release,
    /// Records become durable.
    Persist(NodeId, usize),
    /// Everything works, no time passes.
    Settle,
    /// A node stops; so many unreported records survive.
    Crash(NodeId, usize),
    /// A node starts; maybe it cannot read its newest snapshot.
    Start(NodeId, bool),
    /// A node takes a snapshot, so far.
    Snapshot(NodeId, SnapshotStage),
    /// A node's journal is cut.
    Truncate(NodeId),
    /// A node writes again what it holds.
    Carry(NodeId),
    /// So many records are gone.
    Free(NodeId, usize),
    /// A peer's snapshot arrives.
    Transfer(NodeId),
    /// The snapshot that has arrived takes effect.
    Install(NodeId),
    /// Links are cut: from, to; `None` is every node.
    Cut(Option<NodeId>, Option<NodeId>),
    /// Links are mended.
    Heal,
    /// Shows what is in flight.
    Flight,
    /// Shows every node.
    Status,
}

/// How frames arrive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Delivery {
    /// In the order they were sent.
    InOrder,
    /// The last sent first.
    Reversed,
    /// In order, and each stays in flight.
    Copied,
}

/// Which frames in flight; what is absent matches everything.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Selector {
    from: Option<NodeId>,
    to: Option<NodeId>,
    kind: Option<Kind>,
    slot: Option<Slot>,
}

impl Selector {
    /// Whether a frame is meant.
    pub fn matches(&self, envelope: &Envelope) -> bool {
        let header = envelope.frame.header();
        self.from.is_none_or(|from| from == envelope.from)
            && self.to.is_none_or(|to| to == envelope.to)
            && self.kind.is_none_or(|kind| kind == header.kind)
            && self.slot.is_none_or(|slot| slot == header.slot)
    }

    /// Reads `1>2 Accept s0`, any part of which may be absent.
    fn parse(words: &[&str]) -> Result<Selector, String> {
        let mut selector = Selector::default();
        for word in words {
            if let Some((from, to)) = word.split_once('>') {
                (selector.from, selector.to) = (any_node(from)?, any_node(to)?);
            } else if let Some(slot) = word.strip_prefix('s').and_then(|slot| slot.parse().ok()) {
                selector.slot = Some(Slot(slot));
            } else {
                selector.kind = Some(kind(word)?);
            }
        }
        Ok(selector)
    }
}

impl Command {
    /// Reads a command.
    ///
    /// # Errors
    /// What about it means nothing.
    pub fn parse(line: &str) -> Result<Command, String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (&name, rest) = words.split_first().ok_or("an empty command")?;
        match (name, rest) {
            ("ring", [nodes, settings @ ..]) => ring(nodes, settings),
            ("timeout", [id]) => Ok(Command::Timeout(node(id)?)),
            ("pass", [time]) => Ok(Command::Pass(duration(time)?)),
            ("tick", [id]) => Ok(Command::Tick(node(id)?)),
            ("run", [time]) => Ok(Command::Run(duration(time)?)),
            ("elect", [id]) => Ok(Command::Elect(node(id)?)),
            ("propose", [id, commands @ ..]) => {
                Ok(Command::Propose(node(id)?, commands.iter().map(|&word| word.to_owned()).collect()))
            }
            ("deliver", which) => Ok(Command::Deliver(Selector::parse(which)?, Delivery::InOrder)),
            ("deliver-reversed", which) => Ok(Command::Deliver(Selector::parse(which)?, Delivery::Reversed)),
            ("deliver-copy", which) => Ok(Command::Deliver(Selector::parse(which)?, Delivery::Copied)),
            ("drop", which) => Ok(Command::Drop(Selector::parse(which)?)),
            ("hold", which) => Ok(Command::Hold(Selector::parse(which)?)),
            ("release", []) => Ok(Command::Release),
            ("persist", [id]) => Ok(Command::Persist(node(id)?, usize::MAX)),
            ("persist", [id, records]) => Ok(Command::Persist(node(id)?, number(records)?)),
            ("settle", []) => Ok(Command::Settle),
            ("crash", [id]) => Ok(Command::Crash(node(id)?, 0)),
            ("crash", [id, "keeping", records]) => Ok(Command::Crash(node(id)?, number(records)?)),
            ("start", [id]) => Ok(Command::Start(node(id)?, false)),
            ("start", [id, "rotten"]) => Ok(Command::Start(node(id)?, true)),
            ("snapshot", [id]) => Ok(Command::Snapshot(node(id)?, SnapshotStage::Told)),
            ("snapshot", [id, "durable"]) => Ok(Command::Snapshot(node(id)?, SnapshotStage::Published)),
            ("snapshot", [id, "begun"]) => Ok(Command::Snapshot(node(id)?, SnapshotStage::Begun)),
            ("truncate", [id]) => Ok(Command::Truncate(node(id)?)),
            ("carry", [id]) => Ok(Command::Carry(node(id)?)),
            ("free", [id]) => Ok(Command::Free(node(id)?, usize::MAX)),
            ("free", [id, records]) => Ok(Command::Free(node(id)?, number(records)?)),
            ("transfer", [id]) => Ok(Command::Transfer(node(id)?)),
            ("install", [id]) => Ok(Command::Install(node(id)?)),
            ("cut", [link]) => match link.split_once('>') {
                Some((from, to)) => Ok(Command::Cut(any_node(from)?, any_node(to)?)),
                None => Ok(Command::Cut(Some(node(link)?), None)),
            },
            ("heal", []) => Ok(Command::Heal),
            ("flight", []) => Ok(Command::Flight),
            ("status", []) => Ok(Command::Status),
            _ => Err("no such command".to_owned()),
        }
    }
}

fn ring(nodes: &str, settings: &[&str]) -> Result<Command, String> {
    let (mut window_slots, mut retain_bytes) = (8, 1 << 20);
    for setting in settings {
        match setting.split_once('=') {
            Some(("window", slots)) => window_slots = number(slots)?,
            Some(("retain", bytes)) => retain_bytes = number(bytes)?,
            _ => return Err(format!("no such setting: {setting}")),
        }
    }
    Ok(Command::Ring { nodes: number(nodes)?, window_slots, retain_bytes })
}

fn number<T: std::str::FromStr>(word: &str) -> Result<T, String> {
    word.parse().map_err(|_| format!("not a number: {word}"))
}

fn node(word: &str) -> Result<NodeId, String> {
    number(word).map(NodeId)
}

fn any_node(word: &str) -> Result<Option<NodeId>, String> {
    if word == "*" { Ok(None) } else { node(word).map(Some) }
}

fn duration(word: &str) -> Result<Duration, String> {
    let milliseconds = word.strip_suffix("ms").ok_or_else(|| format!("not milliseconds: {word}"))?;
    number(milliseconds).map(Duration::from_millis)
}

fn kind(word: &str) -> Result<Kind, String> {
    let kinds = (0..=u8::MAX).filter_map(Kind::from_u8);
    kinds.into_iter().find(|kind| format!("{kind:?}") == word).ok_or_else(|| format!("no such frame: {word}"))
}
