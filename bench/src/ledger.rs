//! The replicated state machine of the benchmark: who got how far, and a digest of every byte.
//!
//! It costs about 15 ns per 64-byte command, and proves three things: that every session's commands
//! were applied once, in order and undamaged; that all of a session's bytes are what was sent; and,
//! by a chain over everything in order, that two replicas applied the same log.

use annulus::{Committed, Replies, StateMachine};
use annulus::{RestoreFailure, SnapshotReader, SnapshotStep, SnapshotWriter};
use serde::{Deserialize, Serialize};

use crate::command;

/// Sessions of one run: their numbers index a table.
pub(crate) const SESSIONS_MAX: u32 = 1 << 16;
/// Sessions in one record of a snapshot: 16 KiB.
const SESSIONS_PER_RECORD: usize = 1024;

/// The state of one ring at one replica, as a query returns it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Ledger {
    /// Commands applied.
    pub(crate) commands: u64,
    /// The last slot that held a command; 0 when none did.
    pub(crate) last_slot: u64,
    /// Over every slot number and command, in the order in which they were applied.
    pub(crate) chain: u64,
    /// Commands that were damaged, or came out of their session's order.
    pub(crate) anomalies: u64,
    /// By session number.
    pub(crate) sessions: Vec<SessionState>,
    #[serde(skip)]
    pub(crate) frozen: Frozen,
}

/// The sessions as they were when a snapshot began: to copy them, at most 1 MiB, is cheaper than to look at
/// every command whether a snapshot is under way.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Frozen {
    sessions: Vec<SessionState>,
    /// Those that are in the snapshot.
    written: usize,
}

/// What a ledger holds of one session.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct SessionState {
    /// Every command up to this sequence number was applied, once and in order.
    pub(crate) applied: u64,
    /// The wrapping sum of their fingerprints: it does not depend on how sessions interleave.
    pub(crate) digest: u64,
}

impl Ledger {
    /// Takes the commands of one slot.
    #[inline]
    fn take<'a>(&mut self, slot: u64, commands: impl ExactSizeIterator<Item = &'a [u8]>) {
        if commands.len() == 0 {
            return;
        }
        self.last_slot = slot;
        self.chain = link(self.chain, slot);
        self.commands += commands.len() as u64;
        for bytes in commands {
            self.take_command(bytes);
        }
    }

    #[inline]
    fn take_command(&mut self, bytes: &[u8]) {
        let Some(name) = command::read(bytes) else {
            self.anomalies += 1;
            return;
        };
        self.chain = link(self.chain, name.fingerprint);
        let Some(session) = self.session(name.session) else {
            self.anomalies += 1;
            return;
        };
        if name.sequence == session.applied + 1 {
            session.applied = name.sequence;
            session.digest = session.digest.wrapping_add(name.fingerprint);
        } else {
            self.anomalies += 1;
        }
    }

    #[inline]
    fn session(&mut self, session: u32) -> Option<&mut SessionState> {
        let index = session as usize;
        if index >= self.sessions.len() {
            if session >= SESSIONS_MAX {
                return None;
            }
            self.sessions.resize(index + 1, SessionState::default());
        }
        self.sessions.get_mut(index)
    }

    /// Takes the first record of a snapshot.
    fn restore_header(&mut self, header: &[u8]) -> Option<()> {
        let (words, []) = header.as_chunks() else { return None };
        let [commands, last_slot, chain, anomalies] =
            <[[u8; 8]; 4]>::try_from(words).ok()?.map(u64::from_le_bytes);
        *self = Ledger { commands, last_slot, chain, anomalies, ..Ledger::default() };
        Some(())
    }

    /// Takes another record of a snapshot: more sessions.
    fn restore_sessions(&mut self, record: &[u8]) -> Option<()> {
        let (pairs, []) = record.as_chunks::<16>() else { return None };
        for pair in pairs {
            let (applied, digest) = pair.split_first_chunk()?;
            let digest = u64::from_le_bytes(digest.try_into().ok()?);
            self.sessions.push(SessionState { applied: u64::from_le_bytes(*applied), digest });
        }
        (self.sessions.len() <= SESSIONS_MAX as usize).then_some(())
    }
}

