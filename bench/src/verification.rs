//! The proof: every acknowledged command is in every replica's state, after `kill -9` and a restart.

use std::time::{Duration, Instant};

use crate::cluster::{Cluster, ClusterError};
use crate::configuration::Configuration;
use crate::control::{LoadResult, SessionResult};
use crate::ledger::{self, Ledger};
use crate::progress::Progress;

/// How long replicas may take to agree after the restart.
const CONVERGE_TIMEOUT: Duration = Duration::from_mins(2);
/// How often they are asked.
const ASK_INTERVAL: Duration = Duration::from_millis(200);

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) verified: bool,
    pub(crate) explanation: String,
}

/// Kills and restarts the replicas where that can be survived, waits until they agree, and looks for
/// every acknowledged command in each.
pub(crate) fn verify(
    cluster: &mut Cluster,
    configuration: &Configuration,
    result: &LoadResult,
    progress: &mut Progress,
) -> Result<Verdict, ClusterError> {
    let restarted = configuration.cluster.is_durable();
    if restarted {
        progress.step("verifying: kill -9, restart");
        cluster.kill_and_restart(progress)?;
    }
    progress.step("verifying: waiting for the replicas to agree");
    let started = Instant::now();
    let mut wrong = Vec::new();
    for ring in 0..configuration.cluster.rings {
        let of_ring = |session: &&SessionResult| session.ring == ring;
        let sessions: Vec<SessionResult> = result.sessions.iter().filter(of_ring).copied().collect();
        match converge(cluster, ring, &sessions, started, progress)? {
            Ok(ledger) => wrong.extend(check(ring, &ledger, &sessions)),
            Err(disagreement) => wrong.push(disagreement),
        }
    }
    Ok(Verdict::of(&wrong, configuration, result, restarted))
}

impl Verdict {
    fn of(wrong: &[String], configuration: &Configuration, result: &LoadResult, restarted: bool) -> Verdict {
        if let Some(first) = wrong.first() {
            let more =
                if wrong.len() > 1 { format!(" (and {} more)", wrong.len() - 1) } else { String::new() };
            return Verdict { verified: false, explanation: format!("{first}{more}") };
        }
        let acknowledged: u64 = result.sessions.iter().map(|session| session.acknowledged).sum();
        let how = if restarted {
            "after kill -9 and restart"
        } else {
            "without a restart: the journal is VOLATILE"
        };
        let explanation = format!(
            "all {} acknowledged commands are in the state of all {} replicas, byte for byte, and states are \
             equal ({how})",
            crate::format::count(acknowledged),
            configuration.cluster.replicas
        );
        Verdict { verified: true, explanation }
    }
}

/// Waits until every replica has the same ledger of `ring` with everything acknowledged in it.
fn converge(
    cluster: &mut Cluster,
    ring: u32,
    sessions: &[SessionResult],
    started: Instant,
    progress: &mut Progress,
) -> Result<Result<Ledger, String>, ClusterError> {
    loop {
        let ledgers = cluster.ledgers(ring)?;
        let Some(disagreement) = disagreement(ring, &ledgers, sessions) else {
            let (_, ledger) = ledgers.into_iter().next().expect("there is a replica");
            return Ok(Ok(ledger));
        };
        if started.elapsed() > CONVERGE_TIMEOUT {
            return Ok(Err(format!("{disagreement}, still after {} s", CONVERGE_TIMEOUT.as_secs())));
        }
        progress.detail(&disagreement);
        std::thread::sleep(ASK_INTERVAL);
    }
}

