//! What befalls a cluster, apart from what befalls single frames, writes and turns.

use std::time::Duration;

use super::plan::Plan;

/// A class of accidents that come at random intervals.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Accident {
    Kill,
    Storm,
    PowerFailure,
    Pause,
    Partition,
    Flap,
    Reset,
    SlowDisk,
    DateJump,
    Rot,
    Misdirection,
    LostWrite,
    UnreadableSectors,
    Wipe,
    OldCopy,
    SnapshotRot,
    SnapshotRequest,
    SnapshotHold,
}

impl Accident {
    pub(super) const ALL: [Accident; 18] = [
        Accident::Kill,
        Accident::Storm,
        Accident::PowerFailure,
        Accident::Pause,
        Accident::Partition,
        Accident::Flap,
        Accident::Reset,
        Accident::SlowDisk,
        Accident::DateJump,
        Accident::Rot,
        Accident::Misdirection,
        Accident::LostWrite,
        Accident::UnreadableSectors,
        Accident::Wipe,
        Accident::OldCopy,
        Accident::SnapshotRot,
        Accident::SnapshotRequest,
        Accident::SnapshotHold,
    ];

    /// The mean interval in a plan; zero for never.
    pub(super) fn interval(self, plan: &Plan) -> Duration {
        match self {
            Accident::Kill => plan.process.kill_interval,
            Accident::Storm => plan.process.storm_interval,
            Accident::PowerFailure => plan.process.power_interval,
            Accident::Pause => plan.process.pause_interval,
            Accident::Partition => plan.network.partition_interval,
            Accident::Flap => plan.network.flap_interval,
            Accident::Reset => plan.network.reset_interval,
            Accident::SlowDisk => plan.disk.slow_interval,
            Accident::DateJump => plan.process.jump_interval,
            Accident::Rot => plan.disk.rot_interval,
            Accident::Misdirection => plan.disk.misdirection_interval,
            Accident::LostWrite => plan.disk.loss_interval,
            Accident::UnreadableSectors => plan.disk.unreadable_interval,
            Accident::Wipe => plan.disk.wipe_interval,
            Accident::OldCopy => plan.disk.copy_interval,
            Accident::SnapshotRot => plan.saving.accidents.rot_interval,
            Accident::SnapshotRequest => plan.saving.accidents.request_interval,
            Accident::SnapshotHold => plan.saving.accidents.hold_interval,
        }
    }

    /// What the summary calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Accident::Kill => "kills",
            Accident::Storm => "restart storms",
            Accident::PowerFailure => "power failures",
            Accident::Pause => "pauses",
            Accident::Partition => "partitions",
            Accident::Flap => "link flaps",
            Accident::Reset => "connections reset",
            Accident::SlowDisk => "slow disks",
            Accident::DateJump => "date jumps",
            Accident::Rot => "bit rot",
            Accident::Misdirection => "misdirected writes",
            Accident::LostWrite => "lost writes",
            Accident::UnreadableSectors => "unreadable sectors",
            Accident::Wipe => "disks replaced by empty ones",
            Accident::OldCopy => "disks replaced by old copies",
            Accident::SnapshotRot => "rot of snapshots",
            Accident::SnapshotRequest => "snapshots on request",
            Accident::SnapshotHold => "snapshots held off",
        }
    }
}
