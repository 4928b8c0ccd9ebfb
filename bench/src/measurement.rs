//! Figures: what one row measured, and the stable JSON of a whole run.

use serde::{Deserialize, Serialize};

use crate::configuration::Configuration;
use crate::control::Stage;
use crate::environment::Environment;
use crate::floor::Floor;
use crate::meter::LatencyUs;
use crate::placement::Placement;

/// The figures of one row. Field names are stable: scripts read them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Measurement {
    /// What it was measured under.
    pub(crate) configuration: Configuration,
    /// The CPUs of every process; empty lists where the kernel decides.
    pub(crate) placement: Placement,
    /// Which repetition, from 1.
    pub(crate) run: u32,
    /// Commands acknowledged per second of the window.
    pub(crate) committed_per_second: f64,
    /// From sending to acknowledgement.
    pub(crate) latency_us: LatencyUs,
    /// Median latency over the floor of one commit; none where the floor does not apply.
    pub(crate) p50_over_floor: Option<f64>,
    /// Where the time went, seen from the leaders.
    pub(crate) stages: Vec<Stage>,
    /// User and system time of all replicas and the client.
    pub(crate) cpu_us_per_commit: f64,
    /// The same, by process, in per cent of one CPU.
    pub(crate) cpu_percent: Vec<ProcessCpu>,
    /// Durable writes of all replicas in the window.
    pub(crate) flushes: u64,
    /// Bytes of them.
    pub(crate) bytes_written: u64,
    /// Commands committed in the window.
    pub(crate) committed: u64,
    /// The window.
    pub(crate) seconds: f64,
    /// Whether an acknowledged command survives the loss of power.
    pub(crate) durable: bool,
    /// Commands acknowledged from first to last, outside the window too.
    pub(crate) acknowledged: u64,
    /// Whether every one of them is in every replica's state, and all states are equal.
    pub(crate) verified: bool,
    /// How that was established, or what is wrong.
    pub(crate) verification: String,
    /// How often a leader was lost on the way.
    pub(crate) interruptions: u64,
}

/// CPU time of a process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ProcessCpu {
    /// `replica 1`, …, `client`.
    pub(crate) process: String,
    /// In per cent of one CPU.
    pub(crate) percent: f64,
}

/// Everything that a run found out. The fields of the best row (the one that commits most) stand at
/// the top, so that a script need not look for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Report {
    /// The headline: the median run of the configuration that commits most.
    #[serde(flatten)]
    pub(crate) headline: Measurement,
    /// The command that gave the figures.
    pub(crate) command: String,
    /// The floor of this machine.
    pub(crate) floor: Floor,
    /// The machine.
    pub(crate) environment: Environment,
    /// What makes the figures doubtful.
    pub(crate) warnings: Vec<String>,
    /// Every row of every run.
    pub(crate) rows: Vec<Measurement>,
}

impl Report {
    /// `rows` is not empty. `verified` at the top speaks for all of them.
    pub(crate) fn new(
        floor: Floor,
        environment: Environment,
        warnings: Vec<String>,
        rows: Vec<Measurement>,
    ) -> Report {
        let best = by_configuration(&rows)
            .into_iter()
            .map(median_run)
            .max_by(|one, other| one.committed_per_second.total_cmp(&other.committed_per_second))
            .expect("there is a row");
        let mut headline = best.clone();
        if let Some(bad) = rows.iter().find(|row| !row.verified) {
            headline.verified = false;
            headline.verification.clone_from(&bad.verification);
        }
        let command = std::env::args().collect::<Vec<_>>().join(" ");
        Report { headline, command, floor, environment, warnings, rows }
    }
}

/// The rows of each configuration, in the order in which configurations were first measured.
pub(crate) fn by_configuration(rows: &[Measurement]) -> Vec<Vec<&Measurement>> {
    let mut groups: Vec<Vec<&Measurement>> = Vec::new();
    for row in rows {
        match groups.iter_mut().find(|group| group[0].configuration == row.configuration) {
            Some(group) => group.push(row),
            None => groups.push(vec![row]),
        }
    }
    groups
}

