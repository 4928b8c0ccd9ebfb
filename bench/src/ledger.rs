//! The replicated state machine of the benchmark: who got how far, and a digest of every byte.
//!
//! It costs about 15 ns per 64-byte command, and proves three things: that every session's commands
//! were applied once, in order and undamaged; that all of a session's bytes are what was sent; and,
//! by a chain over everything in order, that two replicas applied the same log.

use annulus::{Committed, Replies, StateMachine};
use serde::{Deserialize, Serialize};

use crate::command;

/// Sessions of one run: their numbers index a table.
pub(crate) const SESSIONS_MAX: u32 = 1 << 16;

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
}

impl StateMachine for Ledger {
    fn apply(&mut self, committed: Committed<'_>, _replies: &mut Replies) {
        // An empty reply is an acknowledgement: the client only counts them.
        self.take(committed.slot().0, committed.commands());
    }

    fn query(&self, _query: &[u8], reply: &mut Vec<u8>) {
        serde_json::to_writer(reply, self).expect("writing to memory cannot fail");
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
    fn a_ledger_survives_its_query() {
        let ledger = ledger(&[&[(0, 1), (2, 1)]]);
        let mut reply = Vec::new();
        ledger.query(b"", &mut reply);
        assert_eq!(serde_json::from_slice::<Ledger>(&reply).unwrap(), ledger);
    }
}
