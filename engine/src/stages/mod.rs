//! Where the microseconds go: every commit is timed from stage to stage, always.
//!
//! The protocol contains no timing code. A core tells its [`Stages`] where each ring stands after a turn,
//! and the crossings of those watermarks are stamped. Two stages come from peers: how long a follower took
//! from receiving a batch to having it durable, which it tells in its vote, and the rest of the round
//! trip, which is the wire. No clocks are compared across machines.

mod histogram;
mod report;
mod trail;

use annulus_rings::{NodeId, Progress, RingId, Slot, Time};

use self::histogram::Histograms;
pub use self::histogram::Quantiles;
pub use self::report::{Exemplar, PeerReport, StageReport, StageSummary};
use self::trail::{Run, Stamps, Trail};

/// The stages of a commit at the leader, in the order in which they end.
///
/// All but `OwnDurable` follow one another and add up to `Total`; the leader's own write goes on beside
/// the round trip to the followers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Stage {
    /// From submission, on whatever thread, to being sealed into a batch.
    Seal,
    /// From there until the batch was handed to the sockets.
    Send,
    /// From being sealed to being durable in the leader's own journal.
    OwnDurable,
    /// From being sent to being known chosen: what a majority took.
    Quorum,
    /// From there to being executed.
    Execute,
    /// From there to the reply's leaving the core.
    Reply,
    /// From submission to reply.
    Total,
}

impl Stage {
    /// Every stage.
    pub const ALL: [Stage; 7] = [
        Stage::Seal,
        Stage::Send,
        Stage::OwnDurable,
        Stage::Quorum,
        Stage::Execute,
        Stage::Reply,
        Stage::Total,
    ];

    /// The one name of the stage, in every output.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Seal => "submit_to_seal",
            Stage::Send => "seal_to_send",
            Stage::OwnDurable => "own_durable",
            Stage::Quorum => "send_to_chosen",
            Stage::Execute => "chosen_to_executed",
            Stage::Reply => "executed_to_replied",
            Stage::Total => "total",
        }
    }
}

/// The names of the two stages that are told apart by peer.
pub mod peer_stage {
    /// From sending a batch to a peer's vote for it, less what the peer took: the network, both ways.
    pub const WIRE: &str = "peer_wire";
    /// From a peer's receiving a batch to its having it durable, by the peer's clock.
    pub const DURABLE: &str = "peer_durable";
}

/// What one core measures.
pub struct Stages {
    histograms: Histograms,
    trails: Vec<Trail>,
    /// Batches that were sealed and not handed to the sockets yet.
    unsent: Vec<(usize, Slot)>,
    /// Commits that were executed in this turn and whose replies have not left.
    finished: Vec<Stamps>,
    finished_runs: Vec<Run>,
    exemplars: Vec<Exemplar>,
}

/// The slowest commits kept with all their stamps.
const EXEMPLARS_MAX: usize = 8;

impl Stages {
    pub(crate) fn new(peers: &[NodeId]) -> Stages {
        Stages {
            histograms: Histograms::new(peers),
            trails: Vec::new(),
            unsent: Vec::new(),
            finished: Vec::new(),
            finished_runs: Vec::new(),
            exemplars: Vec::with_capacity(EXEMPLARS_MAX + 1),
        }
    }

    /// A ring was added; its index is the number of rings before it.
    pub(crate) fn add_ring(&mut self, ring: RingId, window_slots: u32) {
        self.trails.push(Trail::new(ring, window_slots));
    }

    /// A command was taken into the batch that is open.
    pub(crate) fn submitted(&mut self, index: usize, at: Time) {
        self.trails[index].submitted(at);
    }

    /// A batch of `commands` was sealed and is proposed for `slot`.
    pub(crate) fn sealed(&mut self, index: usize, slot: Slot, commands: u32, now: Time) {
        let histograms = &mut self.histograms;
        self.trails[index].sealed(slot, commands, now, |run| {
            histograms.record(Stage::Seal, now.since(run.at), run.commands);
        });
        self.unsent.push((index, slot));
    }

    /// Everything sealed so far was handed to the sockets.
    pub(crate) fn sent(&mut self, now: Time) {
        for (index, slot) in self.unsent.drain(..) {
            if let Some(stamps) = self.trails[index].stamps_mut(slot) {
                stamps.sent = now;
                self.histograms.record(Stage::Send, now.since(stamps.sealed), stamps.commands);
            }
        }
    }

