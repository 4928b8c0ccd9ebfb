//! Which accidents a seed knows, how many of each, and what the cluster is like.
//!
//! Swarm testing: every class of accident is absent from about half of the seeds, because one accident
//! hides another. Groce et al., *Swarm Testing*, 2012.

use std::time::Duration;

use annulus::core::{BatchLimits, CoreOptions};
use annulus_rings::{
    ClusterId, Configuration, ConfigurationId, Incarnation, NodeId, RingId, RingOptions, Slot,
};
use annulus_storage::{Identity, JournalOptions, SyncMode};

use super::saving::SavingPlan;
use crate::chaos::Random;

const CLUSTER: ClusterId = ClusterId(77);
/// What a command that waits takes at least: its number, and what the engine counts beside it.
const OPEN_COMMAND_BYTES_MIN: usize = 7 + 36;

/// A cluster and its accidents, drawn from a seed. Intervals are means; zero means never.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Nodes, numbered from 1.
    pub nodes: u16,
    /// Rings, numbered from 1, all on one core of each node.
    pub rings: u32,
    /// How long the accidents last, in simulated time.
    pub duration: Duration,
    /// The shortest election timeout.
    pub election_timeout: Duration,
    /// Slots that may be open.
    pub window_slots: u32,
    /// Bytes of executed slots that a ring keeps in memory.
    pub retain_bytes: usize,
    /// Group writes in flight.
    pub writes_in_flight: usize,
    /// The clients of each node.
    pub load: LoadPlan,
    /// The network.
    pub network: NetworkPlan,
    /// Each disk.
    pub disk: DiskPlan,
    /// What befalls processes.
    pub process: ProcessPlan,
    /// How rings save their state.
    pub saving: SavingPlan,
    /// Nodes whose disks may be damaged for good. The cluster must go on while that is a minority; with
    /// more it may stop, but never disagree.
    pub damaged_max: u16,
    /// After so many accidents nothing goes wrong any more.
    pub accidents_max: u64,
    /// After so many commands clients ask nothing more.
    pub commands_max: u64,
    seed: u64,
}

/// What clients do.
#[derive(Clone, Debug)]
pub struct LoadPlan {
    /// Between bursts of one node's clients.
    pub interval: Duration,
    /// The largest burst.
    pub burst_max: u64,
    /// The largest command.
    pub command_bytes_max: u64,
    /// Bursts that go to a replica whether it leads or not, of a thousand.
    pub astray_permille: u64,
    /// Bytes that may wait unsealed.
    pub queue_bytes_max: usize,
    /// Clients that use registers, in place of the bursts; not in every seed.
    pub registers: Option<RegisterPlan>,
}

/// What clients do that use registers, so few that all they saw can be judged as a whole.
#[derive(Clone, Debug)]
pub struct RegisterPlan {
    /// Registers of each ring.
    pub keys: u64,
    /// Clients.
    pub sessions: u64,
    /// Between the answer to one command of a client and its next, a mean.
    pub rest: Duration,
    /// How long a client waits at the most.
    pub patience_max: Duration,
}

/// What befalls frames and links.
#[derive(Clone, Debug)]
pub struct NetworkPlan {
    /// The longest that a frame takes.
    pub delay_max: Duration,
    /// Frames lost, of a thousand.
    pub drop_permille: u64,
    /// Frames that arrive again later, of a thousand.
    pub duplicate_permille: u64,
    /// Frames of which bits flip, of a thousand.
    pub corrupt_permille: u64,
    /// Frames of which bytes are missing, of a thousand.
    pub truncate_permille: u64,
    /// Frames of a broken connection that arrive long after it, of a thousand.
    pub straggler_permille: u64,
    /// Between breaks of a connection.
    pub reset_interval: Duration,
    /// Between partitions, and their duration.
    pub partition_interval: Duration,
    /// Between times when a link comes and goes.
    pub flap_interval: Duration,
}

