//! Witnesses: for every contract a mutant, or a test, that makes its own assertion fail.
//!
//! An assertion that never fails whatever is done shows nothing. The table says for each contract where its
//! message was seen; `mutants contracts` sees it again, `mutants bless` looks for what is missing.

use std::env;
use std::fmt::Write as _;
use std::process::ExitCode;

use annulus_rings::contract::{self, Contract};
use annulus_rings::mutant::{self, Mutant};
use annulus_tests::output::{complain, say};
use annulus_tests::repository::Repository;

use crate::suite::{Notice, Suite, notice};

/// The table that `annulus contracts` prints, a [`Witness`] per line.
const TABLE: &str = "tools/src/witnesses.tsv";
/// Stands for the mutant of a test that breaks the state by hand.
const NO_MUTANT: &str = "-";

/// A line of the table.
#[derive(Clone, Debug)]
struct Witness {
    id: String,
    mutant: String,
    /// A script or a seed; a suite and its test; or the file and the name of a test without a mutant.
    place: String,
}

/// Sees every contract of the table fail again.
pub fn verify() -> ExitCode {
    let repository = Repository::open();
    let witnesses = table(&repository);
    let lost: Vec<&Witness> = witnesses.iter().filter(|witness| !witness.is_seen(&repository)).collect();
    for Witness { id, mutant, place } in &lost {
        complain(format_args!(
            "{id} does not fail under {mutant} in {place}: run the mutants with `bless`, and look at the change."
        ));
    }
    say(format_args!(
        "{} of {} contracts fail as the table says",
        witnesses.len() - lost.len(),
        witnesses.len()
    ));
    if lost.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Looks for a witness of every contract that has none any more, and writes the table.
pub fn bless() -> ExitCode {
    let repository = Repository::open();
    let known = table(&repository);
    let (mut written, mut missing) = (String::new(), Vec::new());
    for contract in contract::ALL {
        let known = known.iter().find(|witness| witness.id == contract.id && witness.is_seen(&repository));
        match known.cloned().or_else(|| search(contract, &repository)) {
            Some(Witness { id, mutant, place }) => {
                say(format_args!("{id:<3} {mutant:<32} {place}"));
                writeln!(written, "{id}\t{mutant}\t{place}").expect("a string takes everything");
            }
            None => missing.push(contract.id),
        }
    }
    repository.write(TABLE, &written);
    for id in &missing {
        complain(format_args!("No mutant and no test makes the assertion of {id} itself fail: write one."));
    }
    if missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn table(repository: &Repository) -> Vec<Witness> {
    let witness = |line: &str| {
        let fields: Vec<&str> = line.split('\t').collect();
        let [id, mutant, place] = fields[..] else { panic!("{TABLE}: three fields a line, not {line}") };
        Witness { id: id.to_owned(), mutant: mutant.to_owned(), place: place.to_owned() }
    };
    repository.text(TABLE).unwrap_or_default().lines().map(witness).collect()
}

impl Witness {
    /// Whether the contract fails there.
    fn is_seen(&self, repository: &Repository) -> bool {
        if self.mutant == NO_MUTANT {
            return tests(&self.id, repository).any(|place| place == self.place);
        }
        let Some(mutant) = mutant::ALL.iter().find(|mutant| mutant.name == self.mutant) else { return false };
        let first = self.place.split(' ').next().unwrap_or_default();
        let found = match Suite::OF_CRATES.into_iter().find(|suite| suite.name() == first) {
            Some(suite) => notice(suite.name(), &suite.programs(), Some(mutant)),
            None => play(&self.place, mutant),
        };
        found.is_some_and(|found| is_of(&self.id, &found))
    }
}

/// A mutant that the contract stops in a script or a seed; a test of the contract; a mutant that it stops in a
/// test of its crate.
fn search(contract: &Contract, repository: &Repository) -> Option<Witness> {
    let mutants = || mutant::ALL.iter().filter(|mutant| mutant.breaks == contract.id);
    let witness =
        |mutant: &str, place| Witness { id: contract.id.to_owned(), mutant: mutant.to_owned(), place };
    let played = mutants().find_map(|mutant| {
        let found = play(&format!("witness {}", contract.id), mutant)?;
        is_of(contract.id, &found).then(|| witness(mutant.name, found.place))
    });
    let test = || tests(contract.id, repository).next().map(|place| witness(NO_MUTANT, place));
    let tested = || mutants().find_map(|mutant| Some(witness(mutant.name, tested(contract, mutant)?)));
    played.or_else(test).or_else(tested)
}

/// Plays in a process of its own.
fn play(what: &str, mutant: &Mutant) -> Option<Notice> {
    notice(what, &[env::current_exe().expect("the path of this program")], Some(mutant))
}

/// The test of a crate in which the contract stops the mutant.
fn tested(contract: &Contract, mutant: &Mutant) -> Option<String> {
    let mut suites = Suite::OF_CRATES.into_iter().filter(|suite| suite.concerns(mutant));
    suites.find_map(|suite| {
        let found = notice(suite.name(), &suite.programs(), Some(mutant))?;
        is_of(contract.id, &found).then(|| format!("{} {}", suite.name(), found.place))
    })
}

fn is_of(id: &str, notice: &Notice) -> bool {
    notice.check.strip_prefix("contract ") == Some(id)
}

/// The tests that break the state and expect the contract.
fn tests(id: &str, repository: &Repository) -> impl Iterator<Item = String> {
    let expected = format!("contract {id}");
    let tests = repository.sources("").into_iter().flat_map(|source| source.tests_of_panics());
    let tests = tests.filter(move |test| test.expected == expected);
    tests.map(|test| format!("{} {}", test.path, test.function))
}
