//! The contracts of this build, and where each is asserted.
//!
//! The places come from `assertions.tsv`, one per line: id, clause, file, function. A rule of the
//! repository compares the table with the sources, so what is printed is what is compiled.

use std::fmt;

use annulus_rings::contract;
use serde::Serialize;

const ASSERTIONS: &str = include_str!("assertions.tsv");

/// Every contract.
#[derive(Serialize)]
pub struct Contracts {
    contracts: Vec<Contract>,
}

/// A rule, and where it is asserted.
#[derive(Serialize)]
struct Contract {
    id: &'static str,
    name: &'static str,
    /// Whether release builds check it.
    always: bool,
    asserted: Vec<Assertion>,
}

/// One place where a contract is asserted.
#[derive(Serialize)]
struct Assertion {
    /// `requires`, `ensures` or `invariant`.
    clause: &'static str,
    file: &'static str,
    function: &'static str,
}

impl Contracts {
    /// The contracts that this build knows.
    pub fn of_this_build() -> Contracts {
        let contracts = contract::ALL.iter().map(|contract| Contract {
            id: contract.id,
            name: contract.name,
            always: contract.always,
            asserted: assertions_of(contract.id).collect(),
        });
        Contracts { contracts: contracts.collect() }
    }
}

fn assertions_of(id: &str) -> impl Iterator<Item = Assertion> {
    ASSERTIONS.lines().filter_map(move |line| {
        let mut fields = line.split('\t');
        let is_of_id = fields.next() == Some(id);
        let assertion = Assertion { clause: fields.next()?, file: fields.next()?, function: fields.next()? };
        is_of_id.then_some(assertion)
    })
}

impl fmt::Display for Contracts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for contract in &self.contracts {
            let when = if contract.always { "always" } else { "debug, test and checked builds" };
            writeln!(f, "{:<3} {:<26} {when}", contract.id, contract.name)?;
            for Assertion { clause, file, function } in &contract.asserted {
                writeln!(f, "      {clause:<9} {file} {function}")?;
            }
        }
        let places: usize = self.contracts.iter().map(|contract| contract.asserted.len()).sum();
        writeln!(f, "{} contracts, asserted in {places} places", self.contracts.len())
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
    fn a_line_of_the_table_is_an_assertion() {
        let places = ASSERTIONS.lines().count();
        let known: usize = Contracts::of_this_build().contracts.iter().map(|one| one.asserted.len()).sum();
        assert_eq!(places, known);
    }
}
