//! Brings every mutant to life, one after the other, and tells which test notices it.
//!
//! ```text
//! cargo run --profile test -p annulus-tests --features mutants --bin mutants              every test on every mutant
//! cargo run --profile test -p annulus-tests --features mutants --bin mutants -- quick     until the first test notices
//! cargo run --profile test -p annulus-tests --features mutants --bin mutants -- NAME…     these mutants only
//! cargo run --profile test -p annulus-tests --features mutants --bin mutants -- list      the fault matrix, by row
//! cargo run --profile test -p annulus-tests --features mutants --bin mutants -- contracts every contract fails as listed
//! cargo run --profile test -p annulus-tests --features mutants --bin mutants -- bless     writes that list
//! ```
//! It exits with 1 when a mutant survives. Each suite runs in a process of its own, with `ANNULUS_MUTANT` in
//! its environment: a mutant may hang or eat memory, and a suite that does not end in time has noticed it too.
#![forbid(unsafe_code)]

mod play;
mod suite;
mod witness;

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use annulus_rings::mutant::{self, Mutant};
use annulus_tests::faults::ROWS;
use suite::{Suite, notice};

fn main() -> ExitCode {
    if let Ok(what) = env::var(suite::PLAY) {
        let Some(noticed) = play::play(&what) else { return ExitCode::SUCCESS };
        println!("{}", noticed.line());
        return ExitCode::FAILURE;
    }
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("list") => return list(),
        Some("contracts") => return witness::verify(),
        Some("bless") => return witness::bless(),
        _ => {}
    }
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

/// The fault matrix: what each row is here.
fn list() -> ExitCode {
    for row in ROWS {
        println!("{:>2} {}: {}", row.number, row.seen_in, row.wrong_step);
        for mutant in row.mutants() {
            println!("     {} (in {}, breaks {})", mutant.name, mutant.home, mutant.breaks);
        }
        if let Some(why) = row.without {
            println!("     none: {why}");
        }
    }
    let with = ROWS.iter().filter(|row| row.mutants().next().is_some()).count();
    println!("{with} of {} rows have a mutant; {} mutants in all", ROWS.len(), mutant::ALL.len());
    ExitCode::SUCCESS
}

/// Tries every mutant, prints the table, and returns how many survived.
fn hunt(mutants: &[&Mutant], quick: bool) -> usize {
    let start = Instant::now();
    let suites: Vec<(Suite, Vec<PathBuf>)> =
        Suite::ALL.into_iter().map(|suite| (suite, suite.programs())).collect();
    for (suite, programs) in &suites {
        if let Some(noticed) = notice(suite.name(), programs, None) {
            eprintln!("Without any mutant {} notices something too: {noticed}", suite.name());
            return 1;
        }
    }
    println!(
        "{:<32} {:<6} {:<30} caught by (test, script, or kind and number of seeds)",
        "mutant", "breaks", "seen in"
    );
    let mut survivors = Vec::new();
    for mutant in mutants {
        let mut found = Vec::new();
        for (suite, programs) in &suites {
            if suite.concerns(mutant) && (!quick || found.is_empty()) {
                found.extend(notice(suite.name(), programs, Some(mutant)).map(|notice| notice.to_string()));
            }
        }
        if found.is_empty() {
            survivors.push(mutant.name);
            found.push("NOTHING".to_owned());
        }
        println!("{:<32} {:<6} {:<30} {}", mutant.name, mutant.breaks, mutant.origin, found.join(" | "));
    }
    let caught = mutants.len() - survivors.len();
    println!("{caught} of {} mutants caught, in {:.0?}", mutants.len(), start.elapsed());
    for name in &survivors {
        eprintln!("{name} survives: write the smallest test that notices it.");
    }
    survivors.len()
}
