//! Plays histories of the simulator: `simulate --seeds 1000`, `simulate --minutes 10`,
//! `simulate --replay 42 --trace`.
#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use annulus_tests::reach::Reached;
use annulus_tests::simulator::{Failure, Summary, play};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};

/// Plays whole clusters of the shipped engine on simulated disks, networks and clocks, and checks every step.
#[derive(Parser)]
struct Arguments {
    /// How many seeds to play.
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Plays seeds for so many minutes, however many they are.
    #[arg(long, conflicts_with = "seeds")]
    minutes: Option<u64>,
    /// Plays one seed, twice, and tells how it ended.
    #[arg(long, conflicts_with_all = ["seeds", "from", "minutes"])]
    replay: Option<u64>,
    /// Fails when a contract or a rare place was never reached: for long runs.
    #[arg(long, conflicts_with = "replay")]
    require_reached: bool,
    /// Prints everything that happens in the replayed seed.
    #[arg(long, requires = "replay")]
    trace: bool,
}

/// One of so many seeds is played twice, to show that it tells the same story.
const TWICE_EVERY: u64 = 100;
/// Failures after which a run ends.
const FAILURES_MAX: usize = 10;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.replay {
        Some(seed) => replay(seed, arguments.trace),
        None => play_many(&arguments),
    }
}

fn replay(seed: u64, is_traced: bool) -> ExitCode {
    match (play(seed, is_traced), play(seed, false)) {
        (Ok(summary), Ok(again)) if summary == again => {
            println!("{summary}\ndigest {:016x}, the same twice", summary.digest);
            ExitCode::SUCCESS
        }
        (Err(failure), Err(_)) => {
            println!("{:#?}\n\nwhat happened last:\n{}\n\n{failure}", failure.plan, failure.story);
            ExitCode::FAILURE
        }
        _ => {
            println!("seed {seed} tells two stories: the simulation is not deterministic");
            ExitCode::FAILURE
        }
    }
}

fn play_many(arguments: &Arguments) -> ExitCode {
    let limit = arguments.minutes.map(|minutes| Duration::from_secs(60 * minutes));
    let bar = progress_bar(arguments, limit);
    let begin = Instant::now();
    let (mut total, mut failures) = (Summary::default(), Vec::new());
    let mut seed = arguments.from;
    while failures.len() < FAILURES_MAX && is_due(arguments, limit, begin, seed) {
        match play_checked(seed) {
            Ok(summary) => total.add(&summary),
            Err(failure) => {
                bar.suspend(|| println!("{failure}"));
                failures.push(failure);
            }
        }
        seed += 1;
        bar.set_position(limit.map_or(seed - arguments.from, |_| begin.elapsed().as_secs()));
        bar.set_message(format!("seed {seed}, {} failed", failures.len()));
    }
    bar.finish_and_clear();
    report(&total, failures.len(), begin.elapsed());
    let unreached = Reached::so_far().unreached();
    println!("{unreached}");
    let is_reached = unreached.is_empty() || !arguments.require_reached;
    if failures.is_empty() && is_reached { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn is_due(arguments: &Arguments, limit: Option<Duration>, begin: Instant, seed: u64) -> bool {
    match limit {
        Some(limit) => begin.elapsed() < limit,
        None => seed - arguments.from < arguments.seeds,
    }
}

/// Plays a seed; some of them twice.
fn play_checked(seed: u64) -> Result<Summary, Box<Failure>> {
    let summary = play(seed, false)?;
    if seed.is_multiple_of(TWICE_EVERY) {
        assert_eq!(play(seed, false)?, summary, "seed {seed} tells two stories");
    }
    Ok(summary)
}

fn progress_bar(arguments: &Arguments, limit: Option<Duration>) -> ProgressBar {
    let length = limit.map_or(arguments.seeds, |limit| limit.as_secs());
    let style = ProgressStyle::with_template("[{bar:40}] {pos}/{len} {msg} ({elapsed})");
    ProgressBar::new(length).with_style(style.expect("the template is constant"))
}

fn report(total: &Summary, failures: usize, took: Duration) {
    let minutes = took.as_secs_f64() / 60.0;
    let hours = total.simulated.as_secs_f64() / 3600.0;
    println!("{total}");
    println!(
        "{failures} failures; {:.1} s, {:.1} simulated hours per minute",
        took.as_secs_f64(),
        hours / minutes
    );
}
