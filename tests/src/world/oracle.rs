//! The observer who sees all replicas and knows what is really chosen.
//!
//! It believes nothing that a replica says of itself. What is chosen it works out from the votes on
//! the disks: a value is chosen in the moment a quorum of nodes holds votes for it in one ballot. Ids
//! are those of the rules that a violation breaks.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use annulus_rings::frame::ValueId;
use annulus_rings::{Ballot, Frame, Kind, Lsn, Message, NodeId, Progress, Role, Slot, message};

use super::disk::Disk;
use super::{Happening, State};

/// A rule that was broken, and how.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// The rule.
    pub rule: &'static str,
    /// What was seen.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} violated: {}", self.rule, self.what)
    }
}

/// Fails with a violation of `$rule` unless `$condition` holds.
macro_rules! check {
    ($rule:literal, $condition:expr, $($what:tt)*) => {
        if !$condition {
            return Err(Violation { rule: $rule, what: format!($($what)*) });
        }
    };
}

/// The global history.
#[derive(Default)]
pub struct Oracle {
    quorum: usize,
    window_slots: u64,
    /// The one value that each ballot may propose for each slot (G1).
    proposed: BTreeMap<(Slot, Ballot), ValueId>,
    /// Who holds a durable vote, by slot and ballot.
    votes: BTreeMap<(Slot, Ballot), BTreeSet<NodeId>>,
    /// What is really chosen (G2).
    chosen: BTreeMap<Slot, ValueId>,
    /// Who led in each ballot, and in which of its lives (G3, P1).
    leaders: BTreeMap<Ballot, (NodeId, u64)>,
    nodes: BTreeMap<NodeId, Observed>,
    /// The state after each slot from the first on, as far as it was asked for.
    states: Vec<State>,
}

/// What the oracle knows of one node.
#[derive(Default)]
struct Observed {
    lives: u64,
    /// The highest ballot that its durable records promise.
    promised_durable: Ballot,
    /// The highest ballot that any of its records promises, durable or not.
    promised: Ballot,
    /// The values that it ever held durably, by the ballot of their Accept: its votes, and what it was taught.
    held: BTreeMap<(Slot, Ballot), ValueId>,
    disk: Disk,
    /// The first slot that it has not reported chosen in this life.
    reported: Slot,
    /// Its watermarks, which only rise within a life.
    progress: Progress,
}

impl Observed {
    fn promise_durably(&mut self, ballot: Ballot) {
        self.promised_durable = self.promised_durable.max(ballot);
        self.promised = self.promised.max(ballot);
    }

    fn hold_durably(&mut self, accept: &Frame) {
        let header = accept.header();
        self.promise_durably(header.ballot);
        self.held.insert((header.slot, header.ballot), accept.value());
    }
}

type Verdict = Result<(), Violation>;

impl Oracle {
    /// An oracle of a world of so many nodes.
    pub(crate) fn new(nodes: usize, window_slots: u32) -> Oracle {
        Oracle { quorum: nodes / 2 + 1, window_slots: u64::from(window_slots), ..Oracle::default() }
    }

    /// Slots that are chosen, whoever knows.
    pub fn chosen_count(&self) -> usize {
        self.chosen.len()
    }

    /// What is chosen in `slot`.
    pub(crate) fn chosen(&self, slot: Slot) -> Option<ValueId> {
        self.chosen.get(&slot).copied()
    }

    /// Ballots that had a leader.
    pub fn ballots_led(&self) -> usize {
        self.leaders.len()
    }

    /// Judges one happening.
    pub(crate) fn observe(&mut self, happening: &Happening) -> Verdict {
        match happening {
            Happening::Started { node, base, .. } => self.started(*node, *base),
            Happening::Published { node, state } => return self.published(*node, *state),
            Happening::Installed { node, state } => return self.installed(*node, *state),
            Happening::Freed { node, below } => return self.freed(*node, *below),
            Happening::Refused { node, base } => return self.refused(*node, *base),
            Happening::Sent { from, to, frame, .. } => return self.sent(*from, *to, frame),
            Happening::Appended { node, lsn, frame } => return self.appended(*node, *lsn, frame),
            Happening::Durable { node, lsn, frame } => return self.durable(*node, *lsn, frame),
            Happening::Chosen { node, slot, frame } => return self.reported(*node, *slot, frame),
            Happening::Role { node, role: Role::Leader, ballot } => return self.leads(*node, *ballot),
            Happening::Crashed { .. }
            | Happening::Retrieve { .. }
            | Happening::Wanted { .. }
            | Happening::Begun { .. }
            | Happening::Ignored { .. }
            | Happening::Role { .. } => {}
        }
        Ok(())
    }

