//! Plays histories of the simulator: `simulate --seeds 1000`, `simulate --minutes 10`,
//! `simulate --replay 42 --trace`.
//!
//! When a seed fails, it is shrunk, and a line is printed that replays what is left, such as
//! `simulate --replay 42 --without kills,partitions --accidents 12 --operations 40 --duration 8.5s`.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::panic;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use annulus_tests::output::{say, say_who_is_alive};
use annulus_tests::reach::Reached;
use annulus_tests::simulator::{Failure, Plan, Reduction, Summary, play, play_reduced};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};

/// Plays whole clusters of the shipped engine on simulated disks, networks and clocks, and checks every step.
#[derive(Parser)]
#[command(
    after_help = "Environment:\n  ANNULUS_MUTANT=NAME  Takes a wrong step on purpose, in a build with `--features mutants`; \
                        `mutants list` names them"
)]
struct Arguments {
    /// How many seeds to play.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Plays seeds for so many minutes, however many they are.
    #[arg(long, conflicts_with = "seeds", value_parser = clap::value_parser!(u64).range(1..=MINUTES_MAX))]
    minutes: Option<u64>,
    /// Threads, each with a seed of its own at any time; as many as there are cores, unless told otherwise.
    #[arg(long)]
    threads: Option<usize>,
    /// How long to look for a smaller history that fails in the same way.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    shrink_seconds: u64,
    /// Plays one seed, twice, and tells how it ended.
    #[arg(long, value_name = "SEED", conflicts_with_all = ["seeds", "from", "minutes", "threads"])]
    replay: Option<u64>,
    /// Fails when a contract or a rare place was never reached: for long runs.
    #[arg(long, conflicts_with = "replay")]
    require_reached: bool,
    /// Prints everything that happens in the replayed seed.
    #[arg(long, requires = "replay")]
    trace: bool,
    #[command(flatten)]
    left_out: LeftOut,
}

/// What to leave out of the replayed seed.
#[derive(clap::Args)]
struct LeftOut {
    /// Accidents of these classes do not happen.
    #[arg(long, value_name = "CLASSES", value_delimiter = ',', value_parser = class, requires = "replay")]
    without: Vec<&'static str>,
    /// Accidents last so long, in seconds of simulated time.
    #[arg(long, value_parser = seconds, requires = "replay")]
    duration: Option<Duration>,
    /// So many nodes take part.
    #[arg(long, requires = "replay")]
    nodes: Option<u16>,
    /// So many rings.
    #[arg(long, requires = "replay")]
    rings: Option<u32>,
    /// After so many accidents nothing goes wrong any more.
    #[arg(long, requires = "replay")]
    accidents: Option<u64>,
    /// After so many commands clients ask nothing more, until the cluster has healed.
    #[arg(long, requires = "replay")]
    operations: Option<u64>,
}

/// One of so many seeds is played twice, to show that it tells the same story.
const TWICE_EVERY: u64 = 100;
/// Failures after which a run ends.
const FAILURES_MAX: u64 = 10;
/// A year.
const MINUTES_MAX: u64 = 366 * 24 * 60;

fn class(name: &str) -> Result<&'static str, String> {
    let names = || Plan::classes().iter().map(|class| class.replace(' ', "-")).collect::<Vec<_>>().join(", ");
    let unknown = || format!("there is no such class; there are {}", names());
    Reduction::class(name).ok_or_else(unknown)
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text.trim_end_matches('s').parse().map_err(|_| "seconds, such as 8.5s".to_owned())?;
    Duration::try_from_secs_f64(number).map_err(|error| error.to_string())
}

impl From<LeftOut> for Reduction {
    fn from(left_out: LeftOut) -> Reduction {
        let LeftOut { without, duration, nodes, rings, accidents, operations } = left_out;
        Reduction { without, duration, nodes, rings, accidents, operations }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Err(misused) = say_who_is_alive() {
        return misused;
    }
    match arguments.replay {
        Some(seed) => replay(seed, arguments),
        None => play_many(&arguments),
    }
}

fn replay(seed: u64, arguments: Arguments) -> ExitCode {
    let limit = Duration::from_secs(arguments.shrink_seconds);
    let (is_traced, reduction) = (arguments.trace, Reduction::from(arguments.left_out));
    match (play_reduced(seed, &reduction, is_traced), play_reduced(seed, &reduction, false)) {
        (Ok(summary), Ok(again)) if summary == again => {
            say(format_args!("{summary}\ndigest {:016x}, the same twice", summary.digest));
            ExitCode::SUCCESS
        }
        (Err(failure), Err(again)) if failure.what == again.what => {
            say(format_args!("{:#?}\n\nwhat happened last:\n{}\n\n{failure}", failure.plan, failure.story));
            if reduction == Reduction::default() && !is_traced {
                panic::set_hook(Box::new(|_| {}));
                let bar = ProgressBar::new_spinner();
                let least = shrink(&failure, limit, &bar);
                bar.finish_and_clear();
                say(format_args!("{least}"));
            }
            ExitCode::FAILURE
        }
        _ => {
            say(format_args!("seed {seed} tells two stories: the simulation is not deterministic"));
            ExitCode::FAILURE
        }
    }
}

/// What a run has come to.
#[derive(Default)]
struct Findings {
    total: Summary,
    /// Rules that some failure broke: one of each is shrunk.
    rules: BTreeSet<String>,
}

/// A run over many seeds, shared by its threads.
struct Run<'a> {
    arguments: &'a Arguments,
    limit: Option<Duration>,
    begin: Instant,
    next: AtomicU64,
    findings: Mutex<Findings>,
    bar: ProgressBar,
}

