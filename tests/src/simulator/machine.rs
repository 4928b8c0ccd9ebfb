//! The state that is replicated: a chain of hashes, so that equal states mean equal histories, and registers.

use annulus::{Committed, Replies, StateMachine};
use annulus::{RestoreFailure, SnapshotMap, SnapshotReader, SnapshotStep, SnapshotWriter};
use annulus_rings::frame::checksum;
use annulus_rings::{Ballot, NodeId, RingId, Role, Slot};

use super::command::{Request, read_command, write_reply};
use super::ledger::{Execution, chain};
use super::scene::Shared;
use crate::linearizability::Answer;
use crate::world::Happening;

/// The state machine of one replica. It replies to each command with the state after it, and with what the
/// register says that the command asks for. A query is answered with how many slots it has executed, and the
/// state after them.
pub(super) struct Machine {
    scene: Shared,
    ring: RingId,
    node: NodeId,
    state: u64,
    /// Slots executed.
    slots: u64,
    registers: SnapshotMap<u64, u64>,
    /// What the registers hold, as a digest that every change corrects.
    contents: u64,
    executed: Vec<(u64, u64)>,
    /// Records that its snapshots have beside the state.
    ballast_records: u64,
    /// The snapshot that is being written.
    writing: Option<Writing>,
    /// The snapshot that is being restored.
    restoring: Option<Restoring>,
}

/// A snapshot on its way out, fixed at its first slice.
struct Writing {
    state: u64,
    /// All registers are written.
    is_past_registers: bool,
    /// Records of ballast that are written.
    ballast: u64,
}

/// A snapshot on its way in.
struct Restoring {
    /// What its registers must hold in the end.
    contents: u64,
    /// Records of ballast that it must have, and that came.
    ballast_records: u64,
    ballast: u64,
}

/// Bytes of a record of ballast.
const BALLAST_BYTES: usize = 1000;

impl Machine {
    pub(super) fn new(scene: &Shared, (ring, node): (RingId, NodeId), ballast_records: u64) -> Machine {
        Machine {
            scene: scene.clone(),
            ring,
            node,
            state: 0,
            slots: 0,
            registers: SnapshotMap::new(),
            contents: 0,
            executed: Vec::new(),
            ballast_records,
            writing: None,
            restoring: None,
        }
    }

    fn answer(&mut self, Request { key, operation }: Request) -> Answer {
        let before = self.registers.get(&key).copied();
        let (value, answer) = operation.apply(before.unwrap_or_default());
        self.set(key, value);
        answer
    }

    fn set(&mut self, key: u64, value: u64) {
        let before = self.registers.insert(key, value);
        self.contents ^= digest(key, value) ^ before.map_or(0, |before| digest(key, before));
    }

    /// Takes the first record of a snapshot.
    fn begin_restore(&mut self, header: &[u8]) -> Result<(), RestoreFailure> {
        let [slots, state, contents, ballast_records] = words(header)?;
        (self.slots, self.state, self.contents) = (slots, state, 0);
        self.registers.clear();
        self.restoring = Some(Restoring { contents, ballast_records, ballast: 0 });
        Ok(())
    }

    /// Takes a record behind the first: a register, or ballast that belongs to this state.
    fn restore_record(&mut self, record: &[u8]) -> Result<(), RestoreFailure> {
        if record.len() != BALLAST_BYTES {
            let [key, value] = words(record)?;
            self.set(key, value);
            return Ok(());
        }
        let unexpected = || RestoreFailure::unreadable("ballast of nothing".to_owned());
        let restoring = self.restoring.as_mut().ok_or_else(unexpected)?;
        if record != ballast(self.state, restoring.ballast) {
            return Err(RestoreFailure::unreadable("ballast of another state".to_owned()));
        }
        restoring.ballast += 1;
        Ok(())
    }

    /// The state must be one that was after so many slots (G6).
    fn end_restore(&mut self, slot: Slot) {
        let is_whole = self.restoring.take().is_some_and(|restoring| {
            restoring.contents == self.contents && restoring.ballast == restoring.ballast_records
        });
        let is_whole = is_whole && slot.0 == self.slots;
        self.scene.borrow_mut().restored(self.ring, self.node, self.slots, self.state, is_whole);
    }
}

/// A record that only the snapshot of this state has, and only there.
fn ballast(state: u64, index: u64) -> [u8; BALLAST_BYTES] {
    let mut record = [index as u8; BALLAST_BYTES];
    record[..8].copy_from_slice(&chain(state, index).to_le_bytes());
    record
}

fn digest(key: u64, value: u64) -> u64 {
    chain(chain(1, key), value)
}

/// A record of so many numbers.
fn words<const COUNT: usize>(record: &[u8]) -> Result<[u64; COUNT], RestoreFailure> {
    let (words, rest) = record.as_chunks();
    let words: Vec<u64> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
    match words.try_into() {
        Ok(words) if rest.is_empty() => Ok(words),
        _ => Err(RestoreFailure::unreadable(format!("not {COUNT} words: {record:?}"))),
    }
}