    /// Judges what is left of the chosen values: every read quorum of `sound` nodes must find each of them, as
    /// the vote in the highest ballot that its members hold durably (G7).
    pub(crate) fn recoverable(&self, sound: &[NodeId]) -> Verdict {
        for (&slot, &value) in &self.chosen {
            // Whoever has a snapshot of the slot says that it is chosen, which outbids every vote.
            let is_covered =
                |node: &NodeId| self.nodes.get(node).is_some_and(|seen| seen.disk.covered > slot);
            let highest = Some((Ballot { round: u64::MAX, ..Ballot::ZERO }, value));
            let vote =
                |node: &NodeId| if is_covered(node) { highest } else { self.highest_vote(*node, slot) };
            let mut votes: Vec<(Option<(Ballot, ValueId)>, NodeId)> =
                sound.iter().map(|node| (vote(node), *node)).collect();
            votes.sort_by_key(|(vote, _)| vote.map(|(ballot, _)| ballot));
            // Whoever has at least so many below or beside him is the highest of some quorum.
            for (vote, node) in votes.iter().skip(self.quorum - 1) {
                check!(
                    "G7",
                    vote.is_some_and(|(_, held)| held == value),
                    "a quorum with {node:?} as its highest vote for {slot:?} cannot recover what was chosen: {vote:?}"
                );
            }
        }
        Ok(())
    }

    fn highest_vote(&self, node: NodeId, slot: Slot) -> Option<(Ballot, ValueId)> {
        let held = &self.nodes.get(&node)?.held;
        let votes = held.range((slot, Ballot::ZERO)..(slot.next(), Ballot::ZERO));
        votes.last().map(|((_, ballot), value)| (*ballot, *value))
    }

    /// Judges a node's watermarks after a step.
    pub(crate) fn watermarks(&mut self, node: NodeId, progress: Progress) -> Verdict {
        let before = std::mem::replace(&mut self.node(node).progress, progress);
        let Progress { chosen, executed, .. } = progress;
        check!("T2", executed <= chosen, "{node:?} executed beyond what is chosen: {progress:?}");
        let rises = executed >= before.executed && chosen >= before.chosen;
        check!("T2", rises, "{node:?} went back from {before:?} to {progress:?}");
        Ok(())
    }

    fn started(&mut self, node: NodeId, base: Slot) {
        let observed = self.nodes.entry(node).or_default();
        observed.lives += 1;
        observed.reported = base;
        observed.progress = Progress::default();
        observed.disk.restart(base);
        // What was not durable is gone: the promises in it were never given.
        observed.promised = observed.promised_durable;
    }

