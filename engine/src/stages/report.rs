//! What was measured, as a value that can be merged, printed and sent on.

use annulus_rings::{NodeId, RingId, Slot};

use super::histogram::{Histograms, Quantiles};
use super::trail::Stamps;
use super::{Stage, peer_stage};

/// The stages of the commits of one core, or of several merged.
#[derive(Clone, Debug)]
pub struct StageReport {
    histograms: Histograms,
    exemplars: Vec<Exemplar>,
}

/// One stage under its fixed name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StageSummary {
    /// The stage's name, the same in every output.
    pub name: &'static str,
    /// The distribution over commands.
    pub durations: Quantiles,
}

/// What one peer contributed, over its votes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PeerReport {
    /// The peer.
    pub node: NodeId,
    /// Of the round trip, what the peer did not account for: the network.
    pub wire: Quantiles,
    /// From receipt to durable at the peer.
    pub durable: Quantiles,
}

/// One commit with all its stamps, kept because it was among the slowest. All durations count from the
/// submission of the batch's oldest command, ns; zero: not crossed when the reply left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exemplar {
    /// The ring.
    pub ring: RingId,
    /// The slot of the batch.
    pub slot: Slot,
    /// Commands in it.
    pub commands: u32,
    /// Until it was sealed.
    pub sealed_ns: u64,
    /// Until it was handed to the sockets.
    pub sent_ns: u64,
    /// Until it was durable in the leader's own journal.
    pub own_durable_ns: u64,
    /// Until it was known chosen.
    pub chosen_ns: u64,
    /// Until it was executed.
    pub executed_ns: u64,
    /// Until the reply left.
    pub replied_ns: u64,
}

impl StageReport {
    pub(super) fn new(histograms: Histograms, exemplars: Vec<Exemplar>) -> StageReport {
        StageReport { histograms, exemplars }
    }

    /// A report of nothing, to merge others into.
    pub fn empty() -> StageReport {
        StageReport { histograms: Histograms::new(&[]), exemplars: Vec::new() }
    }

    /// Adds what another core measured.
    pub fn merge(&mut self, other: &StageReport) {
        self.histograms.merge(&other.histograms);
        let kept_max = self.exemplars.len().max(other.exemplars.len());
        for &exemplar in &other.exemplars {
            keep_slowest(&mut self.exemplars, exemplar, kept_max);
        }
    }

    /// The distribution of one stage.
    pub fn stage(&self, stage: Stage) -> Quantiles {
        self.histograms.stage(stage)
    }

    /// Every stage, in the order of [`Stage::ALL`].
    pub fn stages(&self) -> Vec<StageSummary> {
        let summary = |stage: Stage| StageSummary { name: stage.name(), durations: self.stage(stage) };
        Stage::ALL.into_iter().map(summary).collect()
    }

    /// Every peer.
    pub fn peers(&self) -> Vec<PeerReport> {
        let peers = self.histograms.peers();
        peers.map(|(node, wire, durable)| PeerReport { node, wire, durable }).collect()
    }

    /// The slowest commits, slowest first.
    pub fn exemplars(&self) -> &[Exemplar] {
        &self.exemplars
    }
}

impl PeerReport {
    /// The two stages under their fixed names.
    pub fn stages(&self) -> [StageSummary; 2] {
        [
            StageSummary { name: peer_stage::WIRE, durations: self.wire },
            StageSummary { name: peer_stage::DURABLE, durations: self.durable },
        ]
    }
}

impl Exemplar {
    pub(super) fn of(stamps: &Stamps) -> Exemplar {
        let after = |time: annulus_rings::Time| time.since(stamps.submitted).as_nanos() as u64;
        Exemplar {
            ring: stamps.ring,
            slot: stamps.slot,
            commands: stamps.commands,
            sealed_ns: after(stamps.sealed),
            sent_ns: after(stamps.sent),
            own_durable_ns: after(stamps.durable),
            chosen_ns: after(stamps.chosen),
            executed_ns: after(stamps.executed),
            replied_ns: after(stamps.replied),
        }
    }
}

/// Keeps `exemplar` when it is among the `kept_max` slowest, which stay sorted.
pub(super) fn keep_slowest(kept: &mut Vec<Exemplar>, exemplar: Exemplar, kept_max: usize) {
    if kept.len() >= kept_max && kept.last().is_none_or(|fastest| fastest.replied_ns >= exemplar.replied_ns) {
        return;
    }
    let place = kept.partition_point(|slower| slower.replied_ns >= exemplar.replied_ns);
    kept.insert(place, exemplar);
    kept.truncate(kept_max);
}
