//! What a process of a suite does: it plays with the mutant that its environment names.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::{env, fs, panic};

use annulus_rings::mutant;
use annulus_tests::chaos::Chaos;
use annulus_tests::explore::{Bounds, Counterexample, TEACHING, explore};
use annulus_tests::faults::ALIVE;
use annulus_tests::{scenario, simulator};

use crate::suite::Notice;

/// Histories of pure rings that a mutant must survive to be called a survivor of chaos.
const CHAOS_SEEDS: u64 = 2000;
/// Histories of simulated clusters that it must survive.
const SIMULATOR_SEEDS: u64 = 100;
/// Histories that show that without a mutant there is nothing to notice.
const SEEDS_WITHOUT: u64 = 20;
/// States of each small world that it must survive.
const STATES: usize = 400_000;
/// Histories in which a contract is looked for that a mutant violates.
const SEEDS_OF_A_WITNESS: u64 = 30;

/// Plays `what`: a suite, `chaos 17`, `simulator 17`, `scripts name`, or `witness A1`.
pub fn play(what: &str) -> Option<Notice> {
    let (suite, argument) = what.split_once(' ').unwrap_or((what, ""));
    let seed = argument.parse().ok();
    match suite {
        "chaos" => seed.map_or_else(|| seeds(CHAOS_SEEDS, chaos), chaos),
        "simulator" => seed.map_or_else(|| seeds(SIMULATOR_SEEDS, simulated), simulated),
        "scripts" => scripts(argument),
        "states" => search(),
        "witness" => witness(argument),
        _ => Some(Notice { check: format!("there is no suite {suite}"), place: String::new() }),
    }
}

/// Looks for the shortest history in which the contract itself stops the mutant.
fn witness(contract: &str) -> Option<Notice> {
    let speaks = |notice: &Notice| notice.check == format!("contract {contract}");
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let of_scripts = || script_paths(&home).iter().filter_map(|path| script(path)).find(speaks);
    let of_chaos = || (1..=SEEDS_OF_A_WITNESS).filter_map(chaos).find(speaks);
    let of_simulator = || (1..=SEEDS_OF_A_WITNESS).filter_map(simulated).find(speaks);
    let name = env::var(ALIVE).unwrap_or_default();
    let is_in_rings = mutant::ALL.iter().any(|mutant| mutant.name == name && mutant.home == "rings");
    is_in_rings.then(|| of_scripts().or_else(of_chaos)).flatten().or_else(of_simulator)
}

fn seeds(seeds_max: u64, play: fn(u64) -> Option<Notice>) -> Option<Notice> {
    let is_alive = env::var(ALIVE).is_ok_and(|name| !name.is_empty());
    (1..=if is_alive { seeds_max } else { SEEDS_WITHOUT }).find_map(play)
}

fn chaos(seed: u64) -> Option<Notice> {
    let check = caught(|| _ = Chaos::new(seed).run())?;
    Some(Notice { check, place: format!("chaos {seed}") })
}

fn simulated(seed: u64) -> Option<Notice> {
    panic::set_hook(Box::new(|_| {}));
    let failure = simulator::play(seed, false).err()?;
    Some(Notice { check: short(&failure.what), place: format!("simulator {seed}") })
}

fn scripts(name: &str) -> Option<Notice> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let is_meant = |path: &&PathBuf| name.is_empty() || path.file_stem().is_some_and(|stem| stem == name);
    script_paths(&folder).iter().filter(is_meant).find_map(|path| script(path))
}

fn script_paths(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the folder of the scripts");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths
}

fn script(path: &Path) -> Option<Notice> {
    let written = fs::read_to_string(path).expect("the script is readable");
    let mut is_told = false;
    let panic = caught(|| is_told = scenario::play(&written).as_ref() == Ok(&written));
    let place = format!("scripts {}", path.file_stem().unwrap_or_default().to_string_lossy());
    match panic {
        Some(check) => Some(Notice { check, place }),
        None if is_told => None,
        None => Some(Notice { check: "another story".to_owned(), place }),
    }
}

/// The shortest way to a broken rule in a small world: without restarts as far as it goes, then with one,
/// then with slots that leave memory, then with slots that left the journal.
fn search() -> Option<Notice> {
    let usual = Bounds { states_max: STATES, ..Bounds::default() };
    let worlds = [
        Bounds { slots: 1, rounds: 2, restarts: 0, lost: &TEACHING, ..usual },
        Bounds { slots: 1, lost: &TEACHING, ..usual },
        Bounds { retain_bytes: 0, restarts: 0, ..usual },
        Bounds { retain_bytes: 0, candidates: 0, is_cut: true, cuts: 2, ..usual },
    ];
    panic::set_hook(Box::new(|_| {}));
    let Counterexample { what, path } = worlds.into_iter().find_map(|bounds| explore(bounds).err())?;
    Some(Notice { check: short(&what), place: format!("states, step {}", path.len() - 1) })
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