impl StateMachine for Machine {
    fn apply(&mut self, committed: Committed<'_>, replies: &mut Replies) {
        self.state = chain(self.state, committed.time_ns());
        self.executed.clear();
        let mut of_slot = 0;
        for command in committed.commands() {
            let digest = checksum(command);
            of_slot = chain(of_slot, digest);
            let (number, request) = read_command(command);
            self.state = chain(self.state, digest);
            self.executed.push((number, self.state));
            let answer = request.map(|request| self.answer(request));
            replies.push_with(|buffer| write_reply(buffer, self.state, answer));
        }
        self.slots = committed.slot().0 + 1;
        let execution = Execution {
            ring: self.ring,
            node: self.node,
            slot: committed.slot(),
            commands: &self.executed,
            state: self.state,
        };
        self.scene.borrow_mut().executed(&execution, of_slot);
    }

    fn query(&self, _query: &[u8], reply: &mut Vec<u8>) {
        reply.extend_from_slice(&self.slots.to_le_bytes());
        reply.extend_from_slice(&self.state.to_le_bytes());
    }

    fn on_role(&mut self, role: Role, ballot: Ballot) {
        let happening = Happening::Role { node: self.node, role, ballot };
        self.scene.borrow_mut().happen(self.ring, happening);
    }

    fn snapshot(&mut self, writer: &mut SnapshotWriter<'_>) -> SnapshotStep {
        if writer.is_first() {
            self.registers.begin_snapshot();
            let header = [self.slots, self.state, self.contents, self.ballast_records];
            writer.record(&header.map(u64::to_le_bytes).concat());
            self.writing = Some(Writing { state: self.state, is_past_registers: false, ballast: 0 });
        }
        let writing = self.writing.as_mut().expect("the first slice began it");
        if !writing.is_past_registers {
            let step = self.registers.write_snapshot(writer, |key, value, record| {
                record.extend([key, value].into_iter().flat_map(|word| word.to_le_bytes()));
            });
            writing.is_past_registers = step == SnapshotStep::Done;
        }
        while writing.is_past_registers && writing.ballast < self.ballast_records {
            if !writer.has_room() {
                return SnapshotStep::More;
            }
            writer.record(&ballast(writing.state, writing.ballast));
            writing.ballast += 1;
        }
        if !writing.is_past_registers {
            return SnapshotStep::More;
        }
        self.writing = None;
        SnapshotStep::Done
    }

    fn snapshot_ended(&mut self) {
        self.writing = None;
        self.registers.end_snapshot();
    }

    fn restore(&mut self, reader: &mut SnapshotReader<'_>) -> Result<(), RestoreFailure> {
        let mut records = reader.records();
        if reader.is_first() {
            self.begin_restore(records.next().unwrap_or_default())?;
        }
        for record in records {
            self.restore_record(record)?;
        }
        if reader.is_last() {
            self.end_restore(reader.slot());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;
    use crate::linearizability::Operation;
    use crate::simulator::clock::TrueTime;
    use crate::simulator::plan::Plan;
    use crate::simulator::scene::Scene;

    fn machine() -> Machine {
        let plan = Plan::draw(1);
        let scene = Scene::new(&plan, &TrueTime::default(), false);
        Machine::new(&Rc::new(RefCell::new(scene)), (RingId(1), NodeId(1)), 1)
    }

    fn write(machine: &mut Machine, key: u64, value: u64) {
        machine.answer(Request { key, operation: Operation::Write(value) });
    }

    /// A snapshot in slices, with a change after each.
    fn slices(machine: &mut Machine) -> Vec<Vec<u8>> {
        let mut slices = Vec::new();
        loop {
            let mut bytes = Vec::new();
            let mut writer = SnapshotWriter::new(Slot(0), slices.is_empty(), &mut bytes, 30);
            let step = machine.snapshot(&mut writer);
            slices.push(bytes);
            if step != SnapshotStep::More {
                return slices;
            }
            write(machine, 9 - slices.len() as u64, 100);
        }
    }

    fn restore(slices: &[Vec<u8>]) -> Machine {
        let mut machine = machine();
        machine.scene.borrow_mut().recovering();
        write(&mut machine, 77, 7);
        for (index, bytes) in slices.iter().enumerate() {
            let is_last = index + 1 == slices.len();
            let mut reader = SnapshotReader::new(Slot(0), index == 0, is_last, bytes).unwrap();
            machine.restore(&mut reader).unwrap();
        }
        machine
    }

    #[test]
    fn a_machine_comes_back_as_it_was_when_its_snapshot_began() {
        let mut machine = machine();
        write(&mut machine, 3, 50);
        for key in 0..10 {
            write(&mut machine, key, key + 1);
        }
        let before = machine.contents;
        let slices = slices(&mut machine);
        assert!(slices.len() > 3 && machine.contents != before);
        let restored = restore(&slices);
        assert!(restored.scene.borrow().violation().is_none());
        assert_eq!(restored.contents, before);
        assert_eq!(restored.registers, (0..10).map(|key| (key, key + 1)).collect());
    }

    #[test]
    fn a_snapshot_of_mixed_moments_is_a_violation() {
        let mut machine = machine();
        write(&mut machine, 1, 1);
        let mut slices = slices(&mut machine);
        *slices[0].last_mut().unwrap() ^= 1;
        let restored = restore(&slices);
        assert_eq!(restored.scene.borrow().violation().unwrap().rule, "G6");
    }
}
