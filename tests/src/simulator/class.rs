//! The classes of accidents by name, so that a plan can be told to do without one.

use std::time::Duration;

use super::plan::Plan;

/// A class, and how a plan forgets it.
struct Class {
    name: &'static str,
    forget: fn(&mut Plan),
}

/// Every class that a plan may know. The names are those of the summary, where it counts them.
const CLASSES: &[Class] = &[
    // The network.
    Class { name: "frames dropped", forget: |plan| plan.network.drop_permille = 0 },
    Class { name: "frames duplicated", forget: |plan| plan.network.duplicate_permille = 0 },
    Class { name: "frames corrupted", forget: |plan| plan.network.corrupt_permille = 0 },
    Class { name: "frames truncated", forget: |plan| plan.network.truncate_permille = 0 },
    Class { name: "frames of old connections", forget: |plan| plan.network.straggler_permille = 0 },
    Class { name: "connections reset", forget: |plan| plan.network.reset_interval = Duration::ZERO },
    Class { name: "partitions", forget: |plan| plan.network.partition_interval = Duration::ZERO },
    Class { name: "link flaps", forget: |plan| plan.network.flap_interval = Duration::ZERO },
    // Disks.
    Class { name: "torn writes", forget: |plan| plan.disk.torn_permille = 0 },
    Class { name: "write errors", forget: |plan| plan.disk.write_error_per_100k = 0 },
    Class { name: "read errors", forget: |plan| plan.disk.read_error_permyriad = 0 },
    Class { name: "no space", forget: |plan| plan.disk.full_permille = 0 },
    Class { name: "slow disks", forget: |plan| plan.disk.slow_interval = Duration::ZERO },
    Class { name: "misdirected reads", forget: |plan| plan.disk.misread_permyriad = 0 },
    Class { name: "sync errors", forget: |plan| plan.disk.sync_error_permyriad = 0 },
    Class { name: "bit rot", forget: |plan| plan.disk.rot_interval = Duration::ZERO },
    Class { name: "misdirected writes", forget: |plan| plan.disk.misdirection_interval = Duration::ZERO },
    Class { name: "lost writes", forget: |plan| plan.disk.loss_interval = Duration::ZERO },
    Class { name: "flushes that lied", forget: |plan| plan.disk.lying_flush_permille = 0 },
    Class { name: "unreadable sectors", forget: |plan| plan.disk.unreadable_interval = Duration::ZERO },
    Class { name: "disks replaced by empty ones", forget: |plan| plan.disk.wipe_interval = Duration::ZERO },
    Class { name: "disks replaced by old copies", forget: |plan| plan.disk.copy_interval = Duration::ZERO },
    // Snapshots.
    Class { name: "vault write errors", forget: |plan| plan.saving.accidents.write_error_permyriad = 0 },
    Class { name: "vault read errors", forget: |plan| plan.saving.accidents.read_error_permyriad = 0 },
    Class { name: "no space for snapshots", forget: |plan| plan.saving.accidents.full_permille = 0 },
    Class { name: "rot of snapshots", forget: |plan| plan.saving.accidents.rot_interval = Duration::ZERO },
    Class {
        name: "snapshots on request",
        forget: |plan| plan.saving.accidents.request_interval = Duration::ZERO,
    },
    Class { name: "snapshots held off", forget: |plan| plan.saving.accidents.hold_interval = Duration::ZERO },
    // Processes and clocks.
    Class { name: "crashes at start", forget: |plan| plan.process.start_fuse_permille = 0 },
    Class { name: "restart storms", forget: |plan| plan.process.storm_interval = Duration::ZERO },
    Class { name: "crashes in a turn", forget: |plan| plan.process.fuse_per_100k = 0 },
    Class { name: "kills", forget: |plan| plan.process.kill_interval = Duration::ZERO },
    Class { name: "power failures", forget: |plan| plan.process.power_interval = Duration::ZERO },
    Class { name: "pauses", forget: |plan| plan.process.pause_interval = Duration::ZERO },
    Class { name: "clock drift", forget: |plan| plan.process.drift_permyriad = 0 },
    Class { name: "date jumps", forget: |plan| plan.process.jump_interval = Duration::ZERO },
    // Clients.
    Class { name: "proposals astray", forget: |plan| plan.load.astray_permille = 0 },
];

const NAMES: [&str; CLASSES.len()] = {
    let mut names = [""; CLASSES.len()];
    let mut index = 0;
    while index < names.len() {
        names[index] = CLASSES[index].name;
        index += 1;
    }
    names
};

impl Plan {
    /// The names of all classes of accidents.
    pub fn classes() -> &'static [&'static str] {
        &NAMES
    }

    /// Lets no accident of a class happen any more; false when there is no such class.
    pub fn without(&mut self, class: &str) -> bool {
        let found = CLASSES.iter().find(|known| known.name == class);
        found.is_some_and(|known| {
            (known.forget)(self);
            true
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_is_known_to_some_seeds_and_can_be_forgotten() {
        for class in Plan::classes() {
            let knows = |seed| {
                let mut plan = Plan::draw(seed);
                assert!(plan.without(class));
                format!("{plan:?}") != format!("{:?}", Plan::draw(seed))
            };
            let share = (1..=200).filter(|seed| knows(*seed)).count();
            assert!((10..=150).contains(&share), "{share} of 200 seeds know {class}");
        }
        assert!(!Plan::draw(1).without("no such class"));
    }
}
