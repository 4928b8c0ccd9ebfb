//! Figures for a person.

use crate::configuration::{ClusterConfiguration, Configuration, Journal, Load, Transport, word};
use crate::control::Stage;
use crate::environment::Environment;
use crate::floor::Floor;
use crate::format::{count, duration_us, ratio, table, things, whole};
use crate::measurement::{Measurement, Report, Spread, by_configuration, median_run};
use crate::placement::Placement;
use crate::row::title;

/// What stands above the figures: machine, cluster, placement.
pub(crate) fn heading(
    environment: &Environment,
    configuration: &Configuration,
    placement: &Placement,
) -> String {
    let Environment { cpu, cores, kernel, filesystem, disk, disk_write_cache, version, commit, .. } =
        environment;
    let commit = commit.as_deref().unwrap_or("unknown");
    let build = if environment.debug_assertions { ", debug assertions on" } else { "" };
    format!(
        "annulus-bench {version} (commit {commit}{build})\n\
         {cpu} · {cores} CPUs · Linux {kernel} · {filesystem} on {disk}, write cache: {disk_write_cache}\n\
         {}\nload from {} · {placement}\n",
        cluster(&configuration.cluster),
        load(configuration),
    )
}

fn cluster(cluster: &ClusterConfiguration) -> String {
    let processes = match cluster.transport {
        Transport::Tcp => "replica processes over TCP",
        Transport::Loopback => "replicas in one process, no network",
    };
    let journal = match cluster.journal {
        Journal::File => format!("journals in files ({})", word(&cluster.sync)),
        Journal::Memory => "journals in memory: VOLATILE".to_owned(),
        Journal::Nvm => "journals in non-volatile memory (nvm)".to_owned(),
        Journal::NvmBattery => "journals in memory with a battery (nvm-battery)".to_owned(),
        Journal::NvmEmulated => {
            "journals in emulated non-volatile memory (nvm-emulated): VOLATILE".to_owned()
        }
    };
    format!(
        "{} {processes}, {} and {} each · {journal}\n\
         {} runner · window {} slots · batches to {} KiB · spin {} µs",
        cluster.replicas,
        things(u64::from(cluster.cores), "core"),
        things(u64::from(cluster.rings), "ring"),
        word(&cluster.runner),
        cluster.window_slots,
        cluster.batch_bytes >> 10,
        cluster.spin_us
    )
}

fn load(configuration: &Configuration) -> String {
    match configuration.load.load {
        Load::Client => format!("a client process with {}", things(configuration.sessions(), "connection")),
        Load::Embedded => "the leader's own cores".to_owned(),
    }
}

/// The floor in one line.
pub(crate) fn floor(floor: &Floor) -> String {
    let round_trip = format!("TCP round trip {}", duration_us(floor.tcp_rtt_us_p50));
    match floor.durable_write_us_p50 {
        Some(write) => format!(
            "floor of one commit: {round_trip} + durable 4 KiB write {} = {}\n",
            duration_us(write),
            duration_us(floor.total_us())
        ),
        None => format!("floor: {round_trip}; nothing is written to a disk\n"),
    }
}

/// Everything below the heading.
pub(crate) fn figures(report: &Report) -> String {
    let groups = by_configuration(&report.rows);
    let mut parts = vec![floor(&report.floor), "\n".to_owned(), rows(&groups)];
    if groups.len() <= STAGE_TABLES_MAX {
        parts.extend(groups.iter().map(|group| stages(median_run(group.clone()))));
    }
    parts.push("\n".to_owned());
    parts.extend(report.rows.iter().map(verdict));
    parts.extend(report.rows.iter().filter_map(interruptions));
    parts.extend(report.warnings.iter().map(|warning| format!("warning: {warning}\n")));
    parts.concat()
}

fn verdict(row: &Measurement) -> String {
    let mark = if row.verified { "verified" } else { "NOT VERIFIED" };
    format!("{mark}: {}: {}\n", title(&row.configuration), row.verification)
}

fn interruptions(row: &Measurement) -> Option<String> {
    let Measurement { configuration, interruptions, .. } = row;
    let text = format!("warning: {}: a leader was lost {interruptions} times\n", title(configuration));
    (*interruptions > 0).then_some(text)
}

/// A sweep with more rows than this gets no stage tables: they are in the JSON.
const STAGE_TABLES_MAX: usize = 4;

/// The main table: a row per configuration, with the spread below it where there were several runs.
fn rows(groups: &[Vec<&Measurement>]) -> String {
    let columns: Vec<Column> = columns().into_iter().filter(|column| column.is_shown(groups)).collect();
    let titles: Vec<&str> = columns.iter().map(|column| column.title).collect();
    let mut lines: Vec<Vec<String>> = Vec::new();
    for group in groups {
        let median = median_run(group.clone());
        lines.push(columns.iter().map(|column| column.cell(median)).collect());
        if group.len() > 1 {
            let mut spreads: Vec<String> = columns.iter().map(|column| column.spread(group)).collect();
            spreads[0] = format!("  {} runs", group.len());
            lines.push(spreads);
        }
    }
    table(&titles, &lines)
}

