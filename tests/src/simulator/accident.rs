//! What befalls a cluster, apart from what befalls single frames, writes and turns.

use std::time::Duration;

use annulus_rings::NodeId;

use super::plan::Plan;
use crate::chaos::Random;

/// A class of accidents that come at random intervals.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Accident {
    Kill,
    PowerFailure,
    Pause,
    Partition,
    Flap,
    Reset,
    SlowDisk,
    DateJump,
}

impl Accident {
    pub(super) const ALL: [Accident; 8] = [
        Accident::Kill,
        Accident::PowerFailure,
        Accident::Pause,
        Accident::Partition,
        Accident::Flap,
        Accident::Reset,
        Accident::SlowDisk,
        Accident::DateJump,
    ];

    /// The mean interval in a plan; zero for never.
    pub(super) fn interval(self, plan: &Plan) -> Duration {
        match self {
            Accident::Kill => plan.process.kill_interval,
            Accident::PowerFailure => plan.process.power_interval,
            Accident::Pause => plan.process.pause_interval,
            Accident::Partition => plan.network.partition_interval,
            Accident::Flap => plan.network.flap_interval,
            Accident::Reset => plan.network.reset_interval,
            Accident::SlowDisk => plan.disk.slow_interval,
            Accident::DateJump => plan.process.jump_interval,
        }
    }

    /// What the summary calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Accident::Kill => "kills",
            Accident::PowerFailure => "power failures",
            Accident::Pause => "pauses",
            Accident::Partition => "partitions",
            Accident::Flap => "link flaps",
            Accident::Reset => "connections reset",
            Accident::SlowDisk => "slow disks",
            Accident::DateJump => "date jumps",
        }
    }
}

/// The directions that a partition cuts.
pub(super) fn draw_cuts(nodes: &[NodeId], random: &mut Random) -> Vec<(NodeId, NodeId)> {
    let pairs = || nodes.iter().flat_map(|&a| nodes.iter().map(move |&b| (a, b))).filter(|(a, b)| a != b);
    let one_way = random.permille(300);
    let members = random.number();
    let is_in = |node: NodeId| members >> (node.0 % 64) & 1 == 1;
    match random.below(4) {
        // Two sides, either way or one way.
        0 => pairs().filter(|&(a, b)| is_in(a) != is_in(b) && !(one_way && is_in(a))).collect(),
        // One node alone, or deaf, or mute.
        1 => {
            let lone = random.pick(nodes);
            pairs().filter(|&(a, b)| a == lone || b == lone && !one_way).collect()
        }
        // A chain: each node reaches its neighbours only.
        2 => pairs().filter(|(a, b)| a.0.abs_diff(b.0) > 1).collect(),
        // Any graph at all.
        _ => pairs().filter(|_| random.permille(400)).collect(),
    }
}
