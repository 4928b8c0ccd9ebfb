//! Every assertion of a contract is reached: by the golden scripts, by seeded accidents of pure rings and by
//! simulated clusters. Rare places take more seeds than a test has time for: `simulate --require-reached`.
//!
//! `ANNULUS_CONTRACTS=bless` plays fixed seeds of all three and writes how often each place was reached to
//! the table that `annulus contracts` prints.

use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, Instant};
use std::{env, fs};

use annulus_tests::chaos::Chaos;
use annulus_tests::reach::Reached;
use annulus_tests::repository::{Assertion, Repository};
use annulus_tests::{scenario, simulator};

/// The table.
const TABLE: &str = "tools/src/reach.tsv";
/// Seeds of each kind that the table tells of.
const SEEDS_BLESSED: u64 = 200;
/// Seeds of each kind that a test plays at the most, until every assertion is reached.
const SEEDS_MAX: u64 = 300;
/// What is missing is looked up after so many.
const SEEDS_AT_ONCE: u64 = 5;
/// A slow machine ends earlier, and says what is missing.
const TIME_MAX: Duration = Duration::from_mins(1);

#[test]
fn every_assertion_is_reached() {
    let begin = Instant::now();
    let repository = Repository::open();
    let is_blessed = env::var("ANNULUS_CONTRACTS").is_ok_and(|value| value == "bless");
    let assertions = repository.assertions();
    let mut missing = Vec::new();
    play_scripts();
    for seed in 1..=(if is_blessed { SEEDS_BLESSED } else { SEEDS_MAX }) {
        Chaos::new(seed).run();
        simulator::play(seed, false).unwrap_or_else(|failure| panic!("{}\n{failure}", failure.story));
        if !is_blessed && seed.is_multiple_of(SEEDS_AT_ONCE) {
            missing = unreached(&assertions, &Reached::so_far());
            if missing.is_empty() || begin.elapsed() > TIME_MAX {
                println!("{seed} seeds of each kind in {:?}", begin.elapsed());
                break;
            }
        }
    }
    if is_blessed {
        let reached = Reached::so_far();
        missing = unreached(&assertions, &reached);
        repository.write(TABLE, &table(&places(&repository), &reached));
    }
    assert!(
        missing.is_empty(),
        "never reached:\n  {}\n\nWrite a scenario, or let the simulator have the accident that leads there.\n",
        missing.join("\n  ")
    );
}

#[test]
fn the_table_of_what_is_reached_names_every_place() {
    let repository = Repository::open();
    let written = repository.text(TABLE).unwrap_or_default();
    let key = |line: &str| line.rsplit_once('\t').map(|(key, _)| key.to_owned());
    let of_the_table: Vec<String> = written.lines().filter_map(key).collect();
    let of_the_code = table(&places(&repository), &Reached::default());
    let of_the_code: Vec<String> = of_the_code.lines().filter_map(key).collect();
    let only_in = |one: &[String], other: &[String]| -> Vec<String> {
        one.iter().filter(|line| !other.contains(line)).cloned().collect()
    };
    let (gone, new) = (only_in(&of_the_table, &of_the_code), only_in(&of_the_code, &of_the_table));
    assert!(
        of_the_table == of_the_code,
        "gone: {gone:#?}\nnew: {new:#?}\n\nRun ANNULUS_CONTRACTS=bless cargo test -p annulus-tests --test reach, \
         and look at the change."
    );
}

#[test]
fn the_list_of_contracts_says_which_run_was_counted() {
    let repository = Repository::open();
    let listing = repository.text("tools/src/contracts.rs").unwrap_or_default();
    assert!(
        listing.contains(&format!("seeds 1 to {SEEDS_BLESSED} of")),
        "tools/src/contracts.rs names other seeds"
    );
}

/// Every assertion and every mark of a rare place, the contracts first.
fn places(repository: &Repository) -> Vec<Assertion> {
    let mut places = repository.assertions();
    places.extend(repository.probes());
    places
}

fn play_scripts() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    for entry in fs::read_dir(folder).expect("the folder of the scripts") {
        let path = entry.expect("an entry").path();
        let script = fs::read_to_string(&path).expect("the script is readable");
        scenario::play(&script).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
    }
}

/// How often a place was reached.
fn count(place: &Assertion, reached: &Reached) -> u64 {
    reached.within(&place.id, place.clause, &place.path, |line| line == place.line)
}

fn unreached(assertions: &[Assertion], reached: &Reached) -> Vec<String> {
    let missing = assertions.iter().filter(|place| count(place, reached) == 0);
    missing
        .map(|place| {
            let Assertion { id, clause, path, function, line } = place;
            format!("{id} {clause} {path}:{line} {function}")
        })
        .collect()
}

/// One line per id, clause, file and function: a function may assert a contract more than once.
fn table(places: &[Assertion], reached: &Reached) -> String {
    let mut rows: Vec<(String, u64)> = Vec::new();
    for place in places {
        let Assertion { id, clause, path, function, .. } = place;
        let key = format!("{id}\t{clause}\t{path}\t{function}");
        let times = count(place, reached);
        match rows.iter_mut().find(|(other, _)| *other == key) {
            Some((_, total)) => *total += times,
            None => rows.push((key, times)),
        }
    }
    let mut table = String::new();
    for (key, times) in rows {
        writeln!(table, "{key}\t{times}").expect("a string takes everything");
    }
    table
}
