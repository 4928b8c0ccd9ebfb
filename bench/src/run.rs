//! `annulus-bench run`: the floor, every row, the report.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::cli::{FloorOptions, RunOptions};
use crate::configuration::{Configuration, Journal, Load};
use crate::environment::Environment;
use crate::floor::{self, Floor};
use crate::home::Home;
use crate::measurement::{Measurement, Report};
use crate::placement::{Pin, PinError, Placement};
use crate::progress::Progress;
use crate::row::Trial;
use crate::{process, report, row};

/// Measures what the options ask for. True when every row was verified.
pub(crate) fn run(options: &RunOptions) -> Result<bool, Box<dyn Error>> {
    let rows = options.rows()?;
    let first = rows.first().ok_or("there is nothing to measure: a list is empty")?;
    let needs_disk = first.cluster.journal == Journal::File;
    let home = Home::choose(options.cluster.dir.as_deref(), needs_disk)?;
    if let Some(path) = &options.json {
        check_writable(path)?;
    }
    let placements = placements(&rows, &options.cluster.pin)?;
    let environment = Environment::look(home.path());
    let warnings = environment.warnings(&first.cluster);
    print!("{}", report::heading(&environment, first, &placements[0]));
    println!();

    let mut progress = Progress::new();
    let mut floors = Vec::new();
    let mut measured = Vec::new();
    for run in 1..=options.runs {
        let floor = measure_floor(&home, needs_disk, &placements[0], first.cluster.spin_us, &mut progress)?;
        floors.push(floor);
        for (configuration, placement) in rows.iter().zip(&placements) {
            let trial = Trial { configuration, placement, floor: &floor, run };
            let measurement = row::measure(trial, &home, &mut progress)?;
            progress.print(&line(&measurement, options.runs));
            measured.push(measurement);
        }
    }
    progress.finish();
    let report = Report::new(Floor::median(&floors), environment, warnings, measured);
    print!("\n{}", report::figures(&report));
    if let Some(path) = &options.json {
        write_json(path, &report)?;
    }
    Ok(report.headline.verified)
}

/// `annulus-bench floor`.
pub(crate) fn floor(options: &FloorOptions) -> Result<bool, Box<dyn Error>> {
    let home = Home::choose(options.dir.as_deref(), true)?;
    let placement = Pin::Auto.place(usize::from(options.replicas.max(1)), 1, &process::allowed_cpus())?;
    let mut progress = Progress::new();
    let floor = measure_floor(&home, true, &placement, options.spin_us, &mut progress)?;
    progress.finish();
    print!("{}", report::floor(&floor));
    Ok(true)
}

fn measure_floor(
    home: &Home,
    needs_disk: bool,
    placement: &Placement,
    spin_us: u64,
    progress: &mut Progress,
) -> Result<Floor, Box<dyn Error>> {
    let spin = Duration::from_micros(spin_us);
    progress.step("floor: TCP round trips");
    let tcp_rtt_us_p50 =
        floor::tcp_round_trip_us(placement, spin).map_err(|error| format!("the TCP floor: {error}"))?;
    let mut floor = Floor { tcp_rtt_us_p50, durable_write_us_p50: None };
    if needs_disk {
        progress.step("floor: durable writes");
        let room = home.room()?;
        let write_us = floor::durable_write_us(room.path(), placement, spin);
        floor.durable_write_us_p50 = Some(write_us.map_err(|error| format!("the disk floor: {error}"))?);
    }
    Ok(floor)
}

/// Where each row's processes go.
fn placements(rows: &[Configuration], pin: &Pin) -> Result<Vec<Placement>, PinError> {
    let allowed = process::allowed_cpus();
    let place = |row: &Configuration| {
        let (replicas, cores) = (usize::from(row.cluster.replicas), usize::from(row.cluster.cores));
        let mut placement = pin.place(replicas, cores, &allowed)?;
        if row.load.load == Load::Embedded {
            placement.client.clear();
        }
        Ok(placement)
    };
    rows.iter().map(place).collect()
}

/// What a person reads as soon as a row is measured.
fn line(row: &Measurement, runs: u32) -> String {
    let run = if runs > 1 { format!("run {} of {runs}: ", row.run) } else { String::new() };
    format!(
        "{run}{}: {} commits/s, p50 {}, {}  ({})",
        row::title(&row.configuration),
        crate::format::whole(row.committed_per_second),
        crate::format::duration_us(row.latency_us.p50),
        if row.verified { "verified" } else { "NOT VERIFIED" },
        report::cpu(row)
    )
}

/// Better to fail before the measurement than after it.
fn check_writable(path: &Path) -> Result<(), String> {
    fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map(drop)
        .map_err(|error| format!("cannot write --json {}: {error}", path.display()))
}

fn write_json(path: &Path, report: &Report) -> Result<(), String> {
    let text = serde_json::to_string_pretty(report).expect("a report is always JSON") + "\n";
    fs::write(path, text).map_err(|error| format!("cannot write --json {}: {error}", path.display()))
}
