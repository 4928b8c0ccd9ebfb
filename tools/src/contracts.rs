//! The contracts of this build: where each is asserted, how often tests reached it, and what makes it fail.
//!
//! Three tables say so, one fact per line, fields separated by tabs. `assertions.tsv` has id, clause, file
//! and function of every assertion; a rule of the repository compares it with the sources. `reach.tsv` has
//! the same and how often the scripts and fixed seeds of the tests came past, and the rare places besides.
//! `witnesses.tsv` has id, mutant and place: the script, the seed, or the test that made it fail.

use std::fmt;

use annulus_rings::contract::{self, Set};
use annulus_rings::reach;
use serde::Serialize;

const ASSERTIONS: &str = include_str!("assertions.tsv");
const REACH: &str = include_str!("reach.tsv");
const WITNESSES: &str = include_str!("witnesses.tsv");
/// What the counts of `reach.tsv` are of; the test that writes it compares.
const REACHED_BY: &str = "the golden scripts, and seeds 1 to 200 of pure rings and of the simulator, played when this version was made";

/// Every contract.
#[derive(Serialize)]
pub struct Contracts {
    /// The run in which it was counted how often each place was reached.
    reached_by: &'static str,
    #[serde(rename = "contracts")]
    rules: Vec<Contract>,
    /// Rare places that are marked.
    places: Vec<Place>,
}

/// A rule.
#[derive(Serialize)]
struct Contract {
    id: &'static str,
    name: &'static str,
    /// Whether release builds check it.
    always: bool,
    /// Whether this build checks it.
    is_on: bool,
    /// How often the run evaluated it.
    reached: u64,
    asserted: Vec<Assertion>,
    fails: Vec<Witness>,
}

/// One place where a contract is asserted.
#[derive(Serialize)]
struct Assertion {
    /// `requires`, `ensures` or `invariant`.
    clause: &'static str,
    file: &'static str,
    function: &'static str,
    reached: u64,
}

/// What made a contract fail.
#[derive(Serialize)]
struct Witness {
    /// The wrong step; none where a test breaks the state by hand.
    mutant: Option<&'static str>,
    /// `chaos` or `simulator` with a seed, `scripts` with a script, or a test.
    place: &'static str,
}

/// A rare place.
#[derive(Serialize)]
struct Place {
    name: &'static str,
    means: &'static str,
    reached: u64,
    /// Whether simulated clusters are expected to reach it.
    is_simulated: bool,
}

impl Contracts {
    /// The contracts that this build knows.
    pub fn of_this_build() -> Contracts {
        let contracts = contract::ALL.iter().map(|contract| {
            let asserted: Vec<Assertion> = assertions_of(contract.id).collect();
            Contract {
                id: contract.id,
                name: contract.name,
                always: contract.always,
                is_on: contract.is_on(),
                reached: asserted.iter().map(|assertion| assertion.reached).sum(),
                asserted,
                fails: witnesses_of(contract.id).collect(),
            }
        });
        let places = reach::ALL.iter().map(|probe| Place {
            name: probe.name,
            means: probe.means,
            reached: rows(REACH).filter(|row| row[0] == probe.name).map(|row| count(&row)).sum(),
            is_simulated: probe.is_simulated,
        });
        Contracts { reached_by: REACHED_BY, rules: contracts.collect(), places: places.collect() }
    }
}

/// The fields of every line.
fn rows(table: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
    table.lines().map(|line| line.split('\t').collect())
}

fn count(row: &[&str]) -> u64 {
    row.last().and_then(|field| field.parse().ok()).unwrap_or(0)
}

fn assertions_of(id: &str) -> impl Iterator<Item = Assertion> {
    rows(ASSERTIONS).filter(move |row| row[0] == id).map(|row| {
        let is_same = |other: &Vec<&str>| other.len() == 5 && other[..4] == row[..4];
        let reached = rows(REACH).find(is_same).map_or(0, |row| count(&row));
        Assertion { clause: row[1], file: row[2], function: row[3], reached }
    })
}

fn witnesses_of(id: &str) -> impl Iterator<Item = Witness> {
    rows(WITNESSES)
        .filter(move |row| row[0] == id)
        .map(|row| Witness { mutant: (row[1] != "-").then_some(row[1]), place: row[2] })
}

impl fmt::Display for Contracts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "counts of what was reached are of {}\n", self.reached_by)?;
        for contract in &self.rules {
            write!(f, "{contract}")?;
        }
        writeln!(f, "\nrare places, and how often the same run reached them")?;
        for Place { name, means, reached, is_simulated } in &self.places {
            let times = if *is_simulated { reached.to_string() } else { "unit tests".to_owned() };
            writeln!(f, "{times:>12}  {name:<26} {means}")?;
        }
        let places: usize = self.rules.iter().map(|contract| contract.asserted.len()).sum();
        let on = self.rules.iter().filter(|contract| contract.is_on).count();
        let set = match contract::SET {
            Set::None => "none: this build is for measurement",
            Set::Always => "the always set",
            Set::Full => "all",
        };
        let count = self.rules.len();
        writeln!(f, "\n{count} contracts, asserted in {places} places; this build checks {on} ({set})")
    }
}

impl fmt::Display for Contract {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let when = if self.always { "always" } else { "debug, test and checked builds" };
        writeln!(f, "{:<3} {:<26} {when}; reached {} times", self.id, self.name, self.reached)?;
        for Assertion { clause, file, function, reached } in &self.asserted {
            writeln!(f, "      {clause:<9} {file} {function}  {reached}")?;
        }
        for Witness { mutant, place } in &self.fails {
            match mutant {
                Some(mutant) => writeln!(f, "      fails under {mutant} in {place}")?,
                None => writeln!(f, "      fails in the test {place}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_names_every_contract_once() {
        let text = Contracts::of_this_build().to_string();
        for contract in contract::ALL {
            let lines = text.lines().filter(|line| line.starts_with(&format!("{:<3} ", contract.id)));
            assert_eq!(lines.count(), 1, "{}", contract.id);
        }
    }

    #[test]
    fn a_line_of_a_table_is_in_the_list() {
        let listed = Contracts::of_this_build();
        let places: usize = listed.rules.iter().map(|one| one.asserted.len()).sum();
        assert_eq!(ASSERTIONS.lines().count(), places);
        let witnesses: usize = listed.rules.iter().map(|one| one.fails.len()).sum();
        assert_eq!(WITNESSES.lines().count(), witnesses);
        let counted: u64 = listed.rules.iter().map(|one| one.reached).sum();
        let rare: u64 = listed.places.iter().map(|one| one.reached).sum();
        assert_eq!(rows(REACH).map(|row| count(&row)).sum::<u64>(), counted + rare);
    }

    #[test]
    fn every_contract_was_reached_and_seen_to_fail() {
        for contract in Contracts::of_this_build().rules {
            assert!(contract.reached > 0 && !contract.fails.is_empty(), "{}", contract.id);
            assert!(contract.asserted.iter().all(|place| place.reached > 0), "{}", contract.id);
        }
    }
}
