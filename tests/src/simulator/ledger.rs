//! What clients know, and what replicas executed: the two must agree.
//!
//! Every command has a number of its own and is proposed once, so it can be followed from its proposal to
//! the one place in the log where it may stand. Linearizability is judged by slots: a command that was
//! proposed after another was known to be committed must stand behind it (G10).

use std::collections::BTreeMap;
use std::io::Write as _;

use annulus_rings::{NodeId, RingId, Slot};

use crate::world::Violation;

type Verdict = Result<(), Violation>;

/// Fails with a violation of `$rule` unless `$condition` holds.
macro_rules! check {
    ($rule:literal, $condition:expr, $($what:tt)*) => {
        if !$condition {
            return Err(Violation { rule: $rule, what: format!($($what)*) });
        }
    };
}

/// Digits of a command's number, in front of its padding.
const NUMBER_DIGITS: usize = 7;

/// How a client saw a command end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    Committed(Slot),
    Rejected,
    Unknown,
}

/// A command's history.
struct Command {
    ring: RingId,
    node: NodeId,
    /// Where the last command stood that was known to be committed when this one was proposed.
    behind: Option<Slot>,
    end: Option<End>,
    /// Where it was executed, and the state after it.
    executed: Option<(Slot, u64)>,
}

/// What all replicas of a ring have executed between them.
#[derive(Default)]
struct Log {
    /// By slot, the state after it.
    states: Vec<u64>,
    /// The highest slot that a client was told.
    committed: Option<Slot>,
}

/// Every command and every executed slot.
#[derive(Default)]
pub(super) struct Ledger {
    commands: Vec<Command>,
    logs: BTreeMap<RingId, Log>,
}

/// The commands of a slot as a state machine was given them, and its state after each.
pub(super) struct Execution<'a> {
    pub(super) ring: RingId,
    pub(super) node: NodeId,
    pub(super) slot: Slot,
    pub(super) commands: &'a [(u64, u64)],
    pub(super) state: u64,
}

/// Writes the command of a number, which a person can read too.
pub(super) fn write_command(command: &mut Vec<u8>, number: u64, padding_bytes: usize) {
    command.clear();
    write!(command, "{number:0NUMBER_DIGITS$}").expect("memory takes everything");
    command.resize(NUMBER_DIGITS + padding_bytes, b'.');
}

/// The number of a command.
pub(super) fn number_of(command: &[u8]) -> u64 {
    let digits = command.get(..NUMBER_DIGITS).and_then(|digits| std::str::from_utf8(digits).ok());
    digits.and_then(|digits| digits.parse().ok()).expect("every command starts with its number")
}

