//! What this process has reached: contracts, and the probes of rare places.
//!
//! The counts are those of [`mod@annulus_rings::reach`]; what threads have not settled is not in them.

use std::collections::BTreeMap;
use std::fmt;

use annulus_rings::contract::{self, Contract};
use annulus_rings::reach::{self, Probe};

/// How often every place was reached, by its id, its clause, its file and its line.
#[derive(Default)]
pub struct Reached {
    counts: BTreeMap<Key, u64>,
}

type Key = (&'static str, &'static str, &'static str, usize);

/// What was not reached at all.
#[derive(Default)]
pub struct Unreached {
    /// Contracts none of whose assertions was evaluated.
    pub contracts: Vec<&'static Contract>,
    /// Probes that simulated clusters reach.
    pub probes: Vec<&'static Probe>,
}

impl Reached {
    /// What the threads that have settled have counted, this one included.
    pub fn so_far() -> Reached {
        reach::settle();
        let mut counts = BTreeMap::new();
        for total in reach::totals().into_iter().filter(|total| total.count > 0) {
            let place = total.place;
            *counts.entry((place.id, place.clause, place.file, place.line as usize)).or_default() +=
                total.count;
        }
        Reached { counts }
    }

    /// How often the lines of a function, or of any other part of a file, were reached.
    pub fn within(&self, id: &str, clause: &str, file: &str, lines: impl Fn(usize) -> bool) -> u64 {
        let is_there =
            |key: &Key| key.0 == id && key.1 == clause && is_same_file(file, key.2) && lines(key.3);
        self.counts.iter().filter(|(key, _)| is_there(key)).map(|(_, count)| count).sum()
    }

    /// How often a contract was evaluated, or a probe reached.
    pub fn count(&self, id: &str) -> u64 {
        self.counts.iter().filter(|(key, _)| key.0 == id).map(|(_, count)| count).sum()
    }

    /// What is missing.
    pub fn unreached(&self) -> Unreached {
        let probes = reach::ALL.iter().filter(|probe| probe.is_simulated);
        Unreached {
            contracts: contract::ALL.iter().filter(|contract| self.count(contract.id) == 0).collect(),
            probes: probes.filter(|probe| self.count(probe.name) == 0).collect(),
        }
    }
}

/// The compiler may name a file by a longer path than the repository does.
fn is_same_file(path: &str, compiled: &str) -> bool {
    compiled == path || compiled.strip_suffix(path).is_some_and(|folder| folder.ends_with('/'))
}

impl Unreached {
    /// Whether everything was reached.
    pub fn is_empty(&self) -> bool {
        self.contracts.is_empty() && self.probes.is_empty()
    }
}

impl fmt::Display for Unreached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !reach::IS_COUNTED {
            return write!(f, "this build does not count what it reaches: use the profile `checked`");
        }
        if self.is_empty() {
            return write!(f, "every contract was evaluated, every rare place was reached");
        }
        write!(f, "never reached:")?;
        for contract in &self.contracts {
            write!(f, "\n  contract {} {}", contract.id, contract.name)?;
        }
        for probe in &self.probes {
            write!(f, "\n  {}: {}", probe.name, probe.means)?;
        }
        Ok(())
    }
}
