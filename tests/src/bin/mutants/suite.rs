//! The suites that may notice a mutant, each run in processes of its own.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fmt, thread};

use annulus_rings::contract;
use annulus_rings::mutant::Mutant;
use annulus_tests::faults::ALIVE;

/// What makes this program play one suite and say what it noticed.
pub const PLAY: &str = "ANNULUS_MUTANT_SUITE";
/// A suite that takes longer hangs.
const TIME_MAX: Duration = Duration::from_mins(1);

/// A way to notice a mutant. Cheap ones come first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Suite {
    /// The tests of the crate rings.
    Rings,
    /// Golden scripts.
    Scripts,
    /// Every state of a small world.
    States,
    /// Seeded accidents of pure rings.
    Chaos,
    /// The tests of the crate storage.
    Storage,
    /// The unit tests of the engine.
    Engine,
    /// Simulated clusters of the shipped core.
    Simulator,
}

impl Suite {
    /// Every suite.
    pub const ALL: [Suite; 7] = [
        Suite::Rings,
        Suite::Scripts,
        Suite::States,
        Suite::Chaos,
        Suite::Storage,
        Suite::Engine,
        Suite::Simulator,
    ];
    /// Those that are the tests of a crate.
    pub const OF_CRATES: [Suite; 3] = [Suite::Rings, Suite::Storage, Suite::Engine];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Suite::Rings => "rings",
            Suite::Scripts => "scripts",
            Suite::States => "states",
            Suite::Chaos => "chaos",
            Suite::Storage => "storage",
            Suite::Engine => "engine",
            Suite::Simulator => "simulator",
        }
    }

    /// Whether it runs the code in which the mutant is.
    pub fn concerns(self, mutant: &Mutant) -> bool {
        match self {
            Suite::Simulator => true,
            Suite::Storage => mutant.home == "storage",
            Suite::Engine => mutant.home == "engine",
            Suite::Rings | Suite::Scripts | Suite::States | Suite::Chaos => mutant.home == "rings",
        }
    }

    /// The programs that make it up.
    pub fn programs(self) -> Vec<PathBuf> {
        match self {
            Suite::Rings => test_binaries("annulus-rings", &["--lib", "--tests"]),
            Suite::Storage => test_binaries("annulus-storage", &["--lib", "--tests"]),
            // Its other tests start real nodes.
            Suite::Engine => test_binaries("annulus", &["--lib"]),
            Suite::Scripts | Suite::States | Suite::Chaos | Suite::Simulator => {
                vec![env::current_exe().expect("the path of this program")]
            }
        }
    }
}

/// What noticed a mutant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Notice {
    /// The check: `contract A1`, `observer G2`, or the message of a test.
    pub check: String,
    /// The test, the script, or how many seeds it took.
    pub place: String,
}

impl Notice {
    /// The line by which a program that plays a suite tells what it noticed.
    pub fn line(&self) -> String {
        format!("noticed: {}\t{}", self.check, self.place)
    }

    fn parse(line: &str) -> Option<Notice> {
        let (check, place) = line.strip_prefix("noticed: ")?.split_once('\t')?;
        Some(Notice { check: check.to_owned(), place: place.to_owned() })
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.check, self.place)
    }
}

/// Runs the programs of a suite until one notices something.
pub fn notice(play: &str, programs: &[PathBuf], mutant: Option<&Mutant>) -> Option<Notice> {
    programs.iter().find_map(|program| {
        let (is_silent, text) = run(program, play, mutant);
        (!is_silent).then(|| told(&text))
    })
}

/// Runs one program of a suite: whether it noticed nothing, and what it printed.
pub fn run(program: &Path, play: &str, mutant: Option<&Mutant>) -> (bool, String) {
    let mut command = Command::new(program);
    command.env(ALIVE, mutant.map_or("", |mutant| mutant.name)).env(PLAY, play);
    // The same arbitrary inputs every time; what fails is no regression of the right code.
    command.env("PROPTEST_RNG_SEED", "1").env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "1");
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    if Some(program) != env::current_exe().ok().as_deref() {
        command.arg("--test-threads=1"); // So that the first failure is the same every time.
    }
    let mut child = command.spawn().expect("the program starts");
    let mut stdout = child.stdout.take().expect("its output is piped");
    let reader = thread::spawn(move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).map(|_| text).unwrap_or_default()
    });
    let start = Instant::now();
    let is_silent = loop {
        match child.try_wait().expect("a child can be waited for") {
            Some(status) => break status.success(),
            None if start.elapsed() > TIME_MAX => {
                child.kill().expect("a child can be killed");
                child.wait().expect("a child that was killed ends");
                let hangs =
                    Notice { check: format!("does not end within {TIME_MAX:?}"), place: play.to_owned() };
                return (false, reader.join().unwrap_or_default() + &hangs.line());
            }
            None => thread::sleep(Duration::from_millis(5)),
        }
    };
    (is_silent, reader.join().unwrap_or_default())
}

/// The first thing that a suite says it noticed.
fn told(text: &str) -> Notice {
    if let Some(notice) = text.lines().find_map(Notice::parse) {
        return notice;
    }
    let line = text.lines().find(|line| line.starts_with("test ") && line.ends_with("FAILED"));
    let test = line.and_then(|line| line.trim_start_matches("test ").split(' ').next());
    let is_rule = |word: &&str| contract::ALL.iter().any(|contract| contract.id == *word);
    let words = text.split("contract ").skip(1).filter_map(|rest| rest.split(' ').next());
    let rule = words.into_iter().find(is_rule);
    Notice {
        check: rule.map_or_else(|| "assertion of the test".to_owned(), |rule| format!("contract {rule}")),
        place: test.unwrap_or("the process dies").to_owned(),
    }
}

/// Test programs of a crate, built with every mutant.
fn test_binaries(package: &str, which: &[&str]) -> Vec<PathBuf> {
    let mut command = Command::new(env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()));
    command.args(["test", "--no-run", "--locked", "-p", package]).args(which);
    command.args(["--features", "annulus-rings/mutants"]);
    let built = command.stderr(Stdio::piped()).output().expect("cargo runs");
    let text = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "{text}");
    let paths = text.lines().filter_map(|line| line.trim().strip_prefix("Executable ")?.split('(').nth(1));
    let paths: Vec<PathBuf> = paths.map(|path| workspace().join(path.trim_end_matches(')'))).collect();
    assert!(!paths.is_empty(), "cargo names no test program: {text}");
    paths
}

/// The root of the sources.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace")
}
