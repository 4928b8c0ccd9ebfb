//! What the control threads tell the operator.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use annulus_rings::NodeId;

use crate::refusal::{Problem, Refusal};

/// Counts of the control threads since the start.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct FabricStatistics {
    /// Times that a peer was dialled.
    pub dials: u64,
    /// Dials that ended in no connection.
    pub dials_failed: u64,
    /// Connections that came in, from anybody.
    pub visits: u64,
    /// Handshakes that were completed, either way.
    pub established: u64,
    /// Handshakes that this node refused, by reason.
    pub refused: BTreeMap<Refusal, u64>,
    /// Handshakes that a peer refused, by reason.
    pub refused_by_peers: BTreeMap<Refusal, u64>,
}

/// What is known of the connections to a peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerReport {
    /// The peer.
    pub node: NodeId,
    /// Cores that are connected to it.
    pub cores_connected: usize,
    /// What kept the last attempt from succeeding; `None` after one that did.
    pub problem: Option<Problem>,
}

/// The shared record. Only control threads and readers of statistics lock it.
#[derive(Default)]
pub(crate) struct Report {
    record: Mutex<Record>,
}

#[derive(Default)]
struct Record {
    statistics: FabricStatistics,
    problems: BTreeMap<NodeId, Problem>,
    /// The last refusal of somebody who named no peer of ours.
    stranger: Option<Refusal>,
}

impl Report {
    pub(crate) fn statistics(&self) -> FabricStatistics {
        self.lock().statistics.clone()
    }

    pub(crate) fn problem(&self, peer: NodeId) -> Option<Problem> {
        self.lock().problems.get(&peer).cloned()
    }

    pub(crate) fn dialled(&self) {
        self.lock().statistics.dials += 1;
    }

    pub(crate) fn visited(&self) {
        self.lock().statistics.visits += 1;
    }

    pub(crate) fn established(&self, peer: NodeId) {
        let mut record = self.lock();
        record.statistics.established += 1;
        record.problems.remove(&peer);
    }

    /// A dial came to nothing. Logged when the reason is another than before, not at every try.
    pub(crate) fn dial_failed(&self, peer: NodeId, address: &dyn std::fmt::Display, problem: Problem) {
        let mut record = self.lock();
        record.statistics.dials_failed += 1;
        match problem {
            Problem::Refused(refusal) => *record.statistics.refused.entry(refusal).or_default() += 1,
            Problem::RefusedByPeer(refusal) => {
                *record.statistics.refused_by_peers.entry(refusal).or_default() += 1;
            }
            _ => {}
        }
        if record.problems.get(&peer) != Some(&problem) {
            tracing::warn!(%peer, %address, %problem, "no connection");
            record.problems.insert(peer, problem);
        }
    }

    /// A visitor was refused. `peer` is the peer that it claims to be.
    pub(crate) fn refused(&self, peer: Option<NodeId>, from: &dyn std::fmt::Display, refusal: Refusal) {
        let mut record = self.lock();
        *record.statistics.refused.entry(refusal).or_default() += 1;
        let known = match peer {
            Some(peer) => record.problems.insert(peer, refusal.into()) == Some(refusal.into()),
            None => record.stranger.replace(refusal) == Some(refusal),
        };
        if !known {
            tracing::warn!(claims = ?peer, %from, %refusal, "visitor refused");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        // The record is plain counts: one that was left half-way is still worth reading.
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tracing::span::{Attributes, Id, Record as Values};
    use tracing::{Event, Metadata, Subscriber};

    use super::*;

    /// Counts what is logged.
    struct Lines(Arc<AtomicUsize>);

    impl Subscriber for Lines {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }

        fn record(&self, _: &Id, _: &Values<'_>) {}

        fn record_follows_from(&self, _: &Id, _: &Id) {}

        fn event(&self, _: &Event<'_>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }

        fn enter(&self, _: &Id) {}

        fn exit(&self, _: &Id) {}
    }

    #[test]
    fn a_problem_is_logged_when_it_changes_and_counted_every_time() {
        const PEER: NodeId = NodeId(2);
        let lines = Arc::new(AtomicUsize::new(0));
        let report = Report::default();
        let refused = Problem::Connect(io::ErrorKind::ConnectionRefused);
        tracing::subscriber::with_default(Lines(Arc::clone(&lines)), || {
            for _ in 0..5 {
                report.dial_failed(PEER, &"here", refused.clone());
            }
            assert_eq!(lines.load(Ordering::Relaxed), 1);
            for _ in 0..5 {
                report.dial_failed(PEER, &"here", Problem::RefusedByPeer(Refusal::WrongCluster));
                report.refused(None, &"there", Refusal::Garbage);
            }
            assert_eq!(lines.load(Ordering::Relaxed), 3);
            report.established(PEER);
            report.dial_failed(PEER, &"here", refused.clone());
            assert_eq!(lines.load(Ordering::Relaxed), 4, "after a success it is news again");
        });
        let statistics = report.statistics();
        assert_eq!(statistics.dials_failed, 11);
        assert_eq!(statistics.refused_by_peers[&Refusal::WrongCluster], 5);
        assert_eq!(statistics.refused[&Refusal::Garbage], 5);
        assert_eq!(report.problem(PEER), Some(refused));
    }
}
