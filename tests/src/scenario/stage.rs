//! The stage on which a script is played: a world, and how each command changes it.

use std::time::Duration;

use annulus_rings::{NodeId, Role};

use super::command::{Command, Delivery, Selector};
use crate::world::{Envelope, Happening, Node, Wish, World, WorldOptions, tell, tell_role};

/// Rounds after which network and disks must have settled: more would be an endless conversation.
const SETTLE_ROUNDS_MAX: usize = 100;
/// Attempts that an `elect` may need: a candidate may be behind and catch up first.
const ELECTIONS_MAX: usize = 5;

/// A world under the control of a script.
#[derive(Default)]
pub struct Stage {
    world: Option<World>,
    /// Frames that are delayed until they are released.
    held: Vec<Envelope>,
}

impl Stage {
    /// Carries out one line and tells what happened.
    ///
    /// # Errors
    /// The command means nothing, or cannot be carried out.
    pub fn play(&mut self, line: &str) -> Result<Vec<String>, String> {
        let (line, quietly) = line.strip_prefix("quietly ").map_or((line, false), |rest| (rest, true));
        let mut told = match Command::parse(line)? {
            Command::Ring { nodes, window_slots, retain_bytes } => {
                let options = WorldOptions { nodes, window_slots, retain_bytes, ..WorldOptions::default() };
                let world = self.world.insert(World::new(options));
                world.happenings.clear();
                Vec::new()
            }
            command => self.perform(command)?,
        };
        let world = self.world.as_mut().ok_or(NO_WORLD)?;
        let happenings = std::mem::take(&mut world.happenings);
        if !quietly {
            told.extend(tell_all(&happenings));
        }
        Ok(told)
    }

    /// Carries out a command; returns what it shows beside what happened.
    fn perform(&mut self, command: Command) -> Result<Vec<String>, String> {
        let world = self.world.as_mut().ok_or(NO_WORLD)?;
        match command {
            Command::Ring { .. } => {}
            Command::Timeout(id) => timeout(world, id),
            Command::Pass(time) => world.advance_to(world.now() + time),
            Command::Tick(id) => world.tick(id),
            Command::Run(time) => run(world, time)?,
            Command::Elect(id) => elect(world, id)?,
            Command::Propose(id, commands) => return Ok(propose(world, id, &commands)),
            Command::Deliver(selector, delivery) => deliver(world, selector, delivery)?,
            Command::Drop(selector) => drop(take(world, selector)?),
            Command::Hold(selector) => self.held.extend(take(world, selector)?),
            Command::Release => world.flight.append(&mut self.held),
            Command::Persist(id, records) => world.persist(id, records),
            Command::Settle => settle(world)?,
            Command::Crash(id, survivors) => world.crash(id, survivors),
            Command::Start(id, rotten) => world.start_from(id, rotten),
            Command::Snapshot(id, stage) => world.take_snapshot(id, stage),
            Command::Truncate(id) => world.truncate(id),
            Command::Carry(id) => world.carry(id),
            Command::Free(id, records) => world.free(id, records),
            Command::Transfer(id) => transfer(world, id)?,
            Command::Install(id) => world.install(id),
            Command::Cut(from, to) => cut(world, from, to),
            Command::Heal => world.heal(),
            Command::Flight => return Ok(world.flight.iter().map(tell_envelope).collect()),
            Command::Status => {
                return Ok(world.ids().into_iter().map(|id| tell_status(world, id)).collect());
            }
        }
        retrieve(world);
        Ok(Vec::new())
    }
}

/// Why a command before the first `ring` fails.
const NO_WORLD: &str = "a script begins with `ring N`";

/// Tells what happened, one line for a frame that goes to several nodes.
fn tell_all(happenings: &[Happening]) -> Vec<String> {
    let is_broadcast = |a: &Happening, b: &Happening| match (a, b) {
        (
            Happening::Sent { from, frame, lost, .. },
            Happening::Sent { from: from_b, frame: frame_b, lost: lost_b, .. },
        ) => from == from_b && lost == lost_b && frame.checksum() == frame_b.checksum(),
        _ => false,
    };
    happenings.chunk_by(is_broadcast).map(tell_sent_together).collect()
}

/// Tells one happening, or the sending of one frame to several nodes.
fn tell_sent_together(happenings: &[Happening]) -> String {
    let [Happening::Sent { from, frame, lost, .. }, _, ..] = happenings else {
        return happenings[0].to_string();
    };
    let receivers = happenings.iter().filter_map(|happening| match happening {
        Happening::Sent { to, .. } => Some(format!("{to:?}")),
        _ => None,
    });
    let receivers: Vec<String> = receivers.collect();
    let lost = if *lost { " (lost)" } else { "" };
    format!("{from:?} -> {} {}{lost}", receivers.join(" "), tell(frame))
}