/// What befalls disks.
#[derive(Clone, Debug)]
pub struct DiskPlan {
    /// The longest that a write or a read takes.
    pub latency_max: Duration,
    /// Writes in flight at a crash of which some sectors arrive, of a thousand; else all or none do.
    pub torn_permille: u64,
    /// Writes that fail, of 100,000.
    pub write_error_per_100k: u64,
    /// Reads that fail, of 10,000.
    pub read_error_permyriad: u64,
    /// Segments for which there is no space, of a thousand.
    pub full_permille: u64,
    /// Between times when a disk is slow, and their duration.
    pub slow_interval: Duration,
    /// Reads that bring the bytes of another place, of 10,000.
    pub misread_permyriad: u64,
    /// Syncs at start that fail, of 10,000.
    pub sync_error_permyriad: u64,
    /// Between times when bits rot.
    pub rot_interval: Duration,
    /// Between writes that turn out to have gone to another place.
    pub misdirection_interval: Duration,
    /// Between writes that turn out to be missing.
    pub loss_interval: Duration,
    /// Power failures that take what was synced, of a thousand.
    pub lying_flush_permille: u64,
    /// Between times when sectors become unreadable.
    pub unreadable_interval: Duration,
    /// Between times when an empty disk takes the place of one.
    pub wipe_interval: Duration,
    /// Between times when a disk is copied, or the copy put back.
    pub copy_interval: Duration,
}

/// What befalls processes and clocks.
#[derive(Clone, Debug)]
pub struct ProcessPlan {
    /// Turns in the middle of whose outputs the process dies, of 100,000.
    pub fuse_per_100k: u64,
    /// Starts in the middle of which the process dies, of a thousand.
    pub start_fuse_permille: u64,
    /// Between storms of restarts of one process.
    pub storm_interval: Duration,
    /// Between kills.
    pub kill_interval: Duration,
    /// Between power failures, of one node or all.
    pub power_interval: Duration,
    /// The longest that a process stays down.
    pub down_max: Duration,
    /// Between pauses of a process.
    pub pause_interval: Duration,
    /// The longest pause.
    pub pause_max: Duration,
    /// How far clocks run from true time, in parts of 10,000.
    pub drift_permyriad: u64,
    /// Between jumps of a wall clock.
    pub jump_interval: Duration,
}

/// Absent from about half of the seeds.
pub(super) fn some<T: Copy + Default>(random: &mut Random, choices: &[T]) -> T {
    if random.permille(500) { T::default() } else { random.pick(choices) }
}

/// Absent from most seeds: what it does cannot be undone.
pub(super) fn rare<T: Copy + Default>(random: &mut Random, choices: &[T]) -> T {
    if random.permille(850) { T::default() } else { random.pick(choices) }
}

pub(super) const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Starts of processes times bursts of commands: what a seed replays, and most of the time that it takes.
const REPLAYED_BURSTS_MAX: f64 = 20_000.0;
/// Turns of a busy core, roughly.
const TURNS_PER_SECOND: u64 = 200;

impl Plan {
    /// The plan of a seed.
    pub fn draw(seed: u64) -> Plan {
        let random = &mut Random::named(seed, "plan");
        let nodes = random.pick(&[1, 2, 3, 3, 3, 3, 3, 4, 5, 5]);
        let pace = random.pick(&[1, 1, 1, 1, 1, 5, 20]);
        let plan = Plan {
            nodes,
            damaged_max: if random.permille(150) { nodes } else { (nodes - 1) / 2 },
            rings: random.pick(&[1, 1, 1, 2, 3]),
            duration: Duration::from_secs(random.pick(&[5, 10, 20, 30, 60, 120])),
            election_timeout: ms(random.pick(&[150, 300, 500, 1000])),
            window_slots: random.pick(&[1, 2, 4, 16]),
            retain_bytes: random.pick(&[0, 2000, 1 << 20]),
            writes_in_flight: random.pick(&[1, 2, 2, 4]),
            load: LoadPlan::draw(&mut Random::named(seed, "plan of the load")),
            network: NetworkPlan::draw(&mut Random::named(seed, "plan of the network")),
            disk: DiskPlan::draw(&mut Random::named(seed, "plan of the disk")),
            process: ProcessPlan::draw(&mut Random::named(seed, "plan of the process")),
            saving: SavingPlan::draw(&mut Random::named(seed, "plan of the snapshots")),
            accidents_max: u64::MAX,
            commands_max: u64::MAX,
            seed,
        };
        plan.stretched(pace).with_registers().bounded()
    }

