//! What seeds came to.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::coverage::Coverage;

/// One seed's history in numbers, or several added up.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Summary {
    /// Histories.
    pub seeds: u64,
    /// Those in which a rule was broken: nothing else is known of them.
    pub failed: u64,
    /// Time that passed in them.
    pub simulated: Duration,
    /// Turns of cores.
    pub turns: u64,
    /// Frames sent.
    pub frames: u64,
    /// Snapshots that became durable.
    pub published: u64,
    /// Snapshots that state machines took.
    pub restored: u64,
    /// Slots chosen.
    pub chosen: u64,
    /// Ballots that had a leader.
    pub ballots_led: u64,
    /// Commands that clients were told are committed.
    pub committed: u64,
    /// Commands that clients were told are rejected.
    pub rejected: u64,
    /// Commands of which clients learned nothing.
    pub unknown: u64,
    /// Queries answered by single replicas.
    pub queries: u64,
    /// What was made of the histories of registers.
    pub registers: Registers,
    /// Which messages replicas were handed in which state.
    pub coverage: Coverage,
    /// What went wrong, by class.
    pub faults: BTreeMap<&'static str, u64>,
    /// Identifies the history: equal for equal seeds.
    pub digest: u64,
}

/// What was made of the histories of registers.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Registers {
    /// Those that are linearizable.
    pub judged: u64,
    /// Those that were too large to be judged.
    pub not_judged: u64,
    /// Calls in all of them.
    pub calls: u64,
}

impl Registers {
    fn add(&mut self, other: &Registers) {
        self.judged += other.judged;
        self.not_judged += other.not_judged;
        self.calls += other.calls;
    }
}

impl Summary {
    /// A history that failed.
    pub fn of_failure() -> Summary {
        Summary { seeds: 1, failed: 1, ..Summary::default() }
    }

    /// Adds another history.
    pub fn add(&mut self, other: &Summary) {
        self.seeds += other.seeds;
        self.failed += other.failed;
        self.simulated += other.simulated;
        self.turns += other.turns;
        self.frames += other.frames;
        self.published += other.published;
        self.restored += other.restored;
        self.chosen += other.chosen;
        self.ballots_led += other.ballots_led;
        self.committed += other.committed;
        self.rejected += other.rejected;
        self.unknown += other.unknown;
        self.queries += other.queries;
        self.registers.add(&other.registers);
        self.coverage.add(&other.coverage);
        for (class, count) in &other.faults {
            *self.faults.entry(class).or_default() += count;
        }
        self.digest ^= other.digest;
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hours = self.simulated.as_secs_f64() / 3600.0;
        writeln!(f, "{} seeds, {} failed", self.seeds, self.failed)?;
        writeln!(f, "{hours:.2} simulated hours, {} turns", self.turns)?;
        writeln!(
            f,
            "{} slots chosen, {} ballots led, {} frames",
            self.chosen, self.ballots_led, self.frames
        )?;
        writeln!(f, "snapshots: {} published, {} restored", self.published, self.restored)?;
        let Summary { committed, rejected, unknown, .. } = self;
        writeln!(f, "commands: {committed} committed, {rejected} rejected, {unknown} unknown")?;
        let Registers { judged, not_judged, calls } = self.registers;
        writeln!(f, "registers: {judged} linearizable, {not_judged} not judged, {calls} calls")?;
        writeln!(f, "queries of single replicas: {}", self.queries)?;
        write!(f, "faults:")?;
        for (class, count) in &self.faults {
            write!(f, "\n  {count:>9} {class}")?;
        }
        write!(f, "\n{}", self.coverage)
    }
}
