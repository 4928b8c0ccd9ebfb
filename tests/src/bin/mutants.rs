//! Brings every mutant to life, one after the other, and tells which test notices it.
//!
//! ```text
//! cargo run --profile test -p annulus-tests --features mutants --bin mutants            every test on every mutant
//! cargo run --profile test -p annulus-tests --features mutants --bin mutants -- quick   until the first test notices
//! cargo run --profile test -p annulus-tests --features mutants --bin mutants -- NAME…   these mutants only
//! ```
//! It exits with 1 when a mutant survives. Each suite runs in a process of its own, with `ANNULUS_MUTANT` in
//! its environment: a mutant may hang or eat memory, and a suite that does not end in time has noticed it too.
#![forbid(unsafe_code)]

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use std::{env, fs, panic, thread};

use annulus_rings::mutant::{self, Mutant};
use annulus_tests::chaos::Chaos;
use annulus_tests::explore::{Bounds, Counterexample, TEACHING, explore};
use annulus_tests::scenario;

/// Which mutant is alive.
const ALIVE: &str = "ANNULUS_MUTANT";
/// What makes this program play one suite and say what it noticed.
const SUITE: &str = "ANNULUS_MUTANT_SUITE";
/// Histories that a mutant must survive to be called a survivor of chaos.
const SEEDS: u64 = 2000;
/// States of each small world that it must survive.
const STATES: usize = 400_000;
/// A suite that takes longer hangs.
const SUITE_TIME_MAX: Duration = Duration::from_mins(1);

/// A way to notice a mutant.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Suite {
    /// The tests of the crate rings.
    Rings,
    /// Golden scripts.
    Scripts,
    /// Every state of a small world.
    States,
    /// Seeded accidents.
    Chaos,
    /// The tests of the crate storage.
    Storage,
}

const SUITES: [(Suite, &str); 5] = [
    (Suite::Rings, "rings"),
    (Suite::Scripts, "scripts"),
    (Suite::States, "states"),
    (Suite::Chaos, "chaos"),
    (Suite::Storage, "storage"),
];

fn main() -> ExitCode {
    if let Ok(name) = env::var(SUITE) {
        return play(&name);
    }
    let arguments: Vec<String> = env::args().skip(1).collect();
    let quick = arguments.iter().any(|argument| argument == "quick");
    let names: Vec<&String> = arguments.iter().filter(|argument| *argument != "quick").collect();
    if let Some(unknown) = names.iter().find(|name| mutant::ALL.iter().all(|mutant| mutant.name != **name)) {
        eprintln!("There is no mutant {unknown}.");
        return ExitCode::from(2);
    }
    let is_meant = |mutant: &&Mutant| names.is_empty() || names.iter().any(|name| *name == mutant.name);
    let mutants: Vec<&Mutant> = mutant::ALL.iter().filter(is_meant).collect();
    match hunt(&mutants, quick) {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// Tries every mutant, prints the table, and returns how many survived.
fn hunt(mutants: &[&Mutant], quick: bool) -> usize {
    let start = Instant::now();
    let suites = SUITES.map(|(suite, name)| (suite, name, programs(suite)));
    for (_, name, programs) in &suites {
        if let Some(noticed) = notice(name, programs, None) {
            eprintln!("Without any mutant there is something to notice too: {noticed}");
            return 1;
        }
    }
    println!("{:<32} {:<5} {:<30} noticed by", "mutant", "breaks", "seen in");
    let mut survivors = Vec::new();
    for mutant in mutants {
        let mut found = Vec::new();
        for (suite, name, programs) in &suites {
            let concerns = (*suite == Suite::Storage) == (mutant.home == "storage");
            if concerns && (!quick || found.is_empty()) {
                found.extend(notice(name, programs, Some(mutant)));
            }
        }
        if found.is_empty() {
            survivors.push(mutant.name);
            found.push("NOTHING".to_owned());
        }
        println!("{:<32} {:<5} {:<30} {}", mutant.name, mutant.breaks, mutant.origin, found.join(" | "));
    }
    let caught = mutants.len() - survivors.len();
    println!("{caught} of {} mutants noticed, in {:.0?}", mutants.len(), start.elapsed());
    for name in &survivors {
        eprintln!("{name} survives: write the smallest test that notices it.");
    }
    survivors.len()
}

/// What makes up a suite.
fn programs(suite: Suite) -> Vec<PathBuf> {
    match suite {
        Suite::Rings => test_binaries("annulus-rings"),
        Suite::Storage => test_binaries("annulus-storage"),
        Suite::Scripts | Suite::States | Suite::Chaos => {
            vec![env::current_exe().expect("the path of this program")]
        }
    }
}

/// What a suite says of a mutant, when it notices it.
fn notice(suite: &str, programs: &[PathBuf], mutant: Option<&Mutant>) -> Option<String> {
    let noticed = programs.iter().find_map(|program| run(program, suite, mutant));
    noticed.map(|what| format!("{suite}: {what}"))
}

/// Runs one program of a suite; what it noticed, if anything.
fn run(program: &Path, suite: &str, mutant: Option<&Mutant>) -> Option<String> {
    let mut command = Command::new(program);
    command.env(ALIVE, mutant.map_or("", |mutant| mutant.name)).env(SUITE, suite);
    // The same arbitrary inputs every time; what fails is no regression of the right code.
    command.env("PROPTEST_RNG_SEED", "1").env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "1");
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("the program starts");
    let mut stdout = child.stdout.take().expect("its output is piped");
    let reader = thread::spawn(move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).map(|_| text).unwrap_or_default()
    });
    let start = Instant::now();
    let status = loop {
        match child.try_wait().expect("a child can be waited for") {
            Some(status) => break status,
            None if start.elapsed() > SUITE_TIME_MAX => {
                child.kill().expect("a child can be killed");
                child.wait().expect("a child that was killed ends");
                return Some(format!("does not end within {SUITE_TIME_MAX:?}"));
            }
            None => thread::sleep(Duration::from_millis(5)),
        }
    };
    let text = reader.join().unwrap_or_default();
    (!status.success()).then(|| told(&text))
}

