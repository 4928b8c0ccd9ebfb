//! What happens in a world, and how it is told.

use std::fmt;

use annulus_rings::{
    Ballot, Commands, Frame, FrameHeader, Ignored, Kind, Lsn, Message, NodeId, Role, Slot, message,
};

use super::State;

/// One thing that happened, as an observer who sees all nodes would note it.
#[derive(Clone, Debug)]
pub enum Happening {
    /// A node started, from the records that its disk held.
    Started {
        /// The node.
        node: NodeId,
        /// Records read back.
        records: usize,
        /// The first slot that the snapshot which it was restored from does not cover.
        base: Slot,
    },
    /// A snapshot cannot be started from: the journal was cut above it.
    Refused {
        /// The node.
        node: NodeId,
        /// The first slot that the snapshot does not cover.
        base: Slot,
    },
    /// A node begins a snapshot.
    Begun {
        /// The node.
        node: NodeId,
        /// The first slot that it will not cover.
        slot: Slot,
    },
    /// A snapshot is durable on a node, whoever took it.
    Published {
        /// The node.
        node: NodeId,
        /// What is in it.
        state: State,
    },
    /// A replica is told that its state was restored from a peer's snapshot.
    Installed {
        /// The node.
        node: NodeId,
        /// What is in it.
        state: State,
    },
    /// A replica is told that a peer has a snapshot of what it lacks.
    Wanted {
        /// The node.
        node: NodeId,
        /// The peer.
        from: NodeId,
        /// The first slot that the snapshot does not cover.
        slot: Slot,
    },
    /// Records of a journal are gone for good.
    Freed {
        /// The node.
        node: NodeId,
        /// The first record that is left.
        below: Lsn,
    },
    /// A node stopped at once.
    Crashed {
        /// The node.
        node: NodeId,
        /// Records on its disk of which its ring was never told.
        survivors: usize,
    },
    /// A frame left a node.
    Sent {
        /// The sender.
        from: NodeId,
        /// The receiver.
        to: NodeId,
        /// What it says.
        frame: Frame,
        /// Whether the link is cut.
        lost: bool,
    },
    /// A record was written, and is not durable yet.
    Appended {
        /// The node.
        node: NodeId,
        /// Where in its journal.
        lsn: Lsn,
        /// The record.
        frame: Frame,
    },
    /// A record became durable.
    Durable {
        /// The node.
        node: NodeId,
        /// Where in its journal.
        lsn: Lsn,
        /// The record.
        frame: Frame,
    },
    /// A replica learned that a slot is decided, and executed it.
    Chosen {
        /// The node.
        node: NodeId,
        /// The slot.
        slot: Slot,
        /// The Accept frame of the value.
        frame: Frame,
    },
    /// A replica's role changed.
    Role {
        /// The node.
        node: NodeId,
        /// What it is now.
        role: Role,
        /// In which ballot.
        ballot: Ballot,
    },
    /// A replica reads chosen slots back from its journal for a peer.
    Retrieve {
        /// The node.
        node: NodeId,
        /// The peer.
        to: NodeId,
        /// First slot.
        from: Slot,
        /// First slot not asked for.
        upto: Slot,
    },
    /// An input changed nothing.
    Ignored {
        /// The node.
        node: NodeId,
        /// Why.
        why: Ignored,
    },
}

impl Happening {
    /// The frame or record that it is about, if any.
    pub fn frame(&self) -> Option<&Frame> {
        match self {
            Happening::Sent { frame, .. }
            | Happening::Appended { frame, .. }
            | Happening::Durable { frame, .. }
            | Happening::Chosen { frame, .. } => Some(frame),
            _ => None,
        }
    }
}

impl fmt::Display for Happening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Happening::Started { node, records, base: Slot(0) } => {
                write!(f, "{node:?} starts from {records} records")
            }
            Happening::Started { node, records, base } => {
                write!(f, "{node:?} starts from a snapshot below {base:?} and {records} records")
            }
            Happening::Refused { node, base } => {
                write!(f, "{node:?} cannot start from the snapshot below {base:?}: slots are missing")
            }
            Happening::Begun { node, slot } => write!(f, "{node:?} begins a snapshot below {slot:?}"),
            Happening::Published { node, state } => {
                write!(f, "{node:?} holds a snapshot below {:?} durably", state.slot)
            }
            Happening::Installed { node, state } => {
                write!(f, "{node:?} is restored from the snapshot below {:?}", state.slot)
            }
            Happening::Wanted { node, from, slot } => {
                write!(f, "{node:?} wants the snapshot below {slot:?} of {from:?}")
            }
            Happening::Freed { node, below } => write!(f, "{node:?} frees its records below #{below}"),
            Happening::Crashed { node, survivors: 0 } => write!(f, "{node:?} crashes"),
            Happening::Crashed { node, survivors } => {
                write!(f, "{node:?} crashes, {survivors} records reached its disk unnoticed")
            }
            Happening::Sent { from, to, frame, lost } => {
                write!(f, "{from:?} -> {to:?} {}{}", tell(frame), if *lost { " (lost)" } else { "" })
            }
            Happening::Appended { node, lsn, frame } => {
                write!(f, "{node:?} writes #{lsn} {}", tell_record(frame))
            }
            Happening::Durable { node, lsn, .. } => write!(f, "{node:?} holds #{lsn} durably"),
            Happening::Chosen { node, slot, frame } => {
                write!(f, "{node:?} learns that {slot:?} is {}", tell_value(frame))
            }
            Happening::Role { node, role, ballot } => write!(f, "{node:?} {}", tell_role(*role, *ballot)),
            Happening::Retrieve { node, to, from, upto } => {
                write!(f, "{node:?} reads {from:?}..{upto:?} back for {to:?}")
            }
            Happening::Ignored { node, why } => write!(f, "{node:?} ignores it: {why}"),
        }
    }
}

