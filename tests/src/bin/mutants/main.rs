//! Brings every mutant to life, one after the other, and tells which test notices it.
//!
//! `./check mutants` runs `mutants quick` and `mutants contracts`; `mutants --help` says what else there is.
//!
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
use annulus_tests::faults::{self, ROWS};
use annulus_tests::output::{complain, say};
use clap::{Parser, Subcommand};
use suite::{Suite, notice};

/// Brings every mutant to life, one after the other, and tells which tests notice it. Exits with 1 when one survives.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    chosen: Chosen,
}

#[derive(Subcommand)]
enum Command {
    /// Tries each mutant only until the first test notices it
    Quick(Chosen),
    /// Goes through the fault matrix row by row: what stands for each mistake here
    List,
    /// Sees every contract fail where the table of `annulus contracts` says that it does
    Contracts,
    /// Looks for what makes a contract fail where the table is wrong, and writes it
    Bless,
}

#[derive(clap::Args)]
struct Chosen {
    /// These mutants only; all of them, unless some are named
    #[arg(value_name = "NAME", value_parser = mutant)]
    mutants: Vec<&'static Mutant>,
}

impl Chosen {
    fn or_all(self) -> Vec<&'static Mutant> {
        if self.mutants.is_empty() { mutant::ALL.iter().collect() } else { self.mutants }
    }
}

fn mutant(name: &str) -> Result<&'static Mutant, &'static str> {
    faults::mutant_of(name).ok_or("there is no such mutant; `mutants list` names them")
}

fn main() -> ExitCode {
    if let Ok(what) = env::var(suite::PLAY) {
        let Some(noticed) = play::play(&what) else { return ExitCode::SUCCESS };
        say(format_args!("{}", noticed.line()));
        return ExitCode::FAILURE;
    }
    let Arguments { command, chosen } = Arguments::parse();
    match command {
        Some(Command::List) => list(),
        Some(Command::Contracts) => witness::verify(),
        Some(Command::Bless) => witness::bless(),
        Some(Command::Quick(chosen)) => hunt(&chosen.or_all(), true),
        None => hunt(&chosen.or_all(), false),
    }
}

/// The fault matrix: what each row is here.
fn list() -> ExitCode {
    for row in ROWS {
        say(format_args!("{:>2} {}: {}", row.number, row.seen_in, row.wrong_step));
        for mutant in row.mutants() {
            say(format_args!("     {} (in {}, breaks {})", mutant.name, mutant.home, mutant.breaks));
        }
        if let Some(why) = row.without {
            say(format_args!("     none: {why}"));
        }
    }
    let with = ROWS.iter().filter(|row| row.mutants().next().is_some()).count();
    say(format_args!("{with} of {} rows have a mutant; {} mutants in all", ROWS.len(), mutant::ALL.len()));
    ExitCode::SUCCESS
}

/// Tries mutants, and prints the table; fails when one survives.
fn hunt(mutants: &[&Mutant], quick: bool) -> ExitCode {
    let start = Instant::now();
    let suites: Vec<(Suite, Vec<PathBuf>)> =
        Suite::ALL.into_iter().map(|suite| (suite, suite.programs())).collect();
    for (suite, programs) in &suites {
        if let Some(noticed) = notice(suite.name(), programs, None) {
            complain(format_args!("Without any mutant {} notices something too: {noticed}", suite.name()));
            return ExitCode::FAILURE;
        }
    }
    say(format_args!(
        "{:<32} {:<6} {:<30} caught by (test, script, or kind and number of seeds)",
        "mutant", "breaks", "seen in"
    ));
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
        say(format_args!(
            "{:<32} {:<6} {:<30} {}",
            mutant.name,
            mutant.breaks,
            mutant.origin,
            found.join(" | ")
        ));
    }
    let caught = mutants.len() - survivors.len();
    say(format_args!("{caught} of {} mutants caught, in {:.0?}", mutants.len(), start.elapsed()));
    for name in &survivors {
        complain(format_args!("{name} survives: write the smallest test that notices it."));
    }
    if survivors.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