fn play_many(arguments: &Arguments) -> ExitCode {
    // A panic is a failure like any other: it is told with its seed, and where it comes from by a replay.
    panic::set_hook(Box::new(|_| {}));
    let limit = arguments.minutes.map(|minutes| Duration::from_secs(60 * minutes));
    let run = Run {
        arguments,
        limit,
        begin: Instant::now(),
        next: AtomicU64::new(arguments.from),
        findings: Mutex::default(),
        bar: progress_bar(arguments, limit),
    };
    let cores = || thread::available_parallelism().map_or(1, usize::from);
    let threads = arguments.threads.unwrap_or_else(cores).max(1);
    thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(|| run.play()))));
    run.bar.finish_and_clear();
    let findings = run.findings();
    report(&findings.total, arguments.require_reached, run.begin.elapsed())
}

impl Run<'_> {
    /// One thread's share: seeds as they come.
    fn play(&self) {
        while let Some(seed) = self.next_seed() {
            match play_checked(seed) {
                Ok(summary) => self.findings().total.add(&summary),
                Err(failure) => self.tell(&failure),
            }
            let done = seed + 1 - self.arguments.from;
            self.bar.set_position(self.limit.map_or(done, |_| self.begin.elapsed().as_secs()));
            self.bar.set_message(format!("seed {seed}, {} failed", self.findings().total.failed));
        }
    }

    fn next_seed(&self) -> Option<u64> {
        let seed = self.next.fetch_add(1, Ordering::Relaxed);
        let is_due = match self.limit {
            Some(limit) => self.begin.elapsed() < limit,
            None => seed - self.arguments.from < self.arguments.seeds,
        };
        (is_due && self.findings().total.failed < FAILURES_MAX).then_some(seed)
    }

    fn tell(&self, failure: &Failure) {
        self.bar.suspend(|| say(format_args!("{failure}")));
        let is_new = {
            let mut findings = self.findings();
            findings.total.add(&Summary::of_failure());
            findings.rules.insert(failure.rule.clone())
        };
        let limit = Duration::from_secs(self.arguments.shrink_seconds);
        if is_new && !limit.is_zero() {
            let least = shrink(failure, limit, &self.bar);
            self.bar.suspend(|| say(format_args!("{least}")));
        }
    }

    fn findings(&self) -> MutexGuard<'_, Findings> {
        self.findings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The smallest history found within a time that fails as this one does.
fn shrink(failure: &Failure, limit: Duration, bar: &ProgressBar) -> Failure {
    let (begin, mut tried) = (Instant::now(), 0);
    failure.shrunk(|least| {
        tried += 1;
        bar.set_message(format!("shrinking seed {}, {tried} tried:{}", least.seed, least.reduction));
        bar.tick();
        begin.elapsed() < limit
    })
}

/// Plays a seed; some of them twice.
fn play_checked(seed: u64) -> Result<Summary, Box<Failure>> {
    let summary = play(seed, false)?;
    if seed.is_multiple_of(TWICE_EVERY) && play(seed, false)? != summary {
        return Err(Box::new(Failure::two_stories(seed)));
    }
    Ok(summary)
}

fn progress_bar(arguments: &Arguments, limit: Option<Duration>) -> ProgressBar {
    let length = limit.map_or(arguments.seeds, |limit| limit.as_secs());
    let style = ProgressStyle::with_template("[{bar:40}] {pos}/{len} {msg} ({elapsed})");
    ProgressBar::new(length).with_style(style.expect("the template is constant"))
}

/// Prints what a run has come to; the verdict is the last line.
fn report(total: &Summary, needs_all_reached: bool, took: Duration) -> ExitCode {
    let unreached = Reached::so_far().unreached();
    say(format_args!("{total}\n{unreached}"));
    let hours_per_minute = total.simulated.as_secs_f64() / took.as_secs_f64() / 60.0;
    say(format_args!("{:.1} s, {hours_per_minute:.1} simulated hours per minute", took.as_secs_f64()));
    if total.failed > 0 {
        say(format_args!("FAILED: {} of {} seeds", total.failed, total.seeds));
    } else if needs_all_reached && !unreached.is_empty() {
        say(format_args!("FAILED: {} seeds passed, and not everything was reached", total.seeds));
    } else {
        say(format_args!("passed: {} seeds", total.seeds));
        return ExitCode::SUCCESS;
    }
    ExitCode::FAILURE
}
