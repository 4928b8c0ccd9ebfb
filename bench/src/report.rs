//! Figures for a person.

use crate::configuration::{ClusterConfiguration, Configuration, Journal, Load, Transport, word};
use crate::control::Stage;
use crate::environment::Environment;
use crate::floor::Floor;
use crate::format::{count, duration_us, ratio, table, whole};
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
    };
    format!(
        "{} {processes} · {journal} · {} runner · window {} slots · batches to {} KiB · spin {} µs",
        cluster.replicas,
        word(&cluster.runner),
        cluster.window_slots,
        cluster.batch_bytes >> 10,
        cluster.spin_us
    )
}

fn load(configuration: &Configuration) -> String {
    match configuration.load.load {
        Load::Client => format!("a client process, {} connections", configuration.sessions()),
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

/// The main table: a row per configuration, with the spread where there were several runs.
fn rows(groups: &[Vec<&Measurement>]) -> String {
    let titles = [
        "in flight",
        "cores",
        "rings",
        "bytes",
        "commits/s",
        "p50",
        "p90",
        "p99",
        "p99.9",
        "max",
        "CPU µs/commit",
        "flushes/s",
        "commits/flush",
        "bytes/commit",
        "p50/floor",
    ];
    let mut cells: Vec<Vec<String>> = Vec::new();
    for group in groups {
        cells.push(cells_of(median_run(group.clone())));
        if group.len() > 1 {
            cells.push(spread_cells(group));
        }
    }
    table(&titles, &cells)
}

fn cells_of(row: &Measurement) -> Vec<String> {
    let Configuration { cluster, load } = &row.configuration;
    let latency = &row.latency_us;
    let committed = row.committed.max(1) as f64;
    // A commit is written by every replica: per replica is what compares with other systems.
    let flushes_per_replica = row.flushes as f64 / f64::from(cluster.replicas);
    vec![
        count(load.outstanding),
        cluster.cores.to_string(),
        cluster.rings.to_string(),
        load.payload.to_string(),
        whole(row.committed_per_second),
        duration_us(latency.p50),
        duration_us(latency.p90),
        duration_us(latency.p99),
        duration_us(latency.p999),
        duration_us(latency.max),
        ratio(row.cpu_us_per_commit),
        whole(flushes_per_replica / row.seconds),
        if row.flushes == 0 { "—".to_owned() } else { ratio(committed / flushes_per_replica) },
        whole(row.bytes_written as f64 / committed / f64::from(cluster.replicas)),
        row.p50_over_floor.map_or_else(|| "—".to_owned(), ratio),
    ]
}

/// Under the median run: least and most of what matters.
fn spread_cells(group: &[&Measurement]) -> Vec<String> {
    let spread = |figure: &dyn Fn(&Measurement) -> f64, show: &dyn Fn(f64) -> String| {
        let Spread { min, max, .. } = Spread::of(group, figure);
        format!("[{}–{}]", show(min), show(max))
    };
    let latency = |figure: &dyn Fn(&Measurement) -> f64| spread(figure, &duration_us);
    let none = String::new;
    vec![
        format!("  {} runs", group.len()),
        none(),
        none(),
        none(),
        spread(&|row| row.committed_per_second, &whole),
        latency(&|row| row.latency_us.p50),
        latency(&|row| row.latency_us.p90),
        latency(&|row| row.latency_us.p99),
        latency(&|row| row.latency_us.p999),
        latency(&|row| row.latency_us.max),
        spread(&|row| row.cpu_us_per_commit, &ratio),
        none(),
        none(),
        none(),
        if group[0].p50_over_floor.is_some() {
            spread(&|row| row.p50_over_floor.unwrap_or(0.0), &ratio)
        } else {
            none()
        },
    ]
}

/// The stage table of a row's leader.
fn stages(row: &Measurement) -> String {
    let cells = |stage: &Stage| {
        let name = stage.name.replace('_', " ");
        vec![name, duration_us(stage.p50_us), duration_us(stage.p99_us), count(stage.count)]
    };
    let cells: Vec<Vec<String>> = row.stages.iter().map(cells).collect();
    let table = table(&["stage", "p50", "p99", "times"], &cells);
    format!("\nwhere the microseconds go, {}\n{table}", title(&row.configuration))
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