impl StateMachine for Ledger {
    fn apply(&mut self, committed: Committed<'_>, _replies: &mut Replies) {
        // An empty reply is an acknowledgement: the client only counts them.
        self.take(committed.slot().0, committed.commands());
    }

    fn query(&self, _query: &[u8], reply: &mut Vec<u8>) {
        serde_json::to_writer(reply, self).expect("writing to memory cannot fail");
    }

    fn snapshot(&mut self, writer: &mut SnapshotWriter<'_>) -> SnapshotStep {
        if writer.is_first() {
            self.frozen = Frozen { sessions: self.sessions.clone(), written: 0 };
            let header = [self.commands, self.last_slot, self.chain, self.anomalies];
            writer.record(header.map(u64::to_le_bytes).as_flattened());
        }
        while writer.has_room() {
            let rest = &self.frozen.sessions[self.frozen.written..];
            if rest.is_empty() {
                self.frozen = Frozen::default();
                return SnapshotStep::Done;
            }
            let some = &rest[..rest.len().min(SESSIONS_PER_RECORD)];
            let words = some.iter().flat_map(|session| [session.applied, session.digest]);
            writer.record_with(|record| record.extend(words.flat_map(u64::to_le_bytes)));
            self.frozen.written += some.len();
        }
        SnapshotStep::More
    }

    fn snapshot_ended(&mut self) {
        self.frozen = Frozen::default();
    }

    fn restore(&mut self, reader: &mut SnapshotReader<'_>) -> Result<(), RestoreFailure> {
        let mut records = reader.records();
        if reader.is_first() {
            let header = records.next().unwrap_or_default();
            self.restore_header(header)
                .ok_or_else(|| RestoreFailure::unreadable("the header is not four words"))?;
        }
        for record in records {
            self.restore_sessions(record)
                .ok_or_else(|| RestoreFailure::unreadable("these are no sessions"))?;
        }
        Ok(())
    }
}

/// The digest of a session's commands `1..=applied`, made again from nothing but their names.
pub(crate) fn expected_digest(session: u32, applied: u64, payload_bytes: usize) -> u64 {
    let mut buffer = Vec::with_capacity(payload_bytes);
    let mut digest = 0u64;
    for sequence in 1..=applied {
        buffer.clear();
        command::write(&mut buffer, session, sequence, payload_bytes);
        let name = command::read(&buffer).expect("a command just written is intact");
        digest = digest.wrapping_add(name.fingerprint);
    }
    digest
}