    /// Whether a batch waits for [`sent`](Self::sent).
    pub(crate) fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Stamps what the ring has crossed since it was observed last.
    pub(crate) fn observe(&mut self, index: usize, now: Time, progress: &Progress) {
        let histograms = &mut self.histograms;
        self.trails[index].durable_upto(progress.durable, |stamps| {
            stamps.durable = now;
            histograms.record(Stage::OwnDurable, now.since(stamps.sealed), stamps.commands);
        });
        self.trails[index].chosen_upto(progress.chosen, |stamps| {
            stamps.chosen = now;
            histograms.record(Stage::Quorum, now.since(stamps.sent), stamps.commands);
        });
    }

    /// A peer's vote for the batches up to `last` arrived.
    pub(crate) fn voted(&mut self, index: usize, peer: NodeId, last: Slot, durable_ns: u64, now: Time) {
        let Some(stamps) = self.trails[index].stamps_mut(last) else { return };
        let round_trip_ns = now.since(stamps.sent).as_nanos() as u64;
        self.histograms.record_peer(peer, round_trip_ns.saturating_sub(durable_ns), durable_ns);
    }

    /// The batch that was proposed for `slot` here was executed.
    pub(crate) fn executed(&mut self, index: usize, slot: Slot, now: Time) {
        let runs = &mut self.finished_runs;
        let Some(mut stamps) = self.trails[index].executed(slot, |run| runs.push(run)) else { return };
        stamps.executed = now;
        self.histograms.record(Stage::Execute, now.since(stamps.chosen), stamps.commands);
        self.finished.push(stamps);
    }

    /// Whether replies of executed batches are on their way out.
    pub(crate) fn has_finished(&self) -> bool {
        !self.finished.is_empty()
    }

    /// The replies of everything executed so far have left the core.
    pub(crate) fn replied(&mut self, now: Time) {
        for run in self.finished_runs.drain(..) {
            self.histograms.record(Stage::Total, now.since(run.at), run.commands);
        }
        for mut stamps in self.finished.drain(..) {
            stamps.replied = now;
            self.histograms.record(Stage::Reply, now.since(stamps.executed), stamps.commands);
            report::keep_slowest(&mut self.exemplars, Exemplar::of(&stamps), EXEMPLARS_MAX);
        }
    }

    /// The replica at `index` leads no more: what it had under way is not timed to the end.
    pub(crate) fn stood_down(&mut self, index: usize) {
        self.trails[index].clear();
        self.unsent.retain(|(unsent, _)| *unsent != index);
    }

    /// A copy of what was measured.
    pub fn report(&self) -> StageReport {
        StageReport::new(self.histograms.clone(), self.exemplars.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(durable: u64, chosen: u64) -> Progress {
        Progress { durable: Slot(durable), chosen: Slot(chosen), ..Progress::default() }
    }

    #[test]
    fn the_stages_of_a_commit_add_up_to_its_total() {
        let mut stages = Stages::new(&[NodeId(2)]);
        stages.add_ring(RingId(1), 8);
        stages.submitted(0, Time(1_000));
        stages.submitted(0, Time(1_000));
        stages.submitted(0, Time(2_000));
        stages.sealed(0, Slot(0), 3, Time(4_000));
        stages.sent(Time(10_000));
        stages.voted(0, NodeId(2), Slot(0), 20_000, Time(70_000));
        stages.observe(0, Time(70_000), &progress(0, 1));
        stages.executed(0, Slot(0), Time(75_000));
        stages.replied(Time(80_000));
        stages.observe(0, Time(90_000), &progress(1, 1));

        let report = stages.report();
        let max = |stage| report.stage(stage).max_ns;
        assert_eq!(report.stage(Stage::Total).count, 3, "each command counts");
        assert!(max(Stage::Total).abs_diff(79_000) < 100, "three digits of precision");
        let sum: u64 =
            [Stage::Seal, Stage::Send, Stage::Quorum, Stage::Execute, Stage::Reply].map(max).iter().sum();
        assert!(sum.abs_diff(79_000) < 200, "{sum}");
        assert!(max(Stage::OwnDurable).abs_diff(86_000) < 100, "the own write may end after the reply");
        let peer = &report.peers()[0];
        assert!(peer.wire.max_ns.abs_diff(40_000) < 50 && peer.durable.max_ns.abs_diff(20_000) < 50);
    }

    #[test]
    fn a_deposed_leader_times_nothing_to_the_end() {
        let mut stages = Stages::new(&[]);
        stages.add_ring(RingId(1), 8);
        stages.submitted(0, Time(1));
        stages.sealed(0, Slot(0), 1, Time(2));
        stages.stood_down(0);
        stages.sent(Time(3));
        stages.observe(0, Time(4), &progress(1, 1));
        stages.executed(0, Slot(0), Time(5));
        stages.replied(Time(6));
        assert_eq!(stages.report().stage(Stage::Total).count, 0);
    }
}