    /// In some seeds clients use registers. Those are drawn apart, and change nothing else of a seed.
    fn with_registers(mut self) -> Plan {
        let random = &mut self.random("registers");
        if random.permille(400) {
            let commands = random.pick(&[60, 150, 400]);
            let sessions = random.pick(&[2, 3, 5, 8]);
            self.load.interval /= 4;
            self.load.registers = Some(RegisterPlan {
                keys: random.pick(&[1, 2, 4]),
                sessions,
                rest: self.duration * sessions as u32 / commands,
                patience_max: self.election_timeout * random.pick(&[1, 4, 20]),
            });
        }
        self
    }

    /// The same number of accidents and commands in a longer time, with quiet between them.
    fn stretched(mut self, pace: u32) -> Plan {
        self.duration *= pace;
        let Plan { load, network, disk, process, saving, .. } = &mut self;
        let intervals = [
            &mut load.interval,
            &mut network.reset_interval,
            &mut network.partition_interval,
            &mut network.flap_interval,
            &mut disk.slow_interval,
            &mut disk.rot_interval,
            &mut disk.misdirection_interval,
            &mut disk.loss_interval,
            &mut disk.unreadable_interval,
            &mut disk.wipe_interval,
            &mut disk.copy_interval,
            &mut process.storm_interval,
            &mut process.kill_interval,
            &mut process.power_interval,
            &mut process.pause_interval,
            &mut process.jump_interval,
        ];
        for interval in intervals.into_iter().chain(saving.intervals()) {
            *interval *= pace;
        }
        self
    }

    /// Fewer commands where processes start so often that replaying them would take the time of a hundred
    /// other seeds.
    fn bounded(mut self) -> Plan {
        let seconds = self.duration.as_secs();
        let times = |interval: Duration| {
            if interval.is_zero() { 0.0 } else { self.duration.div_duration_f64(interval) }
        };
        let ProcessPlan { kill_interval, power_interval, storm_interval, fuse_per_100k, .. } = self.process;
        let fuses = seconds * u64::from(self.nodes) * TURNS_PER_SECOND * fuse_per_100k / 100_000;
        let starts =
            times(kill_interval) + times(power_interval) + 4.0 * times(storm_interval) + fuses as f64;
        let replays = starts * times(self.load.interval);
        self.load.interval = self.load.interval.mul_f64((replays / REPLAYED_BURSTS_MAX).max(1.0));
        self
    }

    /// The random numbers of one class of accidents, or of one part of the cluster: its own, so that doing
    /// without a class does not change what is drawn for the others.
    pub(super) fn random(&self, name: &str) -> Random {
        Random::named(self.seed, name)
    }

    /// Every node.
    pub fn node_ids(&self) -> Vec<NodeId> {
        (1..=self.nodes).map(NodeId).collect()
    }

    /// Every ring.
    pub fn ring_ids(&self) -> Vec<RingId> {
        (1..=self.rings).map(RingId).collect()
    }

    /// The options of a node's core, in this life of its disk.
    pub fn core(&self, node: NodeId, incarnation: Incarnation) -> CoreOptions {
        let configuration = Configuration::new(ConfigurationId(1), Slot(0), &self.node_ids())
            .expect("nodes are numbered from 1");
        CoreOptions {
            ring: RingOptions {
                cluster: CLUSTER,
                ring: RingId(0),
                node,
                incarnation,
                configuration,
                window_slots: self.window_slots,
                election_timeout: self.election_timeout,
                heartbeat_interval: self.election_timeout / 5,
                resend_interval: self.election_timeout / 3,
                retain_bytes: self.retain_bytes,
                seed: self.seed.wrapping_mul(31).wrapping_add(u64::from(node.0)),
            },
            limits: BatchLimits {
                batch_bytes_max: 4096,
                batch_commands_max: 8,
                queue_bytes_max: self.load.queue_bytes_max,
            },
            snapshots: self.saving.options(),
            scrub_bytes_per_second: self.saving.scrub_bytes_per_second(),
        }
    }

    /// Commands of one ring that wait at one node, or are on their way from it, at the most (G12).
    pub fn open_commands_max(&self) -> u64 {
        let BatchLimits { batch_commands_max, queue_bytes_max, .. } =
            self.core(NodeId(1), Incarnation(1)).limits;
        let waiting = queue_bytes_max / OPEN_COMMAND_BYTES_MIN + 1;
        waiting as u64 + u64::from(self.window_slots * batch_commands_max)
    }