/// The next link of a chain in which order matters.
#[inline]
fn link(chain: u64, value: u64) -> u64 {
    (chain.rotate_left(23) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use annulus::Slot;

    use super::*;

    fn commands(names: &[(u32, u64)]) -> Vec<Vec<u8>> {
        let make = |&(session, sequence)| {
            let mut bytes = Vec::new();
            command::write(&mut bytes, session, sequence, 64);
            bytes
        };
        names.iter().map(make).collect()
    }

    fn ledger(slots: &[&[(u32, u64)]]) -> Ledger {
        let mut ledger = Ledger::default();
        for (slot, names) in slots.iter().enumerate() {
            let commands = commands(names);
            ledger.take(slot as u64 + 1, commands.iter().map(Vec::as_slice));
        }
        ledger
    }

    #[test]
    fn sessions_interleave_without_changing_their_digests() {
        let one = ledger(&[&[(0, 1), (0, 2), (1, 1)]]);
        let other = ledger(&[&[(1, 1), (0, 1)], &[(0, 2)]]);
        assert_eq!(one.sessions, other.sessions);
        assert_eq!(one.anomalies + other.anomalies, 0);
        assert_ne!(one.chain, other.chain, "the chain tells the two logs apart");
    }

    #[test]
    fn a_gap_a_repetition_and_a_swap_are_anomalies() {
        assert_eq!(ledger(&[&[(0, 1), (0, 3)]]).anomalies, 1);
        assert_eq!(ledger(&[&[(0, 1), (0, 1)]]).anomalies, 1);
        assert_eq!(ledger(&[&[(0, 2), (0, 1)]]).anomalies, 1);
        assert_eq!(ledger(&[&[(0, 1), (0, 2)]]).anomalies, 0);
    }

    #[test]
    fn a_damaged_command_is_an_anomaly() {
        let mut damaged = commands(&[(0, 1)]);
        damaged[0][20] ^= 1;
        let mut ledger = Ledger::default();
        ledger.take(1, damaged.iter().map(Vec::as_slice));
        assert_eq!((ledger.anomalies, ledger.sessions.len()), (1, 0));
    }

    #[test]
    fn a_session_out_of_range_is_an_anomaly_and_takes_no_memory() {
        let ledger = ledger(&[&[(SESSIONS_MAX, 1)]]);
        assert_eq!((ledger.anomalies, ledger.sessions.len()), (1, 0));
    }

    #[test]
    fn the_digest_can_be_made_again_from_the_names() {
        let ledger = ledger(&[&[(0, 1), (1, 1), (0, 2)], &[(0, 3)]]);
        assert_eq!(ledger.sessions[0].applied, 3);
        assert_eq!(ledger.sessions[0].digest, expected_digest(0, 3, 64));
        assert_ne!(ledger.sessions[0].digest, expected_digest(0, 2, 64));
    }

    #[test]
    fn an_empty_slot_leaves_no_trace() {
        let with_gap = ledger(&[&[(0, 1)], &[]]);
        assert_eq!((with_gap.last_slot, with_gap.commands), (1, 1));
    }

    #[test]
    fn a_ledger_comes_back_as_it_was_when_its_snapshot_began() {
        let everybody: Vec<(u32, u64)> = (0..3000).map(|session| (session, 1)).collect();
        let mut live = ledger(&[&everybody]);
        let before = live.clone();
        let mut slices = Vec::new();
        for slot in 2.. {
            let mut bytes = Vec::new();
            let mut writer = SnapshotWriter::new(Slot(2), slices.is_empty(), &mut bytes, 20_000);
            let step = live.snapshot(&mut writer);
            slices.push(bytes);
            if step == SnapshotStep::Done {
                break;
            }
            let more = commands(&[(5, slot), (2900, slot)]);
            live.take(slot, more.iter().map(Vec::as_slice));
        }
        assert!(slices.len() > 1 && live.commands > before.commands && live.anomalies == 0);
        assert_eq!(live.frozen, Frozen::default());
        let mut restored = ledger(&[&[(7, 1)]]);
        for (index, bytes) in slices.iter().enumerate() {
            let is_last = index + 1 == slices.len();
            let mut reader = SnapshotReader::new(Slot(2), index == 0, is_last, bytes).unwrap();
            restored.restore(&mut reader).unwrap();
        }
        assert_eq!(restored, before);
    }

    #[test]
    fn what_is_no_record_of_a_ledger_is_refused() {
        let header = [b"\x20\0\0\0".as_slice(), &[0; 32]].concat();
        let cut = [&header[..], b"\x11\0\0\0", &[0; 17]].concat();
        for bytes in [b"".as_slice(), b"\x01\0\0\0!", &cut] {
            let mut reader = SnapshotReader::new(Slot(2), true, true, bytes).unwrap();
            assert!(Ledger::default().restore(&mut reader).is_err());
        }
    }

    #[test]
    fn a_ledger_survives_its_query() {
        let ledger = ledger(&[&[(0, 1), (2, 1)]]);
        let mut reply = Vec::new();
        ledger.query(b"", &mut reply);
        assert_eq!(serde_json::from_slice::<Ledger>(&reply).unwrap(), ledger);
    }
}