/// What a replica is, as a predicate.
pub(crate) fn tell_role(role: Role, ballot: Ballot) -> String {
    match role {
        Role::Follower { leader: None } => format!("follows nobody, in {ballot}"),
        Role::Follower { leader: Some(leader) } => format!("follows {leader:?} in {ballot}"),
        Role::Candidate => format!("stands for {ballot}"),
        Role::Leader => format!("leads in {ballot}"),
    }
}

/// What a frame between members says.
pub fn tell(frame: &Frame) -> String {
    let header = frame.header();
    if header.kind.is_of_core() {
        return tell_of_core(frame);
    }
    let said = match Message::decode(&header) {
        Ok(message) => tell_message(&message, header.ballot, frame),
        Err(malformed) => malformed.to_string(),
    };
    if header.chosen == Slot(0) { said } else { format!("{said}, chosen below {:?}", header.chosen) }
}

/// What a record of the journal says: the sender's watermark does not matter there.
fn tell_record(frame: &Frame) -> String {
    let header = frame.header();
    match Message::decode(&header) {
        _ if header.kind.is_of_core() => tell_of_core(frame),
        _ if header.kind == Kind::Mark => format!("Mark chosen below {:?}", header.chosen),
        _ if header.kind == Kind::Base => tell_base(&header),
        Ok(message) => tell_message(&message, header.ballot, frame),
        Err(malformed) => malformed.to_string(),
    }
}

/// A cut: where, what is chosen and promised, and how far the own records reach if a snapshot goes beyond.
fn tell_base(header: &FrameHeader) -> String {
    let [own, lsn, ..] = header.words;
    let own =
        if own < header.slot.0 { format!(", own records below {:?}", Slot(own)) } else { String::new() };
    format!(
        "Base below {:?}, records from #{lsn} on{own}, chosen below {:?}, promised {}",
        header.slot, header.chosen, header.ballot
    )
}

/// What a core says of disks, or writes down of them.
fn tell_of_core(frame: &Frame) -> String {
    let header = frame.header();
    let [first, second, third, _] = header.words;
    match header.kind {
        Kind::Announce => format!(
            "Announce i{} durable to {}, knows i{first} to have reached {second}, heard {third}",
            header.ballot.incarnation, header.slot
        ),
        Kind::Acquainted => format!("Acquainted with n{first} i{second}, which has reached {third}"),
        kind => format!("{kind:?}"),
    }
}

fn tell_message(message: &Message, ballot: Ballot, frame: &Frame) -> String {
    match *message {
        Message::PreVote { prefix } => format!("PreVote {ballot} knowing {prefix:?}"),
        Message::PreVoted { granted: true, .. } => format!("PreVoted {ballot} yes"),
        Message::PreVoted { promised, .. } => format!("PreVoted {ballot} no, promised {promised}"),
        Message::Prepare { from } => format!("Prepare {ballot} from {from:?}"),
        Message::Promise { base, part, parts, .. } => {
            let part = if parts == 1 { String::new() } else { format!(" part {} of {parts}", part + 1) };
            format!("Promise {ballot} base {base:?}{part}{}", tell_carried(frame))
        }
        Message::Accept { slot } => format!("Accept {ballot} {slot:?} {}", tell_value(frame)),
        Message::Accepted { first, last, .. } if first == last => format!("Accepted {ballot} {first:?}"),
        Message::Accepted { first, last, .. } => format!("Accepted {ballot} {first:?}..={last:?}"),
        Message::Refused { promised } => format!("Refused {ballot}, promised {promised}"),
        Message::BelowFloor { floor } => format!("BelowFloor {floor:?}"),
        Message::Heartbeat { next, .. } => format!("Heartbeat {ballot} next {next:?}"),
        Message::Heard { promised, .. } if promised == ballot => format!("Heard {ballot}"),
        Message::Heard { promised, .. } => format!("Heard {ballot}, promised {promised}"),
        Message::Fetch { from, upto } => format!("Fetch {from:?}..{upto:?}"),
        Message::Learn { .. } => format!("Learn{}", tell_carried(frame)),
        Message::Truncated { snapshot } => format!("Truncated, snapshot below {snapshot:?}"),
    }
}

/// Bytes of a command that are told.
const SHOWN_BYTES_MAX: usize = 30;

/// The commands of an Accept.
fn tell_value(frame: &Frame) -> String {
    if frame.header().commands == 0 {
        return "no-op".to_owned();
    }
    let commands = Commands::of(frame).map(|command| {
        let shown = &command[..command.len().min(SHOWN_BYTES_MAX)];
        String::from_utf8_lossy(shown).into_owned()
    });
    format!("[{}]", commands.collect::<Vec<_>>().join(" "))
}

/// The votes or values that a frame carries.
fn tell_carried(frame: &Frame) -> String {
    let mut told = Vec::new();
    let carried = message::carried(frame, |inner| {
        let header = inner.header();
        told.push(format!(" {{{:?} at {}: {}}}", header.slot, header.ballot, tell_value(&inner)));
    });
    if let Err(malformed) = carried {
        told.push(format!(" and {malformed}"));
    }
    told.concat()
}