    fn sent(&mut self, from: NodeId, to: NodeId, frame: &Frame) -> Verdict {
        let header = frame.header();
        check!("addressing", from != to, "{from:?} sends to itself: {frame:?}");
        check!(
            "addressing",
            header.sender == from || header.kind == Kind::Accept,
            "{from:?} forges {frame:?}"
        );
        let message = Message::decode(&header);
        check!("form", message.is_ok(), "{from:?} sends a malformed {frame:?}");
        match message.expect("checked above") {
            Message::Accept { .. } => self.proposes(frame)?,
            Message::Promise { .. } => {
                let promised = self.node(from).promised_durable;
                check!(
                    "A2",
                    header.ballot <= promised,
                    "{from:?} promises {} and durable is {promised}",
                    header.ballot
                );
            }
            Message::Accepted { first, last, digest, .. } => {
                self.acknowledges(from, header.ballot, first, last, digest)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// One value per slot and ballot, and never more than α slots that the proposer does not know chosen.
    fn proposes(&mut self, frame: &Frame) -> Verdict {
        let header = frame.header();
        let (slot, ballot, value) = (header.slot, header.ballot, frame.value());
        let before = *self.proposed.entry((slot, ballot)).or_insert(value);
        check!("G1", before == value, "{ballot} proposes two values for {slot:?}");
        let open = slot.0.saturating_sub(header.chosen.0);
        check!("P7", open < self.window_slots, "{ballot} proposes {slot:?}, {open} beyond its chosen prefix");
        Ok(())
    }

    /// An Accepted leaves only when every vote that it speaks of is durable, with the value it names.
    fn acknowledges(&self, node: NodeId, ballot: Ballot, first: Slot, last: Slot, digest: u64) -> Verdict {
        let mut expected = 0;
        for slot in (first.0..=last.0).map(Slot) {
            let held = self.nodes.get(&node).and_then(|observed| observed.held.get(&(slot, ballot)));
            check!("A4", held.is_some(), "{node:?} acknowledges {slot:?} in {ballot} without a durable vote");
            expected = ValueId::fold(expected, slot, *held.expect("checked above"));
        }
        check!("P8", digest == expected, "{node:?} acknowledges other values in {first:?}..={last:?}");
        Ok(())
    }

    fn appended(&mut self, node: NodeId, lsn: Lsn, frame: &Frame) -> Verdict {
        let header = frame.header();
        let observed = self.node(node);
        let is_carried = header.kind == Kind::Accept && observed.disk.holds((header.slot, header.ballot));
        observed.disk.append(lsn, frame, observed.reported);
        if header.kind == Kind::Base {
            let promised = observed.disk.promised;
            check!("A1", header.ballot >= promised, "{node:?} promised {promised} and writes {frame:?}");
        }
        if is_carried || !matches!(header.kind, Kind::Prepare | Kind::Accept) {
            return Ok(());
        }
        let promised = observed.promised;
        check!("A3", header.ballot >= promised, "{node:?} promised {promised} and takes {frame:?}");
        observed.promised = header.ballot;
        if header.kind == Kind::Accept { self.proposes(frame) } else { Ok(()) }
    }

    fn durable(&mut self, node: NodeId, lsn: Lsn, frame: &Frame) -> Verdict {
        self.node(node).disk.persist(lsn);
        match frame.kind() {
            Kind::Prepare | Kind::Base => self.node(node).promise_durably(frame.header().ballot),
            Kind::Accept => {
                self.node(node).hold_durably(frame);
                return self.voted(node, frame.header().slot, frame.header().ballot);
            }
            // What is taught is chosen already: whoever holds it may say so, and it counts for nothing.
            Kind::Learn => message::carried(frame, |inner| self.node(node).hold_durably(&inner))
                .expect("a record of the journal is well formed"),
            _ => {}
        }
        Ok(())
    }

    fn voted(&mut self, node: NodeId, slot: Slot, ballot: Ballot) -> Verdict {
        let votes = self.votes.entry((slot, ballot)).or_default();
        votes.insert(node);
        if votes.len() >= self.quorum {
            let value = self.proposed[&(slot, ballot)];
            let before = *self.chosen.entry(slot).or_insert(value);
            check!("G2", before == value, "{slot:?} is chosen again in {ballot}, with another value");
        }
        Ok(())
    }

    /// A replica may only believe what is true, in order and without gaps.
    fn reported(&mut self, node: NodeId, slot: Slot, frame: &Frame) -> Verdict {
        let truth = self.chosen.get(&slot).copied();
        check!("L2", truth.is_some(), "{node:?} believes {slot:?} chosen, and no quorum voted for it");
        check!("G4", truth == Some(frame.value()), "{node:?} believes in another value of {slot:?}");
        let expected = self.node(node).reported;
        check!("L4", slot == expected, "{node:?} reports {slot:?} where {expected:?} is next");
        self.node(node).reported = slot.next();
        Ok(())
    }

    /// A snapshot is durable: it is the state after the chosen values of the slots that it covers (G6).
    fn published(&mut self, node: NodeId, state: State) -> Verdict {
        let truth = self.state(state.slot);
        check!("G6", truth == Some(state), "{node:?} has the snapshot {state:?}, and the truth is {truth:?}");
        let observed = self.node(node);
        observed.disk.covered = observed.disk.covered.max(state.slot);
        Ok(())
    }

    /// A snapshot took effect: it moves nothing back, and what is reported next comes behind it (T3).
    fn installed(&mut self, node: NodeId, state: State) -> Verdict {
        let observed = self.node(node);
        let (reported, covered) = (observed.reported, observed.disk.covered);
        check!("T3", state.slot > reported, "{node:?} goes back from {reported:?} to {state:?}");
        check!("T1", state.slot <= covered, "{node:?} installs {state:?}, which is not durable");
        observed.reported = state.slot;
        Ok(())
    }

    /// Records are gone for good: nothing may be lost by that.
    fn freed(&mut self, node: NodeId, below: Lsn) -> Verdict {
        let observed = self.node(node);
        let lost = observed.disk.free(below);
        lost.map_err(|what| Violation { rule: "T1", what: format!("{node:?}: {what}") })
    }

    /// A replica does not start from a snapshot: then it must be one with a gap behind it (T2).
    fn refused(&mut self, node: NodeId, base: Slot) -> Verdict {
        let disk = &self.node(node).disk;
        let is_gap = disk.is_cut() || base < disk.covered;
        check!(
            "T2",
            is_gap,
            "{node:?} refuses its snapshot of the slots below {base:?}, and nothing is missing"
        );
        Ok(())
    }

    /// A replica has started: it remembers every promise that it may have given (A1), and has the state of what
    /// is chosen (G5).
    pub(crate) fn recovered(&mut self, node: NodeId, promised: Ballot, state: State) -> Verdict {
        let durable = self.node(node).disk.promised;
        check!("A1", promised >= durable, "{node:?} promised {durable} and remembers {promised}");
        self.executed(node, state)
    }

    /// A replica says that its journal gives back every slot from `kept` on: those below `executed` as they were
    /// chosen, for they may be taught (T5).
    pub(crate) fn gives_back(&self, node: NodeId, kept: Slot, executed: Slot, given: &[Frame]) -> Verdict {
        let values: Vec<Option<ValueId>> = given.iter().map(|frame| Some(frame.value())).collect();
        let truth: Vec<Option<ValueId>> = (kept.0..executed.0).map(|slot| self.chosen(Slot(slot))).collect();
        check!(
            "T5",
            values == truth,
            "{node:?} would teach {kept:?}..{executed:?} as {values:?}, and chosen is {truth:?}"
        );
        Ok(())
    }

    /// A replica has executed: its state must be that of what is chosen (G5).
    pub(crate) fn executed(&mut self, node: NodeId, state: State) -> Verdict {
        let truth = self.state(state.slot);
        check!("G5", truth == Some(state), "{node:?} has the state {state:?}, and the truth is {truth:?}");
        Ok(())
    }

    /// The state after every slot below `slot`, if those are chosen: what a snapshot must hold.
    pub(crate) fn truth(&mut self, slot: Slot) -> Option<State> {
        self.state(slot)
    }

    /// The state after every slot below `slot`, if those are chosen.
    fn state(&mut self, slot: Slot) -> Option<State> {
        let mut state = self.states.last().copied().unwrap_or_default();
        while state.slot < slot {
            state.execute(state.slot, *self.chosen.get(&state.slot)?);
            self.states.push(state);
        }
        let below = slot.0.checked_sub(1).map(|last| self.states[last as usize]);
        Some(below.unwrap_or_default())
    }

    fn leads(&mut self, node: NodeId, ballot: Ballot) -> Verdict {
        let life = self.node(node).lives;
        check!("G3", ballot.node == node, "{node:?} leads in {ballot}, which is not its own");
        let before = self.leaders.insert(ballot, (node, life));
        check!("P1", before.is_none_or(|led| led == (node, life)), "{node:?} leads again in {ballot}");
        Ok(())
    }

    fn node(&mut self, node: NodeId) -> &mut Observed {
        self.nodes.entry(node).or_default()
    }
}

#[cfg(test)]
mod tests {
    use annulus_rings::Incarnation;

    use super::*;

    const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];

    /// An oracle of three nodes with these durable votes for the first slot, which chose value 7.
    fn oracle(votes: &[(u16, u64, u64)]) -> Oracle {
        let mut oracle = Oracle::new(3, 4);
        oracle.chosen.insert(Slot(0), ValueId(7));
        for &(node, round, value) in votes {
            let ballot = Ballot { round, node: NodeId(1), incarnation: Incarnation(1) };
            oracle.node(NodeId(node)).held.insert((Slot(0), ballot), ValueId(value));
        }
        oracle
    }

    #[test]
    fn what_was_chosen_must_be_the_highest_vote_of_every_quorum() {
        oracle(&[(1, 5, 7), (2, 5, 7)]).recoverable(&NODES).unwrap();
        oracle(&[(1, 5, 7), (2, 5, 7), (3, 4, 8)]).recoverable(&NODES).unwrap();
        oracle(&[(1, 5, 7), (2, 6, 7), (2, 3, 9)]).recoverable(&NODES).unwrap();
        for broken in [&[(1, 5, 7)][..], &[(1, 5, 7), (2, 5, 7), (3, 6, 8)], &[(1, 5, 7), (2, 4, 8)]] {
            assert_eq!(oracle(broken).recoverable(&NODES).unwrap_err().rule, "G7");
        }
    }

    #[test]
    fn a_damaged_node_is_in_no_quorum() {
        let oracle = oracle(&[(1, 5, 7), (2, 5, 7), (3, 6, 8)]);
        oracle.recoverable(&NODES[..2]).unwrap();
        oracle.recoverable(&NODES[..1]).unwrap();
    }
}