/// What keeps the replicas of a ring from agreeing on a state that holds all that was acknowledged.
fn disagreement(ring: u32, ledgers: &[(u16, Ledger)], sessions: &[SessionResult]) -> Option<String> {
    let (_, first) = ledgers.first()?;
    for (node, ledger) in ledgers {
        if let Some(session) = sessions.iter().find(|session| applied(ledger, session) < session.acknowledged)
        {
            return Some(format!(
                "ring {ring}: replica {node} has {} of {} acknowledged commands of session {}",
                applied(ledger, session),
                session.acknowledged,
                session.session
            ));
        }
        if ledger != first {
            return Some(format!(
                "ring {ring}: replica {node} is at slot {} with chain {:016x}, replica {} at slot {} with \
                 {:016x}",
                ledger.last_slot, ledger.chain, ledgers[0].0, first.last_slot, first.chain
            ));
        }
    }
    None
}

/// What is wrong with a state on which all replicas agree.
fn check(ring: u32, ledger: &Ledger, sessions: &[SessionResult]) -> Vec<String> {
    let mut wrong = Vec::new();
    if ledger.anomalies > 0 {
        wrong.push(format!(
            "ring {ring}: {} commands were damaged, repeated or out of order",
            ledger.anomalies
        ));
    }
    for session in sessions {
        let applied = applied(ledger, session);
        if applied > session.sent {
            wrong.push(format!(
                "ring {ring}: session {} sent {}, {applied} were applied",
                session.session, session.sent
            ));
            continue;
        }
        let digest = ledger.sessions.get(session.session as usize).map_or(0, |state| state.digest);
        if digest != ledger::expected_digest(session.session, applied, session.payload) {
            wrong.push(format!(
                "ring {ring}: the bytes of session {} are not those that were sent",
                session.session
            ));
        }
    }
    let of_sessions: u64 = sessions.iter().map(|session| applied(ledger, session)).sum();
    if of_sessions != ledger.commands {
        wrong.push(format!(
            "ring {ring}: {} commands were applied, {of_sessions} belong to a session",
            ledger.commands
        ));
    }
    wrong
}

fn applied(ledger: &Ledger, session: &SessionResult) -> u64 {
    ledger.sessions.get(session.session as usize).map_or(0, |state| state.applied)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::SessionState;

    const PAYLOAD: usize = 64;

    fn session(sent: u64, acknowledged: u64) -> SessionResult {
        SessionResult { ring: 0, session: 0, payload: PAYLOAD, sent, acknowledged }
    }

    fn ledger(applied: u64) -> Ledger {
        let digest = ledger::expected_digest(0, applied, PAYLOAD);
        Ledger { commands: applied, sessions: vec![SessionState { applied, digest }], ..Ledger::default() }
    }

    #[test]
    fn what_was_not_acknowledged_may_be_there_or_not() {
        for applied in [5, 6, 8] {
            let ledgers = [(1, ledger(applied)), (2, ledger(applied))];
            assert_eq!(disagreement(0, &ledgers, &[session(8, 5)]), None);
            assert_eq!(check(0, &ledgers[0].1, &[session(8, 5)]), Vec::<String>::new());
        }
    }

    #[test]
    fn a_lost_command_is_named() {
        let ledgers = [(1, ledger(5)), (2, ledger(4))];
        let text = disagreement(0, &ledgers, &[session(8, 5)]).unwrap();
        assert!(text.contains("replica 2 has 4 of 5"), "{text}");
    }

    #[test]
    fn replicas_that_differ_are_named() {
        let other = Ledger { chain: 1, ..ledger(5) };
        let text = disagreement(0, &[(1, ledger(5)), (3, other)], &[session(5, 5)]).unwrap();
        assert!(text.contains("replica 3"), "{text}");
    }

    #[test]
    fn more_than_was_sent_other_bytes_and_anomalies_are_wrong() {
        assert!(check(0, &ledger(9), &[session(8, 5)])[0].contains("sent 8, 9 were applied"));
        let mut other = ledger(5);
        other.sessions[0].digest ^= 1;
        assert!(check(0, &other, &[session(8, 5)])[0].contains("not those that were sent"));
        let odd = Ledger { anomalies: 1, ..ledger(5) };
        assert!(check(0, &odd, &[session(8, 5)])[0].contains("out of order"));
        assert!(check(0, &ledger(5), &[])[0].contains("belong to a session"));
    }
}