/// The state that follows `state` by `digest`: equal states mean equal histories.
pub(super) fn chain(state: u64, digest: u64) -> u64 {
    (state.rotate_left(17) ^ digest).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl Ledger {
    /// A client is about to propose a command; tells its number.
    pub(super) fn propose(&mut self, ring: RingId, node: NodeId) -> u64 {
        let behind = self.logs.entry(ring).or_default().committed;
        self.commands.push(Command { ring, node, behind, end: None, executed: None });
        self.commands.len() as u64 - 1
    }

    /// A client is told how its command ended.
    pub(super) fn end(&mut self, number: u64, end: End, reply: &[u8]) -> Verdict {
        let command = &mut self.commands[number as usize];
        check!("once", command.end.is_none(), "command {number} ends twice: {:?}, {end:?}", command.end);
        command.end = Some(end);
        match (end, command.executed) {
            (End::Committed(slot), Some((executed, state))) => {
                check!(
                    "L5",
                    slot == executed,
                    "command {number} is said to be in {slot:?}, not {executed:?}"
                );
                check!("G5", reply == state.to_le_bytes(), "command {number} has another replica's reply");
                check!(
                    "G10",
                    command.behind.is_none_or(|before| before < slot),
                    "command {number} stands in {slot:?}, before one that was known when it was proposed"
                );
                let log = self.logs.entry(command.ring).or_default();
                log.committed = log.committed.max(Some(slot));
            }
            (End::Committed(slot), None) => {
                check!("L5", false, "command {number} is committed in {slot:?} and nobody executed it");
            }
            (End::Rejected, executed) => {
                check!(
                    "L7",
                    executed.is_none(),
                    "command {number} is rejected and was executed: {executed:?}"
                );
            }
            (End::Unknown, _) => {}
        }
        Ok(())
    }

    /// A replica executed a slot.
    pub(super) fn execute(&mut self, execution: &Execution<'_>) -> Verdict {
        let &Execution { ring, node, slot, commands, state } = execution;
        let log = self.logs.entry(ring).or_default();
        if let Some(known) = log.states.get(slot.0 as usize) {
            check!("G5", *known == state, "{node:?} has another state after {slot:?} of ring {ring}");
            return Ok(());
        }
        check!("L4", slot.0 as usize == log.states.len(), "{node:?} executes {slot:?} and left some out");
        log.states.push(state);
        for &(number, after) in commands {
            let command = self.commands.get_mut(number as usize);
            check!("L4", command.is_some(), "{node:?} executes command {number}, which nobody proposed");
            let command = command.expect("checked above");
            check!("L4", command.ring == ring, "command {number} is executed in ring {ring}");
            check!("L4", command.executed.is_none(), "command {number} is executed twice, again in {slot:?}");
            check!(
                "L7",
                command.end != Some(End::Rejected),
                "command {number} of {:?} was rejected and is executed in {slot:?}",
                command.node
            );
            command.executed = Some((slot, after));
        }
        Ok(())
    }

    /// Slots of a ring that some replica executed.
    pub(super) fn executed(&self, ring: RingId) -> Slot {
        Slot(self.logs.get(&ring).map_or(0, |log| log.states.len() as u64))
    }

    /// Slots that clients were told of must be in the state of a replica that executed up to `executed`.
    pub(super) fn nothing_acknowledged_is_lost(&self, ring: RingId, node: NodeId, executed: Slot) -> Verdict {
        let committed = self.logs.get(&ring).and_then(|log| log.committed);
        check!(
            "durability",
            committed.is_none_or(|slot| slot < executed),
            "{node:?} has converged below {executed:?}, and {committed:?} of ring {ring} was acknowledged"
        );
        Ok(())
    }

    /// How many commands ended like this.
    pub(super) fn count(&self, is: impl Fn(Option<End>) -> bool) -> u64 {
        self.commands.iter().filter(|command| is(command.end)).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RING: RingId = RingId(1);
    const NODE: NodeId = NodeId(1);

    fn execute(ledger: &mut Ledger, slot: u64, commands: &[(u64, u64)]) -> Verdict {
        ledger.execute(&Execution { ring: RING, node: NODE, slot: Slot(slot), commands, state: slot + 100 })
    }

    #[test]
    fn a_rejected_command_that_appears_is_noticed_either_way() {
        let mut ledger = Ledger::default();
        let (first, second) = (ledger.propose(RING, NODE), ledger.propose(RING, NODE));
        ledger.end(first, End::Rejected, b"").unwrap();
        assert_eq!(execute(&mut ledger, 0, &[(first, 0)]).unwrap_err().rule, "L7");
        execute(&mut ledger, 1, &[(second, 0)]).unwrap();
        assert_eq!(ledger.end(second, End::Rejected, b"").unwrap_err().rule, "L7");
    }

    #[test]
    fn an_acknowledgement_must_tell_the_truth() {
        let mut ledger = Ledger::default();
        let (first, second) = (ledger.propose(RING, NODE), ledger.propose(RING, NODE));
        assert_eq!(ledger.end(first, End::Committed(Slot(0)), b"").unwrap_err().rule, "L5");
        execute(&mut ledger, 0, &[(second, 7)]).unwrap();
        ledger.end(second, End::Committed(Slot(0)), &7u64.to_le_bytes()).unwrap();
        assert!(ledger.nothing_acknowledged_is_lost(RING, NODE, Slot(1)).is_ok());
        assert!(ledger.nothing_acknowledged_is_lost(RING, NODE, Slot(0)).is_err());
        assert_eq!(execute(&mut ledger, 1, &[(second, 7)]).unwrap_err().rule, "L4");
    }
}
