//! Histograms of durations, one per stage, and two per peer.

use std::time::Duration;

use annulus_rings::NodeId;
use hdrhistogram::Histogram;

use super::Stage;

/// The longest duration told apart from longer ones: a minute.
const NS_MAX: u64 = 60_000_000_000;
const SIGNIFICANT_DIGITS: u8 = 3;

/// What one core, or several merged, have recorded.
#[derive(Clone, Debug)]
pub(crate) struct Histograms {
    stages: [Histogram<u64>; Stage::ALL.len()],
    peers: Vec<PeerHistograms>,
}

#[derive(Clone, Debug)]
struct PeerHistograms {
    node: NodeId,
    wire: Histogram<u64>,
    durable: Histogram<u64>,
}

/// A distribution of durations, ns. Zero where nothing was recorded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Quantiles {
    /// How many.
    pub count: u64,
    /// The median.
    pub p50_ns: u64,
    /// Nine of ten are not above.
    pub p90_ns: u64,
    /// 99 of 100 are not above.
    pub p99_ns: u64,
    /// 999 of 1000 are not above.
    pub p999_ns: u64,
    /// The largest.
    pub max_ns: u64,
}

impl Histograms {
    pub(crate) fn new(peers: &[NodeId]) -> Histograms {
        let peer = |&node| PeerHistograms { node, wire: empty(), durable: empty() };
        Histograms { stages: std::array::from_fn(|_| empty()), peers: peers.iter().map(peer).collect() }
    }

    pub(crate) fn record(&mut self, stage: Stage, duration: Duration, commands: u32) {
        let ns = duration.as_nanos() as u64;
        self.stages[stage as usize].saturating_record_n(ns, u64::from(commands));
    }

    pub(crate) fn record_peer(&mut self, node: NodeId, wire_ns: u64, durable_ns: u64) {
        if let Some(peer) = self.peers.iter_mut().find(|peer| peer.node == node) {
            peer.wire.saturating_record(wire_ns);
            peer.durable.saturating_record(durable_ns);
        }
    }

    pub(crate) fn merge(&mut self, other: &Histograms) {
        for (mine, theirs) in self.stages.iter_mut().zip(&other.stages) {
            mine.add(theirs).expect("all histograms have one shape");
        }
        for theirs in &other.peers {
            match self.peers.iter_mut().find(|mine| mine.node == theirs.node) {
                None => self.peers.push(theirs.clone()),
                Some(mine) => {
                    mine.wire.add(&theirs.wire).expect("all histograms have one shape");
                    mine.durable.add(&theirs.durable).expect("all histograms have one shape");
                }
            }
        }
    }

    pub(crate) fn stage(&self, stage: Stage) -> Quantiles {
        quantiles(&self.stages[stage as usize])
    }

    pub(crate) fn peers(&self) -> impl Iterator<Item = (NodeId, Quantiles, Quantiles)> {
        self.peers.iter().map(|peer| (peer.node, quantiles(&peer.wire), quantiles(&peer.durable)))
    }
}

fn empty() -> Histogram<u64> {
    Histogram::new_with_max(NS_MAX, SIGNIFICANT_DIGITS).expect("the bounds are valid")
}

fn quantiles(histogram: &Histogram<u64>) -> Quantiles {
    Quantiles {
        count: histogram.len(),
        p50_ns: histogram.value_at_quantile(0.5),
        p90_ns: histogram.value_at_quantile(0.9),
        p99_ns: histogram.value_at_quantile(0.99),
        p999_ns: histogram.value_at_quantile(0.999),
        max_ns: histogram.max(),
    }
}
