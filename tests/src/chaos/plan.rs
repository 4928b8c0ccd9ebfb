//! Which accidents a seed knows, and how many of each.
//!
//! Swarm testing: every class of accident is absent from about half of the seeds, because one accident
//! hides another. Groce et al., *Swarm Testing*, 2012.

use std::time::Duration;

use super::Random;
use crate::world::WorldOptions;

/// The accidents of one seed.
#[derive(Clone, Debug)]
pub struct Plan {
    nodes: u16,
    window_slots: u32,
    retain_bytes: usize,
    /// The shortest election timeout.
    pub election_timeout: Duration,
    /// How much a command is padded. Large ones make promises of several parts.
    pub padding_count: usize,
    /// Steps of rings before everything heals.
    pub steps: usize,
    /// Frames lost, of a thousand.
    pub drop_permille: u64,
    /// Frames duplicated, of a thousand.
    pub duplicate_permille: u64,
    /// Frames that arrive long after they were sent, of a thousand.
    pub late_permille: u64,
    /// Steps in the middle of which the node crashes, of a thousand.
    pub crash_permille: u64,
    /// Group writes of which only a part completes at first, of a thousand.
    pub partial_write_permille: u64,
    /// The longest that a frame takes, unless it is late.
    pub delay_max: Duration,
    /// The longest that a write takes.
    pub write_time_max: Duration,
    /// The longest that a node stays down.
    pub down_time_max: Duration,
    /// The mean time between proposals.
    pub propose_interval: Duration,
    /// The mean time between snapshots of any node; zero for none.
    pub snapshot_interval: Duration,
    /// The longest that a snapshot takes from one stage to the next.
    pub snapshot_time_max: Duration,
    /// Snapshots that are given up half way, of a thousand.
    pub abandon_permille: u64,
    /// How often a ring writes again what it holds, of a thousand snapshots.
    pub carry_permille: u64,
    /// Starts at which the newest snapshot cannot be read, of a thousand.
    pub rotten_permille: u64,
    /// The mean time between splits of the network, and of their duration; zero for none.
    pub split_interval: Duration,
}

impl Plan {
    /// Draws a plan.
    pub fn draw(random: &mut Random) -> Plan {
        let ms = Duration::from_millis;
        let some = |random: &mut Random, permille: &[u64]| {
            if random.permille(500) { 0 } else { random.pick(permille) }
        };
        let is_large = random.permille(30);
        Plan {
            nodes: random.pick(&[1, 2, 3, 3, 3, 3, 3, 4, 5, 5]),
            window_slots: random.pick(&[1, 2, 4, 16]),
            retain_bytes: random.pick(&[0, 1000, 1 << 20]),
            election_timeout: ms(random.pick(&[60, 100, 300])),
            padding_count: if is_large { 200_000 } else { 0 },
            steps: if is_large { 400 } else { random.pick(&[200, 500, 1000, 3000]) },
            drop_permille: some(random, &[10, 50, 150, 300]),
            duplicate_permille: some(random, &[20, 100, 400]),
            late_permille: some(random, &[10, 50, 200]),
            crash_permille: some(random, &[2, 5, 15, 40]),
            partial_write_permille: some(random, &[100, 700]),
            delay_max: ms(random.pick(&[0, 1, 5, 40])),
            write_time_max: ms(random.pick(&[0, 1, 5, 40])),
            down_time_max: ms(random.pick(&[1, 100, 1000])),
            propose_interval: ms(random.pick(&[1, 5, 30])),
            split_interval: ms(some(random, &[100, 400, 1000])),
            snapshot_interval: ms(some(random, &[3, 20, 100])),
            snapshot_time_max: ms(random.pick(&[0, 5, 50])),
            abandon_permille: some(random, &[50, 300]),
            carry_permille: some(random, &[100, 500]),
            rotten_permille: some(random, &[100, 500]),
        }
    }

    /// The same cluster when nothing goes wrong any more.
    #[must_use]
    pub fn healed(&self) -> Plan {
        Plan {
            drop_permille: 0,
            duplicate_permille: 0,
            late_permille: 0,
            crash_permille: 0,
            partial_write_permille: 0,
            abandon_permille: 0,
            rotten_permille: 0,
            delay_max: self.delay_max.min(self.election_timeout / 20),
            write_time_max: self.write_time_max.min(self.election_timeout / 20),
            split_interval: Duration::ZERO,
            ..self.clone()
        }
    }

    /// The cluster.
    pub fn world(&self, seed: u64) -> WorldOptions {
        WorldOptions {
            nodes: self.nodes,
            window_slots: self.window_slots,
            election_timeout: self.election_timeout,
            heartbeat_interval: self.election_timeout / 5,
            resend_interval: self.election_timeout / 3,
            retain_bytes: self.retain_bytes,
            seed,
        }
    }
}