/// The first thing that a suite says it noticed.
fn told(text: &str) -> String {
    let noticed = text.lines().find_map(|line| line.strip_prefix("noticed: ").map(str::to_owned));
    let failed = || {
        let line = text.lines().find(|line| line.starts_with("test ") && line.ends_with("FAILED"))?;
        Some(line.trim_start_matches("test ").split(' ').next().unwrap_or_default().to_owned())
    };
    let test = noticed.or_else(failed).unwrap_or_else(|| "the process dies".to_owned());
    let rule = text.split("contract ").nth(1).and_then(|rest| rest.split(' ').next());
    match rule {
        Some(rule) if !test.contains("contract") => format!("{test} (contract {rule})"),
        _ => test,
    }
}

/// The test programs of a crate, built with every mutant.
fn test_binaries(package: &str) -> Vec<PathBuf> {
    let mut command = Command::new(env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()));
    command.args(["test", "--no-run", "--locked", "--lib", "--tests", "-p", package]);
    command.args(["--features", "annulus-rings/mutants"]);
    let built = command.stderr(Stdio::piped()).output().expect("cargo runs");
    let text = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "{text}");
    let paths = text.lines().filter_map(|line| line.trim().strip_prefix("Executable ")?.split('(').nth(1));
    let paths: Vec<PathBuf> = paths.map(|path| workspace().join(path.trim_end_matches(')'))).collect();
    assert!(!paths.is_empty(), "cargo names no test program: {text}");
    paths
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace")
}

/// Plays one suite with the mutant that the environment names, and says what it noticed.
fn play(suite: &str) -> ExitCode {
    let noticed = match suite {
        "chaos" => play_chaos(),
        "scripts" => play_scripts(),
        "states" => search(),
        _ => Some(format!("there is no suite {suite}")),
    };
    let Some(noticed) = noticed else { return ExitCode::SUCCESS };
    println!("noticed: {noticed}");
    ExitCode::FAILURE
}

fn play_chaos() -> Option<String> {
    let seeds_max = if env::var(ALIVE).is_ok_and(|name| !name.is_empty()) { SEEDS } else { 100 };
    (1..=seeds_max).find_map(|seed| {
        let panic = caught(|| _ = Chaos::new(seed).run())?;
        Some(format!("{panic}, seed {seed}"))
    })
}

fn play_scripts() -> Option<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let entries = fs::read_dir(folder).expect("the folder of the scripts");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths.iter().find_map(|path| {
        let written = fs::read_to_string(path).expect("the script is readable");
        let mut is_told = false;
        let panic = caught(|| is_told = scenario::play(&written).as_ref() == Ok(&written));
        let script = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        match panic {
            Some(panic) => Some(format!("{script} ({panic})")),
            None => (!is_told).then_some(script),
        }
    })
}

/// The shortest way to a broken rule in a small world: without restarts as far as it goes, then with one,
/// then with slots that leave memory.
fn search() -> Option<String> {
    let usual = Bounds { states_max: STATES, ..Bounds::default() };
    let worlds = [
        Bounds { slots: 1, rounds: 2, restarts: 0, lost: &TEACHING, ..usual },
        Bounds { slots: 1, lost: &TEACHING, ..usual },
        Bounds { retain_bytes: 0, restarts: 0, ..usual },
    ];
    let quiet = |_: &panic::PanicHookInfo| {};
    panic::set_hook(Box::new(quiet));
    let found = worlds.into_iter().find_map(|bounds| explore(bounds).err());
    found.map(|Counterexample { what, path }| format!("{}, step {}", short(&what), path.len() - 1))
}

/// The rule that a panic names, when `action` panics.
fn caught(action: impl FnOnce()) -> Option<String> {
    static MESSAGE: Mutex<String> = Mutex::new(String::new());
    panic::set_hook(Box::new(|panic| {
        let mut message = MESSAGE.lock().expect("nothing panics while it holds the message");
        panic.payload_as_str().unwrap_or_default().clone_into(&mut message);
    }));
    let result = panic::catch_unwind(panic::AssertUnwindSafe(action));
    drop(panic::take_hook());
    result.is_err().then(|| short(&MESSAGE.lock().expect("the hook is done")))
}

/// `contract A1`, the rule that the observer names, or the beginning of the message.
fn short(message: &str) -> String {
    let words: Vec<&str> = message.split_whitespace().collect();
    match words[..] {
        ["contract", id, ..] => format!("contract {id}"),
        [id, "violated:", ..] => format!("observer {id}"),
        [id, ..] if id.ends_with(':') => format!("observer {}", id.trim_end_matches(':')),
        _ => message.lines().next().unwrap_or_default().chars().take(50).collect(),
    }
}