/// A column of the main table.
struct Column {
    title: &'static str,
    kind: ColumnKind,
    value: fn(&Measurement) -> Option<f64>,
    show: fn(f64) -> String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ColumnKind {
    /// Says which row it is.
    Name,
    /// Says which row it is, where rows differ in it.
    Sweep,
    /// Was measured.
    Figure,
    /// Was measured; its spread is of no interest.
    Detail,
}

/// Flushes and bytes are per replica: that is what compares with other systems.
fn columns() -> Vec<Column> {
    use ColumnKind::{Detail, Figure, Name, Sweep};
    type Value = fn(&Measurement) -> Option<f64>;
    let column = |title, kind, value: Value, show: fn(f64) -> String| Column { title, kind, value, show };
    vec![
        column("in flight", Name, |row| Some(row.configuration.load.outstanding as f64), whole),
        column("cores", Sweep, |row| Some(f64::from(row.configuration.cluster.cores)), whole),
        column("rings", Sweep, |row| Some(f64::from(row.configuration.cluster.rings)), whole),
        column("bytes", Sweep, |row| Some(row.configuration.load.payload as f64), whole),
        column("commits/s", Figure, |row| Some(row.committed_per_second), whole),
        column("p50", Figure, |row| Some(row.latency_us.p50), duration_us),
        column("p90", Detail, |row| Some(row.latency_us.p90), duration_us),
        column("p99", Figure, |row| Some(row.latency_us.p99), duration_us),
        column("p99.9", Detail, |row| Some(row.latency_us.p999), duration_us),
        column("max", Detail, |row| Some(row.latency_us.max), duration_us),
        column("CPU µs/commit", Figure, |row| Some(row.cpu_us_per_commit), ratio),
        column("flushes/s", Detail, |row| flushes(row).map(|flushes| flushes / row.seconds), whole),
        column(
            "commits/flush",
            Detail,
            |row| flushes(row).map(|flushes| row.committed as f64 / flushes),
            ratio,
        ),
        column("bytes/commit", Detail, bytes_per_commit, whole),
        column("p50/floor", Figure, |row| row.p50_over_floor, ratio),
    ]
}

/// Durable writes of one replica; none where nothing is written.
fn flushes(row: &Measurement) -> Option<f64> {
    (row.flushes > 0).then(|| row.flushes as f64 / f64::from(row.configuration.cluster.replicas))
}

fn bytes_per_commit(row: &Measurement) -> Option<f64> {
    let replicas = f64::from(row.configuration.cluster.replicas);
    (row.committed > 0).then(|| row.bytes_written as f64 / replicas / row.committed as f64)
}

impl Column {
    fn is_shown(&self, groups: &[Vec<&Measurement>]) -> bool {
        let mut values = groups.iter().map(|group| (self.value)(group[0]));
        match self.kind {
            ColumnKind::Sweep => {
                let first = values.next();
                values.any(|value| Some(value) != first)
            }
            _ => values.any(|value| value.is_some()),
        }
    }

    fn cell(&self, row: &Measurement) -> String {
        (self.value)(row).map_or_else(|| "—".to_owned(), self.show)
    }

    fn spread(&self, group: &[&Measurement]) -> String {
        if self.kind != ColumnKind::Figure || group.iter().any(|row| (self.value)(row).is_none()) {
            return String::new();
        }
        let Spread { min, max, .. } = Spread::of(group, |row| (self.value)(row).unwrap_or_default());
        format!("[{}–{}]", (self.show)(min), (self.show)(max))
    }
}

/// The stage table of a row's leader.
fn stages(row: &Measurement) -> String {
    let cells = |stage: &Stage| {
        let name = stage.name.replace('_', " ");
        vec![name, duration_us(stage.p50_us), duration_us(stage.p99_us), count(stage.count)]
    };
    let cells: Vec<Vec<String>> = row.stages.iter().map(cells).collect();
    let table = table(&["stage", "p50", "p99", "times"], &cells);
    format!("\nwhere the microseconds go, {} (warm-up included)\n{table}", title(&row.configuration))
}

/// Who used the CPUs, in one line.
pub(crate) fn cpu(row: &Measurement) -> String {
    let each = row.cpu_percent.iter().map(|cpu| format!("{} {:.0} %", cpu.process, cpu.percent));
    format!("CPU: {}", each.collect::<Vec<_>>().join(" · "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measurement::tests::measurement;

    fn report(rows: Vec<Measurement>) -> Report {
        let floor = Floor { tcp_rtt_us_p50: 8.0, durable_write_us_p50: Some(120.0) };
        Report::new(floor, Environment::default(), vec!["the machine is busy".to_owned()], rows)
    }

    #[test]
    fn a_row_shows_what_was_asked_for() {
        let text = figures(&report(vec![measurement(1, 5_000.0), measurement(4096, 1_234_567.0)]));
        for expected in
            ["1,234,567", "p50/floor", "1.50", "= 128 µs", "warning: the machine is busy", "total"]
        {
            assert!(text.contains(expected), "{expected} is missing in\n{text}");
        }
    }

    #[test]
    fn what_all_rows_have_in_common_takes_no_column() {
        let text = figures(&report(vec![measurement(1, 1.0), measurement(2, 2.0)]));
        assert!(!text.contains("cores") && !text.contains("bytes  "), "{text}");
        let mut large = measurement(1, 1.0);
        large.configuration.load.payload = 1024;
        assert!(figures(&report(vec![measurement(1, 1.0), large])).contains("bytes  "));
    }

    #[test]
    fn several_runs_show_their_spread() {
        let text =
            figures(&report(vec![measurement(1, 100.0), measurement(1, 300.0), measurement(1, 200.0)]));
        assert!(text.contains("3 runs") && text.contains("[100–300]"), "{text}");
    }

    #[test]
    fn a_failed_verification_is_loud() {
        let bad = Measurement { verified: false, verification: "lost 1".to_owned(), ..measurement(1, 1.0) };
        assert!(figures(&report(vec![bad])).contains("NOT VERIFIED: 1 in flight, 64 B: lost 1"));
    }
}