    /// Whose journal a node's is, in this life of its disk.
    pub fn identity(&self, node: NodeId, incarnation: Incarnation) -> Identity {
        Identity {
            cluster: CLUSTER,
            node,
            core: annulus::CoreId(0),
            incarnation,
            disk_uuid: u128::from(self.seed) << 48 | u128::from(incarnation.0) << 16 | u128::from(node.0),
        }
    }

    /// The options of each journal: segments so small that they are often left for the next.
    pub fn journal(&self) -> JournalOptions {
        JournalOptions {
            segment_bytes: 300 << 10,
            segments_ahead: 2,
            bytes_max: self.saving.journal_bytes_max,
            writes_in_flight_max: self.writes_in_flight,
            write_bytes_max: 16 << 10,
            backlog_bytes_max: 280 << 10,
            frame_bytes_max: 280 << 10,
            sync: SyncMode::Dsync,
        }
    }

    /// The same cluster when nothing goes wrong any more.
    #[must_use]
    pub fn healed(&self) -> Plan {
        let mut healed = self.clone();
        for class in Plan::classes() {
            healed.without(class);
        }
        let calm = self.election_timeout / 20;
        healed.network.delay_max = self.network.delay_max.min(calm);
        healed.disk.latency_max = self.disk.latency_max.min(calm);
        healed.saving.latency_max = self.saving.latency_max.min(calm);
        healed
    }
}

impl LoadPlan {
    fn draw(random: &mut Random) -> LoadPlan {
        LoadPlan {
            interval: ms(random.pick(&[20, 100, 300, 1000])),
            burst_max: random.pick(&[1, 4, 20]),
            command_bytes_max: random.pick(&[16, 60, 400, 3000]),
            astray_permille: some(random, &[50, 300]),
            queue_bytes_max: random.pick(&[4096, 16 << 10, 1 << 20]),
            registers: None,
        }
    }
}

impl NetworkPlan {
    fn draw(random: &mut Random) -> NetworkPlan {
        NetworkPlan {
            delay_max: ms(random.pick(&[0, 1, 5, 30])),
            drop_permille: some(random, &[5, 30, 150]),
            duplicate_permille: some(random, &[10, 100]),
            corrupt_permille: some(random, &[1, 5, 30]),
            truncate_permille: some(random, &[1, 5, 30]),
            straggler_permille: some(random, &[100, 500]),
            reset_interval: ms(some(random, &[300, 2000, 10_000])),
            partition_interval: ms(some(random, &[700, 3000, 10_000])),
            flap_interval: ms(some(random, &[300, 2000])),
        }
    }
}

impl DiskPlan {
    fn draw(random: &mut Random) -> DiskPlan {
        DiskPlan {
            latency_max: ms(random.pick(&[0, 1, 5, 30])),
            torn_permille: some(random, &[300, 900]),
            write_error_per_100k: some(random, &[20, 200]),
            read_error_permyriad: some(random, &[20, 300]),
            full_permille: some(random, &[100, 500]),
            slow_interval: ms(some(random, &[2000, 10_000])),
            misread_permyriad: some(random, &[100, 1000]),
            sync_error_permyriad: some(random, &[100, 1000]),
            rot_interval: ms(rare(random, &[1000, 5000, 20_000])),
            misdirection_interval: ms(rare(random, &[2000, 10_000])),
            loss_interval: ms(rare(random, &[2000, 10_000])),
            lying_flush_permille: rare(random, &[100, 500]),
            unreadable_interval: ms(rare(random, &[2000, 10_000])),
            wipe_interval: ms(rare(random, &[2000, 10_000])),
            copy_interval: ms(rare(random, &[1000, 5000])),
        }
    }
}

impl ProcessPlan {
    fn draw(random: &mut Random) -> ProcessPlan {
        ProcessPlan {
            fuse_per_100k: some(random, &[5, 30, 150]),
            start_fuse_permille: some(random, &[50, 400]),
            storm_interval: ms(some(random, &[3000, 15_000])),
            kill_interval: ms(some(random, &[500, 3000, 10_000])),
            power_interval: ms(some(random, &[1000, 5000, 20_000])),
            down_max: ms(random.pick(&[1, 200, 2000, 8000])),
            pause_interval: ms(some(random, &[500, 3000])),
            pause_max: ms(random.pick(&[50, 500, 3000])),
            drift_permyriad: some(random, &[10, 200, 1000]),
            jump_interval: ms(some(random, &[1000, 5000])),
        }
    }
}
