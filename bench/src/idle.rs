//! `annulus-bench idle`: what a cluster costs that has nothing to do.

use std::time::{Duration, Instant};

use crate::cli::IdleOptions;
use crate::cluster::Cluster;
use crate::environment::Environment;
use crate::home::Home;
use crate::process;
use crate::progress::Progress;

/// After the election, until timers have settled.
const SETTLE: Duration = Duration::from_secs(1);

/// Measures the CPU time of every replica process while nothing happens.
pub(crate) fn idle(options: &IdleOptions) -> Result<bool, String> {
    let text = |error: &dyn std::error::Error| error.to_string();
    let cores = options.cores;
    let rings = options.rings.unwrap_or(u32::from(cores));
    let configuration = options.cluster.configuration(cores, rings).map_err(|error| text(&error))?;
    configuration.check().map_err(|error| text(&error))?;
    if !(0.1..=600.0).contains(&options.seconds) {
        return Err(format!("--seconds {}: measure from 0.1 to 600 seconds", options.seconds));
    }
    let home = Home::choose(options.cluster.dir.as_deref(), configuration.is_durable())
        .map_err(|error| text(&error))?;
    let placement = options
        .cluster
        .pin
        .place(usize::from(configuration.replicas), usize::from(cores), &process::allowed_cpus())
        .map_err(|error| text(&error))?;
    let room = home.room().map_err(|error| text(&error))?;

    let mut progress = Progress::new();
    progress.step("starting replicas");
    let mut cluster = Cluster::start(&configuration, false, &placement, room.path(), &mut progress)
        .map_err(|error| text(&error))?;
    cluster.wait_for_leaders().map_err(|error| text(&error))?;
    std::thread::sleep(SETTLE);
    cluster.mark().map_err(|error| text(&error))?;
    let percents = cpu_percents(&cluster.pids(), Duration::from_secs_f64(options.seconds), &mut progress)?;
    let counts = cluster.count().map_err(|error| text(&error))?;
    progress.finish();

    for warning in Environment::look(home.path()).warnings(&configuration) {
        println!("warning: {warning}");
    }
    for (index, percent) in percents.iter().enumerate() {
        println!("process {}: {percent:.2} % of a CPU", index + 1);
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

fn cpu_percents(pids: &[u32], duration: Duration, progress: &mut Progress) -> Result<Vec<f64>, String> {
    let times = || pids.iter().map(|&pid| process::cpu_time(pid).map_err(|error| error.to_string()));
    let before = times().collect::<Result<Vec<_>, _>>()?;
    let began = Instant::now();
    progress.timed_step("idle", duration);
    while began.elapsed() < duration {
        std::thread::sleep(Duration::from_millis(100).min(duration));
        progress.at(began.elapsed(), "");
    }
    let wall = began.elapsed();
    let after = times().collect::<Result<Vec<_>, _>>()?;
    let percent = |(after, before): (&Duration, &Duration)| {
        after.saturating_sub(*before).as_secs_f64() / wall.as_secs_f64() * 100.0
    };
    Ok(after.iter().zip(&before).map(percent).collect())
}
