//! `annulus-bench idle`: what a cluster costs that has nothing to do.

use std::error::Error;
use std::io;
use std::time::{Duration, Instant};

use crate::cli::IdleOptions;
use crate::cluster::Cluster;
use crate::configuration::Journal;
use crate::environment::Environment;
use crate::home::Home;
use crate::process;
use crate::progress::Progress;

/// After the election, until timers have settled.
const SETTLE: Duration = Duration::from_secs(1);

/// Measures the CPU time of every replica process while nothing happens.
pub(crate) fn idle(options: &IdleOptions) -> Result<bool, Box<dyn Error>> {
    let cores = options.cores;
    let rings = options.rings.unwrap_or(u32::from(cores));
    let configuration = options.cluster.configuration(cores, rings)?;
    configuration.check()?;
    if !(0.1..=600.0).contains(&options.seconds) {
        return Err(format!("--seconds {}: measure from 0.1 to 600 seconds", options.seconds).into());
    }
    let home = Home::choose(options.cluster.dir.as_deref(), configuration.journal == Journal::File)?;
    let placement = options.cluster.pin.place(
        usize::from(configuration.replicas),
        usize::from(cores),
        &process::allowed_cpus(),
    )?;
    let room = home.room()?;

    let mut progress = Progress::new();
    progress.step("starting replicas");
    let mut cluster = Cluster::start(&configuration, false, &placement, room.path(), &mut progress)?;
    cluster.wait_for_leaders()?;
    std::thread::sleep(SETTLE);
    cluster.mark()?;
    let percents =
        cpu_percents(&cluster.processes(), Duration::from_secs_f64(options.seconds), &mut progress)?;
    let counts = cluster.count()?;
    progress.finish();

    for warning in Environment::look(home.path()).warnings(&configuration) {
        println!("warning: {warning}");
    }
    for (name, percent) in percents {
        println!("{name}: {percent:.2} % of a CPU");
    }
    for count in counts {
        let per_second = |number: u64| number as f64 / options.seconds;
        println!(
            "node {}: {:.0} turns/s, {:.0} parks/s",
            count.node,
            per_second(count.turns),
            per_second(count.parks)
        );
    }
    Ok(true)
}

/// By process, in per cent of one CPU.
fn cpu_percents(
    processes: &[(String, u32)],
    duration: Duration,
    progress: &mut Progress,
) -> io::Result<Vec<(String, f64)>> {
    let times = || processes.iter().map(|(_, pid)| process::cpu_time(*pid));
    let before = times().collect::<io::Result<Vec<_>>>()?;
    let began = Instant::now();
    progress.timed_step("idle", duration);
    while began.elapsed() < duration {
        std::thread::sleep(Duration::from_millis(100).min(duration));
        progress.at(began.elapsed(), "");
    }
    let wall = began.elapsed().as_secs_f64();
    let after = times().collect::<io::Result<Vec<_>>>()?;
    let used = after.iter().zip(&before).map(|(after, before)| after.saturating_sub(*before).as_secs_f64());
    let percents = processes.iter().zip(used).map(|((name, _), used)| (name.clone(), used / wall * 100.0));
    Ok(percents.collect())
}
