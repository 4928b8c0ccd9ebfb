//! Searches every state of a small world: `explore --states 10000000`.
#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use annulus_rings::Kind;
use annulus_tests::explore::{Bounds, Report, TEACHING, UNNEEDED, explore_and_tell};
use annulus_tests::output::{complain, say, say_who_is_alive};
use clap::{Parser, ValueEnum};
use indicatif::ProgressBar;

/// Searches every state of three replicas of the shipped ring, breadth first, and checks each of them.
#[derive(Parser)]
struct Arguments {
    /// Slots that commands are proposed for.
    #[arg(long, default_value_t = 2)]
    slots: u64,
    /// Replicas that stand for election, 1 to 3.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=3))]
    candidates: u8,
    /// The highest round of a ballot.
    #[arg(long, default_value_t = 3)]
    rounds: u64,
    /// Crashes and restarts, of all replicas together.
    #[arg(long, default_value_t = 1)]
    restarts: u8,
    /// Snapshots, and journals that are written again, of all replicas together.
    #[arg(long, default_value_t = 0)]
    cuts: u8,
    /// Begin where slot 0 was chosen without node 3, and is in snapshots alone.
    #[arg(long)]
    cut: bool,
    /// Bytes of chosen slots that a ring keeps in memory.
    #[arg(long, default_value_t = 1 << 20)]
    retain_bytes: usize,
    /// Letters that are always lost, beside those that may be.
    #[arg(long, default_value = "unneeded")]
    lost: Lost,
    /// Distinct states after which the search stops.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    states: u64,
    /// Minutes after which the search stops.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=MINUTES_MAX))]
    minutes: Option<u64>,
}

/// A year.
const MINUTES_MAX: u64 = 366 * 24 * 60;
/// How often a line tells how far the search is where no bar can.
const TELL_INTERVAL: Duration = Duration::from_secs(10);

/// Kinds of letters that are always lost.
#[derive(Clone, Copy, ValueEnum)]
enum Lost {
    /// None.
    Nothing,
    /// Refusals and the answers to heartbeats: they only make things faster.
    Unneeded,
    /// All but Prepare, Promise, Accept and Accepted.
    Teaching,
}

impl Lost {
    fn kinds(self) -> &'static [Kind] {
        match self {
            Lost::Nothing => &[],
            Lost::Unneeded => &UNNEEDED,
            Lost::Teaching => &TEACHING,
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Err(misused) = say_who_is_alive() {
        return misused;
    }
    let bounds = Bounds {
        slots: arguments.slots,
        candidates: usize::from(arguments.candidates),
        rounds: arguments.rounds,
        restarts: arguments.restarts,
        cuts: arguments.cuts,
        is_cut: arguments.cut,
        retain_bytes: arguments.retain_bytes,
        lost: arguments.lost.kinds(),
        states_max: usize::try_from(arguments.states).unwrap_or(usize::MAX),
        time_max: arguments.minutes.map_or(Duration::MAX, |minutes| Duration::from_secs(60 * minutes)),
    };
    let bar = ProgressBar::new_spinner();
    let mut told = Instant::now();
    let found = explore_and_tell(bounds, |Report { states, depth, .. }| {
        bar.set_message(format!("{states} states, depth {depth}"));
        bar.tick();
        if bar.is_hidden() && told.elapsed() >= TELL_INTERVAL {
            told = Instant::now();
            complain(format_args!("{states} states, depth {depth}"));
        }
    });
    bar.finish_and_clear();
    match found {
        Ok(report) => {
            say(format_args!("{report}"));
            ExitCode::SUCCESS
        }
        Err(counterexample) => {
            say(format_args!("{counterexample}"));
            ExitCode::FAILURE
        }
    }
}