/// The run in the middle by throughput.
pub(crate) fn median_run(mut runs: Vec<&Measurement>) -> &Measurement {
    runs.sort_by(|one, other| one.committed_per_second.total_cmp(&other.committed_per_second));
    runs[(runs.len() - 1) / 2]
}

/// Least, middle and greatest of some figures.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Spread {
    pub(crate) min: f64,
    pub(crate) median: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// The spread of `figure` over `runs`, of which there is at least one.
    pub(crate) fn of(runs: &[&Measurement], figure: impl Fn(&Measurement) -> f64) -> Spread {
        let mut figures: Vec<f64> = runs.iter().map(|run| figure(run)).collect();
        figures.sort_by(f64::total_cmp);
        Spread { min: figures[0], median: figures[(figures.len() - 1) / 2], max: figures[figures.len() - 1] }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::Value;

    use super::*;
    use crate::cli::RunOptions;

    /// The keys that scripts may rely on. Adding one is fine; renaming or removing one is not.
    const KEYS: &str = include_str!("../tests/golden/json_keys.txt");

    pub(crate) fn measurement(outstanding: u64, committed_per_second: f64) -> Measurement {
        let mut configuration = RunOptions::default().rows().unwrap().remove(0);
        configuration.load.outstanding = outstanding;
        Measurement {
            configuration,
            placement: Placement { replicas: vec![vec![0]], client: vec![0] },
            run: 1,
            committed_per_second,
            latency_us: LatencyUs { p50: 200.0, p90: 250.0, p99: 300.0, p999: 400.0, max: 1000.0 },
            p50_over_floor: Some(1.5),
            stages: vec![Stage { name: "total".to_owned(), p50_us: 190.0, p99_us: 280.0, count: 10 }],
            cpu_us_per_commit: 1.2,
            cpu_percent: vec![ProcessCpu { process: "client".to_owned(), percent: 12.0 }],
            flushes: 3000,
            bytes_written: 1 << 20,
            committed: 4000,
            seconds: 1.0,
            durable: true,
            acknowledged: 5000,
            verified: true,
            verification: "verified".to_owned(),
            interruptions: 0,
        }
    }

    fn report(rows: Vec<Measurement>) -> Report {
        Report::new(Floor::default(), Environment::default(), vec!["busy".to_owned()], rows)
    }

    /// Every path of keys, arrays by their first element.
    fn paths(value: &Value, prefix: &str, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                for (key, value) in fields {
                    let path = format!("{prefix}{key}");
                    found.push(path.clone());
                    paths(value, &format!("{path}."), found);
                }
            }
            Value::Array(elements) => {
                if let Some(first) = elements.first() {
                    paths(first, prefix, found);
                }
            }
            _ => (),
        }
    }

    #[test]
    fn the_keys_of_the_json_are_stable() {
        let json = serde_json::to_value(report(vec![measurement(1, 5e3)])).unwrap();
        let mut found = Vec::new();
        paths(&json, "", &mut found);
        found.sort();
        assert_eq!(found.join("\n"), KEYS.trim_end());
    }

    #[test]
    fn the_row_that_commits_most_is_the_headline() {
        let report = report(vec![measurement(1, 5e3), measurement(4096, 1e6), measurement(64, 2e5)]);
        assert_eq!(report.headline.configuration.load.outstanding, 4096);
        assert_eq!(report.rows.len(), 3);
    }

    #[test]
    fn of_several_runs_the_median_speaks() {
        let runs = [3.0, 1.0, 2.0, 9.0, 4.0].map(|rate| measurement(1, rate));
        assert!((report(runs.to_vec()).headline.committed_per_second - 3.0).abs() < 1e-9);
        let spread = Spread::of(&runs.iter().collect::<Vec<_>>(), |run| run.committed_per_second);
        assert_eq!((spread.min, spread.median, spread.max), (1.0, 3.0, 9.0));
    }

    #[test]
    fn one_row_that_is_not_verified_spoils_the_report() {
        let bad = Measurement { verified: false, verification: "lost 1".to_owned(), ..measurement(1, 1.0) };
        let report = report(vec![measurement(4096, 1e6), bad]);
        assert!(!report.headline.verified);
        assert_eq!(report.headline.verification, "lost 1");
    }
}