fn propose(world: &mut World, id: NodeId, commands: &[String]) -> Vec<String> {
    let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
    if world.propose(id, &commands) { Vec::new() } else { vec![format!("{id:?} takes no proposal")] }
}

fn timeout(world: &mut World, id: NodeId) {
    world.advance_to(world.node(id).deadline());
    world.tick(id);
}

/// Takes out of flight what a selector means.
fn take(world: &mut World, selector: Selector) -> Result<Vec<Envelope>, String> {
    let taken: Vec<Envelope> = world.flight.extract_if(.., |envelope| selector.matches(envelope)).collect();
    if taken.is_empty() { Err("nothing in flight matches".to_owned()) } else { Ok(taken) }
}

fn deliver(world: &mut World, selector: Selector, delivery: Delivery) -> Result<(), String> {
    let mut envelopes = match delivery {
        Delivery::Copied => world.flight.iter().filter(|one| selector.matches(one)).cloned().collect(),
        Delivery::InOrder | Delivery::Reversed => take(world, selector)?,
    };
    if delivery == Delivery::Reversed {
        envelopes.reverse();
    }
    for envelope in envelopes {
        world.deliver(envelope);
    }
    Ok(())
}

/// Delivers and persists until nothing is in flight and everything is durable.
fn settle(world: &mut World) -> Result<(), String> {
    for _ in 0..SETTLE_ROUNDS_MAX {
        let envelopes = std::mem::take(&mut world.flight);
        let mut idle = envelopes.is_empty() && world.retrievals.is_empty();
        for envelope in envelopes {
            world.deliver(envelope);
        }
        for id in world.ids() {
            idle &= !world.node(id).is_up() || world.node(id).undurable() == 0;
            world.persist(id, usize::MAX);
        }
        retrieve(world);
        if idle {
            return Ok(());
        }
    }
    Err(format!("still busy after {SETTLE_ROUNDS_MAX} rounds"))
}

/// Lets time pass, with network and disks that work at once.
fn run(world: &mut World, time: Duration) -> Result<(), String> {
    let end = world.now() + time;
    settle(world)?;
    while world.deadline() <= end {
        world.advance_to(world.deadline());
        for id in world.ids() {
            if world.node(id).deadline() <= world.now() {
                world.tick(id);
            }
        }
        settle(world)?;
    }
    world.advance_to(end);
    Ok(())
}

fn elect(world: &mut World, id: NodeId) -> Result<(), String> {
    for _ in 0..ELECTIONS_MAX {
        timeout(world, id);
        settle(world)?;
        if world.node(id).role() == Some(Role::Leader) {
            return Ok(());
        }
    }
    Err(format!("{id:?} does not lead after {ELECTIONS_MAX} timeouts"))
}

fn cut(world: &mut World, from: Option<NodeId>, to: Option<NodeId>) {
    let isolated = if to.is_none() { from } else { None };
    for a in world.ids() {
        for b in world.ids() {
            let named = from.is_none_or(|from| from == a) && to.is_none_or(|to| to == b);
            if a != b && (named || isolated == Some(b)) {
                world.cut(a, b);
            }
        }
    }
}

/// The first of a node's wishes is granted, and the others are forgotten.
fn transfer(world: &mut World, id: NodeId) -> Result<(), String> {
    let wishes: Vec<Wish> = world.wishes.extract_if(.., |wish| wish.node == id).collect();
    let granted = wishes.into_iter().any(|wish| world.transfer(wish));
    if granted { Ok(()) } else { Err("no snapshot arrives".to_owned()) }
}

/// Journals answer reads at once.
fn retrieve(world: &mut World) {
    for retrieval in std::mem::take(&mut world.retrievals) {
        world.retrieve(retrieval);
    }
}

fn tell_envelope(envelope: &Envelope) -> String {
    format!("{:?} -> {:?} {}", envelope.from, envelope.to, tell(&envelope.frame))
}

fn tell_status(world: &World, id: NodeId) -> String {
    let node = world.node(id);
    let (Some(role), Some(ballot)) = (node.role(), node.ballot()) else {
        return format!("{id:?} is down with {} records{}", node.kept(), tell_snapshot(node));
    };
    let progress = node.progress();
    format!(
        "{id:?} {}: proposed below {:?}, durable below {:?}, chosen below {:?}, executed below {:?}{}",
        tell_role(role, ballot),
        progress.proposed,
        progress.durable,
        progress.chosen,
        progress.executed,
        tell_snapshot(node)
    )
}

/// What a node has a snapshot of, and what its journal gives back.
fn tell_snapshot(node: &Node) -> String {
    let Some(snapshot) = node.snapshot() else { return String::new() };
    let kept = node.ring().map(|ring| format!(", {} records from {:?} on", node.kept(), ring.kept()));
    format!(", snapshot below {:?}{}", snapshot.slot, kept.unwrap_or_default())
}
